"""`skillcore jobs add|list|show|retry|cancel|promote|logs`: one job, from its order to its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from pydantic import ValidationError

from skillcore_streams.adapters.postgres import Connection
from skillcore_streams.cli.acting import actor_option, answer, by, load_vocabulary, moment, reason_option
from skillcore_streams.cli.output import ask, json_option, plain, show
from skillcore_streams.runtime.acts import Act, By, note, resolve
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.envelope import Refused, explain
from skillcore_streams.runtime.jobs import door, operator, orders
from skillcore_streams.runtime.messages import JOB_TYPES, QUEUES, Queue

AT_ONCE = 500
"""Jobs inserted by one statement."""


@click.group()
def jobs() -> None:
    """Add a job; look at jobs, cancel, promote and retry them."""


@jobs.command()
@click.argument("queue")
@click.argument("kind", required=False)
@click.option("--tenant", required=True, help="Whose job this is.")
@click.option("--data", metavar="JSON|@FILE", help="The payload, or a file that holds it.")
@click.option("--id", "job_id", help="Its id: the same id on the same queue is the same job. Default: a new one.")
@click.option("--priority", type=int, default=0, show_default=True, help="0 first of all, then 1 to 2097151.")
@click.option("--delay", type=float, default=0, show_default=True, help="Seconds from now.")
@click.option("--attempts", type=int, help="Starts in all; default: the queue's.")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True,
              help="So many of them; an --id is numbered.")  # fmt: skip
@click.option("--bulk", metavar="FILE",
              help="Lines of JSON as BullMQ's addBulk takes them: {name, data, opts}. All or none.")  # fmt: skip
@actor_option
@json_option
def add(
    queue: str, kind: str | None, tenant: str, data: str | None, job_id: str | None, priority: int, delay: float,
    attempts: int | None, count: int, bulk: str | None, actor: str, as_json: bool,
) -> None:  # fmt: skip
    """Add a job of KIND to QUEUE, as a record of its topic would. Names of the old system are translated."""
    load_vocabulary()
    target = _queue(queue)
    if bulk is not None:
        if kind or data or job_id:
            raise click.UsageError("--bulk has kinds, payloads and ids in its lines.")
        made = [_order(target, tenant, line, f"{bulk} line {n}: ") for n, line in _lines(bulk)]
    else:
        if kind is None or data is None:
            raise click.UsageError("say a KIND and --data, or --bulk FILE.")
        said = {"priority": priority, "delay": delay * 1000, "attempts": attempts}
        options = {name: value for name, value in said.items() if value is not None}
        line = {"name": kind, "data": _json(_payload(data), "--data"), "opts": options}
        ids = [job_id or str(uuid4())] if count == 1 else [f"{job_id or uuid4()}-{n}" for n in range(1, count + 1)]
        made = [_order(target, tenant, line | {"opts": options | {"jobId": one}}, "") for one in ids]
    fresh = ask(lambda db: _insert(db, made, target, By(actor, "added by hand")))
    if as_json:
        click.echo(json.dumps({"added": len(fresh), "ids": [str(o.id) for o in made[:AT_ONCE]]}))
    elif len(made) == 1:
        click.echo(f"{made[0].id}: {'added to' if fresh else 'was added before to'} {queue}")
    else:
        click.echo(f"{len(fresh)} jobs added to {queue}, {len(made) - len(fresh)} had been added before")


@jobs.command("list")
@click.option("--queue", help="Only of this queue; <queue>-dlq: its failed ones.")
@click.option("--kind", help="Only of this kind; of failed calls: the handler's id.")
@click.option("--state", type=click.Choice(operator.STATES), help="Only in this state.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--since", help="Only created then or later: 2026-03-02 or 2026-03-02T15:00Z.")
@click.option("--limit", default=50, show_default=True)
@click.option("--after", help="Go on where an earlier page ended.")
@json_option
def list_jobs(
    queue: str | None, kind: str | None, state: str | None, tenant: str | None, since: str | None, limit: int,
    after: str | None, as_json: bool,
) -> None:  # fmt: skip
    """What runs, what waits in the order of its turn, what is to come, what has ended."""
    state = "failed" if state is None and queue is not None and queue.endswith("-dlq") else state
    wanted = operator.Wanted(queue, kind, state, tenant, moment(since))
    rows, more = ask(lambda db: operator.find(db, wanted, limit, after))
    if as_json:
        click.echo(json.dumps({"jobs": rows, "next": more}, default=str, indent=2))
        return
    show([
        {"id": r["id"], "tenant": r["tenant"], "queue": r["queue"], "kind": r["kind"], "state": r["state"],
         "priority": r["priority"], "starts": f"{plain(r['attempts'])}/{r['max_attempts']}", "since / due": r["at"],
         "worker": r["worker"]}
        for r in rows
    ], False, "No job fits.")  # fmt: skip
    if more:
        click.echo(f"There are more: --after {more}")


@jobs.command("show")
@click.argument("id")
@json_option
def show_job(id: str, as_json: bool) -> None:
    """One job whole: what happened when, why, and what it caused. Its id or the beginning of it."""
    load_vocabulary()
    job = ask(lambda db: _shown(db, id))
    if as_json:
        click.echo(json.dumps(job, default=str, indent=2))
        return
    for name, value in job.items():
        if name in ("timeline", "logs", "dead_letters", "attempts_failed", "caused", "data"):
            continue
        click.echo(f"{name:<14} {_short(value)}")
    for field, content in (job["data"] or {}).items():
        click.echo(f"   {field:<20} {_short(content)}")
    click.echo("timeline")
    for entry in job["timeline"]:
        click.echo(f"   {plain(entry['at'])}  {entry['what']}")
    for line in job["logs"]:
        click.echo(f"   {plain(line['at'])}  log: {line['line']}")
    for what, rows in job["caused"].items():
        for row in rows:
            click.echo(f"caused {what[:-1] if what.endswith('s') else what}: {_short(row)}")


@jobs.command()
@click.argument("id")
@click.option("--limit", default=1000, show_default=True)
@json_option
def logs(id: str, limit: int, as_json: bool) -> None:
    """What a job's function noted, oldest first."""
    rows = ask(lambda db: _logs(db, id, limit))
    if as_json:
        click.echo(json.dumps(rows, default=str, indent=2))
        return
    for row in rows:
        click.echo(f"{plain(row['at'])}  {row['line']}")
    if not rows:
        click.echo("It noted nothing.")


