"""What a lost process had goes back in line; what is old is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

from skillcore_streams.runtime import failures
from skillcore_streams.runtime.context import Clock, Order
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.jobs import lines
from skillcore_streams.runtime.jobs.orders import insert, note_attempts
from skillcore_streams.runtime.jobs.work import settle
from skillcore_streams.runtime.messages import JOB_TYPES, QUEUES, Meta

log = logging.getLogger(__name__)

SILENT = 10
"""Seconds without a heartbeat after which a process' jobs go to others. If it lives after all, its leases are void."""

KEEP_SEEN_DAYS = 45
"""As long as the inbox keeps events: what Kafka or a dead letter may still bring again."""

FORGOTTEN = 30
"""Seconds after the end of a lease: its process lives, but would have ended or charged that job by itself. It does not
know of it (a crash of Postgres may undo what was handed back), so nobody runs it."""

# Before Postgres had started nobody could say that he lives: after an outage all have SILENT seconds to do so.
LOST = f"""
    select e.job_id as id, e.token, e.queue, e.attempts, e.priority, e.flow, e.coalesce_key, e.alone, e.cancelled,
           w.process is not null as forgotten, j.tenant_id, j.kind, j.payload, j.max_attempts, j.options,
           false as expired, j.hold_key is not null as held, j.dedup_key is not null as dedup, j.event_key,
           j.correlation_id, j.causation_id, j.actor_id, j.created_at
      from lease e join job j on j.id = e.job_id
      left join worker w on w.process = e.process
       and greatest(w.seen_at, pg_postmaster_start_time()) > clock_timestamp() - interval '{SILENT} s'
     where e.until < clock_timestamp() - interval '{FORGOTTEN} s' or w.process is null
     limit 200
       for update of e skip locked"""  # noqa: S608 - our own constant

SUSPECT = """
    with gone as (
        delete from lease e using unnest($1::uuid[], $2::uuid[]) u (id, token)
         where e.job_id = u.id and e.token = u.token returning e.*)
    insert into suspect (job_id, queue, priority, flow, attempts, coalesce_key)
    select job_id, queue, priority, flow, u.spent, coalesce_key
      from gone join unnest($1::uuid[], $3::int[]) u (id, spent) on u.id = gone.job_id"""

# Newest first: what lies beyond so many jobs, or is older than that, goes, whole batches at a time.
OLD = """
    delete from finished f
     where f.ctid = any (array(
           select ctid from (
               select ctid, at, sum(cardinality(ids)) over (order by at desc) - cardinality(ids) as newer
                 from finished where queue = $1) x
            where at < clock_timestamp() - make_interval(secs => $2) or newer >= $3
            limit 200))
    returning ids"""

FORGET = """
    with gone as (delete from job where id = any($1::uuid[]) returning id),
         a as (delete from attempt where job_id = any($1::uuid[])),
         l as (delete from job_log where job_id = any($1::uuid[])),
         p as (delete from job_progress where job_id = any($1::uuid[]))
    delete from job_result where job_id = any($1::uuid[])"""

OLD_FAILED = """
    select j.id from dead_letter d join job j on j.id = d.job_id
     where d.status = 'discarded' and d.last_at < clock_timestamp() - make_interval(secs => $2) and j.queue = $1
     limit 1000"""

NOTICE = ("dead-letters", "dead_lettered")
"""Queue and kind of the job that tells of new dead letters; queues/dead_letters.py has it."""

TELL_AFTER = "5 s"
TELL_EVERY = "15 min"
"""A cause is told some seconds after its first letter, and again for what has come since, after this long."""

# A walk along the index from cause to cause: its cost is that of the causes, not of the letters.
UNTOLD = f"""
    with recursive cause (fingerprint) as (
        (select fingerprint from dead_letter where notice is null order by fingerprint limit 1)
        union all
        select (select d.fingerprint from dead_letter d where d.notice is null and d.fingerprint > c.fingerprint
                 order by d.fingerprint limit 1)
          from cause c where c.fingerprint is not null)
    select c.fingerprint from cause c
     where c.fingerprint is not null
       and (select min(last_at) from dead_letter d where d.notice is null and d.fingerprint = c.fingerprint)
           < clock_timestamp() - interval '{TELL_AFTER}'
       and not exists (select from dead_letter_notice n where n.fingerprint = c.fingerprint
                          and n.told_at > clock_timestamp() - interval '{TELL_EVERY}')
     order by c.fingerprint"""  # noqa: S608 - our own constants

MINE_TO_TELL = f"""
    insert into dead_letter_notice as n (fingerprint, told_at) values ($1, clock_timestamp())
    on conflict (fingerprint) do update set told_at = excluded.told_at
     where n.told_at <= clock_timestamp() - interval '{TELL_EVERY}'
    returning 1"""  # noqa: S608

