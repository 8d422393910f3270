"""Jobs of compliance: who must know a plan, and weeks of services, recomputed from rows when something comes late."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.handlers.rostering import create_school, enroll_students
from skillcore_streams.handlers.special_programs import activate_plan, amend_iep, create_iep, log_services
from skillcore_streams.queues import compliance_reporting
from skillcore_streams.queues.attendance_aggregation import SOON
from skillcore_streams.queues.compliance_reporting import (
    AcknowledgeAccommodations,
    AcknowledgeInClass,
    ServiceMinutes,
    ServiceMinutesOfSchool,
    acknowledge_accommodations,
    acknowledge_in_class,
    mandates,
    service_minutes,
    service_minutes_of_school,
)
from skillcore_streams.queues.notification_delivery import DeliverNotification
from skillcore_streams.runtime import derive_id
from skillcore_streams.testing import TENANT, HandlerLab
from tests.handlers.plans import ART, BEGIN, IEP, MATH, PLAN, amendment, iep, later, plan504, service, teaches
from tests.handlers.village import OTHER_SCHOOL, SCHOOL, STUDENT, TEACHER, at, enrolment, school

CLASSMATE = UUID(int=2)
NEW_TEACHER = UUID(int=211)
SUNDAY_EVENING = datetime(2021, 9, 20, 2, tzinfo=UTC)  # 21:00 in Chicago


async def asked(lab: HandlerLab) -> list[tuple[Any, ...]]:
    """(student, plan, teacher) of acknowledgements that are asked for."""
    rows = await lab.rows("""
        select student_id, plan, teacher_id from accommodation_acks where withdrawn_at is null order by 1, 2, 3""")
    return [tuple(row.values()) for row in rows]


# Acknowledgements -----------------------------------------------------------------------------------------------------


async def test_a_student_who_joins_a_class_brings_the_plan_to_its_teachers(lab: HandlerLab) -> None:
    await teaches(lab, TEACHER)
    await lab.run(amend_iep, amendment(1))
    await lab.run(activate_plan, plan504())
    await lab.deliver([enrolment(class_id=MATH)])

    done = await lab.run(acknowledge_accommodations, AcknowledgeAccommodations(student_id=STUDENT))
    again = await lab.run(acknowledge_accommodations, AcknowledgeAccommodations(student_id=STUDENT))

    assert await asked(lab) == [(STUDENT, "504", TEACHER), (STUDENT, "iep", TEACHER)]
    notices = [order.job for order in done.orders_of(DeliverNotification) if isinstance(order.job, DeliverNotification)]
    assert sorted((n.template, n.recipient_id, n.subject_id) for n in notices) == [
        ("iep.acknowledge", TEACHER, IEP), ("section504.acknowledge", TEACHER, PLAN),
    ]
    unique = f"acknowledge:{IEP}:1:{TEACHER}"
    assert derive_id(TENANT, "notification-delivery", "deliver", unique) in {order.id for order in done.orders}
    assert again.orders == []


async def test_a_student_without_a_plan_costs_one_look(lab: HandlerLab) -> None:
    await teaches(lab, TEACHER)
    await lab.deliver([enrolment(class_id=MATH)])

    done = await lab.run(acknowledge_accommodations, AcknowledgeAccommodations(student_id=STUDENT))

    assert done.orders == []
    assert await lab.rows("select * from program_caseload") == []


async def test_many_orders_for_a_student_are_one_run(lab: HandlerLab) -> None:
    await teaches(lab, TEACHER)
    await lab.deliver([enrolment(class_id=MATH), enrolment(later(7).date(), class_id=ART), plan504(), amendment(1)])

    await lab.settle()

    kind = "select count(distinct payload) from job_now where kind = 'accommodation_acks' and state = 'completed'"
    assert await lab.value(kind) == 1
    assert await asked(lab) == [(STUDENT, "504", TEACHER), (STUDENT, "iep", TEACHER)]


async def test_a_new_teacher_is_asked_for_every_student_of_the_class_with_a_plan(lab: HandlerLab) -> None:
    stranger = UUID(int=9)
    await lab.deliver([enrolment(student=s, class_id=MATH) for s in (STUDENT, CLASSMATE, UUID(int=3))])
    await lab.deliver([enrolment(student=stranger, class_id=ART)])
    for student in (STUDENT, CLASSMATE, stranger):
        await lab.run(activate_plan, plan504(id=derive_id(student), student=student))
    await teaches(lab, NEW_TEACHER)

    done = await lab.run(acknowledge_in_class, AcknowledgeInClass(class_id=MATH))

    assert await asked(lab) == [(STUDENT, "504", NEW_TEACHER), (CLASSMATE, "504", NEW_TEACHER)]
    assert len(done.orders_of(DeliverNotification)) == 2


async def test_a_teacher_who_comes_back_is_asked_again_and_who_has_acknowledged_is_not(lab: HandlerLab) -> None:
    await lab.deliver([enrolment(class_id=MATH)])
    await teaches(lab, TEACHER)
    await teaches(lab, NEW_TEACHER)
    await lab.run(amend_iep, amendment(1))
    order = AcknowledgeAccommodations(student_id=STUDENT)
    await lab.execute("update accommodation_acks set acknowledged_at = requested_at where teacher_id = $1", TEACHER)

    await lab.execute("update class_staff set end_date = $1", BEGIN)
    await lab.run(acknowledge_accommodations, order)
    gone = await asked(lab)
    await lab.execute("update class_staff set end_date = null")
    back = await lab.run(acknowledge_accommodations, order)

    assert gone == [(STUDENT, "iep", TEACHER)]
    assert await asked(lab) == [(STUDENT, "iep", TEACHER), (STUDENT, "iep", NEW_TEACHER)]
    assert len(back.orders) == 1


async def test_a_plan_and_a_class_that_do_not_see_each_other_are_brought_together_by_the_jobs(
    concurrent_lab: HandlerLab,
) -> None:
    lab = concurrent_lab
    await teaches(lab, TEACHER)

    async with lab.running(amend_iep, [amendment(1)]), lab.running(enroll_students, [enrolment(class_id=MATH)]):
        pass  # both have done their work and neither has seen the other's rows
    before = await asked(lab)
    await lab.run_jobs()

    assert before == []
    assert await asked(lab) == [(STUDENT, "iep", TEACHER)]


# Weeks ----------------------------------------------------------------------------------------------------------------


async def weeks(lab: HandlerLab) -> list[tuple[Any, ...]]:
    rows = await lab.rows("select student_id, week, delivered, mandated from service_minutes_weekly order by 1, 2")
    return [tuple(row.values()) for row in rows]


async def test_weeks_are_recomputed_from_logs_and_ieps(lab: HandlerLab) -> None:
    await lab.run(log_services, [service(at(BEGIN), 10), service(at(BEGIN + timedelta(days=7)), 20)])
    await lab.run(create_iep, iep())
    right = await weeks(lab)
    await lab.execute("delete from student_alerts")
    await lab.execute("update service_minutes_weekly set delivered = 99, mandated = null where week = $1", BEGIN)
    await lab.execute(
        "insert into service_minutes_weekly values ($1, $2, $3, 5, 5, 5)", TENANT, STUDENT, BEGIN - timedelta(days=7)
    )

    await lab.run(service_minutes, ServiceMinutes(student_id=STUDENT))

    assert await weeks(lab) == right == [(STUDENT, BEGIN, 10, 60), (STUDENT, BEGIN + timedelta(days=7), 20, 60)]
    assert await lab.value("select detail from student_alerts") == "2021-09-13"


async def test_a_school_that_comes_late_moves_sessions_to_its_own_week(lab: HandlerLab) -> None:
    await lab.deliver([enrolment()])
    await lab.run(log_services, [service(SUNDAY_EVENING, 30)])
    utc = await weeks(lab)

    done = await lab.run(create_school, school())
    await lab.run(service_minutes_of_school, ServiceMinutesOfSchool(school_id=SCHOOL))

    [order] = done.orders
    assert order.job == ServiceMinutesOfSchool(school_id=SCHOOL)
    assert (order.delay, order.coalesce is None) == (SOON, False)
    assert utc == [(STUDENT, date(2021, 9, 20), 30, None)]
    assert await weeks(lab) == [(STUDENT, date(2021, 9, 13), 30, None)]


async def test_the_school_entered_last_decides(lab: HandlerLab) -> None:
    await lab.deliver([school(), school(OTHER_SCHOOL, timezone="UTC"), enrolment(), service(SUNDAY_EVENING, 30)])
    await lab.settle()

    await lab.deliver([enrolment(BEGIN + timedelta(days=30), school=OTHER_SCHOOL)])
    await lab.settle()

    assert await weeks(lab) == [(STUDENT, date(2021, 9, 20), 30, None)]


async def test_a_school_s_students_are_recomputed_page_by_page(
    lab: HandlerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compliance_reporting, "PAGE", 2)
    students = [UUID(int=n) for n in range(5)]
    await lab.deliver([enrolment(student=s) for s in [*students, UUID(int=99)]])
    await lab.run(log_services, [service(SUNDAY_EVENING, 30, student=s) for s in students])
    await lab.deliver([school()])

    first = await lab.run(service_minutes_of_school, ServiceMinutesOfSchool(school_id=SCHOOL))
    await lab.settle()

    assert first.enqueued == [ServiceMinutesOfSchool(school_id=SCHOOL, after=students[1])]
    assert await weeks(lab) == [(s, date(2021, 9, 13), 30, None) for s in students]


@pytest.mark.parametrize("job_is_first", [True, False])
@pytest.mark.parametrize(
    "beside", [(create_iep, [iep()]), (log_services, [service(at(BEGIN), 40, type="reading")])], ids=["iep", "log"]
)
async def test_a_job_beside_a_chunk_never_leaves_a_stale_week(
    concurrent_lab: HandlerLab, beside: tuple[Any, Any], job_is_first: bool
) -> None:
    lab = concurrent_lab
    await lab.run(log_services, [service(at(BEGIN), 20)])
    await lab.run(create_iep, iep(minutes={"speech": 30}, at=later(-9)))
    job: tuple[Any, Any] = service_minutes, ServiceMinutes(student_id=STUDENT)
    first, second = (job, beside) if job_is_first else (beside, job)

    async with lab.running(*first):
        waiting = asyncio.create_task(lab.run(*second))
        await lab.waits_for_a_lock()
    await waiting

    expected = (20, 60) if beside[0] is create_iep else (60, 30)
    assert [row[2:] for row in await weeks(lab)] == [expected]


def test_mandates_of_one_service_named_twice_are_added() -> None:
    services = '[{"type": "speech", "minutes_per_week": 30}, {"type": "speech", "minutes_per_week": 15}]'

    assert mandates(services) == {"speech": 45}
    assert mandates("[]") == {}
