"""One absence rate in the report, explained day by day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from typing import Any

from skillcore_streams.demo.parts import table
from skillcore_streams.demo.pictures import TIERS

# Of those beyond 10 % at the end somebody with few days: the list shall be read.
SOMEBODY = """
    select y.tenant_id, y.student_id, y.days_enrolled, y.days_absent, y.rate, y.as_of
      from student_attendance_ytd y
     where y.days_enrolled is not null
     order by y.rate < 0.1, abs(y.rate - 0.1), y.student_id limit 1"""

# ordinal: the how manieth instructional day of the student's year it was.
DAYS = """
    select a.day, a.category, e.id, c.ordinal - first.ordinal + 1 as ordinal
      from attendance_day a
      join school_calendar_days c using (tenant_id, school_id, day)
      join student_membership m using (tenant_id, student_id, school_id)
      join event e on e.tenant_id = a.tenant_id and e.event_key = a.said_by
     cross join lateral (
           select min(ordinal) as ordinal from school_calendar_days f
            where f.tenant_id = m.tenant_id and f.school_id = m.school_id and f.day >= m.begin_date) first
     where a.tenant_id = $1 and a.student_id = $2 and a.category in ('absent_excused', 'absent_unexcused')
     order by a.day"""

REACHED = """
    select threshold, as_of from attendance_threshold
     where tenant_id = $1 and student_id = $2 and retracted_at is null
     order by as_of, threshold"""

FIRST_EVALUATED = 20
FIVE_PLACES = Decimal("0.00001")


@dataclass(frozen=True, slots=True)
class Absence:
    """A day that counts. `ordinal` is its number among the student's instructional days."""

    day: date
    excused: bool
    ordinal: int
    event: str


@dataclass(frozen=True, slots=True)
class Explained:
    """An absence rate and the days it came from."""

    enrolled: int
    absent: int
    rate: Decimal
    days: list[Absence]
    reached: list[tuple[str, date]]
    """Thresholds in words, and the day of each."""

    @property
    def agrees(self) -> bool:
        """Whether the days come to what is stored."""
        rate = (Decimal(len(self.days)) / self.enrolled).quantize(FIVE_PLACES, ROUND_HALF_UP)
        return len(self.days) == self.absent and rate == self.rate


async def gather(db: Any) -> Explained | None:
    """Ask the database. None when nobody has a rate."""
    somebody = await db.fetchrow(SOMEBODY)
    if somebody is None:
        return None
    student = somebody["tenant_id"], somebody["student_id"]
    days = [Absence(row["day"], row["category"] == "absent_excused", row["ordinal"], row["id"])
            for row in await db.fetch(DAYS, *student)]  # fmt: skip
    words = {name: text for name, text, _ in TIERS}
    return Explained(
        somebody["days_enrolled"], int(somebody["days_absent"]), somebody["rate"], days,
        [(words[row["threshold"]], row["as_of"]) for row in await db.fetch(REACHED, *student)],
    )


def section(explained: Explained | None) -> str:
    """Its part of the page."""
    if explained is None or not explained.days:
        return ""
    rows = []
    for n, absence in enumerate(explained.days, start=1):
        rate = f"{100 * n / absence.ordinal:.1f} %" if absence.ordinal >= FIRST_EVALUATED else "too early"
        rows.append([f"{absence.day:%a %-d %b %Y}", "excused" if absence.excused else "unexcused",
                     f"<code>{escape(absence.event[:8])}</code>", f"{absence.ordinal}", f"{n}", rate])  # fmt: skip
    verdict = (
        "<span class='ok'>The days come to the stored rate.</span>" if explained.agrees
        else "<span class='bad'>The days do not come to the stored rate.</span>"
    )
    reached = "; ".join(f"{words} on {day:%-d %B %Y}" for words, day in explained.reached)
    return (
        f"<h3>One absence rate, explained</h3><p>A student’s {100 * explained.rate:.2f} % at the end of the year: "
        f"{explained.absent} days absent of {explained.enrolled} instructional days since enrolment. {verdict} "
        f"Reached: {escape(reached) or 'no threshold'}.</p>"
        + table("Every day that counts", ["Day", "", "Event", "Instructional day", "Absent so far", "Rate"], rows,
                numbers=3)
    )  # fmt: skip
