"""Table `outbox`: nothing leaves the process inside a transaction.

A chunk's events for Kafka are rows of its transaction, with a lane: the source's topic-partition, or a job's aggregate.
Whoever publishes a lane first drains its older rows, under a lease; a sweeper takes lanes left for five seconds. So the
first appearances of a lane's events are in order; repeats are possible and vanish in the receiver's inbox.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from skillcore_streams.runtime.context import Database, Input, Publication
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.failpoints import failpoint

log = logging.getLogger(__name__)

LEASE = 10
"""Seconds a lane belongs to one publisher. Should it take longer and another one begin, both send the lane from its
oldest row on: repeats, and first appearances still in order."""

LEFT_FOR = 5
"""Seconds after which a waiting row is anybody's to publish."""

KEEP_HOURS = 24
BATCH = 500

WRITE = """
    insert into outbox (lane, topic, key, headers, value)
    select u.lane, u.topic, u.key, u.headers, u.value
      from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::bytea[], $6::int[])
        as u (lane, topic, key, headers, value, n)
     order by u.n"""

WRITE_ORIGINALS = """
    insert into outbox (lane, topic, raw_key, headers, value)
    select u.lane, u.topic, u.key, u.headers, u.value
      from unnest($1::text[], $2::text[], $3::bytea[], $4::jsonb[], $5::bytea[]) with ordinality
        as u (lane, topic, key, headers, value, n)
     order by u.n"""

TAKE_LEASE = f"""
    insert into outbox_lease as l (lane, owner, until)
    values ($1, $2, clock_timestamp() + interval '{LEASE} s')
    on conflict (lane) do update set owner = $2, until = excluded.until
     where l.owner = $2 or l.until < clock_timestamp()
    returning 1"""  # noqa: S608 - our own constant

GIVE_BACK = "delete from outbox_lease where lane = $1 and owner = $2"

WAITING = """
    select id, topic, key, raw_key, headers, value from outbox
     where lane = $1 and published_at is null order by id limit $2"""

MARK = "update outbox set published_at = clock_timestamp() where id = any($1::bigint[])"

LEFT = f"""
    select distinct lane from outbox
     where published_at is null and created_at < clock_timestamp() - interval '{LEFT_FOR} s'"""  # noqa: S608

PRUNE = f"""
    delete from outbox where id in (
        select id from (select id, published_at from outbox order by id limit 1000) oldest
         where published_at < clock_timestamp() - interval '{KEEP_HOURS} h')"""  # noqa: S608


async def write(db: Database, publications: Sequence[Publication | Input]) -> None:
    """Add events and inputs of tables to the outbox, in order. Part of the caller's transaction."""
    records = [p.record for p in publications]
    await db.execute(
        WRITE,
        [p.lane for p in publications],
        [topic for topic, _, _, _ in records],
        [key.decode() for _, key, _, _ in records],
        [json.dumps(headers) for _, _, headers, _ in records],
        [value for _, _, _, value in records],
        list(range(len(records))),
    )


@dataclass(frozen=True)
class Original:
    """A record to produce as it once came: nothing is certain about its parts."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int | None = field(default=None, kw_only=True)
    """None: the one that the key belongs to."""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(n) + len(v or b"") for n, v in self.headers)


@dataclass(frozen=True)
class Outgoing(Original):
    """A record of ours to produce."""

    key: bytes
    value: bytes | None
    """None: a compacted topic forgets the key."""
    headers: list[tuple[str, bytes]]


async def write_originals(db: Database, records: Sequence[tuple[str, Original]]) -> None:
    """Add (lane, record) as it is, whatever its bytes are. Part of the caller's transaction."""
    await db.execute(
        WRITE_ORIGINALS,
        [lane for lane, _ in records],
        [r.topic for _, r in records],
        [r.key for _, r in records],
        [packed(r.headers) for _, r in records],
        [r.value for _, r in records],
    )


def packed(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Headers as JSON pairs of name and base64: nothing about a bad record can be taken for granted."""
    return json.dumps([
        (name.replace("\0", "�"), None if value is None else b64encode(value).decode()) for name, value in headers
    ])


def unpacked(headers: str | None) -> list[tuple[str, bytes | None]]:
    """What `packed` has packed."""
    return [(name, None if value is None else b64decode(value)) for name, value in json.loads(headers or "[]")]


def _outgoing(row: Any) -> Original:
    if row["headers"].startswith("["):
        return Original(row["topic"], row["raw_key"], row["value"], unpacked(row["headers"]))
    headers = [(name, text.encode()) for name, text in json.loads(row["headers"]).items()]
    return Outgoing(row["topic"], row["key"].encode(), row["value"], headers)


class Publisher:
    """Empties lanes into Kafka. `wake(lane)` after a commit; `sweep()` now and then for what others left behind."""

    def __init__(
        self,
        transaction: Callable[[], Any],
        send: Callable[[Sequence[Original]], Awaitable[object]],
        owner: str,
    ) -> None:
        self._transaction = transaction
        self._send = send
        self._owner = owner
        self._again: set[str] = set()
        self._draining: dict[str, asyncio.Task[None]] = {}

    def wake(self, lane: str) -> None:
        """Publish this lane soon. Never blocks; a lane that is being drained is looked at once more."""
        self._again.add(lane)
        if lane not in self._draining:
            self._draining[lane] = asyncio.create_task(self._drain(lane), name=f"outbox {lane}")

    async def sweep(self) -> int:
        """Take over lanes left for five seconds. Returns how many there were."""
        async with self._transaction() as db:
            lanes = [row["lane"] for row in await db.fetch(LEFT)]
            await db.execute(PRUNE)
        for lane in lanes:
            self.wake(lane)
        return len(lanes)

    async def stop(self) -> None:
        """Finish what is being sent. What remains is the sweeper's, of this or another worker."""
        tasks = list(self._draining.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=5.0)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _drain(self, lane: str) -> None:
        try:
            while lane in self._again:
                self._again.discard(lane)
                await self.publish(lane)
        except Infrastructure as error:
            log.warning("outbox lane %s waits for the sweeper: %s", lane, error)
        except Exception:
            log.exception("outbox lane %s cannot be published; the sweeper tries again", lane)
        finally:
            del self._draining[lane]

    async def publish(self, lane: str) -> int:
        """Drain one lane if its lease can be had. Returns the number of records sent."""
        sent = 0
        while True:
            async with self._transaction() as db:
                if await db.fetchval(TAKE_LEASE, lane, self._owner) is None:
                    return sent  # another worker drains it, our rows included
                rows = await db.fetch(WAITING, lane, BATCH)
                if not rows:
                    await db.execute(GIVE_BACK, lane, self._owner)
            if not rows:
                return sent
            await failpoint("outbox.leased")
            await self._send([_outgoing(row) for row in rows])
            await failpoint("outbox.sent")
            async with self._transaction() as db:
                await db.execute(MARK, [r["id"] for r in rows])
            await failpoint("outbox.marked")
            sent += len(rows)
