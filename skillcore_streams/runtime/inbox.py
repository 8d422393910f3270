"""Tables `inbox` and `event`: every event takes effect once, and what happened is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.envelope import Arrival, Parked

ADMIT = """
    insert into inbox (event_key, body_hash)
    select * from unnest($1::uuid[], $2::bytea[])
    on conflict do nothing
    returning event_key"""

SEEN = "select event_key, body_hash from inbox where event_key = any($1::uuid[])"

STORED = "select data from event where event_key = $1 and type = $2"

STORE = """
    insert into event (tenant_id, event_key, id, type, source, key, time, topic, partition, record_offset,
                       correlation_id, causation_id, actor_id, extra, data)
    select u.tenant_id, u.event_key, u.id, u.type, u.source, u.key, u.time, $15, $16, u.record_offset,
           u.correlation_id, u.causation_id, u.actor_id, u.extra, u.data
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
                  $8::bigint[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::bytea[], $14::int[])
        as u (tenant_id, event_key, id, type, source, key, time, record_offset,
              correlation_id, causation_id, actor_id, extra, data, n)
     order by u.n"""


async def admit(
    db: Database, arrivals: Sequence[Arrival], topic: str, partition: int
) -> tuple[list[Arrival], list[Parked], int]:
    """Let each event through once and store it.

    Returns the fresh ones in the order of their offsets, those that use the id of another event with another body, and
    how many were honest repeats. Keys are inserted sorted, so two partitions that share keys cannot deadlock.
    """
    first: dict[Any, Arrival] = {}
    for arrival in arrivals:
        first.setdefault(arrival.event.meta.key, arrival)
    keys = sorted(first)
    rows = await db.fetch(ADMIT, keys, [first[k].body_hash for k in keys])
    new = {row["event_key"] for row in rows}

    fresh = [a for k, a in first.items() if k in new]
    fresh_ids = {id(a) for a in fresh}
    repeats = [a for a in arrivals if id(a) not in fresh_ids]
    if fresh:
        await _store(db, fresh, topic, partition)
    conflicts = await _conflicts(db, repeats) if repeats else []
    return fresh, conflicts, len(repeats) - len(conflicts)


async def _store(db: Database, fresh: Sequence[Arrival], topic: str, partition: int) -> None:
    metas = [a.event.meta for a in fresh]
    await db.execute(
        STORE,
        [m.tenant for m in metas],
        [m.key for m in metas],
        [m.id for m in metas],
        [a.event.__type__ for a in fresh],
        [m.source for m in metas],
        [a.event.partition_key() for a in fresh],
        [m.time for m in metas],
        [a.record.offset for a in fresh],
        [m.correlation_id for m in metas],
        [m.causation_id for m in metas],
        [m.actor_id for m in metas],
        [json.dumps(dict(m.extra)) if m.extra else None for m in metas],
        [a.data for a in fresh],
        list(range(len(fresh))),
        topic,
        partition,
    )


async def _conflicts(db: Database, repeats: Sequence[Arrival]) -> list[Parked]:
    """Same id, other body: first by hash, then by canonical JSON (spacing and key order are no difference)."""
    seen = {r["event_key"]: r["body_hash"] for r in await db.fetch(SEEN, [a.event.meta.key for a in repeats])}
    conflicts = []
    for arrival in repeats:
        key = arrival.event.meta.key
        if seen[key] == arrival.body_hash:
            continue
        stored = await db.fetchrow(STORED, key, arrival.event.__type__)
        if stored is None or json.loads(stored["data"]) != json.loads(arrival.data):
            reason = "conflict: the id of a stored event, with another body"
            conflicts.append(Parked(arrival.record, "conflict", reason, arrival.event.meta.tenant, key))
    return conflicts