MARK_TOLD = """
    with told as (
        update dead_letter set notice = $2 where id = any (array(
            select id from dead_letter where notice is null and fingerprint = $1
             order by last_at limit 10000 for update skip locked))
        returning id, last_at)
    select id from told order by last_at, id limit 1"""

OLD_SEEN = f"""
    delete from job_seen where id in (
        select id from job_seen where seen_at < clock_timestamp() - interval '{KEEP_SEEN_DAYS} days' limit 5000)"""  # noqa: S608

KEEP_SETTLED_DAYS = 30
"""As long as their copies stay in the topic. Who settled them, and why, stays for good."""

OLD_SETTLED = f"""
    delete from dead_letter where id = any (array(
        select id from dead_letter d
         where settled_at < clock_timestamp() - interval '{KEEP_SETTLED_DAYS} days' and status <> 'open'
           and not exists (select from job j where j.id = d.job_id)
         limit 1000))"""  # noqa: S608

MUCH = 1000
"""Jobs forgotten at once that say there are more."""


class WorkerLost(Exception):
    """A job's process fell silent, or ended, while it ran."""


class Reaper:
    """Runs in every worker of the role `jobs`; rows locked by another one are skipped."""

    def __init__(
        self, transaction: Callable[[], AbstractAsyncContextManager[Any]], clock: Clock, process: str,
    ) -> None:
        self._transaction = transaction
        self._clock = clock
        self._process = process

    async def reap(self) -> int:
        """Take back what nobody runs any more. Returns how many jobs."""
        async with self._transaction() as db:
            lost = await db.fetch(LOST)
            suspects = []
            for row in lost:
                claim = lines.claim_of(row, row["queue"], row["alone"])
                if row["cancelled"]:
                    await lines.finish(db, [claim], "cancelled", self._process)
                elif claim.alone and not row["forgotten"]:
                    await self._charge_suspect(db, claim)
                else:
                    suspects.append(claim)
            if suspects:
                log.warning("%d jobs were running when their worker was lost: they are tried alone", len(suspects))
                await db.execute(
                    SUSPECT, [c.id for c in suspects], [c.token for c in suspects], [c.spent for c in suspects]
                )
            if lost:
                await failpoint("reap.lost")
        if lost:
            await failpoint("reap.committed")
        return len(lost)

    async def _charge_suspect(self, db: Any, claim: lines.Claim) -> None:
        """It was alone, so it is the one: its first crash, in company, counts too from now on."""
        error = WorkerLost("its worker was lost while nothing else ran there")
        if claim.attempt + 1 >= claim.attempts:
            await settle(db, claim, error, failures.Dead(failures.describe(error)), self._process)
            return
        await note_attempts(db, [(claim.id, claim.attempt, error)], self._process)
        await db.execute(SUSPECT, [claim.id], [claim.token], [claim.attempt])

    async def tell(self) -> int:
        """Order one job for all new dead letters of a cause. Returns how many causes; other workers take the rest."""
        if NOTICE not in JOB_TYPES:
            return 0
        orders = []
        async with self._transaction() as db:
            for row in await db.fetch(UNTOLD):
                if await db.fetchval(MINE_TO_TELL, row["fingerprint"]) is None:
                    continue
                notice = uuid4()
                first = await db.fetchval(MARK_TOLD, row["fingerprint"], notice)
                if first is not None:
                    orders.append(self._notice(notice, first))
            await insert(db, orders)
        return len(orders)

    def _notice(self, notice: UUID, first: UUID) -> Order:
        queue, kind = NOTICE
        job = JOB_TYPES[NOTICE].model_validate({"dead_letter_id": first})
        meta = Meta("skillcore", str(notice), "/skillcore/dead-letters", self._clock(), notice, str(notice))
        attempts = QUEUES[queue].attempts
        return Order(queue, kind, job.model_dump_json(), notice, meta, attempts, job=job)

    async def prune_all(self) -> None:
        """As long as there is much to forget: a fast queue ends more jobs in two seconds than one page holds."""
        while await self.prune() >= MUCH:
            pass

    async def prune(self) -> int:
        """Forget finished and failed jobs beyond their queue's limits, and what was settled long ago. Returns how many
        finished ones went."""
        count = 0
        async with self._transaction() as db:
            for queue in QUEUES.values():
                age, most = queue.keep_completed
                rows = await db.fetch(OLD, queue.name, age.total_seconds(), most)
                ids = [i for row in rows for i in row["ids"]]
                failed = await db.fetch(OLD_FAILED, queue.name, queue.keep_failed.total_seconds())
                if ids or failed:
                    await db.execute(FORGET, ids + [row["id"] for row in failed])
                count += len(ids)
            await db.execute(OLD_SEEN)
            await db.execute(OLD_SETTLED)
        return count
