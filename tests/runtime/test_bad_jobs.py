"""Bad inputs 85 to 90 of RELIABILITY.md, section 5: jobs that nobody can do, and functions that do what they must not.

What each comes to is the test's name. Functions that stop the whole process are in tests/jobcrash.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from skillcore_streams.runtime import Context, Deduplicate, Job, Queue
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.jobs import insert, lines, runner
from skillcore_streams.runtime.jobs import reaper as reaping
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.registry import Handler, Registry
from tests.runtime.lab import Lab, Probe, chunk, note, record
from tests.runtime.test_job_options import PLAIN, Bench, Step

EIGHT = Queue("eight", concurrency=8)


class Stroke(Job, queue=EIGHT, kind="step"):
    """Work of these tests that runs beside others."""

    n: int


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return Bench(lab)


async def letters(lab: Lab) -> list[str]:
    return [row["reason"] for row in await lab.rows("select reason from dead_letter order by first_at")]


async def wait_for(true: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - rows of Postgres ring no bell
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(lab: Lab, some: Runner) -> AsyncIterator[Runner]:
    """The runner as it lives in a worker, until the end of the block."""
    life = asyncio.create_task(some.serve())
    try:
        yield some
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await some.stop(0.1)


def deaf(bench: Bench, n: int) -> asyncio.Event:
    """Its job of this number ignores that it is cancelled; it ends with the event."""
    end = asyncio.Event()

    async def work(message: Any, ctx: Context) -> None:
        while message.n == n and not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    bench.does = work
    return end


# 85, 86: nobody can do it ---------------------------------------------------------------------------------------------


async def test_85_a_job_whose_function_a_deploy_has_removed_is_dead_lettered_and_says_so(bench: Bench) -> None:
    known = bench.order(1)
    async with bench.lab.postgres.transaction() as db:
        await insert(db, [replace(known, id=uuid4(), kind="gone"), known])

    assert await bench.run() == [1]
    assert await letters(bench.lab) == ["PermanentError: there is no function for this kind of job in this version"]


async def test_85_a_failed_call_of_a_handler_that_is_gone_is_dead_lettered_and_says_so(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise ValueError

    lab.handler(broken)
    await deliver(chunk([record(0)]), lab.core)
    async with lab.postgres.transaction() as db:
        await db.execute("update later set run_at = clock_timestamp()")

    await Runner(lab.postgres.transaction, Registry(), lambda: lab.now, "after the deploy").run_due()

    assert await letters(lab) == ["PermanentError: there is no handler of this call in this version"]


@pytest.mark.parametrize("payload", ["{}", '{"n": "one"}', '{"n": 1, "more": 2}', "[1]", "null", "not JSON", ""])
@pytest.mark.parametrize("transaction", [True, False])
async def test_86_a_payload_that_no_longer_fits_is_dead_lettered_at_once(
    lab: Lab, payload: str, transaction: bool
) -> None:
    bench = Bench(lab, Stroke, transaction=transaction)
    fits = [bench.order(n) for n in range(3)]
    async with lab.postgres.transaction() as db:
        await insert(db, [*fits, replace(bench.order(9), payload=payload)])

    assert sorted(await bench.run()) == [0, 1, 2]
    assert await letters(lab) == ["PermanentError: the payload does not fit this job's class"]


# 87, 88, 89: enqueueing -----------------------------------------------------------------------------------------------


async def test_87_a_unique_name_of_a_megabyte_is_a_name_like_any_other(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        if message.n < 2:
            ctx.enqueue(Step(n=9), unique="x" * 1_000_000)

    bench.does = work
    await bench.add(0, 1)

    assert await bench.run() == [0, 1, 9]


BEYOND: list[dict[str, Any]] = [
    {"deduplicate": Deduplicate("x" * 1_000_000)}, {"deduplicate": Deduplicate("")}, {"priority": -1},
    {"priority": 2**31}, {"attempts": 0}, {"attempts": 10**9}, {"delay": timedelta.max}, {"debounce": timedelta.max},
]


@pytest.mark.parametrize("options", BEYOND)
async def test_87_an_order_that_no_row_could_hold_is_the_fault_of_its_call_alone(
    lab: Lab, options: dict[str, Any]
) -> None:
    async def orders(event: Probe, ctx: Context) -> None:
        if event.n == 1:
            ctx.enqueue(Step(n=9), **options)
        await note(event, ctx)

    lab.handler(orders)
    await deliver(chunk([record(n) for n in range(3)]), lab.core)

    assert [r["n"] for r in await lab.rows("select n from effect order by n")] == [0, 2]
    assert await lab.rows("select queue, kind from job") == [{"queue": "handler-calls", "kind": "tests.orders"}]


async def test_87_waiting_jobs_of_one_long_content_are_done_by_one_run(lab: Lab) -> None:
    class Essay(Job, queue=PLAIN, kind="essay"):
        text: str

    ran = []

    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Essay(text="long " * 10_000), debounce=timedelta(seconds=5))

    async def read(job: Essay, ctx: Context) -> None:
        ran.append(len(job.text))

    lab.handler(orders)
    lab.registry.add(Handler("tests.read", Essay, read, False, False))
    await deliver(chunk([record(0), record(1)]), lab.core)
    async with lab.postgres.transaction() as db:
        await db.execute("update later set run_at = clock_timestamp()")

    await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w").run_due()

    assert ran == [50_000]


@pytest.mark.parametrize("transaction", [True, False])
async def test_88_what_a_failing_job_ordered_is_not_ordered(lab: Lab, transaction: bool) -> None:
    bench = Bench(lab, Stroke, transaction=transaction)

    async def work(message: Stroke, ctx: Context) -> None:
        ctx.enqueue(Stroke(n=9))
        raise ValueError

    bench.does = work
    await bench.add(1, attempts=3, backoff=0)

    assert await bench.run() == [1, 1, 1]
    assert await bench.states() == ["failed"]


async def test_88_what_a_failing_handler_ordered_is_not_ordered(lab: Lab) -> None:
    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Step(n=9))
        raise ValueError

    lab.handler(orders)
    await deliver(chunk([record(0)]), lab.core)

    assert await lab.value("select count(*) from job where queue = 'plain'") == 0


async def test_89_a_job_that_orders_itself_makes_a_new_job_each_time_which_waits_its_turn(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        if message.n < 300:
            ctx.enqueue(Step(n=message.n + 1))

    bench.does = work
    await bench.add(0)
    await bench.add(*range(1000, 1020))
    await bench.add(*range(2000, 2020), tenant="elm")

    ran = await bench.run()

    assert len(ran) == 301 + 40
    assert max(ran.index(n) for n in (*range(1000, 1020), *range(2000, 2020))) < 45
    assert await bench.lab.value("select count(*) from job") == 341


# 90: what functions must not do ---------------------------------------------------------------------------------------


class Whim(BaseException):
    """Neither an error nor an end."""


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("bye"), KeyboardInterrupt(), GeneratorExit(), Whim("x"),
                                   asyncio.CancelledError()])
@pytest.mark.parametrize("transaction", [True, False])
async def test_90_whatever_a_function_raises_is_a_failure_like_any_other(
    lab: Lab, error: BaseException, transaction: bool
) -> None:
    bench = Bench(lab, Stroke, transaction=transaction)

    async def work(message: Stroke, ctx: Context) -> None:
        if message.n == 1:
            raise error

    bench.does = work
    await bench.add(0, 1, 2, attempts=2, backoff=0)
    await bench.run()

    assert sorted(await bench.states()) == ["completed", "completed", "failed"]
    assert await letters(lab) == ["HandlerAborted in transaction.py:_one_call"]
    assert await lab.value("select count(*) from attempt") == 2


@pytest.mark.parametrize("transaction", [True, False])
async def test_90_a_result_of_100_megabytes_is_not_kept_and_its_job_is_done(lab: Lab, transaction: bool) -> None:
    bench = Bench(lab, Stroke, transaction=transaction)

    async def work(message: Stroke, ctx: Context) -> str:
        return "x" * 100_000_000

    bench.does = work
    await bench.add(1)
    await bench.run()

    assert await bench.states() == ["completed"]
    assert await lab.value("select count(*) from job_result") == 0
    assert await lab.value("select line from job_log") == "its result of 100000002 characters was not kept"


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize("result", [float("nan"), "\0", "\ud800", CYCLE, {(1, 2): 3}, [1e400]])
@pytest.mark.parametrize("transaction", [True, False])
async def test_90_a_result_that_postgres_cannot_hold_is_not_kept_and_its_job_is_done_once(
    lab: Lab, result: object, transaction: bool
) -> None:
    bench = Bench(lab, Stroke, transaction=transaction)

    async def work(message: Stroke, ctx: Context) -> object:
        return result

    bench.does = work
    await bench.add(1)

    assert await bench.run() == [1]
    assert await bench.states() == ["completed"]
    assert "cannot hold it" in await lab.value("select line from job_log")


async def test_90_lines_that_postgres_cannot_hold_are_written_as_far_as_they_can_be(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        ctx.note("a\0b\ud800" + "c" * 5000)

    bench.does = work
    await bench.add(1)
    await bench.run()

    line = await bench.lab.value("select line from job_log")
    assert line.startswith("a�b?ccc")
    assert len(line) == 1000


async def test_90_progress_that_is_no_json_is_the_job_s_own_failure(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        ctx.progress(float("nan") if message.n == 1 else {"pages": 3})

    bench.does = work
    await bench.add(1, 2, attempts=1)
    await bench.run()

    assert await bench.states() == ["failed", "completed"]
    assert json.loads(await bench.lab.value("select progress from job_progress")) == {"pages": 3}


async def test_90_a_function_that_forks_goes_on_once_and_its_copy_ends(bench: Bench) -> None:
    codes = []

    async def work(message: Step, ctx: Context) -> None:
        await ctx.db.execute("insert into effect (handler, n) values ('fork', $1)", message.n)
        pid = os.fork()
        if pid:
            codes.append(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 - it ends at once, or the test fails

    bench.does = work
    await bench.add(1, 2)
    await bench.run()

    assert codes == [0, 0]
    assert await bench.states() == ["completed"] * 2
    assert await bench.lab.value("select count(*) from effect") == 2


async def test_90_a_function_that_closes_the_pool_is_charged_in_the_end_and_others_go_on(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        if message.n == 1:
            ctx.db._raw._holder._pool.terminate()  # type: ignore[attr-defined]

    bench.does = work
    await bench.add(1, 2, attempts=1)
    await bench.run()
    interruptions = 1
    while "delayed" in await bench.states():
        assert await bench.pass_time() == 1.0
        await bench.run()
        interruptions += 1

    assert interruptions == 6
    assert await bench.states() == ["failed", "completed"]
    assert "Infrastructure: Postgres: connection lost" in (await letters(bench.lab))[0]


@pytest.fixture
def zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("zone")
async def test_90_a_changed_time_zone_of_the_process_changes_nothing(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        os.environ["TZ"] = "Pacific/Kiritimati"
        time.tzset()

    bench.does = work
    await bench.add(1)
    await bench.run()
    now = datetime.now(UTC)
    await bench.add(2, delay=5000)

    assert await bench.pass_time() == 5.0
    assert abs((await bench.lab.value("select max(created_at) from job")) - now) < timedelta(minutes=1)
    assert await bench.run() == [2]


async def test_90_a_function_that_never_returns_and_ignores_its_cancellation_keeps_nobody_from_working(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEASE_MARGIN", timedelta(seconds=0.2))
    queue = Queue("deaf", concurrency=1, timeout=timedelta(seconds=0.2))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step, transaction=False)
    end = deaf(bench, 1)
    await bench.add(1, attempts=1)
    await bench.add(2)
    async with serving(lab, bench.runner):
        await wait_for(lambda: lab.value("select count(*) from finished"))
        assert bench.ran == [1, 2]
        await wait_for(lambda: lab.value("select count(*) from dead_letter"))
    assert bench.runner._busy() == set()  # stop() did not wait for it
    end.set()
    await asyncio.gather(*bench.runner._tasks)

    assert await letters(lab) == ["Overdue in unknown place"]
    assert await lab.value("select count(*) from lease") == 0


async def test_90_who_shares_a_transaction_with_such_a_function_goes_on_elsewhere_uncharged(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEASE_MARGIN", timedelta(seconds=0.2))
    queue = Queue("deaf together", concurrency=4, timeout=timedelta(seconds=0.2))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step)
    bench.runner._work.together["tests.Step"] = 4
    end = deaf(bench, 2)
    await bench.add(1, 2, 3, 4, attempts=1)
    async with serving(lab, bench.runner):
        await wait_for(lambda: all_done(lab, 3))
        await wait_for(lambda: lab.value("select count(*) from dead_letter"))
    end.set()
    await asyncio.gather(*bench.runner._tasks)

    assert bench.ran[:2] == [1, 2]
    assert sorted(bench.ran) == [1, 1, 2, 3, 4]
    assert await letters(lab) == ["Overdue in unknown place"]
    assert await lab.value("select count(*) from attempt") == 1


async def test_what_a_living_process_has_forgotten_is_charged_to_nobody(bench: Bench) -> None:
    await bench.add(1)
    async with bench.lab.postgres.transaction() as db:
        await lines.claim(db, PLAIN, 1, "w", uuid4())
        await db.execute("insert into worker (id, process, app_id, roles, started_at, seen_at, partitions)"
                         " values ('w', 'w', 'a', 'jobs', now(), clock_timestamp(), 0)")
    reaper = Reaper(bench.lab.postgres.transaction, lambda: bench.lab.now, "w2")
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update lease set until = clock_timestamp() - interval '20 s'")
    assert await reaper.reap() == 0
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update lease set until = clock_timestamp() - interval '40 s'")

    assert await reaper.reap() == 1

    assert await bench.lab.value("select count(*) from suspect") == 1
    assert await bench.lab.value("select count(*) from attempt") == 0
    async with bench.lab.postgres.transaction() as db:
        await db.execute("delete from worker")


async def test_90_a_worker_that_was_made_deaf_to_sigterm_is_killed_and_charges_nobody(bench: Bench) -> None:
    """A function may do that to its process; the platform's kill -9 is a crash in company then: nobody is charged."""
    before = signal.getsignal(signal.SIGTERM)

    async def work(message: Step, ctx: Context) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    bench.does = work
    await bench.add(1)
    try:
        await bench.run()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    await bench.add(2, 3)
    async with bench.lab.postgres.transaction() as db:
        await lines.claim(db, PLAIN, 2, "killed", uuid4())
    assert await Reaper(bench.lab.postgres.transaction, lambda: bench.lab.now, "w2").reap() == 2

    await bench.run()

    assert await bench.states() == ["completed"] * 3
    assert await bench.lab.value("select count(*) from attempt") == 0


