"""Events, jobs and queues: the vocabulary that contributors write.

An event says what happened (`GradeUpdated`), a job orders work (`DeliverNotification`). Both are pydantic models with
every field validated: strict when built in code, tolerant of unknown fields when read from a topic. What the runtime
needs to know of a class is kept under dunder names, so that a field called `topic` or `queue` shadows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha1
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

NAMESPACE = UUID("5f0d6a4e-2c1b-5b7e-9f59-6b1f6c1de7aa")
"""Fixed namespace of every deterministic id of the product."""

_NAMESPACE = NAMESPACE.bytes

CLOCK_SKEW = timedelta(days=1)
"""How far ahead of our clock an event time may lie. A later one would win every last-writer guard for good."""

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Times before this are a clock that was never set or a unit mixed up (seconds read as milliseconds)."""


def derive_id(*parts: object) -> UUID:
    """A deterministic id: uuid5 over the joined parts in the product's namespace."""
    digest = sha1(_NAMESPACE + "\x1f".join(map(str, parts)).encode(), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)  # what uuid.uuid5 does, without looking the namespace up each time


def _plausible(value: datetime, info: ValidationInfo) -> datetime:
    """Checked only at the door, where decode() passes the clock; code that builds events knows what it does."""
    now = (info.context or {}).get("now")
    if now is not None and not OLDEST <= value <= now + CLOCK_SKEW:
        raise ValueError("time lies before the year 2000 or more than a day ahead")
    return value


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("a decimal is written as a string, not as a binary float")
    return value


EventTime = Annotated[AwareDatetime, AfterValidator(_plausible)]
"""When something happened, RFC 3339 with offset; at the door between 2000 and a day ahead of our clock."""

Exact = Annotated[Decimal, Field(strict=False), BeforeValidator(_no_float)]
"""Points, grades, money: exact decimals, strings in JSON."""


class Meta(NamedTuple):
    """What the envelope says of a message, after the door has made one form of all inputs (CloudEvents 1.0).

    `key` is the inbox key, uuid5(tenant, source, id): the identity by which repeats are recognised.
    """

    tenant: str
    id: str
    source: str
    time: datetime
    key: UUID
    correlation_id: str
    causation_id: str | None = None
    actor_id: str | None = None
    extra: Mapping[str, str] = MappingProxyType({})


