"""Where a number came from: every item it was made of, why each counts, and which events said so.

An explanation reads rows only. It adds its items up by itself, in the plainest way, and names each stored number that
it does not arrive at. Names and free text are masked by the tags of their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from skillcore_streams.events.fields import MASK, is_personal
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import Event

EVENT_IDS = "select event_key, id from event where event_key = any($1::uuid[])"


async def event_ids(db: Database, keys: Iterable[UUID | None]) -> dict[UUID, str]:
    """The ids that producers gave to events, by inbox key: what `skillcore events show` finds them by."""
    wanted = sorted({key for key in keys if key is not None})
    return {row["event_key"]: row["id"] for row in await db.fetch(EVENT_IDS, wanted)}


def masked(event: type[Event], field: str, value: Any) -> Any:
    """The value, or what stands for it when the event's field tells about a person."""
    return MASK if is_personal(event.model_fields[field]) else value


def differences(pairs: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Sentences about stored values that the explanation does not arrive at: (name, stored, explained)."""
    return [
        f"{name}: stored is {_said(stored)}, the items add up to {_said(explained)}"
        for name, stored, explained in pairs if stored != explained
    ]


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)