# What Postgres interrupts ---------------------------------------------------------------------------------------------


async def test_a_statement_that_always_takes_too_long_is_charged_after_five_interruptions(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> None:
        await ctx.db.execute("set local statement_timeout = '20ms'")
        await ctx.db.execute("select pg_sleep(1)")

    bench.does = work
    await bench.add(1, attempts=1)
    await bench.run()
    for _ in range(5):
        assert await bench.states() == ["delayed"]
        assert await bench.lab.value("select count(*) from attempt") == 0
        await bench.pass_time()
        await bench.run()

    assert await letters(bench.lab) == ["Infrastructure: Postgres: QueryCanceledError (57014)"]


async def test_what_could_not_be_handed_back_is_handed_back_when_postgres_answers(bench: Bench) -> None:
    away = True

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        if away:
            raise Infrastructure("away")
        async with bench.lab.postgres.transaction() as db:
            yield db

    some = Runner(transaction, bench.lab.registry, lambda: bench.lab.now, "w", queues=["plain"])
    await bench.add(1)
    async with bench.lab.postgres.transaction() as db:
        claims = await lines.claim(db, PLAIN, 1, "w", uuid4())
    await some._guarded(claims)
    assert await bench.states() == ["running"]
    away = False
    await some._work.hand_back_again()

    assert await bench.states() == ["delayed"]
    assert await bench.lab.value("select attempts from later") == 0


@pytest.mark.parametrize("alone", [False, True])
async def test_a_claim_whose_answer_got_lost_goes_back_to_where_it_was(bench: Bench, alone: bool) -> None:
    """Only Postgres knows of it: without this the reaper would take it for a job that runs too long, and charge it."""
    cut = True

    @asynccontextmanager
    async def hurried() -> AsyncIterator[Any]:
        async with bench.lab.postgres.transaction() as db:
            yield db
        if cut:
            raise Infrastructure("the connection was lost after the commit")

    some = Runner(bench.lab.postgres.transaction, bench.lab.registry, lambda: bench.lab.now, "w", hurried=hurried,
                  queues=["plain"])
    await bench.add(1)
    if alone:
        async with bench.lab.postgres.transaction() as db:
            await lines.claim(db, PLAIN, 1, "gone", uuid4())
        await Reaper(bench.lab.postgres.transaction, lambda: bench.lab.now, "w").reap()
    with pytest.raises(Infrastructure):
        await (some._claim_suspect() if alone else some._claim(PLAIN, 5))
    assert await bench.states() == ["running"]
    await some._release_unanswered()

    assert await bench.lab.value("select count(*) from lease") == 0
    assert await bench.lab.value(f"select attempts from {'suspect' if alone else 'ready'}") == 0
    cut = False
    await some.run_due()
    assert await bench.states() == ["completed"]


@pytest.mark.parametrize(("started", "lost"), [("5 s", 0), ("11 s", 1)])
async def test_after_an_outage_nobody_is_judged_before_the_others_have_spoken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, started: str, lost: int
) -> None:
    """Nobody has a fresh heartbeat then, and what was done meanwhile is not yet said."""
    start = "pg_postmaster_start_time()"
    assert start in reaping.LOST
    monkeypatch.setattr(reaping, "LOST", reaping.LOST.replace(start, f"clock_timestamp() - interval '{started}'"))
    await bench.add(1)
    async with bench.lab.postgres.transaction() as db:
        await lines.claim(db, PLAIN, 1, "cut off", uuid4())
        await db.execute("insert into worker (id, process, app_id, roles, started_at, seen_at, partitions) values"
                         " ('w', 'cut off', 'a', 'jobs', now(), clock_timestamp() - interval '1 min', 0)")

    found = await Reaper(bench.lab.postgres.transaction, lambda: bench.lab.now, "w2").reap()

    async with bench.lab.postgres.transaction() as db:
        await db.execute("delete from worker")
    assert found == lost


