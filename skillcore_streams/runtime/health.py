"""What the database says about the system's health: heartbeats, dead letters, jobs, outbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from skillcore_streams import metrics
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.jobs import backlog
from skillcore_streams.runtime.jobs.backlog import Backlog
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
    backlog: Backlog = field(default_factory=Backlog)


async def beat(
    db: Database, worker: str, process: str, app_id: str, roles: str, started: datetime, partitions: int
) -> None:
    """This worker lives."""
    await db.execute(BEAT, worker, process, app_id, roles, started, partitions)
    await db.execute(FORGET)


async def take(db: Database, now: datetime) -> Snapshot:
    """Look at the rows and set the gauges that are the same from every worker."""
    snapshot = Snapshot(at=now, workers=await db.fetchval(ALIVE), backlog=await backlog.shared(db))
    metrics.event_worker_count.labels(metrics.GROUP).set(snapshot.workers)
    snapshot.dead_letters = sum(letters.letters for letters in snapshot.backlog.letters)
    oldest = [datetime.fromisoformat(letters.oldest) for letters in snapshot.backlog.letters]
    snapshot.oldest_dead_letter = min(oldest, default=None)
    metrics.outbox_oldest_seconds.set(await db.fetchval(OUTBOX))
    snapshot.newest_event = await db.fetchval(NEWEST)
    snapshot.standing = {(r["topic"], r["partition"]): r["next_offset"] for r in await db.fetch(STANDING)}
    return snapshot


def show(figures: Backlog, lag: Callable[[str], int]) -> None:
    """Set the gauges of queues and dead letters. `lag`: records of a topic that have not been taken in yet."""
    for gauge in (*metrics.OF_BACKLOG, metrics.dlq_message_count, metrics.handler_calls_waiting):
        gauge.clear()
    for reason, calls in figures.calls.items():
        metrics.handler_calls_waiting.labels(reason).set(calls)
    for letters in figures.letters:
        metrics.dlq_message_count.labels(letters.source).set(letters.letters)
    for name in sorted({*QUEUES, *(s.queue for s in figures.queues)}):
        s = figures.of(name)
        queue = QUEUES.get(name)
        coming = 0 if queue is None or queue.internal else lag(queue.topic)
        metrics.bullmq_queue_waiting_count.labels(name).set(s.waiting + coming)
        metrics.bullmq_queue_active_count.labels(name).set(s.running)
        metrics.bullmq_queue_completed_count.labels(name).set(s.completed)
        metrics.bullmq_queue_failed_count.labels(name).set(s.failed)
        metrics.job_oldest_waiting_seconds.labels(name).set(s.oldest)
        metrics.queue_paused.labels(name).set(s.paused_at is not None)
        by_state = {
            "waiting": s.waiting + coming - s.prioritized, "prioritized": s.prioritized, "delayed": s.delayed,
            "active": s.running, "completed": s.completed, "failed": s.failed, "waiting-children": 0,
        }  # fmt: skip
        for state, jobs in by_state.items():
            metrics.bullmq_job_count.labels(name, state).set(jobs)
        if queue is None or not queue.internal:  # the seed's name of a queue's dead letters: they wait for somebody
            metrics.bullmq_queue_waiting_count.labels(f"{name}-dlq").set(s.failed)
