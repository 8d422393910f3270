"""The early-warning score: the published table, and what must hold of any thresholds."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules.early_warning import (
    DEFAULT,
    Facts,
    assess,
    failed,
    grade_point_average,
    grade_points,
)

RATES = st.none() | st.decimals(0, 1, places=5)
GPAS = st.none() | st.decimals(0, 4, places=2)
FACTS = st.builds(
    Facts, days_enrolled=st.integers(0, 200), rate=RATES, incidents=st.integers(0, 10), gpa=GPAS,
    failing=st.integers(0, 8),
)
LETTERS = st.sampled_from(["A+", "A", "A-", "B+", "B", "B-", "C+", "C", "C-", "D+", "D", "D-", "F", "P", "I", "", None])


@pytest.mark.parametrize(("rate", "points"), [
    ("0", 0), ("0.04999", 0), ("0.05", 1), ("0.09999", 1), ("0.10", 2), ("1", 2),
])  # fmt: skip
def test_attendance_has_its_points_at_5_and_10_percent(rate: str, points: int) -> None:
    assert assess(Facts(days_enrolled=20, rate=Decimal(rate))).attendance == points


@pytest.mark.parametrize(("incidents", "points"), [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2)])
def test_behavior_has_its_points_at_1_and_3_incidents(incidents: int, points: int) -> None:
    assert assess(Facts(incidents=incidents)).behavior == points


@pytest.mark.parametrize(("gpa", "failing", "points"), [
    (None, 0, 0), ("4", 0, 0), ("3", 0, 0), ("2.99", 0, 1), ("2", 0, 1), ("1.99", 0, 2), ("4", 1, 1), ("4", 2, 2),
    ("2.5", 2, 2), ("1", 1, 2), (None, 5, 2),
])  # fmt: skip
def test_courses_have_the_points_of_the_worse_of_average_and_failures(
    gpa: str | None, failing: int, points: int
) -> None:
    assert assess(Facts(gpa=None if gpa is None else Decimal(gpa), failing=failing)).course == points


@pytest.mark.parametrize(("points", "tier"), [(0, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)])
def test_tiers_begin_at_3_and_5_points(points: int, tier: int) -> None:
    by_area = [min(2, max(0, points - 2 * n)) for n in range(3)]
    rate, incidents, failing = (Decimal("0.05") * by_area[0], [0, 1, 3][by_area[1]], by_area[2])

    risk = assess(Facts(days_enrolled=100, rate=rate, incidents=incidents, failing=failing))

    assert (risk.score, risk.tier) == (points, tier)


@given(FACTS)
def test_points_are_0_to_2_an_area_and_the_score_is_their_sum(facts: Facts) -> None:
    risk = assess(facts)

    assert all(0 <= points <= 2 for points in (risk.attendance, risk.behavior, risk.course))
    assert risk.score == risk.attendance + risk.behavior + risk.course
    assert risk.tier == (3 if risk.score >= 5 else 2 if risk.score >= 3 else 1)
    assert bool(risk.reasons) == (risk.score > 0)


@given(FACTS, st.decimals(0, 1, places=5), st.integers(0, 5), st.decimals(0, 2, places=2), st.integers(0, 5))
def test_what_is_worse_never_scores_less(
    facts: Facts, rate: Decimal, incidents: int, gpa: Decimal, failing: int
) -> None:
    worse = replace(
        facts, rate=None if facts.rate is None else facts.rate + rate, incidents=facts.incidents + incidents,
        gpa=None if facts.gpa is None else facts.gpa - gpa, failing=facts.failing + failing,
    )
    before, after = assess(facts), assess(worse)

    assert after.attendance >= before.attendance
    assert after.behavior >= before.behavior
    assert after.course >= before.course
    assert after.tier >= before.tier


@given(FACTS)
def test_what_is_not_known_gives_no_points(facts: Facts) -> None:
    assert assess(replace(facts, rate=None)).attendance == 0
    assert assess(replace(facts, days_enrolled=19)).attendance == 0
    assert assess(replace(facts, gpa=None, failing=0)).course == 0


@given(FACTS)
def test_stricter_thresholds_never_score_less_and_are_another_version(facts: Facts) -> None:
    strict = replace(
        DEFAULT, version="strict-1", absence_some=Decimal("0.02"), incidents_many=2, gpa_fair=Decimal("3.5")
    )

    assert assess(facts, strict).score >= assess(facts).score
    assert strict.version != DEFAULT.version


@pytest.mark.parametrize(("letter", "points"), [
    ("A+", "4"), ("A", "4"), ("A-", "3.7"), ("B+", "3.3"), ("C", "2"), ("D-", "0.7"), ("F", "0"), ("F+", "0"),
    ("E", "0"), ("P", None), ("AB", None), ("3", None), ("", None), (None, None), ("a", None),
])  # fmt: skip
def test_a_letter_has_its_points_on_the_scale_of_four(letter: str | None, points: str | None) -> None:
    assert grade_points(letter) == (None if points is None else Decimal(points))


@given(st.lists(LETTERS))
def test_an_average_lies_between_its_letters_and_letters_of_other_scales_do_not_count(
    letters: list[str | None],
) -> None:
    known = [p for p in map(grade_points, letters) if p is not None]
    average = grade_point_average(letters)

    assert (average is None) == (not known)
    if average is not None:
        assert min(known) <= average <= max(known)
        assert grade_point_average([*letters, "P", None, "I"]) == average
    assert failed(letters) == letters.count("F")
