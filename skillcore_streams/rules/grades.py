"""Grades: what a class score is made of, in exact arithmetic.

An item is an assignment and what a student was given for it. Items make categories, categories make the class score
(OneRoster 1.2 Gradebook: lineItem, result, category; Canvas: assignment, submission, assignment group). Percentages are
fractions until they are stored; they are rounded only where a person reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from math import lcm
from typing import Literal, NamedTuple
from uuid import UUID

ZERO, HALF = Decimal(0), Decimal("0.5")
LARGEST = Decimal(10**9)
FINEST = Decimal("0.000001")

ALL_WORK = UUID(int=0)
"""A category of this id takes the work of every category that the scheme does not name."""

NOT_GRADED = "not graded"
"""Why work does not count in the current score, and counts as zero in the final one."""

STORED = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""2/3 has no last digit: 28 significant ones are kept."""

Scale = Sequence[tuple[str, Decimal]]
"""Letters, each with the lowest percentage that earns it."""

LETTERS: Scale = (("A", Decimal(90)), ("B", Decimal(80)), ("C", Decimal(70)), ("D", Decimal(60)), ("F", Decimal(0)))
"""The letters of a school that has set none of its own."""


class Assignment(NamedTuple):
    """A line item: what it is worth. `omitted`: it never counts (Canvas' omit_from_final_grade)."""

    id: UUID
    category: UUID
    possible: Decimal
    extra_credit: bool = False
    omitted: bool = False


class Mark(NamedTuple):
    """What a student was given for an assignment (OneRoster Result, Canvas submission)."""

    score: Decimal | None
    excused: bool = False
    missing: bool = False
    posted: bool = True


class Category(NamedTuple):
    """A part of the scheme (OneRoster Category with a weight, Canvas assignment group with its drop rules)."""

    id: UUID
    name: str
    weight: Decimal
    drop_lowest: int = 0
    drop_highest: int = 0
    never_drop: frozenset[UUID] = frozenset()


class Scheme(NamedTuple):
    """How a class is graded.

    method: a category's percentage is that of its points (Canvas), or the mean of its items' percentages.
    missing: what work that was not handed in is worth (Canvas' missing submission policy): nothing, at least half of
        its points, or it does not count.
    """

    categories: Sequence[Category]
    method: Literal["points", "percentages"] = "points"
    missing: Literal["zero", "ignore", "floor50"] = "zero"


class Part(NamedTuple):
    """What a category came to. `percent` is None when nothing in it counts."""

    category: Category
    percent: Fraction | None
    lowest: frozenset[UUID] = frozenset()
    highest: frozenset[UUID] = frozenset()


class Score(NamedTuple):
    """What a class came to, and its categories in the order of the scheme. `percent` is None when nothing counts."""

    percent: Fraction | None
    parts: Sequence[Part]


class Kept(NamedTuple):
    """The answer to a drop rule: the ratio of what is kept, and what was dropped."""

    ratio: Fraction
    lowest: frozenset[UUID]
    highest: frozenset[UUID]


def in_range(*points: Decimal | None) -> bool:
    """Whether these are points of a school: below a billion, at most six decimals."""
    return all(p is None or (abs(p) < LARGEST and p == p.quantize(FINEST)) for p in points)


def class_score(
    scheme: Scheme, work: Iterable[Assignment], marks: Mapping[UUID, Mark], *, final: bool, posted_only: bool = True
) -> Score:
    """One of the two class scores."""
    return class_scores(scheme, work, marks, posted_only=posted_only)[final]


