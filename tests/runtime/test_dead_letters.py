"""Dead letters: their copies for Kafka, their way back, and that each is told of once and retried once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.runtime import Context, Job, PermanentError, Queue, outbox, redrive
from skillcore_streams.runtime.acts import Act, By, Misused
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.dead_letters import COPIED
from skillcore_streams.runtime.envelope import Arrival, Parked, decode
from skillcore_streams.runtime.jobs import door, orders
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.outbox import Original, Publisher
from skillcore_streams.runtime.redrive import Wanted
from tests.runtime.lab import TOPIC, Lab, Probe, Record, chunk, note, record

QUEUE = Queue("buried")
ANN = By("ann", "the producer is repaired")


class Dig(Job, queue=QUEUE, kind="dig"):
    """A job of these tests."""

    depth: int


async def published(lab: Lab) -> list[Original]:
    """What leaves for Kafka, lane by lane."""
    sent: list[Original] = []

    async def send(records: Sequence[Original]) -> None:
        sent.extend(records)

    publisher = Publisher(lab.postgres.transaction, send, "w1")
    for row in await lab.rows("select distinct lane from outbox where published_at is null order by lane"):
        await publisher.publish(row["lane"])
    return sent


def why(one: Original) -> dict[str, str]:
    """Connect's headers, by their last name, and ours."""
    said = {name: (value or b"").decode() for name, value in one.headers if name.startswith(("__connect", "skillcore"))}
    return {name.removeprefix("__connect.errors."): value for name, value in said.items()}


async def letters(lab: Lab) -> list[UUID]:
    return [r["id"] for r in await lab.rows("select id from dead_letter order by topic, partition, record_offset")]


async def retry(lab: Lab, some: Sequence[UUID], by: By = ANN) -> list[Act]:
    async with lab.postgres.transaction() as db:
        return await redrive.retry(db, some, by, now=lab.now)


# Copies ---------------------------------------------------------------------------------------------------------------


async def test_a_parked_record_is_copied_with_bytes_key_and_headers_as_they_came_and_connect_s(lab: Lab) -> None:
    came = Record(b"\xff\x00key", b"\xfe[1, 2", [("a", b"\xff"), ("a", b""), ("b", None), ("ce_id", b"7")], offset=4)
    await deliver(chunk([came], start=0), lab.core)

    [copy] = await published(lab)

    assert (copy.topic, copy.key, copy.value) == (f"{TOPIC}.dlq", came.key, came.value)
    assert list(copy.headers)[:4] == came.headers
    said = why(copy)
    assert (said["topic"], said["partition"], said["offset"]) == (TOPIC, "0", "4")
    assert (said["stage"], said["connector.name"], said["task.id"]) == ("VALUE_CONVERTER", "event-workers", "w1")
    assert said["exception.message"] == await lab.value("select reason from dead_letter")
    assert said["skillcore-dead-letter-id"] == str(await lab.value("select id from dead_letter"))


async def test_reading_a_partition_again_copies_nothing_twice(lab: Lab) -> None:
    bad = record(0, value=b"[")
    await deliver(chunk([bad]), lab.core)
    await lab.rows("update progress set next_offset = 0")
    await deliver(chunk([bad]), lab.core)

    assert await lab.value("select count(*) from outbox") == 1


async def test_a_failed_call_s_copy_is_its_event_with_class_and_frames_and_no_message(lab: Lab) -> None:
    async def broken(event: Probe, ctx: Context) -> None:
        raise ValueError("Penelope")

    lab.handler(broken)
    came = record(0, id="a", headers={"ce_correlationid": "c", "ce_actorid": "x", "ce_subject": "s"})
    await deliver(chunk([came]), lab.core)
    for _ in range(4):
        await lab.rows("update later set run_at = clock_timestamp()")
        await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w1#1").run_due()

    [copy] = await published(lab)

    said = why(copy)
    assert (copy.topic, copy.key, copy.value) == (f"{TOPIC}.dlq", came.key, came.value)
    kept = {n: v for n, v in copy.headers if n.startswith("ce_")}
    assert {n: v for n, v in came.headers if n not in ("ce_time",)}.items() <= kept.items()
    assert (said["class.name"], said["exception.class.name"]) == ("tests.broken", "ValueError")
    assert "test_dead_letters.py:broken" in said["exception.stacktrace"]
    assert said["task.id"] == "w1#1"
    assert "Penelope" not in str(copy)
    arrival = decode(Record(copy.key, copy.value, list(copy.headers)), TOPIC, 0, now=lab.now)
    assert isinstance(arrival, Arrival), arrival.reason


