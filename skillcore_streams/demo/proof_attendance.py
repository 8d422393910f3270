"""The proof of attendance: every student's days and rate, every school's days, and all that followed from them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from skillcore_streams.demo.compare import Case, Line, compare
from skillcore_streams.demo.recount import Expected, attendance_id, recorded_marks, school_id, student_id

TIERS = ("at_risk_5", "chronic_10", "severe_20")

THREE_IN_SEVEN = """
    select distinct a.student_id
      from (select student_id, day, lag(day, 2) over (partition by student_id order by day) as second_last
              from attendance_day
              join school_calendar_days using (tenant_id, school_id, day)
             where category in ('absent_excused', 'absent_unexcused')) a
     where a.day - a.second_last <= 6"""


RATES = """
    select student_id, days_enrolled, days_absent, rate, as_of from student_attendance_ytd
     where days_enrolled is not null"""

REACHED = """
    select student_id, threshold, as_of, days_enrolled, days_absent from attendance_threshold
     where retracted_at is null"""


def sent(case: Case, expected: Expected) -> Iterable[Line]:
    """Every mark of the year is in Kafka: those recorded, and a present one for each other day."""
    marks = [str(attendance_id(case.tenant, *mark)) for mark in recorded_marks(case.folder)]
    recorded = {(student, day) for student, _, day, _ in recorded_marks(case.folder)}
    marks += [
        str(attendance_id(case.tenant, student, school, day))
        for student, school in expected.school_of.items() for day in expected.calendar if (student, day) not in recorded
    ]
    yield compare("in Kafka", "AttendanceMarked, the year's marks", "topics, unique ids", marks,
                  case.log.ids("AttendanceMarked"))


async def effects(case: Case, expected: Expected) -> Iterable[Line]:
    """What the handlers have made of it."""
    section, rows = "attendance", case.rows
    student = {s: student_id(case.tenant, s) for s in expected.students | expected.school_of.keys()}
    school = {s: school_id(case.tenant, s) for s in set(expected.school_of.values())}
    enrolled, last = len(expected.calendar), expected.calendar[-1]

    lines = [
        compare(section, "students' days, by category", "attendance_day",
                [(student[s], day, category) for (s, day), category in expected.day_of.items()],
                await rows("select student_id, day, category from attendance_day")),
        compare(section, "schools' days: present, absent, tardy, other", "school_attendance_daily",
                [(school[s], day, c.present, c.absent, c.tardy, c.other) for (s, day), c in expected.counts.items()],
                await rows("select school_id, day, present, absent, tardy, other from school_attendance_daily")),
        compare(section, "absence rates of the year", "student_attendance_ytd",
                [(student[s], enrolled, absent, _rate(absent, enrolled), last)
                 for s, absent in expected.days_absent.items()],
                await rows(RATES)),
        compare(section, "three absences in seven days", "SQL over attendance_day",
                [(student[s],) for s in expected.three_in_seven], await rows(THREE_IN_SEVEN)),
    ]
    reached = await rows(REACHED)
    for tier in TIERS:
        lines.append(compare(
            section, f"reached {tier}, and when", "attendance_threshold",
            [(student[c.student], tier, c.as_of, c.days_enrolled, c.days_absent)
             for c in expected.crossings if c.threshold == tier],
            [row for row in reached if row[1] == tier],
        ))
    highest: dict[str, tuple[UUID, str, Any]] = {}
    for crossing in sorted(expected.crossings, key=lambda c: TIERS.index(c.threshold)):
        highest[crossing.student] = student[crossing.student], crossing.threshold, crossing.as_of
    crossed = [(str(student[c.student]), c.threshold) for c in expected.crossings]
    absences = [(student[s], day) for s, day in expected.student_absent]
    absent_said = [(str(s), str(day)) for s, day in absences]
    lines += [
        compare(section, "AttendanceThresholdReached, published once each", "event", crossed,
                await case.stored("AttendanceThresholdReached", "student_id", "threshold")),
        compare(section, "tiers of chronic absence", "chronic_absence_status", highest.values(),
                await rows("select student_id, tier, since from chronic_absence_status")),
        compare(section, "StudentAbsent, published once each", "event", absent_said,
                await case.stored("StudentAbsent", "student_id", "date")),
        compare(section, "absence notices", "absence_notices", absences,
                await rows("select student_id, day from absence_notices where retracted_at is null")),
        compare(section, "truancy cases: first and last day, length", "truancy_cases",
                [(student[r.student], r.first, r.last, r.days) for r in expected.truancy],
                await rows("select student_id, first_day, last_day, days from truancy_cases")),
    ]
    return lines


def _rate(absent: int, enrolled: int) -> Decimal:
    return (Decimal(absent) / enrolled).quantize(Decimal("0.00001"), ROUND_HALF_UP)
