"""How far an import has come, kept in a small file, so that one that was killed goes on instead of beginning again.

The events of an import always come in the same order, so a count says it all. It is written after Kafka has
acknowledged a page, never before: what is sent twice has the same id and changes nothing. A journal is believed when it
is about the same files, tenants, settings and topics (a topic that was made anew has another id), when the last event
it names is the one found at that place now, and when it is not older than a day; otherwise the import begins again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

BELIEVED = timedelta(days=1)
"""Topics keep events for seven days; a day is time enough to start an import again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What Kafka has acknowledged: how many events, the inbox key of the last one, and how many of each type."""

    count: int
    last: UUID
    published: Counter[str]


class Journal:
    """The journal of one import.

    Args:
        path: its file; the folder is made.
        about: what the import is about, see `about`.
    """

    def __init__(self, path: Path, about: str) -> None:
        self.path = path
        self._about = about

    def standing(self, now: datetime) -> Standing | None:
        """Where to go on, or None: begin at the beginning."""
        try:
            said = json.loads(self.path.read_text())
            at = datetime.fromisoformat(said["at"])
            found = Standing(said["count"], UUID(said["last"]), Counter(said["published"]))
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or it was cut off: either way, begin again
            return None
        return found if said["about"] == self._about and now - at <= BELIEVED else None

    def note(self, standing: Standing, now: datetime) -> None:
        """Kafka has acknowledged so much. The file is replaced as a whole: a kill leaves the old one or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({
            "about": self._about, "at": now.isoformat(), "count": standing.count, "last": str(standing.last),
            "published": standing.published,
        }))  # fmt: skip
        draft.replace(self.path)

    def finish(self) -> None:
        """The import is complete: the next one sends everything again, as importing again always may."""
        self.path.unlink(missing_ok=True)


def about(folder: Path, settings: Mapping[str, object], topics: Mapping[str, UUID]) -> str:
    """A digest of what decides which events come in which order, and where they go."""
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file())
    where = {name: str(known) for name, known in sorted(topics.items())}
    told = json.dumps([files, dict(settings), where], default=str)
    return sha256(told.encode()).hexdigest()


def usual_place(folder: Path, tenants: list[str]) -> Path:
    """Where the journal of such an import lies: by folder and tenants, in the user's state directory (XDG)."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = sha256(json.dumps([str(folder.resolve()), tenants]).encode()).hexdigest()[:16]
    return state / "skillcore" / "imports" / f"{name}.json"
