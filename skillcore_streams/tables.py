"""The attendance table of a worker: Faust places and recovers it, runtime/tables.py says what it becomes.

Its inputs are read at Kafka's committed offset, which moves only when the changelog has what they changed: one write a
key and chunk. Memory follows the changelog, never the other way round, so a chunk that comes again finds nothing half
done. Faust's own table writes are not used: they change memory first, and its producer refuses a partition for good
after one failed batch.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import faust
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP, EventT

from skillcore_streams import metrics
from skillcore_streams.adapters.kafka import HardenedApp, group_problem
from skillcore_streams.runtime.chunk import Chunk
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.outbox import Outgoing
from skillcore_streams.runtime.tables import BY_SCHOOL, OWNER, WRITER, Input, Owners, Value, apply, read

log = logging.getLogger("skillcore.tables")

NAME = "attendance"

Send = Callable[[Sequence[Outgoing]], Awaitable[list[int]]]


class _Recovered(faust.Table):  # type: ignore[misc]
    """Faust's table; of what it reads only the owner's records reach memory."""

    owners: Owners
    strangers: set[int]
    """Partitions in which others wrote too."""

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        """As upstream, of the records that count."""
        taken = []
        for event in batch:
            at, headers = event.message, dict(event.message.headers or ())
            token = headers.get(WRITER, b"").decode() or None
            if self.owners.counts(at.partition, at.offset, event.key, event.value, token):
                taken.append(event)
            elif event.key != OWNER:
                self.strangers.add(at.partition)
        super().apply_changelog_batch(taken)


class AttendanceTable:
    """Applies inputs, knows who owns which school, and keeps its changelog its own."""

    def __init__(self, app: HardenedApp, send: Send) -> None:
        self.app = app
        self.changelog = f"{app.conf.id}-{NAME}-changelog"
        self.heard: dict[int, int] = {}
        """Partition -> Kafka timestamp (ms) of the last input applied here."""
        self._send = send
        self._table = app.tables.add(
            _Recovered(app, name=NAME, on_recover=self._recovered, beacon=app.tables.beacon)
        )
        self._table.owners, self._table.strangers = Owners(), set()
        self._turn: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ends: dict[int, int] = {}
        """Partition -> where our writing of its changelog ends. Missing: somebody else wrote, too."""
        self._tokens: dict[int, str] = {}
        """Partition -> what our records in it carry."""

    # Inputs -------------------------------------------------------------------------------------------------------

    async def take(self, chunk: Chunk) -> None:
        """Apply a chunk's inputs and return when Kafka holds the result; again and again, while the partition is ours.

        What cannot be read is skipped: it came from our own outbox, so the mistake is ours, and no input waits for it.
        """
        while chunk.is_current():
            try:
                async with self._turn[chunk.partition]:
                    await self._take(chunk)
                return
            except Exception as error:
                log.warning("the attendance table cannot be written, it is tried again: %r", error)
                await asyncio.sleep(1.0)

    async def _take(self, chunk: Chunk) -> None:
        await failpoint("table.received")
        done = apply(self._table.data, _inputs(chunk))
        if done.values:
            if chunk.partition not in self._ends:
                await self._say_again(chunk.partition)
            await self._write(chunk.partition, done.values)
        self.heard[chunk.partition] = chunk.records[-1].timestamp
        metrics.table_inputs_total.labels("news").inc(done.news)
        metrics.table_inputs_total.labels("repeat").inc(done.repeats)
        await failpoint("table.before_ack")

    async def _write(self, partition: int, values: Mapping[str, Value | None]) -> None:
        """First Kafka, then memory. Raises RuntimeError when somebody else has just written there."""
        begin = self._ends.get(partition, -1)
        first_word = partition not in self._tokens
        token = uuid4().hex if first_word else self._tokens[partition]
        records = [
            Outgoing(self.changelog, _dump(OWNER), _dump({"at": begin, "token": token}), [], partition=partition)
        ] if first_word else []
        records += [
            Outgoing(self.changelog, _dump(key), None if value is None else _dump(value),
                     [(WRITER, token.encode())], partition=partition)
            for key, value in values.items()
        ]
        offsets = await self._send(records)
        await failpoint("table.changelog_sent")
        if offsets == list(range(begin, begin + len(offsets))):
            self._ends[partition] = offsets[-1] + 1
        else:
            self._ends.pop(partition, None)  # all is said again
        if first_word and offsets[0] != begin:
            raise RuntimeError("another worker wrote at the same time")
        self._tokens[partition] = token
        store = self._table.data
        for key, value in values.items():
            if value is None:
                store.data.pop(key, None)
                store._key_partition.pop(key, None)
            else:
                store.data[key] = value
                store._key_partition[key] = partition  # so that Faust forgets it when the partition leaves us
        metrics.table_writes_total.inc(len(values))

    # Ownership ----------------------------------------------------------------------------------------------------

    def partition(self, school: str) -> int:
        """Where a school ("tenant/school") lives. Raises LookupError before the first rebalance."""
        everyone = sorted(p for topics in self._map().values() for p in topics.get(self.changelog, ()))
        if not everyone:
            raise LookupError("the attendance table has no owners yet")
        return int(DefaultPartitioner()(school.encode(), everyone, everyone))

    def _map(self) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """The assignor's: URL of a worker -> changelog -> its partitions. All workers have the same."""
        found: Mapping[str, Mapping[str, Sequence[int]]] = self.app.assignor.changelog_distribution
        return found

    def problem(self) -> str | None:
        """Why nothing can be answered at this moment, or None."""
        if self.app.rebalancing or not self.app.tables.actives_ready:
            return "the attendance table is being recovered"
        return group_problem(self.app)

    def mine(self, partition: int) -> bool:
        """Whether we answer for the partition. What memory holds of others is theirs."""
        return (
            self.problem() is None
            and TP(self.changelog, partition) in self.app.assignor.assigned_actives()
            and self.app.consumer.done(TP(BY_SCHOOL, partition)) is not None
        )

    def owner(self, partition: int) -> str | None:
        """The URL of the worker that answers for the partition, by the assignor's map."""
        for url, topics in self._map().items():
            if partition in topics.get(self.changelog, ()):
                return str(url)
        return None

    def get(self, key: str) -> Value:
        """A key's value. Only for partitions that are `mine`."""
        return self._table.data.data.get(key) or {}

    def behind(self, partition: int) -> int:
        """Inputs of the partition that wait."""
        tp = TP(BY_SCHOOL, partition)
        end, done = self.app.consumer.highwater(tp), self.app.consumer.done(tp)
        return max(0, (end or 0) - done) if done is not None else 0

    def partitions(self) -> list[int]:
        """Those that are ours by the last rebalance."""
        return sorted(tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.changelog)

    # One writer ---------------------------------------------------------------------------------------------------

    async def _recovered(self) -> None:
        """The changelog has been read to its end: from here on it is ours to write."""
        highest = self.app.tables.recovery.active_highwaters
        strangers = self._table.strangers
        self._ends = {
            tp.partition: at + 1 for tp, at in highest.items()
            if tp.topic == self.changelog and tp.partition not in strangers
        }
        self._tokens.clear()
        strangers.clear()

    async def settle(self) -> None:
        """Every two seconds: has somebody else written to a changelog of ours?

        Nobody reads it (Owners), but compaction keeps a key's last record, not its owner's. Offsets without gaps tell:
        an end that is not where our own writing ended is another's, and we say all of the partition's values again.
        """
        metrics.table_lag.clear()
        for partition in self.partitions():
            metrics.table_lag.labels(partition).set(self.behind(partition))
        for partition in self.partitions():
            async with self._turn[partition]:
                if self.mine(partition):
                    await self._settle(partition)

    async def _settle(self, partition: int) -> None:
        if await self._end(partition) != self._ends.get(partition) and self.mine(partition):
            await self._say_again(partition)

    async def _end(self, partition: int) -> int:
        tp = TP(self.changelog, partition)
        async with asyncio.timeout(10):
            return int((await self.app.consumer.highwaters(tp))[tp])

    async def _say_again(self, partition: int) -> None:
        store = self._table.data
        values = {key: store.data[key] for key, at in store._key_partition.items() if at == partition}
        log.warning("%s partition %d was written by another worker too: %d keys are written again",
                    self.changelog, partition, len(values))
        metrics.table_rewrites_total.inc()
        self._ends[partition] = await self._end(partition)
        if values:
            await self._write(partition, values)


def _inputs(chunk: Chunk) -> list[Input]:
    inputs = []
    for record in chunk.records:
        try:
            inputs.append(read(record.key, record.value))
        except ValueError as error:
            metrics.table_inputs_total.labels("unreadable").inc()
            log.error("%s offset %d is skipped: %s", chunk.lane, record.offset, error)
    return inputs


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
