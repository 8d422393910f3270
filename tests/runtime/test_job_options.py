"""Every option of a job means what BullMQ means by it (QUEUES.md section 5), and what we add means what it says."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from skillcore_streams.runtime import Backoff, Context, Job, PermanentError, Queue, Rate, Snooze
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.jobs import insert
from skillcore_streams.runtime.jobs.door import JobOptions, job_meta, order
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.messages import QUEUES
from skillcore_streams.runtime.registry import Handler
from tests.runtime.lab import NOW, Lab

PLAIN = Queue("plain", concurrency=1)


class Step(Job, queue=PLAIN, kind="step"):
    """Work of these tests."""

    n: int


class Bench:
    """Puts jobs in, lets time pass, runs them; `ran` is the order in which they began."""

    def __init__(self, lab: Lab, job: type[Job] = Step, *, transaction: bool = True, batch: bool = False) -> None:
        self.lab, self.job, self.queue = lab, job, job.__queue__
        self.ran: list[Any] = []
        self.does: Callable[[Any, Context], Awaitable[Any]] | None = None

        async def work(message: Any, ctx: Context) -> Any:
            self.ran.append([m.n for m in message] if batch else message.n)
            return await self.does(message, ctx) if self.does is not None else None

        lab.registry.add(Handler(f"tests.{job.__name__}", job, work, batch, False, transaction))
        self.runner = Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w", roll=lambda: 0.5,
                             queues=[self.queue.name])

    async def add(self, *numbers: int, tenant: str = "oak", id: str | None = None, **options: Any) -> list[UUID]:
        """Insert jobs as BullMQ's `addBulk` would; options in its units. Returns the ids of those that were new."""
        orders = [self.order(n, tenant=tenant, id=id, **options) for n in numbers]
        async with self.lab.postgres.transaction() as db:
            fresh = await insert(db, orders)
        return [o.id for o in orders if o.id in fresh]

    def order(self, n: int, *, tenant: str = "oak", id: str | None = None, **options: Any) -> Order:
        said = JobOptions.model_validate_json(json.dumps(options, default=str))
        return order(self.queue, "step", {"n": n}, said, job_meta(tenant, self.queue, id or str(uuid4()), NOW))

    async def run(self, rounds: int = 1) -> list[Any]:
        """Claim and run what is due, so many times. Returns what ran."""
        before = len(self.ran)
        for _ in range(rounds):
            await self.runner.run_due()
        return self.ran[before:]

    async def pass_time(self) -> float:
        """Let the next delayed job fall due. Returns how many seconds it had to wait, rounded up to halves: a moment of
        it has passed already."""
        wait = await self.lab.value("select min(extract(epoch from run_at - clock_timestamp())) from later")
        async with self.lab.postgres.transaction() as db:
            await db.execute("update later set run_at = run_at - make_interval(secs => $1)", float(wait) + 0.001)
        return math.ceil(float(wait) * 2) / 2

    async def states(self) -> list[str]:
        rows = await self.lab.rows("select state from job_now order by created_at, payload")
        return [row["state"] for row in rows]


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return Bench(lab)


def raises(error: Exception) -> Callable[[Any, Context], Awaitable[None]]:
    async def work(message: Any, ctx: Context) -> None:
        raise error

    return work


# Attempts and backoff -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "waits"), [
    ({"attempts": 5, "backoff": {"type": "exponential", "delay": 1000}}, [1.0, 2.0, 4.0, 8.0]),
    ({"attempts": 3, "backoff": {"type": "exponential", "delay": 500}}, [0.5, 1.0]),
    ({"attempts": 3, "backoff": {"type": "fixed", "delay": 3000}}, [3.0, 3.0]),
    ({"attempts": 3, "backoff": 1500}, [1.5, 1.5]),
    ({"attempts": 3, "backoff": {"type": "fixed", "delay": 2000, "jitter": 1.0}}, [1.0, 1.0]),
    ({"attempts": 1}, []),
    ({}, [1.0, 2.0, 4.0, 8.0]),
])
async def test_attempts_are_total_tries_and_waits_follow_the_backoff(
    bench: Bench, options: dict[str, Any], waits: list[float]
) -> None:
    bench.does = raises(ValueError())
    await bench.add(1, **options)
    seen = []
    await bench.run()
    while await bench.lab.value("select count(*) from later"):
        seen.append(await bench.pass_time())
        await bench.run()

    assert seen == waits
    assert len(bench.ran) == len(waits) + 1
    assert await bench.states() == ["failed"]


