"""Special programs: when a plan must be looked at again, and whether what it promises is given.

Sources: 34 CFR 300.303 and 300.320-324 (IDEA), 34 CFR 104.35 (Section 504). Dates are the school's local days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from zoneinfo import ZoneInfo

YEAR = timedelta(days=365)
WEEK = timedelta(days=7)

STAGES = ("90", "60", "30", "14", "overdue")
"""How near a review is, in order: days before it is due, each told once; 14 is an addition to the seed's three."""

ENOUGH = Decimal("0.8")
"""Share of the weekly mandate below which a week is short. IDEA sets none: any failure to provide what the IEP says
(34 CFR 300.323(c)(2)) is one; 80 % keeps a snow day from being an alarm."""


# Reviews --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cycle:
    """A review that is due: opened by the plan or the review before it, closed by its own completion."""

    opened_on: date
    due: date
    completed_on: date | None = None


@dataclass(frozen=True, slots=True)
class Said504:
    """What one activation of a Section 504 plan says of its review."""

    begin: date
    due: date
    completed_on: date | None = None


def first_annual_review_due(begin: date, said: date) -> date:
    """The day an IEP is to be reviewed by: as the team said, at most 365 days after it began.

    34 CFR 300.324(b)(1)(i): periodically, but not less than annually.
    """
    return min(said, begin + YEAR)


def annual_reviews(begin: date, said: date, completed: Iterable[date]) -> list[Cycle]:
    """An IEP's annual reviews, the last of them open: each completed one opens the next, due 365 days later.

    34 CFR 300.324(b)(1)(i).

    Args:
        begin: first day of the IEP.
        said: when the first review is due, as the IEP has it.
        completed: days of completed reviews, in any order, repeats allowed. Those up to `begin` led to this IEP.
    """
    cycles = [Cycle(begin, first_annual_review_due(begin, said))]
    for day in sorted({day for day in completed if day > begin}):
        cycles[-1] = replace(cycles[-1], completed_on=day)
        cycles.append(Cycle(day, day + YEAR))
    return cycles


def reviews_told_of(completed: Iterable[date], due: Iterable[date]) -> list[Cycle]:
    """Reviews of an IEP that is itself not known, from what others say of it: the last of them is open.

    34 CFR 300.324(b)(1)(i). Completed reviews tell when the next one is due; else the latest due date that was named,
    of a cycle as long as a year, is all there is to go by.

    Args:
        completed: days of completed reviews.
        due: due dates that reminders have named.
    """
    if done := sorted(completed):
        return annual_reviews(done[0], done[0] + YEAR, done)
    latest = max(due, default=None)
    return [] if latest is None else [Cycle(latest - YEAR, latest)]


def section504_reviews(activations: Sequence[Said504]) -> list[Cycle]:
    """A Section 504 plan's reviews from all its activations, oldest first; the last review is open.

    34 CFR 104.35(d) asks for periodic re-evaluation and names no interval: the plan's own date holds, and a review that
    is completed without naming another date after it is followed by one 365 days later. An activation that completes
    nothing may move the date. What completes a review twice, or one before the open one began, completes nothing.

    Raises IndexError for no activation.
    """
    cycles = [Cycle(activations[0].begin, activations[0].due)]
    for said in activations[1:]:
        opened, due, done = cycles[-1].opened_on, cycles[-1].due, said.completed_on
        if done is None or done <= opened:
            cycles[-1] = replace(cycles[-1], due=said.due)
            continue
        cycles[-1] = replace(cycles[-1], completed_on=done)
        cycles.append(Cycle(done, said.due if said.due > done and said.due != due else done + YEAR))
    return cycles


def reevaluation_due(evaluated: date) -> date:
    """The day by which a student is to be evaluated again: three years after the last evaluation.

    34 CFR 300.303(b)(2): at least once every three years, unless parent and agency agree that it is not needed.
    29 February is followed by 28 February.
    """
    return _years_later(evaluated, 3)


def may_reevaluate(evaluated: date, on: date, *, agreed: bool = False) -> bool:
    """Whether a student may be evaluated again on a day: not within a year of the last time, unless it is agreed.

    34 CFR 300.303(b)(1): not more frequently than once a year, unless parent and agency agree otherwise.
    """
    return agreed or on >= _years_later(evaluated, 1)


def stage_of(days_remaining: int) -> str | None:
    """The stage a review has reached: the nearest of 90, 60, 30 and 14 days, "overdue" after its day; None before.

    The seed's reminders for 34 CFR 300.324(b)(1)(i). On its due day a review is not overdue.
    """
    if days_remaining < 0:
        return "overdue"
    reached = [stage for stage in STAGES[:-1] if days_remaining <= int(stage)]
    return reached[-1] if reached else None


def furthest(stages: Iterable[str]) -> str | None:
    """The latest of the stages told of one due date: a stage only goes forward, whatever order they were told in."""
    return max(stages, key=STAGES.index, default=None)


def _years_later(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return day.replace(year=day.year + years, day=28)


# Goals ----------------------------------------------------------------------------------------------------------------

_SLOPES = Context(prec=12, rounding=ROUND_HALF_UP)


def aim_line_slope(baseline: Decimal | None, target: Decimal, start: date, end: date) -> Decimal | None:
    """Progress a goal asks for, in units of its measurement a week, twelve significant digits.

    34 CFR 300.320(a)(3)(i): how progress toward a goal is measured. The aim line runs from the baseline on the day the
    goal was set to the target on its date, as curriculum-based measurement draws it. None without a baseline, or when
    the goal has no day to be reached in.
    """
    days = (end - start).days
    if baseline is None or days <= 0:
        return None
    return _SLOPES.divide((target - baseline) * 7, Decimal(days))


# Service minutes ------------------------------------------------------------------------------------------------------


def week_of(instant: datetime, zone: str) -> date:
    """The Monday of the week, Monday to Sunday, in which something happened at a school in this time zone.

    Ours: 34 CFR 300.320(a)(7) asks for the frequency of a service and leaves the unit to the IEP; ours say minutes a
    week, and a session belongs to the school's week (ISO 8601: from Monday).
    """
    day = instant.astimezone(ZoneInfo(zone)).date()
    return day - timedelta(days=day.weekday())


def bounds(week: date, zone: str) -> tuple[datetime, datetime]:
    """First instant of a week at a school in this time zone, and of the next one, UTC: 167 to 169 hours later."""
    begins, ends = (datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) for day in (week, week + WEEK))
    return begins, ends


def credited_minutes(delivered: Mapping[str, int], mandated: Mapping[str, int]) -> int:
    """Minutes of a week that count toward the mandate: of each service what was delivered, up to its own mandate.

    34 CFR 300.320(a)(4) and (7): an IEP states each service with its own amount, so more of one makes up for none of
    another, and what no IEP asks for counts nothing.
    """
    return sum(min(delivered.get(service, 0), minutes) for service, minutes in mandated.items())


def is_short(credited: int, mandated: int | None) -> bool:
    """Whether less than 80 % of a week's mandate was given; without a mandate, or with one of no minutes, it was not.

    The product's threshold (`ENOUGH`) for 34 CFR 300.323(c)(2).
    """
    return mandated is not None and credited < ENOUGH * mandated


def shortfalls(short: Iterable[date]) -> set[date]:
    """Of the weeks that were short, those whose week before was short too: two weeks running are a shortfall.

    The product's threshold for 34 CFR 300.323(c)(2). Weeks are named by their Mondays; a week that is not known to be
    short, a holiday for one, breaks the run.
    """
    weeks = set(short)
    return {week for week in weeks if week - WEEK in weeks}
