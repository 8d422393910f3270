"""A message's life. Read this first.

Records arrive in chunks: up to 500 records of one partition, in order. A chunk is one Postgres transaction that can be
repeated without changing the result:

    fence      move the partition's next_offset from the chunk's start to its end, or find that another worker did
    admit      each event into the inbox once and into the event store; bad records are parked
    handlers   each gets its events, on this connection; what it publishes and enqueues is collected
    flush      outbox, jobs, failed calls, dead letters: rows of the same transaction
    commit     then the outbox is published, and to return is to ack

The first pass is optimistic. If anything fails, the transaction rolls back and a second pass finds out whose fault it
was: a savepoint a call, the failing handler's events bisected until the culprits stand alone. Their calls become jobs;
everything else commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from skillcore_streams import metrics
from skillcore_streams.runtime import dead_letters, failures, inbox, jobs, progress
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.core import Core
from skillcore_streams.runtime.envelope import Arrival, Parked, Record, decode
from skillcore_streams.runtime.errors import Fenced, Infrastructure, SavepointsSpent
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.flood import PROBE_EVERY, Flooded, Outcome
from skillcore_streams.runtime.jobs import FailedCall
from skillcore_streams.runtime.jobs import door as job_door
from skillcore_streams.runtime.messages import Event
from skillcore_streams.runtime.registry import Handler
from skillcore_streams.runtime.transaction import Tx

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Chunk:
    """All that Kafka holds of a partition in [start, end)."""

    topic: str
    partition: int
    start: int
    end: int
    records: Sequence[Record]
    first: bool = False
    """The first one since this worker was given the partition."""
    is_current: Callable[[], bool] = field(default=lambda: True)
    """False once the partition has been taken from us or sought elsewhere: what was delivered comes again."""

    @property
    def lane(self) -> str:
        """The outbox lane of what this partition's events bring about."""
        return f"{self.topic}-{self.partition}"

    def halves(self) -> Iterator[Chunk]:
        """Two smaller chunks that cover the same offsets."""
        middle = len(self.records) // 2
        yield self._part(self.start, self.records[:middle], self.records[middle].offset)
        yield self._part(self.records[middle].offset, self.records[middle:], self.end)

    def singles(self) -> Iterator[Chunk]:
        """One chunk a record."""
        start = self.start
        for n, record in enumerate(self.records):
            end = self.records[n + 1].offset if n + 1 < len(self.records) else self.end
            yield self._part(start, [record], end)
            start = end

    def _part(self, start: int, records: Sequence[Record], end: int) -> Chunk:
        return Chunk(self.topic, self.partition, start, end, records, is_current=self.is_current)


async def deliver(chunk: Chunk, core: Core) -> None:
    """Take one chunk to its handlers, with effect once. To return is to ack: nothing is raised but cancellation."""
    await failpoint("chunk.received")
    try:
        if chunk.first and await _claims(chunk, core) >= progress.CAREFUL_AFTER:
            await _deliver_carefully(chunk, core)
        else:
            await _settle(chunk, core, at_once)
    except Fenced:
        if chunk.is_current():
            # Postgres says where to go on, and whether a COMMIT whose answer was lost succeeded.
            core.reseek(chunk.topic, chunk.partition)
    except asyncio.CancelledError:
        if chunk.first:
            await _survived(chunk, core)
        raise


async def _settle(chunk: Chunk, core: Core, call: Call) -> None:
    """Repeat the chunk's transaction until it is committed, or until the partition has left us."""
    decoded = _decode(chunk, core) if call is not park else []
    while chunk.is_current():
        began = time.monotonic()
        try:
            tx = await _attempt(chunk, decoded, core, call)
        except Infrastructure as error:
            metrics.chunk_retries_total.labels("infrastructure").inc()
            log.info("%s [%d, %d) is repeated: %s", chunk.lane, chunk.start, chunk.end, error)
            await core.infrastructure_again()
        except Flooded as flood:
            metrics.chunk_retries_total.labels("flood").inc()
            await _wait_out(flood, chunk, core)
        except SavepointsSpent:
            metrics.chunk_retries_total.labels("savepoints").inc()
            for half in chunk.halves():
                await _settle(half, core, one_by_one)
            return
        except Fenced:
            raise
        except Exception as error:
            metrics.chunk_retries_total.labels("handler").inc()
            if call is at_once:
                call = one_by_one
            elif len(chunk.records) > 1:  # not a handler's fault, so a record's: find it
                for half in chunk.halves():
                    await _settle(half, core, one_by_one)
                return
            elif call is not park:
                log.error("%s offset %d cannot be processed: %s", chunk.lane, chunk.start, failures.describe(error))
                call = park
            else:
                log.critical("%s offset %d cannot be parked: %s", chunk.lane, chunk.start, failures.describe(error))
                await asyncio.sleep(PROBE_EVERY)
        else:
            _committed(chunk, core, tx, time.monotonic() - began)
            return


