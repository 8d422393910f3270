"""The rules of attendance against the slowest way to compute them, and tables with a comment a row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules.attendance import (
    ABSENT,
    FIRST_EVALUATED,
    GRAVEST_FIRST,
    Crossing,
    SectionMark,
    absence_rate,
    crossings,
    day_from_sections,
    gravest,
    run_around,
    runs,
    three_in_seven,
)

SHARES = {"at_risk_5": Fraction(5, 100), "chronic_10": Fraction(10, 100), "severe_20": Fraction(20, 100)}
SCHOOL_DAYS = st.sets(st.integers(1, 190)).map(sorted)
CATEGORIES = st.sampled_from(GRAVEST_FIRST)


# Thresholds -----------------------------------------------------------------------------------------------------------


def day_by_day(absent: Sequence[int], until: int) -> dict[str, Crossing]:
    """Walk the year and look at the rate on every day."""
    found: dict[str, Crossing] = {}
    for day in range(1, until + 1):
        missed = sum(n <= day for n in absent)
        for name, share in SHARES.items():
            if day >= 20 and name not in found and Fraction(missed, day) >= share:
                found[name] = Crossing(day, missed)
    return found


@given(SCHOOL_DAYS, st.integers(0, 200))
def test_crossings_are_what_a_scan_of_every_day_finds(absent: list[int], until: int) -> None:
    assert crossings(absent, until) == day_by_day(absent, until)


@given(SCHOOL_DAYS, st.integers(0, 190), st.integers(0, 190))
def test_what_was_reached_stays_reached_as_the_year_goes_on(absent: list[int], until: int, more: int) -> None:
    earlier, later = crossings(absent, until), crossings(absent, until + more)

    assert earlier.items() <= later.items()


@given(SCHOOL_DAYS, st.integers(20, 190), st.data())
def test_an_absence_less_never_reaches_a_threshold_sooner(absent: list[int], until: int, data: st.DataObject) -> None:
    spared = data.draw(st.sampled_from(absent)) if absent else None
    fewer = crossings([n for n in absent if n != spared], until)
    all_of_them = crossings(absent, until)

    assert fewer.keys() <= all_of_them.keys()
    assert all(all_of_them[name].days_enrolled <= hit.days_enrolled for name, hit in fewer.items())


@given(SCHOOL_DAYS, st.integers(0, 190))
def test_a_higher_threshold_is_never_reached_before_a_lower_one(absent: list[int], until: int) -> None:
    days = [hit.days_enrolled for hit in crossings(absent, until).values()]

    assert days == sorted(days)


@pytest.mark.parametrize(
    ("absent", "until", "reached"),
    [
        ([], 180, {}),  # never missed a day
        ([1], 19, {}),  # not looked at before the 20th day
        ([1], 20, {"at_risk_5": (20, 1)}),  # 1 of 20 is exactly 5 %
        ([21], 21, {}),  # 1 of 21 is less
        ([1, 2], 20, {"at_risk_5": (20, 2), "chronic_10": (20, 2)}),  # both on the same day
        ([1, 21], 21, {"at_risk_5": (20, 1)}),  # 2 of 21 is more than 5 %, less than 10 %
        ([1, 2, 30], 30, {"at_risk_5": (20, 2), "chronic_10": (20, 2)}),  # reached once, on the first day
        ([28, 29, 30], 30, {"at_risk_5": (29, 2), "chronic_10": (30, 3)}),  # 3 of 30 counts
        ([28, 29, 31], 30, {"at_risk_5": (29, 2)}),  # the 31st is not judged yet
        (list(range(17, 21)), 20, {"at_risk_5": (20, 4), "chronic_10": (20, 4), "severe_20": (20, 4)}),  # 4 of 20
    ],
)
def test_thresholds(absent: list[int], until: int, reached: dict[str, tuple[int, int]]) -> None:
    assert {k: (c.days_enrolled, c.days_absent) for k, c in crossings(absent, until).items()} == reached


def test_a_crossing_knows_its_rate() -> None:
    assert Crossing(29, 2).rate == Decimal("0.06897")


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_rate_is_the_share_of_days_rounded_half_up_to_five_places(absent: int, enrolled: int) -> None:
    rate = absence_rate(absent, enrolled)

    halves = Fraction(absent, enrolled) * 100_000 + Fraction(1, 2)
    assert rate == Decimal(halves.numerator // halves.denominator).scaleb(-5)
    assert rate.as_tuple().exponent == -5


@pytest.mark.parametrize(
    ("absent", "enrolled", "rate"),
    [
        (0, 0, "0"),  # before the first day
        (3, -1, "0"),  # enrolled after the last day
        (1, 3, "0.33333"),  # cut
        (2, 3, "0.66667"),  # rounded up
        (1, 64, "0.01563"),  # 0.015625: a half goes up, as Postgres does it, not to the even neighbour
        (20, 20, "1.00000"),  # never came
    ],
)
def test_rates(absent: int, enrolled: int, rate: str) -> None:
    assert str(absence_rate(absent, enrolled)) == rate


# Runs -----------------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 40), min_size=1), st.data())
def test_a_run_around_a_day_is_unbroken_and_cannot_grow(days: set[int], data: st.DataObject) -> None:
    day = data.draw(st.sampled_from(sorted(days)))

    first, last = run_around(days, day)

    assert first <= day <= last
    assert set(range(first, last + 1)) <= days
    assert not {first - 1, last + 1} & days


@given(st.lists(st.integers(1, 40)))
def test_runs_are_those_around_each_day(days: list[int]) -> None:
    assert runs(days) == sorted({run_around(days, day) for day in days})


# Three in seven -------------------------------------------------------------------------------------------------------

MONDAY = date(2021, 9, 6)
DATES = st.lists(st.integers(0, 60).map(lambda n: MONDAY + timedelta(days=n)))


@given(DATES)
def test_three_in_seven_is_a_window_of_seven_days_with_three_of_them(days: list[date]) -> None:
    windows = ({MONDAY + timedelta(days=start + n) for n in range(7)} for start in range(-6, 61))

    assert three_in_seven(days) == any(len(window & set(days)) >= 3 for window in windows)


@pytest.mark.parametrize(
    ("days", "answer"),
    [
        ([], False),
        ([0, 1], False),  # two
        ([0, 0, 0], False),  # one day, marked three times
        ([0, 3, 6], True),  # Monday to Sunday
        ([0, 3, 7], False),  # Monday to Monday is eight days
        ([0, 4, 7, 9], True),  # Friday, Monday, Wednesday
        ([9, 0, 7, 4], True),  # in any order
    ],
)
def test_three_in_seven(days: list[int], answer: bool) -> None:
    assert three_in_seven(MONDAY + timedelta(days=n) for n in days) is answer


# A day of several marks -----------------------------------------------------------------------------------------------


@given(st.lists(CATEGORIES, min_size=1))
def test_the_gravest_is_one_of_them_and_none_is_graver(categories: list[str]) -> None:
    told = gravest(categories)

    assert told in categories
    assert not set(categories) & set(GRAVEST_FIRST[: GRAVEST_FIRST.index(told)])


def test_of_no_marks_there_is_no_gravest() -> None:
    with pytest.raises(ValueError, match="empty"):
        gravest([])


# A day from its classes -----------------------------------------------------------------------------------------------

MARKS = st.builds(
    SectionMark, CATEGORIES, scheduled=st.integers(1, 90), missed=st.none() | st.integers(0, 120)
)


def gravity(category: str) -> int:
    """Absent is absent, excused or not; then the order in which days are told."""
    return 0 if category in ABSENT else GRAVEST_FIRST.index(category)


@given(st.lists(MARKS, min_size=1, max_size=8), st.integers(0, 420), st.data())
def test_who_misses_more_of_a_class_never_has_a_lighter_day(
    marks: list[SectionMark], scheduled: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(marks) - 1))
    worse = [*marks]
    missed = marks[n].minutes_missed + data.draw(st.integers(0, 90))
    worse[n] = SectionMark(marks[n].category, marks[n].scheduled, missed)

    assert gravity(day_from_sections(worse, scheduled)) <= gravity(day_from_sections(marks, scheduled))


@given(st.lists(MARKS, min_size=1, max_size=8), st.integers(0, 420), MARKS)
def test_another_class_attended_to_the_end_never_makes_the_day_graver(
    marks: list[SectionMark], scheduled: int, another: SectionMark
) -> None:
    attended = SectionMark("present", another.scheduled, 0)

    assert day_from_sections([*marks, attended], scheduled) == day_from_sections(marks, scheduled)


@given(st.lists(MARKS, min_size=1, max_size=8), st.integers(0, 420), st.randoms())
def test_the_order_of_the_classes_does_not_matter(marks: list[SectionMark], scheduled: int, random: object) -> None:
    shuffled = [*marks]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert day_from_sections(shuffled, scheduled) == day_from_sections(marks, scheduled)


@given(st.lists(MARKS, min_size=1, max_size=8), st.integers(1, 420))
def test_a_day_is_absent_exactly_when_half_of_it_is_missed(marks: list[SectionMark], scheduled: int) -> None:
    missed = sum(mark.minutes_missed for mark in marks)

    assert (day_from_sections(marks, scheduled) in ABSENT) == (Fraction(missed, scheduled) >= Fraction(1, 2))


AU, AE, P, T = "absent_unexcused", "absent_excused", "present", "tardy"


@pytest.mark.parametrize(
    ("marks", "scheduled", "day"),
    [
        ([(P, 50, None)], 350, "present"),  # six classes are not marked: attended
        ([(AU, 50, None)], 350, "partial"),  # one class of seven
        ([(AU, 50, None)] * 3, 350, "partial"),  # 150 of 350 minutes
        ([(AU, 50, None)] * 4, 350, "absent_unexcused"),  # 200 of 350
        ([(AE, 50, None)] * 4, 350, "absent_excused"),  # all of them with a note
        ([(AE, 50, None)] * 3 + [(AU, 50, None)], 350, "absent_unexcused"),  # one without
        ([(AU, 175, None)], 350, "absent_unexcused"),  # half is enough
        ([(AU, 50, 10)] * 4, 350, "partial"),  # ten minutes of each: 40
        ([(T, 50, 5)], 350, "tardy"),  # late is late
        ([(T, 50, 5), (P, 50, None)], 350, "tardy"),  # the gravest of the rest
        ([(P, 50, 400)], 350, "present"),  # nobody misses more of a class than the class
        ([(AU, 50, None)], 0, "absent_unexcused"),  # a school day of no minutes is missed with the first
    ],
)
def test_days_from_classes(marks: list[tuple[str, int, int | None]], scheduled: int, day: str) -> None:
    assert day_from_sections([SectionMark(*mark) for mark in marks], scheduled) == day


def test_nothing_is_judged_before_the_twentieth_day() -> None:
    assert FIRST_EVALUATED == 20
