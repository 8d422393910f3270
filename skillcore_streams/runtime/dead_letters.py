"""Table `dead_letter`: what could not be processed has a place, with everything Kafka held of it."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.envelope import Parked, Record
from skillcore_streams.runtime.messages import derive_id

PARK = """
    insert into dead_letter (id, tenant_id, kind, event_key, fingerprint, reason, first_at,
                             topic, partition, record_offset, key, headers, value)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    on conflict (id) do nothing"""

BURY = """
    insert into dead_letter (id, tenant_id, kind, handler, queue, event_key, fingerprint, reason, attempts, first_at,
                             topic, partition, record_offset, key, value)
    select $1, j.tenant_id, case when j.queue = 'handler-calls' then 'call' else 'job' end,
           case when j.queue = 'handler-calls' then j.kind end,
           case when j.queue <> 'handler-calls' then j.queue end,
           j.event_key, $2, $3, j.errors, j.created_at, e.topic, e.partition, e.record_offset,
           convert_to(e.key, 'UTF8'), coalesce(e.data, convert_to(j.payload::text, 'UTF8'))
      from job j left join lateral (select * from event where event_key = j.event_key limit 1) e
             on j.queue = 'handler-calls'
     where j.id = $4
    on conflict (id) do update
       set last_at = clock_timestamp(), attempts = excluded.attempts, reason = excluded.reason, status = 'open'"""


def original_headers(record: Record) -> str:
    """Headers as JSON pairs of name and base64: nothing about a bad record can be taken for granted."""
    pairs = [(name.replace("\0", "�"), value and b64encode(value).decode()) for name, value in record.headers]
    return json.dumps(pairs)


async def park(db: Database, parked: Sequence[Parked], topic: str, partition: int) -> None:
    """Keep bad records. Their id follows from their coordinates: reading a partition again parks nothing twice."""
    for p in parked:
        r = p.record
        await db.execute(
            PARK,
            derive_id("parked", topic, partition, r.offset, r.timestamp, p.kind),
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
            original_headers(r),
            r.value,
        )


async def bury(db: Database, job_id: object, fingerprint: str, reason: str) -> None:
    """Dead-letter a job or a failed call, in the transaction that marks it failed."""
    await db.execute(BURY, derive_id("dead", job_id), fingerprint, reason, job_id)