def _decode(chunk: Chunk, core: Core) -> Sequence[Arrival | Order | Parked]:
    """Before BEGIN: no connection waits for it, and a repeated transaction need not do it again."""
    now = core.clock()
    read = job_door.decode if chunk.topic in core.job_topics else decode
    return [
        read(record, chunk.topic, chunk.partition, now=now, legacy_tenant=core.legacy_tenant)
        for record in chunk.records
    ]


async def _attempt(chunk: Chunk, decoded: Sequence[Arrival | Order | Parked], core: Core, call: Call) -> Tx:
    """One transaction: fence, admit, handlers, flush, commit."""
    async with core.transaction() as db:
        tx = Tx(db, core.clock, chunk.lane)
        await progress.fence(db, chunk.topic, chunk.partition, chunk.start, chunk.end, core.worker_id)
        await failpoint("chunk.fenced")

        if call is park:
            decoded = [Parked(r, "record", "the runtime could not process it; see the log") for r in chunk.records]
        fresh = await _admit(chunk, decoded, tx, core.worker_id)
        await failpoint("chunk.admitted")

        for handler, events in _calls(core, fresh):
            if handler.hold:
                events = await _hold_back(tx, handler, events)
            began = time.monotonic()
            failed = len(tx.failed)
            await call(tx, handler, events)
            _observe(handler, events, time.monotonic() - began)
            tx.outcomes.append(_outcome(handler.id, len(events), tx.failed[failed:]))
            await failpoint("chunk.handler")

        core.flood.judge(tx.outcomes)
        await tx.flush(core.worker_id)
        await failpoint("chunk.flushed")
    await failpoint("chunk.committed")
    return tx


async def _admit(
    chunk: Chunk, decoded: Sequence[Arrival | Order | Parked], tx: Tx, worker: str
) -> list[Event]:
    """Let new events through once, insert jobs once, park what can't be read. Returns the new events in order."""
    arrivals = [d for d in decoded if isinstance(d, Arrival)]
    tx.parked = [d for d in decoded if isinstance(d, Parked)]
    fresh: list[Arrival] = []
    if arrivals:
        fresh, conflicts, repeats = await inbox.admit(tx.db, arrivals, chunk.topic, chunk.partition)
        tx.parked.extend(conflicts)
        tx.repeats = repeats
    if orders := [d for d in decoded if isinstance(d, Order)]:
        tx.taken = {o.queue for o in orders}
        tx.repeats = len(orders) - len(await jobs.insert(tx.db, orders, chunk.topic, chunk.partition))
    if tx.parked:
        await dead_letters.park(tx.db, tx.parked, chunk.topic, chunk.partition, worker)
    tx.outcomes.append(Outcome(f"records of {chunk.lane}", len(chunk.records), len(tx.parked)))
    tx.offsets = {a.event.meta.key: a.record.offset for a in fresh}
    tx.newest = fresh[-1].event.meta.time if fresh else None
    return [a.event for a in fresh]


def _calls(core: Core, fresh: Sequence[Event]) -> Iterator[tuple[Handler, list[Event]]]:
    """Each handler with its events, in the order of their offsets."""
    by_type: dict[type[Event], list[Event]] = {}
    for event in fresh:
        by_type.setdefault(type(event), []).append(event)
    for message, events in by_type.items():
        for handler in core.registry.of(message):
            yield handler, events


async def _hold_back(tx: Tx, handler: Handler, events: list[Event]) -> list[Event]:
    """Events whose key has a failed call of this handler wait behind it."""
    tx.held |= await jobs.held(tx.db, [jobs.hold_key(handler, e) for e in events])
    return _let_through(tx, handler, events)


def _let_through(tx: Tx, handler: Handler, events: list[Event]) -> list[Event]:
    through = []
    for event in events:
        if handler.hold and jobs.hold_key(handler, event) in tx.held:
            tx.fail(handler, event, None)
        else:
            through.append(event)
    return through


Call = Callable[[Tx, Handler, list[Event]], Awaitable[None]]


async def at_once(tx: Tx, handler: Handler, events: list[Event]) -> None:
    """First pass: no savepoints. Any error rolls the whole chunk back."""
    if events:
        await tx.call(handler, events)


