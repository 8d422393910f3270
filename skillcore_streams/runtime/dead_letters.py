"""Table `dead_letter`: what could not be processed has a place, with everything Kafka held of it.

A copy leaves for `<topic>.dlq` in the same transaction, for consumers outside: the record as it came, and Kafka
Connect's `__connect.errors.*` headers. The truth is the row: who tries again (redrive.py) starts from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from skillcore_streams import metrics
from skillcore_streams.runtime import failures, outbox
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.envelope import CONTENT_TYPE, MAX_HEADERS, MAX_VALUE, Parked
from skillcore_streams.runtime.messages import QUEUES, derive_id
from skillcore_streams.runtime.outbox import Original

COPIED = MAX_VALUE + MAX_HEADERS
"""Bytes of key, value and headers up to which a record is copied. What is larger stays in the table."""

PARK = """
    insert into dead_letter (id, tenant_id, kind, event_key, fingerprint, reason, first_at,
                             topic, partition, record_offset, key, headers, value)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    on conflict (id) do nothing
    returning 1"""

LIVES = "select count(*) from dead_letter where job_id = $1 and status <> 'open'"

BURY = """
    insert into dead_letter (id, job_id, tenant_id, kind, handler, queue, event_key, fingerprint, reason, attempts,
                             first_at, topic, partition, record_offset, key, value)
    select $1, j.id, j.tenant_id, case when j.queue = 'handler-calls' then 'call' else 'job' end,
           case when j.queue = 'handler-calls' then j.kind end,
           case when j.queue <> 'handler-calls' then j.queue end,
           j.event_key, $2, $3,
           coalesce((select jsonb_agg(jsonb_build_object('at', failed_at, 'worker', worker, 'error', error) order by n)
                       from attempt a where a.job_id = j.id), '[]'),
           j.created_at, coalesce(e.topic, j.topic), coalesce(e.partition, j.partition),
           coalesce(e.record_offset, j.record_offset), convert_to(e.key, 'UTF8'),
           coalesce(e.data, convert_to(j.payload, 'UTF8'))
      from job j left join lateral (select * from event where event_key = j.event_key limit 1) e
             on j.queue = 'handler-calls'
     where j.id = $4
    on conflict (id) do update
       set last_at = clock_timestamp(), attempts = excluded.attempts, reason = excluded.reason, status = 'open'"""

BURIED = """
    select d.topic, d.partition, d.record_offset, d.value, d.key, d.handler, j.id as job_id, j.queue, j.kind,
           j.tenant_id, j.correlation_id, j.causation_id, j.actor_id, j.created_at, e.id as event_id, e.type, e.source,
           e.time, e.correlation_id as event_correlation_id, e.causation_id as event_causation_id,
           e.actor_id as event_actor_id, e.extra
      from dead_letter d join job j on j.id = d.job_id
      left join lateral (select * from event where event_key = j.event_key limit 1) e on j.queue = 'handler-calls'
     where d.id = $1"""


async def park(db: Database, parked: Sequence[Parked], topic: str, partition: int, worker: str = "") -> None:
    """Keep bad records. Their id follows from their coordinates: reading a partition again parks nothing twice."""
    copies = []
    for p in parked:
        r = p.record
        letter = derive_id("parked", topic, partition, r.offset, r.timestamp, p.kind)
        fresh = await db.fetchval(
            PARK,
            letter,
            p.tenant,
            p.kind,
            p.event_key,
            hashlib.blake2b(re.sub(r"\d+", "#", p.reason).encode(), digest_size=6).hexdigest(),  # sizes differ
            p.reason,
            datetime.fromtimestamp(min(max(r.timestamp, 0), 253_402_300_799_000) / 1000, UTC),
            topic,
            partition,
            r.offset,
            r.key,
            outbox.packed(r.headers),
            r.value,
        )
        if fresh:
            why = _why(letter, topic, partition, r.offset, worker, "VALUE_CONVERTER", "", "Refused", p.reason, [])
            copies.append(_copy(topic, r.key, r.value, r.headers, why))
    if copies:
        await outbox.write_originals(db, copies)


async def bury(db: Database, job_id: UUID, error: BaseException, reason: str, worker: str = "") -> None:
    """Dead-letter a job or a failed call, in the transaction that marks it failed.

    A job that was retried by hand and failed again has another letter: each can be retried once.
    """
    lives = await db.fetchval(LIVES, job_id)
    letter = derive_id("dead", job_id, *([lives] if lives else []))
    await db.execute(BURY, letter, failures.fingerprint(error), reason, job_id)
    row = await db.fetchrow(BURIED, letter)
    if row is None:
        return
    metrics.bullmq_job_failed_total.labels(row["queue"]).inc()
    queue = QUEUES.get(row["queue"])
    topic = row["topic"] or (None if queue is None or queue.internal else queue.topic)
    if topic is not None:
        why = _why(letter, topic, row["partition"], row["record_offset"], worker, "HANDLER", row["handler"] or
                   f"{row['queue']}.{row['kind']}", type(error).__name__, reason, failures.frames(error))  # fmt: skip
        key = row["key"] if row["event_id"] else str(row["job_id"]).encode()
        await outbox.write_originals(db, [_copy(topic, key, row["value"], _headers(row), why)])


def _why(
    letter: UUID, topic: str, partition: int | None, offset: int | None, worker: str, stage: str, handler: str,
    error: str, reason: str, frames: Sequence[str],
) -> dict[str, object]:
    """Kafka Connect's headers. The message is our redacted reason, the trace has files and functions only."""
    said = {
        "topic": topic, "partition": partition, "offset": offset, "connector.name": metrics.GROUP, "task.id": worker,
        "stage": stage, "class.name": handler, "exception.class.name": error, "exception.message": reason,
        "exception.stacktrace": "\n".join(f"\tat {frame}" for frame in reversed(frames)),
    }  # fmt: skip
    return {f"__connect.errors.{name}": value for name, value in said.items() if value not in (None, "")} | {
        "skillcore-dead-letter-id": letter
    }


