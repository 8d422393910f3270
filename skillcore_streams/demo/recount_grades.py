"""Class grades, computed again: from the XML, and for what is made up from the events as they were published.

The rule, for a school that has set none: all points earned of all points possible, in per cent. Excused work does not
count, missing work is zero, of a result the last word holds. Points possible are 100 where the file gives none. A per
cent is kept with 28 significant digits; A, B, C, D begin at 90, 80, 70, 60, unrounded; below 60 is failing.
Like all of recount*.py it shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from skillcore_streams.demo.recount import blocks, derived_id, element, one, student_id
from skillcore_streams.demo.recount_roster import class_id, class_of

LETTERS = ((90, "A"), (80, "B"), (70, "C"), (60, "D"))
FAILING = 60
DIGITS = Context(prec=28, rounding=ROUND_HALF_EVEN)


class Result(NamedTuple):
    """The last word on a student's piece of work. `score` is None for work that is excused."""

    class_id: UUID
    student_id: UUID
    assignment_id: UUID
    score: Decimal | None
    possible: Decimal


class ClassGrade(NamedTuple):
    """What a student's results in a class come to."""

    class_id: UUID
    student_id: UUID
    percent: Decimal
    letter: str

    @property
    def failing(self) -> bool:
        """Whether it is below the least passing per cent."""
        return self.percent < FAILING


def file_results(folder: Path, tenant: str) -> Iterator[Result]:
    """The results in the folder's gradebook."""
    entries = {}
    for block in blocks(folder, "StudentGradebook", "GradebookEntry"):
        identifier = one(r"<GradebookEntryIdentifier>(\d+)<", block)
        key = f"{element('Namespace', block)}\x1f{identifier}"
        entries[identifier] = class_id(tenant, class_of(block)), derived_id(tenant, "assignment", key)
    for block in blocks(folder, "StudentGradebook", "StudentGradebookEntry"):
        in_class, work = entries[one(r"<GradebookEntryIdentifier>(\d+)<", block)]
        student = student_id(tenant, one(r"<StudentUniqueId>(\d+)<", block))
        score = Decimal(one(r"<NumericGradeEarned>([\d.]+)<", block))
        yield Result(in_class, student, work, score, Decimal(100))


def published_results(grades: Iterable[Mapping[str, Any]]) -> Iterator[Result]:
    """The results of GradeUpdated events, given as they were published: of each grade the last word."""
    last: dict[str, Mapping[str, Any]] = {}
    for said in grades:
        before = last.get(said["grade_id"])
        if before is None or before["graded_at"] < said["graded_at"]:
            last[said["grade_id"]] = said
    for said in last.values():
        score = Decimal(said["score"]) if said["score"] is not None else Decimal(0)
        yield Result(
            UUID(said["class_id"]), UUID(said["student_id"]), UUID(said["assignment_id"]),
            None if said["excused"] else score, Decimal(said["points_possible"]),
        )  # fmt: skip


def class_grades(results: Iterable[Result]) -> list[ClassGrade]:
    """The grades that follow; none for who has nothing that counts."""
    points: dict[tuple[UUID, UUID], tuple[Decimal, Decimal]] = {}
    for result in results:
        if result.score is not None:
            earned, possible = points.get((result.class_id, result.student_id), (Decimal(0), Decimal(0)))
            points[result.class_id, result.student_id] = earned + result.score, possible + result.possible
    found = []
    for (in_class, student), (earned, possible) in points.items():
        share = Fraction(earned) * 100 / Fraction(possible)
        percent = DIGITS.divide(Decimal(share.numerator), Decimal(share.denominator))
        letter = next((letter for least, letter in LETTERS if share >= least), "F")
        found.append(ClassGrade(in_class, student, percent, letter))
    return found
