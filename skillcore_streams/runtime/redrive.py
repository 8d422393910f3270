"""Dead letters as operators see them, and their way back: each is retried once, or discarded; who and why is kept.

A record goes to its topic again through the outbox, in its own bytes, in the order of offsets; with the right key when
a wrong one was the reason. What it says about itself stays, so the inbox knows it again. A job or a call goes back in
line with all its attempts. Payloads are masked; what is shown in full is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from skillcore_streams.runtime import envelope, outbox
from skillcore_streams.runtime.acts import Act, By, Misused, Unknown, note
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.masking import MASK, masked
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES
from skillcore_streams.runtime.outbox import Original

KINDS = ("record", "conflict", "call", "job")
STATUSES = ("open", "retried", "discarded")

WHICH = """
       d.status = $1 and ($2::text is null or d.fingerprint = $2) and ($3::text is null or d.tenant_id = $3)
       and ($4::text is null or d.kind = $4) and ($5::text is null or coalesce(d.queue, j.queue) = $5)
       and ($6::text is null or d.handler = $6 or d.handler like '%.' || $6) and ($7::text is null or d.topic = $7)
       and ($8::timestamptz is null or d.last_at >= $8) and ($9::timestamptz is null or d.last_at < $9)"""
FROM = "dead_letter d left join job j on j.id = d.job_id and d.queue is null"
SOURCE = "coalesce(d.handler, d.queue, d.topic)"

GROUPS = f"""
    select d.fingerprint, count(*) as letters, d.kind, {SOURCE} as source, max(d.reason) as reason,
           (array_agg(distinct coalesce(d.tenant_id, '(unknown)')))[1:20] as tenants,
           min(d.first_at) as first, max(d.last_at) as last, (array_agg(d.id order by d.last_at desc))[1] as example
      from {FROM} where {WHICH}
     group by d.fingerprint, d.kind, {SOURCE}
     order by count(*) desc, max(d.last_at) desc, d.fingerprint limit $10"""  # noqa: S608 - our own constants

EACH = f"""
    select d.id, d.last_at, d.kind, d.status, coalesce(d.tenant_id, '(unknown)') as tenant, {SOURCE} as source,
           d.partition, d.record_offset as offset, d.fingerprint, d.reason, d.job_id
      from {FROM} where {WHICH} and (d.last_at, d.id) < ($10, $11)
     order by d.last_at desc, d.id desc limit $12"""  # noqa: S608

IDS = f"""
    select d.id from {FROM} where {WHICH}
     order by d.topic, d.partition, d.record_offset, d.last_at, d.id"""  # noqa: S608

ONE = """
    select d.*, e.type, j.queue as job_queue, j.kind as job_kind
      from dead_letter d
      left join lateral (select type from event where event_key = d.event_key limit 1) e on d.kind = 'call'
      left join job j on j.id = d.job_id
     where d.id = $1"""
ACTS = "select at, actor, action, reason from operator_action where target = $1 order by id"

TAKE = """
    select d.*, j.queue as job_queue, j.priority, j.tenant_id as flow from dead_letter d
      left join job j on j.id = d.job_id
     where d.id = any($1::uuid[]) order by d.id for no key update of d"""
SETTLE = "update dead_letter set status = $2, settled_at = clock_timestamp() where id = any($1::uuid[])"
NEW_LIFE = "delete from attempt where job_id = any($1::uuid[])"  # the letter keeps them
BACK_IN_LINE = """
    select put_ready($1, $2, $3, $4, array_fill(0, array[cardinality($1::uuid[])]),
                     array_fill(null::text, array[cardinality($1::uuid[])]), false)"""
LAST_ACT = """
    select at, actor from operator_action where target = $1 and action = any($2::text[]) order by id desc limit 1"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; None: any. `handler` with or without its group, `until` not included."""

    status: str = "open"
    fingerprint: str | None = None
    tenant: str | None = None
    kind: str | None = None
    queue: str | None = None
    handler: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES or self.kind not in (None, *KINDS):
            raise Misused(f"status is one of {', '.join(STATUSES)}; kind one of {', '.join(KINDS)}")

    @property
    def arguments(self) -> list[Any]:
        """$1 to $9 of the statements."""
        queue = None if self.queue is None else self.queue.removesuffix("-dlq")  # the seed's name of a queue's letters
        topic = None if self.topic is None else self.topic.removesuffix(".dlq")
        return [
            self.status, self.fingerprint, self.tenant, self.kind, queue, self.handler, topic, self.since, self.until,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Letter:
    """A parked record as the door reads records."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    offset: int
    timestamp: int


# Seen -----------------------------------------------------------------------------------------------------------------


async def groups(db: Database, wanted: Wanted, limit: int = 50) -> list[dict[str, Any]]:
    """By cause: how many, of which tenants (20 of them), since when, and one as an example."""
    return [dict(row) for row in await db.fetch(GROUPS, *wanted.arguments, limit)]


async def each(
    db: Database, wanted: Wanted, limit: int = 50, after: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of letters, the newest first, and where the next one begins (None: this was the last)."""
    at, letter = _place(after)
    found = await db.fetch(EACH, *wanted.arguments, at, letter, limit + 1)
    rows = [dict(row) for row in found[:limit]]
    more = len(found) > limit
    return rows, f"{rows[-1]['last_at'].isoformat()}~{rows[-1]['id']}" if more else None


def _place(after: str | None) -> tuple[datetime, UUID]:
    if after is None:
        return datetime.fromisoformat("9999-01-01T00:00:00+00:00"), UUID(int=0)
    try:
        at, _, letter = after.replace(" ", "+").partition("~")
        return datetime.fromisoformat(at), UUID(letter)
    except ValueError:
        raise Misused("this is no place that an earlier page ended at") from None


async def show(db: Database, letter_id: UUID) -> dict[str, Any]:
    """One letter, masked. Raises Unknown."""
    row = await db.fetchrow(ONE, letter_id)
    if row is None:
        raise Unknown("no such dead letter")
    letter = {k: v for k, v in dict(row).items() if k not in ("value", "type", "job_queue", "job_kind")}
    names = [name for name, _ in outbox.unpacked(row["headers"])]
    return letter | {
        "attempts": json.loads(row["attempts"]),
        "key": None if row["key"] is None else MASK,
        "headers": [envelope.shown_name(name) for name in names],
        "size": None if row["value"] is None else len(row["value"]),
        "data": masked(_class(row), row["value"]),
        "acts": [dict(act) for act in await db.fetch(ACTS, str(letter_id))],
    }


async def reveal(db: Database, letter_id: UUID, by: By) -> dict[str, Any]:
    """One letter with its original key, headers and bytes, as text. Who looked and why is kept."""
    letter = await show(db, letter_id)
    await note(db, by, "dead-letters reveal", [letter_id])
    row: Any = await db.fetchrow(ONE, letter_id)
    return letter | {
        "key": _text(row["key"]),
        "headers": [[name, _text(value)] for name, value in outbox.unpacked(row["headers"])],
        "value": _text(row["value"]),
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _class(row: Any) -> type[BaseModel] | None:
    """What the payload should be, as far as it can be told."""
    if row["kind"] == "job":
        return JOB_TYPES.get((row["job_queue"], row["job_kind"]))
    if row["kind"] == "call":
        return EVENT_TYPES.get(row["type"])
    said = next((value for name, value in outbox.unpacked(row["headers"]) if name == "ce_type" and value), b"")
    name = said.decode(errors="replace")
    if name in EVENT_TYPES:
        return EVENT_TYPES[name]
    _, _, job = name.partition("com.skillcore.jobs.")
    queue, _, kind = job.removesuffix(".v1").partition(".")
    return JOB_TYPES.get((queue, kind))


# Done -----------------------------------------------------------------------------------------------------------------


async def ids(db: Database, wanted: Wanted) -> list[UUID]:
    """The open letters that fit, in the order in which their records stood."""
    return [row["id"] for row in await db.fetch(IDS, *wanted.arguments)]


async def retry(
    db: Database, letters: Sequence[UUID], by: By, *, now: datetime, legacy_tenant: str | None = None
) -> list[Act]:
    """Try these again, in one transaction; one answer each, in their order. Each letter once, whoever asks at once."""
    rows = {row["id"]: row for row in await db.fetch(TAKE, list(letters))}
    acts: dict[UUID, Act] = {}
    records: list[tuple[str, Original]] = []
    jobs: list[Any] = []
    for letter in dict.fromkeys(letters):
        row = rows.get(letter)
        if row is None:
            acts[letter] = Act(False, "no such dead letter")
        elif problem := await _settled(db, row) or _impossible(row):
            acts[letter] = Act(False, problem)
        elif row["kind"] in ("record", "conflict"):
            record, remark = _original(row, now, legacy_tenant)
            records.append((f"redriven to {row['topic']}-{row['partition']}", record))
            acts[letter] = Act(True, f"its record goes to {row['topic']} again{remark}")
        else:
            jobs.append(row)
            acts[letter] = Act(True, f"it is back in line on {row['job_queue']} with all its attempts")
    done = [letter for letter, act in acts.items() if act.done]
    if done:
        await db.execute(SETTLE, done, "retried")
        await note(db, by, "dead-letters retry", done)
    if records:
        await outbox.write_originals(db, records)
    if jobs:
        await db.execute(NEW_LIFE, [row["job_id"] for row in jobs])
        await db.execute(
            BACK_IN_LINE, [r["job_id"] for r in jobs], [r["job_queue"] for r in jobs], [r["priority"] for r in jobs],
            [r["flow"] for r in jobs],
        )  # fmt: skip
    return [acts[letter] for letter in letters]


async def discard(db: Database, letters: Sequence[UUID], by: By) -> list[Act]:
    """These will not be tried again; their bytes stay until retention takes them. One answer each, in their order."""
    rows = {row["id"]: row for row in await db.fetch(TAKE, list(letters))}
    acts = {}
    for letter in dict.fromkeys(letters):
        row = rows.get(letter)
        problem = "no such dead letter" if row is None else await _settled(db, row)
        acts[letter] = Act(True, "it is discarded") if problem is None else Act(False, problem)
    if done := [letter for letter, act in acts.items() if act.done]:
        await db.execute(SETTLE, done, "discarded")
        await note(db, by, "dead-letters discard", done)
    return [acts[letter] for letter in letters]


async def _settled(db: Database, row: Any) -> str | None:
    """Why nothing more is to be done about this letter."""
    if row["status"] == "open":
        return None
    act = await db.fetchrow(LAST_ACT, str(row["id"]), [f"dead-letters {how}" for how in ("retry", "discard")])
    by = f" at {act['at']:%Y-%m-%d %H:%M:%S} by {act['actor']}" if act else ""
    again = "; if it fails again it has another dead letter" if row["status"] == "retried" else ""
    return f"it was {row['status']} already{by}{again}"


def _impossible(row: Any) -> str | None:
    if row["kind"] in ("call", "job"):
        return None if row["job_queue"] is not None else "its job is not kept any more"
    if row["topic"] is None:
        return "it came from no topic"
    if row["value"] is None:
        return "it has no value: there is nothing to try again"
    if len(row["value"]) > envelope.MAX_VALUE:
        return f"it has {len(row['value'])} bytes, a topic takes {envelope.MAX_VALUE}"
    return None


def _original(row: Any, now: datetime, legacy_tenant: str | None) -> tuple[Original, str]:
    """The record as it came, and a remark. What has no id keeps that of its place; a wrong key is put right."""
    headers = outbox.unpacked(row["headers"])
    names = {name for name, _ in headers}
    letter = Letter(row["key"], row["value"], headers, row["record_offset"], int(row["first_at"].timestamp() * 1000))
    if "ce_type" not in names and envelope.ORIGIN not in names:
        headers = [*headers, (envelope.ORIGIN, b"%d/%d" % (row["partition"], row["record_offset"]))]
    key, remark = row["key"], ""
    if row["reason"].startswith("wrong key"):
        right = envelope.right_key(
            letter, row["topic"], row["partition"], now=now, legacy_tenant=legacy_tenant
        )
        if right is not None:
            key, remark = right, ", with the right key"
    return Original(row["topic"], key, row["value"], headers), remark