# Suspects -------------------------------------------------------------------------------------------------------------


async def lost(lab: Lab, queue: Queue, count: int) -> None:
    """So many jobs were claimed by a process that is gone."""
    async with lab.postgres.transaction() as db:
        assert len(await lines.claim(db, queue, count, "gone", uuid4())) == count
    await Reaper(lab.postgres.transaction, lambda: lab.now, "w2").reap()


async def test_a_suspect_is_not_claimed_before_its_neighbours_have_ended(lab: Lab) -> None:
    bench = Bench(lab, Stroke, transaction=False)
    begun, end = asyncio.Event(), asyncio.Event()
    beside: list[set[int]] = []
    running: set[int] = set()

    async def work(message: Stroke, ctx: Context) -> None:
        running.add(message.n)
        if message.n == 1:
            begun.set()
            await end.wait()
        beside.append(running - {message.n})
        running.discard(message.n)

    bench.does = work
    await bench.add(2, 3)
    await lost(lab, EIGHT, 2)
    await bench.add(1)
    async with serving(lab, bench.runner):
        await begun.wait()
        await asyncio.sleep(1.3)  # it has looked for suspects, and waits
        assert await lab.value("select count(*) from suspect") == 2
        end.set()
        await wait_for(lambda: all_done(lab, 3))

    assert beside == [set()] * 3
    assert sorted(bench.ran) == [1, 2, 3]


