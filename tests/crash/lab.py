"""The worker of the crash test: the product's own app with small handlers whose effects can be counted.

`faust -A tests.crash.lab worker`, with $LAB: {"topic", "group", "points", "bitten", "killer", "sabotage"}.

Marks come with a dense number a student; what each must bring about, and nothing else, is written in checker.py.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from skillcore_streams import config, events, handlers, queues
from skillcore_streams.runtime import (
    Context,
    Event,
    Job,
    PermanentError,
    failpoints,
    failures,
    inbox,
    on,
    outbox,
)
from skillcore_streams.runtime import progress as standing
from skillcore_streams.runtime.jobs import reaper
from skillcore_streams.runtime.messages import Backoff, Queue

LAB: dict[str, str] = json.loads(os.environ["LAB"])

EFFECT = """
    insert into effect (handler, key, seq, worker)
    select $1, u.key, u.seq, $4 from unnest($2::text[], $3::int[]) as u (key, seq)"""


class Mark(Event, topic=LAB["topic"], key="student"):
    """What the test sends."""

    student: str
    seq: int
    mode: str
    """plain; flaky: its first call fails; poison: every call fails; fatal: for good; killer: ends its worker."""


class Echo(Event, topic=LAB["topic"], key="student"):
    """Published for every fifth Mark: the outbox brings it back to the topic."""

    student: str
    seq: int


class Recount(Job, queue=Queue("lab-jobs", internal=True)):
    """Ordered for every seventh Mark."""

    student: str
    seq: int


async def effect(ctx: Context, handler: str, *of: Mark | Echo | Recount) -> None:
    worker = os.environ["SKILLCORE_WORKER_ID"]
    await ctx.db.execute(EFFECT, handler, [e.student for e in of], [e.seq for e in of], worker)


def die() -> None:
    with open(LAB["killer"], "a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)


@on(Mark)
async def tally(events: list[Mark], ctx: Context) -> None:
    await effect(ctx, "tally", *events)


@on(Mark)
async def note(event: Mark, ctx: Context) -> None:
    await effect(ctx, "note", event)


@on(Mark)
async def announce(events: list[Mark], ctx: Context) -> None:
    for event in events:
        if event.seq % 5 == 0:
            ctx.publish(Echo(student=event.student, seq=event.seq), cause=event)
        if event.seq % 7 == 0:
            ctx.enqueue(Recount(student=event.student, seq=event.seq), cause=event)


@on(Mark)
async def stumble(event: Mark, ctx: Context) -> None:
    if event.mode != "plain":
        query = "select attempts from job_now where event_key = $1 and kind = 'lab.stumble'"
        first = await ctx.db.fetchval(query, event.meta.key) is None
        if event.mode == "killer" and first:
            die()
        if event.mode == "fatal":
            raise PermanentError("no further call can help")
        if event.mode == "poison" or (event.mode == "flaky" and first):
            raise ValueError
    await effect(ctx, "stumble", event)


@on(Echo)
async def heard(events: list[Echo], ctx: Context) -> None:
    await effect(ctx, "heard", *events)


@on(Recount)
async def recount(job: Recount, ctx: Context) -> None:
    await effect(ctx, "recount", job)


# What makes the test short: the product's waits, divided by ten or so.

failures.DEFAULT = Backoff(timedelta(milliseconds=100))
outbox.TAKE_LEASE = outbox.TAKE_LEASE.replace(f"'{outbox.LEASE} s'", "'3 s'")
outbox.LEFT = outbox.LEFT.replace(f"'{outbox.LEFT_FOR} s'", "'1 s'")
reaper.LOST = reaper.LOST.replace(f"'{reaper.SILENT} s'", "'5 s'")
assert "'3 s'" in outbox.TAKE_LEASE
assert "'1 s'" in outbox.LEFT
assert "'5 s'" in reaper.LOST


# Sabotage: builds of which the checker must not say that all is well.


async def no_fence(db: Any, topic: str, partition: int, start: int, end: int, owner: str) -> None:
    """Whoever comes last is right."""
    await db.execute("update progress set next_offset = $3, owner = $4 where topic = $1 and partition = $2",
                     topic, partition, end, owner)


async def no_claim(db: Any, topic: str, partition: int, start: int, owner: str) -> int:
    """A claim compares offsets too."""
    return 1


async def offsets_first(db: Any, topic: str, partition: int, start: int, end: int, owner: str) -> None:
    """At most once: the offset is committed before the work is done, as stock Faust's acks do on an exception."""
    connection = await asyncpg.connect(os.environ["SKILLCORE_DATABASE_URL"])
    await connection.execute(standing.FENCE, topic, partition, start, end, owner)
    await connection.close()


async def no_inbox(db: Any, arrivals: Any, topic: str, partition: int) -> Any:
    """Everything is new."""
    await inbox._store(db, arrivals, topic, partition)
    return list(arrivals), [], 0


match LAB["sabotage"]:
    case "no fence":
        standing.fence, standing.claim = no_fence, no_claim
    case "offsets first":
        standing.fence = offsets_first
    case "no inbox":
        inbox.admit = no_inbox


for package in (events, handlers, queues):
    package.load = lambda: None  # type: ignore[attr-defined]
config.Settings.app_id = property(lambda self: LAB["group"])  # type: ignore[assignment]

from skillcore_streams.worker import app, forever  # noqa: E402 - made of what is registered and patched above

app.task(lambda: forever(app.reaper.reap, 1.0))
failpoints.arm(LAB["points"], log=Path(LAB["bitten"]))

__all__ = ["app"]
