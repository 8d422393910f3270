"""Who reacts to what. `@on` fills the registry as handler and queue modules are imported; it changes no function."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from skillcore_streams.runtime.messages import Event, Job, Message

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Handler:
    """One reaction to one kind of message.

    `id` is `<group>.<name>`, the name in metrics, dead letters and traces. `batch`: the function takes the list of its
    events of a chunk, of any tenant, and answers them in a fixed number of statements. `hold`: after a failed call,
    later calls of the same key wait behind it instead of overtaking it. `transaction`: False for a job that talks
    to the world: it runs outside the transaction that finishes it.
    """

    id: str
    message: type[Message]
    function: Callable[..., Awaitable[Any]]
    batch: bool
    hold: bool
    transaction: bool = True

    @property
    def group(self) -> str:
        """The handler's group in catalog.json, which may differ from its event's topic."""
        return self.id.partition(".")[0]


class Registry:
    """Handlers by message class, in the order of registration."""

    def __init__(self) -> None:
        self._by_message: dict[type[Message], list[Handler]] = {}
        self._by_id: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Raises ValueError when the id is taken: two handlers of one name could not be told apart in a dead letter."""
        if handler.id in self._by_id:
            raise ValueError(f"two handlers are called {handler.id}; give one of them another name=")
        self._by_id[handler.id] = handler
        self._by_message.setdefault(handler.message, []).append(handler)

    def of(self, message: type[Message]) -> list[Handler]:
        """The handlers of a message class; none for an event that is only stored."""
        return self._by_message.get(message, [])

    def get(self, handler_id: str) -> Handler | None:
        """The handler of this id, or None when a deploy has removed it."""
        return self._by_id.get(handler_id)

    def events(self) -> list[Handler]:
        """Every handler of an event."""
        return [h for h in self._by_id.values() if issubclass(h.message, Event)]

    def jobs(self) -> list[Handler]:
        """Every handler of a job."""
        return [h for h in self._by_id.values() if issubclass(h.message, Job)]


REGISTRY = Registry()


def on(
    message: type[Message],
    *,
    name: str | None = None,
    on_failure: Literal["retry", "hold"] = "retry",
    transaction: bool = True,
) -> Callable[[F], F]:
    """Register a plain async function as a reaction to `message`.

    The signature says how it is called: `(event, ctx)` once an event, `(events: list[Event], ctx)` once a chunk.
    `name` is for names the users know; otherwise the function's name is the name. `transaction=False` is for jobs that
    call a provider or take long: no transaction stays open meanwhile. The function is returned unchanged.

    Raises TypeError at import when the first parameter is annotated with another message.
    """

    def register(function: F) -> F:
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
        if len(parameters) != 2 or parameters[1] != "ctx":
            raise TypeError(f"{function.__qualname__} must take (message, ctx), it takes ({', '.join(parameters)})")
        first: Any = hints.get(parameters[0])
        batch = typing.get_origin(first) is list
        expected = typing.get_args(first)[0] if batch else first
        if expected is not message:
            raise TypeError(
                f"{function.__qualname__} is registered for {message.__name__} but its first parameter is {expected!r}"
            )
        if not transaction and not issubclass(message, Job):
            raise TypeError(f"{function.__qualname__}: only a job runs outside a transaction; enqueue one")
        group = function.__module__.rpartition(".")[2].replace("_", "-")
        handler_id = f"{group}.{name or function.__name__}"
        REGISTRY.add(Handler(handler_id, message, function, batch, on_failure == "hold", transaction))
        return function

    return register
