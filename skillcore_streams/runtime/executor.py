"""The small executor: claims due jobs and runs those that have a function. The job engine will take its place.

A start is recorded before the work begins, so work that kills its worker runs out of attempts. A job's effects and its
completion are one transaction, guarded by the lease: a worker that lost its lease commits nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from skillcore_streams import metrics
from skillcore_streams.runtime import dead_letters, failures
from skillcore_streams.runtime.context import Clock, Database
from skillcore_streams.runtime.errors import Infrastructure, PermanentError
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.jobs import CALLS, attempt_entry
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES, Job, Message, Meta
from skillcore_streams.runtime.registry import Handler, Registry
from skillcore_streams.runtime.transaction import Tx

log = logging.getLogger(__name__)

LEASE = 60
"""Seconds a started job belongs to its worker. Longer than any job may run here."""

SILENT = 10
"""Seconds without a heartbeat after which a worker's jobs go to others. If it lives after all, its leases are void."""

JOB_LIMIT = 30.0
"""Seconds one job may run."""

BATCH = 10
"""Jobs claimed at once. Claimed ones have spent an attempt, so few of them should be waiting if we die."""

KEEP_COMPLETED, KEEP_FAILED = "24 hours", "7 days"
"""As the seed's queues: removeOnComplete and removeOnFail by age."""

CLAIM = f"""
    update job j
       set state = 'running', attempts = attempts + 1, lease = $1, worker = $2,
           leased_until = clock_timestamp() + interval '{LEASE} s'
      from (select id from job c
             where state = 'waiting' and run_at <= clock_timestamp() and queue = any($3::text[])
               and (queue, kind) in (select * from unnest($4::text[], $5::text[]))
               and (hold_key is null or not exists (
                    select 1 from job b where b.hold_key = c.hold_key and b.hold_seq < c.hold_seq
                       and b.state in ('waiting', 'running')))
             order by priority, run_at
             limit $6
               for update skip locked) due
     where j.id = due.id
    returning j.*"""  # noqa: S608 - our own constant

STILL_OURS = "select 1 from job where id = $1 and lease = $2 and state = 'running' for update"

SHARE_RUN = "select pg_advisory_xact_lock(hashtextextended($1, 0))"

ABSORB = """
    update job set state = 'completed', lease = null, leased_until = null, finished_at = clock_timestamp()
     where coalesce_key = $1 and id <> $2 and (state = 'waiting' or state = 'running' and lease = $3)"""

COMPLETE = """
    update job set state = 'completed', lease = null, leased_until = null, finished_at = clock_timestamp()
     where id = $1"""

AGAIN = """
    update job
       set state = 'waiting', lease = null, leased_until = null, attempts = attempts - $3,
           run_at = clock_timestamp() + make_interval(secs => $2), errors = errors || $4::jsonb
     where id = $1"""

FAIL = """
    update job
       set state = 'failed', lease = null, leased_until = null, finished_at = clock_timestamp(),
           errors = errors || $2::jsonb
     where id = $1"""

LOST = f"""
    select id, attempts, max_attempts from job j
     where state = 'running'
       and (leased_until < clock_timestamp() or not exists (
            select from worker w
             where w.process = j.worker and w.seen_at > clock_timestamp() - interval '{SILENT} s'))
       for update skip locked"""  # noqa: S608 - our own constant

PRUNE = f"""
    delete from job where id in (
        select id from job
         where state = 'completed' and finished_at < clock_timestamp() - interval '{KEEP_COMPLETED}'
            or state = 'failed' and finished_at < clock_timestamp() - interval '{KEEP_FAILED}'
         limit 5000)"""  # noqa: S608 - our own constants

THE_EVENT = "select * from event where event_key = $1 order by seq limit 1"


class WorkerLost(Exception):
    """A job's lease ran out: its worker died or was cut off while it ran."""


