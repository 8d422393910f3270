"""Faust 0.15.3's Kafka transport, hardened: `class App(HardenedApp)`.

Faust's own bookkeeping of acks (a list of acked offsets, a tree of gaps, a read offset) is replaced by two facts per
partition: `_next`, the end of what was delivered, and `_flights`, what was delivered and is not acked. What can be
committed is the start of the oldest flight, else `_next`. Each override names the defect it answers and has a test in
tests/transport/ that fails on stock Faust. They reach into private names of faust and aiokafka: both are pinned.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from skillcore_streams.runtime.chunk import Chunk
from skillcore_streams.runtime.failpoints import failpoint

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
"""Bytes of values in a chunk at most (a single larger record still travels, alone)."""

REVOCATION = 5.0
"""Seconds a revocation waits for chunks in flight, then rolls them back; the whole group stands still meanwhile."""

FETCH_WAIT_MS = 200
"""Milliseconds a fetch may wait at the broker for something to arrive."""

PATIENCE = 60.0
"""Seconds outside the group after which the process gives up, so that somebody restarts it."""


@dataclass(slots=True, eq=False)
class Flight:
    """A delivery on its way: from `start`, begun at `since` (monotonic), holding `size` bytes."""

    start: int
    since: float
    size: int
    siblings: dict[int, Flight]
    """The partition's flights by start, oldest first; replaced as a whole when the partition is sought."""

    @property
    def current(self) -> bool:
        """False once the partition was sought: what was delivered comes again."""
        return self.siblings.get(self.start) is self

    def land(self) -> None:
        """It is acked."""
        if self.current:
            del self.siblings[self.start]


_acked = ConsumerMessage.acked


