"""A student's absence rate of a school year, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from skillcore_streams.explain import differences, event_ids
from skillcore_streams.rules.attendance import ABSENT, FIRST_EVALUATED, THRESHOLDS
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.errors import SkillCoreError

STORED = """
    select * from student_attendance_ytd
     where tenant_id = $1 and student_id = $2 and ($3::text is null or school_year = $3)
     order by school_year desc limit 1"""

DAYS = """
    select day, school_id, category, code, attendance_id, said_by from attendance_day
     where tenant_id = $1 and student_id = $2 and school_year = $3 order by day"""

MEMBERSHIPS = "select school_id, begin_date, end_date from student_membership where tenant_id = $1 and student_id = $2"

CALENDAR = """
    select day from school_calendar_days
     where tenant_id = $1 and school_id = $2 and school_year = $3 order by day"""

SECTIONS = """
    select day, class_id, period, category, code, minutes_missed, said_by from attendance_section
     where tenant_id = $1 and student_id = $2 and school_year(day) = $3 order by day, period, class_id"""

REACHED = """
    select threshold, as_of, days_enrolled, days_absent, rate from attendance_threshold
     where tenant_id = $1 and student_id = $2 and school_year = $3 and retracted_at is null order by as_of, rate"""


async def explain_absence(db: Database, tenant: str, student_id: UUID, year: str | None = None) -> dict[str, Any]:
    """The stored rate, each absent day behind it, the calendar it is a share of, and `differences`.

    Args:
        year: "2021-2022"; the student's latest when None.

    Raises SkillCoreError when there is no rate to explain.
    """
    row = await db.fetchrow(STORED, tenant, student_id, year)
    if row is None:
        raise SkillCoreError(f"this student has no attendance of {year or 'any year'}")
    year = str(row["school_year"])
    days = await db.fetch(DAYS, tenant, student_id, year)
    calendars: dict[UUID, list[date]] = {}
    members = {m["school_id"]: m for m in await db.fetch(MEMBERSHIPS, tenant, student_id)}
    for school in members:
        calendars[school] = [r["day"] for r in await db.fetch(CALENDAR, tenant, school, year)]
    school, enrolled = _enrolled(days, members, calendars)
    numbers = {day: n for n, day in enumerate(enrolled, 1)}
    absent = [d for d in days if d["category"] in ABSENT and d["day"] in numbers]
    sections = await db.fetch(SECTIONS, tenant, student_id, year)
    ids = await event_ids(db, [d["said_by"] for d in [*days, *sections]])
    stored_thresholds = {r["threshold"]: r for r in await db.fetch(REACHED, tenant, student_id, year)}
    thresholds = _thresholds(enrolled, {d["day"] for d in absent})
    rate = _rate(len(absent), len(enrolled))
    return {
        "tenant": tenant, "student": student_id, "school_year": year,
        "stored": {name: row[name] for name in ("school_id", "days_enrolled", "days_absent", "rate", "as_of")},
        "enrolled": {
            "school": school, "begin": members[school]["begin_date"] if school else None,
            "end": members[school]["end_date"] if school else None,
            "first_school_day": enrolled[0] if enrolled else None, "as_of": enrolled[-1] if enrolled else None,
            "school_days": len(enrolled), "calendar_days_of_the_year": len(calendars.get(school, [])) if school else 0,
        },
        "absent_days": [
            {
                "day": d["day"], "school_day": numbers[d["day"]], "category": d["category"], "code": d["code"],
                "event": ids.get(d["said_by"]),
                "classes": [
                    {
                        "period": s["period"], "category": s["category"], "code": s["code"],
                        "minutes_missed": s["minutes_missed"], "event": ids.get(s["said_by"]),
                    }
                    for s in sections if s["day"] == d["day"] and d["attendance_id"] is None
                ],
            }
            for d in absent
        ],
        "not_counted": [
            {"day": d["day"], "category": d["category"], "why": _why_not(d["day"], school, calendars, enrolled)}
            for d in days if d["category"] in ABSENT and d["day"] not in numbers
        ],
        "thresholds": [
            {"threshold": name, "share": THRESHOLDS[name], **found} for name, found in thresholds.items()
        ],
        "explained": {"days_enrolled": len(enrolled), "days_absent": len(absent), "rate": rate},
        "differences": differences([
            ("school", row["school_id"], school),
            ("days_enrolled", row["days_enrolled"], len(enrolled) or None),
            ("days_absent", row["days_absent"], len(absent) if enrolled else None),
            ("rate", row["rate"], rate),
            ("as_of", row["as_of"], enrolled[-1] if enrolled else None),
            *(
                (f"{name}, {what}", stored_thresholds[name][what] if name in stored_thresholds else None,
                 thresholds[name][what] if name in thresholds else None)
                for name in THRESHOLDS for what in ("as_of", "days_enrolled", "days_absent", "rate")
            ),
        ]),
    }


def _enrolled(
    days: Sequence[Any], members: dict[UUID, Any], calendars: dict[UUID, list[date]]
) -> tuple[UUID | None, list[date]]:
    """The school of the latest mark that can be judged, and the school days from enrolment up to that mark."""
    for mark in reversed(days):
        member = members.get(mark["school_id"])
        if member is not None:
            until = min(mark["day"], member["end_date"] or mark["day"])
            enrolled = [d for d in calendars[mark["school_id"]] if member["begin_date"] <= d <= until]
            if enrolled:
                return mark["school_id"], enrolled
    return None, []


def _thresholds(enrolled: Sequence[date], absent: set[date]) -> dict[str, dict[str, Any]]:
    """The first day on which each was reached: every school day is looked at, from the first one that is judged."""
    found: dict[str, dict[str, Any]] = {}
    missed = 0
    for n, day in enumerate(enrolled, 1):
        missed += day in absent
        for name, share in THRESHOLDS.items():
            if n >= FIRST_EVALUATED and name not in found and missed >= share * n:
                found[name] = {"as_of": day, "days_enrolled": n, "days_absent": missed, "rate": _rate(missed, n)}
    return found


def _rate(absent: int, enrolled: int) -> Decimal | None:
    """Halves up, five places, as it is stored."""
    return (Decimal(absent) / enrolled).quantize(Decimal("0.00001"), ROUND_HALF_UP) if enrolled else None


def _why_not(day: date, school: UUID | None, calendars: dict[UUID, list[date]], enrolled: Sequence[date]) -> str:
    if school is None or not enrolled:
        return "neither enrolment nor calendar is known"
    if day not in calendars[school]:
        return "not a school day"
    return "before enrolment" if day < enrolled[0] else "after the enrolment ended"
