"""What a handler may touch: one transaction, the clock, a log, and two ways to cause something else.

`publish` and `enqueue` only collect. The rows are written once per chunk, before COMMIT, so a call that is rolled back
leaves nothing behind. Ids follow from the cause, so a repeated call says the same thing again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from skillcore_streams.runtime.envelope import MAX_VALUE, encode
from skillcore_streams.runtime.errors import PermanentError
from skillcore_streams.runtime.messages import Event, Job, Message, Meta, derive_id
from skillcore_streams.runtime.registry import Handler


class Database(Protocol):
    """The open transaction, as handlers see it. `$1`-style parameters; rows are mappings."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def execute(self, query: str, *args: Any) -> str: ...


Clock = Callable[[], datetime]
"""Returns the time, aware, UTC. Injected everywhere; tests hold it still."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An event to be written to its topic, in order per lane; `record` is its topic, key, headers and value."""

    event: Event
    lane: str
    record: tuple[str, bytes, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be inserted. `coalesce`: waiting jobs of the same key are done by one run."""

    job: Job
    id: UUID
    meta: Meta
    delay: timedelta
    priority: int
    coalesce: str | None


@dataclass(slots=True)
class Effects:
    """What the calls of a transaction want to happen after it commits."""

    publications: list[Publication]
    orders: list[Order]

    @classmethod
    def none(cls) -> Effects:
        return cls([], [])

    def mark(self) -> tuple[int, int]:
        """Where we are, to come back to when a call is rolled back."""
        return len(self.publications), len(self.orders)

    def undo(self, mark: tuple[int, int]) -> None:
        """Forget what was collected since `mark`."""
        del self.publications[mark[0] :]
        del self.orders[mark[1] :]


class Context:
    """Given to every handler call."""

    def __init__(
        self,
        handler: Handler,
        messages: Sequence[Message],
        *,
        db: Database,
        clock: Clock,
        effects: Effects,
        lane: str,
    ) -> None:
        self.db = db
        self.now = clock()
        self.log = logging.LoggerAdapter(logging.getLogger(f"skillcore.{handler.id}"), {"handler": handler.id})
        self._handler = handler
        self._messages = messages
        self._effects = effects
        self._lane = lane
        self._caused: dict[UUID, int] = {}

    @property
    def tenant(self) -> str:
        """The tenant of the message. A list of events may be of many tenants: ask each event's `meta` instead."""
        return self._cause(None).tenant

    @property
    def meta(self) -> Meta:
        """The envelope of the one message of this call."""
        return self._cause(None)

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
    ) -> None:
        """Order work. It becomes a row of this transaction.

        Args:
            delay: not before this long after now.
            debounce: like `delay`, and jobs of the same kind, tenant and content that wait at that time are one run.
            unique: name of the occasion ("welcome:<user id>"); a second order of that name is dropped.
            priority: 0 first, then 1 (urgent) to 2,097,151; first in, first out among equals. BullMQ's meaning.
        """
        origin = self._cause(cause)
        n = self._count(origin)
        queue, kind = job.__queue__.name, job.__kind__
        occasion = (origin.tenant, queue, kind, unique) if unique else (origin.key, self._handler.id, n)
        self._effects.orders.append(
            Order(
                job=job,
                id=derive_id(*occasion),
                meta=origin,
                delay=delay if debounce is None else debounce,
                priority=priority,
                coalesce=None if debounce is None else f"{origin.tenant}/{kind}/{job.model_dump_json()}",
            )
        )

    def _cause(self, cause: Message | None) -> Meta:
        if cause is not None:
            return cause.meta
        if len(self._messages) == 1 and not self._handler.batch:
            return self._messages[0].meta
        raise TypeError("a handler of a list must name the event that is the cause: cause=event")

    def _count(self, origin: Meta) -> int:
        n = self._caused[origin.key] = self._caused.get(origin.key, 0) + 1
        return n