class Delivery(ConsumerMessage):  # type: ignore[misc]
    """Lands its flight when acked. A property, for the Cython stream inlines Consumer.ack() and calls no override.

    The slot `checksum`, unused since Kafka's v2 records, holds the flight: a subclass of a slotted class whose
    instances are re-labelled can have no slots of its own.
    """

    __slots__ = ()

    @property
    def acked(self) -> bool:
        """As upstream: the streams are done with it."""
        return bool(_acked.__get__(self))

    @acked.setter
    def acked(self, yes: bool) -> None:
        _acked.__set__(self, yes)
        if yes:
            self.checksum.land()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Stays in its group, or ends the process."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Upstream lets a fetch wait 1.5 s at the broker, and every other question to that broker waits behind it:
        after a rebalance, the offsets to start from."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    @Service.task
    async def _guard(self) -> None:
        """Two ways to leave the group for ever with the process alive (robinhood #517, faust #175, aiokafka #1154):

        a worker with nothing to poll exceeds max.poll.interval, and a coordinator error parks aiokafka until someone
        calls getmany(), which Faust never does. An app.service would start too late: only after the first assignment.
        """
        member_at = time.monotonic()
        while not self.should_stop:
            await self.sleep(1.0)
            if self._consumer is None:
                continue
            coordinator = self._consumer._coordinator
            with self._consumer._subscription.fetch_context():
                pass  # counts as a poll
            try:
                coordinator.check_errors()  # clears what it raises, so coordination goes on
            except KafkaError as error:
                self.log.error("group coordination failed, trying again: %r", error)
            if coordinator.generation >= 0 and not coordinator._coordination_task.done():
                member_at = time.monotonic()
            elif time.monotonic() - member_at > PATIENCE:
                await self.crash(RuntimeError(f"outside its consumer group for {PATIENCE:.0f} s"))

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Upstream any failed commit crashes the worker. Postgres owns the offsets: Kafka's copy may be late.

        Between leaving one generation and entering the next nothing is committed: the refusal makes aiokafka forget
        the generation that it is just being given, and the member is stuck outside its group.
        """
        consumer = self._ensure_consumer()
        if consumer._coordinator._performed_join_prepare:
            return False
        mine = self.assignment()
        try:
            await consumer.commit({
                driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "")
                for tp, offset in offsets.items() if tp in mine
            })
        except Exception as error:
            self.log.warning("offsets not committed to Kafka, they follow later: %r", error)
            return False
        return True


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers the app's topics in chunks, changelogs record by record; commits only what is done."""

    app: HardenedApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._next: dict[TP, int] = {}
        self._flights: dict[TP, dict[int, Flight]] = {}
        self._replay: dict[TP, int] = {}
        """As `_next`, of changelogs."""
        self._skipped: set[TP] = set()
        """Fetched, and perhaps not delivered."""
        self._holes: dict[TP, int] = {}
        self._astray: set[TP] = set()
        self._fresh: set[TP] = set()
        self._sought_at = 0.0
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # What is done -------------------------------------------------------------------------------------------------

    def _new_offset(self, tp: TP) -> int | None:
        """Never past what is in flight (faust #606), and over gaps of any size at once (upstream: one a second)."""
        self._acked.pop(tp, None)  # the streams still fill these two
        self._acked_index.pop(tp, None)
        return self.done(tp)

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> list[TP]:
        return [tp for tp in self._next if topics is None or tp in topics or tp.topic in topics]

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Upstream takes a refused commit for done, and would repeat it only when there is a newer offset."""
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done = bool(await super()._commit_offsets(offsets, start_new_transaction))
        if not done:
            self._committed_offset.update(before)
        return done

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust's, which calls wait_empty(); here only the named points of the fault tests."""
        await failpoint("revoke.start")
        await super().on_partitions_revoked(revoked)
        await failpoint("revoke.settled")

    async def wait_empty(self) -> None:
        """Finish what is in flight and commit it, for five seconds; then what is left is no longer current.

        Upstream forgets its acks before it commits them, so every rebalance replays them (faust #502), and it waits
        without limit while the whole group stands still. Brokers take this commit until the group has rejoined.
        """
        patience = time.monotonic() + REVOCATION
        while self._unacked_messages and time.monotonic() < patience:
            gc.collect()  # what was cleared from the streams' queues is no longer referenced
            self._clean_unacked_messages()
            if not self._unacked_messages:
                break
            await asyncio.sleep(0.02)
        await self.maybe_wait_for_commit_to_finish()  # a commit that began earlier lacks the last offsets
        await self.commit_and_end_transactions()
        for flights in self._flights.values():
            flights.clear()  # no longer current
        self._next.clear()
        self.app.abandon()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Nothing is delivered or committed until perform_seek() has said from where."""
        self._next, self._flights = {}, {}
        self._replay.clear()
        self._astray.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    # Where we start -----------------------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Bulk topics begin at the app's offsets (Postgres); the others at Kafka's, new ones at the earliest.

        The recovery of a table has the flow running, and what is delivered before it is resumed once more is lost:
        resuming clears the streams' queues, and the chunk in one would stay in flight for ever.
        """
        self.stop_flow()
        await failpoint("assign.before_seek")
        committed = {ensure_TP(tp): offset for tp, offset in (await self.seek_to_committed()).items()}
        bulk = {tp for tp in committed if tp.topic in self.app.bulk_topics}
        start = {tp: n for tp, n in committed.items() if tp not in bulk and not self._is_changelog_tp(tp)}
        unknown = [tp for tp, offset in start.items() if offset is None]
        if unknown:
            start.update({ensure_TP(tp): n for tp, n in (await self.earliest_offsets(*unknown)).items()})
        ours = await self.app.next_offsets(bulk)
        start.update(ours)
        if start:
            await self.seek_wait(start)
        self._committed_offset.update(committed)
        self._next, self._flights = dict(start), {}
        self._astray = bulk - set(ours)
        self._fresh = set(bulk)
        self._holes.clear()
        await failpoint("assign.after_seek")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """As upstream; what is fetched from now on and does not begin there is not believed."""
        self._replay.update({tp: offset for tp, offset in partitions.items() if self._is_changelog_tp(tp)})
        await super().seek_wait(partitions)

    async def _seek_again(self, starts: Mapping[TP, int]) -> None:
        mine = self.assignment()
        with suppress(IllegalStateError):  # revoked at this moment: the next generation seeks for itself
            await self.seek_wait({tp: offset for tp, offset in starts.items() if tp in mine})

    def reseek(self, tp: TP) -> None:
        """The owner of the offsets disagrees with us: forget this partition's deliveries, ask again, fetch again."""
        if self._next.pop(tp, None) is not None:
            self._flights.pop(tp, {}).clear()
            self._astray.add(tp)
            self._sought_at = 0.0

    async def _find_astray(self) -> None:
        """Partitions without an offset: Postgres was away, refused them, or the fence moved. Ask once a second."""
        if time.monotonic() - self._sought_at < 1.0:
            return
        self._sought_at = time.monotonic()
        for tp, offset in (await self.app.next_offsets(set(self._astray))).items():
            if tp in self._astray:
                await self._seek_again({tp: offset})
                self._next[tp] = offset
                self._astray.discard(tp)

    async def _fetch_skipped(self) -> None:
        """Seek what was fetched while the flow stood still, or before anybody had said from where.

        A fetch that began before a rebalance ends after it, with records of partitions that have just been sought:
        nobody wants them yet, and Kafka's client has moved on behind them. Where others follow, the hole is seen;
        where none do, the partition, or a table's recovery, would wait for ever.
        """
        starts = {tp: at for tp in self._skipped if (at := self._standing(tp)) is not None}
        self._skipped -= starts.keys()
        if starts:
            await self._seek_again(starts)

    def _standing(self, tp: TP) -> int | None:
        """The next offset to deliver; None while nobody has said so."""
        return (self._replay if self._is_changelog_tp(tp) else self._next).get(tp)

    # Delivery -----------------------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        """Upstream makes four asyncio tasks a record; this is one hand-over a chunk."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self._astray and self.flow_active:
                    await self._find_astray()
                if self._skipped and self.flow_active:
                    await self._fetch_skipped()
                records, active = await self._wait_next_records(1.0)
                await asyncio.sleep(0)
                if records:
                    await self._deliver_all(records, active)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.app.should_stop:
                raise

    async def _deliver_all(self, records: Mapping[TP, list[Any]], active: set[TP] | None) -> None:
        generation = self.app.consumer_generation_id

        def live() -> bool:  # whatever is dropped when this turns False comes again after a seek
            return bool(self.flow_active) and self.app.consumer_generation_id == generation and not self.should_stop

        self._skipped |= records.keys()
        singles: dict[TP, list[Any]] = {}
        for tp, fetched in records.items():
            if not live():
                return
            if not (active is None or tp in active or tp in self._buffered_partitions):
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            wanted = await self._wanted(tp, fetched)
            if tp.topic not in self.app.bulk_topics | self.app.table_topics:
                singles[tp] = wanted
                continue
            while wanted and live() and tp in self._next:
                await self._room(live)
                if not live():
                    return
                taken = self._take(wanted, self.app.chunk_limit(tp))
                wanted = wanted[len(taken):]
                await self._deliver(tp, taken, bulk=True)
            if not wanted and tp in self._next:
                self._skipped.discard(tp)
        await self._deliver_singles(singles, live)

    async def _wanted(self, tp: TP, fetched: list[Any]) -> list[Any]:
        """The records from where we stand on.

        A hole is believed only when a fetch from its very start shows it, and when Kafka's log does reach back so far:
        otherwise records were deleted before they were processed, and that is for a person to decide.
        """
        at = self._standing(tp)
        if at is None:
            return []
        wanted = [r for r in fetched if r.offset >= at]
        if not wanted or wanted[0].offset == at:
            return wanted
        if self._holes.get(tp) != at:
            self._holes[tp] = at
            await self._seek_again({tp: at})
            return []
        if tp.topic in self.app.bulk_topics and (await self.earliest_offsets(tp))[tp] > at:
            self.reseek(tp)
            return []
        return wanted

    async def _room(self, live: Any) -> None:
        """Bounded memory: at most `buffer_bytes` between Kafka and the handlers."""
        while live() and self.buffered() > self.app.buffer_bytes:
            await self.sleep(0.02)

    def buffered(self) -> int:
        """Bytes of values delivered and not acked."""
        return sum(f.size for flights in self._flights.values() for f in flights.values())

    @staticmethod
    def _take(records: list[Any], limit: int) -> list[Any]:
        size = 0
        for n, record in enumerate(records[:limit]):
            size += len(record.value or b"")
            if size > CHUNK_BYTES and n:
                return records[:n]
        return records[:limit]

    async def _deliver_singles(self, singles: dict[TP, list[Any]], live: Any) -> None:
        for n, (tp, record) in enumerate(self.scheduler.iterate(singles)):
            if not live():
                return
            if self._is_changelog_tp(tp):
                self._replay[tp] = record.offset + 1
                await self.callback(self._to_message(tp, record))
            elif tp in self._next:
                await self._deliver(tp, [record])
            if n % 100 == 99:
                await asyncio.sleep(0)
        if live():
            self._skipped -= {tp for tp in singles if self._standing(tp) is not None}

    async def _deliver(self, tp: TP, records: Sequence[Any], bulk: bool = False) -> None:
        start, last = self._next[tp], records[-1]
        flights = self._flights.setdefault(tp, {})
        flight = Flight(start, time.monotonic(), sum(len(r.value or b"") for r in records), flights)
        message = self._to_message(tp, last)
        if bulk:
            first = tp in self._fresh
            self._fresh.discard(tp)
            message.key = None
            message.value = Chunk(
                tp.topic, tp.partition, start, last.offset + 1, records, first, lambda: flight.current
            )
        message.__class__ = Delivery
        message.checksum = flight
        flights[start] = flight
        self._next[tp] = last.offset + 1
        await self.callback(message)

    def done(self, tp: TP) -> int | None:
        """All before this offset is delivered and acked; None when the partition is not ours or not sought yet."""
        return next(iter(self._flights.get(tp, ())), self._next.get(tp))

    def oldest_flight(self) -> float:
        """Seconds since the oldest delivery that is not acked; 0.0 when there is none."""
        now = time.monotonic()
        return max((now - f.since for fs in self._flights.values() for f in list(fs.values())[:1]), default=0.0)