def class_scores(
    scheme: Scheme, work: Iterable[Assignment], marks: Mapping[UUID, Mark], *, posted_only: bool = True
) -> tuple[Score, Score]:
    """A student's current and final score in a class, 0 to 100 and above with extra credit.

    Work without a grade does not count in the current score and counts as zero in the final one (Canvas' current_score
    and final_score). Each is Σ weight · category / Σ weight over the categories in which something counts, so a
    category without graded work takes nothing away (Canvas weighs assignment groups so). Neither order nor repetition
    matters: the results are fractions of whole numbers.

    Args:
        work: assignments that are the student's, each once.
        marks: what was given, by assignment; marks of other assignments are not looked at.
        posted_only: grades that students do not see yet are as if not given.
    """
    named = {category.id for category in scheme.categories}
    graded: dict[UUID, list[tuple[Assignment, Decimal]]] = {}
    waiting: dict[UUID, list[tuple[Assignment, Decimal]]] = {}
    for assignment in work:
        worth = earned(assignment, marks.get(assignment.id), scheme.missing, posted_only=posted_only)
        category = assignment.category if assignment.category in named else ALL_WORK
        if worth is NOT_GRADED:
            waiting.setdefault(category, []).append((assignment, ZERO))
        elif isinstance(worth, Decimal):
            graded.setdefault(category, []).append((assignment, worth))
    current = [_part(c, graded.get(c.id, []), scheme.method) for c in scheme.categories]
    final = [
        _part(part.category, graded.get(part.category.id, []) + waiting[part.category.id], scheme.method)
        if part.category.id in waiting else part
        for part in current
    ]
    return _score(current), _score(final)


def earned(assignment: Assignment, mark: Mark | None, missing: str, *, posted_only: bool) -> Decimal | str:
    """Points that count for an item, or why it does not count; NOT_GRADED is zero in the final score.

    Canvas' rules: excused work and work omitted from the final grade never count. Missing work follows the class's
    policy; missing extra credit is never worth half.
    """
    if assignment.omitted:
        return "omitted from the grade"
    if mark is None or (posted_only and not mark.posted):
        return NOT_GRADED
    if mark.excused:
        return "excused"
    if mark.missing:
        if missing == "floor50" and not assignment.extra_credit:
            return max(mark.score or ZERO, assignment.possible * HALF)
        if mark.score is None:
            return "missing, not counted" if missing == "ignore" else ZERO
    return NOT_GRADED if mark.score is None else mark.score


def drop(
    items: Sequence[tuple[UUID, int, int]], lowest: int, highest: int, earned: int = 0, possible: int = 0
) -> Kept:
    """Which items to drop, and the ratio of what is kept: exactly the best choice, however unequal the points.

    Dropping the lowest percentages is not best when points differ. Kane & Kane, "Dropping Lowest Grades" (Mathematics
    Magazine 79, 2006): at the right ratio q an item is worth `earned - q * possible`, the lowest of these are dropped,
    and q is right when what is kept adds up to zero. They find q by bisection, as Canvas does; the ratio of what is
    kept at one q is a better guess (Newton's step) and, since the sum has finitely many straight pieces, it hits q
    exactly. Bisection remains for steps that would leave the interval that must hold q.

    With both rules the student's choice is made first, then the highest of the rest are taken away: the largest ratio
    that the student can be sure of. Up to so many are dropped, as far as it helps (or costs, for the highest), and at
    least one item is kept; as in Canvas no highest are dropped when the two rules would leave none.

    Args:
        items: what may be dropped, at least one: id, points earned, points possible (> 0), in whole units.
        earned, possible: what may not be dropped, in the same units.
    """
    lowest = min(lowest, len(items) - 1)
    highest = highest if lowest + highest < len(items) else 0
    guess = Fraction(sum(m for _, m, _ in items) + earned, sum(n for *_, n in items) + possible)
    below: Fraction | None = None
    above: Fraction | None = None
    while True:
        up, down = guess.as_integer_ratio()
        worth = sorted([(m * down - n * up, item, m, n) for item, m, n in items])
        low = [w for w in worth[:lowest] if w[0] <= 0]
        high = [w for w in worth[len(worth) - highest :] if w[0] >= 0]
        kept = worth[len(low) : len(worth) - len(high)]
        points, of = sum(w[2] for w in kept) + earned, sum(w[3] for w in kept) + possible
        rest = points * down - of * up
        if rest == 0:
            return Kept(guess, frozenset(w[1] for w in low), frozenset(w[1] for w in high))
        below, above = (guess, above) if rest > 0 else (below, guess)
        guess = Fraction(points, of)
        if below is not None and above is not None and not below < guess < above:
            guess = (below + above) / 2