class Message(BaseModel):
    """Common ground of events and jobs."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    __slots__ = ("__meta__",)  # a slot, not a private attribute: it is read several times an event
    __meta__: Meta

    @property
    def meta(self) -> Meta:
        """Tenant, id, times and causes of this message.

        Raises AttributeError for what was built in code and is not published yet: it has no envelope.
        """
        return self.__meta__

    def with_meta(self, meta: Meta) -> None:
        """Attach the envelope. Called once, by the door or by whoever publishes."""
        object.__setattr__(self, "__meta__", meta)  # frozen is its value, not where it came from


class Event(Message):
    """Something that happened. Subclasses name their topic and the field whose value is the Kafka key.

    Class arguments, inherited by subclasses:
        topic: a topic declared in kafka/topics.yaml.
        key: name of a field; all events of one aggregate share topic and key, so they keep their order.
        version: raised only by a breaking change of the payload.
    """

    __topic__: ClassVar[str] = ""
    __key__: ClassVar[str] = ""
    __version__: ClassVar[int] = 1
    __type__: ClassVar[str] = ""

    def __init_subclass__(
        cls, *, topic: str | None = None, key: str | None = None, version: int | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__topic__ = topic or cls.__topic__
        cls.__key__ = key or cls.__key__
        cls.__version__ = version or cls.__version__

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if not cls.__key__ or cls.__key__ not in cls.model_fields:
            return  # a base class of a domain, without a payload of its own
        parts = cls.__topic__.split(".")
        if len(parts) != 4 or parts[0] != "skillcore":
            raise TypeError(f"{cls.__name__}: topic {cls.__topic__!r} is not skillcore.<domain>.events.v1")
        cls.__type__ = f"com.skillcore.{parts[1]}.{cls.__name__}.v{cls.__version__}"
        EVENT_TYPES.pop(cls.__mro__[1].__dict__.get("__type__", ""), None)  # what has subclasses is a base
        EVENT_TYPES[cls.__type__] = cls

    def partition_key(self) -> str:
        """The Kafka key, as the door demands it of incoming records too."""
        return str(getattr(self, self.__key__))


EVENT_TYPES: dict[str, type[Event]] = {}
"""ce_type -> class, filled as event modules are imported."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure. BullMQ's meaning: fixed, or `2^(n-1) * delay` after the n-th failure.

    `jitter` of 0.3 takes up to 30 % off at random. `longest` caps an exponential wait. `by_error`, called with the
    error and the number of failures, decides for errors it knows and answers None for the others.
    """

    delay: timedelta = timedelta(seconds=1)
    kind: Literal["exponential", "fixed"] = "exponential"
    jitter: float = 0.0
    longest: timedelta | None = None
    by_error: Callable[[BaseException, int], timedelta | None] | None = None

    def wait(self, failures: int, roll: float = 0.0, error: BaseException | None = None) -> timedelta:
        """The wait after failure number `failures` (1 is the first). `roll`: a random number in [0, 1)."""
        if self.by_error is not None and error is not None:
            said = self.by_error(error, failures)
            if said is not None:
                return said
        wait = self.delay if self.kind == "fixed" else self.delay * 2 ** (failures - 1)
        if self.longest is not None:
            wait = min(wait, self.longest)
        return wait * (1 - self.jitter * roll)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in each window of `per`, over all workers: BullMQ's limiter {max, duration}."""

    count: int
    per: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Queue:
    """Work that may wait. What is said here holds for each of its jobs that does not say otherwise.

    Args:
        name: as in its topic, `skillcore.jobs.<name>.v1`.
        concurrency: jobs running at once in one worker.
        max_running: the same over all workers; None: no limit.
        attempts: starts in all, the first included.
        backoff: waits between them. 1, 2, 4 and 8 s, as BullMQ really waits with the seed's options.
        timeout: how long one run may take. It is cancelled then, and that is a failure like any other.
        rate: starts in a window of time, over all workers.
        keep_completed: how long, and how many, finished jobs are kept to be looked at (both must hold).
        keep_failed: how long failed jobs are kept; open dead letters keep theirs.
        internal: of the runtime itself; it has no topic, and nobody adds jobs by hand.
    """

    name: str
    concurrency: int = 10
    attempts: int = 5
    backoff: Backoff = Backoff()
    timeout: timedelta = timedelta(seconds=30)
    max_running: int | None = None
    rate: Rate | None = None
    keep_completed: tuple[timedelta, int] = (timedelta(hours=24), 1000)
    keep_failed: timedelta = timedelta(days=7)
    internal: bool = False

    def __post_init__(self) -> None:
        QUEUES[self.name] = self

    @property
    def topic(self) -> str:
        """Where producers in any language write jobs of this queue."""
        return f"skillcore.jobs.{self.name}.v1"

    def translates(self, function: Translate) -> Translate:
        """Decorates the function that turns names and payloads of the old system into jobs of this queue."""
        TRANSLATORS[self.name] = function
        return function


QUEUES: dict[str, Queue] = {}


class Job(Message):
    """An order to do something later. Subclasses name their queue; `kind` is how the order is called on the wire."""

    __queue__: ClassVar[Queue]
    __kind__: ClassVar[str] = ""

    def __init_subclass__(cls, *, queue: Queue | None = None, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if queue is not None:
            cls.__queue__ = queue
        if hasattr(cls, "__queue__"):
            cls.__kind__ = kind or cls.__name__
            JOB_TYPES[cls.__queue__.name, cls.__kind__] = cls


Translate = Callable[[str, dict[str, Any]], Job | None]
"""(name, payload) of the old system -> a job, or None when the name means nothing."""

TRANSLATORS: dict[str, Translate] = {}
"""queue -> its translation, filled as queue modules are imported."""

JOB_TYPES: dict[tuple[str, str], type[Job]] = {}
"""(queue, kind) -> class, filled as queue modules are imported."""
