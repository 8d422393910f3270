"""IEPs in the report: by when they must be looked at again, and whether the minutes they promise are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from typing import Any

from skillcore_streams.demo.parts import MADE_UP, hidden, legend, table
from skillcore_streams.demo.pictures import WIDTH, bar, grid, nice, share, svg

STAGES = (90, 60, 30, 14)
STATES = (("far", "more than 90 days"), ("s90", "90 days or less"), ("s60", "60 days or less"),
          ("s30", "30 days or less"), ("s14", "14 days or less"), ("overdue", "overdue"))  # fmt: skip

# An IEP that has ended on its exit date is no longer reviewed.
DEADLINES = """
    select d.kind, d.due_date, d.completed_on
      from compliance_deadlines d join ieps i
        on i.tenant_id = d.tenant_id and i.student_id = d.student_id and i.iep_id = d.subject_id
     where i.end_date >= i.annual_review_due
     union all
    select kind, due_date, completed_on from compliance_deadlines where kind = '504_review'"""

ENDED = "select count(*) from ieps where end_date < annual_review_due"

WEEKS = """
    select coalesce(o.name, 'School not known') as school, w.week, count(*) as students, sum(w.credited)::int as given,
           sum(w.mandated)::int as mandated, count(*) filter (where w.credited < 0.8 * w.mandated) as short
      from service_minutes_weekly w
      left join student_membership m using (tenant_id, student_id)
      left join orgs o on o.tenant_id = m.tenant_id and o.org_id = m.school_id
     where w.mandated is not null
     group by 1, 2 order by 1, 2"""

ALERTS = """
    select count(*) from student_alerts where kind = 'service_shortfall' and resolved_at is null"""

KINDS = {"annual_review": "Annual review", "triennial": "Reevaluation", "504_review": "Section 504 review"}


@dataclass(frozen=True, slots=True)
class Deadline:
    """A review that is due, or was done."""

    kind: str
    due: date
    completed: date | None


@dataclass(frozen=True, slots=True)
class Week:
    """The services of a school's students in a week. Minutes."""

    school: str
    begins: date
    students: int
    given: int
    mandated: int
    short: int


@dataclass(frozen=True, slots=True)
class Plans:
    """What the report shows of plans."""

    deadlines: list[Deadline]
    ended: int
    weeks: list[Week]
    alerts: int


async def gather(db: Any) -> Plans:
    """Ask the database."""
    return Plans(
        deadlines=[Deadline(*row.values()) for row in await db.fetch(DEADLINES)],
        ended=await db.fetchval(ENDED),
        weeks=[Week(*row.values()) for row in await db.fetch(WEEKS)],
        alerts=await db.fetchval(ALERTS),
    )


def deadlines(plans: Plans, today: date) -> str:
    """The section on reviews. `today` is the last day of the year that was played."""
    open_ = [d for d in plans.deadlines if d.completed is None]
    annual = [d.due for d in open_ if d.kind == "annual_review"]
    if not annual:
        return "<p>No IEP is open.</p>"
    done = sum(d.completed is not None for d in plans.deadlines)
    again = [d for d in open_ if d.kind == "annual_review" and d.due > min(annual)]
    first_time = [d for d in open_ if d not in again]
    heads = ["Deadline", "Due", "90 days before", "60 days before", "30 days before", "Days left", "Students"]
    overdue = sum(d.due < today for d in open_)
    first = min(annual)
    return (
        f"<p>{len(annual)} IEPs are open and must be reviewed not less than annually (34 CFR 300.324(b)(1)(i)); "
        f"students are evaluated again at least every three years (300.303(b)(2)). {plans.ended} IEPs have ended by "
        f"their exit date; {done} annual reviews were completed in the year {MADE_UP}. On the last school day, "
        f"{today:%-d %B %Y}, {overdue or 'none'} of the reviews {'is' if overdue == 1 else 'are'} overdue; without any "
        f"further review {sum(d == first for d in annual)} would be on {first + timedelta(days=1):%-d %B %Y}.</p>"
        + legend(STATES)
        + f"<figure>{_ahead(annual, today)}<figcaption>Open annual reviews by how near they are, if none of them is "
        "held</figcaption></figure>"
        + table("Open deadlines, with the days on which their teams are reminded", heads, _rows(first_time, today), 2)
        + hidden(f"{len(again)} reviews that follow one of the year", table(
            "Annual reviews a year after the one that was completed", heads, _rows(again, today), 2))
    )  # fmt: skip


