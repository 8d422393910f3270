"""What a handler may touch: one transaction, the clock, a log, and two ways to cause something else.

`publish` and `enqueue` only collect. The rows are written once per chunk, before COMMIT, so a call that is rolled back
leaves nothing behind. Ids follow from the cause, so a repeated call says the same thing again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from skillcore_streams.runtime.envelope import MAX_VALUE, encode
from skillcore_streams.runtime.errors import PermanentError
from skillcore_streams.runtime.messages import Event, Job, Message, Meta, derive_id
from skillcore_streams.runtime.registry import Handler

S = TypeVar("S")

LOWEST_PRIORITY = 2_097_151
MOST_ATTEMPTS = 1000
LONGEST_DELAY = timedelta(days=5 * 366)
LONGEST_KEY = 2048
"""Bytes of a deduplication key: it is indexed."""


class Database(Protocol):
    """The open transaction, as handlers see it. `$1`-style parameters; rows are mappings."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def execute(self, query: str, *args: Any) -> str: ...


Clock = Callable[[], datetime]
"""Returns the time, aware, UTC. Injected everywhere; tests hold it still."""


class Run(Protocol):
    """One start of a job, as its function may know it."""

    @property
    def job_id(self) -> UUID: ...
    @property
    def attempt(self) -> int:
        """Which start this is, 1 being the first."""

    def transaction(self) -> AbstractAsyncContextManager[Database]: ...
    def progress(self, value: object) -> None: ...
    def note(self, line: str) -> None: ...
    def service(self, kind: type[S]) -> S: ...


