"""A school, its calendar and its students, as events: what the tests of handlers talk about."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from skillcore_streams.events.attendance import AttendanceCorrected, AttendanceMarked, Category
from skillcore_streams.events.gradebook import AssignmentCreated, GradeUpdated
from skillcore_streams.events.rostering import (
    AcademicSessionCreated,
    ClassCreated,
    SchoolCreated,
    StudentEnrolled,
    TeacherAssigned,
)
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.testing import TENANT, HandlerLab, given

SCHOOL = UUID(int=100)
OTHER_SCHOOL = UUID(int=101)
STUDENT = UUID(int=1)
TEACHER = UUID(int=200)
YEAR = "2021-2022"

FIRST = date(2021, 9, 6)
"""A Monday."""


def weekdays(n: int, start: date = FIRST) -> list[date]:
    """The first n days from Monday to Friday."""
    days: list[date] = []
    day = start
    while len(days) < n:
        if day.weekday() < 5:
            days.append(day)
        day += timedelta(days=1)
    return days


DAYS = weekdays(60)
"""Instructional days of the tests' year. DAYS[4] is a Friday, DAYS[5] the Monday after it."""

SATURDAY = FIRST + timedelta(days=5)


def at(day: date, hour: int = 9, minute: int = 0) -> datetime:
    """A time of that day."""
    return datetime.combine(day, time(hour, minute), UTC)


def mark(
    day: date | int = 0,
    category: Category = "absent_unexcused",
    *,
    student: UUID = STUDENT,
    school: UUID = SCHOOL,
    hour: int = 9,
    tenant: str = TENANT,
    id: str | None = None,
    **more: Any,
) -> AttendanceMarked:
    """A mark of a day, given by date or by its number in DAYS, made at that hour of the day."""
    when = DAYS[day] if isinstance(day, int) else day
    name = id or str(derive_id(student, when, category, hour, school, *map(str, more.values())))
    fields: dict[str, Any] = {
        "attendance_id": derive_id(tenant, "attendance", name), "student_id": student, "school_id": school,
        "date": when, "code": category, "category": category, "marked_by": TEACHER, "marked_at": at(when, hour),
    }
    return given(AttendanceMarked(**fields | more), tenant=tenant, at=at(when, hour), id=name)


def class_mark(
    period: int, day: date | int = 0, category: Category = "absent_unexcused", **more: Any
) -> AttendanceMarked:
    """A mark of one class of seven."""
    return mark(day, category, period=str(period), class_id=derive_id("class", period), **more)


def correction(
    of: AttendanceMarked, category: Category, *, hour: int = 15, id: str | None = None, **more: Any
) -> AttendanceCorrected:
    """Replaces a mark, at that hour of its day."""
    name = id or str(derive_id("correction", of.meta.key, category, hour))
    fields: dict[str, Any] = {
        "attendance_id": of.attendance_id, "student_id": of.student_id, "school_id": of.school_id, "date": of.date,
        "old_code": of.code, "new_code": category, "new_category": category, "reason": "a note from home",
        "corrected_by": TEACHER, "corrected_at": at(of.date, hour),
    }
    corrected = AttendanceCorrected(**fields | more)
    return given(corrected, tenant=of.meta.tenant, at=corrected.corrected_at, id=name)


def session(
    days: list[date] | None = None, *, school: UUID = SCHOOL, title: str = "the year", tenant: str = TENANT,
    said: datetime = datetime(2021, 8, 1, tzinfo=UTC), id: str | None = None, **more: Any,
) -> AcademicSessionCreated:
    """A session with these instructional days; DAYS when none are given."""
    within = DAYS if days is None else days
    fields: dict[str, Any] = {
        "session_id": derive_id("session", school, title), "school_id": school, "type": "schoolYear", "title": title,
        "start_date": min(within, default=FIRST), "end_date": max(within, default=FIRST), "instructional_days": within,
    }
    return given(AcademicSessionCreated(**fields | more), tenant=tenant, at=said, id=id)


def enrolment(
    begin: date = FIRST, *, student: UUID = STUDENT, school: UUID = SCHOOL, tenant: str = TENANT, id: str | None = None,
    **more: Any,
) -> StudentEnrolled:
    """A student entered a school."""
    fields: dict[str, Any] = {
        "enrollment_id": derive_id("enrollment", student, more.get("class_id", school), begin), "student_id": student,
        "school_id": school, "begin_date": begin, "grade_level": "07", "role": "student",
    }
    return given(StudentEnrolled(**fields | more), tenant=tenant, id=id)


def school(id: UUID = SCHOOL, *, tenant: str = TENANT, **more: Any) -> SchoolCreated:
    """A school exists."""
    fields: dict[str, Any] = {
        "school_id": id, "sourced_id": str(id.int), "parent_org_id": UUID(int=99), "name": "Lakeside",
        "type": "school", "timezone": "America/Chicago", "grade_levels": ["07"],
    }
    return given(SchoolCreated(**fields | more), tenant=tenant)


async def ready(lab: HandlerLab, *, begin: date = FIRST, days: list[date] | None = None) -> None:
    """The school, its calendar and its student are known, and all that follows from it is done."""
    start: list[Event] = [school(), session(days), enrolment(begin)]
    await lab.deliver(start)
    await lab.settle()


