"""The chunk transaction: every event once, whatever goes wrong."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from skillcore_streams.runtime import Context, NotYet, PermanentError, failpoints
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.flood import FloodGuard
from tests.runtime.lab import TOPIC, Echo, Lab, Probe, chunk, note, record


async def effects(lab: Lab) -> list[int]:
    return [r["n"] for r in await lab.rows("select n from effect order by id")]


async def test_each_event_is_stored_and_handled_once_in_order(lab: Lab) -> None:
    lab.handler(note)

    await deliver(chunk([record(n) for n in range(5)]), lab.core)

    assert await effects(lab) == [0, 1, 2, 3, 4]
    assert await lab.value("select count(*) from event") == 5
    assert await lab.next_offset() == 5


async def test_a_chunk_delivered_again_changes_nothing_and_seeks(lab: Lab) -> None:
    lab.handler(note)
    again = chunk([record(n) for n in range(3)])
    await deliver(again, lab.core)

    await deliver(again, lab.core)

    assert await effects(lab) == [0, 1, 2]
    assert lab.reseeks == [(TOPIC, 0)]


async def test_an_event_sent_twice_takes_effect_once(lab: Lab) -> None:
    lab.handler(note)
    student = uuid4()
    await deliver(chunk([record(0, student, id="a", n=1), record(1, student, id="a", n=1)]), lab.core)

    await deliver(chunk([record(2, student, id="a", n=1)]), lab.core)

    assert await effects(lab) == [1]
    assert await lab.value("select count(*) from dead_letter") == 0
    assert await lab.next_offset() == 3


async def test_the_same_id_with_another_body_is_parked_as_a_conflict(lab: Lab) -> None:
    lab.handler(note)
    student = uuid4()

    await deliver(chunk([record(0, student, id="a", n=1), record(1, student, id="a", n=2)]), lab.core)

    assert await effects(lab) == [1]
    [letter] = await lab.rows("select kind, record_offset, tenant_id from dead_letter")
    assert letter == {"kind": "conflict", "record_offset": 1, "tenant_id": "grand-bend"}


async def test_other_spacing_and_key_order_are_no_conflict(lab: Lab) -> None:
    student = uuid4()
    respaced = record(1, student, id="a", value=b'{ "n" : 1 , "student_id" : "%s" }' % str(student).encode())

    await deliver(chunk([record(0, student, id="a", n=1), respaced]), lab.core)

    assert await lab.value("select count(*) from dead_letter") == 0


async def test_the_same_id_of_two_tenants_is_two_events(lab: Lab) -> None:
    lab.handler(note)

    await deliver(chunk([record(0, id="a", tenant="east"), record(1, id="a", tenant="west")]), lab.core)

    assert await effects(lab) == [0, 1]


async def test_bad_records_are_parked_with_all_that_kafka_held_and_the_rest_goes_on(lab: Lab) -> None:
    lab.handler(note)
    bad = record(1, value=b"\xff\xfe{", key=b"k")

    await deliver(chunk([record(0), bad, record(2)]), lab.core)

    assert await effects(lab) == [0, 2]
    [letter] = await lab.rows("select * from dead_letter")
    assert (letter["value"], letter["key"], letter["topic"], letter["record_offset"]) == (b"\xff\xfe{", b"k", TOPIC, 1)


async def test_a_failed_call_becomes_a_job_and_the_others_commit(lab: Lab) -> None:
    async def picky(event: Probe, ctx: Context) -> None:
        if event.n == 3:
            raise ValueError("a child's name")
        await note(event, ctx)

    lab.handler(picky)
    lab.handler(note)

    await deliver(chunk([record(n) for n in range(6)]), lab.core)

    assert sorted(await effects(lab)) == sorted([0, 1, 2, 4, 5, 0, 1, 2, 3, 4, 5])
    [job] = await lab.rows("select queue, kind, attempts, state, errors from job_now")
    assert (job["queue"], job["kind"], job["attempts"], job["state"]) == ("handler-calls", "tests.picky", 1, "delayed")
    assert "child" not in job["errors"]


async def test_a_batch_handler_is_bisected_until_the_culprits_stand_alone(lab: Lab) -> None:
    async def batch(events: list[Probe], ctx: Context) -> None:
        for event in events:
            await note(event, ctx)
            if event.n in (7, 30):
                raise ValueError

    lab.handler(batch, batch=True)

    await deliver(chunk([record(n) for n in range(40)]), lab.core)

    assert await effects(lab) == [n for n in range(40) if n not in (7, 30)]
    assert await lab.value("select count(*) from job_now") == 2


async def test_more_failures_than_savepoints_commit_in_smaller_parts(lab: Lab) -> None:
    async def fails_often(event: Probe, ctx: Context) -> None:
        await note(event, ctx)
        if event.n % 4 == 0:
            raise ValueError

    lab.handler(fails_often)

    await deliver(chunk([record(n) for n in range(160)]), lab.core)

    assert await effects(lab) == [n for n in range(160) if n % 4]
    assert await lab.value("select count(*) from job_now") == 40
    assert await lab.next_offset() == 160


async def test_a_rolled_back_call_publishes_and_enqueues_nothing(lab: Lab) -> None:
    async def publishes_then_fails(event: Probe, ctx: Context) -> None:
        ctx.publish(Echo(student_id=event.student_id, n=event.n))
        if event.n == 1:
            raise ValueError

    lab.handler(publishes_then_fails)

    await deliver(chunk([record(n) for n in range(3)]), lab.core)

    rows = await lab.rows("select convert_from(value, 'utf8')::json->>'n' n, lane, headers from outbox order by id")
    assert [r["n"] for r in rows] == ["0", "2"]
    assert {r["lane"] for r in rows} == {f"{TOPIC}-0"}


async def test_what_a_handler_publishes_follows_from_its_cause(lab: Lab) -> None:
    async def echo(event: Probe, ctx: Context) -> None:
        ctx.publish(Echo(student_id=event.student_id, n=1))
        ctx.publish(Echo(student_id=event.student_id, n=2))

    lab.handler(echo)
    await deliver(chunk([record(0, id="cause")]), lab.core)

    headers = [eval(r["headers"]) for r in await lab.rows("select headers from outbox order by id")]

    assert headers[0]["ce_id"] != headers[1]["ce_id"]
    assert {h["ce_causationid"] for h in headers} == {"cause"}
    assert {h["ce_tenantid"] for h in headers} == {"grand-bend"}


async def test_an_event_too_large_for_its_topic_is_the_handler_s_failure(lab: Lab) -> None:
    class Long(Echo):
        text: str

    async def verbose(event: Probe, ctx: Context) -> None:
        ctx.publish(Long(student_id=event.student_id, text="x" * (1 << 20)))

    lab.handler(verbose)

    await deliver(chunk([record(0)]), lab.core)

    assert "1048" in await lab.value("select reason from dead_letter where kind = 'call'")
    assert await lab.value("select count(*) from outbox where topic not like '%.dlq'") == 0


async def test_infrastructure_errors_repeat_the_chunk_and_blame_nobody(lab: Lab) -> None:
    tries = 0

    async def unlucky(event: Probe, ctx: Context) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await ctx.db.execute("select pg_terminate_backend(pg_backend_pid())")
        await note(event, ctx)

    lab.handler(unlucky)

    await deliver(chunk([record(0)]), lab.core)

    assert await effects(lab) == [0]
    assert await lab.value("select count(*) from job_now") == 0


async def test_a_commit_whose_answer_was_lost_is_resolved_by_the_fence(lab: Lab) -> None:
    lab.handler(note)
    failpoints.arm("chunk.committed=fail")
    lost = chunk([record(0)])

    try:
        await deliver(lost, lab.core)
    finally:
        failpoints.arm("")

    assert await effects(lab) == [0]
    assert lab.reseeks == [(TOPIC, 0)]


async def test_a_zombie_that_wakes_up_is_refused(lab: Lab) -> None:
    lab.handler(note)
    woken = chunk([record(0), record(1)])
    await deliver(chunk([record(0)]), lab.core)

    await deliver(woken, lab.core)

    assert await effects(lab) == [0]
    assert lab.reseeks == [(TOPIC, 0)]


async def test_two_owners_at_once_leave_one_effect(lab: Lab) -> None:
    lab.handler(note)
    records = [record(n) for n in range(50)]

    await asyncio.gather(*(deliver(chunk(records), lab.core) for _ in range(3)))

    assert await effects(lab) == list(range(50))
    assert len(lab.reseeks) == 2


async def test_what_is_no_longer_current_is_dropped(lab: Lab) -> None:
    lab.handler(note)

    await deliver(chunk([record(0)], is_current=lambda: False), lab.core)

    assert await effects(lab) == []


async def test_an_event_without_a_handler_is_stored_and_done(lab: Lab) -> None:
    await deliver(chunk([record(0)]), lab.core)

    assert await lab.value("select count(*) from event") == 1
    assert await lab.value("select count(*) from dead_letter") == 0


async def test_held_calls_of_a_key_queue_behind_the_failed_one(lab: Lab) -> None:
    anna, ben = uuid4(), uuid4()

    async def ordered(event: Probe, ctx: Context) -> None:
        if event.n == 0:
            raise ValueError
        await note(event, ctx)

    lab.handler(ordered, hold=True)
    await deliver(chunk([record(0, anna, n=0), record(1, ben, n=1), record(2, anna, n=2)]), lab.core)

    await deliver(chunk([record(3, anna, n=3), record(4, ben, n=4)]), lab.core)

    assert await effects(lab) == [1, 4]
    rows = await lab.rows("select hold_seq, attempts from job_now order by hold_seq")
    assert rows == [{"hold_seq": 0, "attempts": 1}, {"hold_seq": 2, "attempts": 0}, {"hold_seq": 3, "attempts": 0}]


async def test_permanent_errors_go_to_the_dead_letters_at_once(lab: Lab) -> None:
    async def never(event: Probe, ctx: Context) -> None:
        raise PermanentError("weights must add up to 100")

    lab.handler(never)

    await deliver(chunk([record(0)]), lab.core)

    [letter] = await lab.rows("select kind, handler, reason, record_offset, status from dead_letter")
    assert letter["kind"] == "call"
    assert letter["handler"] == "tests.never"
    assert letter["reason"] == "PermanentError: weights must add up to 100"
    assert await lab.value("select state from job_now") == "failed"


async def test_not_yet_waits_without_spending_an_attempt(lab: Lab) -> None:
    async def early(event: Probe, ctx: Context) -> None:
        raise NotYet("enrollment")

    lab.handler(early)

    await deliver(chunk([record(0)]), lab.core)

    assert await lab.rows("select attempts, state from job_now") == [{"attempts": 0, "state": "delayed"}]


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), GeneratorExit(), RecursionError()])
async def test_whatever_a_handler_raises_is_a_failed_call(lab: Lab, error: BaseException) -> None:
    async def wild(event: Probe, ctx: Context) -> None:
        raise error

    lab.handler(wild)

    await deliver(chunk([record(0)]), lab.core)

    assert await lab.value("select count(*) from job_now") == 1
    assert await lab.next_offset() == 1


async def test_the_flood_guard_pauses_and_commits_nothing_until_a_probe_passes(lab: Lab) -> None:
    broken = True

    async def deployed_broken(event: Probe, ctx: Context) -> None:
        if broken:
            raise ValueError
        await note(event, ctx)

    lab.handler(deployed_broken)

    async def sleep(seconds: float) -> None:
        nonlocal broken
        lab.slept.append(seconds)
        broken = len(lab.slept) < 3

    lab.core.sleep = sleep
    # in parts that fit the savepoints: each alone is below the window, together they tip it over
    for n in range(0, 240, 40):
        await deliver(chunk([record(n + i) for i in range(40)]), lab.core)

    assert 30.0 in lab.slept
    assert await lab.value("select count(*) from job_now") < 200
    assert await lab.next_offset() == 240
    assert lab.core.paused == {}


async def test_a_person_may_let_a_flood_through_to_the_dead_letters(lab: Lab) -> None:
    lab.core.flood = FloodGuard(on=False)

    await deliver(chunk([record(n, value=b"x") for n in range(300)]), lab.core)

    assert lab.slept == []
    assert await lab.value("select count(*) from dead_letter") == 300


async def test_not_yet_does_not_trip_the_flood_guard(lab: Lab) -> None:
    async def early(event: Probe, ctx: Context) -> None:
        raise NotYet("calendar")

    lab.handler(early)

    for n in range(0, 240, 40):
        await deliver(chunk([record(n + i) for i in range(40)]), lab.core)

    assert lab.slept == []
    assert await lab.value("select count(*) from job_now") == 240


async def test_after_three_claims_without_progress_records_go_one_by_one(lab: Lab) -> None:
    lab.handler(note)
    async with lab.postgres.transaction() as db:
        await db.execute("update progress set claims_since_progress = 2")

    await deliver(chunk([record(n) for n in range(3)], first=True), lab.core)

    assert await effects(lab) == [0, 1, 2]
    assert await lab.rows("select claims_since_progress c, suspect, next_offset n from progress") == [
        {"c": 0, "suspect": None, "n": 3}
    ]


async def test_a_revocation_in_the_middle_is_no_death(lab: Lab) -> None:
    entered = asyncio.Event()

    async def slow(event: Probe, ctx: Context) -> None:
        entered.set()
        await asyncio.sleep(30)

    lab.handler(slow)
    task = asyncio.create_task(deliver(chunk([record(0)], first=True), lab.core))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await lab.rows("select claims_since_progress c, next_offset n from progress") == [{"c": 0, "n": 0}]
    assert await lab.value("select count(*) from event") == 0


async def test_a_record_that_killed_three_workers_has_its_calls_turned_into_jobs(lab: Lab) -> None:
    lab.handler(note)
    async with lab.postgres.transaction() as db:
        await db.execute("update progress set claims_since_progress = 5, suspect = 0, suspect_deaths = 3")

    await deliver(chunk([record(0), record(1)], first=True), lab.core)

    assert await effects(lab) == [1]
    assert await lab.rows("select kind, attempts from job_now") == [{"kind": "tests.note", "attempts": 0}]


async def test_a_record_that_cannot_be_stored_is_parked_and_stops_nothing(lab: Lab) -> None:
    lab.handler(note)
    async with lab.postgres.transaction() as db:
        await db.execute("alter table event add constraint no_three check (record_offset <> 3)")
    try:
        await deliver(chunk([record(n) for n in range(6)]), lab.core)
    finally:
        async with lab.postgres.transaction() as db:
            await db.execute("alter table event drop constraint no_three")

    assert await effects(lab) == [0, 1, 2, 4, 5]
    assert await lab.rows("select record_offset from dead_letter") == [{"record_offset": 3}]


async def test_the_event_store_is_append_only(lab: Lab) -> None:
    await deliver(chunk([record(0)]), lab.core)

    for statement in ("delete from event", "update event set type = 'x'", "truncate event"):
        with pytest.raises(Exception, match="append-only"):
            async with lab.postgres.transaction() as db:
                await db.execute(statement)
