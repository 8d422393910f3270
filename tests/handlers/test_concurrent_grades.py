"""A chunk and a job of the same class at the same time: whoever commits last knows what the other did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skillcore_streams.handlers.gradebook import calculate_grades, create_assignment
from skillcore_streams.handlers.rostering import create_class, enroll_students
from skillcore_streams.queues.grade_processing import (
    OpenWork,
    RecalculateClass,
    RecalculateStudent,
    open_work,
    recalculate_class,
    recalculate_student,
)
from skillcore_streams.testing import NOW, HandlerLab
from tests.handlers.test_concurrency import beside
from tests.handlers.village import (
    CLASS,
    DAYS,
    STUDENT,
    TESTS,
    assignment,
    class_grade,
    enrolment,
    grade,
    school_class,
    weighed,
)

JOBS = {
    "class": (recalculate_class, RecalculateClass(class_id=CLASS)),
    "student": (recalculate_student, RecalculateStudent(class_id=CLASS, student_id=STUDENT)),
    "open work": (open_work, OpenWork(class_id=CLASS, student_id=STUDENT)),
}


async def a_class(lab: HandlerLab) -> None:
    await weighed(lab)
    await lab.run(create_class, school_class())
    for n in range(3):
        await lab.run(create_assignment, assignment(n, 10, TESTS))


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("job_is_first", [True, False])
async def test_a_recalculation_beside_a_chunk_never_leaves_a_stale_grade(
    concurrent_lab: HandlerLab, job: str, job_is_first: bool
) -> None:
    lab = concurrent_lab
    await a_class(lab)
    await lab.run(calculate_grades, [grade(0, 9)])
    chunk: tuple[Any, Any] = calculate_grades, [grade(1, 5), grade(2, 5)]

    await beside(lab, *((JOBS[job], chunk) if job_is_first else (chunk, JOBS[job])))

    assert await class_grade(lab) == ("63.33", "63.33", "D")
    versions = await lab.rows("select calc_version from grade_history order by 1")
    assert [row["calc_version"] for row in versions] == [1, 2]


async def test_two_calls_of_one_student_count_the_grades_of_both(concurrent_lab: HandlerLab) -> None:
    lab = concurrent_lab
    await a_class(lab)

    await beside(lab, (calculate_grades, [grade(0, 9)]), (calculate_grades, [grade(1, 6)]))

    assert (await class_grade(lab))[0] == "75.00"


async def test_grades_and_assignment_that_do_not_see_each_other_are_brought_together_by_the_job(
    concurrent_lab: HandlerLab,
) -> None:
    lab = concurrent_lab
    await a_class(lab)

    async with lab.running(create_assignment, assignment(4, 10, TESTS)):
        await lab.run(calculate_grades, [grade(4, 8)])
    assert await class_grade(lab) == (None, "0.00", None)
    await lab.run_jobs()

    assert await class_grade(lab) == ("80.00", "20.00", "B")


async def test_a_grade_computed_with_an_assignment_s_older_word_is_computed_again(concurrent_lab: HandlerLab) -> None:
    lab = concurrent_lab
    await a_class(lab)
    newer = assignment(0, 20, TESTS, said=NOW, id="newer")

    async with lab.running(calculate_grades, [grade(0, 8)]):
        await lab.run(create_assignment, newer)
    assert (await class_grade(lab))[0] == "80.00"
    await lab.run_jobs()

    assert (await class_grade(lab))[0] == "40.00"


async def test_grades_and_class_that_do_not_see_each_other_are_brought_together_by_the_job(
    concurrent_lab: HandlerLab,
) -> None:
    lab = concurrent_lab
    await lab.run(create_assignment, assignment(0))

    async with lab.running(create_class, school_class()):
        await lab.run(calculate_grades, [grade(0, 8)])
    await lab.run_jobs()

    assert await class_grade(lab) == ("80.00", "80.00", "B")


@pytest.mark.parametrize("assignment_is_first", [True, False])
async def test_a_student_who_joins_beside_an_assignment_gets_it(
    concurrent_lab: HandlerLab, assignment_is_first: bool
) -> None:
    lab = concurrent_lab
    await lab.run(create_class, school_class())
    given_out: tuple[Any, Any] = create_assignment, assignment(4)

    if assignment_is_first:  # it has looked for students when the enrolment commits
        async with lab.running(*given_out):
            await lab.run(enroll_students, [enrolment(DAYS[1], class_id=CLASS)])
            later = asyncio.create_task(lab.run(*JOBS["open work"]))
            await lab.waits_for_a_lock()
        await later
    else:
        await lab.run(enroll_students, [enrolment(DAYS[1], class_id=CLASS)])
        await beside(lab, JOBS["open work"], given_out)

    assert await lab.value("select count(*) from student_assignments") == 1

