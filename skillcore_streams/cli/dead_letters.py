"""`skillcore dead-letters list|show`: what could not be processed, for which tenants, and why."""

from __future__ import annotations

import json
from typing import Any

import click

from skillcore_streams import events as event_modules
from skillcore_streams.cli.events import MASK, masked
from skillcore_streams.cli.output import ask, json_option, plain, show
from skillcore_streams.runtime.errors import SkillCoreError

GROUPED = """
    select fingerprint, count(*) as letters, kind, coalesce(handler, queue, topic) as source, max(reason) as reason,
           string_agg(distinct coalesce(tenant_id, '(unknown)'), ', ') as tenants,
           min(first_at) as first, max(last_at) as last
      from dead_letter
     where status = $1 and ($2::text is null or tenant_id = $2)
       and ($3::text is null or coalesce(handler, queue, topic) like '%' || $3 || '%')
     group by fingerprint, kind, coalesce(handler, queue, topic)
     order by count(*) desc, max(last_at) desc limit $4"""

EACH = """
    select id, last_at, coalesce(tenant_id, '(unknown)') as tenant, coalesce(handler, queue, topic) as source,
           partition, record_offset as offset, reason
      from dead_letter
     where status = $1 and ($2::text is null or tenant_id = $2)
       and ($3::text is null or coalesce(handler, queue, topic) like '%' || $3 || '%')
     order by last_at desc limit $4"""

ONE = """
    select d.*, e.type from dead_letter d left join lateral (
        select type from event where event_key = d.event_key limit 1) e on true
     where d.id::text like $1 || '%' limit 2"""


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be processed."""


@dead_letters.command("list")
@click.option("--status", default="open", show_default=True, type=click.Choice(["open", "retried", "discarded"]))
@click.option("--tenant", help="Only this tenant's.")
@click.option("--source", help="Only of this handler, queue or topic (a part of its name).")
@click.option("--each", is_flag=True, help="One row a letter instead of one a cause.")
@click.option("--limit", default=50, show_default=True)
@json_option
def list_letters(status: str, tenant: str | None, source: str | None, each: bool, limit: int, as_json: bool) -> None:
    """By cause: how many, of which tenants, since when."""
    rows = ask(lambda db: db.fetch(EACH if each else GROUPED, status, tenant, source, limit))
    show([dict(r) for r in rows], as_json, f"No {status} dead letters.")


@dead_letters.command("show")
@click.argument("id")
@click.option("--bytes", "raw", is_flag=True, help="The original bytes too. They may hold a student's data.")
@json_option
def show_letter(id: str, raw: bool, as_json: bool) -> None:
    """One letter whole, by its id or the beginning of it."""
    event_modules.load()
    rows = ask(lambda db: db.fetch(ONE, id))
    if len(rows) != 1:
        raise SkillCoreError(f"{'several dead letters begin' if rows else 'no dead letter begins'} with {id}")
    letter = _readable(dict(rows[0]), raw)
    if as_json:
        click.echo(json.dumps(letter, default=str, indent=2))
        return
    for name, value in letter.items():
        text = json.dumps(value, default=str) if isinstance(value, dict | list) else plain(value)
        click.echo(f"{name:<16} {text}")


def _readable(letter: dict[str, Any], raw: bool) -> dict[str, Any]:
    value, type_ = letter.pop("value"), letter.pop("type")
    names = [name for name, _ in json.loads(letter.pop("headers") or "[]")]
    letter["attempts"] = json.loads(letter["attempts"])
    letter["key"] = (letter["key"] or b"").decode(errors="replace") if raw else (MASK if letter["key"] else None)
    letter["headers"] = names
    letter["size"] = None if value is None else len(value)
    if type_ and value is not None:
        letter["data"] = masked(type_, value)
    if raw:
        letter["value"] = None if value is None else value.decode(errors="backslashreplace")
    return letter