async def test_a_retry_without_a_wait_goes_to_the_tail(bench: Bench) -> None:
    async def first_fails(message: Step, ctx: Context) -> None:
        if message.n == 1 and bench.ran.count(1) == 1:
            raise ValueError

    bench.does = first_fails
    await bench.add(1, 2, 3, backoff=0)

    assert await bench.run() == [1, 2, 3, 1]


async def test_an_unrecoverable_error_is_not_retried(bench: Bench) -> None:
    bench.does = raises(PermanentError("no such class"))
    await bench.add(1)

    assert await bench.run(3) == [1]
    assert await bench.states() == ["failed"]
    assert await bench.lab.value("select reason from dead_letter") == "PermanentError: no such class"


async def test_a_snooze_spends_no_attempt(bench: Bench) -> None:
    bench.does = raises(Snooze(timedelta(seconds=30)))
    await bench.add(1, attempts=1)
    for _ in range(4):
        await bench.run()
        assert await bench.pass_time() == 30.0
    bench.does = None

    assert await bench.run() == [1]
    assert await bench.states() == ["completed"]


async def test_the_wait_may_depend_on_the_error(lab: Lab) -> None:
    class Busy(Exception):
        pass

    queue = Queue("by-error", concurrency=1, backoff=Backoff(
        timedelta(seconds=1), by_error=lambda error, failures: timedelta(seconds=60) if type(error) is Busy else None))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step)
    bench.does = raises(Busy())
    await bench.add(1)
    await bench.run()
    assert await bench.pass_time() == 60.0
    bench.does = raises(ValueError())
    await bench.run()
    assert await bench.pass_time() == 2.0


# Order ----------------------------------------------------------------------------------------------------------------


async def test_priority_0_is_first_of_all_then_lower_numbers_and_first_in_first_out_among_equals(bench: Bench) -> None:
    for n, priority in enumerate([10, 1, 0, 5, 1, 2_097_151, 0, 10]):
        await bench.add(n, priority=priority)

    assert await bench.run() == [2, 6, 1, 4, 3, 0, 7, 5]


async def test_a_delayed_job_comes_at_its_time_and_takes_its_place_by_priority(bench: Bench) -> None:
    await bench.add(1, delay=5000, priority=1)
    await bench.add(2, 3, priority=2)
    assert await bench.run() == [2, 3]

    await bench.add(4, priority=2)
    assert await bench.pass_time() == 5.0
    assert await bench.run() == [1, 4]


async def test_tenants_of_one_priority_take_turns_behind_one_s_backlog(lab: Lab) -> None:
    bench = Bench(lab)
    await bench.add(*range(100), tenant="big")
    await bench.add(*range(100, 110), tenant="small")
    await bench.add(*range(200, 210), tenant="tiny")

    ran = await bench.run()

    assert all(sum(1 for n in ran[:30] if low <= n < low + 100) == 10 for low in (0, 100, 200))
    for low in (0, 100, 200):
        mine = [n for n in ran if low <= n < low + 100]
        assert mine == sorted(mine)


async def test_no_order_is_lost_when_priorities_and_tenants_come_in_between_claims(lab: Lab) -> None:
    bench = Bench(lab)
    expected = 0
    for round_ in range(20):
        for tenant in ("a", "b", "c"):
            numbers = [1000 * round_ + ord(tenant) + 7 * k for k in range(round_ % 5)]
            expected += len(await bench.add(*numbers, tenant=tenant, priority=round_ % 3)) if numbers else 0
        async with lab.postgres.transaction() as db:
            await db.execute("update level set moved_at = moved_at - interval '1 s'")
        if round_ % 2:
            await bench.run()
    await bench.run()

    assert len(bench.ran) == expected
    assert await lab.value("select bool_and(head > 0) from level")


# Ids and deduplication ------------------------------------------------------------------------------------------------


