"""How handlers and jobs are tested: on a real Postgres, through the real runtime, without Kafka. Part of the product.

    async def test_an_unexcused_day_is_told_once(lab: HandlerLab) -> None:
        done = await lab.run(aggregate_attendance, [mark(category="absent_unexcused")])

        assert [event.date for event in done.published] == [MONDAY]
        assert await lab.value("select count(*) from attendance_day") == 1

What a `HandlerLab` can do, from one call to the whole system:

    run                 one handler's or job's function, with events or orders; what it raises reaches the test
    deliver             events to all their handlers, as a chunk of Kafka would bring them: inbox, second pass, failed
                        calls become jobs
    run_jobs            what was ordered, in order, due or not, until nothing that has a function is left
    deliver_published   what was published, back to its handlers
    settle              the last two, until nothing moves

An event needs an envelope: `given(event, tenant=..., at=..., id=...)` attaches one, and the lab does so for events that
have none. `lab.now` is the handlers' clock; it stands still until a test moves it.

Databases are cheap. `migrated()` makes one a session; `rolled_back()` lets each test see only its own rows, by never
committing them; `committed()` is for tests that need several connections, each on a copy. The fixtures to imitate are
in tests/handlers/conftest.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg

from skillcore_streams import events as vocabulary
from skillcore_streams import handlers, queues
from skillcore_streams.adapters.migrations import migrate
from skillcore_streams.adapters.postgres import SESSION, Connection, Postgres
from skillcore_streams.runtime import chunk, inbox, progress
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.core import Core
from skillcore_streams.runtime.envelope import Arrival, decode, encode
from skillcore_streams.runtime.executor import Executor
from skillcore_streams.runtime.messages import Event, Job, Message, Meta, derive_id
from skillcore_streams.runtime.registry import REGISTRY, Handler, Registry
from skillcore_streams.runtime.transaction import Tx

M = TypeVar("M", bound=Message)
Transaction = Callable[[], AbstractAsyncContextManager[Connection]]

NOW = datetime(2022, 6, 30, 12, tzinfo=UTC)
"""What the lab's clock says at first: the school year 2021-2022 lies behind it."""

TENANT = "grand-bend"

MAKE_DUE = """
    update job set run_at = run_at - interval '1000 days' where state = 'waiting' and run_at > clock_timestamp()"""
FINISHED = "select count(*) from job where state = 'completed'"
WITH_ERRORS = "select queue, kind, state, errors from job where errors <> '[]'"
PARKED = "select kind, reason from dead_letter where kind in ('record', 'conflict')"
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' limit 1"
LEAVING = """
    with leaving as (
        update outbox set published_at = clock_timestamp() where published_at is null
        returning id, topic, key, headers, value)
    select * from leaving order by id"""


def given(
    message: M, *, tenant: str = TENANT, at: datetime = NOW, id: str | None = None, source: str = "/tests"
) -> M:
    """A copy of the message with an envelope, as if somebody had sent it.

    Args:
        at: the event time.
        id: two events of one tenant, source and id are one event. Default: a new one.
    """
    name = id or str(uuid4())
    key = derive_id(tenant, source, name)
    copy = message.model_copy()
    copy.with_meta(Meta(tenant=tenant, id=name, source=source, time=at, key=key, correlation_id=str(key)))
    return copy


@dataclass(frozen=True, slots=True)
class Done:
    """What a call wanted to happen after its transaction: rows of outbox and job by now."""

    published: list[Event]
    orders: list[Order]

    @property
    def enqueued(self) -> list[Job]:
        """The ordered jobs, in order; `orders` has their delays, priorities and ids too."""
        return [order.job for order in self.orders]

    def orders_of(self, job: type[Job]) -> list[Order]:
        """The orders of one kind."""
        return [order for order in self.orders if type(order.job) is job]