@jobs.command()
@click.argument("id")
@reason_option
@json_option
def retry(id: str, reason: str, actor: str, as_json: bool) -> None:
    """A failed job goes back in line with all its attempts. Once for each time that it failed for good."""
    load_vocabulary()
    _act(id, as_json, lambda db, job: operator.retry(db, job, by(actor, reason), datetime.now(UTC)))


@jobs.command()
@click.argument("id")
@reason_option
@json_option
def cancel(id: str, reason: str, actor: str, as_json: bool) -> None:
    """End a job that has not ended: at once when it waits, within a second or so when it runs."""
    _act(id, as_json, lambda db, job: operator.cancel(db, job, by(actor, reason)))


@jobs.command()
@click.argument("id")
@reason_option
@json_option
def promote(id: str, reason: str, actor: str, as_json: bool) -> None:
    """A delayed job, or one that waits for its next try, is due now."""
    _act(id, as_json, lambda db, job: operator.promote(db, job, by(actor, reason)))


def _act(id: str, as_json: bool, what: Any) -> None:
    async def run(db: Connection) -> tuple[UUID, Act]:
        job = await resolve(db, "job", id)
        return job, await what(db, job)

    job, act = ask(run)
    answer(act, str(job), as_json)


async def _shown(db: Connection, id: str) -> dict[str, Any]:
    return await operator.show(db, await resolve(db, "job", id))


async def _logs(db: Connection, id: str, limit: int) -> list[dict[str, Any]]:
    return await operator.logs(db, await resolve(db, "job", id), limit)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or "-"
    return json.dumps(value, default=str) if isinstance(value, list) else plain(value)


# Adding ---------------------------------------------------------------------------------------------------------------


def _queue(name: str) -> Queue:
    open_ones = {n: q for n, q in QUEUES.items() if not q.internal}
    if name not in open_ones:
        raise click.UsageError(f"there is no queue {name} to add to. Queues: {', '.join(sorted(open_ones))}.")
    return open_ones[name]


def _order(queue: Queue, tenant: str, line: dict[str, Any], where: str) -> Order:
    """The checked order of a line in BullMQ's form. Raises UsageError, which quotes no payload."""
    try:
        kind, data = line.get("name"), line.get("data")
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise click.UsageError(f'{where}a job is an object with "name" and "data".')
        options = door.JobOptions.model_validate_json(json.dumps(line.get("opts") or {}))
        meta = door.job_meta(tenant, queue, options.job_id or str(uuid4()), datetime.now(UTC))
        return door.order(queue, kind, data, options, meta)
    except Refused as refusal:
        kinds = sorted(kind for name, kind in JOB_TYPES if name == queue.name)
        raise click.UsageError(f"{where}{refusal}. Kinds of {queue.name}: {', '.join(kinds) or 'none yet'}.") from None
    except ValidationError as error:
        raise click.UsageError(f"{where}{explain(error)}") from None


async def _insert(db: Connection, made: Sequence[Order], queue: Queue, who: By) -> set[UUID]:
    fresh: set[UUID] = set()
    for start in range(0, len(made), AT_ONCE):
        fresh |= await orders.insert(db, made[start : start + AT_ONCE])
    if len(made) == 1:
        await note(db, who, "jobs add", [made[0].id], queue=queue.name)
    else:
        await note(db, who, "jobs add", [queue.name], jobs=len(fresh), first=made[0].id if made else None)
    return fresh


def _payload(data: str) -> str:
    return _file(data[1:]) if data.startswith("@") else data


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{path} is not UTF-8 text.") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError(f"{where} is not JSON.") from None


def _lines(path: str) -> list[tuple[int, dict[str, Any]]]:
    lines = [(n, line) for n, line in enumerate(_file(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise click.UsageError(f"{path} has no job in it.")
    found = [(n, _json(line, f"{path} line {n}")) for n, line in lines]
    if bad := [n for n, line in found if not isinstance(line, dict)]:
        raise click.UsageError(f"{path} line {bad[0]} is no JSON object.")
    return found
