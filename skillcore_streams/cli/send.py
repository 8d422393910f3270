"""`skillcore send`: one event, written to its topic by hand."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import click
from pydantic import ValidationError

from skillcore_streams import config, events
from skillcore_streams.adapters.producing import Outgoing, Producer, outgoing
from skillcore_streams.cli.output import json_option
from skillcore_streams.runtime.messages import EVENT_TYPES, Event, Meta, derive_id


@click.command("send")
@click.argument("type_name", metavar="TYPE")
@click.option("--tenant", required=True, help="whose event this is")
@click.option("--data", required=True, metavar="JSON|@FILE", help="the payload, or a file that holds it")
@click.option("--id", "event_id", help="ce_id; the same id from the same source is the same event; default: a new one")
@click.option("--source", default="/skillcore/cli", show_default=True, help="ce_source")
@json_option
def send(type_name: str, tenant: str, data: str, event_id: str | None, source: str, as_json: bool) -> None:
    """Write one event of TYPE (AttendanceMarked, or com.skillcore.attendance.AttendanceMarked.v1) to its topic."""
    event = build(_class(type_name), _payload(data), tenant=tenant, event_id=event_id or str(uuid4()), source=source)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it has to say, Undelivered says in a sentence
    asyncio.run(_send(config.load().kafka, outgoing(event)))
    if as_json:
        click.echo(json.dumps({"id": event.meta.id, "key": str(event.meta.key), "topic": event.__topic__}))
    else:
        click.echo(f"{type(event).__name__} {event.meta.id} is in {event.__topic__}.")


def build(cls: type[Event], payload: str, *, tenant: str, event_id: str, source: str) -> Event:
    """The event with its envelope. Raises UsageError, naming field and fault but no value of the payload."""
    now = datetime.now(UTC)
    try:
        event = cls.model_validate_json(payload, context={"now": now})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        lines = "".join(f"\n  {'.'.join(map(str, f['loc'])) or 'data'}: {f['msg']}" for f in faults)
        fields = ", ".join(cls.model_fields)
        raise click.UsageError(f"this is no {cls.__name__}:{lines}\nIts fields: {fields}.") from None
    key = derive_id(tenant, source, event_id)
    event.with_meta(Meta(tenant=tenant, id=event_id, source=source, time=now, key=key, correlation_id=str(key)))
    return event


async def _send(kafka: str, record: Outgoing) -> None:
    async with Producer(kafka) as producer:
        await producer.send([record])


def _class(name: str) -> type[Event]:
    events.load()
    by_name = {cls.__name__: cls for cls in EVENT_TYPES.values()} | EVENT_TYPES
    if name not in by_name:
        known = ", ".join(sorted(cls.__name__ for cls in EVENT_TYPES.values()))
        raise click.UsageError(f"there is no event {name}. Known events: {known}.")
    return by_name[name]


def _payload(data: str) -> str:
    if not data.startswith("@"):
        return data
    try:
        return Path(data[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{data[1:]} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{data[1:]} is not UTF-8 text.") from None
