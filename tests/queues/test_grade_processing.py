"""Jobs of the gradebook: recomputed from rows, whole classes a page at a time, and the work of those who come later."""

from __future__ import annotations

from uuid import UUID

import pytest

from skillcore_streams.events.gradebook import ClassGradeChanged
from skillcore_streams.handlers.gradebook import calculate_grades, create_assignment
from skillcore_streams.handlers.rostering import create_class, enroll_students
from skillcore_streams.queues import grade_processing
from skillcore_streams.queues.grade_processing import (
    OpenWork,
    RecalculateClass,
    RecalculateStudent,
    open_work,
    recalculate_class,
    recalculate_student,
)
from skillcore_streams.testing import HandlerLab
from tests.handlers.village import (
    CLASS,
    DAYS,
    STUDENT,
    TESTS,
    assignment,
    assignment_id,
    class_grade,
    enrolment,
    grade,
    school_class,
    weighed,
)

OTHER = UUID(int=2)


async def a_class(lab: HandlerLab) -> None:
    """Two tests, a grade for the first."""
    await weighed(lab)
    await lab.run(create_class, school_class())
    for n in (0, 1):
        await lab.run(create_assignment, assignment(n, 10, TESTS))
    await lab.run(calculate_grades, [grade(0, 9)])


async def test_recalculating_what_is_right_changes_nothing_and_tells_nobody(lab: HandlerLab) -> None:
    await a_class(lab)
    before = await lab.rows("select * from student_class_grades")

    jobs = (recalculate_class, RecalculateClass(class_id=CLASS)), (
        recalculate_student, RecalculateStudent(class_id=CLASS, student_id=STUDENT)
    )
    done = [await lab.run(*job) for job in jobs]

    assert [d.published for d in done] == [[], []]
    assert await lab.rows("select * from student_class_grades") == before


@pytest.mark.parametrize("whole_class", [True, False])
async def test_recalculating_follows_a_new_scheme_and_says_so(lab: HandlerLab, whole_class: bool) -> None:
    await a_class(lab)
    await lab.run(calculate_grades, [grade(0, 9), grade(0, 6, student=OTHER)])
    await lab.execute(
        """insert into grading_schemes (tenant_id, class_id, version, missing_policy, categories)
           select tenant_id, class_id, 2, 'zero',
                  replace(categories::text, '"Tests",', '"Tests", "drop_lowest": 1,')::jsonb
             from grading_schemes"""
    )
    await lab.run(calculate_grades, [grade(1, 1, hour=8)])
    await lab.execute("update student_class_grades set current_score = 50, letter = 'F' where student_id = $1", STUDENT)

    if whole_class:
        done = await lab.run(recalculate_class, RecalculateClass(class_id=CLASS))
    else:
        done = await lab.run(recalculate_student, RecalculateStudent(class_id=CLASS, student_id=STUDENT))

    assert await class_grade(lab) == ("90.00", "90.00", "A")
    changed = [e for e in done.published if isinstance(e, ClassGradeChanged)]
    assert {(e.student_id, e.old_letter, e.letter) for e in changed} == (
        {(STUDENT, "F", "A")} | ({(OTHER, "D", "D")} if whole_class else set())  # the final score of the other one
    )


async def test_a_class_is_recalculated_page_by_page(lab: HandlerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grade_processing, "PAGE", 2)
    students = [UUID(int=n) for n in range(1, 6)]
    await lab.deliver([grade(0, 9, student=s) for s in students])
    await lab.run(create_class, school_class())
    await lab.run(create_assignment, assignment(0))

    done = await lab.run(recalculate_class, RecalculateClass(class_id=CLASS))
    assert done.enqueued == [RecalculateClass(class_id=CLASS, after=students[1])]
    assert len(done.published) == 2
    await lab.settle()

    assert await lab.value("select count(*) from student_class_grades where current_score = 90") == 5


async def test_many_orders_of_one_class_are_one_run(lab: HandlerLab) -> None:
    for n in range(4):
        await lab.deliver([grade(n, 9)])

    assert await lab.run_jobs() == 4

    assert await lab.value("select sum(cardinality(ids)) from finished where outcome = 'completed'") == 1


async def test_a_student_who_joins_gets_the_open_work_and_owes_it(lab: HandlerLab) -> None:
    await a_class(lab)
    await lab.run(create_assignment, assignment(4, 10, TESTS))
    assert (await class_grade(lab))[1] == "45.00"  # not recomputed yet

    await lab.run(enroll_students, [enrolment(DAYS[3], class_id=CLASS)])
    done = await lab.run(open_work, OpenWork(class_id=CLASS, student_id=STUDENT))
    again = await lab.run(open_work, OpenWork(class_id=CLASS, student_id=STUDENT))

    rows = await lab.rows("select assignment_id, status, missing from student_assignments")
    assert {r["assignment_id"] for r in rows} == {assignment_id(1), assignment_id(4)}
    assert all((r["status"], r["missing"]) == ("assigned", False) for r in rows)
    assert await class_grade(lab) == ("90.00", "30.00", "A")  # nine of thirty: the one that was graded counts anyway
    assert len(done.published) == 1
    assert again.published == []


async def test_work_alone_makes_no_grade(lab: HandlerLab) -> None:
    await a_class(lab)
    await lab.run(enroll_students, [enrolment(class_id=CLASS, student=OTHER)])

    done = await lab.run(open_work, OpenWork(class_id=CLASS, student_id=OTHER))

    assert done.published == []
    assert await class_grade(lab, OTHER) == (None, None, None)


@pytest.mark.parametrize(("graded", "expected"), [(None, "45.00"), ("8", "85.00")])
async def test_work_that_was_missed_counts_by_the_policy_until_it_is_graded(
    lab: HandlerLab, graded: str | None, expected: str
) -> None:
    await a_class(lab)
    await lab.run(enroll_students, [enrolment(class_id=CLASS)])
    await lab.run(open_work, OpenWork(class_id=CLASS, student_id=STUDENT))
    await lab.execute("update student_assignments set missing = true where assignment_id = $1", assignment_id(1))
    if graded:
        await lab.run(calculate_grades, [grade(1, graded)])

    await lab.run(recalculate_student, RecalculateStudent(class_id=CLASS, student_id=STUDENT))

    assert (await class_grade(lab))[0] == expected
