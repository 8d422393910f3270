"""What operators see of jobs and do with them, beside workers that claim at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from skillcore_streams.runtime import Context, Job, PermanentError, Queue
from skillcore_streams.runtime.acts import Act, By, Misused, Unknown, resolve
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.jobs import backlog, door, lines, operator, orders
from skillcore_streams.runtime.jobs.operator import Wanted
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner
from tests.runtime.lab import Echo, Lab, Probe, chunk, record

QUEUE = Queue("operated", concurrency=5)
ANN = By("ann", "a test")


class Sweep(Job, queue=QUEUE, kind="sweep"):
    """A job of these tests."""

    floor: int
    remark: str = ""


def runner(lab: Lab, process: str = "w1#1") -> Runner:
    return Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, process)


async def add(lab: Lab, n: int = 1, tenant: str = "oak", **options: Any) -> list[UUID]:
    """Jobs as `skillcore jobs add` makes them."""
    made = []
    for floor in range(n):
        said = door.JobOptions.model_validate({"jobId": str(uuid4())} | options)
        meta = door.job_meta(tenant, QUEUE, said.job_id or "", lab.now)
        made.append(door.order(QUEUE, "sweep", {"floor": floor}, said, meta))
    async with lab.postgres.transaction() as db:
        await orders.insert(db, made)
    return [o.id for o in made]


async def act(lab: Lab, what: Callable[..., Awaitable[Act]], *args: Any) -> Act:
    async with lab.postgres.transaction() as db:
        return await what(db, *args)


async def show(lab: Lab, job: UUID) -> dict[str, Any]:
    async with lab.postgres.transaction() as db:
        return await operator.show(db, job)


async def find(lab: Lab, limit: int = 50, after: str | None = None, **wanted: Any) -> tuple[list[dict[str, Any]], Any]:
    async with lab.postgres.transaction() as db:
        return await operator.find(db, Wanted(**wanted), limit, after)


async def state(lab: Lab, job: UUID) -> str:
    return str((await show(lab, job))["state"])


def sweeps(lab: Lab, error: Exception | None = None) -> list[int]:
    """Registers the function of these jobs. Returns the floors it has swept."""
    swept: list[int] = []

    async def sweep(job: Sweep, ctx: Context) -> dict[str, int]:
        ctx.note(f"floor {job.floor}")
        ctx.progress(50)
        if error is not None:
            raise error
        swept.append(job.floor)
        ctx.publish(Echo(student_id=UUID(int=job.floor)))
        ctx.enqueue(Sweep(floor=job.floor + 100), delay=timedelta(hours=1))
        return {"swept": job.floor}

    lab.handler(sweep, Sweep)  # type: ignore[arg-type]
    return swept


async def fail(lab: Lab) -> UUID:
    """A job that has failed for good."""
    [job] = await add(lab, attempts=1)
    await runner(lab).run_due()
    return job


# Cancel ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"delay": 60_000}])
async def test_a_job_that_has_not_begun_is_cancelled_at_once_and_never_runs(lab: Lab, options: dict[str, Any]) -> None:
    swept = sweeps(lab)
    [job] = await add(lab, **options)

    first = await act(lab, operator.cancel, job, ANN)
    second = await act(lab, operator.cancel, job, ANN)
    await lab.rows("update later set run_at = clock_timestamp()")
    await runner(lab).run_due()

    assert first.done
    assert second.done
    assert "already: cancelled" in second.said
    assert await state(lab, job) == "cancelled"
    assert swept == []


async def test_a_running_job_is_cancelled_by_its_process_and_its_effects_are_undone(lab: Lab) -> None:
    began = asyncio.Event()

    async def sweep(job: Sweep, ctx: Context) -> None:
        await ctx.db.execute("insert into effect (handler) values ('sweep')")
        began.set()
        await asyncio.sleep(60)

    lab.handler(sweep, Sweep)  # type: ignore[arg-type]
    [job] = await add(lab)
    serving = runner(lab)
    task = asyncio.create_task(serving.serve())
    serving.wake()
    await asyncio.wait_for(began.wait(), 10)

    said = await act(lab, operator.cancel, job, ANN)
    async with asyncio.timeout(10):
        while await state(lab, job) == "running":
            pass
    await serving.stop(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert "runs on w1#1" in said.said
    assert await state(lab, job) == "cancelled"
    assert await lab.value("select count(*) from effect") == 0


async def test_a_job_that_fails_before_its_process_hears_of_the_cancel_does_not_come_back(lab: Lab) -> None:
    async def sweep(job: Sweep, ctx: Context) -> None:
        assert (await act(lab, operator.cancel, ctx.meta.key, ANN)).done
        raise ValueError

    lab.handler(sweep, Sweep)  # type: ignore[arg-type]
    [job] = await add(lab)

    await runner(lab).run_due()

    assert await state(lab, job) == "cancelled"
    assert await lab.value("select count(*) from later") == 0


async def test_what_waits_behind_a_cancelled_call_goes_on(lab: Lab) -> None:
    student, broken = uuid4(), True

    async def ordered(event: Probe, ctx: Context) -> None:
        if broken:
            raise ValueError
        await ctx.db.execute("insert into effect (handler, n) values ('ordered', $1)", event.n)

    lab.handler(ordered, hold=True)
    await deliver(chunk([record(n, student, n=n) for n in range(4)]), lab.core)
    broken = False
    first, second, third, _ = [r["id"] for r in await lab.rows("select id from job order by hold_seq")]

    assert await state(lab, third) == "held"
    assert (await act(lab, operator.cancel, third, ANN)).done
    assert (await act(lab, operator.cancel, first, ANN)).done
    while await runner(lab).run_due():
        pass

    assert [r["n"] for r in await lab.rows("select n from effect order by id")] == [1, 3]
    assert [await state(lab, j) for j in (first, second, third)] == ["cancelled", "completed", "cancelled"]


async def test_a_cancelled_job_s_deduplication_key_is_free(lab: Lab) -> None:
    [first] = await add(lab, deduplication={"id": "one"})
    assert await lab.value("select count(*) from dedup") == 1

    await act(lab, operator.cancel, first, ANN)
    [again] = await add(lab, deduplication={"id": "one"})

    assert await state(lab, again) == "waiting"


async def test_a_cancel_beside_a_claim_has_one_outcome(lab: Lab) -> None:
    """The claim is committed after the cancel has looked: it waits for the row, misses it, and asks the new owner."""
    [job] = await add(lab)
    async with lab.postgres.transaction() as claiming:
        [claim] = await lines.claim(claiming, QUEUE, 10, "w1#1", uuid4())
        cancelling = asyncio.create_task(act(lab, operator.cancel, job, ANN))
        async with asyncio.timeout(5):
            while not await lab.value("select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                                      "and datname = current_database()"):
                pass
    said = await cancelling

    assert claim.id == job
    assert "runs on w1#1" in said.said
    assert await lab.value("select cancelled from lease")


async def test_many_cancels_beside_many_claims_end_each_job_once(lab: Lab) -> None:
    swept = sweeps(lab)
    jobs = await add(lab, 60)

    async def cancel_some() -> list[Act]:
        return [await act(lab, operator.cancel, job, ANN) for job in jobs[::2]]

    acts, *_ = await asyncio.gather(cancel_some(), runner(lab, "a#1").run_due(), runner(lab, "b#1").run_due())
    while await runner(lab).run_due():
        pass

    ends = await lab.rows("select outcome, unnest(ids) as id from finished")
    assert len({e["id"] for e in ends}) == len(ends)
    assert {e["id"] for e in ends} >= set(jobs)
    by_hand = {e["id"] for e in ends if e["outcome"] == "cancelled"}
    assert len(swept) == 60 - len(by_hand)
    assert all("not begun" in a.said for job, a in zip(jobs[::2], acts, strict=True) if job in by_hand)


async def test_a_lost_worker_s_job_that_was_cancelled_does_not_run_again(lab: Lab) -> None:
    [job] = await add(lab)
    async with lab.postgres.transaction() as db:
        await lines.claim(db, QUEUE, 1, "gone#1", uuid4())
    await act(lab, operator.cancel, job, ANN)

    await Reaper(lab.postgres.transaction, lambda: lab.now, "w1#1").reap()

    assert await state(lab, job) == "cancelled"


async def test_what_has_failed_or_is_unknown_cannot_be_cancelled(lab: Lab) -> None:
    sweeps(lab, PermanentError("no broom"))
    job = await fail(lab)

    assert "discard its dead letter" in (await act(lab, operator.cancel, job, ANN)).said
    with pytest.raises(Unknown):
        await act(lab, operator.cancel, uuid4(), ANN)
    with pytest.raises(Misused):
        await act(lab, operator.cancel, job, By("ann", " "))


# Promote, pause -------------------------------------------------------------------------------------------------------


async def test_a_promoted_job_runs_now_and_another_promotion_says_so(lab: Lab) -> None:
    swept = sweeps(lab)
    [job] = await add(lab, delay=3_600_000)

    assert (await act(lab, operator.promote, job, ANN)).said == "it is due now"
    await runner(lab).run_due()

    assert swept == [0]
    assert "not delayed: completed" in (await act(lab, operator.promote, job, ANN)).said


async def test_of_jobs_done_by_one_run_a_promoted_one_does_not_run_beside_the_other(lab: Lab) -> None:
    ran = 0

    async def orders_it(event: Probe, ctx: Context) -> None:
        ctx.enqueue(Sweep(floor=1), debounce=timedelta(hours=1))

    async def sweep(job: Sweep, ctx: Context) -> None:
        nonlocal ran
        ran += 1

    lab.handler(orders_it)
    lab.handler(sweep, Sweep)  # type: ignore[arg-type]
    for n in range(2):
        await deliver(chunk([record(n)]), lab.core)
    for job in [r["id"] for r in await lab.rows("select id from job")]:
        await act(lab, operator.promote, job, ANN)

    await runner(lab).run_due()

    assert ran == 1


async def test_a_paused_queue_claims_nothing_suspects_included_until_it_is_resumed(lab: Lab) -> None:
    swept = sweeps(lab)
    await add(lab, 2)
    async with lab.postgres.transaction() as db:
        await lines.claim(db, QUEUE, 1, "gone#1", uuid4())
    await Reaper(lab.postgres.transaction, lambda: lab.now, "w1#1").reap()
    assert await lab.value("select count(*) from suspect") == 1

    first = await act(lab, operator.pause, "operated", ANN)
    again = await act(lab, operator.pause, "operated", By("bob", "also"))
    assert await runner(lab).run_due() == 0
    resumed = await act(lab, operator.resume, "operated", ANN)
    await runner(lab).run_due()

    assert "0 jobs still run to their end, 1 wait" in first.said
    assert "by ann" in again.said
    assert resumed.done
    assert (await act(lab, operator.resume, "operated", ANN)).said == "operated is not paused"
    assert sorted(swept) == [0, 1]


async def test_a_queue_that_nobody_knows_is_not_paused(lab: Lab) -> None:
    with pytest.raises(Unknown, match="no queue typo"):
        await act(lab, operator.pause, "typo", ANN)


# Retry ----------------------------------------------------------------------------------------------------------------


async def test_a_failed_job_is_retried_with_all_its_attempts_once_for_each_time_it_fails(lab: Lab) -> None:
    sweeps(lab, ValueError("x"))
    [job] = await add(lab, attempts=2, backoff=1)
    for _ in range(2):
        await lab.rows("update later set run_at = clock_timestamp()")
        await runner(lab).run_due()
    assert await state(lab, job) == "failed"

    first = await act(lab, operator.retry, job, ANN, lab.now)
    second = await act(lab, operator.retry, job, By("bob", "me too"), lab.now)
    waiting = await show(lab, job)
    for _ in range(2):
        await lab.rows("update later set run_at = clock_timestamp()")
        await runner(lab).run_due()
    third = await act(lab, operator.retry, job, ANN, lab.now)

    assert first.done
    assert not second.done
    assert "it was retried already" in second.said
    assert "by ann" in second.said
    assert (waiting["state"], waiting["attempts"]) == ("waiting", 0)
    assert third.done
    letters = await lab.rows("select status, jsonb_array_length(attempts) n from dead_letter order by last_at")
    assert [(r["status"], r["n"]) for r in letters] == [("retried", 2), ("retried", 2)]


async def test_two_people_who_retry_at_once_put_the_job_in_line_once(lab: Lab) -> None:
    sweeps(lab, PermanentError("no broom"))
    job = await fail(lab)

    acts = await asyncio.gather(*(act(lab, operator.retry, job, By(name, "now"), lab.now) for name in ("ann", "bob")))

    assert sorted(a.done for a in acts) == [False, True]
    assert await lab.value("select count(*) from ready") == 1


async def test_a_retried_job_is_not_forgotten_while_it_waits(lab: Lab) -> None:
    sweeps(lab, PermanentError("no broom"))
    job = await fail(lab)
    await act(lab, operator.retry, job, ANN, lab.now)
    await lab.rows("update dead_letter set last_at = last_at - interval '100 days'")

    await Reaper(lab.postgres.transaction, lambda: lab.now, "w1#1").prune()

    assert await state(lab, job) == "waiting"


async def test_what_has_not_failed_is_not_retried(lab: Lab) -> None:
    sweeps(lab)
    [job] = await add(lab)

    assert "it has not failed: waiting" in (await act(lab, operator.retry, job, ANN, lab.now)).said


async def test_every_act_is_kept_with_who_and_why(lab: Lab) -> None:
    sweeps(lab, PermanentError("no broom"))
    job = await fail(lab)
    [other] = await add(lab, delay=60_000)
    await act(lab, operator.retry, job, ANN, lab.now)
    await act(lab, operator.promote, other, ANN)
    await act(lab, operator.cancel, other, ANN)
    await act(lab, operator.pause, "operated", ANN)
    await act(lab, operator.resume, "operated", ANN)

    kept = await lab.rows("select actor, action, reason from operator_action order by id")
    assert [k["action"] for k in kept] == [
        "dead-letters retry", "jobs promote", "jobs cancel", "queues pause", "queues resume",
    ]
    assert {(k["actor"], k["reason"]) for k in kept} == {("ann", "a test")}


# List -----------------------------------------------------------------------------------------------------------------


async def every_state(lab: Lab) -> dict[str, UUID]:
    """One job in each place."""
    sweeps(lab)
    found: dict[str, UUID] = {}
    [found["completed"]] = await add(lab)
    await runner(lab).run_due()
    [found["cancelled"]] = await add(lab)
    await act(lab, operator.cancel, found["cancelled"], ANN)
    [found["expired"]] = await add(lab, expiresAt="2001-01-01T00:00:00Z")
    await runner(lab).run_due()
    lab.registry._by_message.clear()
    lab.registry._by_id.clear()
    sweeps(lab, PermanentError("no broom"))
    found["failed"] = await fail(lab)
    [found["running"]] = await add(lab)
    async with lab.postgres.transaction() as db:
        await lines.claim(db, QUEUE, 10, "w1#1", uuid4())
    [found["delayed"]] = await add(lab, delay=60_000, tenant="ash")
    [found["waiting"]] = await add(lab, priority=3)
    return found


async def test_each_state_is_listed_and_shown_as_such(lab: Lab) -> None:
    jobs = await every_state(lab)

    for name, job in jobs.items():
        listed, _ = await find(lab, state=name)
        assert job in {r["id"] for r in listed}, name
        assert {r["state"] for r in listed} == {name}
        assert await state(lab, job) == name
    everything, _ = await find(lab)
    assert {r["id"] for r in everything} >= set(jobs.values())


async def test_the_list_is_in_the_order_of_turns_and_pages_miss_and_repeat_nothing(lab: Lab) -> None:
    await every_state(lab)
    plain, urgent, late = await add(lab, 3), await add(lab, 2, priority=1), await add(lab, 2, delay=5000)
    seen: list[UUID] = []
    after = None
    for _ in range(100):
        rows, after = await find(lab, limit=2, after=after)
        seen += [r["id"] for r in rows]
        if after is None:
            break

    whole, none_left = await find(lab, limit=500)
    assert none_left is None
    assert seen == [r["id"] for r in whole]
    waiting = [r["id"] for r in whole if r["state"] == "waiting"]
    assert waiting[:5] == [*plain, *urgent]
    assert [r["id"] for r in whole if r["state"] == "delayed" and r["tenant"] == "oak"][:2] == late


async def test_jobs_are_found_by_tenant_queue_kind_and_time(lab: Lab) -> None:
    jobs = await every_state(lab)

    assert [r["id"] for r in (await find(lab, tenant="ash"))[0]] == [jobs["delayed"]]
    assert (await find(lab, queue="other"))[0] == []
    assert (await find(lab, kind="mop"))[0] == []
    assert jobs["failed"] in [r["id"] for r in (await find(lab, queue="operated-dlq", state="failed"))[0]]
    later = await lab.value("select clock_timestamp()")
    [newest] = await add(lab)
    assert [r["id"] for r in (await find(lab, since=later, state="waiting"))[0]] == [newest]


@pytest.mark.parametrize("after", ["x", "bm9uc2Vuc2U", "WyJ3YWl0aW5nIl0", "W10", "bnVsbA"])
async def test_a_page_that_never_was_is_said_to_be_none(lab: Lab, after: str) -> None:
    with pytest.raises(Misused):
        await find(lab, after=after)


async def test_an_id_is_found_by_its_beginning(lab: Lab) -> None:
    jobs = await add(lab, 20)

    async with lab.postgres.transaction() as db:
        assert await resolve(db, "job", str(jobs[3])[:13]) == jobs[3]
        assert await resolve(db, "job", jobs[3].hex.upper()) == jobs[3]
        with pytest.raises(Unknown):
            await resolve(db, "job", "00000000-0000-0000")
        for nonsense in ("", "abc", "zzzz", "' or 1=1", "0" * 40):
            with pytest.raises(Misused):
                await resolve(db, "job", nonsense)


# Show -----------------------------------------------------------------------------------------------------------------


async def test_a_job_s_page_tells_its_life_and_what_it_caused(lab: Lab) -> None:
    swept = sweeps(lab)
    [job] = await add(lab)
    await runner(lab).run_due()

    page = await show(lab, job)

    assert swept == [0]
    assert (page["state"], page["result"], page["progress"]) == ("completed", {"swept": 0}, 50)
    assert [line["line"] for line in page["logs"]] == ["floor 0"]
    assert [entry["what"] for entry in page["timeline"]] == ["created", "completed on w1#1"]
    assert [j["kind"] for j in page["caused"]["jobs"]] == ["sweep"]
    assert [e["topic"] for e in page["caused"]["leaving"]] == [Echo.__topic__]
    assert page["data"] == {"floor": 0, "remark": ""}
    caused = await show(lab, page["caused"]["jobs"][0]["id"])
    assert caused["cause"] == {"job": job, "queue": "operated", "kind": "sweep"}


async def test_a_failed_call_s_page_names_its_event_and_each_failure(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise PermanentError("no broom")

    lab.handler(broken)
    await deliver(chunk([record(0, id="a")]), lab.core)
    call = await lab.value("select id from job")

    page = await show(lab, call)
    await act(lab, operator.retry, call, ANN, lab.now)
    again = await show(lab, call)

    assert page["cause"]["event"] == "a"
    assert page["cause"]["at"].endswith("-0@0")
    assert page["state"] == "failed"
    assert any("start 1 failed on w1: PermanentError: no broom" in e["what"] for e in page["timeline"])
    assert any(e["what"] == "dead-letters retry by ann: a test" for e in again["timeline"])
    assert again["state"] == "waiting"


async def test_a_running_job_is_shown_with_where_and_since_when(lab: Lab) -> None:
    [job] = await add(lab)
    async with lab.postgres.transaction() as db:
        await lines.claim(db, QUEUE, 1, "w9#1", uuid4())

    page = await show(lab, job)

    assert (page["state"], page["worker"]) == ("running", "w9#1")
    assert page["timeline"][-1]["what"] == "start 1 runs on w9#1 since"


# Counts ---------------------------------------------------------------------------------------------------------------


async def test_queues_are_counted_by_state_and_the_oldest_wait_is_that_of_being_in_line(lab: Lab) -> None:
    await every_state(lab)
    await lab.rows("update job set created_at = created_at - interval '2 days'")  # was delayed for long: no alarm
    await lab.rows("update ready set since = since - interval '90 s'")

    async with lab.postgres.transaction() as db:
        figures = (await backlog.count(db)).of("operated")

    assert (figures.running, figures.failed, figures.cancelled) == (1, 1, 1)
    assert (figures.waiting, figures.prioritized, figures.delayed) == (1, 1, 2)  # and the one that a sweep ordered
    assert figures.completed == 2  # one of them expired
    assert 89 < figures.oldest < 100


async def test_one_worker_counts_for_all_and_figures_are_good_for_a_while(lab: Lab) -> None:
    await add(lab, 3)
    async with lab.postgres.transaction() as one, lab.postgres.transaction() as other:
        first = await backlog.shared(one)
        meanwhile = await backlog.shared(other)  # somebody is counting: what is known is shown
    assert first.of("operated").waiting == 3
    assert meanwhile.of("operated").waiting == 0

    await add(lab, 2)
    async with lab.postgres.transaction() as db:
        assert (await backlog.shared(db)).of("operated").waiting == 3
    await lab.rows("update backlog set counted_at = counted_at - interval '2 s'")
    async with lab.postgres.transaction() as db:
        assert (await backlog.shared(db)).of("operated").waiting == 5
    await lab.rows("update backlog set counted_at = counted_at - interval '3 s', took = 0.2")
    await add(lab, 1)
    async with lab.postgres.transaction() as db:
        assert (await backlog.shared(db)).of("operated").waiting == 5  # counting took long: less often