def _rows(found: Sequence[Deadline], today: date) -> list[list[str]]:
    """One for each kind and day."""
    rows = []
    for (kind, due), count in sorted(Counter((list(KINDS).index(d.kind), d.due) for d in found).items()):
        left = (due - today).days
        stages = [f"{due - timedelta(days=stage):%-d %b %Y}" for stage in STAGES[:3]]
        days = f"{left}" if left >= 0 else f"<span class='bad'>overdue {-left}</span>"
        rows.append([list(KINDS.values())[kind], f"{due:%-d %b %Y}", *stages, days, f"{count}"])
    return rows


def services(plans: Plans) -> str:
    """The section on service minutes."""
    if not plans.weeks:
        return "<p>No service was logged.</p>"
    short = sum(week.short for week in plans.weeks)
    student_weeks = sum(week.students for week in plans.weeks)
    rows = []
    for school in sorted({w.school for w in plans.weeks}):
        weeks = [w for w in plans.weeks if w.school == school]
        given, mandated = sum(w.given for w in weeks), sum(w.mandated for w in weeks)
        rows.append([escape(school), f"{max(w.students for w in weeks)}", f"{mandated:,}", f"{given:,}",
                     share(given, mandated), f"{sum(w.short for w in weeks):,}"])  # fmt: skip
    return (
        f"<p>An IEP promises minutes of each service a week, and what is given of one makes up for none of another. "
        f"In {short:,} of {student_weeks:,} student-weeks less than 80 % was given; {plans.alerts} times two weeks "
        f"running, and an alert stands. All sessions, and the services of IEPs for which the files name "
        f"no hours, are made up {MADE_UP}.</p>"
        + legend((("given", "minutes that count"), ("owed", "promised and not given")))
        + f"<figure>{_weeks(plans.weeks)}<figcaption>Minutes of all students by week</figcaption></figure>"
        + table("Minutes of the year by school",
                ["School", "Students", "Promised", "Given", "Share", "Short student-weeks"], rows, numbers=5)
    )  # fmt: skip


def _ahead(due: Sequence[date], today: date) -> str:
    """Stacked bars, one a week from today until all are overdue."""
    left, right, top, high = 44, 10, 10, 150
    last = max(day for day, count in Counter(due).items() if count * 10 >= len(due))
    weeks = [today + timedelta(days=7 * n) for n in range((last - today).days // 7 + 4)]
    slot, floor, most = (WIDTH - left - right) / len(weeks), top + high, nice(len(due))
    parts = list(grid(left, WIDTH - right, top, floor, most, ""))
    month = 0
    for n, day in enumerate(weeks):
        count = Counter(_state((d - day).days) for d in due)
        base, at = float(floor), left + n * slot
        for kind, words in reversed(STATES):
            size = high * count[kind] / most
            base -= size
            if size:
                parts.append(bar(kind, at + 1, base, slot - 2, size, f"{day:%-d %b %Y}: {count[kind]} {words}"))
        if day.month != month:
            month = day.month
            parts.append(f'<text class="tick" x="{at + 1:.1f}" y="{floor + 18}">{day:%b}</text>')
    told = f"{len(due)} open annual reviews, week by week from {today:%-d %B %Y}; at the end those that are overdue."
    return svg(floor + 26, "Open annual reviews by how near they are", told, parts)


def _state(days: int) -> str:
    if days < 0:
        return "overdue"
    return next((f"s{stage}" for stage in reversed(STAGES) if days <= stage), "far")


def _weeks(found: Sequence[Week]) -> str:
    left, right, top, high = 64, 10, 10, 150
    given: Counter[date] = Counter()
    mandated: Counter[date] = Counter()
    for week in found:
        given[week.begins] += week.given
        mandated[week.begins] += week.mandated
    days = sorted(mandated)
    slot, floor, most = (WIDTH - left - right) / len(days), top + high, nice(max(mandated.values()))
    parts = list(grid(left, WIDTH - right, top, floor, most, "minutes"))
    month = 0
    for n, day in enumerate(days):
        at = left + n * slot
        inner, outer = high * given[day] / most, high * mandated[day] / most
        part = share(given[day], mandated[day])
        said = f"Week of {day:%-d %b %Y}: {given[day]:,} of {mandated[day]:,} minutes, {part}"
        parts.append(bar("owed", at + 1, floor - outer, slot - 2, outer - inner, said))
        parts.append(bar("given", at + 1, floor - inner, slot - 2, inner, said))
        if day.month != month:
            month = day.month
            parts.append(f'<text class="tick" x="{at + 1:.1f}" y="{floor + 18}">{day:%b}</text>')
    total, owed = sum(given.values()), sum(mandated.values())
    told = f"{total:,} of {owed:,} promised minutes were given in {len(days)} weeks, {share(total, owed)}."
    return svg(floor + 26, "Minutes of services by week, given and promised", told, parts)
