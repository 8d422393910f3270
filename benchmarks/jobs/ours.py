"""Our engine as a worker runs it, without Faust beside it: told by one JSON object, answers in lines.

    python -m benchmarks.jobs.ours '{"do": "work", "kind": "noop", ...}'
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import uvloop

from benchmarks.jobs.theirs.told import Count, put_all, say, told_to_end
from skillcore_streams.adapters.postgres import Bell, Postgres
from skillcore_streams.runtime import Backoff, Context, Job, Queue, health, on
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.core import utc_now
from skillcore_streams.runtime.jobs import insert
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.messages import Meta, derive_id
from skillcore_streams.runtime.registry import REGISTRY

CONCURRENCY = 50
POOL = 4
"""As a worker's pool_size."""

QUEUE = Queue("bench", concurrency=CONCURRENCY, backoff=Backoff(timedelta(0), "fixed"))
IDLE = [Queue(f"bench-idle-{n}") for n in range(7)]

ROW = "insert into bench_row (n, text) values ($1, $2)"


class Told(Job):
    """What every job of the benchmark carries."""

    n: int
    at: float
    text: str


class Noop(Told, queue=QUEUE, kind="noop"):
    """Does nothing."""


class Row(Told, queue=QUEUE, kind="row"):
    """Writes one row, in the transaction that ends it."""


class Io(Told, queue=QUEUE, kind="io"):
    """Waits for 10 ms, as for a provider."""


class Flaky(Told, queue=QUEUE, kind="flaky"):
    """Every tenth fails once."""


KINDS: dict[str, type[Told]] = {"noop": Noop, "row": Row, "io": Io, "flaky": Flaky}


def functions(count: Count) -> None:
    """Register what the jobs do."""

    @on(Noop, transaction=False)
    async def noop(job: Noop, ctx: Context) -> None:
        count.called(job.at)

    @on(Row)
    async def row(job: Row, ctx: Context) -> None:
        count.called()
        await ctx.db.execute(ROW, job.n, job.text)

    @on(Io, transaction=False)
    async def io(job: Io, ctx: Context) -> None:
        count.called()
        await asyncio.sleep(0.01)

    @on(Flaky, transaction=False)
    async def flaky(job: Flaky, ctx: Context) -> None:
        if job.n % 10 == 0 and ctx.run is not None and ctx.run.attempt == 1:
            raise ValueError("fails once")
        count.called()


async def forever(step: Callable[[], Awaitable[object]], every: float) -> None:
    """As the worker repeats its background steps."""
    while True:
        await step()
        await asyncio.sleep(every)


async def work(told: dict[str, Any]) -> None:
    """A worker's job engine, with all that it does beside running jobs: heartbeat, gauges, bell, reaper, retention."""
    dsn, name = told["dsn"], f"bench-{os.getpid()}"
    count = Count(told)
    functions(count)
    process, born = f"{name}#1", utc_now()
    others, postgres = Postgres(dsn, size=POOL, name=name), Postgres(dsn, size=POOL, name=f"{name} jobs")
    claiming = Postgres(dsn, size=2, name=f"{name} claims", synchronous_commit="off")
    queues = [QUEUE.name, *(q.name for q in IDLE)] if told["do"] == "idle" else [QUEUE.name]
    runner = Runner(
        postgres.transaction, REGISTRY, utc_now, process, hurried=claiming.statement, single=postgres.statement,
        queues=queues,
    )
    bell = Bell(dsn, claiming.statement, name=f"{name} bell")
    reaper = Reaper(postgres.transaction, utc_now, process)

    async def observe() -> None:
        async with others.transaction() as db:
            await health.beat(db, name, process, "bench", "jobs", born, 0)
            await health.take(db, utc_now())

    await observe()
    steps = (
        (observe, 2.0), (reaper.reap, 2.0), (reaper.prune, 2.0), (lambda: bell.listen(runner.wake), 1.0),
    )
    tasks = [asyncio.create_task(forever(step, every)) for step, every in steps]
    tasks.append(asyncio.create_task(runner.serve()))
    say("ready")
    if told["do"] == "idle":
        await told_to_end()
    else:
        await count.all.wait()
        while not told.get("leave") and await leased(postgres):  # noqa: ASYNC110 - Postgres rings for none of this
            await asyncio.sleep(0.002)
        say("done", marks=count.marks, latencies=count.latencies)
        await told_to_end()
    await runner.stop(1.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for pool in (others, postgres, claiming):
        await pool.close()


async def leased(postgres: Postgres) -> bool:
    """Whether a job runs, or has ended but not durably."""
    async with postgres.transaction() as db:
        return bool(await db.fetchval("select exists (select from lease)"))


def order(told: dict[str, Any], n: int, text: str, batch: str) -> Order:
    """As ctx.enqueue makes it."""
    levels, tenants = told.get("priorities", 0), told.get("tenants", 1)
    job = KINDS[told["kind"]](n=n, at=time.time(), text=text)
    key = derive_id(batch, n)
    meta = Meta(f"tenant-{n % tenants}", str(n), "/bench", utc_now(), key, str(key))
    return Order(
        queue=QUEUE.name, kind=job.__kind__, payload=job.model_dump_json(), job=job, id=derive_id(key, "bench", 1),
        meta=meta, attempts=QUEUE.attempts, priority=1 + n % levels if levels else 0,
    )  # fmt: skip


async def add(told: dict[str, Any]) -> None:
    """Insert jobs: one after another, in chunks, or at a rate whoever is served."""
    postgres = Postgres(told["dsn"], size=POOL)
    hurried = Postgres(told["dsn"], size=2, synchronous_commit="off")
    bell = Bell(told["dsn"], hurried.statement)
    text, batch = "x" * told["bytes"], f"{os.getpid()}-{time.time()}"

    async def put(numbers: list[int]) -> None:
        orders = [order(told, n, text, batch) for n in numbers]
        async with postgres.transaction() as db:
            await insert(db, orders)
        bell.ring([QUEUE.name])

    async with postgres.transaction() as db:
        await db.execute("select")
    await put_all(told, put)
    await told_to_end()
    await asyncio.sleep(0.05)  # the bell
    for pool in (postgres, hurried):
        await pool.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    told = json.loads(sys.argv[1])
    uvloop.run(add(told) if told["do"] == "add" else work(told))
