"""Attendance: what a day was, how much was missed, and when that becomes everybody's concern.

School days are counted by their ordinals in the school's calendar, so weekends and holidays need no thought here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

ABSENT = frozenset({"absent_excused", "absent_unexcused"})
"""A day that counts as missed, whether excused or not (EDFacts FS195)."""

GRAVEST_FIRST = ("absent_excused", "absent_unexcused", "partial", "early_departure", "tardy", "present")
"""Which of several marks of one day is told: absent before partial before tardy before present."""

THRESHOLDS: Mapping[str, Decimal] = {
    "at_risk_5": Decimal("0.05"),  # "approaching" in attendance, behaviour and course tools
    "chronic_10": Decimal("0.10"),  # chronic absenteeism: 10 % or more of the enrolled days (EDFacts FS195, DG814)
    "severe_20": Decimal("0.20"),  # Attendance Works' highest tier
}

FIRST_EVALUATED = 20
"""The school day since enrolment on which a rate is looked at first: before, one cold would be a tenth of the time."""

TRUANT_AFTER = 3
"""Unexcused school days in a row that open a truancy case."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A rate reached a threshold on the `days_enrolled`-th school day since enrolment."""

    days_enrolled: int
    days_absent: int

    @property
    def rate(self) -> Decimal:
        """Days absent by days enrolled, rounded to five places."""
        return absence_rate(self.days_absent, self.days_enrolled)


def gravest(categories: Iterable[str]) -> str:
    """The category of a day with several marks. Raises ValueError for none."""
    return min(categories, key=GRAVEST_FIRST.index)


def absence_rate(days_absent: int, days_enrolled: int) -> Decimal:
    """Share of enrolled school days missed, 0 to 1, five places; 0 before the first day. Halves go up, as in SQL."""
    if days_enrolled <= 0:
        return Decimal(0)
    return (Decimal(days_absent) / Decimal(days_enrolled)).quantize(Decimal("0.00001"), ROUND_HALF_UP)


def crossings(absent: Sequence[int], until: int) -> dict[str, Crossing]:
    """The first day on which each threshold was reached, for those that were.

    Args:
        absent: numbers of the school days missed, 1 for the day of enrolment, ascending.
        until: number of the latest marked school day; nothing is judged after it.

    The rate rises only on a day that is missed, so besides the first evaluated day only those need a look.
    """
    found: dict[str, Crossing] = {}
    missed = [n for n in absent if n <= until]
    candidates = [FIRST_EVALUATED] if until >= FIRST_EVALUATED else []
    candidates += [n for n in missed if n > FIRST_EVALUATED]
    before = 0
    for day in candidates:
        while before < len(missed) and missed[before] <= day:
            before += 1
        for name, share in THRESHOLDS.items():
            if name not in found and Decimal(before) >= share * day:
                found[name] = Crossing(day, before)
    return found


def run_around(unexcused: Iterable[int], day: int) -> tuple[int, int]:
    """First and last number of the unbroken run of unexcused school days that holds `day`, which is one of them."""
    days = set(unexcused)
    first = last = day
    while first - 1 in days:
        first -= 1
    while last + 1 in days:
        last += 1
    return first, last


def runs(unexcused: Iterable[int]) -> list[tuple[int, int]]:
    """First and last number of every unbroken run of unexcused school days, ascending."""
    found: list[tuple[int, int]] = []
    for day in sorted(set(unexcused)):
        if found and found[-1][1] == day - 1:
            found[-1] = found[-1][0], day
        else:
            found.append((day, day))
    return found


def three_in_seven(absences: Iterable[date]) -> bool:
    """Three or more absences within any seven consecutive calendar days (the seed's rule for an intervention)."""
    days = sorted(set(absences))
    return any((third - first).days <= 6 for first, third in zip(days, days[2:], strict=False))


@dataclass(frozen=True, slots=True)
class SectionMark:
    """One class of a day: its scheduled length, and what is known of what was missed. Minutes."""

    category: str
    scheduled: int
    missed: int | None = None

    @property
    def minutes_missed(self) -> int:
        """What was noted, at most the whole class; an absence without a figure is all of it."""
        if self.missed is not None:
            return min(self.missed, self.scheduled)
        return self.scheduled if self.category in ABSENT else 0


def day_from_sections(marks: Sequence[SectionMark], scheduled: int) -> str:
    """What a day was, from the marks of its classes: absent when at least half of the scheduled minutes were missed.

    Args:
        marks: the classes marked so far, at least one.
        scheduled: minutes of the whole school day; classes not marked count as attended.
    """
    missed = sum(m.minutes_missed for m in marks)
    if missed * 2 >= max(scheduled, 1):
        unexcused = any(m.category == "absent_unexcused" for m in marks)
        return "absent_unexcused" if unexcused else "absent_excused"
    if any(m.category in ABSENT or m.category == "partial" for m in marks):
        return "partial"
    return gravest(m.category for m in marks)