class Producer(driver.Producer):  # type: ignore[misc]
    """Upstream is never idempotent outside transactions: a retried request can be written twice and out of order."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's driver with our consumer and producer."""

    Consumer = Consumer
    Producer = Producer


class HardenedApp(faust.App):  # type: ignore[misc]
    """A Faust app on the hardened transport. Subclasses say which topics come in chunks and where they begin."""

    bulk_topics: frozenset[str] = frozenset()
    table_topics: frozenset[str] = frozenset()
    """Inputs of tables: in chunks too, but they begin at Kafka's committed offsets."""
    buffer_bytes: int = 64 << 20

    def chunk_limit(self, tp: TP) -> int:
        """Records in the partition's next chunk, at most."""
        return 500

    async def next_offsets(self, tps: set[TP]) -> dict[TP, int]:
        """Where these bulk partitions begin. What is missing is delivered nothing, and asked for again."""
        return dict.fromkeys(tps, 0)

    def abandon(self) -> None:
        """Everything delivered so far is no longer current: roll it back."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)


def group_problem(app: HardenedApp) -> str | None:
    """Why this worker is of no use to its consumer group at this moment, or None."""
    thread = getattr(app.consumer, "_thread", None)
    consumer = getattr(thread, "_consumer", None)
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is None:
        return "not started"
    if coordinator._coordination_task.done():
        return "its coordination with the broker has ended"
    if coordinator._pending_exception is not None:
        return f"the coordinator refuses it: {coordinator._pending_exception!r}"
    if coordinator.generation < 0:
        return "not a member of its group"
    return "rebalancing" if app.rebalancing else None