async def test_a_failed_job_s_copy_orders_it_and_goes_to_its_queue_s_dead_letters(lab: Lab) -> None:
    async def dig(job: Dig, ctx: Context) -> None:
        raise PermanentError("rock")

    lab.handler(dig, Dig)  # type: ignore[arg-type]
    await order(lab, "one")
    await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w1").run_due()

    [copy] = await published(lab)

    assert copy.topic == "skillcore.jobs.buried.v1.dlq"
    assert why(copy)["class.name"] == "buried.dig"
    again = door.decode(Record(copy.key, copy.value, list(copy.headers)), QUEUE.topic, 0, now=datetime.now(UTC))
    assert not isinstance(again, Parked), again.reason
    assert again.job == Dig(depth=3)


async def order(lab: Lab, job_id: str) -> None:
    made = door.order(QUEUE, "dig", {"depth": 3}, door.JobOptions(), door.job_meta("oak", QUEUE, job_id, lab.now))
    async with lab.postgres.transaction() as db:
        await orders.insert(db, [made])


@pytest.mark.parametrize("came", [
    record(0, value=b"x" * (COPIED + 1)),
    Record(b"k" * 700_000, b"[" * 600_000, []),
    Record(b"k", b"[", [("h", b"x" * (COPIED + 1))]),
])
async def test_what_is_too_large_for_a_topic_stays_in_the_table_and_the_copy_says_so(lab: Lab, came: Record) -> None:
    await deliver(chunk([came]), lab.core)

    [copy] = await published(lab)

    assert copy.size < 4096
    assert "bytes of key, value and headers" in why(copy)["skillcore-left-out"]
    assert await lab.value("select length(value) from dead_letter") == len(came.value or b"")


async def test_a_tombstone_without_a_key_is_copied_too(lab: Lab) -> None:
    await deliver(chunk([Record(None, None, [])]), lab.core)

    [copy] = await published(lab)

    assert (copy.key, copy.value) == (None, b"")


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
                          st.none() | st.binary(max_size=40)), max_size=8))  # fmt: skip
def test_headers_are_unpacked_as_they_were_packed(headers: list[tuple[str, bytes | None]]) -> None:
    assert outbox.unpacked(outbox.packed(headers)) == headers


# The way back ---------------------------------------------------------------------------------------------------------


async def test_a_record_goes_to_its_topic_again_unchanged_and_takes_effect_once(lab: Lab) -> None:
    class Newcomer(Probe):
        """A type that this version does not know, until it is deployed."""

    from skillcore_streams.runtime.messages import EVENT_TYPES

    EVENT_TYPES.pop(Newcomer.__type__)
    EVENT_TYPES[Probe.__type__] = Probe  # what has subclasses is a base; here it is not
    came = record(0, id="a", type=Newcomer.__type__)
    await deliver(chunk([came]), lab.core)
    await published(lab)
    [letter] = await letters(lab)

    EVENT_TYPES[Newcomer.__type__] = Newcomer
    try:
        lab.handler(note, Newcomer)
        [act] = await retry(lab, [letter])
        [again] = await published(lab)
        second = Record(again.key, again.value, list(again.headers), offset=1)
        third = Record(again.key, again.value, list(again.headers), offset=2)  # the outbox may say it twice
        await deliver(chunk([second, third]), lab.core)
    finally:
        del EVENT_TYPES[Newcomer.__type__]

    assert act.said == f"its record goes to {TOPIC} again"
    assert (again.topic, again.key, again.value, list(again.headers)) == (TOPIC, came.key, came.value, came.headers)
    assert await lab.value("select count(*) from effect") == 1


