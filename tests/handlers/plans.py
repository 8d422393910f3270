"""A student's IEP and Section 504 plan, as events: what the tests of special programs talk about."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.special_programs import (
    Accommodation,
    IEPAmended,
    IEPCreated,
    IEPGoalAdded,
    IEPReviewScheduled,
    IEPServiceDelivered,
    Section504PlanActivated,
    Service,
)
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.testing import TENANT, HandlerLab, given
from tests.handlers.village import FIRST, SCHOOL, STUDENT, enrolment

IEP, PLAN = UUID(int=500), UUID(int=504)
COORDINATOR, MANAGER, PROVIDER, GUARDIAN = UUID(int=201), UUID(int=202), UUID(int=203), UUID(int=204)
MATH, ART = UUID(int=301), UUID(int=302)
"""Classes."""

BEGIN = FIRST
"""Of the IEP, a Monday in September 2021."""

SAID = datetime(2021, 9, 1, 12, tzinfo=UTC)


def later(days: float) -> datetime:
    """So long after SAID."""
    return SAID + timedelta(days=days)


def iep(
    *, id: UUID = IEP, student: UUID = STUDENT, begin: date = BEGIN, at: datetime = SAID, tenant: str = TENANT,
    minutes: dict[str, int] | None = None, **more: Any,
) -> IEPCreated:
    """An IEP of a year, with these minutes of service a week: 60 of speech when none are given."""
    services = [Service(type=t, minutes_per_week=n) for t, n in (minutes or {"speech": 60}).items()]
    fields: dict[str, Any] = {
        "iep_id": id, "student_id": student, "program_type": "IEP", "disability_category": "speech or language",
        "begin_date": begin, "end_date": begin + timedelta(days=364), "annual_review_due": begin + timedelta(days=360),
        "triennial_due": begin + timedelta(days=800), "coordinator_id": COORDINATOR, "case_manager_id": MANAGER,
        "services": services,
    }
    return given(IEPCreated(**fields | more), at=at, tenant=tenant)


def goal(
    n: int = 1, *, iep: UUID = IEP, student: UUID = STUDENT, at: datetime = SAID, tenant: str = TENANT, **more: Any
) -> IEPGoalAdded:
    """The IEP's n-th goal: from 20 to 60 words in 40 weeks."""
    fields: dict[str, Any] = {
        "iep_id": iep, "goal_id": derive_id("goal", iep, n), "student_id": student, "domain": "academic",
        "description": "reads aloud", "baseline": Decimal(20), "target": Decimal(60),
        "measurement": "words a minute", "target_date": SAID.date() + timedelta(weeks=40),
    }
    return given(IEPGoalAdded(**fields | more), at=at, tenant=tenant)


def review(
    due: date, stage: str = "90", *, iep: UUID = IEP, student: UUID = STUDENT, at: datetime = SAID,
    tenant: str = TENANT, **more: Any,
) -> IEPReviewScheduled:
    """A reminder of a review: to a team of two and a guardian."""
    fields: dict[str, Any] = {
        "iep_id": iep, "student_id": student, "review_type": "annual", "due_date": due, "stage": stage,
        "days_remaining": -1 if stage == "overdue" else int(stage), "team_member_ids": [COORDINATOR, MANAGER],
        "guardian_ids": [GUARDIAN],
    }
    return given(IEPReviewScheduled(**fields | more), at=at, tenant=tenant)


def amendment(
    version: int = 1, completed: date | None = None, *, iep: UUID = IEP, student: UUID = STUDENT,
    at: datetime | None = None, tenant: str = TENANT, **more: Any,
) -> IEPAmended:
    """A version of the IEP, said on that many days after SAID."""
    fields: dict[str, Any] = {
        "iep_id": iep, "student_id": student, "version": version, "changed_sections": ["accommodations"],
        "reason": "the team met", "effective_date": BEGIN, "amended_by": MANAGER,
        "accommodations": ["extended time"], "review_completed_on": completed,
    }
    return given(IEPAmended(**fields | more), at=at or later(version), tenant=tenant)


