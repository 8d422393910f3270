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
    deliver_published   what was published, back to its handlers (inputs of live tables stay in the outbox)
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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import asyncpg

from skillcore_streams import events as vocabulary
from skillcore_streams import handlers, queues
from skillcore_streams.adapters.breaker import Breaker
from skillcore_streams.adapters.migrations import migrate
from skillcore_streams.adapters.postgres import SESSION, Connection, Postgres
from skillcore_streams.notifications.rendering import Renderer
from skillcore_streams.rendering import render
from skillcore_streams.runtime import chunk, inbox, progress
from skillcore_streams.runtime.context import Input, Order, S
from skillcore_streams.runtime.core import Core
from skillcore_streams.runtime.documents import Document, DocumentRenderer, Format, Rendered
from skillcore_streams.runtime.envelope import Arrival, decode, encode
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.messages import Event, Job, Message, Meta, derive_id
from skillcore_streams.runtime.objects import Missing, ObjectStore, Stored, StoreError, Taken, digest
from skillcore_streams.runtime.providers import Line, Mail, Outcome, Page, Providers, Push, Sent, Text
from skillcore_streams.runtime.registry import REGISTRY, Handler, Registry
from skillcore_streams.runtime.transaction import Tx

M = TypeVar("M", bound=Message)
P = TypeVar("P")
Transaction = Callable[[], AbstractAsyncContextManager[Connection]]

NOW = datetime(2022, 6, 30, 12, tzinfo=UTC)
"""What the lab's clock says at first: the school year 2021-2022 lies behind it."""

TENANT = "grand-bend"

MAKE_DUE = """
    update later set run_at = run_at - interval '1000 days' where run_at > clock_timestamp()"""
FINISHED = "select coalesce(sum(cardinality(ids)), 0) from finished"
WITH_ERRORS = """
    select queue, kind, n, error from attempt a join job j on j.id = a.job_id
     where error not like 'NotYet%' and error not like 'Snooze%'"""
