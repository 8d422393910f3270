"""`skillcore dead-letters list|show|retry|discard`: what could not be processed, for whom, why; and what is done."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from skillcore_streams.adapters.postgres import Connection
from skillcore_streams.cli.acting import actor_option, by, load_vocabulary, moment, reason_option
from skillcore_streams.cli.output import ask, json_option, plain, show
from skillcore_streams.config import load
from skillcore_streams.runtime import redrive
from skillcore_streams.runtime.acts import Act, By, resolve

SHOWN = 20
"""Refusals and tenants named; all of them with --json."""


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which letters."""
    for option in reversed((
        click.option("--fingerprint", help="Only of this cause."),
        click.option("--queue", help="Only of this queue (also as <queue>-dlq); handler-calls: failed calls."),
        click.option("--handler", help="Only of this handler, with or without its group."),
        click.option("--topic", help="Only records and calls of this topic."),
        click.option("--tenant", help="Only this tenant's."),
        click.option("--kind", type=click.Choice(redrive.KINDS)),
        click.option("--since", help="Only last seen then or later: 2026-03-02 or 2026-03-02T15:00Z."),
        click.option("--until", help="Only last seen before then."),
    )):
        function = option(function)
    return function


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be processed; try it again, or discard it."""


@dead_letters.command("list")
@click.option("--status", default="open", show_default=True, type=click.Choice(redrive.STATUSES))
@filters
@click.option("--each", is_flag=True, help="One row a letter instead of one a cause.")
@click.option("--limit", default=50, show_default=True)
@click.option("--after", help="With --each: go on where an earlier page ended.")
@json_option
def list_letters(status: str, each: bool, limit: int, after: str | None, as_json: bool, **said: str | None) -> None:
    """By cause: how many, of which tenants, since when, and one as an example."""
    which = wanted(status, **said)
    if not each:
        groups = ask(lambda db: redrive.groups(db, which, limit))
        show([g if as_json else g | {"tenants": _some(g["tenants"])} for g in groups], as_json,
             f"No {status} dead letters.")  # fmt: skip
        return
    rows, more = ask(lambda db: redrive.each(db, which, limit, after))
    show(rows, as_json, f"No {status} dead letters.")
    if more and not as_json:
        click.echo(f"There are more: --after '{more}'")


@dead_letters.command("show")
@click.argument("id")
@click.option("--reveal", is_flag=True, help="The original key, headers and bytes too. They may hold a student's data.")
@click.option("--reason", default="", help="With --reveal: why. Kept with your name.")
@actor_option
@json_option
def show_letter(id: str, reveal: bool, reason: str, actor: str, as_json: bool) -> None:
    """One letter whole, by its id or the beginning of it. Masked, unless there is a reason."""
    load_vocabulary()
    if reveal and not reason.strip():
        raise click.UsageError("--reveal shows a student's data: say --reason '...'. It is kept with your name.")
    letter = ask(lambda db: _shown(db, id, by(actor, reason) if reveal else None))
    if as_json:
        click.echo(json.dumps(letter, default=str, indent=2))
        return
    for name, value in letter.items():
        text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else plain(value)
        click.echo(f"{name:<16} {text}")


@dead_letters.command()
@click.argument("id", required=False)
@filters
@click.option("--rate", default=100, show_default=True, type=click.IntRange(1, 500), help="Letters a second at most.")
@click.option("--yes", is_flag=True, help="Do it. Without this it is only said what would be done.")
@reason_option
@json_option
def retry(id: str | None, rate: int, yes: bool, reason: str, actor: str, as_json: bool, **said: str | None) -> None:
    """Try again: records go to their topic in order, jobs and calls back in line. Once each, and by whom is kept."""
    load_vocabulary()
    tenant = load().legacy_tenant

    async def act(db: Connection, some: Sequence[UUID], who: By) -> list[Act]:
        return await redrive.retry(db, some, who, now=datetime.now(UTC), legacy_tenant=tenant)

    _do("retried", act, id, wanted("open", **said), rate, yes, by(actor, reason), as_json)


@dead_letters.command()
@click.argument("id", required=False)
@filters
@click.option("--yes", is_flag=True, help="Do it. Without this it is only said what would be done.")
@reason_option
@json_option
def discard(id: str | None, yes: bool, reason: str, actor: str, as_json: bool, **said: str | None) -> None:
    """Give up: these are not tried again. Their bytes stay until retention takes them."""
    _do("discarded", redrive.discard, id, wanted("open", **said), 500, yes, by(actor, reason), as_json)


def wanted(status: str, **said: str | None) -> redrive.Wanted:
    """The filter that the options say."""
    return redrive.Wanted(
        status, said["fingerprint"], said["tenant"], said["kind"], said["queue"], said["handler"], said["topic"],
        moment(said["since"]), moment(said["until"]),
    )  # fmt: skip


def _do(
    done: str, act: Any, id: str | None, which: redrive.Wanted, rate: int, yes: bool, who: By, as_json: bool
) -> None:
    """Dry run, or batch by batch, a transaction a second: what is interrupted goes on when it is said again."""
    filtered = which != redrive.Wanted()
    if (id is None) is not filtered:
        raise click.UsageError("name one letter by its id, or say by filters which (--fingerprint, --queue ...).")
    letters = [ask(lambda db: resolve(db, "dead letter", id))] if id else ask(lambda db: redrive.ids(db, which))
    if not yes:
        one = not filtered
        groups = [ask(lambda db: redrive.show(db, letters[0]))] if one else ask(lambda db: redrive.groups(db, which))
        _say_what_would_be(done, len(letters), groups, as_json)
        return
    said: list[tuple[UUID, Act]] = []
    for start in range(0, len(letters), rate):
        if start:
            time.sleep(1.0)
        some = letters[start : start + rate]
        said += zip(some, ask(lambda db, some=some: act(db, some, who)), strict=True)  # type: ignore[misc]
    refused = [(letter, answer) for letter, answer in said if not answer.done]
    if as_json:
        answers = [{"id": letter, "done": answer.done, "said": answer.said} for letter, answer in said]
        click.echo(json.dumps({done: len(said) - len(refused), "letters": answers}, default=str, indent=2))
    else:
        for answer, count in Counter(answer.said for _, answer in said if answer.done).items():
            click.echo(f"{count}: {answer}")
        for letter, answer_ in refused[:SHOWN]:
            click.echo(f"{letter}: {answer_.said}")
        click.echo(f"{len(said) - len(refused)} dead letters {done}, {len(refused)} not.")
    if refused:
        sys.exit(1)


def _say_what_would_be(done: str, count: int, groups: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"dry_run": True, f"would_be_{done}": count, "groups": groups}, default=str, indent=2))
        return
    keep = ("letters", "kind", "source", "handler", "queue", "tenants", "reason", "last", "last_at")
    rows = [{k: _some(v) if k == "tenants" else v for k, v in group.items() if k in keep} for group in groups]
    show(rows, False, "No open dead letter fits.")
    click.echo(f"{count} dead letters would be {done}. Nothing was changed: add --yes to do it.")


async def _shown(db: Connection, id: str, who: By | None) -> dict[str, Any]:
    letter = await resolve(db, "dead letter", id)
    return await redrive.show(db, letter) if who is None else await redrive.reveal(db, letter, who)


def _some(tenants: Sequence[str]) -> str:
    return ", ".join(tenants[: SHOWN - 1]) + (" ..." if len(tenants) >= SHOWN else "")
