"""The rule of grades against every way to choose what is dropped, and tables with a comment a row."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skillcore_streams.rules.grades import (
    ALL_WORK,
    LETTERS,
    Assignment,
    Category,
    Mark,
    Scheme,
    class_score,
    drop,
    earned,
    exact,
    failing_below,
    in_range,
    letter,
    shown,
)

Items = list[tuple[UUID, int, int]]

HOMEWORK, TESTS = UUID(int=401), UUID(int=402)
POINTS = st.decimals(0, 100, places=1)
COUNT = st.integers(0, 4)


def items(most: int = 9) -> st.SearchStrategy[Items]:
    """What may be dropped, in whole points; above a hundred percent now and then, and ties often."""
    pair = st.tuples(st.integers(0, 12), st.integers(1, 10)) | st.tuples(st.integers(0, 1000), st.integers(1, 1000))
    return st.lists(pair, min_size=1, max_size=most).map(lambda ps: [(UUID(int=i), *p) for i, p in enumerate(ps, 1)])


# Dropping -------------------------------------------------------------------------------------------------------------


def every_choice(pool: Items, lowest: int, highest: int, points: int, of: int) -> Fraction:
    """Each set that the student may drop, then each that may be taken away: the best they can be sure of."""
    lowest = min(lowest, len(pool) - 1)
    highest = highest if lowest + highest < len(pool) else 0
    best: list[Fraction] = []
    for k in range(lowest + 1):
        for gone in combinations(range(len(pool)), k):
            left = [item for n, item in enumerate(pool) if n not in gone]
            best.append(min(
                Fraction(sum(m for _, m, _ in rest) + points, sum(n for *_, n in rest) + of)
                for d in range(highest + 1)
                for rest in combinations(left, len(left) - d)
            ))
    return max(best)


def bisected(pool: Items, lowest: int) -> Fraction:
    """Kane & Kane's own method for the lowest: halve the interval until no other set can hide in it."""
    keep = len(pool) - min(lowest, len(pool) - 1)
    low, high = Fraction(0), Fraction(max(m for _, m, _ in pool))
    while True:
        q = (low + high) / 2
        kept = sorted(pool, key=lambda item: item[1] - q * item[2])[len(pool) - keep :]
        if sum(m - q * n for _, m, n in kept) >= 0:
            low = q
        else:
            high = q
        if high - low < Fraction(1, 2 * (keep * 1000) ** 2):
            return Fraction(sum(m for _, m, _ in kept), sum(n for *_, n in kept))


@given(items(), COUNT, st.integers(0, 2), st.integers(0, 50), st.integers(0, 50))
def test_what_is_kept_is_the_best_of_every_choice(pool: Items, lowest: int, highest: int, points: int, of: int) -> None:
    kept = drop(pool, lowest, highest, points, of)

    assert kept.ratio == every_choice(pool, lowest, highest, points, of)


@given(items(12), COUNT)
def test_the_lowest_of_twelve_are_dropped_as_every_choice_would(pool: Items, lowest: int) -> None:
    assert drop(pool, lowest, 0).ratio == every_choice(pool, lowest, 0, 0, 0)


@given(items(40), st.integers(0, 12))
def test_the_lowest_are_those_that_bisection_finds(pool: Items, lowest: int) -> None:
    assert drop(pool, lowest, 0).ratio == bisected(pool, lowest)


@given(items(40), st.integers(0, 12), st.integers(0, 12), st.integers(0, 90), st.integers(0, 90))
def test_the_ratio_is_that_of_what_is_kept(pool: Items, lowest: int, highest: int, points: int, of: int) -> None:
    kept = drop(pool, lowest, highest, points, of)

    rest = [item for item in pool if item[0] not in kept.lowest | kept.highest]
    assert rest
    assert kept.ratio == Fraction(sum(m for _, m, _ in rest) + points, sum(n for *_, n in rest) + of)
    assert len(kept.lowest) <= lowest
    assert len(kept.highest) <= highest
    assert not kept.lowest & kept.highest


@given(items(20), st.integers(1, 5))
def test_without_fixed_items_exactly_so_many_are_dropped(pool: Items, lowest: int) -> None:
    assert len(drop(pool, lowest, 0).lowest) == min(lowest, len(pool) - 1)


