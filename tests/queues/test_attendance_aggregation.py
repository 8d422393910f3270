"""Jobs of attendance: recomputed from rows, once for many orders, and no end with many students."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from skillcore_streams.events.attendance import AttendanceThresholdReached
from skillcore_streams.handlers.attendance import aggregate_attendance
from skillcore_streams.queues import attendance_aggregation
from skillcore_streams.queues.attendance_aggregation import (
    SchoolDay,
    SchoolYear,
    StudentYear,
    school_day,
    school_year,
    student_year,
)
from skillcore_streams.rules.attendance import absence_rate
from skillcore_streams.rules.calendar import school_year as year_of
from skillcore_streams.testing import HandlerLab
from tests.handlers.village import DAYS, OTHER_SCHOOL, SCHOOL, STUDENT, YEAR, enrolment, mark, session, year_to_date


async def test_a_school_s_day_is_counted_by_category(lab: HandlerLab) -> None:
    categories = ["present", "present", "absent_excused", "absent_unexcused", "tardy", "partial", "early_departure"]
    marks = [mark(0, category, student=UUID(int=n)) for n, category in enumerate(categories)]  # type: ignore[arg-type]
    elsewhere = mark(0, "present", student=UUID(int=50), school=OTHER_SCHOOL)
    await lab.run(aggregate_attendance, [*marks, elsewhere, mark(1, "present")])

    await lab.run(school_day, SchoolDay(school_id=SCHOOL, day=DAYS[0]))

    [row] = await lab.rows("select present, absent, unexcused, tardy, other, day from school_attendance_daily")
    assert tuple(row.values()) == (2, 2, 1, 1, 2, DAYS[0])


async def test_counting_again_follows_what_has_changed(lab: HandlerLab) -> None:
    order = SchoolDay(school_id=SCHOOL, day=DAYS[0])
    await lab.run(aggregate_attendance, [mark(0, "present", hour=8)])
    await lab.run(school_day, order)
    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=9)])

    for _ in range(2):
        await lab.run(school_day, order)

    assert await lab.rows("select present, tardy from school_attendance_daily") == [{"present": 0, "tardy": 1}]


async def test_many_orders_of_one_day_are_one_run(lab: HandlerLab) -> None:
    for n in range(5):
        await lab.deliver([mark(0, "present", student=UUID(int=n))])

    assert await lab.run_jobs() == 5

    assert await lab.value("select sum(cardinality(ids)) from finished where outcome = 'completed'") == 1
    assert await lab.value("select present from school_attendance_daily") == 5


async def test_a_student_s_year_publishes_what_the_marks_could_not(lab: HandlerLab) -> None:
    await lab.deliver([session()])
    early = await lab.run(aggregate_attendance, [mark(n, "absent_excused") for n in range(22)])
    await lab.deliver([enrolment()])

    done = await lab.run(student_year, StudentYear(student_id=STUDENT, school_year=YEAR))
    again = await lab.run(student_year, StudentYear(student_id=STUDENT, school_year=YEAR))

    assert early.published == []
    assert [e.threshold for e in done.published if isinstance(e, AttendanceThresholdReached)] == [
        "at_risk_5", "chronic_10", "severe_20",
    ]
    assert again.published == []
    assert await year_to_date(lab) == (22, 22, "1.00000", DAYS[21])


async def test_a_student_s_year_is_that_year_and_all_others_with_marks(lab: HandlerLab) -> None:
    july = [date(2022, 7, 5), date(2022, 7, 6)]
    lab.now += timedelta(days=30)
    await lab.deliver([session(DAYS + july)])
    await lab.run(aggregate_attendance, [mark(0), mark(july[0])])
    await lab.deliver([enrolment(date(2021, 6, 1))])

    await lab.run(student_year, StudentYear(student_id=STUDENT, school_year="2020-2021"))

    assert (await year_to_date(lab))[:2] == (1, 1)
    assert (await year_to_date(lab, year="2022-2023"))[:2] == (1, 1)


async def test_a_changed_calendar_recomputes_the_school_s_students_page_by_page(
    lab: HandlerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance_aggregation, "PAGE", 2)
    students = [UUID(int=n) for n in range(5)]
    await lab.deliver([*(enrolment(student=s) for s in students), *(mark(0, student=s) for s in students)])
    await lab.deliver([session()])

    done = await lab.run(school_year, SchoolYear(school_id=SCHOOL, school_year=YEAR))
    assert done.enqueued == [SchoolYear(school_id=SCHOOL, school_year=YEAR, after=students[1])]
    await lab.settle()

    assert await lab.value("select count(*) from student_attendance_ytd where days_absent = 1") == 5
    pages = await lab.rows(
        "select distinct payload::jsonb->>'after' as after from job where kind = 'school_year' order by 1")
    assert [row["after"] for row in pages] == [str(students[1]), str(students[3]), None]


async def test_a_calendar_that_is_gone_takes_rate_thresholds_and_status_with_it(lab: HandlerLab) -> None:
    await lab.deliver([session(), enrolment(), *(mark(n) for n in range(21))])
    await lab.settle()
    assert await lab.value("select count(*) from attendance_threshold where retracted_at is null") == 3

    await lab.deliver([session([], said=lab.now)])
    await lab.settle()

    assert await year_to_date(lab) == (None, None, None, None)
    assert await lab.value("select count(*) from attendance_threshold where retracted_at is null") == 0
    assert await lab.rows("select * from chronic_absence_status") == []
    assert await lab.rows("select * from truancy_cases") == []


async def test_python_and_sql_agree_on_every_school_year(lab: HandlerLab) -> None:
    rows = await lab.rows(
        "select d::date as day, school_year(d::date) from generate_series('1999-01-01'::date, '2060-12-31', '1 day') d"
    )

    assert [r["school_year"] for r in rows] == [year_of(r["day"]) for r in rows]
    assert len(rows) > 22_000


async def test_python_and_sql_round_every_rate_alike(lab: HandlerLab) -> None:
    rows = await lab.rows("""
        select absent, enrolled, round(absent::numeric / enrolled, 5) as rate
          from generate_series(1, 200) enrolled, generate_series(0, enrolled) absent""")

    wrong = [r for r in rows if absence_rate(r["absent"], r["enrolled"]) != Decimal(r["rate"])]
    assert wrong == []
