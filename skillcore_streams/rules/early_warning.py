"""Early warning: attendance, behaviour and course performance as points, and the tier of support they suggest.

The ABC model (attendance, behaviour, course performance) with the thresholds that its vendors publish: 0 to 2 points an
area, 0 to 6 in all. A score is a reason for people to look, never a decision; what is not known gives no points.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from skillcore_streams.rules.attendance import FIRST_EVALUATED


@dataclass(frozen=True, slots=True)
class Model:
    """Thresholds under a name. Other thresholds are another version: scores of different versions do not compare.

    Attributes:
        absence_some, absence_much: share of enrolled days missed, from which there are 1 and 2 points.
        incidents_some, incidents_many: behaviour incidents, likewise.
        gpa_fair, gpa_low: grade point averages below which there are 1 and 2 points.
        failing_some, failing_many: classes failed, from which there are 1 and 2 points.
        tier_2, tier_3: points from which the tier is 2 and 3.
    """

    version: str = "abc-1"
    absence_some: Decimal = Decimal("0.05")
    absence_much: Decimal = Decimal("0.10")
    incidents_some: int = 1
    incidents_many: int = 3
    gpa_fair: Decimal = Decimal(3)
    gpa_low: Decimal = Decimal(2)
    failing_some: int = 1
    failing_many: int = 2
    tier_2: int = 3
    tier_3: int = 5


DEFAULT = Model()
"""abc-1: under 5, 5 to 9.9, 10 % and more absent; 0, 1 to 2, 3 and more incidents; a grade point average of 3, from 2,
under 2, or 0, 1, 2 and more classes failed; 0 to 2, 3 to 4, 5 to 6 points are tiers 1, 2, 3."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a student. `rate` and `gpa` are None when they are not."""

    days_enrolled: int = 0
    rate: Decimal | None = None
    incidents: int = 0
    gpa: Decimal | None = None
    failing: int = 0


@dataclass(frozen=True, slots=True)
class Risk:
    """The points of each area, and sentences that say where they come from."""

    attendance: int
    behavior: int
    course: int
    tier: int
    reasons: tuple[str, ...] = field(default=())

    @property
    def score(self) -> int:
        """All points, 0 to 6."""
        return self.attendance + self.behavior + self.course


def assess(facts: Facts, model: Model = DEFAULT) -> Risk:
    """The student's points and tier. The rate counts from the 20th enrolled day on, as the absence thresholds do."""
    judged = facts.rate is not None and facts.days_enrolled >= FIRST_EVALUATED
    rate = facts.rate if judged and facts.rate is not None else Decimal(0)
    attendance = _steps(rate >= model.absence_some, rate >= model.absence_much)
    behavior = _steps(facts.incidents >= model.incidents_some, facts.incidents >= model.incidents_many)
    low, fair = (facts.gpa is not None and facts.gpa < bound for bound in (model.gpa_low, model.gpa_fair))
    by_gpa = _steps(fair, low)
    by_failing = _steps(facts.failing >= model.failing_some, facts.failing >= model.failing_many)
    course = max(by_gpa, by_failing)
    reasons = []
    if attendance:
        share = (rate * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)
        reasons.append(f"absent on {share} % of {facts.days_enrolled} enrolled days")
    if behavior:
        reasons.append(f"behavior incidents in the window: {facts.incidents}")
    if by_failing:
        reasons.append(f"classes failed at present: {facts.failing}")
    if by_gpa and facts.gpa is not None:
        reasons.append(f"grade point average {facts.gpa.quantize(Decimal('0.01'), ROUND_HALF_UP)}")
    score = attendance + behavior + course
    tier = 3 if score >= model.tier_3 else 2 if score >= model.tier_2 else 1
    return Risk(attendance, behavior, course, tier, tuple(reasons))


def _steps(some: bool, much: bool) -> int:
    return 2 if much else 1 if some else 0


POINTS = {"A": 4, "B": 3, "C": 2, "D": 1, "E": 0, "F": 0}
SHADES = {"+": Decimal("0.3"), "-": Decimal("-0.3")}


def grade_points(letter: str | None) -> Decimal | None:
    """Points of a letter on the 4.0 scale. A plus or a minus is 0.3, but an A+ is an A and nothing is below an F.

    None for letters of another scale (P, I, 3, ...): they do not count.
    """
    if not letter or letter[0] not in POINTS or letter[1:] not in ("", "+", "-"):
        return None
    base = Decimal(POINTS[letter[0]])
    return base if base == 0 else min(Decimal(4), base + SHADES.get(letter[1:], Decimal(0)))


def grade_point_average(letters: Iterable[str | None]) -> Decimal | None:
    """Mean of the points, every class the same; None when no letter counts."""
    points = [known for letter in letters if (known := grade_points(letter)) is not None]
    return sum(points, Decimal(0)) / len(points) if points else None


def failed(letters: Iterable[str | None]) -> int:
    """Classes whose letter is worth nothing."""
    return sum(1 for letter in letters if grade_points(letter) == 0)