async def test_a_record_with_a_wrong_key_gets_the_right_one(lab: Lab) -> None:
    lab.handler(note)
    student = uuid4()
    await deliver(chunk([record(0, student, key=b"something else"), record(1, student, key=None)]), lab.core)
    await published(lab)

    acts = await retry(lab, await letters(lab))
    again = await published(lab)
    await deliver(chunk([Record(r.key, r.value, list(r.headers), 2 + n) for n, r in enumerate(again)]), lab.core)

    assert {a.said for a in acts} == {f"its record goes to {TOPIC} again, with the right key"}
    assert {r.key for r in again} == {str(student).encode()}
    assert await lab.value("select count(*) from effect") == 2


async def test_records_go_back_in_the_order_of_their_offsets(lab: Lab) -> None:
    await deliver(chunk([record(n, key=b"wrong") for n in range(20)]), lab.core)
    await published(lab)

    async with lab.postgres.transaction() as db:
        found = await redrive.ids(db, Wanted(topic=TOPIC))
    await retry(lab, found[:7])
    await retry(lab, found[7:])

    assert [json.loads(r.value or b"")["n"] for r in await published(lab)] == list(range(20))


async def test_what_has_no_id_of_its_own_keeps_that_of_its_first_place(lab: Lab) -> None:
    body = {"type": "Probe", "data": {"studentId": str(uuid4()), "n": 1}}
    came = Record(b"wrong", json.dumps(body).encode(), [], offset=0)
    lab.core.legacy_tenant = "oak"
    lab.handler(note)
    await deliver(chunk([came]), lab.core)
    await published(lab)
    [letter] = await letters(lab)
    async with lab.postgres.transaction() as db:
        await redrive.retry(db, [letter], ANN, now=lab.now, legacy_tenant="oak")

    [again] = await published(lab)
    await deliver(chunk([Record(again.key, again.value, list(again.headers), n) for n in (1, 2)]), lab.core)

    assert [name for name, _ in again.headers] == ["skillcore-origin"]
    assert await lab.value("select count(*) from effect") == 1
    right = Record(again.key, came.value, [], offset=0)
    first = decode(right, TOPIC, 0, now=lab.now, legacy_tenant="oak")
    assert isinstance(first, Arrival)
    assert await lab.value("select id from event") == first.event.meta.id


async def test_a_letter_is_retried_once_whoever_asks(lab: Lab) -> None:
    await deliver(chunk([record(0, key=b"wrong")]), lab.core)
    [letter] = await letters(lab)

    [first] = await retry(lab, [letter])
    [second] = await retry(lab, [letter], By("bob", "me too"))

    assert first.done
    assert not second.done
    assert "it was retried already at" in second.said
    assert "by ann" in second.said
    assert await lab.value("select count(*) from outbox where topic = $1", TOPIC) == 1
    assert await lab.value("select count(*) from operator_action") == 1


async def test_a_record_that_is_bad_still_has_another_letter_then(lab: Lab) -> None:
    await deliver(chunk([record(0, value=b"[")]), lab.core)
    await published(lab)
    [letter] = await letters(lab)
    await retry(lab, [letter])
    [again] = await published(lab)
    await deliver(chunk([Record(again.key, again.value, list(again.headers), 1)]), lab.core)

    rows = await lab.rows("select status, record_offset from dead_letter order by record_offset")
    assert [(r["status"], r["record_offset"]) for r in rows] == [("retried", 0), ("open", 1)]


@pytest.mark.parametrize(("came", "said"), [
    (Record(b"k", None, []), "it has no value"),
    (record(0, value=b"[" * ((1 << 20) + 1)), "a topic takes 1048576"),
])
async def test_what_cannot_be_written_again_is_refused_and_stays_open(lab: Lab, came: Record, said: str) -> None:
    await deliver(chunk([came]), lab.core)

    [act] = await retry(lab, await letters(lab))

    assert not act.done
    assert said in act.said
    assert await lab.value("select status from dead_letter") == "open"