class Executor:
    """Claims due jobs in small batches and runs them, a few at a time. `wake()` when something was just inserted."""

    def __init__(
        self,
        transaction: Callable[..., Any],
        registry: Registry,
        clock: Clock,
        worker: str,
        published: Callable[[str], None],
        concurrency: int = 2,
    ) -> None:
        self._transaction = transaction
        self._registry = registry
        self._clock = clock
        self._worker = worker
        self._published = published
        self._slots = asyncio.Semaphore(concurrency)
        self._wake = asyncio.Event()
        runnable = [(CALLS, h.id) for h in registry.events()]
        for handler in registry.jobs():
            cls = handler.message
            assert issubclass(cls, Job)
            runnable.append((cls.__queue__.name, cls.__kind__))
        self._queues = sorted({q for q, _ in runnable})
        self._runnable = [q for q, _ in runnable], [k for _, k in runnable]

    def wake(self) -> None:
        """Look for work now rather than at the next poll."""
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Until woken, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def run_due(self) -> int:
        """Claim and run what is due. Returns how many jobs were started."""
        lease = uuid4()
        async with self._transaction() as db:
            rows = await db.fetch(CLAIM, lease, self._worker, self._queues, *self._runnable, BATCH)
        if rows:
            await failpoint("job.claimed")
            rows.sort(key=lambda row: (row["priority"], row["run_at"]))  # RETURNING has no order
            await asyncio.gather(*(self._guarded(dict(row)) for row in rows))
        return len(rows)

    async def reap(self) -> int:
        """Give back jobs whose worker was lost while it ran them; what has no attempts left is dead-lettered."""
        async with self._transaction() as db:
            lost = await db.fetch(LOST)
            for row in lost:
                error = WorkerLost("its worker was lost while it ran")
                await self._settle(db, dict(row), failures.decide(
                    error, row["attempts"], now=self._clock(), first_at=self._clock(), attempts=row["max_attempts"]
                ), error)
            await db.execute(PRUNE)
        return len(lost)

    async def _guarded(self, row: dict[str, Any]) -> None:
        async with self._slots:
            began = time.monotonic()
            status = "interrupted"
            try:
                status = await self._run(row)
            except Infrastructure as error:
                log.warning("job %s of %s interrupted, handed back: %s", row["id"], row["queue"], error)
                await self._hand_back(row)
            took = time.monotonic() - began
            metrics.bullmq_processing_duration_seconds.labels(row["queue"], status).observe(took)

    async def _hand_back(self, row: dict[str, Any]) -> None:
        """Nobody's fault: another try, without spending an attempt. If this fails too, the lease runs out."""
        try:
            async with self._transaction() as db:
                if await db.fetchval(STILL_OURS, row["id"], row["lease"]) is not None:
                    await db.execute(AGAIN, row["id"], 1.0, 1, "[]")
        except Infrastructure:
            log.warning("job %s stays leased until its lease runs out", row["id"])

    async def _run(self, row: dict[str, Any]) -> str:
        """One start of one job, to its commit. Returns what became of it, for the metrics."""
        lane = f"jobs-{row['event_key']}"
        try:
            async with self._transaction() as db:
                if row["coalesce_key"]:
                    await db.execute(SHARE_RUN, row["coalesce_key"])  # one run of a key at a time
                if await db.fetchval(STILL_OURS, row["id"], row["lease"]) is None:
                    return "done elsewhere"
                if row["coalesce_key"]:  # take in all that waits: what follows sees their committed rows
                    await db.execute(ABSORB, row["coalesce_key"], row["id"], row["lease"])
                tx = Tx(db, self._clock, lane)
                async with tx.savepoint():
                    handler, message = await self._load(db, row)
                    await tx.call(handler, [message], limit=JOB_LIMIT)
                await tx.flush(self._worker)
                await db.execute(COMPLETE, row["id"])
                await failpoint("job.ran")
        except Infrastructure:
            raise
        except Exception as error:
            await self._failed(row, error)
            return "failed"
        await failpoint("job.committed")
        if tx.effects.publications:
            self._published(lane)
        return "completed"

    async def _failed(self, row: dict[str, Any], error: Exception) -> None:
        now = self._clock()
        outcome = failures.decide(
            error, row["attempts"], now=now, first_at=row["created_at"], attempts=row["max_attempts"]
        )
        log.info(
            "%s %s, attempt %d: %s -> %s", row["queue"], row["kind"], row["attempts"], failures.describe(error),
            type(outcome).__name__,
        )
        async with self._transaction() as db:
            if await db.fetchval(STILL_OURS, row["id"], row["lease"]) is not None:
                await self._settle(db, row, outcome, error)

    async def _settle(
        self,
        db: Database,
        row: dict[str, Any],
        outcome: failures.Retry | failures.Wait | failures.Dead,
        error: BaseException,
    ) -> None:
        note = json.dumps([attempt_entry(error, self._worker, self._clock())])
        if isinstance(outcome, failures.Dead):
            await db.execute(FAIL, row["id"], note)
            await dead_letters.bury(db, row["id"], failures.fingerprint(error), outcome.reason)
        elif isinstance(outcome, failures.Wait):
            await db.execute(AGAIN, row["id"], outcome.wait.total_seconds(), 1, "[]")
        else:
            await db.execute(AGAIN, row["id"], outcome.wait.total_seconds(), 0, note)

    async def _load(self, db: Database, row: dict[str, Any]) -> tuple[Handler, Message]:
        """The function and the typed message of a row."""
        message: Message
        if row["queue"] == CALLS:
            handler = self._registry.get(row["kind"])
            stored = await db.fetchrow(THE_EVENT, row["event_key"])
            if handler is None or stored is None:
                raise PermanentError("the handler or the event of this call is gone")
            message = EVENT_TYPES[stored["type"]].model_validate_json(stored["data"], extra="ignore")
            message.with_meta(Meta(
                tenant=stored["tenant_id"], id=stored["id"], source=stored["source"], time=stored["time"],
                key=stored["event_key"], correlation_id=stored["correlation_id"], causation_id=stored["causation_id"],
                actor_id=stored["actor_id"],
            ))
            return handler, message
        cls = JOB_TYPES[row["queue"], row["kind"]]
        try:
            message = cls.model_validate_json(row["payload"])
        except ValidationError:
            raise PermanentError("the payload does not fit this job's class") from None
        message.with_meta(Meta(
            tenant=row["tenant_id"], id=str(row["id"]), source=f"/skillcore/jobs/{row['queue']}",
            time=row["created_at"], key=row["id"], correlation_id=row["correlation_id"],
            causation_id=row["causation_id"], actor_id=row["actor_id"],
        ))
        return self._registry.of(cls)[0], message
