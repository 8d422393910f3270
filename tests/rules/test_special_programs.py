"""The rules of special programs against the slowest way to compute them, and tables with a comment a row."""

from __future__ import annotations

from calendar import isleap
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules.special_programs import (
    STAGES,
    Cycle,
    Said504,
    aim_line_slope,
    annual_reviews,
    bounds,
    credited_minutes,
    first_annual_review_due,
    furthest,
    is_short,
    may_reevaluate,
    reevaluation_due,
    reviews_told_of,
    section504_reviews,
    shortfalls,
    stage_of,
    week_of,
)

BEGIN = date(2021, 9, 6)
DATES = st.dates(date(2015, 1, 1), date(2035, 12, 31))
NEAR = st.integers(-400, 1500).map(lambda n: BEGIN + timedelta(days=n))
ZONES = ["UTC", "America/Chicago", "America/New_York", "Pacific/Auckland", "Pacific/Honolulu", "Australia/Lord_Howe"]


# Annual reviews -------------------------------------------------------------------------------------------------------


def day_by_day(begin: date, said: date, completed: Sequence[date]) -> list[Cycle]:
    """Live through the years: a calendar on the wall, one open review, a new one whenever it is done."""
    opened, due = begin, said if (said - begin).days <= 365 else begin + timedelta(days=365)
    past = []
    today = begin
    while today <= max([begin, *completed]):
        if today in completed and today > begin:
            past.append(Cycle(opened, due, today))
            opened, due = today, today + timedelta(days=365)
        today += timedelta(days=1)
    return [*past, Cycle(opened, due)]


@given(NEAR, st.lists(NEAR, max_size=6))
def test_annual_reviews_are_what_a_calendar_on_the_wall_shows(said: date, completed: list[date]) -> None:
    assert annual_reviews(BEGIN, said, completed) == day_by_day(BEGIN, said, completed)