async def test_a_call_goes_back_in_line_with_all_its_attempts(lab: Lab) -> None:
    broken = True

    async def flaky(event: Probe, ctx: Context) -> None:
        if broken:
            raise PermanentError("not yet deployed")
        await note(event, ctx)

    lab.handler(flaky)
    await deliver(chunk([record(0)]), lab.core)
    broken = False

    [act] = await retry(lab, await letters(lab))
    await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w1").run_due()

    assert act.said == "it is back in line on handler-calls with all its attempts"
    assert await lab.value("select count(*) from effect") == 1
    assert await lab.value("select status from dead_letter") == "retried"


async def test_a_discarded_letter_stays_and_is_not_retried(lab: Lab) -> None:
    await deliver(chunk([record(0, key=b"wrong")]), lab.core)
    async with lab.postgres.transaction() as db:
        [act] = await redrive.discard(db, await letters(lab), ANN)

    [second] = await retry(lab, await letters(lab))

    assert act.done
    assert "it was discarded already" in second.said
    assert await lab.value("select value is not null from dead_letter")


async def test_what_was_settled_is_forgotten_after_30_days_and_what_is_open_never(lab: Lab) -> None:
    await deliver(chunk([Record(None, b"?", [], offset=n) for n in range(4)], start=0), lab.core)
    first, second, third, _ = await letters(lab)
    async with lab.postgres.transaction() as db:
        for letter in (first, second):
            await redrive.discard(db, [letter], ANN)
        await redrive.retry(db, [third], ANN, now=lab.now)
        await db.execute("update dead_letter set last_at = last_at - interval '100 days'")
        await db.execute("update dead_letter set settled_at = settled_at - interval '31 days' where id <> $1", second)

    await Reaper(lab.postgres.transaction, lambda: lab.now, "w1#1").prune()

    assert [r["status"] for r in await lab.rows("select status from dead_letter order by status")] == [
        "discarded", "open",
    ]
    assert await lab.value("select count(*) from operator_action where action like '%discard%'") == 2


async def test_answers_come_in_the_order_in_which_was_asked(lab: Lab) -> None:
    await deliver(chunk([record(0, key=b"wrong"), Record(b"k", None, [], 1)]), lab.core)
    first, second = await letters(lab)
    nobody = uuid4()

    acts = await retry(lab, [second, nobody, first])

    assert [a.done for a in acts] == [False, False, True]
    assert acts[1].said == "no such dead letter"


# Seen -----------------------------------------------------------------------------------------------------------------


async def many(lab: Lab) -> None:
    """Three wrong keys of two tenants, a bad payload, a failed call, a failed job."""

    async def broken(event: Probe, ctx: Context) -> None:
        raise PermanentError("no")

    async def dig(job: Dig, ctx: Context) -> None:
        raise PermanentError("rock")

    lab.handler(broken)
    lab.handler(dig, Dig)  # type: ignore[arg-type]
    bad = [record(0, key=b"x"), record(1, key=b"y"), record(2, key=b"z", tenant="oak"), record(3, value=b"[")]
    await deliver(chunk([*bad, record(4)]), lab.core)
    await order(lab, "one")
    await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w1").run_due()


async def test_letters_are_grouped_by_cause(lab: Lab) -> None:
    await many(lab)

    async with lab.postgres.transaction() as db:
        groups = await redrive.groups(db, Wanted())

    assert (groups[0]["letters"], groups[0]["kind"], groups[0]["source"]) == (3, "record", TOPIC)
    assert groups[0]["tenants"] == ["grand-bend", "oak"]
    assert sorted(g["source"] for g in groups[1:]) == ["buried", TOPIC, "tests.broken"]


@pytest.mark.parametrize(("wanted", "count"), [
    ({}, 6), ({"tenant": "oak"}, 2), ({"kind": "record"}, 4), ({"kind": "call"}, 1), ({"queue": "buried"}, 1),
    ({"queue": "buried-dlq"}, 1), ({"queue": "handler-calls"}, 1), ({"handler": "broken"}, 1),
    ({"handler": "tests.broken"}, 1), ({"handler": "rok"}, 0), ({"topic": TOPIC}, 5), ({"topic": f"{TOPIC}.dlq"}, 5),
    ({"status": "discarded"}, 0), ({"fingerprint": "nothing"}, 0), ({"kind": "record", "tenant": "oak"}, 1),
])  # fmt: skip
async def test_letters_are_found_by_what_they_are(lab: Lab, wanted: dict[str, Any], count: int) -> None:
    await many(lab)

    async with lab.postgres.transaction() as db:
        rows, more = await redrive.each(db, Wanted(**wanted))
        assert len(await redrive.ids(db, Wanted(**wanted))) == count

    assert (len(rows), more) == (count, None)


