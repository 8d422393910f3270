"""schemas/handlers.md: who reacts to what. The catalogue says what shall be, the registry what is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skillcore_streams.runtime.messages import JOB_TYPES
from skillcore_streams.runtime.registry import REGISTRY


def page(catalog: Mapping[str, Any]) -> str:
    """The whole page, from schemas/catalog.json and what `@on` has registered."""
    return "\n".join(_lines(catalog)) + "\n"


def _lines(catalog: Mapping[str, Any]) -> Iterator[str]:
    handlers = catalog["handlers"]
    built = sum(REGISTRY.get(h["id"]) is not None for h in handlers)
    yield "# Who reacts to what"
    yield ""
    yield "Written by `skillcore schemas build` from catalog.json and the code. Do not edit."
    yield ""
    yield f"{built} of {len(handlers)} handlers are built; events of the others are stored and wait (**not yet**)."
    for topic in sorted({event["topic"] for event in catalog["events"]}):
        yield ""
        yield f"## {topic}"
        yield ""
        yield "| event | key | handler | effect | then |"
        yield "|---|---|---|---|---|"
        for event in catalog["events"]:
            if event["topic"] == topic:
                yield from _rows(event, [h for h in handlers if h["event"] == event["type"]])
    yield ""
    yield "## Jobs"
    yield ""
    yield "| queue | kind | class | function |"
    yield "|---|---|---|---|"
    for (queue, kind), cls in sorted(JOB_TYPES.items()):
        if cls.__module__.startswith("skillcore_streams.queues."):
            functions = ", ".join(f"`{handler.id}`" for handler in REGISTRY.of(cls))
            yield f"| {queue} | `{kind}` | {cls.__name__} | {functions or '**not yet**'} |"


def _rows(event: Mapping[str, Any], handlers: list[Mapping[str, Any]]) -> Iterator[str]:
    name = f"[{event['type']}](events/{event['type']}.v1.json)"
    if not handlers:
        yield f"| {name} | `{event['key']}` | none: it is stored | | |"
    for handler in handlers:
        state = "" if REGISTRY.get(handler["id"]) else " **not yet**"
        effect, then = _cell(handler["effect"]), _cell(handler["downstream"])
        yield f"| {name} | `{event['key']}` | `{handler['id']}`{state} | {effect} | {then} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