async def test_an_id_that_is_there_already_is_ignored_in_any_state(bench: Bench) -> None:
    assert len(await bench.add(1, id="a")) == 1
    assert await bench.add(2, id="a") == []
    await bench.run()
    assert await bench.add(3, id="a") == []
    assert bench.ran == [1]
    assert len(await bench.add(4, id="a", tenant="elm")) == 1


async def test_simple_deduplication_lasts_until_the_job_has_ended(bench: Bench) -> None:
    dedup = {"id": "digest"}
    assert len(await bench.add(1, deduplication=dedup)) == 1
    assert await bench.add(2, deduplication=dedup) == []
    assert len(await bench.add(3, deduplication=dedup, tenant="elm")) == 1
    await bench.run()
    assert len(await bench.add(4, deduplication=dedup)) == 1
    bench.does = raises(PermanentError("x"))
    await bench.run()
    assert len(await bench.add(5, deduplication=dedup)) == 1


async def test_a_throttle_lasts_for_its_time_whatever_became_of_the_job(bench: Bench) -> None:
    dedup = {"id": "digest", "ttl": 5000}
    assert len(await bench.add(1, deduplication=dedup)) == 1
    await bench.run()
    assert await bench.add(2, deduplication=dedup) == []
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update dedup set until = until - interval '6 s'")
    assert len(await bench.add(3, deduplication=dedup)) == 1


async def test_a_debounce_keeps_the_newest_and_begins_its_time_anew(bench: Bench) -> None:
    dedup = {"id": "digest", "ttl": 5000, "extend": True, "replace": True}
    for n in (1, 2, 3):
        assert len(await bench.add(n, deduplication=dedup, delay=5000)) == 1
    assert await bench.pass_time() == 5.0
    assert await bench.run() == [3]
    assert await bench.states() == ["completed"] * 3


# Time -----------------------------------------------------------------------------------------------------------------


async def test_a_run_that_takes_too_long_is_cancelled_and_that_is_a_failure(bench: Bench) -> None:
    async def slow(message: Step, ctx: Context) -> None:
        await asyncio.Event().wait()

    bench.does = slow
    await bench.add(1, timeout=50, attempts=1)
    await bench.run()

    assert await bench.states() == ["failed"]
    assert "TimeoutError" in await bench.lab.value("select reason from dead_letter")


async def test_what_has_expired_before_it_began_is_not_begun(bench: Bench) -> None:
    await bench.add(1, expiresAt=datetime(2020, 1, 1, tzinfo=UTC).isoformat())
    await bench.add(2, expiresAt=datetime(2150, 1, 1, tzinfo=UTC).isoformat())

    assert await bench.run() == [2]
    assert await bench.lab.value("select count(*) from finished where outcome = 'expired'") == 1


# Limits ---------------------------------------------------------------------------------------------------------------


async def test_a_paused_queue_starts_nothing_and_goes_on_where_it_was(bench: Bench) -> None:
    await bench.add(1, 2)
    await bench.runner.run_due()
    await bench.add(3)
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update queue set paused_at = now() where name = 'plain'")
    assert await bench.run() == []
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update queue set paused_at = null where name = 'plain'")
    assert await bench.run() == [3]


async def test_no_more_start_in_a_window_than_the_rate_allows(lab: Lab) -> None:
    queue = Queue("rated", concurrency=10, rate=Rate(3, timedelta(seconds=60)))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step)
    await bench.add(*range(8))
    assert sorted(await bench.run(2)) == [0, 1, 2]
    async with lab.postgres.transaction() as db:
        await db.execute("update queue set window_start = window_start - interval '61 s' where name = 'rated'")
    assert sorted(await bench.run(2)) == [3, 4, 5]


