"""What is said to providers of mail, SMS, push and paging, and what they may answer. Who they are, adapters know.

An answer is one of five. The last two are a difference worth keeping: after `Unavailable` the message has certainly not
been taken, so another try is safe; after `Ambiguous` nobody knows, and another try may reach a person twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

M = TypeVar("M", contravariant=True)
N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Sent:
    """Taken: the provider's id of it. That is a promise to try, not that a person has it."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not taken, and never will be: the address, the consent or the content. `code` is the provider's."""

    code: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """Not taken because we are too fast. Ask again after `retry_after`."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Not taken, for sure: no connection, an error that says so, our own credentials refused."""

    code: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Perhaps taken: no answer in time, the connection lost after the request, a 5xx that nobody explains."""

    code: str


Outcome = Sent | Rejected | Throttled | Unavailable | Ambiguous


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail to one person, as text, as HTML or as both."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str | None = field(repr=False)
    html: str | None = field(repr=False)
    delivery_id: UUID


@dataclass(frozen=True, slots=True)
class Text:
    """An SMS to one number, E.164."""

    to: str = field(repr=False)
    body: str = field(repr=False)
    delivery_id: UUID


@dataclass(frozen=True, slots=True)
class Push:
    """A push to one device. One with the same `collapse_key` takes the place of the one before."""

    token: str = field(repr=False)
    title: str = field(repr=False)
    body: str = field(repr=False)
    collapse_key: str
    urgent: bool
    delivery_id: UUID
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """An alert to whoever is on call. The same `dedup_key` is the same incident: repeats join it, `resolve` ends it."""

    dedup_key: str
    summary: str
    severity: Literal["info", "warning", "error", "critical"]
    source: str
    action: Literal["trigger", "acknowledge", "resolve"] = "trigger"
    details: Mapping[str, str] = field(default_factory=dict)


class Sender(Protocol[M]):
    """Says one message to one provider, in at most five seconds. Never raises for what the provider does."""

    async def send(self, message: M) -> Outcome: ...


class Permit(Protocol):
    """Leave to make one call. Whoever has it says how the call went; saying nothing is `released`."""

    def settle(self, outcome: Outcome) -> None: ...
    def release(self) -> None: ...


class Gate(Protocol):
    """Whether a provider is to be called at all: a circuit breaker."""

    def permit(self) -> Permit | None: ...

    def retry_in(self) -> timedelta:
        """How long until a permit may be had."""


@dataclass(frozen=True, slots=True)
class Line(Generic[N]):
    """A provider and the breaker in front of it."""

    name: str
    sender: Sender[N]
    gate: Gate


@dataclass(frozen=True, slots=True)
class Providers:
    """The lines of this worker. One that is not configured is None: its channel does not exist."""

    email: Line[Mail] | None = None
    sms: Line[Text] | None = None
    push: Line[Push] | None = None
    pages: Line[Page] | None = None

    def channels(self) -> frozenset[str]:
        """Channels by which people can be reached."""
        lines = {"email": self.email, "sms": self.sms, "push": self.push}
        return frozenset(name for name, line in lines.items() if line is not None)
