"""How much work stands where. Counting is bounded: one worker counts for all, and not more often than it may cost.

A million waiting rows take about 0.2 s to count. So figures are good for fifty times as long as counting them took, at
least two seconds: at most 2 % of one connection's time goes into it, however many workers show the figures.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import QUEUES

AT_LEAST = 2.0
"""Seconds for which figures are good."""

TIMES = 50
"""For so many times as long as counting took they are good, if that is longer."""

COUNT = """
    select queue, 'waiting' as state, count(*) as jobs, count(*) filter (where priority > 0) as prioritized,
           extract(epoch from clock_timestamp() - min(since))::float8 as oldest from ready group by queue
    union all select queue, 'waiting', count(*), count(*) filter (where priority > 0), null from suspect group by queue
    union all select queue, 'delayed', count(*), 0, null from later group by queue
    union all select queue, 'running', count(*), 0, null from lease group by queue
    union all select queue, case outcome when 'cancelled' then 'cancelled' else 'completed' end,
                     sum(cardinality(ids)), 0, null from finished group by 1, 2
    union all select coalesce(d.queue, 'handler-calls'), 'failed', count(*), 0, null from dead_letter d
               where d.kind in ('job', 'call') and d.status = 'open' group by 1
    union all select 'handler-calls', 'held', count(*), 0, null from hold h where exists (
                     select from hold x where x.key = h.key and (x.seq, x.job_id) < (h.seq, h.job_id))
              having count(*) > 0"""

LETTERS = """
    select coalesce(queue, topic, 'unknown') as source, count(*) as letters, min(first_at) as oldest
      from dead_letter where status = 'open' group by 1"""

CALLS = """
    select case when attempts = 0 then 'not_yet' else 'failed' end as reason, count(*) as calls
      from (select attempts from later where queue = 'handler-calls'
            union all select attempts from ready where queue = 'handler-calls') waiting group by 1"""

QUEUE_ROWS = "select name, paused_at, paused_by from queue"

SHARED = f"""
    select counted_at, figures,
           counted_at < clock_timestamp() - make_interval(secs => greatest({AT_LEAST}, took * {TIMES})) as stale
      from backlog"""  # noqa: S608 - our own constants

MINE_TO_COUNT = "select pg_try_advisory_xact_lock(hashtext('skillcore backlog'))"

KEEP = "update backlog set counted_at = clock_timestamp(), took = $1, figures = $2"


@dataclass(slots=True)
class Standing:
    """One queue."""

    queue: str
    waiting: int = 0
    """In line, and held behind an earlier call of their key."""
    prioritized: int = 0
    """Those of the waiting that have a priority above 0."""
    delayed: int = 0
    running: int = 0
    completed: int = 0
    """Finished and still kept, those that expired or were done by another run included."""
    cancelled: int = 0
    failed: int = 0
    """Open dead letters."""
    held: int = 0
    oldest: float = 0.0
    """Seconds that the first of the waiting has been in line."""
    paused_at: str | None = None
    paused_by: str | None = None


@dataclass(slots=True)
class Letters:
    """Open dead letters of a topic or a queue."""

    source: str
    letters: int
    oldest: str


@dataclass(slots=True)
class Backlog:
    """All of it, as of `at`."""

    at: datetime | None = None
    queues: list[Standing] = field(default_factory=list)
    letters: list[Letters] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    def of(self, queue: str) -> Standing:
        """One queue's figures; zeros when it has none."""
        return next((s for s in self.queues if s.queue == queue), Standing(queue))


async def count(db: Database) -> Backlog:
    """Count now. What a person asked for may cost what it costs."""
    queues = {name: Standing(name) for name in QUEUES}
    for row in await db.fetch(QUEUE_ROWS):
        standing = queues.setdefault(row["name"], Standing(row["name"]))
        if row["paused_at"] is not None:
            standing.paused_at, standing.paused_by = row["paused_at"].isoformat(), row["paused_by"]
    for row in await db.fetch(COUNT):
        standing = queues.setdefault(row["queue"], Standing(row["queue"]))
        setattr(standing, row["state"], getattr(standing, row["state"]) + int(row["jobs"]))
        standing.prioritized += row["prioritized"]
        standing.oldest = max(standing.oldest, row["oldest"] or 0.0)
    for standing in queues.values():
        standing.waiting += standing.held
    letters = [Letters(r["source"], r["letters"], r["oldest"].isoformat()) for r in await db.fetch(LETTERS)]
    calls = {row["reason"]: int(row["calls"]) for row in await db.fetch(CALLS)}
    at = await db.fetchval("select clock_timestamp()")
    calls["hold"] = queues["handler-calls"].held if "handler-calls" in queues else 0
    return Backlog(at, sorted(queues.values(), key=lambda s: s.queue), letters, calls)


async def shared(db: Database) -> Backlog:
    """The figures that all workers show alike; counted here when they are stale and nobody else is counting."""
    row = await db.fetchrow(SHARED)
    if row["stale"] and await db.fetchval(MINE_TO_COUNT):
        began = time.monotonic()
        counted = await count(db)
        took = time.monotonic() - began
        await db.execute(KEEP, took, json.dumps(asdict(counted), default=str))
        return counted
    return _read(row)


def _read(row: Any) -> Backlog:
    said = json.loads(row["figures"])
    return Backlog(
        row["counted_at"], [Standing(**s) for s in said.get("queues", [])],
        [Letters(**d) for d in said.get("letters", [])], said.get("calls", {}),
    )  # fmt: skip