def test_the_lowest_percentage_is_not_always_the_one_to_drop() -> None:
    """Kane & Kane's point: 2 of 8 is the lower percentage, but 20 of 50 weighs more."""
    quiz, exam, paper = (UUID(int=1), 2, 8), (UUID(int=2), 20, 50), (UUID(int=3), 19, 20)

    kept = drop([quiz, exam, paper], 1, 0)

    assert kept.lowest == {exam[0]}
    assert kept.ratio == Fraction(21, 28)


def test_at_least_one_item_is_kept_and_the_highest_give_way() -> None:
    pool = [(UUID(int=1), 1, 10), (UUID(int=2), 9, 10)]

    assert drop(pool, 5, 0).ratio == Fraction(9, 10)
    assert drop(pool, 0, 5).ratio == Fraction(10, 20)
    assert drop(pool, 1, 1).ratio == Fraction(9, 10)


def test_nothing_is_dropped_that_would_leave_the_student_with_less() -> None:
    """A bad test that may not be dropped: without the good homework beside it it would weigh more."""
    good = [(UUID(int=1), 10, 10), (UUID(int=2), 9, 10)]

    assert drop(good, 1, 0, earned=10, possible=100).lowest == frozenset()


# Scores ---------------------------------------------------------------------------------------------------------------

CATEGORIES = st.builds(
    Category, st.just(HOMEWORK), st.just("h"), st.integers(1, 100).map(Decimal), st.integers(0, 3), st.integers(0, 2),
    st.sets(st.integers(1, 12).map(lambda n: UUID(int=n)), max_size=2).map(frozenset),
)
SCHEMES = st.builds(
    lambda one, two, method, missing: Scheme([one, two._replace(id=ALL_WORK)], method, missing),
    CATEGORIES, CATEGORIES, st.sampled_from(["points", "percentages"]), st.sampled_from(["zero", "ignore", "floor50"]),
)
WORK = st.lists(
    st.builds(
        Assignment, st.just(UUID(int=0)), st.sampled_from([HOMEWORK, TESTS]), st.decimals(0, 100, places=2),
        st.sampled_from([False, False, False, True]), st.sampled_from([False, False, False, True]),
    ),
    max_size=12,
).map(lambda ws: [w._replace(id=UUID(int=n)) for n, w in enumerate(ws, 1)])
MARKS = st.dictionaries(
    st.integers(1, 12).map(lambda n: UUID(int=n)),
    st.builds(Mark, st.none() | POINTS | POINTS, *[st.sampled_from([False, False, True])] * 2,
              st.sampled_from([True, True, False])),
)


@given(SCHEMES, WORK, MARKS, st.booleans(), st.data())
def test_the_order_of_the_work_does_not_matter(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], final: bool, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(work))

    assert class_score(scheme, work, marks, final=final) == class_score(scheme, shuffled, marks, final=final)


@given(SCHEMES, WORK, MARKS, st.booleans(), st.data())
def test_a_better_score_never_lowers_the_grade(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], final: bool, data: st.DataObject
) -> None:
    scored = [key for key, mark in marks.items() if mark.score is not None]
    assume(scored)
    chosen = data.draw(st.sampled_from(scored))
    score = marks[chosen].score
    assert score is not None
    better = marks | {chosen: marks[chosen]._replace(score=score + data.draw(POINTS))}

    before = class_score(scheme, work, marks, final=final).percent
    after = class_score(scheme, work, better, final=final).percent

    assert (before is None) == (after is None)
    assert before is None or after is None or after >= before


@given(SCHEMES, WORK, MARKS, st.booleans(), st.integers(1, 4))
def test_dropping_more_of_the_lowest_never_lowers_the_grade(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], final: bool, more: int
) -> None:
    kinder = scheme._replace(categories=[c._replace(drop_lowest=c.drop_lowest + more) for c in scheme.categories])

    before = class_score(scheme, work, marks, final=final).percent
    after = class_score(kinder, work, marks, final=final).percent

    assert before == after or (before is not None and after is not None and after > before)


@given(SCHEMES, WORK, MARKS, st.booleans())
def test_the_final_score_is_never_above_the_current_one_without_drops_and_extra_credit(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], posted: bool
) -> None:
    """Of one category: between categories a missing one may weigh less than a bad one."""
    one = scheme._replace(categories=[Category(ALL_WORK, "all", Decimal(100))])
    plain = [w._replace(extra_credit=False) for w in work]

    current = class_score(one, plain, marks, final=False, posted_only=posted).percent
    final = class_score(one, plain, marks, final=True, posted_only=posted).percent

    assert current is None or (final is not None and final <= current)


