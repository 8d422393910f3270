"""The worker of the job engine's crash test: the product's own app with jobs whose outcomes are declared.

`faust -A tests.jobcrash.lab worker`, with $LAB: {"queue", "group", "points", "bitten", "provider", "sabotage", ...}.

A job carries its number and what is to become of it; `k` is how often. The checker reads both from the ledger of the
test, never from here:

    plain     once                                  fatal     fails for good at its first start
    flaky     fails k times                         snooze    asks for time k times, spends no attempt
    poison    always fails                          hang      runs until it is cancelled, k times
    killer    ends its process when it begins       deaf      the same, and ignores the first cancellation
    late, expired     plain; the order says when    drop      its provider accepts and drops the answer, k times
    slow      takes $LAB's "slow" seconds           block    never gives the loop back
    sigterm   makes its process deaf to SIGTERM
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

from skillcore_streams import config, events, handlers, queues
from skillcore_streams.runtime import Context, Job, PermanentError, Snooze, failpoints, on
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.jobs import lines, reaper, work
from skillcore_streams.runtime.messages import Backoff, Queue

LAB: dict[str, str] = json.loads(os.environ["LAB"])
PROCESS = os.environ["SKILLCORE_WORKER_ID"]

QUEUE = Queue(
    LAB["queue"], concurrency=16, attempts=4, backoff=Backoff(timedelta(milliseconds=300)),
    timeout=timedelta(seconds=10), keep_completed=(timedelta(days=1), 1_000_000),
)

EFFECT = "insert into effect (n, token, process) values ($1, $2, $3)"
BEGAN = "insert into began (n, token, process) values ($1, $2, $3)"


class Act(Job, queue=QUEUE, kind="act"):
    """Inside the transaction that ends it."""

    n: int
    mode: str
    k: int = 0


class Call(Job, queue=QUEUE, kind="call"):
    """Calls a provider, outside a transaction."""

    n: int
    mode: str
    k: int = 0


class Spread(Job, queue=QUEUE, kind="spread"):
    """Orders others: `acts` are [number, mode, k, milliseconds to wait]."""

    n: int
    acts: list[tuple[int, str, int, int]]


def token(ctx: Context) -> UUID:
    """The claim under which this runs."""
    assert isinstance(ctx.run, work.Running)
    return ctx.run.claim.token


LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_diary: asyncpg.Connection | None = None
_writing = asyncio.Lock()


async def began(n: int, ctx: Context) -> None:
    """Noted at once, whatever becomes of the job's transaction."""
    global _diary
    async with _writing:
        try:
            if _diary is None or _diary.is_closed():
                _diary = await asyncpg.connect(os.environ["SKILLCORE_DATABASE_URL"], timeout=5)
            await _diary.execute(BEGAN, n, token(ctx), PROCESS)
        except LOST as error:
            raise Infrastructure("the lab's diary cannot be written") from error


def die() -> None:
    with open(LAB["killer"], "a") as file:
        file.write(f"{PROCESS} {time.time()}\n")
    os.kill(os.getpid(), signal.SIGKILL)


@on(Act)
async def act(job: Act, ctx: Context) -> None:
    assert ctx.run is not None
    if job.mode != "plain":
        await began(job.n, ctx)
    if job.mode == "killer":
        die()
    if job.mode == "poison" or (job.mode == "flaky" and ctx.run.attempt <= job.k):
        raise ValueError
    if job.mode == "fatal":
        raise PermanentError("no further try can help")
    if job.mode == "block":
        time.sleep(3600)  # noqa: ASYNC251 - that is the point
    if job.mode == "sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if job.mode == "slow":
        await asyncio.sleep(float(LAB["slow"]))
    if job.mode == "snooze" and await times_begun(job.n) <= job.k:
        raise Snooze(timedelta(milliseconds=300))
    await ctx.db.execute(EFFECT, job.n, token(ctx), PROCESS)
    if job.mode in ("hang", "deaf") and ctx.run.attempt <= job.k:
        await hang(deaf=job.mode == "deaf")


async def hang(deaf: bool) -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        if not deaf:
            raise
        await asyncio.sleep(30)  # long after its lease has run out


async def times_begun(n: int) -> int:
    async with _writing:
        assert _diary is not None
        try:
            return int(await _diary.fetchval("select count(distinct token) from began where n = $1", n))
        except LOST as error:
            raise Infrastructure("the lab's diary cannot be read") from error


@on(Call, transaction=False)
async def call(job: Call, ctx: Context) -> None:
    assert ctx.run is not None
    await began(job.n, ctx)
    body = {"n": job.n, "process": PROCESS, "drop": ctx.run.attempt <= job.k}
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit) as session, session.post(LAB["provider"], json=body) as answer:
        answer.raise_for_status()


@on(Spread)
async def spread(job: Spread, ctx: Context) -> None:
    for n, mode, k, wait in job.acts:
        ctx.enqueue(Act(n=n, mode=mode, k=k), delay=timedelta(milliseconds=wait))
    await ctx.db.execute(EFFECT, job.n, token(ctx), PROCESS)


# What makes the test short. How soon a silent process counts as lost stays the product's own in the large test.

lines.LEASE_MARGIN = timedelta(seconds=6)
if LAB["silent"]:
    reaper.LOST = reaper.LOST.replace(f"'{reaper.SILENT} s'", f"'{LAB['silent']} s'")
    assert f"'{LAB['silent']} s'" in reaper.LOST


# Sabotage: builds of which the checker must not say that all is well. Two more are made in the database: see world.py.


async def crash_not_counted(self: reaper.Reaper, db: Any, claim: lines.Claim) -> None:
    """A suspect that was lost alone is tried alone again, for nothing."""
    await db.execute(reaper.SUSPECT, [claim.id], [claim.token], [claim.spent])


_finish = lines.finish


async def no_rollback(db: Any, claims: Any, how: str, process: str) -> set[UUID]:
    """Whose lease is lost goes on as if it were not."""
    await _finish(db, claims, how, process)
    return {claim.id for claim in claims}


match LAB["sabotage"]:
    case "crash not counted":
        reaper.Reaper._charge_suspect = crash_not_counted  # type: ignore[method-assign]
    case "no rollback":
        lines.finish = no_rollback


for package in (events, handlers, queues):
    package.load = lambda: None  # type: ignore[attr-defined]
config.Settings.app_id = property(lambda self: LAB["group"])  # type: ignore[assignment]

from skillcore_streams import worker  # noqa: E402 - made of what is registered and patched above

app = worker.app
if LAB["standstill"]:
    worker.STANDSTILL = float(LAB["standstill"])
failpoints.arm(LAB["points"], log=Path(LAB["bitten"]))

__all__ = ["app"]