@dataclass(frozen=True, slots=True)
class Publication:
    """An event to be written to its topic, in order per lane; `record` is its topic, key, headers and value."""

    event: Event
    lane: str
    record: tuple[str, bytes, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """BullMQ's deduplication: further jobs of one key are dropped.

    Without `ttl` until the first has ended (simple), with it for that long (throttle). `extend` begins the time anew
    with each repeat, `replace` lets the newest job take the place of one that still waits for its time: both with a
    delay is debounce.
    """

    key: str
    ttl: timedelta | None = None
    extend: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be inserted.

    `chosen`: somebody named the id, so the same order may come again. `coalesce`: waiting jobs of the same key are done
    by one run. `in_line`: False for a row that nobody is to claim (dead at once, or held behind another).
    """

    queue: str
    kind: str
    payload: str
    id: UUID
    meta: Meta
    attempts: int
    job: Job | None = None
    chosen: bool = False
    delay: timedelta = timedelta(0)
    priority: int = 0
    coalesce: str | None = None
    options: dict[str, Any] | None = None
    expires_at: datetime | None = None
    deduplicate: Deduplicate | None = None
    hold: str | None = None
    seq: int | None = None
    spent: int = 0
    in_line: bool = True
    offset: int | None = None

    @property
    def cause(self) -> UUID | None:
        """The event that brought it about."""
        return self.meta.key


@dataclass(frozen=True, slots=True)
class Input:
    """What a live table must hear, in order per lane; `record` is its topic, key, headers and value."""

    lane: str
    record: tuple[str, bytes, dict[str, str], bytes]


@dataclass(slots=True)
class Effects:
    """What the calls of a transaction want to happen after it commits."""

    publications: list[Publication]
    orders: list[Order]
    inputs: list[Input]

    @classmethod
    def none(cls) -> Effects:
        return cls([], [], [])

    @property
    def leaving(self) -> list[Publication | Input]:
        """All that goes to Kafka, by the outbox."""
        return [*self.publications, *self.inputs]

    def mark(self) -> tuple[int, int, int]:
        """Where we are, to come back to when a call is rolled back."""
        return len(self.publications), len(self.orders), len(self.inputs)

    def undo(self, mark: tuple[int, int, int]) -> None:
        """Forget what was collected since `mark`."""
        del self.publications[mark[0] :]
        del self.orders[mark[1] :]
        del self.inputs[mark[2] :]


class Context:
    """Given to every handler call."""

    def __init__(
        self,
        handler: Handler,
        messages: Sequence[Message],
        *,
        db: Database | None,
        clock: Clock,
        effects: Effects,
        lane: str,
        run: Run | None = None,
    ) -> None:
        self._db = db
        self.run = run
        self.now = clock()
        self._handler = handler
        self._messages = messages
        self._effects = effects
        self._lane = lane
        self._caused: dict[UUID, int] = {}

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Says which handler it was. No student's data in it."""
        return logging.LoggerAdapter(logging.getLogger(f"skillcore.{self._handler.id}"), {"handler": self._handler.id})

    @property
    def db(self) -> Database:
        """The transaction. A job outside a transaction has none: it opens short ones with `ctx.transaction()`."""
        if self._db is None:
            raise RuntimeError("this job runs outside a transaction: async with ctx.transaction() as db")
        return self._db

    def transaction(self) -> AbstractAsyncContextManager[Database]:
        """A short transaction of its own, for jobs that run outside one. Nothing that takes long belongs inside."""
        if self.run is None:
            raise RuntimeError("only a job with transaction=False opens transactions")
        return self.run.transaction()

    @property
    def tenant(self) -> str:
        """The tenant of the message. A list of events may be of many tenants: ask each event's `meta` instead."""
        return self._cause(None).tenant

    @property
    def meta(self) -> Meta:
        """The envelope of the one message of this call."""
        return self._cause(None)

    def service(self, kind: type[S]) -> S:
        """What this process has of the world outside, by its class: `ctx.service(Providers)`. For jobs only.

        Raises LookupError when the process was started without it.
        """
        if self.run is None:
            raise RuntimeError("only a job talks to the world outside")
        return self.run.service(kind)

    def publish(self, event: Event, *, cause: Message | None = None, id: UUID | None = None) -> None:
        """Say that something happened. It leaves by the outbox after COMMIT, first appearances in order.

        Raises PermanentError for an event too large for its topic.

        Args:
            cause: which event of the list brought this about; tenant, correlation and causation ids come from it.
                Not needed in the single form.
            id: a natural id (one StudentAbsent a student and day); otherwise uuid5(cause, handler, n).
        """
        origin = self._cause(cause)
        source = f"/skillcore/streams/{self._handler.id}"
        event_id = str(id or derive_id(origin.key, self._handler.id, self._count(origin)))
        event.with_meta(
            origin._replace(
                id=event_id,
                source=source,
                time=self.now,
                key=derive_id(origin.tenant, source, event_id),
                causation_id=origin.id,
                extra={k: v for k, v in origin.extra.items() if k == "traceparent"},
            )
        )
        record = encode(event)
        if len(record[3]) > MAX_VALUE:
            raise PermanentError(f"{type(event).__name__} has {len(record[3])} bytes, a topic takes {MAX_VALUE}")
        self._effects.publications.append(Publication(event, self._lane, record))

    def enqueue(
        self,
        job: Job,
        *,
        cause: Message | None = None,
        delay: timedelta = timedelta(0),
        debounce: timedelta | None = None,
        unique: str | None = None,
        priority: int = 0,
        attempts: int | None = None,
        expires: datetime | None = None,
        deduplicate: Deduplicate | None = None,
    ) -> None:
        """Order work. It becomes a row of this transaction.

        Raises ValueError for an option that means nothing (BullMQ's limits and ours), PermanentError for a payload too
        large: here, where the call can be blamed, rather than when the rows are written.

        Args:
            delay: not before this long after now.
            debounce: like `delay`, and jobs of the same kind, tenant and content that wait at that time are one run.
            unique: name of the occasion ("welcome:<user id>"); a second order of that name is dropped.
            priority: 0 first, then 1 (urgent) to 2,097,151; first in, first out among equals. BullMQ's meaning.
            attempts: starts in all; default: the queue's.
            expires: not to be started after this moment; a notice about a changed pick-up is worthless next day.
            deduplicate: BullMQ's simple, throttle and debounce modes, by a key of your own.
        """
        origin = self._cause(cause)
        n = self._count(origin)
        queue, kind = job.__queue__, job.__kind__
        wait = delay if debounce is None else debounce
        tries = queue.attempts if attempts is None else attempts
        if not (0 <= priority <= LOWEST_PRIORITY and 1 <= tries <= MOST_ATTEMPTS and wait <= LONGEST_DELAY):
            raise ValueError(f"{kind}: priority, attempts or delay out of range")
        if deduplicate is not None and not 0 < len(deduplicate.key.encode()) <= LONGEST_KEY:
            raise ValueError(f"{kind}: a deduplication key has 1 to {LONGEST_KEY} bytes")
        occasion = (origin.tenant, queue.name, kind, unique) if unique else (origin.key, self._handler.id, n)
        payload = job.model_dump_json()
        if len(payload.encode()) > MAX_VALUE:
            raise PermanentError(f"{kind} has {len(payload.encode())} bytes, a job takes {MAX_VALUE}")
        self._effects.orders.append(
            Order(
                queue=queue.name,
                kind=kind,
                payload=payload,
                job=job,
                id=derive_id(*occasion),
                chosen=unique is not None,
                meta=origin,
                delay=wait,
                priority=priority,
                attempts=tries,
                coalesce=None if debounce is None else _same_content(origin.tenant, kind, payload),
                expires_at=expires,
                deduplicate=deduplicate,
            )
        )

    def progress(self, value: object) -> None:
        """How far this job has come: any JSON, shown to operators. Nothing for calls of events."""
        if self.run is not None:
            self.run.progress(value)

    def note(self, line: str) -> None:
        """A line of the job's own log, shown to operators: no student's data in it."""
        if self.run is not None:
            self.run.note(line)

    def feed(self, topic: str, key: str, value: str) -> None:
        """Tell a live table what has changed. Its inputs are no events: nobody else reads them, repeats do no harm.

        Raises PermanentError for an input too large for its topic.

        Args:
            topic: an internal topic of kafka/topics.yaml.
            key: what lives in one partition of the table, beginning with the tenant ("grand-bend/<school id>").
            value: JSON, as the table's own module describes it.
        """
        record = topic, key.encode(), dict[str, str](), value.encode()
        if len(record[3]) > MAX_VALUE:
            raise PermanentError(f"an input of {topic} has {len(record[3])} bytes, a topic takes {MAX_VALUE}")
        self._effects.inputs.append(Input(self._lane, record))

    def _cause(self, cause: Message | None) -> Meta:
        if cause is not None:
            return cause.meta
        if len(self._messages) == 1 and not self._handler.batch:
            return self._messages[0].meta
        raise TypeError("a handler of a list must name the event that is the cause: cause=event")

    def _count(self, origin: Meta) -> int:
        n = self._caused[origin.key] = self._caused.get(origin.key, 0) + 1
        return n


def _same_content(tenant: str, kind: str, payload: str) -> str:
    """What debounced jobs of one content share. It is indexed, so a long payload is named by its digest."""
    return f"{tenant}/{kind}/{payload if len(payload) <= 500 else derive_id(payload)}"
