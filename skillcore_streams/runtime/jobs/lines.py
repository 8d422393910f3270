"""The engine's SQL as Python calls it. What each step does stands in migration 030, one function a step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import Queue

LEASE_MARGIN = timedelta(seconds=15)
"""How much longer than its timeout a job belongs to its process: time to cancel it and to say so."""

CLAIM = "select * from claim_jobs($1, $2, $3, $4, $5, $6, $7, $8)"
FINISH = "select finish_jobs($1, $2, $3, $4)"
RELEASE = "select release_jobs($1, $2, $3, $4)"
PROMOTE = "select promote_jobs($1, $2, $3)"
LOOK = "select * from look_at_queues($1)"
WITH_WORK = """
    select name from unnest($1::text[]) with ordinality n (name, place)
     where exists (select from ready r where r.queue = n.name)
        or exists (select from later l where l.queue = n.name and l.run_at <= clock_timestamp())
     order by place"""
LET_GO = "select let_go($1)"

PROLONG = """
    update lease e set until = clock_timestamp() + make_interval(secs => u.seconds)
      from unnest($1::uuid[], $2::float8[]) u (id, seconds) where e.job_id = u.id"""

SUSPECT = """
    with gone as (
        delete from suspect s where s.job_id = (
            select job_id from suspect s where queue = any($1::text[])
               and not exists (select from queue q where q.name = s.queue and q.paused_at is not null)
             order by job_id limit 1 for update skip locked)
        returning s.*
    ), leased as (
        insert into lease (job_id, token, queue, priority, flow, attempts, coalesce_key, process, alone, until)
        select job_id, $4, queue, priority, flow, attempts, coalesce_key, $2, true,
               clock_timestamp() + make_interval(secs => $3)
          from gone returning *
    )
    select j.id, e.token, j.queue, j.tenant_id, j.kind, j.payload, e.attempts, j.max_attempts, j.options,
           j.expires_at < clock_timestamp() as expired, e.coalesce_key, j.hold_key is not null as held,
           j.dedup_key is not null as dedup, j.event_key, j.correlation_id, j.causation_id, j.actor_id, j.created_at
      from leased e join job j on j.id = e.job_id"""

RELEASE_ALL = """
    select release_jobs(array_agg(job_id order by job_id), array_agg(token order by job_id), array_agg(null::float8),
                        array_agg(attempts order by job_id))
      from lease where process = $1 and until > clock_timestamp() having count(*) > 0"""

RELEASE_UNANSWERED = """
    with mine as materialized (select * from lease where token = any($1::uuid[])),
    alone as (delete from lease where token = any($1::uuid[]) and alone returning *),
    suspected as (
        insert into suspect (job_id, queue, priority, flow, attempts, coalesce_key)
        select job_id, queue, priority, flow, attempts, coalesce_key from alone)
    select (select count(*) from mine) as jobs,
           release_jobs(array_agg(job_id order by job_id), array_agg(token order by job_id), array_agg(null::float8),
                        array_agg(attempts order by job_id)) from mine where not alone"""

CANCELLED = "select job_id from lease where process = $1 and cancelled"

DECLARE = """
    insert into queue (name) select unnest($1::text[]) order by 1 on conflict do nothing"""


class Claim(NamedTuple):
    """A job that is ours to run, until `token` is taken from us."""

    id: UUID
    token: UUID
    queue: str
    tenant: str
    kind: str
    payload: str
    spent: int
    """Starts before this one."""
    attempts: int
    """Starts in all."""
    options: dict[str, Any]
    expired: bool
    coalesce: str | None
    held: bool
    dedup: bool
    event_key: UUID | None
    correlation_id: str
    causation_id: str | None
    actor_id: str | None
    created_at: datetime
    alone: bool = False

    @property
    def attempt(self) -> int:
        """Which start this is, 1 being the first."""
        return self.spent + 1

    def timeout(self, queue: Queue) -> float:
        """Seconds this run may take."""
        return float(self.options.get("timeout", queue.timeout.total_seconds()))


def claim_of(row: Any, queue: str, alone: bool = False) -> Claim:
    """A row of a claim."""
    return Claim(
        row["id"], row["token"], queue, row["tenant_id"], row["kind"], row["payload"], row["attempts"],
        row["max_attempts"], json.loads(row["options"]) if row["options"] else {}, bool(row["expired"]),
        row["coalesce_key"], row["held"], row["dedup"], row["event_key"], row["correlation_id"], row["causation_id"],
        row["actor_id"], row["created_at"], alone,
    )  # fmt: skip


async def declare(db: Database, queues: Sequence[str]) -> None:
    """Make sure each queue has its row."""
    await db.execute(DECLARE, list(queues))


async def claim(db: Database, queue: Queue, want: int, process: str, token: UUID) -> list[Claim]:
    """Up to `want` jobs, each with a lease of this process, in the order in which they are to begin.

    `token` is new for each claim. Who gets no answer gives it to `release_unanswered()`.
    """
    lease = (queue.timeout + LEASE_MARGIN).total_seconds()
    rate, per = (queue.rate.count, queue.rate.per.total_seconds()) if queue.rate else (None, None)
    claims = [
        claim_of(row, queue.name)
        for row in await db.fetch(CLAIM, queue.name, want, process, lease, queue.max_running, rate, per, token)
    ]
    longer = [(c.id, c.timeout(queue)) for c in claims if "timeout" in c.options]
    if longer:
        margin = LEASE_MARGIN.total_seconds()
        await db.execute(PROLONG, [i for i, _ in longer], [seconds + margin for _, seconds in longer])
    return claims


async def claim_suspect(db: Database, queues: Mapping[str, Queue], process: str, token: UUID) -> Claim | None:
    """One job that was running when its worker was lost."""
    row = await db.fetchrow(SUSPECT, list(queues), process, LEASE_MARGIN.total_seconds(), token)
    if row is None:
        return None
    claim = claim_of(row, row["queue"], alone=True)
    seconds = claim.timeout(queues[claim.queue]) + LEASE_MARGIN.total_seconds()
    await db.execute(PROLONG, [claim.id], [seconds])
    return claim


async def finish(db: Database, claims: Sequence[Claim], how: str, process: str) -> set[UUID]:
    """End claims. Returns the ids that were still ours: whoever misses one must not let its effects commit."""
    claims = sorted(claims, key=lambda c: c.id)
    done = set(await db.fetchval(FINISH, [c.id for c in claims], [c.token for c in claims], how, process))
    await _let_go(db, [c for c in claims if c.id in done])
    return done


async def release(db: Database, claims: Sequence[tuple[Claim, float | None, int]]) -> set[UUID]:
    """Back in line: (claim, seconds to wait; None: in front, starts spent). Returns the ids that were still ours."""
    claims = sorted(claims, key=lambda c: c[0].id)
    return set(await db.fetchval(
        RELEASE, [c.id for c, _, _ in claims], [c.token for c, _, _ in claims], [wait for _, wait, _ in claims],
        [spent for _, _, spent in claims],
    ))  # fmt: skip


async def release_all(db: Database, process: str) -> None:
    """All that this process still has, back to the front."""
    await db.execute(RELEASE_ALL, process)


async def release_unanswered(db: Database, tokens: Sequence[UUID]) -> int:
    """What was claimed under these tokens by statements without an answer goes back to where it was: nobody runs it.

    Returns how many jobs that were.
    """
    return int((await db.fetchrow(RELEASE_UNANSWERED, list(tokens)))["jobs"])


async def _let_go(db: Database, claims: Sequence[Claim]) -> None:
    if behind := [c.id for c in claims if c.held or c.dedup]:
        await db.execute(LET_GO, behind)


async def promote(db: Database, queue: str, most: int = 1000, all_of_it: bool = False) -> int:
    """Put in line what has come due. Returns how many."""
    return int(await db.fetchval(PROMOTE, queue, most, all_of_it))
