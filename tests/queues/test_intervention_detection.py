"""Early warning: scores from rows, and an event only when a tier has changed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.interventions import StudentRiskDetected
from skillcore_streams.queues import intervention_detection
from skillcore_streams.queues.intervention_detection import (
    WINDOW,
    DetectRisk,
    DetectRiskInSchool,
    detect_risk,
    detect_risk_in_school,
)
from skillcore_streams.testing import NOW, TENANT, HandlerLab, given
from tests.handlers.village import (
    SCHOOL,
    STUDENT,
    assignment,
    correction,
    enrolment,
    grade,
    mark,
    ready,
    school,
    school_class,
)

ORDER = DetectRisk(student_id=STUDENT)
INCIDENT = """
    insert into behavior_incidents
    values ($1, $2, gen_random_uuid(), $3, $4, 'shouting', 'minor', null, null, null, $3)"""


async def incidents(lab: HandlerLab, n: int, *, student: UUID = STUDENT, days_ago: int = 1) -> None:
    for _ in range(n):
        await lab.execute(INCIDENT, TENANT, student, SCHOOL, NOW - timedelta(days=days_ago))


async def absences(lab: HandlerLab, n: int, *, of: int = 22) -> None:
    await ready(lab)
    await lab.deliver([mark(day, "absent_excused" if day < n else "present") for day in range(of)])
    await lab.run_jobs()


async def failing(lab: HandlerLab, classes: int) -> None:
    """Enrolled in so many classes, and failing each."""
    for n in range(classes):
        made = UUID(int=700 + n)
        await lab.deliver([
            school_class(made), enrolment(class_id=made, enrollment_id=UUID(int=800 + n)),
            assignment(0, class_id=made), grade(0, 1, class_id=made),
        ])
    await lab.run_jobs()


async def risk(lab: HandlerLab, student: UUID = STUDENT) -> tuple[Any, ...]:
    """(tier, attendance, behavior, course)."""
    [row] = await lab.rows(
        "select tier, attendance_points, behavior_points, course_points from student_risk where student_id = $1",
        student,
    )
    return tuple(row.values())


async def detected(lab: HandlerLab) -> list[StudentRiskDetected]:
    done = await lab.run(detect_risk, ORDER)
    return [event for event in done.published if isinstance(event, StudentRiskDetected)]


async def test_a_student_without_anything_is_in_tier_1_and_nobody_is_told(lab: HandlerLab) -> None:
    await absences(lab, 0)

    assert await detected(lab) == []
    assert await risk(lab) == (1, 0, 0, 0)


async def test_all_three_areas_make_tier_3_and_one_event_that_says_why(lab: HandlerLab) -> None:
    await absences(lab, 3)
    await incidents(lab, 3)
    await failing(lab, 2)

    [event] = await detected(lab)

    assert await risk(lab) == (3, 2, 2, 2)
    assert (event.score, event.recommended_tier, event.school_id, event.model_version) == (6, 3, SCHOOL, "abc-1")
    assert event.reasons == [
        "absent on 13.6 % of 22 enrolled days", "behavior incidents in the window: 3", "classes failed at present: 2",
        "grade point average 0.00",
    ]
    assert await detected(lab) == []


async def test_an_event_is_published_again_only_when_the_tier_has_changed(lab: HandlerLab) -> None:
    await absences(lab, 3)
    await incidents(lab, 1)
    [first] = await detected(lab)
    await incidents(lab, 1)
    same = await detected(lab)
    await lab.deliver([correction(mark(day, "absent_excused"), "present") for day in range(3)])
    await lab.run_jobs()
    [back] = await detected(lab)

    assert (first.recommended_tier, same, back.recommended_tier) == (2, [], 1)
    assert back.meta.key != first.meta.key
    assert await risk(lab) == (1, 0, 1, 0)


async def test_incidents_count_for_a_while(lab: HandlerLab) -> None:
    await absences(lab, 0)
    await incidents(lab, 2, days_ago=WINDOW.days + 1)
    await detected(lab)
    assert await risk(lab) == (1, 0, 0, 0)

    await incidents(lab, 1, days_ago=WINDOW.days - 1)
    await detected(lab)
    assert await risk(lab) == (1, 0, 1, 0)


async def test_a_class_that_the_student_has_left_is_no_longer_failed(lab: HandlerLab) -> None:
    await absences(lab, 0)
    await failing(lab, 1)
    await detected(lab)
    assert await risk(lab) == (1, 0, 0, 2)

    await lab.execute("update enrollments set end_date = $1 where class_id is not null", NOW.date() - timedelta(days=1))
    await detected(lab)

    assert await risk(lab) == (1, 0, 0, 0)


async def test_a_student_of_no_school_is_not_scored(lab: HandlerLab) -> None:
    await incidents(lab, 5)

    assert await detected(lab) == []
    assert await lab.value("select window_end from student_risk") is None


async def test_the_day_is_the_school_s(lab: HandlerLab) -> None:
    await lab.deliver([school(timezone="Asia/Tokyo"), enrolment()])
    await lab.run_jobs()
    lab.now = NOW.replace(hour=23)

    await detected(lab)

    assert await lab.value("select window_end from student_risk") == NOW.date() + timedelta(days=1)


async def test_a_tenant_s_own_thresholds_are_another_model(lab: HandlerLab) -> None:
    await absences(lab, 1)  # 4.5 %
    await detected(lab)
    assert await risk(lab) == (1, 0, 0, 0)
    await lab.execute(
        "insert into risk_models values ($1, 'district-2', 0.02, 0.04, 1, 3, 3, 2, 1, 2, 1, 2)", TENANT
    )

    [event] = await detected(lab)

    assert (event.model_version, event.attendance_pts, event.recommended_tier) == ("district-2", 2, 3)
    assert await lab.value("select model_version from student_risk") == "district-2"


async def test_a_school_s_students_are_scored_page_by_page_and_alike(
    lab: HandlerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervention_detection, "PAGE", 2)
    students = [UUID(int=n) for n in range(1, 6)]
    await lab.deliver([school(), *(enrolment(student=s) for s in students)])
    for n, student in enumerate(students):
        await incidents(lab, n, student=student)

    done = await lab.run(detect_risk_in_school, DetectRiskInSchool(school_id=SCHOOL))
    assert done.enqueued == [DetectRiskInSchool(school_id=SCHOOL, after=students[1])]
    await lab.settle()

    assert [(await risk(lab, s))[2] for s in students] == [0, 1, 1, 2, 2]
    before = await lab.rows("select * from student_risk order by student_id")
    for student in students:
        await lab.run(detect_risk, DetectRisk(student_id=student))
    assert await lab.rows("select * from student_risk order by student_id") == before


async def test_another_tenant_s_rows_do_not_count(lab: HandlerLab) -> None:
    await absences(lab, 3)
    await incidents(lab, 3)
    elsewhere = given(DetectRisk(student_id=STUDENT), tenant="elsewhere")
    await lab.deliver([given(school(), tenant="elsewhere"), enrolment(tenant="elsewhere")])

    done = await lab.run(detect_risk, elsewhere)

    assert done.published == []
    rows = await lab.rows("select score from student_risk where tenant_id = 'elsewhere'")
    assert rows == [{"score": 0}]


async def test_two_runs_at_once_publish_one_change(concurrent_lab: HandlerLab) -> None:
    lab = concurrent_lab
    await absences(lab, 3)
    await incidents(lab, 3)

    async with lab.running(detect_risk, ORDER) as first:
        second = asyncio.create_task(lab.run(detect_risk, ORDER))
        await lab.waits_for_a_lock()
    assert len(first.published) == 1
    assert (await second).published == []
