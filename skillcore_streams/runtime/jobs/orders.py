"""Jobs are inserted in the transaction that has a reason for them; who runs them is not known here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from skillcore_streams.runtime import dead_letters, failures
from skillcore_streams.runtime.context import Database, Deduplicate, Order
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.runtime.registry import Handler

CALLS = "handler-calls"
"""The internal queue of failed handler calls."""

AT_ONCE = failures.Wait(timedelta(0))
"""A call that was not tried: due now, no attempt spent."""

ENQUEUE = """
    select enqueue_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                        $22, $23, $24)"""

HELD = "select distinct key from hold where key = any($1::text[])"

LOCK_KEYS = "select pg_advisory_xact_lock(hashtextextended(k, 1)) from unnest($1::text[]) k order by k"
"""As let_go does: what is added behind a call that is just ending is seen by it, or is first in line."""

HOLD = "insert into hold (key, seq, job_id) select * from unnest($1::text[], $2::bigint[], $3::uuid[]) order by 1, 2, 3"

FIRST = """
    select distinct on (key) job_id from hold where key = any($1::text[]) order by key, seq, job_id"""

ATTEMPTED = """
    insert into attempt (job_id, n, worker, error, fingerprint)
    select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[]) on conflict do nothing"""

# Returns the job that has the key, ours if it was free. A key with a time is free again when that is over.
TAKE_KEY = """
    insert into dedup as d (queue, key, job_id, until)
    values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
    on conflict (queue, key) do update
       set job_id = case when d.until < clock_timestamp() then excluded.job_id else d.job_id end,
           until = case when d.until < clock_timestamp() or $5 then excluded.until else d.until end
    returning job_id"""

# A job that still waits for its time gives way to the newer one of its key.
REPLACE = """
    with gone as (delete from later where job_id = $1 returning queue, job_id)
    insert into finished (queue, at, outcome, process, ids)
    select queue, clock_timestamp(), 'coalesced', '', array[job_id] from gone returning 1"""

HAND_OVER = "update dedup set job_id = $3 where queue = $1 and key = $2"


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
    return {r["key"] for r in await db.fetch(HELD, list(keys))} if keys else set()


async def insert(
    db: Database, orders: Sequence[Order], topic: str | None = None, partition: int | None = None
) -> set[UUID]:
    """Insert ordered jobs, in order. Returns the ids that were new: a chosen id that was here before is dropped."""
    orders = list({o.id: o for o in reversed(orders)}.values())[::-1]
    if any(o.deduplicate for o in orders):
        orders = [o for o in orders if o.deduplicate is None or await _takes_key(db, o, o.deduplicate)]
    if not orders:
        return set()
    queues = [o.queue for o in orders]
    fresh = await db.fetchval(
        ENQUEUE,
        [o.id for o in orders],
        [o.chosen for o in orders],
        [o.meta.tenant for o in orders],
        queues,
        [o.kind for o in orders],
        [o.payload for o in orders],
        [o.priority for o in orders],
        [o.delay.total_seconds() for o in orders],
        [o.spent for o in orders],
        [o.attempts for o in orders],
        [o.in_line for o in orders],
        [json.dumps(o.options) if o.options else None for o in orders],
        [o.expires_at for o in orders],
        [o.coalesce for o in orders],
        [o.deduplicate.key if o.deduplicate else None for o in orders],
        [o.hold for o in orders],
        [o.seq for o in orders],
        [o.cause for o in orders],
        [o.meta.correlation_id for o in orders],
        [o.meta.id for o in orders],
        [o.meta.actor_id for o in orders],
        topic,
        partition,
        [o.offset for o in orders],
    )
    return set(fresh)


async def _takes_key(db: Database, order: Order, how: Deduplicate) -> bool:
    """BullMQ's deduplication: does this job go on, or is it a repeat of one that has the key?"""
    seconds = None if how.ttl is None else how.ttl.total_seconds()
    owner = await db.fetchval(TAKE_KEY, order.queue, how.key, order.id, seconds, how.extend)
    if owner == order.id:
        return True
    if how.replace and await db.fetchval(REPLACE, owner):
        await db.execute(HAND_OVER, order.queue, how.key, order.id)
        return True
    return False


async def insert_calls(db: Database, failed: Sequence[FailedCall], worker: str, now: datetime) -> None:
    """Turn failed calls into jobs, or into dead letters when another try cannot help. The first call was attempt 1."""
    calls, dead, noted = [], [], []
    for call in failed:
        meta, error = call.event.meta, call.error
        outcome = AT_ONCE if error is None else failures.decide(error, 1, now=now, first_at=now)
        job_id = derive_id(meta.key, "call", call.handler.id)
        if error is not None and not isinstance(outcome, failures.Wait):
            noted.append((job_id, error))
        if error is not None and isinstance(outcome, failures.Dead):
            dead.append((job_id, error, outcome.reason))
        calls.append(
            Order(
                queue=CALLS,
                kind=call.handler.id,
                payload=json.dumps({"event": str(meta.key), "type": call.event.__type__}),
                id=job_id,
                meta=meta,
                attempts=failures.ATTEMPTS,
                delay=timedelta(0) if isinstance(outcome, failures.Dead) else outcome.wait,
                spent=0 if isinstance(outcome, failures.Wait) else 1,
                in_line=not isinstance(outcome, failures.Dead),
                hold=hold_key(call.handler, call.event) if call.handler.hold else None,
                seq=call.offset,
            )
        )
    behind = await _hold(db, [c for c in calls if c.hold and c.in_line])
    await insert(db, [replace(c, in_line=False) if c.id in behind else c for c in calls])
    if noted:
        await note_attempts(db, [(job_id, 1, error) for job_id, error in noted], worker)
    for job_id, error, reason in dead:
        await dead_letters.bury(db, job_id, error, reason, worker)


async def _hold(db: Database, calls: Sequence[Order]) -> set[UUID]:
    """Note these calls in the order of their keys. Returns those that wait behind another."""
    if not calls:
        return set()
    keys = [c.hold or "" for c in calls]
    await db.execute(LOCK_KEYS, sorted(set(keys)))
    await db.execute(HOLD, keys, [c.seq or 0 for c in calls], [c.id for c in calls])
    first = {row["job_id"] for row in await db.fetch(FIRST, sorted(set(keys)))}
    return {c.id for c in calls} - first


async def note_attempts(db: Database, failed: Sequence[tuple[UUID, int, BaseException]], worker: str) -> None:
    """Keep of failed starts: which one, where, and a sentence without data."""
    await db.execute(
        ATTEMPTED,
        [job_id for job_id, _, _ in failed],
        [n for _, n, _ in failed],
        [worker] * len(failed),
        [failures.describe(error) for _, _, error in failed],
        [failures.fingerprint(error) for _, _, error in failed],
    )


def attempt_entry(error: BaseException, worker: str, now: datetime) -> dict[str, str]:
    """What is kept of a failed attempt: when, where, and a sentence without data."""
    return {"at": now.isoformat(), "worker": worker, "error": failures.describe(error)}
