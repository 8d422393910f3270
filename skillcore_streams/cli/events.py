"""`skillcore events show|trace`: what was stored, who reacted, what followed. Payloads are masked by field tags."""

from __future__ import annotations

import json
from typing import Any

import click

from skillcore_streams import events as event_modules
from skillcore_streams import handlers as handler_modules
from skillcore_streams.adapters.postgres import Connection
from skillcore_streams.cli.output import ask, json_option, plain, show
from skillcore_streams.runtime import masking
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.runtime.messages import EVENT_TYPES
from skillcore_streams.runtime.registry import REGISTRY

RECENT = """
    select time, tenant_id as tenant, type, key, topic || '-' || partition || '@' || record_offset as at, id
      from event
     where ($1::text is null or tenant_id = $1) and ($2::text is null or key = $2)
       and ($3::text is null or type like '%.' || $3 || '.v%')
     order by seq desc limit $4"""

FIND = """
    select * from event where id = $1 or event_key::text = $1 order by seq"""

CAUSED = """
    select * from event where tenant_id = $1 and causation_id = $2 and correlation_id = $3 order by seq"""

JOBS = """
    select queue, kind, state, attempts, run_at, errors from job_now where event_key = $1 order by created_at, kind"""

WAITING_OUT = """
    select topic, headers, created_at from outbox
     where published_at is null and headers ->> 'ce_causationid' = $1 order by id"""

LETTERS = "select handler, reason, status from dead_letter where event_key = $1"


@click.group()
def events() -> None:
    """Look at stored events and what became of them."""


@events.command("show")
@click.argument("id", required=False)
@click.option("--tenant", help="Only this tenant's.")
@click.option("--key", help="Only this aggregate's (the Kafka key, for example a student id).")
@click.option("--type", "type_", help="Only this type, for example AttendanceMarked.")
@click.option("--limit", default=20, show_default=True)
@json_option
def show_events(
    id: str | None, tenant: str | None, key: str | None, type_: str | None, limit: int, as_json: bool
) -> None:
    """One event whole, by its id; or the newest ones that fit."""
    event_modules.load()
    if id is None:
        rows = ask(lambda db: db.fetch(RECENT, tenant, key, type_, limit))
        show([dict(r) for r in rows], as_json, "No event fits.")
        return
    for row in ask(lambda db: _found(db, id)):
        _print(whole(row), as_json)


@events.command()
@click.argument("id")
@json_option
def trace(id: str, as_json: bool) -> None:
    """Follow one event: where it came from, who handled it, which jobs and events it brought about."""
    event_modules.load()
    handler_modules.load()
    told = ask(lambda db: _trace(db, id))
    if as_json:
        click.echo(json.dumps(told, default=str, indent=2))
        return
    for line in told["story"]:
        click.echo(line)


async def _found(db: Connection, id: str) -> list[Any]:
    rows = await db.fetch(FIND, id)
    if not rows:
        raise SkillCoreError(f"no stored event has the id or the key {id}. Was it parked? skillcore dead-letters list")
    return rows


async def _trace(db: Connection, id: str) -> dict[str, Any]:
    story: list[str] = []
    seen: set[Any] = set()
    rows = await _found(db, id)
    for row in rows:
        await _follow(db, row, story, seen, 0)
    return {"events": [whole(r) for r in rows], "story": story}


async def _follow(db: Connection, row: Any, story: list[str], seen: set[Any], depth: int) -> None:
    if row["event_key"] in seen or depth > 10:
        return
    seen.add(row["event_key"])
    pad = "   " * depth
    name = row["type"].split(".")[-2]
    story.append(f"{pad}{plain(row['time'])}  {name}  tenant {row['tenant_id']}, key {row['key']}")
    story.append(f"{pad}   stored {plain(row['stored_at'])} from {row['topic']}-{row['partition']} offset "
                 f"{row['record_offset']}; source {row['source']}, id {row['id']}")
    cls = EVENT_TYPES.get(row["type"])
    jobs = {(j["queue"], j["kind"]): j for j in await db.fetch(JOBS, row["event_key"])}
    for handler in REGISTRY.of(cls) if cls else []:
        call = jobs.pop(("handler-calls", handler.id), None)
        if call is None:
            story.append(f"{pad}   handled by {handler.id}")
        else:
            errors = "; ".join(e["error"] for e in json.loads(call["errors"])) or "held"
            story.append(f"{pad}   {handler.id}: {call['state']} after {call['attempts']} attempts ({errors})")
    for (queue, kind), job in jobs.items():
        story.append(f"{pad}   ordered {kind} on {queue}: {job['state']}, due {plain(job['run_at'])}")
    for letter in await db.fetch(LETTERS, row["event_key"]):
        story.append(f"{pad}   dead letter ({letter['status']}): {letter['handler'] or 'record'}: {letter['reason']}")
    for out in await db.fetch(WAITING_OUT, row["id"]):
        story.append(f"{pad}   waits to be written to {out['topic']} since {plain(out['created_at'])}")
    for caused in await db.fetch(CAUSED, row["tenant_id"], row["id"], row["correlation_id"]):
        await _follow(db, caused, story, seen, depth + 1)


def whole(row: Any) -> dict[str, Any]:
    """A stored event with its payload masked."""
    shown = {k: row[k] for k in row.keys() if k not in ("data", "event_key")}  # noqa: SIM118 - a Record, not a dict
    return shown | {"event_key": row["event_key"], "data": masked(row["type"], row["data"])}


def masked(type_: str, data: bytes) -> dict[str, Any]:
    """The payload with fields that tell about a person hidden, and with those that this version does not know."""
    return masking.masked(EVENT_TYPES.get(type_), data) or {}


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event, default=str, indent=2))
        return
    for name, value in event.items():
        if name == "data":
            click.echo("data")
            for field, content in value.items():
                click.echo(f"   {field:<20} {content}")
        else:
            click.echo(f"{name:<16} {plain(value)}")
