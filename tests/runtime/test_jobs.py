"""The job engine: failed calls and jobs, once each, in their time, five starts at most."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from skillcore_streams.runtime import Context, Job, NotYet, PermanentError, Queue, Snooze, health
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner
from tests.runtime.lab import Echo, Lab, Probe, chunk, note, record

QUEUE = Queue("tests")


class Recount(Job, queue=QUEUE):
    """A job of the tests."""

    school_id: UUID


def executor(lab: Lab, worker: str = "w1") -> Runner:
    return Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, worker)


def reaper(lab: Lab) -> Reaper:
    return Reaper(lab.postgres.transaction, lambda: lab.now, "w1")


async def make_due(lab: Lab) -> None:
    """Time passes for Postgres, whose clock judges what is due."""
    async with lab.postgres.transaction() as db:
        await db.execute("update later set run_at = clock_timestamp() where run_at > clock_timestamp()")


async def waits(lab: Lab) -> float:
    """Seconds until the one waiting job is due, rounded."""
    left = await lab.value("select extract(epoch from run_at - clock_timestamp()) from later")
    return round(float(left))


async def state(lab: Lab) -> list[Any]:
    rows = await lab.rows("select state, attempts from job_now order by created_at")
    return [(r["state"], r["attempts"]) for r in rows]


async def test_a_failed_call_is_retried_after_1_2_4_8_seconds_then_dead_lettered(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise ValueError("secret")

    lab.handler(broken)
    await deliver(chunk([record(0)]), lab.core)
    runner, seen = executor(lab), [await waits(lab)]

    for _ in range(3):
        await make_due(lab)
        await runner.run_due()
        seen.append(await waits(lab))
    await make_due(lab)
    await runner.run_due()

    assert seen == [1, 2, 4, 8]
    assert await state(lab) == [("failed", 5)]
    [letter] = await lab.rows("select * from dead_letter")
    attempts = json.loads(letter["attempts"])
    assert (letter["kind"], letter["handler"], letter["record_offset"], len(attempts)) == ("call", "tests.broken", 0, 5)
    assert b"student_id" in letter["value"]
    assert "secret" not in str(dict(letter))


async def test_a_retried_call_that_succeeds_has_its_effect_once(lab: Lab) -> None:
    tries = 0

    async def flaky(event: Probe, ctx: Context) -> None:
        nonlocal tries
        tries += 1
        await note(event, ctx)
        ctx.publish(Echo(student_id=event.student_id, n=event.n))
        if tries < 4:
            raise ValueError

    lab.handler(flaky)
    await deliver(chunk([record(0, n=7)]), lab.core)
    runner = executor(lab)

    for _ in range(3):
        await make_due(lab)
        await runner.run_due()

    assert await lab.rows("select n from effect") == [{"n": 7}]
    assert await lab.value("select count(*) from outbox") == 1
    assert await state(lab) == [("completed", 3)]


async def test_a_call_that_is_not_due_is_left_alone(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise ValueError

    lab.handler(broken)
    await deliver(chunk([record(0)]), lab.core)

    assert await executor(lab).run_due() == 0


async def test_not_yet_and_snooze_spend_no_attempt(lab: Lab) -> None:
    # the first two are one attempt: both passes of the chunk
    answers: list[Exception] = [NotYet("a"), NotYet("a"), Snooze(timedelta(seconds=90)), NotYet("calendar")]

    async def waits_for_rows(event: Probe, ctx: Context) -> None:
        if answers:
            raise answers.pop(0)
        await note(event, ctx)

    lab.handler(waits_for_rows)
    await deliver(chunk([record(0)]), lab.core)
    runner = executor(lab)
    await make_due(lab)
    await runner.run_due()

    assert await waits(lab) == 90
    for _ in range(2):
        await make_due(lab)
        await runner.run_due()
    assert await state(lab) == [("completed", 1)]
    assert await lab.value("select count(*) from effect") == 1


async def test_not_yet_gives_up_after_a_day(lab: Lab) -> None:
    async def early(event: Probe, ctx: Context) -> None:
        raise NotYet("enrollment")

    lab.handler(early)
    await deliver(chunk([record(0)]), lab.core)
    created = await lab.value("select created_at from job")
    lab.now = created + timedelta(hours=25)
    await make_due(lab)

    await executor(lab).run_due()

    assert "given up after 24 hours" in await lab.value("select reason from dead_letter")


async def test_held_calls_run_in_order_after_the_failed_one(lab: Lab) -> None:
    student, broken = uuid4(), True

    async def ordered(event: Probe, ctx: Context) -> None:
        if broken:
            raise ValueError
        await note(event, ctx)

    lab.handler(ordered, hold=True)
    await deliver(chunk([record(n, student, n=n) for n in range(4)]), lab.core)
    broken = False
    runner = executor(lab)

    for _ in range(5):
        await make_due(lab)
        await runner.run_due()

    assert [r["n"] for r in await lab.rows("select n from effect order by id")] == [0, 1, 2, 3]


async def started(lab: Lab, process: str = "gone#1", *, alone: bool = False) -> None:
    """All that waits was claimed by a process, and that is all that is known of it."""
    async with lab.postgres.transaction() as db:
        await db.execute(
            """with gone as (delete from ready returning *), more as (delete from later returning *),
                    suspects as (delete from suspect returning *)
               insert into lease (job_id, token, queue, priority, flow, attempts, process, alone, until)
               select job_id, gen_random_uuid(), queue, priority, flow, attempts, $1, $2,
                      clock_timestamp() + interval '1 min'
                 from (select job_id, queue, priority, flow, attempts from gone
                       union all select job_id, queue, priority, flow, attempts from more
                       union all select job_id, queue, priority, flow, attempts from suspects) x""",
            process, alone,
        )


async def test_a_job_that_kills_its_worker_is_tried_alone_and_runs_out_of_starts(lab: Lab) -> None:
    async def kills(event: Probe, ctx: Context) -> None:
        raise ValueError("the first pass")

    lab.handler(kills)
    await deliver(chunk([record(0)]), lab.core)  # start 1, which failed

    starts = 1
    await started(lab)
    assert await reaper(lab).reap() == 1  # start 2: lost in company, it may be innocent
    starts += 1
    assert await state(lab) == [("waiting", 1)]
    while await lab.value("select count(*) from suspect"):
        await started(lab, alone=True)
        await reaper(lab).reap()
        starts += 1

    assert starts == 5
    assert (await state(lab))[0][0] == "failed"
    assert "WorkerLost" in await lab.value("select reason from dead_letter")


async def test_a_neighbour_of_a_killer_is_not_charged(lab: Lab) -> None:
    async def innocent(event: Probe, ctx: Context) -> None:
        if ctx.run is None:
            raise NotYet("the job")
        await note(event, ctx)

    lab.handler(innocent)
    await deliver(chunk([record(0)]), lab.core)
    await started(lab)
    await reaper(lab).reap()

    await executor(lab).run_due()

    assert await state(lab) == [("completed", 1)]


async def test_jobs_of_a_silent_worker_are_handed_on_and_those_of_a_living_one_are_not(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise ValueError

    lab.handler(broken)
    await deliver(chunk([record(0), record(1)]), lab.core)
    await started(lab, "alive#0")
    async with lab.postgres.transaction() as db:
        await db.execute("delete from worker")
        await health.beat(db, "alive", "alive#1", "skillcore", "jobs", lab.now, 0)
        await db.execute(
            "update lease set process = 'alive#1' where job_id = (select min(job_id::text)::uuid from lease)")

    assert await reaper(lab).reap() == 1
    assert await lab.value("select worker from job_now where state = 'running'") == "alive#1"


async def test_a_worker_that_lost_its_lease_commits_nothing(lab: Lab) -> None:
    async def slow(event: Probe, ctx: Context) -> None:
        if ctx.run is None:
            raise NotYet("first call")
        async with lab.postgres.transaction() as db:  # meanwhile somebody else has it
            await db.execute("update lease set token = gen_random_uuid(), process = 'w2'")
        await note(event, ctx)

    lab.handler(slow)
    await deliver(chunk([record(0)]), lab.core)
    await make_due(lab)

    await executor(lab).run_due()

    assert await lab.value("select count(*) from effect") == 0
    assert await lab.value("select process from lease") == "w2"


async def test_waiting_jobs_of_one_kind_and_content_are_done_by_one_run(lab: Lab) -> None:
    school, ran = uuid4(), 0

    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Recount(school_id=school), debounce=timedelta(seconds=5))

    async def recount(job: Recount, ctx: Context) -> None:
        nonlocal ran
        ran += 1

    lab.handler(orders)
    lab.handler(recount, Recount)  # type: ignore[arg-type]
    for n in range(3):
        await deliver(chunk([record(n)]), lab.core)
    assert await waits_all(lab) == [5, 5, 5]
    await make_due(lab)

    await executor(lab).run_due()

    assert ran == 1
    assert {s for s, _ in await state(lab)} == {"completed"}


async def waits_all(lab: Lab) -> list[int]:
    rows = await lab.rows("select extract(epoch from run_at - clock_timestamp()) s from later")
    return [round(float(r["s"])) for r in rows]


async def test_an_order_with_the_name_of_an_earlier_one_is_dropped(lab: Lab) -> None:
    async def welcomes(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Recount(school_id=event.student_id), unique=f"welcome:{event.student_id}")

    lab.handler(welcomes)
    student = uuid4()

    await deliver(chunk([record(0, student), record(1, student)]), lab.core)
    await deliver(chunk([record(2, student)]), lab.core)

    assert await lab.value("select count(*) from job") == 1


async def test_jobs_of_queues_without_a_function_wait_for_the_engine(lab: Lab) -> None:
    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Recount(school_id=event.student_id), priority=5)

    lab.handler(orders)
    await deliver(chunk([record(0)]), lab.core)

    assert await executor(lab).run_due() == 0
    assert await state(lab) == [("waiting", 0)]


async def test_lower_priority_numbers_run_first_and_none_before_all(lab: Lab) -> None:
    ran: list[int] = []
    schools = {uuid4(): p for p in (10, 0, 5, 1)}
    one_by_one = Queue("one-by-one", concurrency=1)

    class Recount(Job, queue=one_by_one):
        """Of a queue that runs one at a time."""

        school_id: UUID

    async def orders(event: Probe, ctx: Context) -> None:
        for school, priority in schools.items():
            ctx.enqueue(Recount(school_id=school), priority=priority)

    async def recount(job: Recount, ctx: Context) -> None:
        ran.append(schools[job.school_id])

    lab.handler(orders)
    lab.handler(recount, Recount)  # type: ignore[arg-type]
    await deliver(chunk([record(0)]), lab.core)

    await executor(lab).run_due()

    assert ran == [0, 1, 5, 10]


async def test_two_executors_run_each_job_once(lab: Lab) -> None:
    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Recount(school_id=event.student_id))

    async def recount(job: Recount, ctx: Context) -> None:
        await ctx.db.execute("insert into effect (handler, event_key) values ('recount', $1)", job.meta.key)

    lab.handler(orders)
    lab.handler(recount, Recount)  # type: ignore[arg-type]
    await deliver(chunk([record(n) for n in range(60)]), lab.core)
    runners = [executor(lab, "a"), executor(lab, "b")]

    while sum(await asyncio.gather(*(r.run_due() for r in runners))):
        pass

    assert await lab.rows("select count(*) n, count(distinct event_key) k from effect") == [{"n": 60, "k": 60}]


@pytest.mark.parametrize("error", [PermanentError("no such class"), NotYet("x"), ValueError("x")])
async def test_what_a_failed_job_did_is_undone(lab: Lab, error: Exception) -> None:
    async def orders(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Recount(school_id=event.student_id))

    async def recount(job: Recount, ctx: Context) -> None:
        await ctx.db.execute("insert into effect (handler, event_key) values ('recount', $1)", job.meta.key)
        ctx.publish(Echo(student_id=job.school_id))
        raise error

    lab.handler(orders)
    lab.handler(recount, Recount)  # type: ignore[arg-type]
    await deliver(chunk([record(0)]), lab.core)

    await executor(lab).run_due()

    assert await lab.value("select count(*) from effect") == 0
    assert await lab.value("select count(*) from outbox where topic not like '%.dlq'") == 0