async def test_jobs_running_over_all_workers_are_limited(lab: Lab) -> None:
    queue = Queue("few", concurrency=10, max_running=2)

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step, transaction=False)
    running, most = 0, 0

    async def work(message: Step, ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    bench.does = work
    other = Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w2", queues=["few"])
    await bench.add(*range(20))
    while len(bench.ran) < 20:
        await asyncio.gather(bench.runner.run_due(), other.run_due())

    assert most <= 2
    assert sorted(bench.ran) == list(range(20))


# What a job can say and be told ---------------------------------------------------------------------------------------


async def test_progress_log_lines_and_result_are_kept(bench: Bench) -> None:
    async def work(message: Step, ctx: Context) -> dict[str, bool]:
        ctx.progress({"pages": 3})
        ctx.note("three pages")
        return {"sent": True}

    bench.does = work
    [job_id] = await bench.add(1)
    await bench.run()

    [row] = await bench.lab.rows("""
        select progress, line, result from job_progress join job_log using (job_id) join job_result using (job_id)
         where job_id = $1""", job_id)
    assert json.loads(row["progress"]) == {"pages": 3}
    assert row["line"] == "three pages"
    assert json.loads(row["result"]) == {"sent": True}


async def test_a_running_job_is_cancelled_from_anywhere(lab: Lab) -> None:
    bench = Bench(lab, transaction=False)
    begun = asyncio.Event()

    async def work(message: Step, ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    bench.does = work
    [job_id] = await bench.add(1)
    turn = asyncio.create_task(bench.runner.run_due())
    await begun.wait()
    async with lab.postgres.transaction() as db:
        await db.execute("update lease set cancelled = true where job_id = $1", job_id)
    watch = asyncio.create_task(bench.runner._watch())
    await turn
    watch.cancel()

    assert await lab.value("select outcome from finished") == "cancelled"
    assert await lab.value("select count(*) from lease") == 0


async def test_a_function_of_a_list_gets_many_jobs_in_one_call(lab: Lab) -> None:
    queue = Queue("many", concurrency=8)

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step, batch=True)
    await bench.add(*range(40))
    ran = await bench.run()

    assert sorted(n for call in ran for n in call) == list(range(40))
    assert max(len(call) for call in ran) > 1


async def test_of_jobs_that_share_a_transaction_only_the_one_that_failed_fails(lab: Lab) -> None:
    queue = Queue("shared", concurrency=8)

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step)

    async def work(message: Step, ctx: Context) -> None:
        await ctx.db.execute("insert into effect (handler, event_key, n) values ('step', $1, $2)", uuid4(), message.n)
        if message.n == 21:
            raise PermanentError("21")

    bench.does = work
    await bench.add(*range(32))
    await bench.run()

    assert [r["n"] for r in await lab.rows("select n from effect order by n")] == [n for n in range(32) if n != 21]
    assert await lab.value("select count(*) from dead_letter") == 1


# Keeping --------------------------------------------------------------------------------------------------------------


async def test_finished_jobs_are_kept_by_age_and_by_count(lab: Lab) -> None:
    from skillcore_streams.runtime.jobs.reaper import Reaper

    queue = Queue("kept", concurrency=1, keep_completed=(timedelta(hours=1), 10))

    class Step(Job, queue=queue, kind="step"):
        n: int

    bench = Bench(lab, Step)
    reaper = Reaper(lab.postgres.transaction, lambda: lab.now, "w")
    await bench.add(*range(15))
    await bench.run()
    while await reaper.prune():
        pass
    assert await lab.value("select count(*) from job where queue = 'kept'") == 10
    async with lab.postgres.transaction() as db:
        await db.execute("update finished set at = at - interval '2 hours'")
    while await reaper.prune():
        pass
    assert await lab.value("select count(*) from job where queue = 'kept'") == 0


async def test_open_dead_letters_keep_their_jobs(bench: Bench) -> None:
    from skillcore_streams.runtime.jobs.reaper import Reaper

    bench.does = raises(PermanentError("x"))
    await bench.add(1)
    await bench.run()
    async with bench.lab.postgres.transaction() as db:
        await db.execute("update dead_letter set last_at = last_at - interval '30 days'")
    await Reaper(bench.lab.postgres.transaction, lambda: NOW, "w").prune()

    assert await bench.states() == ["failed"]


def test_the_seven_queues_have_the_seed_s_options() -> None:
    from skillcore_streams import queues

    queues.load()
    seven = {
        "notification-delivery", "grade-processing", "attendance-aggregation", "report-generation", "data-archival",
        "intervention-detection", "compliance-reporting",
    }
    assert seven <= set(QUEUES)
    for name in seven:
        queue = QUEUES[name]
        assert (queue.attempts, queue.concurrency) == (5, 10)
        assert [queue.backoff.wait(n).total_seconds() for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
        assert queue.keep_completed == (timedelta(hours=24), 1000)
        assert queue.keep_failed == timedelta(days=7)