async def year_to_date(lab: HandlerLab, student: UUID = STUDENT, year: str = YEAR) -> tuple[Any, ...]:
    """(days enrolled, days absent, rate as a string, as of) of the student's year."""
    [row] = await lab.rows(
        """select days_enrolled, days_absent, rate::text, as_of from student_attendance_ytd
            where student_id = $1 and school_year = $2""",
        student, year,
    )
    return tuple(row.values())


# A class and its gradebook --------------------------------------------------------------------------------------------

CLASS = UUID(int=300)
HOMEWORK, TESTS, PROJECTS = UUID(int=401), UUID(int=402), UUID(int=403)

TEMPLATE = json.dumps([
    {"id": str(HOMEWORK), "name": "Homework", "weight": "30", "drop_lowest": 1},
    {"id": str(TESTS), "name": "Tests", "weight": "60"},
    {"id": str(PROJECTS), "name": "Projects", "weight": "10", "drop_highest": 1},
])
"""Categories of a school that weighs them."""


def school_class(id: UUID = CLASS, *, school: UUID = SCHOOL, tenant: str = TENANT, **more: Any) -> ClassCreated:
    """A class of the school."""
    fields: dict[str, Any] = {
        "class_id": id, "sourced_id": str(id.int), "course_id": UUID(int=500), "school_id": school,
        "term_ids": [UUID(int=600)], "title": "Algebra", "class_type": "scheduled", "periods": ["1"], "grades": ["07"],
        "teacher_ids": [TEACHER],
    }
    return given(ClassCreated(**fields | more), tenant=tenant, at=at(FIRST, 6), id=f"class/{id}")


def teacher(id: UUID = TEACHER, *, class_id: UUID = CLASS, tenant: str = TENANT, **more: Any) -> TeacherAssigned:
    """A teacher of the class."""
    fields: dict[str, Any] = {
        "assignment_id": derive_id("teaches", id, class_id), "teacher_id": id, "class_id": class_id, "role": "primary",
        "begin_date": FIRST,
    }
    return given(TeacherAssigned(**fields | more), tenant=tenant, at=at(FIRST, 6))


def assignment(
    n: int, points: object = 10, category: UUID = HOMEWORK, *, class_id: UUID = CLASS, tenant: str = TENANT,
    said: datetime | None = None, id: str | None = None, **more: Any,
) -> AssignmentCreated:
    """The n-th assignment of the class, given on DAYS[n] and due two school days later."""
    fields: dict[str, Any] = {
        "assignment_id": assignment_id(n, class_id), "class_id": class_id, "category_id": category, "title": f"No. {n}",
        "points_possible": Decimal(str(points)), "due_at": at(DAYS[n + 2], 20), "assigned_on": DAYS[n],
        "grading_type": "points", "extra_credit": False, "omit_from_final": False, "published": True,
    }
    made = AssignmentCreated(**fields | more)
    return given(made, tenant=tenant, at=said or at(DAYS[n], 7), id=id or f"assignment/{class_id}/{n}")


def assignment_id(n: int, class_id: UUID = CLASS) -> UUID:
    """The id of the n-th assignment of the class."""
    return derive_id("assignment", class_id, n)


def grade(
    n: int, score: object = None, *, student: UUID = STUDENT, class_id: UUID = CLASS, tenant: str = TENANT,
    day: int | None = None, hour: int = 12, points: object = 10, id: str | None = None, **more: Any,
) -> GradeUpdated:
    """What the student was given for the n-th assignment, at that hour of a day: DAYS[n + 3] unless said otherwise."""
    when = at(DAYS[n + 3 if day is None else day], hour)
    fields: dict[str, Any] = {
        "grade_id": derive_id("grade", class_id, student, n), "assignment_id": assignment_id(n, class_id),
        "class_id": class_id, "student_id": student, "score": None if score is None else Decimal(str(score)),
        "points_possible": Decimal(str(points)), "excused": False, "missing": False, "late": False, "posted": True,
        "graded_at": when,
    }
    made = GradeUpdated(**fields | more)
    name = id or str(derive_id(class_id, student, n, score, when, *map(str, more.values())))
    return given(made, tenant=tenant, at=made.graded_at, id=name)


async def weighed(lab: HandlerLab, categories: str = TEMPLATE, *, tenant: str = TENANT, **columns: str) -> None:
    """The school's template says how its new classes are graded."""
    await lab.execute(
        "insert into grading_templates values ($1, $2, $3, $4, $5)", tenant, SCHOOL,
        columns.get("method", "points"), columns.get("missing_policy", "zero"), categories,
    )


async def class_grade(lab: HandlerLab, student: UUID = STUDENT, class_id: UUID = CLASS) -> tuple[Any, ...]:
    """(current score, final score, letter) of the student, scores with two places."""
    [row] = await lab.rows(
        """select round(current_score, 2)::text, round(final_score, 2)::text as final, letter from student_class_grades
            where student_id = $1 and class_id = $2""",
        student, class_id,
    )
    return tuple(row.values())
