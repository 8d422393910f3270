"""`skillcore queues [list|pause|resume]`: how much work stands where, and who may claim it."""

from __future__ import annotations

import json

import click

from skillcore_streams.cli.acting import answer, by, load_vocabulary, reason_option
from skillcore_streams.cli.output import ask, json_option, show
from skillcore_streams.runtime.jobs import backlog, operator


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def queues(ctx: click.Context, as_json: bool) -> None:
    """How much work stands where; pause and resume a queue."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@queues.command("list")
@json_option
def list_queues(as_json: bool) -> None:
    """Each queue: in line, to come, running, kept, failed, and how long the first has waited."""
    _list(as_json)


@queues.command()
@click.argument("queue")
@reason_option
@json_option
def pause(queue: str, reason: str, actor: str, as_json: bool) -> None:
    """Claim no further job of QUEUE. What runs, runs to its end; nothing is lost."""
    load_vocabulary()
    answer(ask(lambda db: operator.pause(db, queue, by(actor, reason))), queue, as_json)


@queues.command()
@click.argument("queue")
@reason_option
@json_option
def resume(queue: str, reason: str, actor: str, as_json: bool) -> None:
    """Claim jobs of QUEUE again."""
    load_vocabulary()
    answer(ask(lambda db: operator.resume(db, queue, by(actor, reason))), queue, as_json)


def _list(as_json: bool) -> None:
    load_vocabulary()
    figures = ask(backlog.count)
    if as_json:
        click.echo(json.dumps([operator.described(s) for s in figures.queues], default=str, indent=2))
        return
    show([
        {
            "queue": s.queue, "waiting": s.waiting, "delayed": s.delayed, "running": s.running,
            "completed (kept)": s.completed, "cancelled": s.cancelled, "failed": s.failed,
            "oldest waiting": f"{s.oldest:.0f} s" if s.oldest else None,
            "paused": f"by {s.paused_by}" if s.paused_at else None, "rate": operator.described(s)["rate"],
        }
        for s in figures.queues
    ], False, "No queue is known.")  # fmt: skip
