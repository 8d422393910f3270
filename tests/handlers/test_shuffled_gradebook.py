"""Whatever order a class's events arrive in, the same grades: a term of two classes, shuffled again and again.

Every shuffle is a tenant of its own, as in test_shuffled.py. What the tenants agree on is also computed once from the
events alone, without a database.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.gradebook import AssignmentCreated, GradeCategory, GradeUpdated
from skillcore_streams.events.rostering import StudentEnrolled
from skillcore_streams.queues.grade_processing import RecalculateClass, recalculate_class
from skillcore_streams.rules.grades import LETTERS, Assignment, Category, Mark, Scheme, class_score, exact, letter
from skillcore_streams.runtime.messages import Event, derive_id
from skillcore_streams.testing import HandlerLab, given
from tests.handlers import village
from tests.handlers.test_shuffled import difference, of_tenant, play, shuffled
from tests.handlers.village import DAYS, HOMEWORK, PROJECTS, SCHOOL, TEMPLATE, TESTS, at

ALGEBRA, BIOLOGY = UUID(int=300), UUID(int=301)
STUDENTS = [UUID(int=n) for n in range(1, 5)]
QUARTER = derive_id("session", SCHOOL, "quarter")
CLOSED = at(DAYS[18], 20)

END_STATE = {
    "classes": "select class_id, school_id, title, version from classes",
    "schemes": "select class_id, version, method, missing_policy, categories from grading_schemes",
    "staff": "select assignment_id, class_id, teacher_id, role, begin_date, end_date, said_at from class_staff",
    "assignments": """
        select class_id, assignment_id, category_id, title, points_possible, due_at, assigned_on, extra_credit,
               omit_from_final, published, said_at from assignments""",
    "work": "select class_id, student_id, assignment_id, status, missing from student_assignments",
    "grades": """
        select class_id, grade_id, student_id, assignment_id, score, excused, missing, late, posted, said_at
          from grades""",
    "class grades": """
        select class_id, student_id, current_score, final_score, letter, unposted_current_score, unposted_final_score
          from student_class_grades where calc_version > 0""",  # without an answer it is only a lock
    "audit": "select class_id, student_id, assignment_id, grade_id, score, graded_at from grade_audit",
    "late changes": "select student_id, detail, raised_at from student_alerts where kind = 'late_grade_change'",
    "failing": """
        select student_id, detail from student_alerts where kind = 'failing_grade' and resolved_at is null""",
}  # no sharp drops: those are of the way, not of the end


def term(random: Random) -> list[Event]:
    """Everything that happens to two classes, in the order in which it happened."""
    quarter = village.session([], title="quarter", type="gradingPeriod", start_date=DAYS[0], end_date=DAYS[12])
    events: list[Event] = [village.school(), quarter]
    for class_id in (ALGEBRA, BIOLOGY):
        events += [village.school_class(class_id), village.teacher(class_id=class_id, role="substitute")]
        events.append(given(village.teacher(class_id=class_id), at=at(DAYS[9]), id=f"teacher of {class_id}, again"))
        for student in STUDENTS:
            if random.random() < 0.85:
                events.append(village.enrolment(DAYS[random.choice([0, 0, 3, 7])], student=student, class_id=class_id))
        for n in range(14):
            events += work(random, n, class_id)
            for student in STUDENTS:
                events += words(random, n, student, class_id)
    return events


def work(random: Random, n: int, class_id: UUID) -> list[Event]:
    """An assignment, now and then said again with other points, dates or another category."""
    def said(again: int) -> Event:
        fields: dict[str, Any] = {}
        if random.random() < 0.15:
            fields["due_at"] = None
        return village.assignment(
            n, random.choice([5, 10, "12.5", 40]), random.choice([HOMEWORK, HOMEWORK, TESTS, PROJECTS, UUID(int=499)]),
            class_id=class_id, published=random.random() < 0.9, extra_credit=random.random() < 0.1,
            omit_from_final=random.random() < 0.05, said=at(DAYS[n], 7) + timedelta(hours=again),
            id=f"{class_id}/{n}/{again}", **fields,
        )

    return [said(again) for again in range(2 if random.random() < 0.25 else 1)]


def words(random: Random, n: int, student: UUID, class_id: UUID) -> list[Event]:
    """What a student is given for it, corrected, taken back, given to somebody else first, or never given."""
    found: list[Event] = []
    for again in range(random.choice([0, 1, 1, 1, 1, 2, 3])):
        minute = STUDENTS.index(student) + 10 * again + 100 * n  # no two of a class at one time
        given_at: datetime = at(DAYS[n + 3], 10) + timedelta(minutes=minute)
        if again and random.random() < 0.3:
            given_at += timedelta(days=20)  # after the quarter was closed
        whose = random.choice(STUDENTS) if random.random() < 0.05 else student
        fields = {
            "excused": random.random() < 0.05, "missing": random.random() < 0.08, "posted": random.random() < 0.9,
            "grade_id": derive_id("grade", class_id, student, n), "graded_at": given_at,
        }
        score = None if random.random() < 0.05 else random.choice([0, 3, 5, "7.5", 9, 10])
        found.append(village.grade(
            n, score, student=whose, class_id=class_id, id=f"{class_id}/{n}/{student}/{again}", **fields
        ))
    return found


# The same from the events alone ---------------------------------------------------------------------------------------


def recounted(events: list[Event]) -> set[tuple[Any, ...]]:
    """class grades, as END_STATE has them."""
    assignments: dict[tuple[UUID, UUID], AssignmentCreated] = {}
    grades: dict[UUID, GradeUpdated] = {}
    begins: dict[tuple[UUID, UUID], Any] = {}
    for event in sorted(events, key=lambda e: e.meta.time):
        if isinstance(event, AssignmentCreated):
            assignments[event.class_id, event.assignment_id] = event
        elif isinstance(event, GradeUpdated):
            grades[event.grade_id] = event
        elif isinstance(event, StudentEnrolled) and event.class_id is not None:
            begins[event.class_id, event.student_id] = event.begin_date
    scheme = Scheme([
        Category(c.id, c.name, c.weight, c.drop_lowest, c.drop_highest, frozenset(c.never_drop))
        for c in (GradeCategory.model_validate_json(json.dumps(raw)) for raw in json.loads(TEMPLATE))
    ])
    found = set()
    for class_id, student in {(g.class_id, g.student_id) for g in grades.values()}:
        theirs = sorted(
            (g for g in grades.values() if (g.class_id, g.student_id) == (class_id, student)), key=lambda g: g.graded_at
        )
        marks = {g.assignment_id: Mark(g.score, g.excused, g.missing, g.posted) for g in theirs}
        came = begins.get((class_id, student))
        mine = [
            Assignment(a.assignment_id, a.category_id, a.points_possible, a.extra_credit, a.omit_from_final)
            for (of, _), a in assignments.items()
            if of == class_id and a.published and (
                a.assignment_id in marks or came is None or a.due_at is None or a.due_at.date() >= came
            )
        ]
        scores = [
            class_score(scheme, mine, marks, final=final, posted_only=posted).percent
            for posted in (True, False) for final in (False, True)
        ]
        if any(s is not None for s in scores[:2]):
            current, final, *unposted = map(exact, scores)
            found.add((class_id, student, current, final, letter(scores[0], LETTERS), *unposted))
    return {tuple(map(str, row)) for row in found}


async def end_state(lab: HandlerLab) -> dict[str, dict[str, set[tuple[Any, ...]]]]:
    """tenant -> what of the state -> rows."""
    state: dict[str, dict[str, set[tuple[Any, ...]]]] = {}
    for name, query in END_STATE.items():
        for row in await lab.rows(query.replace("select ", "select tenant_id, ", 1)):
            tenant, *values = row.values()
            state.setdefault(tenant, {}).setdefault(name, set()).add(tuple(map(str, values)))
    return state


@pytest.mark.parametrize(("seed", "meanwhile"), [(0, False), (1, False), (2, True), (3, True)])
async def test_any_order_gives_the_same_grades(concurrent_lab: HandlerLab, seed: int, meanwhile: bool) -> None:
    lab = concurrent_lab
    events = term(Random(seed))
    orders = {"in order": events} | {f"shuffle {n}": shuffled(events, Random(f"{seed}/{n}")) for n in range(8)}
    for tenant in orders:
        await village.weighed(lab, tenant=tenant)
        await lab.execute(
            "insert into grading_period_locks values ($1, $2, $3, $4, $5)", tenant, SCHOOL, QUARTER, CLOSED, SCHOOL
        )
        await lab.deliver([of_tenant(event, tenant) for event in events[:2]])  # a closed period has long been known

    await play(lab, [[of_tenant(e, tenant) for e in order] for tenant, order in orders.items()], Random(seed),
               meanwhile=meanwhile)

    state = await end_state(lab)
    right = state["in order"]
    assert right.keys() == END_STATE.keys(), f"the term is too quiet: it has no {END_STATE.keys() - right.keys()}"
    for tenant, found in state.items():
        assert found == right, f"seed {seed}, {tenant}:\n{difference(right, found)}"
    assert {row[:2] for row in right["class grades"]} == {row[:2] for row in recounted(events)}
    assert numbers(right["class grades"]) == numbers(recounted(events))
    for class_id in (ALGEBRA, BIOLOGY):
        again = await lab.run(recalculate_class, given(RecalculateClass(class_id=class_id), tenant="shuffle 0"))
        assert again.published == []


def numbers(rows: set[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows with their percentages as numbers: how many zeros follow a point does not matter."""
    return sorted(
        tuple(v if v == "None" or n in (0, 1, 4) else Decimal(v).normalize() for n, v in enumerate(row)) for row in rows
    )
