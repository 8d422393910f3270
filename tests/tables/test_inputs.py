"""What handlers tell the table is all it needs: from their inputs, in any order, it becomes what Postgres holds."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.handlers.attendance import aggregate_attendance, correct_attendance
from skillcore_streams.runtime.messages import Event
from skillcore_streams.runtime.tables import BY_SCHOOL, apply, read
from skillcore_streams.testing import HandlerLab
from tests.handlers.test_shuffled import autumn
from tests.handlers.village import DAYS, OTHER_SCHOOL, SCHOOL, STUDENT, class_mark, correction, mark
from tests.tables.truth import ROWS, difference, of_postgres, of_table

OUTBOX = f"select key, value from outbox where topic = '{BY_SCHOOL}' order by id"


async def inputs(lab: HandlerLab) -> list[tuple[bytes, bytes]]:
    return [(row["key"].encode(), row["value"]) for row in await lab.rows(OUTBOX)]


async def words(lab: HandlerLab) -> list[list[Any]]:
    """[school, student, day, category, whether nothing is older] of what was said, in order."""
    return [
        [key.decode().rpartition("/")[2], student, day, category, first]
        for key, value in await inputs(lab)
        for student, day, category, _, first in json.loads(value)["changes"]
    ]


def table_of(records: list[tuple[bytes, bytes]], rnd: Random) -> dict[str, Any]:
    state: dict[str, Any] = {}
    while records:
        n = rnd.randint(1, 9)
        done = apply(state, [read(key, value) for key, value in records[:n]])
        records = records[n:]
        state.update(done.values)
        state = {key: value for key, value in state.items() if value is not None}
    return state


def moved(rnd: Random, happened: list[Event]) -> list[Event]:
    """Marks of the same days at another school, later and earlier than those there are."""
    return [
        mark(DAYS[n], rnd.choice(["present", "tardy", "absent_excused"]), student=UUID(int=rnd.choice([1, 2])),
             school=rnd.choice([SCHOOL, OTHER_SCHOOL]), hour=rnd.choice([5, 23]), id=f"moved {n}")
        for n in range(0, 26, 2)
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_from_the_inputs_in_any_order_the_table_is_what_postgres_holds(lab: HandlerLab, seed: int) -> None:
    rnd = Random(seed)
    events = autumn(rnd)
    events += moved(rnd, events)
    rnd.shuffle(events)
    for start in range(0, len(events), 12):
        await lab.deliver(events[start : start + 12])
    await lab.settle()
    records = await inputs(lab)
    records += rnd.sample(records, len(records) // 3)
    rnd.shuffle(records)

    state = table_of(records, rnd)

    rows = await lab.rows(ROWS)
    assert len(rows) > 40
    assert difference(of_table(state), of_postgres(rows, state)) == {}


async def test_one_input_a_school_and_chunk(lab: HandlerLab) -> None:
    marks = [mark(n, student=UUID(int=s), school=school) for n in range(3) for s in range(9) for school in [SCHOOL]]

    done = await lab.run(aggregate_attendance, [*marks, mark(4, school=OTHER_SCHOOL)])

    assert sorted(i.record[1].decode() for i in done.inputs) == [
        f"grand-bend/{SCHOOL}", f"grand-bend/{OTHER_SCHOOL}",
    ]
    assert len(await words(lab)) == 28


async def test_an_older_mark_says_nothing(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=10)])

    done = await lab.run(aggregate_attendance, [mark(0, "present", hour=9)])

    assert done.inputs == []


async def test_a_correction_and_a_class_are_heard_of(lab: HandlerLab) -> None:
    first = mark(0, "absent_unexcused")
    await lab.run(aggregate_attendance, [first, class_mark(1, 1, "tardy")])

    await lab.run(correct_attendance, [correction(first, "present")])

    day, next_day, student, school = DAYS[0].isoformat(), DAYS[1].isoformat(), str(STUDENT), str(SCHOOL)
    assert (await words(lab))[0] == [school, student, day, "absent_unexcused", True]
    assert (await words(lab))[1][2] == next_day
    assert (await words(lab))[2:] == [[school, student, day, "present", False]]


async def test_a_day_that_moves_is_gone_from_the_school_where_it_was(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=9)])

    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=10, school=OTHER_SCHOOL)])

    said = sorted((school, category or "gone", first) for school, _, _, category, first in (await words(lab))[1:])
    assert said == [(str(SCHOOL), "gone", False), (str(OTHER_SCHOOL), "tardy", False)]


async def test_a_derived_day_that_follows_an_older_mark_is_heard_of(lab: HandlerLab) -> None:
    """Its (said_at, said_by) stays what it was: the version must not be that."""
    late = class_mark(2, 0, "present", hour=12)
    early = [class_mark(period, 0, "absent_unexcused", hour=9) for period in (1, 3, 4, 5, 6, 7)]
    await lab.run(aggregate_attendance, [late])

    await lab.run(aggregate_attendance, early)

    said = [json.loads(value)["changes"] for _, value in await inputs(lab)]
    assert said[0][0][2] == "present"
    assert said[-1][0][2] != "present"
    assert said[-1][0][3] > said[0][0][3]


async def test_versions_grow_with_every_word(lab: HandlerLab) -> None:
    first = mark(0, "absent_unexcused")
    await lab.run(aggregate_attendance, [first])
    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=10)])
    await lab.run(correct_attendance, [correction(first, "present")])

    versions = [json.loads(value)["changes"][0][3] for _, value in await inputs(lab)]

    assert versions == sorted(set(versions))
    assert len(versions) == 3


async def test_what_a_failed_call_told_is_not_said(lab: HandlerLab) -> None:
    """A rolled back call leaves no input behind: the second pass says it once."""
    await lab.deliver([mark(0, "tardy"), correction(mark(5), "present"), mark(1, "tardy")])

    assert len(await words(lab)) == 2