@given(SCHEMES, WORK, MARKS, st.booleans(), st.data())
def test_excused_work_is_as_if_it_had_never_been_given(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], final: bool, data: st.DataObject
) -> None:
    assume(work)
    spared = data.draw(st.sampled_from(work)).id
    excused = marks | {spared: Mark(Decimal(3), excused=True)}

    score = class_score(scheme, work, excused, final=final)

    assert score == class_score(scheme, [w for w in work if w.id != spared], excused, final=final)


@given(SCHEMES, WORK, MARKS, st.booleans())
def test_a_class_score_is_the_weighted_mean_of_its_categories(
    scheme: Scheme, work: list[Assignment], marks: dict[UUID, Mark], final: bool
) -> None:
    score = class_score(scheme, work, marks, final=final)

    heard = [p for p in score.parts if p.percent is not None]
    weights = [Fraction(p.category.weight) for p in heard]
    expected = sum(
        (w * p.percent for w, p in zip(weights, heard, strict=True) if p.percent is not None), Fraction(0)
    ) / sum(weights) if heard else None
    assert score.percent == expected


@given(st.lists(st.tuples(POINTS, POINTS.filter(bool)), min_size=1, max_size=12), st.integers(1, 1000))
def test_a_scale_of_points_does_not_matter(scores: list[tuple[Decimal, Decimal]], factor: int) -> None:
    scheme = Scheme([Category(ALL_WORK, "all", Decimal(100), 1)])

    def score(by: Decimal) -> Fraction | None:
        work = [Assignment(UUID(int=n), TESTS, possible * by) for n, (_, possible) in enumerate(scores)]
        marks = {UUID(int=n): Mark(given * by) for n, (given, _) in enumerate(scores)}
        return class_score(scheme, work, marks, final=False).percent

    assert score(Decimal(1)) == score(Decimal(factor) / 100)


HOME, TEST = Category(HOMEWORK, "Homework", Decimal(30)), Category(TESTS, "Tests", Decimal(70))
ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.mark.parametrize(
    ("scheme", "work", "marks", "current", "final"),
    [
        (  # both categories
            Scheme([HOME, TEST]), [(ONE, HOMEWORK, 10), (TWO, TESTS, 50)],
            {ONE: Mark(Decimal(9)), TWO: Mark(Decimal(40))}, "83.00", "83.00",
        ),
        (  # a category without graded work takes nothing away from the current score, and its weight from the final
            Scheme([HOME, TEST]), [(ONE, HOMEWORK, 10), (TWO, TESTS, 50)], {ONE: Mark(Decimal(8))}, "80.00", "24.00",
        ),
        (  # points: 8 of 10 and 10 of 40 are 18 of 50
            Scheme([HOME]), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 40)], {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(10))},
            "36.00", "36.00",
        ),
        (  # percentages: the mean of 80 and 25
            Scheme([HOME], "percentages"), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 40)],
            {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(10))}, "52.50", "52.50",
        ),
        (  # work of a category that the scheme does not name counts nowhere
            Scheme([HOME]), [(ONE, HOMEWORK, 10), (TWO, TESTS, 50)], {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(1))},
            "80.00", "80.00",
        ),
        (  # unless a category takes all other work
            Scheme([HOME, TEST._replace(id=ALL_WORK)]), [(ONE, HOMEWORK, 10), (TWO, TESTS, 50)],
            {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(40))}, "80.00", "80.00",
        ),
        (  # missing is zero
            Scheme([HOME]), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 10)],
            {ONE: Mark(Decimal(8)), TWO: Mark(None, missing=True)}, "40.00", "40.00",
        ),
        (  # missing is at least half
            Scheme([HOME], missing="floor50"), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 10)],
            {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(1), missing=True)}, "65.00", "65.00",
        ),
        (  # missing does not count, not even at the end
            Scheme([HOME], missing="ignore"), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 10)],
            {ONE: Mark(Decimal(8)), TWO: Mark(None, missing=True)}, "80.00", "80.00",
        ),
        (  # a grade that is not posted is as if not given
            Scheme([HOME]), [(ONE, HOMEWORK, 10), (TWO, HOMEWORK, 10)],
            {ONE: Mark(Decimal(8)), TWO: Mark(Decimal(10), posted=False)}, "80.00", "40.00",
        ),
        (Scheme([HOME]), [(ONE, HOMEWORK, 10)], {}, "-", "0.00"),  # nothing graded yet
        (Scheme([HOME]), [], {ONE: Mark(Decimal(8))}, "-", "-"),  # a grade without its assignment
        (Scheme([HOME._replace(weight=Decimal(0))]), [(ONE, HOMEWORK, 10)], {ONE: Mark(Decimal(8))}, "-", "-"),
    ],
)
def test_scores_of_small_classes(
    scheme: Scheme, work: list[tuple[UUID, UUID, int]], marks: dict[UUID, Mark], current: str, final: str
) -> None:
    given = [Assignment(key, category, Decimal(possible)) for key, category, possible in work]

    assert shown(class_score(scheme, given, marks, final=False).percent) == current
    assert shown(class_score(scheme, given, marks, final=True).percent) == final


