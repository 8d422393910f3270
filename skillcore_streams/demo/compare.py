"""What the proof is made of: records as Kafka holds them, and the comparison of two collections."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from skillcore_streams.demo.recount import derived_id

FILES = "/edfi/"
MADE_UP = "/import/synthetic/"
"""How the sources of imported events begin: what the district said, and what was made up."""


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison: how many were expected and found, and how the two differ."""

    section: str
    what: str
    where: str
    expected: int
    found: int
    lost: int
    duplicated: int
    wrong: int

    @property
    def ok(self) -> bool:
        """Expected and found are the same, one by one."""
        return not (self.lost or self.duplicated or self.wrong)


@dataclass(frozen=True, slots=True)
class Written:
    """One record as Kafka holds it."""

    place: tuple[str, int, int]
    """Topic, partition, offset."""
    name: str
    """The event's name: AttendanceMarked of com.skillcore.attendance.AttendanceMarked.v1."""
    key: UUID
    """What makes it the same event as another record."""
    id: str
    source: str
    value: bytes

    @classmethod
    def read(cls, record: Any) -> Written:
        """Of a consumer's record."""
        said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        given, source = said.get("ce_id", ""), said.get("ce_source", "")
        return cls(
            place=(record.topic, record.partition, record.offset),
            name=said.get("ce_type", "..").split(".")[-2],
            key=derived_id(said.get("ce_tenantid"), source, given),
            id=given,
            source=source,
            value=record.value or b"",
        )


class Payload(dict[str, Any]):
    """A payload in which a field that is not there is null, as in the events."""

    def __missing__(self, key: str) -> None:
        return None


class Log:
    """The imported events in Kafka, each once: not the garbage, and not what handlers published."""

    def __init__(self, written: Iterable[Written], garbage: Iterable[tuple[str, int, int]]) -> None:
        bad = set(garbage)
        records = [w for w in written if w.place not in bad and w.source.startswith((FILES, MADE_UP))]
        self.records = len(records)
        self.events = {w.key: w for w in records}

    def ids(self, name: str) -> list[str]:
        """ce_ids of the district's events of this name."""
        return [w.id for w in self.events.values() if w.name == name and w.source.startswith(FILES)]

    def said(self, name: str, source: str = FILES) -> list[Payload]:
        """Payloads of the events of this name whose source begins so."""
        found = (w for w in self.events.values() if w.name == name and w.source.startswith(source))
        return [Payload(json.loads(w.value)) for w in found]


@dataclass(frozen=True, slots=True)
class Case:
    """What the parts of the proof are given: the files, the topics, the tenant, and a way to ask the database."""

    folder: Path
    tenant: str
    log: Log
    db: Any

    async def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """What a query answers."""
        return [tuple(row.values()) for row in await self.db.fetch(sql, *arguments)]

    async def stored(self, name: str, *fields: str) -> list[tuple[str, ...]]:
        """Fields of the stored events of this name."""
        rows = await self.db.fetch("select data from event where type like '%.' || $1 || '.v1'", name)
        return [tuple(str(Payload(json.loads(row["data"]))[field]) for field in fields) for row in rows]


def compare(section: str, what: str, where: str, expected: Iterable[Hashable], found: Iterable[Hashable]) -> Line:
    """Count both collections, repetitions included, and take them from each other."""
    should, does = Counter(expected), Counter(found)
    surplus = does - should
    duplicated = sum(count for key, count in surplus.items() if key in should)
    return Line(
        section, what, where, should.total(), does.total(), (should - does).total(), duplicated,
        surplus.total() - duplicated,
    )