async def test_letters_are_found_by_time(lab: Lab) -> None:
    await many(lab)
    await lab.rows("update dead_letter set last_at = $1 where kind = 'call'", lab.now)

    async with lab.postgres.transaction() as db:
        before = await redrive.ids(db, Wanted(until=lab.now + timedelta(seconds=1)))
        after = await redrive.ids(db, Wanted(since=lab.now + timedelta(seconds=1)))

    assert (len(before), len(after)) == (1, 5)


async def test_pages_of_letters_follow_each_other(lab: Lab) -> None:
    await many(lab)
    seen, after = [], None
    async with lab.postgres.transaction() as db:
        for _ in range(6):
            [row], after = await redrive.each(db, Wanted(), 1, after)
            seen.append(row["id"])
        whole, _ = await redrive.each(db, Wanted())

    assert after is None
    assert seen == [r["id"] for r in whole]


def test_a_filter_that_means_nothing_is_refused() -> None:
    with pytest.raises(Misused):
        Wanted(status="lost")
    with pytest.raises(Misused):
        Wanted(kind="letter")


async def test_a_letter_is_shown_masked_and_revealing_it_is_kept(lab: Lab) -> None:
    student = uuid4()
    await deliver(chunk([record(0, student, key=b"Penelope", headers={"x-Penelope": "Featherstone"})]), lab.core)
    [letter] = await letters(lab)

    async with lab.postgres.transaction() as db:
        shown = await redrive.show(db, letter)
        revealed = await redrive.reveal(db, letter, ANN)
        with pytest.raises(Misused):
            await redrive.reveal(db, letter, By("ann", ""))

    assert "Penelope" not in str(shown)
    assert shown["data"] == {"student_id": str(student), "n": 0}
    assert revealed["key"] == "Penelope"
    assert ["x-Penelope", "Featherstone"] in revealed["headers"]
    kept = await lab.rows("select actor, action, target, reason from operator_action")
    assert [tuple(k.values()) for k in kept] == [("ann", "dead-letters reveal", str(letter), ANN.reason)]


# Told of --------------------------------------------------------------------------------------------------------------


async def told(lab: Lab) -> int:
    from skillcore_streams import queues

    queues.load()
    return await Reaper(lab.postgres.transaction, lambda: lab.now, "w1").tell()


async def age(lab: Lab, seconds: int) -> None:
    await lab.rows("update dead_letter set last_at = last_at - make_interval(secs => $1)", float(seconds))
    await lab.rows("update dead_letter_notice set told_at = told_at - make_interval(secs => $1)", float(seconds))


async def notices(lab: Lab) -> list[int]:
    """How many letters each notice tells of."""
    rows = await lab.rows(
        "select count(*) n from dead_letter d join job j on j.id = d.notice group by j.id, j.created_at "
        "order by j.created_at")  # fmt: skip
    return [r["n"] for r in rows]


async def test_a_flood_of_one_cause_is_one_notice_and_what_comes_later_the_next_one(lab: Lab) -> None:
    await deliver(chunk([record(n, key=b"wrong") for n in range(50)]), lab.core)
    assert await told(lab) == 0  # it gathers for some seconds

    await age(lab, 10)
    assert await told(lab) == 1
    await deliver(chunk([record(n, key=b"wrong") for n in range(50, 60)]), lab.core)
    await age(lab, 60)
    assert await told(lab) == 0  # they were told a minute ago
    await age(lab, 900)
    assert await told(lab) == 1

    assert await notices(lab) == [50, 10]


async def test_each_cause_is_told_of_and_only_once_by_however_many_workers(lab: Lab) -> None:
    import asyncio

    await many(lab)
    await age(lab, 10)

    assert sum(await asyncio.gather(*(told(lab) for _ in range(3)))) == 4
    assert sorted(await notices(lab)) == [1, 1, 1, 3]
    assert await told(lab) == 0
