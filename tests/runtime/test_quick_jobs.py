"""Jobs that hardly take longer than starting a task run one behind another in one place; they share nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from skillcore_streams.runtime import Context, Job, Queue
from skillcore_streams.runtime.jobs import insert
from skillcore_streams.runtime.jobs.work import AT_ONCE
from skillcore_streams.runtime.registry import Handler
from tests.runtime.lab import Lab
from tests.runtime.test_bad_jobs import serving, wait_for
from tests.runtime.test_job_options import Bench

FOUR = Queue("four", concurrency=4)


class Blink(Job, queue=FOUR, kind="step"):
    """Takes no time."""

    n: int


class Stare(Job, queue=FOUR, kind="stare"):
    """Takes its time."""

    n: int


@pytest.fixture
async def bench(lab: Lab) -> Bench:
    """A queue of which it is known that its jobs are quick."""
    made = Bench(lab, Blink, transaction=False)
    await made.add(0)
    await made.run()
    made.runner._work.paces["tests.Blink"] = 0.0001
    made.runner._work.quick.add("four")
    made.ran.clear()
    return made


async def attempts(lab: Lab) -> Any:
    """Starts that were charged to whatever waits or runs, and failures that were noted."""
    return await lab.value("""
        select (select coalesce(sum(attempts), 0) from ready) + (select coalesce(sum(attempts), 0) from later)
             + (select coalesce(sum(attempts), 0) from lease) + (select count(*) from attempt)""")


async def test_they_run_in_order_and_one_at_a_time(bench: Bench) -> None:
    beside = []

    async def work(message: Blink, ctx: Context) -> None:
        beside.append(len(bench.runner.running))
        await asyncio.sleep(0)

    bench.does = work
    await bench.add(*range(1, 5))

    assert await bench.run() == [1, 2, 3, 4]
    assert beside == [1, 1, 1, 1]
    assert await bench.states() == ["completed"] * 5


async def test_one_that_fails_is_alone_in_failing(bench: Bench) -> None:
    async def work(message: Blink, ctx: Context) -> None:
        if message.n == 2 and bench.ran.count(2) == 1:
            raise ValueError

    bench.does = work
    await bench.add(*range(1, 5), backoff=0)

    assert await bench.run() == [1, 2, 3, 4, 2]
    assert await bench.lab.value("select count(*) from attempt") == 1


async def test_who_waits_behind_a_slow_one_goes_on_elsewhere_uncharged(bench: Bench) -> None:
    awake = asyncio.Event()

    async def work(message: Blink, ctx: Context) -> None:
        if message.n == 1:
            await awake.wait()

    async def all_but_one() -> bool:
        return sorted(bench.ran) == list(range(1, 41)) and await bench.lab.value("select count(*) from lease") == 1

    bench.does = work
    await bench.add(*range(1, 41))
    async with serving(bench.lab, bench.runner):
        await wait_for(all_but_one)
        awake.set()
        await wait_for(lambda: bench.lab.value("select count(*) = 0 from lease"))

    assert await bench.states() == ["completed"] * 41
    assert await attempts(bench.lab) == 0
    assert bench.ran.count(1) == 1


async def test_more_are_claimed_than_there_are_places_and_never_begun(bench: Bench) -> None:
    """Taken for quick ones, they are not: so many run as the queue allows, the others go back uncharged."""
    busiest = 0

    async def stare(message: Stare, ctx: Context) -> None:
        nonlocal busiest
        busiest = max(busiest, len(bench.runner.running))
        await asyncio.sleep(0.001)

    bench.lab.registry.add(Handler("tests.stare", Stare, stare, False, False, False))
    orders = [bench.order(n) for n in range(1, AT_ONCE + 1)]
    async with bench.lab.postgres.transaction() as db:
        await insert(db, [replace(order, kind="stare") for order in orders])
    async with serving(bench.lab, bench.runner):
        done = f"select coalesce(sum(cardinality(ids)), 0) = {AT_ONCE + 1} from finished"
        await wait_for(lambda: bench.lab.value(done))

    assert busiest == FOUR.concurrency
    assert await attempts(bench.lab) == 0


async def test_a_stopping_process_hands_back_who_waits_behind_another(bench: Bench) -> None:
    begun = asyncio.Event()

    async def work(message: Blink, ctx: Context) -> None:
        begun.set()
        await asyncio.sleep(60)

    bench.does = work
    await bench.add(*range(1, 5))
    life = asyncio.create_task(bench.runner.run_due())
    await begun.wait()
    await bench.runner.stop(0.0)
    await asyncio.gather(life, return_exceptions=True)

    assert bench.ran == [1]
    assert sorted(await bench.states()) == ["completed"] + ["waiting"] * 4
    assert await attempts(bench.lab) == 0
