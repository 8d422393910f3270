"""Special programs and guardians in any order: three students' year, shuffled, repeated and cut at random.

As in test_shuffled.py every shuffle is a tenant of its own, and all are delivered at once.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.special_programs import IEPServiceDelivered
from skillcore_streams.queues.compliance_reporting import AcknowledgeInClass, acknowledge_in_class
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.testing import HandlerLab, given
from tests.handlers import plans, village
from tests.handlers.plans import ART, BEGIN, COORDINATOR, GUARDIAN, MANAGER, MATH, SAID
from tests.handlers.test_shuffled import difference, end_state, of_tenant, play, shuffled
from tests.handlers.village import OTHER_SCHOOL, SCHOOL, TEACHER

STUDENTS = [UUID(int=1), UUID(int=2), UUID(int=3)]
NEW_TEACHER = UUID(int=211)
STAGES = ["90", "60", "30", "14", "overdue"]

END_STATE = {  # without what differs by name only: tenants, keys of events and ids made of them
    "ieps": "select student_id, iep_id, begin_date, end_date, case_manager_id, services, said_at from ieps",
    "caseload": "select student_id, iep_id, coordinator_id, case_manager_id from program_caseload",
    "versions": "select student_id, iep_id, version, review_completed_on, said_at from iep_versions",
    "goals": "select student_id, goal_id, target, aim_line_slope, interventionist_id, said_at from iep_goals",
    "deadlines": """
        select student_id, kind, subject_id, opened_on, due_date, owner_id, stage, completed_on, closed_on
          from compliance_deadlines""",
    "reminders": "select student_id, iep_id, review_type, due_date, stage from reminder_log",
    "504 plans": "select student_id, plan_id, review_due, coordinator_id, said_at from section504_plans",
    "accommodations": "select student_id, plan_id, n, code from accommodations",
    "acknowledgements": """
        select student_id, plan, plan_id, case when plan = 'iep' then version end, teacher_id
          from accommodation_acks where withdrawn_at is null""",
    "logs": "select student_id, service_log_id, started_at, minutes, missed_reason, said_at from service_logs",
    "weeks": "select student_id, week, delivered, credited, mandated from service_minutes_weekly",
    "alerts": """
        select student_id, detail from student_alerts where kind = 'service_shortfall' and resolved_at is null""",
    "guardians": "select guardian_id, version, language from guardians",
    "relations": "select guardian_id, student_id, version, custody, current from guardian_students",
    "blocks": "select guardian_id, student_id from recipient_blocks where blocked",
    "contacts": "select owner_id, channel, address, version from contact_points where owner = 'guardian'",
}


def a_year(random: Random) -> list[Event]:
    """Everything that happens, in the order in which it happened."""
    happened: list[Event] = [
        village.school(SCHOOL), village.school(OTHER_SCHOOL, timezone="Pacific/Auckland"),
    ]
    for student in STUDENTS:
        happened += [
            village.enrolment(BEGIN, student=student, class_id=MATH, enrollment_id=derive_id(student, "math")),
            village.enrolment(BEGIN + timedelta(days=3), student=student, class_id=ART,
                              enrollment_id=derive_id(student, "art")),
        ]
        if student == STUDENTS[1]:  # moves to the other side of the world
            happened.append(village.enrolment(BEGIN + timedelta(days=9), student=student, school=OTHER_SCHOOL))
        happened += [*an_iep(random, student), *services(random, student)]
        if random.random() < 0.8:
            happened += a_504_plan(random, student)
    return [*happened, *guardians(random)]


def an_iep(random: Random, student: UUID) -> list[Event]:
    """An IEP, corrected; its goals, reminders and amendments; the next one."""
    first, second = derive_id(student, "iep"), derive_id(student, "next iep")
    next_year = BEGIN + timedelta(days=random.randint(200, 400))
    begin = BEGIN + timedelta(days=random.choice([0, 2]))
    due = BEGIN + timedelta(days=random.randint(200, 400))
    happened: list[Event] = [
        plans.iep(id=first, student=student, begin=BEGIN),
        plans.iep(id=first, student=student, at=plans.later(1), begin=begin, annual_review_due=due,
                  case_manager_id=random.choice([None, MANAGER]), minutes={"speech": 60, "reading": 30}),
    ]
    for n in range(3):
        happened.append(plans.goal(n, iep=first, student=student))
        if random.random() < 0.5:
            happened.append(plans.goal(n, iep=first, student=student, at=plans.later(n + 1), target=n + 70))
    for version in range(1, random.randint(2, 6)):
        held = due + timedelta(days=random.randint(-200, 30)) if random.random() < 0.5 else None
        happened.append(plans.amendment(version, held, iep=first, student=student))
    for stage in random.sample(STAGES, 4):
        kind = random.choice(["annual", "triennial", "amendment"])
        happened.append(plans.review(due, stage, iep=first, student=student, review_type=kind))
    if random.random() < 0.6:
        happened.append(plans.iep(id=second, student=student, begin=next_year, at=plans.later(200)))
        happened.append(plans.amendment(1, iep=second, student=student, at=plans.later(201)))
    if random.random() < 0.5:  # of an IEP that nobody has told us of
        happened.append(plans.amendment(4, BEGIN, iep=derive_id(student, "lost"), student=student))
        happened.append(plans.review(due, iep=derive_id(student, "lost too"), student=student))
    return happened


def services(random: Random, student: UUID) -> list[Event]:
    """Ten weeks of sessions, some on Sunday night, some missed, some corrected or moved to another week."""
    happened: list[Event] = []
    for week in range(10):
        monday = datetime.combine(BEGIN, datetime.min.time(), UTC) + timedelta(weeks=week)
        for hours in random.sample([15, 40, 63, 6 * 24 + 20, 7 * 24 + 2], random.randint(0, 3)):
            log = plans.service(
                monday + timedelta(hours=hours), random.choice([20, 30, 45]), student=student,
                type=random.choice(["speech", "speech", "reading", "music"]),
                missed_reason=random.choice([None] * 5 + ["no room"]),
            )
            happened.append(log)
            if random.random() < 0.2:
                happened.append(corrected(log, random))
    return happened


def corrected(log: IEPServiceDelivered, random: Random) -> IEPServiceDelivered:
    moved = log.started_at + timedelta(days=random.choice([0, 7, -7]))
    return given(
        log.model_copy(update={"minutes": random.choice([0, 60]), "started_at": moved}),
        at=log.started_at + timedelta(days=30),
    )


def a_504_plan(random: Random, student: UUID) -> list[Event]:
    """A plan that is activated again and again, and sometimes another one."""
    plan = derive_id(student, "504")
    happened: list[Event] = []
    day = 0
    for n in range(random.randint(1, 5)):
        day += random.randint(10, 58)
        held = BEGIN + timedelta(days=day) if random.random() < 0.5 else None
        happened.append(plans.plan504(
            BEGIN + timedelta(days=random.choice([365, 365, day + 300])), held, id=plan, student=student,
            at=plans.later(day), codes=tuple(f"code {random.randint(1, 9)}" for _ in range(n + 1)),
            coordinator_id=random.choice([COORDINATOR, MANAGER]),
        ))
    if random.random() < 0.3:
        another = BEGIN + timedelta(days=120)
        happened.append(plans.plan504(id=derive_id(student, "504 too"), student=student, begin_date=another))
    return happened


def guardians(random: Random) -> list[Event]:
    """Two guardians, version by version."""
    happened: list[Event] = []
    for guardian in (GUARDIAN, UUID(int=205)):
        for version in range(1, random.randint(3, 7)):
            happened.append(given(
                GuardianContactUpdated(
                    guardian_id=guardian, student_ids=random.sample(STUDENTS, random.randint(0, 3)), version=version,
                    email=random.choice([None, "a@example.org", "b@example.org"]),
                    phone=random.choice([None, "+15125550100"]), relationship="Mother",
                    custody=random.choice(["joint", "full", "restricted"]),
                ),
                at=SAID + timedelta(days=version), id=f"{guardian}/{version}",
            ))
    happened.append(given(
        GuardianContactUpdated(
            guardian_id=GUARDIAN, student_ids=STUDENTS[:1], version=8, email="c@example.org", relationship="Mother",
            custody="restricted",
        ),
        at=SAID + timedelta(days=8), id=f"{GUARDIAN}/8",
    ))
    return happened


async def compare(lab: HandlerLab, seed: int, shuffles: int, *, meanwhile: bool) -> None:
    """The same year in order, and once for each of the shuffles; a teacher comes last of all."""
    events = a_year(Random(seed))
    orders = {"in order": events}
    orders |= {f"shuffle {n}": shuffled(events, Random(f"{seed}/{n}")) for n in range(shuffles)}
    for tenant in orders:
        await plans.teaches(lab, TEACHER, tenant=tenant)

    await play(lab, [[of_tenant(event, tenant) for event in order] for tenant, order in orders.items()], Random(seed),
               meanwhile=meanwhile)
    for tenant in orders:
        await plans.teaches(lab, NEW_TEACHER, ART, tenant=tenant)
        await lab.run(acknowledge_in_class, given(AcknowledgeInClass(class_id=ART), tenant=tenant))

    state: dict[str, dict[str, set[tuple[Any, ...]]]] = await end_state(lab, END_STATE)
    right = state["in order"]
    assert right.keys() == END_STATE.keys(), f"the year is too quiet: it has no {END_STATE.keys() - right.keys()}"
    for tenant, found in state.items():
        assert found == right, f"seed {seed}, {tenant}:\n{difference(right, found)}"


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_gives_the_same_programs(concurrent_lab: HandlerLab, seed: int) -> None:
    await compare(concurrent_lab, seed, 6, meanwhile=False)


@pytest.mark.parametrize("seed", range(3, 6))
async def test_any_order_gives_the_same_programs_when_jobs_run_in_between(
    concurrent_lab: HandlerLab, seed: int
) -> None:
    await compare(concurrent_lab, seed, 6, meanwhile=True)


def test_the_years_of_these_tests_hold_what_is_hard() -> None:
    years = [a_year(Random(seed)) for seed in range(6)]
    sundays = [e for year in years for e in year if isinstance(e, IEPServiceDelivered) and e.started_at.hour == 2]

    assert len(sundays) > 10
    assert all(len(year) > 60 for year in years)
    assert date(2021, 9, 6) == BEGIN
