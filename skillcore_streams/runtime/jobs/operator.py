"""What people see of jobs and do with them: functions on a transaction, for the commands and for /api alike.

Every act is safe beside workers that claim at the same moment: it deletes or updates the one row that says where the
job stands, and looks again when that row has moved meanwhile. Payloads are shown masked, coalescing keys never.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from skillcore_streams.runtime import redrive
from skillcore_streams.runtime.acts import Act, By, Misused, Unknown, note
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.jobs.backlog import Standing
from skillcore_streams.runtime.jobs.lines import LET_GO
from skillcore_streams.runtime.jobs.orders import CALLS, LOCK_KEYS
from skillcore_streams.runtime.masking import masked
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES, QUEUES

MOST = 500
"""Rows of a page at most."""

NIL, LAST = str(UUID(int=0)), str(UUID(int=2**128 - 1))

LIST = """
    select j.id, j.tenant_id as tenant, j.queue, j.kind, '{label}' as state, j.priority, {attempts} as attempts,
           j.max_attempts, {at} as at, j.created_at, {worker} as worker, array[{position}]::text[] as position
      from {source} join job j on j.id = p.job_id
     where {among} and ($1::text is null or p.queue = $1) and ($2::text is null or j.kind = $2)
       and ($3::text is null or {tenant} = $3) and ($4::timestamptz is null or j.created_at >= $4)
       and ({order}) {beyond} ({cursor})
     order by {sort} limit $6"""


@dataclass(frozen=True, slots=True)
class Place:
    """A table that jobs stand in, and the order in which its rows are read.

    `columns` are (SQL, type, value before the first row): what a position in that order consists of.
    """

    label: str
    source: str
    columns: Sequence[tuple[str, str, str]]
    at: str
    attempts: str = "p.attempts"
    worker: str = "null::text"
    tenant: str = "p.flow"
    among: str = "true"
    newest_first: bool = False

    @property
    def sql(self) -> str:
        """One page of this place, after a position."""
        names = [name for name, _, _ in self.columns]
        return LIST.format(
            label=self.label, source=self.source, at=self.at, attempts=self.attempts, worker=self.worker,
            tenant=self.tenant, among=self.among,
            position=", ".join(f"{name}::text" for name in names), order=", ".join(names),
            beyond="<" if self.newest_first else ">",
            cursor=", ".join(f"($5::text[])[{n}]::{kind}" for n, (_, kind, _) in enumerate(self.columns, 1)),
            sort=", ".join(f"{name} desc" if self.newest_first else name for name in names),
        )  # fmt: skip

    @property
    def start(self) -> list[str]:
        """The position before the first row."""
        return [start for _, _, start in self.columns]


FAILED = """
    (select job_id, coalesce(queue, 'handler-calls') as queue, last_at, attempts, status, kind from dead_letter) p"""
ENDED = "(select u.id as job_id, f.queue, f.at, f.outcome, f.process from finished f, unnest(f.ids) u (id)) p"
_JOB = ("p.job_id", "uuid", NIL)
_NEWEST = [("p.last_at", "timestamptz", "infinity"), ("p.job_id", "uuid", LAST)]
_ENDED = [("p.at", "timestamptz", "infinity"), ("p.job_id", "uuid", LAST)]

_BEHIND = "exists (select from hold x where x.key = p.key and (x.seq, x.job_id) < (p.seq, p.job_id))"
_LETTER = "p.kind in ('job', 'call') and p.status"

PLACES = {
    "running": Place(
        "running", "lease p", [("p.started_at", "timestamptz", "-infinity"), _JOB], "p.started_at",
        attempts="p.attempts + 1", worker="p.process",
    ),
    "suspect": Place("waiting", "suspect p", [_JOB], "null::timestamptz"),
    "waiting": Place(
        "waiting", "ready p",
        [("p.queue", "text", ""), ("p.priority", "int", "-1"), ("p.tag", "bigint", str(-(2**63))), _JOB], "p.since",
    ),
    "delayed": Place(
        "delayed", "later p", [("p.queue", "text", ""), ("p.run_at", "timestamptz", "-infinity"), _JOB], "p.run_at"
    ),
    "held": Place(
        "held", "(select h.*, 'handler-calls' as queue from hold h) p", [_JOB], "null::timestamptz", attempts="0",
        tenant="j.tenant_id", among=_BEHIND,
    ),
} | {
    label: Place(
        label, FAILED, _NEWEST, "p.last_at", attempts="jsonb_array_length(p.attempts)", tenant="j.tenant_id",
        among=f"{_LETTER} = '{status}'", newest_first=True,
    )
    for label, status in (("failed", "open"), ("discarded", "discarded"))
} | {
    how: Place(
        how, ENDED, _ENDED, "p.at", attempts="null::int", worker="nullif(p.process, '')", tenant="j.tenant_id",
        among=f"p.outcome = '{how}'", newest_first=True,
    )
    for how in ("completed", "cancelled", "expired", "coalesced")
}  # fmt: skip
"""In the order of a life: what runs, what waits in the order of its turn, what is to come, what has ended."""

# A page begins in the middle of an index. The planner takes the first column for the whole position and, in a queue
# with a million jobs, would read and sort them all.
BY_INDEX = """
    select set_config('enable_' || what, $1, true)
      from unnest(array['sort', 'seqscan', 'bitmapscan', 'hashjoin', 'mergejoin']) what"""

STATES = tuple(dict.fromkeys(place.label for place in PLACES.values()))

THE_JOB = "select * from job_now where id = $1"
ENDED_HOW = "select outcome, at, process from finished where queue = $1 and $2 = any(ids) order by at desc limit 1"
LETTERS = """
    select id, status, reason, attempts, last_at from dead_letter where job_id = $1 order by last_at, id"""
LOGS = "select at, line from job_log where job_id = $1 order by at, ctid limit $2"
PROGRESS = "select progress, at from job_progress where job_id = $1"
RESULT = "select result from job_result where job_id = $1"
ACTS = "select at, actor, action, reason from operator_action where target = $1 order by id"
THE_EVENT = "select * from event where event_key = $1 limit 1"
CAUSED_EVENTS = """
    select id, type, time, topic from event
     where tenant_id = $1 and correlation_id = $2 and causation_id = $3 and ($4::text is null or source = $4)
     order by seq limit 100"""
LEAVING = """
    select topic, created_at from outbox
     where published_at is null and headers ->> 'ce_causationid' = $1 order by id limit 100"""
CAUSED_JOBS = """
    select id, queue, kind, state from job_now
     where event_key = $1 and id <> $2 and queue <> 'handler-calls' order by created_at, id limit 100"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list; None: any."""

    queue: str | None = None
    kind: str | None = None
    state: str | None = None
    tenant: str | None = None
    since: datetime | None = None
    """Created then or later."""