@dataclass(frozen=True, slots=True)
class _Record:
    """An event as Kafka would hold it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    offset: int
    timestamp: int


class HandlerLab:
    """The runtime on one database, with a clock that stands still and no Kafka."""

    def __init__(self, transaction: Transaction, registry: Registry = REGISTRY) -> None:
        for vocabulary_or_reactions in (vocabulary, queues, handlers):
            vocabulary_or_reactions.load()
        self.now = NOW
        self.transaction = transaction
        self.registry = registry
        self.core = Core(
            transaction=transaction,
            postgres_back=_no_second_try,
            worker_id="lab",
            clock=lambda: self.now,
            registry=registry,
        )
        self._executor = Executor(transaction, registry, lambda: self.now, "lab", lambda lane: None)
        self._offsets: dict[str, int] = {}

    async def run(self, function: Callable[..., Awaitable[None]], messages: Message | Sequence[Message]) -> Done:
        """Call one handler as the runtime does: once with the list, or once a message, in a transaction of its own.

        The events enter the event store, but the inbox stops none of them: a call may come again. What the function
        raises is raised here, and leaves no row behind.
        """
        async with self.running(function, messages) as done:
            return done

    @asynccontextmanager
    async def running(
        self, function: Callable[..., Awaitable[None]], messages: Message | Sequence[Message]
    ) -> AsyncIterator[Done]:
        """The same, and commit only at the end of the block: what others do in it happens at the same time."""
        handler = self._handler(function)
        asked = [self._enveloped(m) for m in ([messages] if isinstance(messages, Message) else messages)]
        events = [m for m in asked if isinstance(m, Event)]
        async with self.transaction() as db:
            if events:
                await self._store(db, events)
            tx = Tx(db, lambda: self.now, "lab")
            await tx.call(handler, asked)
            await tx.flush("lab")
            yield Done([p.event for p in tx.effects.publications], list(tx.effects.orders))

    async def waits_for_a_lock(self) -> None:
        """Return when another session of this database waits for a lock. Raises TimeoutError when none does."""
        async with asyncio.timeout(5):
            while not await self.value(WAITING):
                pass

    async def deliver(self, events: Iterable[Event]) -> None:
        """Bring events to all their handlers, one chunk a topic; calls that fail become jobs.

        Raises AssertionError when the door refuses one: a test that sends what cannot be read is mistaken.
        """
        by_topic: dict[str, list[Event]] = {}
        for event in map(self._enveloped, events):
            by_topic.setdefault(event.__topic__, []).append(event)
        for topic, some in by_topic.items():
            start = await self._offset(topic)
            records = [self._record(event, start + n) for n, event in enumerate(some)]
            await self._deliver(topic, records)

    async def run_jobs(self) -> int:
        """Run ordered jobs and failed calls in the order in which they fall due, as if that time had come.

        Returns how many were completed. What answers NotYet or Snooze stays and is tried again as long as others get
        on. Raises AssertionError when a call failed for any other reason.
        """
        first = finished = await self.value(FINISHED)
        while True:
            async with self.transaction() as db:
                await db.execute(MAKE_DUE)
            while await self._executor.run_due():
                pass
            before, finished = finished, await self.value(FINISHED)
            if finished == before:
                break
        failures = [
            f"{row['queue']} {row['kind']} ({row['state']}): {entry['error']}"
            for row in await self.rows(WITH_ERRORS)
            for entry in json.loads(row["errors"])
            if not entry["error"].startswith(("NotYet", "Snooze"))
        ]
        assert not failures, "; ".join(failures)
        return int(finished - first)

    async def deliver_published(self) -> int:
        """Bring what was published, and what that makes others publish, to its handlers. Returns how much it was."""
        delivered = 0
        while rows := await self.rows(LEAVING):
            delivered += len(rows)
            by_topic: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                by_topic.setdefault(row["topic"], []).append(row)
            for topic, some in by_topic.items():
                start = await self._offset(topic)
                records = [
                    self._as_record(row["key"].encode(), row["value"], json.loads(row["headers"]), start + n)
                    for n, row in enumerate(some)
                ]
                await self._deliver(topic, records)
        return delivered

    async def settle(self) -> None:
        """Let jobs run and publications arrive until nothing moves."""
        while await self.run_jobs() + await self.deliver_published():
            pass

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """All rows of a query."""
        async with self.transaction() as db:
            return [dict(row) for row in await db.fetch(query, *args)]

    async def value(self, query: str, *args: Any) -> Any:
        """The first value of the first row."""
        async with self.transaction() as db:
            return await db.fetchval(query, *args)

    async def execute(self, statement: str, *args: Any) -> None:
        """Arrange rows that no handler makes."""
        async with self.transaction() as db:
            await db.execute(statement, *args)

    def _handler(self, function: Callable[..., Awaitable[None]]) -> Handler:
        everyone = [*self.registry.events(), *self.registry.jobs()]
        found = next((h for h in everyone if h.function is function), None)
        if found is None:
            raise LookupError(f"{function.__qualname__} is not registered. Did you forget @on above it?")
        return found

    def _enveloped(self, message: M) -> M:
        try:
            _ = message.meta
        except AttributeError:
            return given(message, at=self.now)
        return message

    async def _store(self, db: Connection, events: Sequence[Event]) -> None:
        arrivals = []
        for event in events:
            arrival = decode(self._record(event, 0), event.__topic__, 0, now=self.now)
            assert isinstance(arrival, Arrival), f"the door refuses {event.__type__}: {arrival.reason}"
            arrivals.append(arrival)
        _, conflicts, _ = await inbox.admit(db, arrivals, events[0].__topic__, 0)
        assert not conflicts, f"two events of one id: {conflicts[0].reason}"

    def _record(self, event: Event, offset: int) -> _Record:
        _, key, headers, value = encode(event)
        return self._as_record(key, value, headers, offset)

    def _as_record(self, key: bytes, value: bytes, headers: dict[str, str], offset: int) -> _Record:
        pairs = [(name, text.encode()) for name, text in headers.items()]
        return _Record(key, value, pairs, offset, int(self.now.timestamp() * 1000))

    async def _offset(self, topic: str) -> int:
        if topic not in self._offsets:
            async with self.transaction() as db:
                await progress.begin(db, [(topic, 0, 0, None)])
            self._offsets[topic] = 0
        return self._offsets[topic]

    async def _deliver(self, topic: str, records: Sequence[_Record]) -> None:
        start = records[0].offset
        self._offsets[topic] = end = start + len(records)
        await chunk.deliver(chunk.Chunk(topic, 0, start, end, records), self.core)
        parked = await self.rows(PARKED)
        assert not parked, f"the door refused {len(parked)} records, the first because: {parked[0]['reason']}"


async def _no_second_try() -> None:
    raise AssertionError("Postgres interrupted the chunk (deadlock, timeout, lost connection): see the log")


# Databases ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def migrated(dsn: str) -> AsyncIterator[str]:
    """A database of its own on this server, migrated, dropped at the end. Yields its DSN."""
    async with _database(dsn) as own:
        await migrate(own)
        yield own


@asynccontextmanager
async def rolled_back(dsn: str) -> AsyncIterator[HandlerLab]:
    """A lab on one connection: the runtime's transactions are savepoints of one that is rolled back at the end."""
    raw = await asyncpg.connect(dsn, server_settings=SESSION | {"idle_in_transaction_session_timeout": "0"})
    turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Connection]:
        async with turn:
            await raw.execute("savepoint lab")
            try:
                yield Connection(raw)
            except BaseException:
                await raw.execute("rollback to savepoint lab; release savepoint lab")
                raise
            await raw.execute("release savepoint lab")

    try:
        await raw.execute("begin")
        yield HandlerLab(transaction)
    finally:
        await raw.close()


