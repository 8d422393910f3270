"""Explained grades: the items add up to what is stored, whatever has happened; and what does not is named."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.explain.grades import explain_grade
from skillcore_streams.handlers.gradebook import audit_grades, calculate_grades, create_assignment
from skillcore_streams.handlers.rostering import create_class
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.testing import TENANT, HandlerLab
from tests.handlers import test_shuffled_gradebook as shuffled
from tests.handlers.village import (
    CLASS,
    DAYS,
    STUDENT,
    TEMPLATE,
    TESTS,
    assignment,
    assignment_id,
    enrolment,
    grade,
    school_class,
    weighed,
)


async def explained(lab: HandlerLab, student: UUID = STUDENT, class_id: UUID = CLASS) -> dict[str, Any]:
    async with lab.transaction() as db:
        return await explain_grade(db, TENANT, class_id, student)


async def a_class(lab: HandlerLab) -> None:
    """Three homeworks, of which the lowest is dropped, and a test that is not graded."""
    await weighed(lab)
    await lab.deliver([school_class(), enrolment(class_id=CLASS)])
    for each in (*(assignment(n) for n in range(3)), assignment(3, 50, TESTS)):
        await lab.run(create_assignment, each)
    words = [grade(0, 3), grade(1, 7, hour=9), grade(1, 9), grade(2, 8)]
    await lab.run(calculate_grades, words)
    await lab.run(audit_grades, words)


@pytest.mark.parametrize("method", ["points", "percentages"])
@pytest.mark.parametrize(("seed", "missing_policy"), [(10, "zero"), (11, "ignore"), (12, "floor50")])
async def test_every_grade_of_an_eventful_term_is_explained(
    lab: HandlerLab, seed: int, method: str, missing_policy: str
) -> None:
    """Corrections, excused, missing and unposted work, extra credit, drops, late comers, assignments nobody knows."""
    await weighed(lab, TEMPLATE, method=method, missing_policy=missing_policy)
    await lab.deliver(shuffled.term(Random(seed)))
    await lab.settle()
    await lab.execute("update student_assignments set missing = true where assignment_id::text < '3'")
    await lab.execute("update assignments set deleted_at = said_at where assignment_id::text > 'd'")
    for class_id in (shuffled.ALGEBRA, shuffled.BIOLOGY):
        await lab.run(shuffled.recalculate_class, shuffled.RecalculateClass(class_id=class_id))

    pairs = await lab.rows("select class_id, student_id from student_class_grades where current_score is not null")
    assert len(pairs) >= 6
    for pair in pairs:
        told = await explained(lab, pair["student_id"], pair["class_id"])
        assert told["differences"] == [], pair


async def test_each_item_says_what_counts_for_it_and_who_said_so(lab: HandlerLab) -> None:
    await a_class(lab)

    told = await explained(lab)

    items = {item["assignment"]: item for item in told["items"]}
    assert [(i["current"], i["final"]) for i in told["items"]] == [
        ("dropped as one of the lowest", "dropped as one of the lowest"), (Decimal(9), Decimal(9)),
        (Decimal(8), Decimal(8)), ("not graded", Decimal(0)),
    ]
    assert [i["category"] for i in told["items"]] == ["Homework", "Homework", "Homework", "Tests"]
    assert items[assignment_id(1)]["grade_events"] == [grade(1, 9).meta.id, grade(1, 7, hour=9).meta.id]
    assert items[assignment_id(1)]["assignment_event"] == assignment(1).meta.id
    assert told["scheme"]["event"] == school_class().meta.id
    assert {i["title"] for i in told["items"]} == {"•••"}
    homework, tests, _ = told["categories"]
    assert (homework["current_earned"], homework["current_possible"], homework["current_percent"]) == (17, 20, 85)
    assert (tests["current_percent"], tests["final_percent"], tests["weight"]) == (None, 0, 60)
    assert told["stored"]["current_score"] == told["explained"]["current_score"] == 85
    assert round(told["explained"]["final_score"], 4) == Decimal("28.3333")
    assert told["stored"]["calc_version"] == 1


async def test_why_work_does_not_count_is_said(lab: HandlerLab) -> None:
    await weighed(lab)
    await lab.run(create_class, school_class())
    await lab.deliver([enrolment(DAYS[4], class_id=CLASS)])
    for each in (
        assignment(0), assignment(1, published=False), assignment(2, category=UUID(int=499)), assignment(3),
        assignment(4, omit_from_final=True), assignment(5), assignment(6),
    ):
        await lab.run(create_assignment, each)
    await lab.execute("update assignments set deleted_at = said_at where assignment_id = $1", assignment_id(3))
    await lab.run(calculate_grades, [
        grade(2, 5), grade(5, excused=True), grade(6, 9, posted=False), grade(7, 9), grade(3, 1),
    ])

    told = await explained(lab)

    assert {i["assignment"]: i["current"] for i in told["items"]} == {
        assignment_id(0): "due before the student came", assignment_id(1): "not published",
        assignment_id(2): "its category is not in the scheme", assignment_id(3): "deleted",
        assignment_id(4): "omitted from the grade", assignment_id(5): "excused", assignment_id(6): "not graded",
        assignment_id(7): "its assignment has not arrived",
    }
    assert told["differences"] == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("current_score", "84.99"), ("final_score", "1"), ("letter", "'C'"), ("unposted_final_score", "null")],
)
async def test_a_stored_number_that_the_items_do_not_give_is_named(lab: HandlerLab, column: str, value: str) -> None:
    await a_class(lab)
    await lab.execute(f"update student_class_grades set {column} = {value}")

    [difference] = (await explained(lab))["differences"]

    assert difference.startswith(f"{column}: stored is {value.strip(chr(39)).replace('null', 'nothing')}, ")


async def test_a_grade_that_nobody_has_cannot_be_explained(lab: HandlerLab) -> None:
    with pytest.raises(SkillCoreError, match="no grade"):
        await explained(lab)

    await lab.run(calculate_grades, [grade(0, 3)])
    with pytest.raises(SkillCoreError, match="ClassCreated has not arrived"):
        await explained(lab)