def letter(percent: Fraction | None, scale: Scale) -> str | None:
    """The letter of the highest step that the percentage reaches; the lowest below all; None without a percentage.

    Unrounded, as Canvas' grading schemes do it: 89.999 is not 90. A school's steps are its OneRoster 1.2 scoreScale.
    """
    if percent is None or not scale:
        return None
    steps = sorted(((Fraction(least), name) for name, least in scale), reverse=True)
    return next((name for least, name in steps if percent >= least), steps[-1][1])


def failing_below(scale: Scale) -> Decimal | None:
    """The percentage below which only the scale's lowest letter is earned; None when there is but one.

    No standard names a passing mark; the second lowest step of the school's own scoreScale is one.
    """
    steps = sorted({least for _, least in scale})
    return steps[1] if len(steps) > 1 else None


def exact(percent: Fraction | None) -> Decimal | None:
    """A percentage as it is stored: 28 significant digits."""
    if percent is None:
        return None
    return STORED.divide(Decimal(percent.numerator), Decimal(percent.denominator))


def shown(percent: Fraction | Decimal | None, places: int = 2) -> str:
    """A percentage as a person reads it: rounded, halves up; "-" for none."""
    if percent is None:
        return "-"
    value = exact(percent) if isinstance(percent, Fraction) else percent
    assert value is not None
    return str(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def _score(parts: Sequence[Part]) -> Score:
    total, weights = Fraction(0), Fraction(0)
    for part in parts:
        if part.percent is not None:
            weight = Fraction(part.category.weight)
            total += weight * part.percent
            weights += weight
    return Score(total / weights if weights else None, parts)


def _part(category: Category, counted: Sequence[tuple[Assignment, Decimal]], method: str) -> Part:
    """A category's percentage. Extra credit adds points and no possible points, and is never dropped."""
    if method == "points" and not category.drop_lowest and not category.drop_highest:
        return Part(category, _ratio_of_sums(counted))
    items = _in_whole_units(counted, method)
    fixed = [item for item in items if not item[2] or item[0] in category.never_drop]
    pool = [item for item in items if item[2] and item[0] not in category.never_drop]
    points, of = sum(m for _, m, _ in fixed), sum(n for *_, n in fixed)
    if not pool:
        return Part(category, Fraction(100 * points, of) if of else None)
    kept = drop(pool, category.drop_lowest, category.drop_highest, points, of)
    return Part(category, 100 * kept.ratio, kept.lowest, kept.highest)


def _ratio_of_sums(counted: Sequence[tuple[Assignment, Decimal]]) -> Fraction | None:
    """The quick way when nothing is dropped. Sums of points that in_range() admits are exact."""
    up, down = sum([worth for _, worth in counted], ZERO).as_integer_ratio()
    of, unit = sum([a.possible for a, _ in counted if not a.extra_credit], ZERO).as_integer_ratio()
    return Fraction(100 * up * unit, down * of) if of else None


def _in_whole_units(counted: Sequence[tuple[Assignment, Decimal]], method: str) -> list[tuple[UUID, int, int]]:
    """Earned and possible as whole numbers of one unit: of a point, or of an item of which all count alike."""
    ratios = [
        (a.id, *worth.as_integer_ratio(), *a.possible.as_integer_ratio(), a.extra_credit) for a, worth in counted
    ]
    if method == "points":
        unit = lcm(*(d for _, _, d, *_ in ratios), *(d for *_, d, _ in ratios))
        return [(item, m * (unit // c), 0 if extra else n * (unit // d)) for item, m, c, n, d, extra in ratios]
    ratios = [r for r in ratios if r[3]]  # of no points there is no percentage
    unit = lcm(*(c * n for _, _, c, n, *_ in ratios))
    return [(item, m * d * (unit // (c * n)), 0 if extra else unit) for item, m, c, n, d, extra in ratios]