@given(NEAR, st.lists(NEAR, max_size=6), st.randoms())
def test_the_order_in_which_completed_reviews_are_heard_of_does_not_matter(
    said: date, completed: list[date], random: object
) -> None:
    shuffled = [*completed, *completed[:2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert annual_reviews(BEGIN, said, shuffled) == annual_reviews(BEGIN, said, completed)


@given(NEAR, st.lists(NEAR, max_size=6))
def test_never_more_than_365_days_pass_from_one_review_to_the_day_of_the_next(
    said: date, completed: list[date]
) -> None:
    cycles = annual_reviews(BEGIN, said, completed)

    assert all(cycle.due <= cycle.opened_on + timedelta(days=365) for cycle in cycles)
    assert [c.opened_on for c in cycles[1:]] == [c.completed_on for c in cycles[:-1]]
    assert [c.completed_on is None for c in cycles] == [False] * (len(cycles) - 1) + [True]
    assert len({c.opened_on for c in cycles}) == len(cycles)


@pytest.mark.parametrize(
    ("said", "due"),
    [
        (date(2022, 9, 1), date(2022, 9, 1)),  # as the team said
        (date(2022, 9, 6), date(2022, 9, 6)),  # 365 days
        (date(2022, 9, 7), date(2022, 9, 6)),  # 366: not less than annually
        (date(2020, 9, 1), date(2020, 9, 1)),  # overdue when it began
    ],
)
def test_first_annual_reviews(said: date, due: date) -> None:
    assert first_annual_review_due(BEGIN, said) == due


@given(st.lists(NEAR, max_size=5), st.lists(NEAR, max_size=5))
def test_reviews_of_an_unknown_iep_end_as_those_of_the_iep_once_one_is_completed(
    completed: list[date], due: list[date]
) -> None:
    told = reviews_told_of(completed, due)

    if any(day > BEGIN for day in completed):
        assert told[-1] == annual_reviews(BEGIN, BEGIN, completed)[-1]
    elif not completed:
        assert [c.due for c in told] == ([max(due)] if due else [])


# Section 504 ----------------------------------------------------------------------------------------------------------

ACTIVATIONS = st.lists(st.builds(Said504, NEAR, NEAR, st.none() | NEAR), min_size=1, max_size=6)


def as_told(activations: Sequence[Said504]) -> list[Cycle]:
    """The story of a plan, one activation after the other, in plain words."""
    done: list[Cycle] = []
    opened, due = activations[0].begin, activations[0].due
    for said in activations[1:]:
        if said.completed_on and said.completed_on > opened:
            done.append(Cycle(opened, due, said.completed_on))
            names_another_day = said.due not in {due} and said.due > said.completed_on
            opened = said.completed_on
            due = said.due if names_another_day else opened + timedelta(days=365)
        else:
            due = said.due
    return [*done, Cycle(opened, due)]


@given(ACTIVATIONS)
def test_504_reviews_are_the_story_of_the_plan(activations: list[Said504]) -> None:
    assert section504_reviews(activations) == as_told(activations)


@given(ACTIVATIONS)
def test_504_reviews_follow_one_another_and_the_last_one_is_open(activations: list[Said504]) -> None:
    cycles = section504_reviews(activations)

    assert [c.opened_on for c in cycles[1:]] == [c.completed_on for c in cycles[:-1]]
    assert sorted({c.opened_on for c in cycles}) == [c.opened_on for c in cycles]
    assert cycles[-1].completed_on is None


@given(ACTIVATIONS, st.booleans())
def test_to_say_again_what_is_known_changes_no_504_review(activations: list[Said504], with_completion: bool) -> None:
    cycles = section504_reviews(activations)
    again = Said504(BEGIN, cycles[-1].due, cycles[-1].opened_on if with_completion else None)

    assert section504_reviews([*activations, again]) == cycles


# Reevaluations --------------------------------------------------------------------------------------------------------


@given(DATES)
def test_a_reevaluation_is_due_on_the_same_day_three_years_later(evaluated: date) -> None:
    due = reevaluation_due(evaluated)

    leap_day = (evaluated.month, evaluated.day) == (2, 29)
    assert due.year == evaluated.year + 3
    assert (due.month, due.day) == ((2, 28) if leap_day else (evaluated.month, evaluated.day))
    assert not isleap(due.year) or not leap_day


@given(DATES, st.integers(0, 800))
def test_nobody_is_evaluated_twice_within_a_year_unless_it_is_agreed(evaluated: date, days: int) -> None:
    on = evaluated + timedelta(days=days)
    birthdays = sum(
        (day.month, day.day) == ((2, 28) if (evaluated.month, evaluated.day) == (2, 29) else
                                 (evaluated.month, evaluated.day))
        for day in (evaluated + timedelta(days=n) for n in range(1, days + 1))
        if (evaluated.month, evaluated.day) != (2, 29) or day.year > evaluated.year
    )

    assert may_reevaluate(evaluated, on) == (birthdays >= 1)
    assert may_reevaluate(evaluated, on, agreed=True)


# Stages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "stage"),
    [
        (91, None),  # nothing to be said yet
        (90, "90"), (75, "90"),  # on the day, and for a run that was missed
        (61, "90"), (60, "60"), (31, "60"), (30, "30"), (15, "30"), (14, "14"), (1, "14"),
        (0, "14"),  # due today is not overdue
        (-1, "overdue"), (-400, "overdue"),
    ],
)
def test_stages(days: int, stage: str | None) -> None:
    assert stage_of(days) == stage


@given(st.integers(-100, 200), st.integers(0, 100))
def test_a_stage_never_goes_back_as_days_pass(days: int, passed: int) -> None:
    order = [None, *STAGES]

    assert order.index(stage_of(days - passed)) >= order.index(stage_of(days))


@given(st.lists(st.sampled_from(STAGES)))
def test_the_furthest_stage_is_one_that_was_told_and_none_is_further(stages: list[str]) -> None:
    found = furthest(stages)

    assert (found in stages) if stages else (found is None)
    assert all(STAGES.index(stage) <= STAGES.index(found) for stage in stages if found)


# Aim lines ------------------------------------------------------------------------------------------------------------

AMOUNTS = st.decimals(-1000, 1000, places=2)


@given(AMOUNTS, AMOUNTS, st.integers(1, 1500))
def test_an_aim_line_leads_from_the_baseline_to_the_target(baseline: Decimal, target: Decimal, days: int) -> None:
    slope = aim_line_slope(baseline, target, BEGIN, BEGIN + timedelta(days=days))

    assert slope is not None
    exact = Fraction(target - baseline) * 7 / days
    assert abs(Fraction(slope) - exact) <= abs(exact) / 10**11
    assert (slope > 0) == (target > baseline)


@pytest.mark.parametrize(
    ("baseline", "target", "days", "slope"),
    [
        ("20", "60", 280, "1"),  # forty words in forty weeks
        ("8", "0", 56, "-1"),  # fewer outbursts
        ("1", "2", 21, "0.333333333333"),  # cut
        (None, "60", 280, None),  # nobody knows where it begins
        ("20", "60", 0, None),  # to be reached today
        ("20", "60", -7, None),  # should have been
        ("0", "1E+40", 7, "1E+40"),  # absurd, and still no error
    ],
)
def test_aim_lines(baseline: str | None, target: str, days: int, slope: str | None) -> None:
    found = aim_line_slope(
        None if baseline is None else Decimal(baseline), Decimal(target), BEGIN, BEGIN + timedelta(days=days)
    )

    assert found == (None if slope is None else Decimal(slope))


# Weeks ----------------------------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)), st.sampled_from(ZONES))
def test_a_week_is_the_one_whose_seven_local_days_hold_the_instant(instant: datetime, zone: str) -> None:
    week = week_of(instant, zone)
    first, next_one = bounds(week, zone)

    assert week.weekday() == 0
    assert instant.astimezone(ZoneInfo(zone)).date() in {week + timedelta(days=n) for n in range(7)}
    assert first <= instant < next_one
    assert bounds(week + timedelta(days=7), zone)[0] == next_one
    assert timedelta(hours=167) <= next_one - first <= timedelta(hours=169)


@pytest.mark.parametrize(
    ("instant", "zone", "week"),
    [
        ("2021-09-20T02:00+00:00", "America/Chicago", date(2021, 9, 13)),  # Sunday evening
        ("2021-09-20T02:00+00:00", "UTC", date(2021, 9, 20)),  # Monday at night
        ("2021-09-19T13:00+00:00", "Pacific/Auckland", date(2021, 9, 20)),  # Monday already
        ("2021-11-08T05:59+00:00", "America/Chicago", date(2021, 11, 1)),  # the week with an hour more
        ("2021-11-08T06:00+00:00", "America/Chicago", date(2021, 11, 8)),
    ],
)
def test_weeks(instant: str, zone: str, week: date) -> None:
    assert week_of(datetime.fromisoformat(instant), zone) == week


# Minutes --------------------------------------------------------------------------------------------------------------

MINUTES = st.dictionaries(st.sampled_from(["speech", "reading", "motor"]), st.integers(0, 200))


def minute_by_minute(delivered: dict[str, int], mandated: dict[str, int]) -> int:
    """Take every minute given and tick one off the list of minutes owed, as long as there is one of that service."""
    owed = [service for service, minutes in mandated.items() for _ in range(minutes)]
    credited = 0
    for service, minutes in delivered.items():
        for _ in range(minutes):
            if service in owed:
                owed.remove(service)
                credited += 1
    return credited


@given(MINUTES, MINUTES)
def test_credited_minutes_are_those_ticked_off_one_by_one(delivered: dict[str, int], mandated: dict[str, int]) -> None:
    assert credited_minutes(delivered, mandated) == minute_by_minute(delivered, mandated)


@given(MINUTES, MINUTES, st.sampled_from(["speech", "reading"]), st.integers(0, 60))
def test_more_of_a_service_never_makes_a_week_short(
    delivered: dict[str, int], mandated: dict[str, int], service: str, more: int
) -> None:
    better = delivered | {service: delivered.get(service, 0) + more}
    total = sum(mandated.values())

    assert not is_short(credited_minutes(better, mandated), total) or is_short(
        credited_minutes(delivered, mandated), total
    )


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_week_is_short_below_four_fifths(credited: int, mandated: int) -> None:
    assert is_short(credited, mandated) == (5 * credited < 4 * mandated)


def test_a_week_without_a_mandate_is_never_short() -> None:
    assert not is_short(0, None)
    assert not is_short(0, 0)


@given(st.sets(st.integers(0, 40)))
def test_shortfalls_are_second_weeks_of_runs(weeks: set[int]) -> None:
    days = [BEGIN + timedelta(weeks=n) for n in weeks]
    calendar = [n in weeks for n in range(42)]

    expected = {BEGIN + timedelta(weeks=n) for n in range(1, 42) if calendar[n - 1] and calendar[n]}
    assert shortfalls(days) == expected
