"""What there is to tell of one demonstration, and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from skillcore_streams.demo.facts import Facts
from skillcore_streams.demo.play import Played
from skillcore_streams.demo.proof import Line, Proof
from skillcore_streams.demo.watch import Scene


@dataclass(frozen=True, slots=True)
class Told:
    """Everything there is to tell of one demonstration."""

    scene: Scene
    played: Played
    proof: Proof
    facts: Facts
    seconds: dict[str, float]
    folder: Path
    kafka: str
    workers: list[tuple[str, str]]
    """Those alive at the end: name and host:port."""
    calendar: tuple[date, ...]
    quick: bool

    @property
    def ok(self) -> bool:
        """Every comparison is right, and no worker ended that nobody killed."""
        return self.proof.ok and not self.played.fallen

    @property
    def verdict(self) -> str:
        """The line that a script looks for."""
        wrong = f", wrong {self.proof.wrong}" if self.proof.wrong else ""
        return f"lost {self.proof.lost}, duplicated {self.proof.duplicated}{wrong}"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def as_json(self) -> dict[str, Any]:
        """The whole result."""
        played = self.played
        return {
            "ok": self.ok,
            **proof_json(self.proof),
            "sent": played.sent,
            "sent_twice": played.again,
            "garbage": len(played.injected),
            "stored": played.stored,
            "events_per_second": round(played.events_per_second),
            "cpu_us_per_event": round(played.cpu_per_event, 1),
            "text_messages": played.texts,
            "text_messages_that_became_mails": played.fell_back,
            "crash_to_caught_up_seconds": round(played.crash_to_caught_up, 2),
            "killed": played.killed,
            "ended_by_themselves": played.fallen,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "three_in_seven_days": self.facts.three_in_seven,
            "thresholds": dict(Counter(tier for tier, _ in self.facts.reached)),
            "parked": [
                {"kind": kind, "reason": reason, "count": number} for (kind, reason), number in parked(self)
            ],
            "kafka": self.kafka,
            "workers": dict(self.workers),
            "report": str(self.report),
        }


def proof_json(proof: Proof) -> dict[str, Any]:
    """The proof alone."""
    return {
        "lost": proof.lost,
        "duplicated": proof.duplicated,
        "wrong": proof.wrong,
        "compared": proof.compared,
        "lines": [asdict(line) | {"ok": line.ok} for line in proof.lines],
    }


def parked(told: Told) -> list[tuple[tuple[str, str], int]]:
    """(what was thrown in, the reason in its dead letter) -> how many. A letter nobody caused is called unexpected."""
    kinds = {(i.topic, i.partition, i.offset): i.kind for i in told.played.injected}
    return sorted(Counter(
        (kinds.get((p["topic"], p["partition"], p["record_offset"]), "unexpected"), p["reason"])
        for p in told.facts.parked
    ).items())


def commands(told: Told) -> list[tuple[str, str]]:
    """What to try next, and what it is for."""
    event = told.facts.event_id
    return [
        (f"eval $(.venv/bin/skillcore stack env --dir {_shown(told.folder)})", "point this shell at the demo's stack"),
        (f".venv/bin/skillcore events trace {event}", "follow the absence of the report"),
        (".venv/bin/skillcore events show --type AttendanceThresholdReached --limit 5", "the latest thresholds"),
        (".venv/bin/skillcore dead-letters list", "what was parked, by cause"),
        (".venv/bin/skillcore offsets show", "where each partition stands"),
        (f".venv/bin/skillcore demo --prove{_dir(told)}", "compare once more; change a row first and see it fail"),
        (f".venv/bin/skillcore demo --stop{_dir(told)}", "stop the workers and the stack"),
    ]


def _dir(told: Told) -> str:
    return "" if told.folder.name == "demo" and told.folder.parent.name == ".stack" else f" --dir {_shown(told.folder)}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def difference(line: Line) -> str:
    """In words; empty when there is none."""
    parts = [("lost", line.lost), ("duplicated", line.duplicated), ("wrong", line.wrong)]
    return ", ".join(f"{word} {count:,}" for word, count in parts if count)