async def find(
    db: Database, wanted: Wanted, limit: int = 50, after: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of jobs, and where the next one begins (None: this was the last)."""
    if wanted.state is not None and wanted.state not in STATES:
        raise Misused(f"a job's state is one of {', '.join(STATES)}")
    places = [name for name, place in PLACES.items() if wanted.state in (None, place.label)]
    place, position = _position(after, places)
    limit = max(1, min(limit, MOST))
    queue = None if wanted.queue is None else own_name(wanted.queue)
    found: list[tuple[str, Any]] = []
    await db.execute(BY_INDEX, "off")
    for name in places[places.index(place) :]:
        start = position if name == place and position is not None else PLACES[name].start
        rows = await db.fetch(
            PLACES[name].sql, queue, wanted.kind, wanted.tenant, wanted.since, start, limit + 1 - len(found)
        )
        found += [(name, row) for row in rows]
        if len(found) > limit:
            break
    await db.execute(BY_INDEX, "on")
    more = len(found) > limit
    del found[limit:]
    shown = [{k: v for k, v in dict(row).items() if k != "position"} for _, row in found]
    return shown, _cursor(found[-1][0], found[-1][1]["position"]) if more else None


def _cursor(place: str, position: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([place, *position]).encode()).decode().rstrip("=")


READERS: dict[str, Callable[[str], object]] = {
    "uuid": UUID, "int": int, "bigint": int, "text": str, "timestamptz": datetime.fromisoformat,
}  # fmt: skip


def _position(after: str | None, places: Sequence[str]) -> tuple[str, list[str] | None]:
    if after is None:
        return places[0], None
    try:
        place, *position = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        for said, (_, kind, _) in zip(position, PLACES[place].columns, strict=True):
            READERS[kind](said)
    except (ValueError, TypeError, KeyError):
        raise Misused("this is no place that an earlier page ended at") from None
    if place not in places:
        raise Misused("that page was of another state")
    return place, position


def own_name(queue: str) -> str:
    """The seed's `<queue>-dlq` means the queue's dead letters: whose they are."""
    return queue.removesuffix("-dlq")


def described(standing: Standing) -> dict[str, Any]:
    """A queue's figures and its settings."""
    queue = QUEUES.get(standing.queue)
    rate = None if queue is None or queue.rate is None else f"{queue.rate.count} / {queue.rate.per.total_seconds():g} s"
    return asdict(standing) | {
        "rate": rate,
        "concurrency": queue and queue.concurrency,
        "max_running": queue and queue.max_running,
        "internal": queue is not None and queue.internal,
    }


# One job --------------------------------------------------------------------------------------------------------------


async def show(db: Database, job_id: UUID) -> dict[str, Any]:
    """All that is known of a job: what became of it and when, why, and what it caused. Raises Unknown."""
    job = await db.fetchrow(THE_JOB, job_id)
    if job is None:
        raise Unknown("no such job; finished ones are kept for a day, at most a thousand a queue")
    letters = await db.fetch(LETTERS, job_id)
    ended = await db.fetchrow(ENDED_HOW, job["queue"], job_id) if job["state"] == "completed" else None
    event = await db.fetchrow(THE_EVENT, job["event_key"]) if job["event_key"] else None
    progress = await db.fetchrow(PROGRESS, job_id)
    result = await db.fetchval(RESULT, job_id)
    state = ended["outcome"] if ended else job["state"]
    if letters and letters[-1]["status"] == "discarded":
        state = "discarded"
    options = json.loads(job["options"]) if job["options"] else {}
    return {
        "id": job_id, "tenant": job["tenant_id"], "queue": job["queue"], "kind": job["kind"], "state": state,
        "attempts": job["attempts"], "max_attempts": job["max_attempts"], "priority": job["priority"],
        "created_at": job["created_at"], "run_at": job["run_at"], "worker": job["worker"],
        "started_at": job["started_at"], "expires_at": job["expires_at"], "options": options,
        "data": _data(job, event),
        "progress": json.loads(progress["progress"]) if progress else None,
        "result": json.loads(result) if result else None,
        "timeline": await _timeline(db, job, letters, ended),
        "attempts_failed": json.loads(job["errors"]),
        "dead_letters": [{k: r[k] for k in ("id", "status", "reason", "last_at")} for r in letters],
        "logs": [dict(r) for r in await db.fetch(LOGS, job_id, MOST)],
        "cause": await _cause(db, job, event),
        "caused": await _caused(db, job, event),
    }  # fmt: skip


async def logs(db: Database, job_id: UUID, limit: int = 10_000) -> list[dict[str, Any]]:
    """What the job's function noted, oldest first."""
    return [dict(row) for row in await db.fetch(LOGS, job_id, limit)]


def _data(job: Any, event: Any) -> dict[str, Any] | None:
    if job["queue"] != CALLS:
        return masked(JOB_TYPES.get((job["queue"], job["kind"])), job["payload"])
    return masked(EVENT_TYPES.get(event["type"]), event["data"]) if event else None


async def _timeline(db: Database, job: Any, letters: Sequence[Any], ended: Any) -> list[dict[str, Any]]:
    """What happened when, in order; what is yet to come last."""
    told = [(job["created_at"], "created")]
    lives = [json.loads(letter["attempts"]) for letter in letters]
    now_failed = json.loads(job["errors"])
    if not letters or letters[-1]["status"] == "retried":
        lives.append(now_failed)
    for life in lives:
        for n, failed in enumerate(life, 1):
            at = datetime.fromisoformat(failed["at"])
            told.append((at, f"start {failed.get('n', n)} failed on {failed['worker']}: {failed['error']}"))
    told += [(letter["last_at"], f"failed for good: {letter['reason']}") for letter in letters]
    told += [
        (act["at"], f"{act['action']} by {act['actor']}: {act['reason']}")
        for target in (job["id"], *(letter["id"] for letter in letters))
        for act in await db.fetch(ACTS, str(target))
    ]
    if job["started_at"] is not None:
        told.append((job["started_at"], f"start {job['attempts']} runs on {job['worker']} since"))
    if ended is not None:
        told.append((ended["at"], ended["outcome"] + (f" on {ended['process']}" if ended["process"] else "")))
    if job["run_at"] is not None:
        told.append((job["run_at"], "due"))
    return [{"at": at, "what": what} for at, what in sorted(told, key=lambda entry: entry[0])]


async def _cause(db: Database, job: Any, event: Any) -> dict[str, Any] | None:
    """The event, the job or the record that brought it about; None when somebody added it by hand."""
    if event is not None:
        return {"event": event["id"], "type": event["type"], "time": event["time"],
                "at": f"{event['topic']}-{event['partition']}@{event['record_offset']}"}  # fmt: skip
    if job["topic"] is not None:
        return {"record": f"{job['topic']}-{job['partition']}@{job['record_offset']}"}
    if job["event_key"] is not None and job["event_key"] != job["id"]:
        other = await db.fetchrow(THE_JOB, job["event_key"])
        if other is not None:
            return {"job": other["id"], "queue": other["queue"], "kind": other["kind"]}
    return None


async def _caused(db: Database, job: Any, event: Any) -> dict[str, Any]:
    """Of a failed call: what its handler published about its event; jobs are those that the event brought about."""
    call = job["queue"] == CALLS
    cause, source = str(job["id"]), None
    if call and event is not None:
        cause, source = event["id"], f"/skillcore/streams/{job['kind']}"
    events = await db.fetch(CAUSED_EVENTS, job["tenant_id"], job["correlation_id"], cause, source)
    return {
        "events": [dict(row) for row in events],
        "leaving": [dict(row) for row in await db.fetch(LEAVING, cause)],
        "jobs": [dict(row) for row in await db.fetch(CAUSED_JOBS, job["event_key"] if call else job["id"], job["id"])],
    }


# Acts -----------------------------------------------------------------------------------------------------------------

ASK = "update lease set cancelled = true where job_id = $1 returning process"

# Each deletes the one row that says where the job waits.
WITHDRAW = tuple(f"delete from {table} where job_id = $1 returning queue" for table in ("ready", "later", "suspect"))  # noqa: S608
HOLD_KEY = "select key from hold where job_id = $1"
CANCELLED = """
    insert into finished (queue, at, outcome, process, ids)
    values ($1, clock_timestamp(), 'cancelled', '', array[$2::uuid])"""
STATE = "select state, queue from job_now where id = $1"
DUE_NOW = "update later set run_at = clock_timestamp() where job_id = $1 and run_at > clock_timestamp() returning 1"
OPEN_LETTER = "select id from dead_letter where job_id = $1 order by last_at desc, id limit 1"

QUEUE_ROW = "insert into queue (name) values ($1) on conflict do nothing"
PAUSED = "select name, paused_at, paused_by from queue where name = $1 for no key update"
KNOWN = "select exists (select from queue where name = $1) or exists (select from level where queue = $1)"
PAUSE = "update queue set paused_at = clock_timestamp(), paused_by = $2 where name = $1"
RESUME = "update queue set paused_at = null, paused_by = null where name = $1"
STILL = """
    select (select count(*) from lease where queue = $1) as running,
           (select count(*) from (select from ready where queue = $1 limit 10001) x) as waiting"""


async def cancel(db: Database, job_id: UUID, by: By) -> Act:
    """End a job that has not ended: at once when it waits, within a second or so when it runs. May be said twice."""
    await note(db, by, "jobs cancel", [job_id])
    if (key := await db.fetchval(HOLD_KEY, job_id)) is not None:
        await db.execute(LOCK_KEYS, [key])  # what it waits behind cannot let it go meanwhile
    for _ in range(5):  # a claim or a release may have moved it between two looks
        if (process := await db.fetchval(ASK, job_id)) is not None:
            return Act(True, f"it runs on {process}, which is asked to end it: that takes about a second")
        for statement in WITHDRAW:
            if (queue := await db.fetchval(statement, job_id)) is not None:
                return await _withdrawn(db, job_id, queue)
        row = await db.fetchrow(STATE, job_id)
        if row is None:
            raise Unknown("no such job")
        if row["state"] == "held":
            return await _withdrawn(db, job_id, row["queue"])
        if row["state"] == "failed":
            return Act(False, "it has failed; discard its dead letter, or leave it")
        if row["state"] == "completed":
            how = await db.fetchval(ENDED_HOW, row["queue"], job_id)
            return Act(how == "cancelled", f"it has ended already: {how or 'completed'}")
    return Act(False, "it is claimed and returned too fast to be caught; try again")


async def _withdrawn(db: Database, job_id: UUID, queue: str) -> Act:
    await db.execute(CANCELLED, queue, job_id)
    await db.execute(LET_GO, [job_id])
    return Act(True, "it is cancelled; it had not begun")


async def promote(db: Database, job_id: UUID, by: By) -> Act:
    """A delayed job, or one that waits for its next try, is due now. Its priority and its tries stay."""
    await note(db, by, "jobs promote", [job_id])
    if await db.fetchval(DUE_NOW, job_id):
        return Act(True, "it is due now")
    row = await db.fetchrow(STATE, job_id)
    if row is None:
        raise Unknown("no such job")
    return Act(row["state"] in ("waiting", "delayed"), f"it is not delayed: {row['state']}")


async def retry(db: Database, job_id: UUID, by: By, now: datetime) -> Act:
    """A failed job goes back in line with all its attempts. Once for each time that it failed for good."""
    letter = await db.fetchval(OPEN_LETTER, job_id)
    if letter is None:
        row = await db.fetchrow(STATE, job_id)
        if row is None:
            raise Unknown("no such job")
        return Act(False, f"it has not failed: {row['state']}")
    [act] = await redrive.retry(db, [letter], by, now=now)
    return act


async def pause(db: Database, queue: str, by: By) -> Act:
    """No worker claims jobs of this queue until it is resumed. What runs, runs to its end."""
    row = await _queue_row(db, queue)
    if row["paused_at"] is not None:
        return Act(True, f"{queue} is paused since {row['paused_at']:%Y-%m-%d %H:%M:%S} by {row['paused_by']}")
    await note(db, by, "queues pause", [queue])
    await db.execute(PAUSE, queue, by.actor)
    still = await db.fetchrow(STILL, queue)
    waiting = "more than 10000" if still["waiting"] > 10_000 else still["waiting"]
    return Act(True, f"{queue} is paused. {still['running']} jobs still run to their end, {waiting} wait.")


async def resume(db: Database, queue: str, by: By) -> Act:
    """Workers claim again."""
    row = await _queue_row(db, queue)
    if row["paused_at"] is None:
        return Act(True, f"{queue} is not paused")
    await note(db, by, "queues resume", [queue], paused_by=row["paused_by"], paused_at=row["paused_at"])
    await db.execute(RESUME, queue)
    return Act(True, f"{queue} goes on")


async def _queue_row(db: Database, queue: str) -> Any:
    if queue not in QUEUES and not await db.fetchval(KNOWN, queue):
        raise Unknown(f"there is no queue {queue}; known: {', '.join(sorted(QUEUES))}")
    await db.execute(QUEUE_ROW, queue)
    return await db.fetchrow(PAUSED, queue)