def service(
    started_at: datetime, minutes: int = 30, *, type: str = "speech", student: UUID = STUDENT, tenant: str = TENANT,
    at: datetime | None = None, **more: Any,
) -> IEPServiceDelivered:
    """A session, logged when it began unless `at` says otherwise."""
    fields: dict[str, Any] = {
        "service_log_id": derive_id("log", student, started_at, type), "iep_id": IEP, "student_id": student,
        "service_type": type, "provider_id": PROVIDER, "started_at": started_at, "minutes": minutes,
        "delivery": "individual",
    }
    return given(IEPServiceDelivered(**fields | more), at=at or started_at, tenant=tenant)


def plan504(
    due: date = BEGIN + timedelta(days=365), completed: date | None = None, *, id: UUID = PLAN,
    student: UUID = STUDENT, at: datetime = SAID, tenant: str = TENANT, codes: tuple[str, ...] = ("breaks",),
    **more: Any,
) -> Section504PlanActivated:
    """A Section 504 plan with these accommodations."""
    fields: dict[str, Any] = {
        "plan_id": id, "student_id": student, "begin_date": BEGIN, "review_due": due, "impairment": "asthma",
        "accommodations": [Accommodation(code=c, description=f"{c} as needed") for c in codes],
        "coordinator_id": COORDINATOR, "review_completed_on": completed,
    }
    return given(Section504PlanActivated(**fields | more), at=at, tenant=tenant)


def a_plan(tenant: str = TENANT, n: int = 0) -> list[Event]:
    """Something for every handler of special programs, a class and a guardian; a shortfall. Another n differs."""
    first = datetime(2021, 9, 6, 15, tzinfo=UTC)
    due = BEGIN + timedelta(days=250 + n)
    return [
        enrolment(BEGIN + timedelta(days=7), class_id=MATH, enrollment_id=derive_id("math"), tenant=tenant),
        iep(case_manager_id=UUID(int=600 + n), annual_review_due=due, tenant=tenant),
        goal(target=Decimal(60 + n), tenant=tenant), review(due, tenant=tenant),
        amendment(1, BEGIN + timedelta(days=100 + n), tenant=tenant),
        *(service(first + timedelta(weeks=week), 10 + n % 7, tenant=tenant) for week in range(4)),
        plan504(BEGIN + timedelta(days=300 + n), codes=("breaks", f"seat {n}"), tenant=tenant),
        given(
            GuardianContactUpdated(
                guardian_id=GUARDIAN, student_ids=[STUDENT], version=1, email=f"home{n}@example.org",
                relationship="Father", custody="restricted",
            ),
            tenant=tenant,
        ),
    ]


async def teaches(
    lab: HandlerLab, teacher: UUID, class_id: UUID = MATH, *, tenant: str = TENANT, end: date | None = None
) -> None:
    """A teacher of a class, as rostering's TeacherAssigned writes it; and the class."""
    await lab.execute(
        """insert into classes (tenant_id, class_id, sourced_id, course_id, school_id, term_ids, title, class_type,
                                periods, grades)
           values ($1, $2, 'c', $2, $3, '{}', 'a class', 'scheduled', '{1}', '{07}') on conflict do nothing""",
        tenant, class_id, SCHOOL,
    )
    await lab.execute(
        "insert into class_staff values ($1, $2, $3, $4, 'primary', $5, $6, $7, $2) on conflict do nothing",
        tenant, derive_id(tenant, teacher, class_id, end), class_id, teacher, BEGIN, end, SAID,
    )


async def deadlines(lab: HandlerLab, *columns: str, student: UUID = STUDENT) -> list[tuple[Any, ...]]:
    """These columns of the student's deadlines, in the order in which they fall due."""
    rows = await lab.rows(
        f"""select {", ".join(columns)} from compliance_deadlines where student_id = $1
             order by due_date, kind, opened_on""",
        student,
    )
    return [tuple(row.values()) for row in rows]