PARKED = "select kind, reason from dead_letter where kind in ('record', 'conflict')"
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' limit 1"
LEAVING = """
    with leaving as (
        update outbox set published_at = clock_timestamp()
         where published_at is null and topic not like 'skillcore.internal.%' and topic not like '%.dlq'
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
    inputs: list[Input]
    """What live tables were told."""

    @property
    def enqueued(self) -> list[Job]:
        """The ordered jobs, in order; `orders` has their delays, priorities and ids too."""
        return [order.job for order in self.orders if order.job is not None]

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


@dataclass(slots=True)
class FakeSender(Generic[P]):
    """A provider. `answers` are given in order, an exception is raised; then everything is taken."""

    said: list[P] = field(default_factory=list)
    answers: list[Outcome | BaseException] = field(default_factory=list)

    async def send(self, message: P) -> Outcome:
        """Notes the message."""
        self.said.append(message)
        answer = self.answers.pop(0) if self.answers else Sent(f"id-{len(self.said)}")
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass(frozen=True, slots=True)
class FakeProviders:
    """One sender a channel, with a real breaker in front of each that `seconds` is the clock of."""

    mail: FakeSender[Mail] = field(default_factory=FakeSender)
    texts: FakeSender[Text] = field(default_factory=FakeSender)
    pushes: FakeSender[Push] = field(default_factory=FakeSender)
    pages: FakeSender[Page] = field(default_factory=FakeSender)
    seconds: list[float] = field(default_factory=lambda: [0.0])

    def connect(self) -> Providers:
        """As a job gets them."""
        def gate(name: str) -> Breaker:
            return Breaker(name, clock=lambda: self.seconds[0])

        return Providers(
            Line("sendgrid", self.mail, gate("sendgrid")), Line("twilio", self.texts, gate("twilio")),
            Line("fcm", self.pushes, gate("fcm")), Line("pagerduty", self.pages, gate("pagerduty")),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Run:
    """A start of a job that a test calls by hand."""

    job_id: UUID
    attempt: int
    lab: HandlerLab

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self.lab.transaction()

    def progress(self, value: object) -> None:
        self.lab.notes.append(str(value))

    def note(self, line: str) -> None:
        self.lab.notes.append(line)

    def service(self, kind: type[S]) -> S:
        found = self.lab.services[kind]
        assert isinstance(found, kind)
        return found


class HandlerLab:
    """The runtime on one database, with a clock that stands still and no Kafka.

    `providers` take what is sent to people; `services` is all that jobs get by `ctx.service`; `attempt` which start of
    a job `run` plays; `notes` what they noted.
    """

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
        self.providers = FakeProviders()
        self.services: dict[type, object] = {
            Providers: self.providers.connect(), Renderer: Renderer("https://app.example"), ObjectStore: MemoryStore(),
            DocumentRenderer: RenderHere(),
        }
        self.attempt = 1
        self.notes: list[str] = []
        self._runner = Runner(transaction, registry, lambda: self.now, "lab", services=self.services)
        self._offsets: dict[str, int] = {}

    def leave(self, *queues: str) -> None:
        """Jobs of these queues stay where they are: a test of something else need not send its messages."""
        others = [name for name in self._runner.queues if name not in queues]
        self._runner = Runner(
            self.transaction, self.registry, lambda: self.now, "lab", services=self.services, queues=others
        )

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
        run = _Run(asked[0].meta.key, self.attempt, self) if isinstance(asked[0], Job) else None
        if not handler.transaction:
            tx = Tx(None, lambda: self.now, "lab")
            await tx.call(handler, asked, limit=30.0, run=run)
        async with self.transaction() as db:
            if events:
                await self._store(db, events)
            if handler.transaction:
                tx = Tx(db, lambda: self.now, "lab")
                await tx.call(handler, asked, run=run)
            tx.db = db
            await tx.flush("lab")
            yield Done([p.event for p in tx.effects.publications], list(tx.effects.orders), list(tx.effects.inputs))

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
            while await self._runner.run_due():
                pass
            before, finished = finished, await self.value(FINISHED)
            if finished == before:
                break
        failures = [
            f"{row['queue']} {row['kind']}, attempt {row['n']}: {row['error']}" for row in await self.rows(WITH_ERRORS)
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


class RenderHere(DocumentRenderer):
    """Rendering in this process: what it makes is the real thing."""

    async def render(self, document: Document, format: Format) -> Rendered:
        """See DocumentRenderer."""
        return render(document, format)


class MemoryStore(ObjectStore):
    """An object store in memory. `failing` makes the next calls fail, as a store that is away does."""

    def __init__(self, bucket: str = "lab") -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.failing = 0

    async def put(self, key: str, body: bytes, media_type: str) -> Stored:
        """See ObjectStore."""
        self._answer()
        if self.objects.setdefault(key, body) != body:
            raise Taken("the key is taken")
        return Stored(key, len(body), digest(body))

    async def head(self, key: str) -> Stored | None:
        """See ObjectStore."""
        self._answer()
        body = self.objects.get(key)
        return None if body is None else Stored(key, len(body), digest(body))

    async def get(self, key: str) -> bytes:
        """See ObjectStore."""
        self._answer()
        if key not in self.objects:
            raise Missing("no such object")
        return self.objects[key]

    async def keys(self, prefix: str) -> Sequence[str]:
        """See ObjectStore."""
        self._answer()
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def link(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """See ObjectStore."""
        return f"memory://{self.bucket}/{key}"

    def _answer(self) -> None:
        if self.failing > 0:
            self.failing -= 1
            raise StoreError("the store is away")


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
            await raw.execute("release savepoint lab; savepoint lab")  # the end of the one before, in one round trip
            try:
                yield Connection(raw)
            except BaseException:
                await raw.execute("rollback to savepoint lab")
                raise

    try:
        await raw.execute("begin; savepoint lab")
        yield HandlerLab(transaction)
    finally:
        await raw.close()


@asynccontextmanager
async def undone(lab: HandlerLab) -> AsyncIterator[HandlerLab]:
    """What happens in this block to a lab that is `rolled_back` is undone at its end; what was before it stays."""
    async with lab.transaction() as db:
        await db.execute("savepoint before; savepoint lab")
    try:
        yield lab
    finally:
        async with lab.transaction() as db:
            await db.execute("rollback to savepoint before")


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
