"""Table `job`: work that may wait. A row is inserted in the transaction that orders it; who runs it is not known here.

Failed handler calls are rows of the internal queue `handler-calls`: one retry machine for events and jobs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from skillcore_streams.runtime import dead_letters, failures
from skillcore_streams.runtime.context import Database, Order
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.runtime.registry import Handler

CALLS = "handler-calls"
"""The internal queue of failed handler calls."""

AT_ONCE = failures.Wait(timedelta(0))
"""A call that was not tried: due now, no attempt spent."""

INSERT = """
    insert into job (id, tenant_id, queue, kind, payload, priority, run_at, max_attempts, coalesce_key,
                     event_key, correlation_id, causation_id, actor_id)
    select u.id, u.tenant_id, u.queue, u.kind, u.payload, u.priority,
           clock_timestamp() + make_interval(secs => u.delay), u.max_attempts, u.coalesce_key,
           u.event_key, u.correlation_id, u.causation_id, u.actor_id
      from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::int[], $7::float8[], $8::int[],
                  $9::text[], $10::uuid[], $11::text[], $12::text[], $13::text[])
        as u (id, tenant_id, queue, kind, payload, priority, delay, max_attempts, coalesce_key,
              event_key, correlation_id, causation_id, actor_id)
    on conflict (id) do nothing"""

INSERT_CALL = """
    insert into job (id, tenant_id, queue, kind, payload, run_at, attempts, max_attempts,
                     hold_key, hold_seq, event_key, correlation_id, causation_id, actor_id, errors, state, finished_at)
    values ($1, $2, 'handler-calls', $3, $4, clock_timestamp() + make_interval(secs => $5), $6, $7,
            $8, $9, $10, $11, $12, $13, $14, $15, case when $15 = 'failed' then clock_timestamp() end)
    on conflict (id) do nothing"""

HELD = """
    select distinct hold_key from job
     where hold_key = any($1::text[]) and state in ('waiting', 'running')"""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call to be made later: `error` is None when it waits behind a failed one, or was not tried at all.

    `offset` is the record's, the order in which held calls run.
    """

    handler: Handler
    event: Event
    error: BaseException | None
    offset: int


def hold_key(handler: Handler, event: Event) -> str:
    """What later calls queue behind: (handler, tenant, partition key)."""
    return f"{handler.id}/{event.meta.tenant}/{event.partition_key()}"


async def held(db: Database, keys: Sequence[str]) -> set[str]:
    """Those of the keys that have a call waiting or running."""
    return {r["hold_key"] for r in await db.fetch(HELD, list(keys))} if keys else set()


async def insert(db: Database, orders: Sequence[Order]) -> None:
    """Insert ordered jobs. An id that is there already is the same order: dropped."""
    orders = sorted({o.id: o for o in orders}.values(), key=lambda o: o.id)
    await db.execute(
        INSERT,
        [o.id for o in orders],
        [o.meta.tenant for o in orders],
        [o.job.__queue__.name for o in orders],
        [o.job.__kind__ for o in orders],
        [o.job.model_dump_json() for o in orders],
        [o.priority for o in orders],
        [o.delay.total_seconds() for o in orders],
        [o.job.__queue__.attempts for o in orders],
        [o.coalesce for o in orders],
        [o.meta.key for o in orders],
        [o.meta.correlation_id for o in orders],
        [o.meta.id for o in orders],
        [o.meta.actor_id for o in orders],
    )


async def insert_calls(db: Database, failed: Sequence[FailedCall], worker: str, now: datetime) -> None:
    """Turn failed calls into jobs, or into dead letters when another try cannot help. The first call was attempt 1."""
    for call in failed:
        meta, error = call.event.meta, call.error
        job_id = derive_id(meta.key, "call", call.handler.id)
        outcome = AT_ONCE if error is None else failures.decide(error, 1, now=now, first_at=now)
        dead = isinstance(outcome, failures.Dead)
        await db.execute(
            INSERT_CALL,
            job_id,
            meta.tenant,
            call.handler.id,
            json.dumps({"event": str(meta.key), "type": call.event.__type__}),
            0.0 if isinstance(outcome, failures.Dead) else outcome.wait.total_seconds(),
            0 if isinstance(outcome, failures.Wait) else 1,
            failures.ATTEMPTS,
            hold_key(call.handler, call.event) if call.handler.hold else None,
            call.offset,
            meta.key,
            meta.correlation_id,
            meta.id,
            meta.actor_id,
            json.dumps([attempt_entry(error, worker, now)] if error is not None else []),
            "failed" if dead else "waiting",
        )
        if error is not None and isinstance(outcome, failures.Dead):
            await dead_letters.bury(db, job_id, failures.fingerprint(error), outcome.reason)


def attempt_entry(error: BaseException, worker: str, now: datetime) -> dict[str, str]:
    """What is kept of a failed attempt: when, where, and a sentence without data."""
    return {"at": now.isoformat(), "worker": worker, "error": failures.describe(error)}
