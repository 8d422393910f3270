"""A chunk and a job of the same student at the same time: whoever commits last knows what the other did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skillcore_streams.events.attendance import AttendanceThresholdReached, StudentAbsent
from skillcore_streams.handlers.attendance import (
    aggregate_attendance,
    correct_attendance,
    follow_up_threshold,
    notify_of_absence,
)
from skillcore_streams.handlers.rostering import enroll_students
from skillcore_streams.queues.attendance_aggregation import SchoolYear, StudentYear, school_year, student_year
from skillcore_streams.testing import HandlerLab
from tests.handlers.village import (
    DAYS,
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

JOBS = [
    (student_year, StudentYear(student_id=STUDENT, school_year=YEAR)),
    (school_year, SchoolYear(school_id=SCHOOL, school_year=YEAR)),
]


async def beside(lab: HandlerLab, first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    """`first` has done its work but not committed when `second` begins; it must wait, and then see all of it."""
    async with lab.running(*first):
        later = asyncio.create_task(lab.run(*second))
        await lab.waits_for_a_lock()
    await later


@pytest.mark.parametrize("job", JOBS, ids=["student_year", "school_year"])
@pytest.mark.parametrize("job_is_first", [True, False])
async def test_a_job_beside_a_chunk_never_leaves_a_stale_rate(
    concurrent_lab: HandlerLab, job: tuple[Any, Any], job_is_first: bool
) -> None:
    lab = concurrent_lab
    await ready(lab)
    await lab.run(aggregate_attendance, [mark(19, "present")])
    chunk = aggregate_attendance, [mark(3, "absent_excused"), mark(20, "present")]

    await beside(lab, *((job, chunk) if job_is_first else (chunk, job)))

    assert await year_to_date(lab) == (21, 1, "0.04762", DAYS[20])
    assert await lab.value("select tier from chronic_absence_status") == "at_risk_5"


@pytest.mark.parametrize("job", JOBS, ids=["student_year", "school_year"])
async def test_a_job_beside_the_very_first_marks_of_a_student_waits_for_them(
    concurrent_lab: HandlerLab, job: tuple[Any, Any]
) -> None:
    lab = concurrent_lab
    await lab.deliver([session(), enrolment()])

    await beside(lab, (aggregate_attendance, [mark(0), mark(1, "present")]), job)

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


async def test_marks_and_enrolment_that_do_not_see_each_other_are_brought_together_by_the_job(
    concurrent_lab: HandlerLab,
) -> None:
    lab = concurrent_lab
    await lab.deliver([session()])

    async with lab.running(enroll_students, [enrolment()]):
        await lab.run(aggregate_attendance, [mark(0), mark(1, "present")])
    assert await year_to_date(lab) == (None, None, None, None)
    await lab.run_jobs()

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


async def test_a_retried_call_beside_a_chunk_derives_the_day_from_the_classes_of_both(
    concurrent_lab: HandlerLab,
) -> None:
    lab = concurrent_lab
    await ready(lab)

    morning, afternoon = [class_mark(1), class_mark(2)], [class_mark(3), class_mark(4)]
    await beside(lab, (aggregate_attendance, morning), (aggregate_attendance, afternoon))

    assert await lab.value("select category from attendance_day") == "absent_unexcused"


@pytest.mark.parametrize("correction_is_first", [True, False])
async def test_a_notice_beside_the_correction_of_its_day_does_not_stand(
    concurrent_lab: HandlerLab, correction_is_first: bool
) -> None:
    lab = concurrent_lab
    await ready(lab)
    wrong = mark(0)
    done = await lab.run(aggregate_attendance, [wrong, mark(1), mark(2)])
    told = notify_of_absence, next(e for e in done.published if isinstance(e, StudentAbsent) and e.date == DAYS[0])
    corrected = correct_attendance, correction(wrong, "present")

    await beside(lab, *((corrected, told) if correction_is_first else (told, corrected)))

    assert await lab.value("select count(*) from absence_notices where retracted_at is null") == 0
    assert await lab.rows("select * from truancy_cases") == []


async def test_a_status_settled_beside_a_higher_threshold_is_the_higher(concurrent_lab: HandlerLab) -> None:
    lab = concurrent_lab
    await ready(lab)
    done = await lab.run(aggregate_attendance, [mark(0, "absent_excused"), mark(19, "present")])
    [reached] = [e for e in done.published if isinstance(e, AttendanceThresholdReached)]
    worse = [mark(n, "absent_excused") for n in (1, 2, 3)]

    await beside(lab, (aggregate_attendance, worse), (follow_up_threshold, reached))

    assert await lab.value("select tier from chronic_absence_status") == "severe_20"


async def test_two_enrolments_beside_each_other_begin_with_the_earlier(concurrent_lab: HandlerLab) -> None:
    early, late = (enroll_students, [enrolment(DAYS[0])]), (enroll_students, [enrolment(DAYS[5])])

    await beside(concurrent_lab, early, late)

    assert await concurrent_lab.value("select begin_date from student_membership") == DAYS[0]
