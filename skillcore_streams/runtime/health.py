"""What the database says about the system's health: heartbeats, dead letters, jobs, outbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from skillcore_streams import metrics
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import QUEUES

ALIVE_FOR = 15
"""Seconds after its last heartbeat that a worker counts as alive."""

BEAT = """
    insert into worker (id, process, app_id, roles, started_at, seen_at, partitions)
    values ($1, $2, $3, $4, $5, clock_timestamp(), $6)
    on conflict (id) do update
       set process = $2, app_id = $3, roles = $4, started_at = $5, seen_at = clock_timestamp(), partitions = $6"""

GONE = "delete from worker where id = $1"

FORGET = "delete from worker where seen_at < clock_timestamp() - interval '1 day'"

ALIVE = f"""
    select count(*) from worker
     where seen_at > clock_timestamp() - interval '{ALIVE_FOR} s' and roles like '%events%'"""  # noqa: S608

LETTERS = """
    select coalesce(queue, topic, 'unknown') as source, count(*) as letters, min(first_at) as oldest
      from dead_letter where status = 'open' group by 1"""

BY_STATE = "select queue, state, count(*) as jobs from job group by queue, state"

CALLS = """
    select case when hold_seq is not null and attempts = 0 and errors = '[]' then 'hold'
                when attempts = 0 and errors = '[]' then 'not_yet' else 'failed' end as reason, count(*) as calls
      from job where queue = 'handler-calls' and state = 'waiting' group by 1"""

OUTBOX = """
    select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8
      from outbox where published_at is null"""

STANDING = "select topic, partition, next_offset from progress"

NEWEST = "select max(stored_at) from event where stored_at > now() - interval '1 day'"


@dataclass(slots=True)
class Snapshot:
    """The system as of `at`, for the health views and the gauges."""

    at: datetime | None = None
    workers: int = 0
    dead_letters: int = 0
    oldest_dead_letter: datetime | None = None
    newest_event: datetime | None = None
    standing: dict[tuple[str, int], int] = field(default_factory=dict)


async def beat(
    db: Database, worker: str, process: str, app_id: str, roles: str, started: datetime, partitions: int
) -> None:
    """This worker lives."""
    await db.execute(BEAT, worker, process, app_id, roles, started, partitions)
    await db.execute(FORGET)


async def take(db: Database, now: datetime) -> Snapshot:
    """Look at the rows and set the gauges that are the same from every worker."""
    snapshot = Snapshot(at=now, workers=await db.fetchval(ALIVE))
    metrics.event_worker_count.labels(metrics.GROUP).set(snapshot.workers)

    metrics.dlq_message_count.clear()
    for row in await db.fetch(LETTERS):
        metrics.dlq_message_count.labels(row["source"]).set(row["letters"])
        snapshot.dead_letters += row["letters"]
        if snapshot.oldest_dead_letter is None or row["oldest"] < snapshot.oldest_dead_letter:
            snapshot.oldest_dead_letter = row["oldest"]

    by_state = {
        "waiting": metrics.bullmq_queue_waiting_count, "running": metrics.bullmq_queue_active_count,
        "completed": metrics.bullmq_queue_completed_count, "failed": metrics.bullmq_queue_failed_count,
    }
    for gauge in by_state.values():
        gauge.clear()
        for queue in QUEUES:
            gauge.labels(queue).set(0)
    for row in await db.fetch(BY_STATE):
        by_state[row["state"]].labels(row["queue"]).set(row["jobs"])

    metrics.handler_calls_waiting.clear()
    for row in await db.fetch(CALLS):
        metrics.handler_calls_waiting.labels(row["reason"]).set(row["calls"])

    metrics.outbox_oldest_seconds.set(await db.fetchval(OUTBOX))
    snapshot.newest_event = await db.fetchval(NEWEST)
    snapshot.standing = {(r["topic"], r["partition"]): r["next_offset"] for r in await db.fetch(STANDING)}
    return snapshot