async def one_by_one(tx: Tx, handler: Handler, events: list[Event]) -> None:
    """Second pass: a savepoint a call. A failing call is halved until the culprit stands alone; that becomes a job."""
    events = _let_through(tx, handler, events)
    if not events:
        return
    await failpoint("second_pass.savepoint")
    try:
        async with tx.savepoint():  # undoes its rows and what it collected
            await tx.call(handler, events)
    except (Infrastructure, SavepointsSpent):
        raise
    except Exception as error:
        if len(events) > 1:
            half = len(events) // 2
            await one_by_one(tx, handler, events[:half])
            await one_by_one(tx, handler, events[half:])
            return
        await failpoint("second_pass.failed")
        log.warning("%s failed and becomes a job: %s", handler.id, failures.describe(error))
        metrics.event_handler_errors_total.labels(metrics.GROUP, handler.id, type(error).__name__).inc()
        tx.fail(handler, events[0], error)
        if handler.hold:
            tx.held.add(jobs.hold_key(handler, events[0]))


async def defer(tx: Tx, handler: Handler, events: list[Event]) -> None:
    """The record has killed its worker: its calls become jobs untried, whose starts are counted before the work."""
    for event in events:
        tx.fail(handler, event, None)


async def park(tx: Tx, handler: Handler, events: list[Event]) -> None:
    """Never called: what is parked has no events. The name marks the attempt that only parks."""


async def _claims(chunk: Chunk, core: Core) -> int:
    """Record that this worker begins with the partition; how often that happened since its last commit."""
    claims = await core.attempt(
        lambda db: progress.claim(db, chunk.topic, chunk.partition, chunk.start, core.worker_id), chunk.is_current
    )
    await failpoint("chunk.claimed")
    return claims


async def _survived(chunk: Chunk, core: Core) -> None:
    """A revocation rolls us back; that is no death to be counted. If it can't be said, it is counted."""
    with suppress(Infrastructure, TimeoutError):
        async with asyncio.timeout(1.0), core.transaction() as db:
            await progress.survived(db, chunk.topic, chunk.partition, core.worker_id)


async def _deliver_carefully(chunk: Chunk, core: Core) -> None:
    """Three owners died here without a commit: one record at a time, the suspect noted before it is tried."""
    log.error("%s was claimed three times without progress: its records are tried one by one", chunk.lane)
    for single in chunk.singles():
        note = partial(progress.suspect, topic=chunk.topic, partition=chunk.partition, offset=single.start)
        deaths = await core.attempt(note, chunk.is_current) - 1
        await failpoint("suspect.noted")
        if deaths >= progress.PARK_AFTER:
            await _settle(single, core, park)
        elif deaths >= progress.DEFER_AFTER:
            log.error("%s offset %d killed %d workers: its calls become jobs", chunk.lane, single.start, deaths)
            await _settle(single, core, defer)
        else:
            await _settle(single, core, at_once)


async def _wait_out(flood: Flooded, chunk: Chunk, core: Core) -> None:
    """The flood guard holds the partition: one alert, then a probe every 30 s. Nothing is committed meanwhile."""
    gauge = metrics.flood_guard_paused.labels(chunk.topic, chunk.partition)
    if chunk.lane not in core.paused:
        log.critical("%s pauses. %s. Nothing is lost; it is tried again every %.0f s", chunk.lane, flood, PROBE_EVERY)
    core.paused[chunk.lane] = str(flood)
    gauge.set(1)
    try:
        await core.sleep(PROBE_EVERY)
    finally:
        gauge.set(0)


def _committed(chunk: Chunk, core: Core, tx: Tx, took: float) -> None:
    """What follows a commit: counting, publishing, waking. None of it can fail the chunk."""
    core.paused.pop(chunk.lane, None)
    core.flood.note(tx.outcomes)
    core.pace.note(chunk.lane, len(chunk.records), took)
    core.finished[chunk.topic, chunk.partition] = chunk.records[-1].timestamp
    metrics.chunk_seconds.labels(chunk.topic).observe(took)
    metrics.events_total.labels(chunk.topic).inc(len(tx.offsets))
    metrics.inbox_duplicates_total.labels(chunk.topic).inc(tx.repeats)
    metrics.records_parked_total.labels(chunk.topic).inc(len(tx.parked))
    if tx.newest is not None:
        age = (core.clock() - tx.newest).total_seconds()
        metrics.event_end_to_end_seconds.labels(chunk.topic).observe(max(0.0, age))
    if tx.effects.leaving:
        core.published(chunk.lane)
    if tx.failed or tx.effects.orders or tx.taken:
        core.enqueued([jobs.CALLS, *tx.taken, *{order.queue for order in tx.effects.orders}])


def _outcome(name: str, total: int, failed: Sequence[FailedCall]) -> Outcome:
    return Outcome(name, total, sum(f.error is not None and failures.counts_as_failure(f.error) for f in failed))


def _observe(handler: Handler, events: Sequence[Event], took: float) -> None:
    if events:
        labels = metrics.GROUP, handler.id, handler.message.__name__
        metrics.event_processing_duration_seconds.labels(*labels).observe(took)