def _copy(
    topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]],
    why: dict[str, object],
) -> tuple[str, Original]:
    """(lane, record) for the topic's dead letters. A lane of its own: nothing else waits behind it."""
    added: list[tuple[str, bytes | None]] = [(name, str(said).encode()) for name, said in why.items()]
    whole = Original(f"{topic}.dlq", key, value, [*headers, *added])
    if whole.size > COPIED:
        added.append(("skillcore-left-out", f"{whole.size} bytes of key, value and headers".encode()))
        whole = Original(whole.topic, None, b"", added)
    elif key is None and value is None:
        whole = Original(whole.topic, None, b"", whole.headers)  # Kafka's clients want one of them
    return f"dead letters of {topic}", whole


def _headers(row: Any) -> list[tuple[str, bytes | None]]:
    """The CloudEvents headers of a stored event, or those that would order this job."""
    said: dict[str, object]
    if row["event_id"]:
        said = {
            "id": row["event_id"], "type": row["type"], "source": row["source"], "time": row["time"].isoformat(),
            "correlationid": row["event_correlation_id"], "causationid": row["event_causation_id"],
            "actorid": row["event_actor_id"],
        } | {k: v for k, v in json.loads(row["extra"] or "{}").items() if k != "traceparent"}  # fmt: skip
    else:
        said = {
            "id": row["job_id"], "type": f"com.skillcore.jobs.{row['queue']}.{row['kind']}.v1",
            "source": f"/skillcore/jobs/{row['queue']}", "time": row["created_at"].isoformat(),
            "correlationid": row["correlation_id"], "causationid": row["causation_id"], "actorid": row["actor_id"],
        }  # fmt: skip
    said = {"specversion": "1.0", "tenantid": row["tenant_id"]} | said
    pairs = [(f"ce_{name}", str(value).encode()) for name, value in said.items() if value is not None]
    return [*pairs, ("content-type", CONTENT_TYPE.encode())]
