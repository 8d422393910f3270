"""A mark that brings no absence only moves its year on, which must say the same as recomputing it from all rows."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.handlers.attendance import aggregate_attendance, save_days
from skillcore_streams.queues.attendance_aggregation import StudentYear, student_year
from skillcore_streams.runtime import Context, Event
from skillcore_streams.runtime.context import Effects
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.testing import TENANT, HandlerLab, rolled_back
from tests.handlers.village import (
    DAYS,
    OTHER_SCHOOL,
    SATURDAY,
    SCHOOL,
    STUDENT,
    YEAR,
    class_mark,
    correction,
    enrolment,
    mark,
    ready,
    session,
    year_to_date,
)

SECOND = UUID(int=2)


async def years(lab: HandlerLab) -> list[dict[str, Any]]:
    return await lab.rows("select * from student_attendance_ytd order by student_id") + await lab.rows(
        "select * from attendance_threshold where retracted_at is null order by student_id, threshold"
    )


def a_life(rnd: Random) -> list[list[Event]]:
    """Chunks of 1 to 12 marks of two students at two schools: mostly present, mostly in the order of the days."""
    marks: list[Event] = []
    for n, day in enumerate([*DAYS[:40], SATURDAY]):
        for student in (STUDENT, SECOND):
            where = OTHER_SCHOOL if student == SECOND and n > 30 else SCHOOL  # the second one moves in October
            told = rnd.choice(["present"] * 6 + ["tardy", "absent_excused", "absent_unexcused"])
            said = mark(day, told, student=student, school=where, hour=rnd.randint(8, 11))
            marks.append(said)
            if rnd.random() < 0.15:
                marks.append(mark(day, rnd.choice(["present", "absent_unexcused"]), student=student, school=where,
                                  hour=rnd.randint(8, 11), code="again"))
            if rnd.random() < 0.1:
                marks.append(class_mark(rnd.randint(1, 7), day, rnd.choice(["present", "absent_excused"]),
                                        student=student, school=where))
            if rnd.random() < 0.1:
                marks.append(correction(said, rnd.choice(["present", "absent_excused"])))
    for _ in range(8):  # some are late
        late = marks.pop(rnd.randrange(len(marks)))
        marks.insert(rnd.randrange(len(marks)), late)
    chunks = []
    while marks:
        size = rnd.randint(1, 12)
        chunks.append(marks[:size])
        marks = marks[size:]
    return chunks


@pytest.mark.parametrize("seed", range(6))
async def test_a_year_that_went_on_is_the_year_recomputed(migrated_dsn: str, seed: int) -> None:
    rnd = Random(seed)
    async with rolled_back(migrated_dsn) as lab:
        await ready(lab, begin=DAYS[rnd.randint(0, 3)])
        await lab.deliver([
            enrolment(DAYS[1], student=SECOND), session(DAYS[5:], school=OTHER_SCHOOL),
            enrolment(DAYS[31], student=SECOND, school=OTHER_SCHOOL),
        ])
        await lab.settle()

        for chunk in a_life(rnd):
            await lab.deliver(chunk)
            went_on = await years(lab)
            for student in (STUDENT, SECOND):
                await lab.run(student_year, StudentYear(student_id=student, school_year=YEAR))

            assert await years(lab) == went_on


async def test_days_attended_carry_the_year_on_and_the_20th_is_judged(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(0, "absent_excused")])
    seen = []

    for n in range(1, 30):
        await lab.deliver([mark(n, "present")])
        seen.append((await year_to_date(lab))[:2])

    assert seen == [(n + 1, 1) for n in range(1, 30)]
    reached = await lab.rows("select threshold, as_of, days_enrolled from attendance_threshold")
    assert [tuple(row.values()) for row in reached] == [("at_risk_5", DAYS[19], 20)]  # 1 of 20, on a day attended


async def test_only_years_whose_absences_change_are_recomputed(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(0, "present")])  # the first mark of a year: nothing to go on from
    async with lab.transaction() as db:
        ctx = Context(REGISTRY.of(AttendanceMarked)[0], [], db=db, clock=lambda: lab.now, effects=Effects.none(),
                      lane="lab")

        assert (await save_days(ctx, [mark(1, "present")])).years == set()
        assert (await save_days(ctx, [mark(1, "tardy", hour=10)])).years == set()
        assert (await save_days(ctx, [mark(2, "absent_excused")])).years == {(TENANT, STUDENT, YEAR)}
        assert (await save_days(ctx, [mark(2, "present", hour=8)])).years == set()  # older than what stands
        assert (await save_days(ctx, [mark(2, "present", hour=10)])).years == {(TENANT, STUDENT, YEAR)}


async def test_a_superseded_present_mark_does_not_move_the_year(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(3, "present", hour=11)])

    await lab.deliver([mark(3, "absent_unexcused", hour=10), mark(2, "present")])

    assert await year_to_date(lab) == (4, 0, "0.00000", DAYS[3])


async def test_a_mark_off_the_calendar_moves_the_year_to_the_school_day_before(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(0, "present")])

    await lab.deliver([mark(SATURDAY, "tardy")])

    assert await year_to_date(lab) == (5, 0, "0.00000", DAYS[4])


async def test_a_membership_that_has_ended_is_not_gone_on_with(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(0, "present")])
    await lab.execute("update student_membership set end_date = $1", DAYS[5])

    await lab.run(aggregate_attendance, [mark(9, "present")])

    assert await year_to_date(lab) == (6, 0, "0.00000", DAYS[5])
