"""What a worker shares between its partitions: the database, the registry, the clock, the guards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from skillcore_streams.runtime.context import Clock
from skillcore_streams.runtime.errors import Fenced, Infrastructure
from skillcore_streams.runtime.flood import FloodGuard
from skillcore_streams.runtime.registry import REGISTRY, Registry

T = TypeVar("T")

MOST = 500
"""Records in a chunk at most."""

FEWEST = 16

AIM = 0.2
"""Seconds a chunk transaction should take: short enough for rebalances, long enough to be cheap per event."""


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


class Pace:
    """How many records the next chunk of a lane should hold, so that it takes about AIM seconds."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}

    def limit(self, lane: str) -> int:
        """Records in the next chunk."""
        return self._limits.get(lane, MOST)

    def note(self, lane: str, records: int, took: float) -> None:
        """Learn from a committed chunk: halve at most, double at most."""
        limit = self.limit(lane)
        if took > AIM or records >= limit:
            wanted = int(records * AIM / max(took, 1e-3))
            self._limits[lane] = max(FEWEST, min(MOST, max(limit // 2, min(limit * 2, wanted))))


@dataclass(slots=True)
class Core:
    """Handed to every delivery. The fields are set by worker.py, or by a test."""

    transaction: Callable[[], AbstractAsyncContextManager[Any]]
    postgres_back: Callable[[], Awaitable[None]]
    worker_id: str
    clock: Clock = utc_now
    registry: Registry = field(default_factory=lambda: REGISTRY)
    legacy_tenant: str | None = None
    job_topics: frozenset[str] = frozenset()
    """Topics whose records are jobs."""
    flood: FloodGuard = field(default_factory=FloodGuard)
    pace: Pace = field(default_factory=Pace)
    paused: dict[str, str] = field(default_factory=dict)
    """Lane -> why the flood guard holds it."""
    finished: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> Kafka timestamp (ms) of the last record committed here."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    reseek: Callable[[str, int], None] = lambda topic, partition: None
    published: Callable[[str], None] = lambda lane: None
    enqueued: Callable[[Sequence[str]], None] = lambda queues: None

    async def infrastructure_again(self) -> None:
        """Wait until Postgres answers, then a little longer: those who collided must not collide again."""
        await self.postgres_back()
        await self.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - jitter, not a secret

    async def attempt(self, work: Callable[[Any], Awaitable[T]], is_current: Callable[[], bool]) -> T:
        """Do idempotent work in one transaction, as often as Postgres demands.

        Raises Fenced when the partition has left us meanwhile.
        """
        while is_current():
            try:
                async with self.transaction() as db:
                    return await work(db)
            except Infrastructure:
                await self.infrastructure_again()
        raise Fenced
