"""The delivery core on a real Postgres, without Kafka: chunks are made by hand, a fake clock stands still."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.runtime import Context, Event, progress
from skillcore_streams.runtime.chunk import Chunk
from skillcore_streams.runtime.core import Core
from skillcore_streams.runtime.registry import Handler, Registry

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
TOPIC = "skillcore.attendance.events.v1"


class Probe(Event, topic=TOPIC, key="student_id"):
    """An event of the tests."""

    student_id: UUID
    n: int = 0


class Echo(Event, topic=TOPIC, key="student_id"):
    """What handlers of the tests publish."""

    student_id: UUID
    n: int = 0


@dataclass
class Record:
    """A Kafka record made by hand."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    offset: int = 0
    timestamp: int = int(NOW.timestamp() * 1000)


def record(
    offset: int, student: UUID | None = None, *, id: str | None = None, tenant: str = "grand-bend", **over: Any
) -> Record:
    """A valid record of a Probe, or with `headers`, `key`, `value` replaced."""
    student = student or uuid4()
    headers = {
        "ce_specversion": "1.0", "ce_id": id or str(uuid4()), "ce_type": over.pop("type", Probe.__type__),
        "ce_source": "/tests", "ce_time": "2026-03-02T14:00:00Z", "ce_tenantid": tenant,
    } | over.pop("headers", {})
    n = over.pop("n", offset)
    made = Record(str(student).encode(), json.dumps({"student_id": str(student), "n": n}).encode(),
                  [(k, v.encode()) for k, v in headers.items() if v is not None], offset)
    for name, value in over.items():
        setattr(made, name, value)
    return made


def chunk(records: Sequence[Record], *, start: int | None = None, end: int | None = None, **over: Any) -> Chunk:
    """A chunk of these records of partition 0."""
    first = records[0].offset if start is None else start
    last = records[-1].offset + 1 if end is None else end
    return Chunk(over.pop("topic", TOPIC), over.pop("partition", 0), first, last, records, **over)


class Lab:
    """A core with a registry of its own, and short ways to look at the rows."""

    def __init__(self, core: Core, postgres: Postgres, registry: Registry) -> None:
        self.core, self.postgres, self.registry = core, postgres, registry
        self.now = NOW
        self.slept: list[float] = []
        self.reseeks: list[tuple[str, int]] = []

    def handler(self, function: Callable[..., Any], message: type[Event] = Probe, *, batch: bool = False,
                hold: bool = False, name: str | None = None) -> Handler:
        made = Handler(f"tests.{name or function.__name__}", message, function, batch, hold)
        self.registry.add(made)
        return made

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        async with self.postgres.transaction() as db:
            return [dict(r) for r in await db.fetch(query, *args)]

    async def value(self, query: str, *args: Any) -> Any:
        async with self.postgres.transaction() as db:
            return await db.fetchval(query, *args)

    async def begin(self, at: int = 0, topic: str = TOPIC, partition: int = 0) -> None:
        async with self.postgres.transaction() as db:
            await progress.begin(db, [(topic, partition, at, None)])

    async def next_offset(self) -> int:
        return await self.value("select next_offset from progress where topic = $1 and partition = 0", TOPIC)


async def note(event: Event, ctx: Context) -> None:
    """A handler that leaves one row an event."""
    await ctx.db.execute("insert into effect (handler, event_key, n) values ('note', $1, $2)", event.meta.key, event.n)