def test_extra_credit_adds_points_and_is_never_dropped() -> None:
    scheme = Scheme([HOME._replace(drop_lowest=1)])
    work = [
        Assignment(ONE, HOMEWORK, Decimal(10)), Assignment(TWO, HOMEWORK, Decimal(10)),
        Assignment(THREE, HOMEWORK, Decimal(5), extra_credit=True),
    ]
    marks = {ONE: Mark(Decimal(4)), TWO: Mark(Decimal(9)), THREE: Mark(Decimal(2))}

    [part] = class_score(scheme, work, marks, final=False).parts

    assert part.percent == 110
    assert part.lowest == {ONE}


def test_extra_credit_alone_is_no_percentage_and_missing_extra_credit_costs_nothing() -> None:
    work = [Assignment(ONE, HOMEWORK, Decimal(5), extra_credit=True)]

    assert class_score(Scheme([HOME]), work, {ONE: Mark(Decimal(5))}, final=False).percent is None
    assert earned(work[0], Mark(None, missing=True), "floor50", posted_only=True) == 0


@pytest.mark.parametrize(
    ("omitted", "mark", "worth"),
    [
        (True, Mark(Decimal(5)), "omitted from the grade"),
        (False, Mark(Decimal(5), excused=True, missing=True), "excused"),  # excused goes before missing
        (False, Mark(None), "not graded"),  # handed in, not looked at
        (False, None, "not graded"),
        (False, Mark(Decimal(5), missing=True), Decimal(5)),  # missing, and given something after all
    ],
)
def test_why_an_item_counts_or_not(omitted: bool, mark: Mark | None, worth: object) -> None:
    item = Assignment(ONE, HOMEWORK, Decimal(10), omitted=omitted)

    assert earned(item, mark, "zero", posted_only=True) == worth


# Letters and display --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        (Fraction(90), "A"),
        (Fraction(8_999_999, 100_000), "B"),  # 89.99999 reads 90.00 and is not
        (Fraction(120), "A"),
        (Fraction(0), "F"),
        (Fraction(-5), "F"),
        (None, None),
    ],
)
def test_letters_are_given_unrounded(percent: Fraction | None, expected: str | None) -> None:
    assert letter(percent, LETTERS) == expected


@given(st.fractions(-10, 130), st.fractions(-10, 130), st.permutations(LETTERS))
def test_a_higher_percentage_never_earns_a_lower_letter(
    one: Fraction, two: Fraction, scale: list[tuple[str, Decimal]]
) -> None:
    order = "FDCBA"
    low, high = letter(min(one, two), scale), letter(max(one, two), scale)

    assert low is not None
    assert high is not None
    assert order.index(low) <= order.index(high)


def test_failing_is_below_the_second_lowest_letter() -> None:
    assert failing_below(LETTERS) == 60
    assert failing_below([("pass", Decimal(0))]) is None
    assert failing_below([]) is None
    assert letter(Fraction(50), []) is None


@given(st.fractions(0, 200))
def test_what_is_stored_has_twenty_eight_digits(percent: Fraction) -> None:
    kept = exact(percent)

    assert kept is not None
    assert abs(Fraction(kept) - percent) <= Fraction(percent) / 10**27


def test_percentages_are_shown_with_halves_up() -> None:
    assert [shown(Decimal(p)) for p in ("79.995", "79.994", "2.5")] == ["80.00", "79.99", "2.50"]
    assert shown(Fraction(2, 3), 0) == "1"
    assert shown(None) == "-"


@pytest.mark.parametrize(
    ("points", "plausible"),
    [("0", True), ("-3.5", True), ("999999999.999999", True), ("1e9", False), ("0.0000001", False), ("1e999999", False),
     ("2.5000000000", True), (None, True)],
)
def test_points_of_a_school_are_of_a_plausible_size(points: str | None, plausible: bool) -> None:
    assert in_range(None if points is None else Decimal(points)) is plausible