@asynccontextmanager
async def committed(dsn: str) -> AsyncIterator[HandlerLab]:
    """A lab on a copy of a migrated database, with a pool and real commits; the copy is dropped at the end."""
    async with _database(dsn, template=dsn.rsplit("/", 1)[1]) as own:
        postgres = Postgres(own, name="lab")
        try:
            yield HandlerLab(postgres.transaction)
        finally:
            await postgres.close()


@asynccontextmanager
async def _database(dsn: str, template: str = "template1") -> AsyncIterator[str]:
    name = f"lab_{uuid4().hex[:12]}"
    maintenance = dsn.rsplit("/", 1)[0] + "/postgres"
    server = await asyncpg.connect(maintenance)
    try:
        await server.execute(f'create database {name} template "{template}"')
        await server.execute(f"alter database {name} set synchronous_commit = off")  # nobody will miss it
        try:
            yield dsn.rsplit("/", 1)[0] + "/" + name
        finally:
            await _drop(server, name)
    finally:
        await server.close()


async def _drop(server: Any, name: str) -> None:
    """Plain first: it asks autovacuum to leave, while `force` would need the right to end it and fails."""
    try:
        await server.execute(f"drop database {name}")
    except asyncpg.ObjectInUseError:  # a test left a connection open
        await server.execute(f"drop database {name} with (force)")