async def all_done(lab: Lab, count: int) -> bool:
    return await lab.value("select coalesce(sum(cardinality(ids)), 0) from finished") == count


async def test_long_neighbours_of_a_suspect_go_back_to_the_front_uncharged(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ALONE_AFTER", 0.1)
    bench = Bench(lab, Stroke, transaction=False)
    long = True

    async def work(message: Stroke, ctx: Context) -> None:
        nonlocal long
        if message.n == 1 and long:
            long = False
            await asyncio.Event().wait()

    bench.does = work
    await bench.add(2)
    await lost(lab, EIGHT, 1)
    await bench.add(1)
    async with serving(lab, bench.runner):
        await wait_for(lambda: all_done(lab, 2))

    assert bench.ran == [1, 2, 1]
    assert await lab.value("select count(*) from attempt") == 0


async def test_a_suspect_that_ignores_its_cancellation_does_not_hold_up_its_worker(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEASE_MARGIN", timedelta(seconds=0.2))
    queue = Queue("deaf suspects", concurrency=1, timeout=timedelta(seconds=0.2))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step, transaction=False)
    end = deaf(bench, 1)
    await bench.add(1)
    await lost(lab, queue, 1)
    async with serving(lab, bench.runner):
        await wait_for(lambda: begun(bench, 1))
        await bench.add(2)
        await wait_for(lambda: all_done(lab, 1))
    end.set()
    await asyncio.gather(*bench.runner._tasks)

    assert bench.ran == [1, 2]


async def begun(bench: Bench, n: int) -> bool:
    return n in bench.ran


async def test_a_lost_process_lease_that_has_run_out_meanwhile_is_a_crash_and_not_a_long_run(bench: Bench) -> None:
    await bench.add(1)
    async with bench.lab.postgres.transaction() as db:
        await lines.claim(db, PLAIN, 1, "gone", uuid4())
        await db.execute("update lease set until = clock_timestamp() - interval '1 min'")

    await Reaper(bench.lab.postgres.transaction, lambda: bench.lab.now, "w2").reap()

    assert await bench.lab.value("select count(*) from suspect") == 1
    assert await bench.lab.value("select count(*) from attempt") == 0


async def test_a_stopping_process_keeps_no_lease(bench: Bench) -> None:
    await bench.add(1, 2)
    async with bench.lab.postgres.transaction() as db:
        await lines.claim(db, PLAIN, 2, "w", uuid4())  # in the very moment of stopping: nobody began them

    await bench.runner.stop()

    assert await bench.states() == ["waiting"] * 2
    assert await bench.lab.rows("select attempts from ready") == [{"attempts": 0}] * 2


