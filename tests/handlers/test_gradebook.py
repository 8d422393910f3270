"""Gradebook: grades that come in any order, what they add up to, and who hears of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.gradebook import ClassGradeChanged
from skillcore_streams.handlers.gradebook import audit_grades, calculate_grades, create_assignment, watch_grade
from skillcore_streams.handlers.rostering import create_class, create_school
from skillcore_streams.queues.grade_processing import NO_PERIOD, SOON, RecalculateClass
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
from skillcore_streams.runtime import PermanentError, derive_id
from skillcore_streams.testing import NOW, TENANT, Done, HandlerLab, given
from tests.handlers.village import (
    CLASS,
    DAYS,
    HOMEWORK,
    SCHOOL,
    STUDENT,
    TESTS,
    assignment,
    assignment_id,
    at,
    class_grade,
    enrolment,
    grade,
    school,
    school_class,
    session,
    weighed,
)

OTHER, OTHER_CLASS = UUID(int=2), UUID(int=301)
PERIOD = derive_id("session", SCHOOL, "first quarter")


async def class_with(lab: HandlerLab, *work: Any) -> None:
    """A class of the school whose template weighs homework, tests and projects, with this work."""
    await weighed(lab)
    await lab.run(create_class, school_class())
    for each in work:
        await lab.run(create_assignment, each)


def changes(done: Done) -> list[ClassGradeChanged]:
    return [e for e in done.published if isinstance(e, ClassGradeChanged)]


# Grades ---------------------------------------------------------------------------------------------------------------


async def test_a_grade_makes_the_class_grade_and_says_so(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0), assignment(1, 50, TESTS))

    done = await lab.run(calculate_grades, [grade(0, 9), grade(1, 40)])

    assert await class_grade(lab) == ("83.33", "83.33", "B")  # (30 · 90 + 60 · 80) / 90
    [changed] = changes(done)
    assert changed.current_score == Decimal("83.33333333333333333333333333")
    assert (changed.old_current_score, changed.letter, changed.old_letter) == (None, "B", None)
    assert (changed.class_id, changed.student_id, changed.calc_version) == (CLASS, STUDENT, 1)
    assert changed.meta.causation_id == grade(1, 40).meta.id


async def test_the_lowest_homework_is_dropped_and_work_not_done_lowers_only_the_final_score(lab: HandlerLab) -> None:
    await class_with(lab, *(assignment(n) for n in range(4)))

    await lab.run(calculate_grades, [grade(0, 3), grade(1, 9), grade(2, 8)])

    assert await class_grade(lab) == ("85.00", "66.67", "B")


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_a_grade_the_newer_counts(lab: HandlerLab, newer_first: bool) -> None:
    await class_with(lab, assignment(0))
    older, newer = grade(0, 4, hour=10), grade(0, 9, hour=11)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(calculate_grades, [event])

    assert await class_grade(lab) == ("90.00", "90.00", "A")
    assert await lab.value("select count(*) from grades") == 1


async def test_of_two_words_at_one_time_the_same_one_counts_whichever_comes_first(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))
    words = [grade(0, 4, id="one"), grade(0, 9, id="two")]
    await lab.run(calculate_grades, words)
    first = await class_grade(lab)

    for event in reversed(words):
        await lab.run(calculate_grades, [event])

    assert await class_grade(lab) == first


async def test_only_what_changes_is_published_and_kept_as_history(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0), assignment(1))
    first = await lab.run(calculate_grades, [grade(0, 8)])
    again = await lab.run(calculate_grades, [grade(0, 8)])
    worth_the_same = await lab.run(calculate_grades, [grade(0, "8.0", hour=15)])
    better = await lab.run(calculate_grades, [grade(0, 9, hour=16)])

    assert [len(changes(d)) for d in (first, again, worth_the_same, better)] == [1, 0, 0, 1]
    [change] = changes(better)
    assert (change.old_current_score, change.current_score, change.calc_version) == (Decimal(80), Decimal(90), 2)
    assert await lab.rows("select calc_version, current_score::int, as_of from grade_history order by 1") == [
        {"calc_version": 1, "current_score": 80, "as_of": at(DAYS[3], 12)},
        {"calc_version": 2, "current_score": 90, "as_of": at(DAYS[3], 16)},
    ]


async def test_a_grade_that_is_not_posted_is_kept_and_not_told(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0), assignment(1))
    await lab.run(calculate_grades, [grade(0, 8)])

    done = await lab.run(calculate_grades, [grade(1, 2, posted=False)])

    assert changes(done) == []
    assert (await class_grade(lab))[0] == "80.00"
    row = "select unposted_current_score::int, unposted_final_score::int, calc_version from student_class_grades"
    [kept] = await lab.rows(row)
    assert tuple(kept.values()) == (80, 80, 1)  # 2 of 10 is the one that is dropped

    await lab.run(calculate_grades, [grade(0, 4, hour=15, posted=False)])
    [kept] = await lab.rows(row)
    assert tuple(kept.values()) == (40, 40, 2)


async def test_excused_and_missing_work(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0), assignment(1), assignment(2, 10, TESTS))

    await lab.run(calculate_grades, [grade(0, excused=True), grade(1, 8), grade(2, missing=True)])

    assert await class_grade(lab) == ("26.67", "26.67", "F")  # (30 · 80 + 60 · 0) / 90


async def test_a_class_whose_school_has_no_template_counts_every_point_alike(lab: HandlerLab) -> None:
    await lab.run(create_class, school_class())
    await lab.run(create_assignment, assignment(0))
    await lab.run(create_assignment, assignment(1, 40, TESTS))

    await lab.run(calculate_grades, [grade(0, 10), grade(1, 20)])

    assert (await class_grade(lab))[0] == "60.00"


async def test_the_school_s_own_letters_are_given(lab: HandlerLab) -> None:
    await lab.run(create_school, school())
    await lab.execute("update letter_scales set min_percent = 93 where letter = 'A'")
    await class_with(lab, assignment(0))

    await lab.run(calculate_grades, [grade(0, 9)])

    assert await class_grade(lab) == ("90.00", "90.00", "B")


async def test_a_student_who_came_later_owes_only_what_was_due_from_then_on(lab: HandlerLab) -> None:
    await class_with(lab, *(assignment(n, 10, TESTS) for n in range(3)))
    await lab.deliver([enrolment(DAYS[3], class_id=CLASS)])
    await lab.run(calculate_grades, [grade(1, 9)])

    assert await class_grade(lab) == ("90.00", "45.00", "A")  # the first was due the day before


async def test_grades_of_many_students_and_classes_are_told_apart(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))
    await lab.run(create_class, school_class(OTHER_CLASS))
    await lab.run(create_assignment, assignment(0, class_id=OTHER_CLASS))

    done = await lab.run(calculate_grades, [
        grade(0, 9), grade(0, 5, student=OTHER), grade(0, 7, class_id=OTHER_CLASS),
    ])

    assert (await class_grade(lab))[0] == "90.00"
    assert (await class_grade(lab, OTHER))[0] == "50.00"
    assert (await class_grade(lab, class_id=OTHER_CLASS))[0] == "70.00"
    assert {(e.class_id, e.student_id): e.meta.causation_id for e in changes(done)} == {
        (CLASS, STUDENT): grade(0, 9).meta.id, (CLASS, OTHER): grade(0, 5, student=OTHER).meta.id,
        (OTHER_CLASS, STUDENT): grade(0, 7, class_id=OTHER_CLASS).meta.id,
    }


async def test_a_grade_given_to_the_wrong_student_is_taken_back(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))
    wrong = grade(0, 9, student=OTHER)
    await lab.run(calculate_grades, [wrong])

    right = grade(0, 9, hour=15, grade_id=wrong.grade_id)
    done = await lab.run(calculate_grades, [right])

    assert (await class_grade(lab))[0] == "90.00"
    assert await class_grade(lab, OTHER) == (None, None, None)
    assert {(e.student_id, e.current_score) for e in changes(done)} == {(STUDENT, Decimal(90)), (OTHER, None)}


async def test_of_two_grades_for_one_assignment_the_newer_counts(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))

    await lab.run(calculate_grades, [grade(0, 9, hour=15, grade_id=UUID(int=5)), grade(0, 2, hour=10)])

    assert (await class_grade(lab))[0] == "90.00"


@pytest.mark.parametrize(
    "bad", [{"score": Decimal("1e12")}, {"points_possible": Decimal(-1)}, {"old_score": Decimal("0.0000001")}]
)
async def test_points_that_no_school_gives_are_refused_for_good(lab: HandlerLab, bad: dict[str, Any]) -> None:
    impossible = grade(0, **bad)

    for handler in (calculate_grades, audit_grades):
        with pytest.raises(PermanentError) as refused:
            await lab.run(handler, [impossible])
        assert "12" not in str(refused.value)


async def test_one_bad_grade_of_a_chunk_does_not_keep_the_others(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))

    await lab.deliver([grade(0, 9), grade(0, "1e12", student=OTHER)])

    assert (await class_grade(lab))[0] == "90.00"
    assert await lab.value("select count(*) from dead_letter") == 2  # of the calculation and of the audit


# In any order ---------------------------------------------------------------------------------------------------------


async def test_a_grade_before_its_assignment_counts_when_it_comes(lab: HandlerLab) -> None:
    await class_with(lab)

    early = await lab.run(calculate_grades, [grade(0, 9)])
    [order] = early.orders
    assert (order.job, order.delay) == (RecalculateClass(class_id=CLASS), SOON)
    assert await class_grade(lab) == (None, None, None)
    done = await lab.run(create_assignment, assignment(0))
    assert RecalculateClass(class_id=CLASS) in done.enqueued
    await lab.settle()

    assert await class_grade(lab) == ("90.00", "90.00", "A")


async def test_a_grade_before_its_class_counts_when_it_comes(lab: HandlerLab) -> None:
    await weighed(lab)
    await lab.run(create_assignment, assignment(0))
    await lab.run(calculate_grades, [grade(0, 9)])
    await lab.settle()
    assert await class_grade(lab) == (None, None, None)

    done = await lab.run(create_class, school_class())
    assert RecalculateClass(class_id=CLASS) in done.enqueued
    await lab.settle()

    assert await class_grade(lab) == ("90.00", "90.00", "A")


async def test_nothing_is_ordered_once_all_is_known(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0))

    done = await lab.run(calculate_grades, [grade(0, 9)])

    assert done.orders == []


@pytest.mark.parametrize("periods_known", [True, False])
async def test_the_grading_period_is_that_of_the_newest_grade_else_the_class_s_term(
    lab: HandlerLab, periods_known: bool
) -> None:
    if periods_known:
        await lab.deliver([session([], title="first quarter", type="gradingPeriod", start_date=DAYS[0],
                                   end_date=DAYS[20])])
    await class_with(lab, assignment(0))

    [change] = changes(await lab.run(calculate_grades, [grade(0, 9)]))

    assert change.grading_period_id == (PERIOD if periods_known else UUID(int=600))


async def test_a_class_without_terms_has_no_grading_period(lab: HandlerLab) -> None:
    await lab.run(create_class, school_class(term_ids=[]))
    await lab.run(create_assignment, assignment(0))

    [change] = changes(await lab.run(calculate_grades, [grade(0, 9)]))

    assert change.grading_period_id == NO_PERIOD


# The audit ------------------------------------------------------------------------------------------------------------


async def test_every_word_on_a_grade_is_audited_once(lab: HandlerLab) -> None:
    words = [grade(0, 9, hour=15, old_score=Decimal(4), reason="recounted", grader_id=UUID(int=7)), grade(0, 4, hour=9)]

    for _ in range(2):
        await lab.run(audit_grades, words)

    rows = await lab.rows("select score::int, old_score::int, reason, grader_id, event_key from grade_audit order by 1")
    assert [tuple(row.values()) for row in rows] == [
        (4, None, None, None, words[1].meta.key), (9, 4, "recounted", UUID(int=7), words[0].meta.key),
    ]


async def closed_quarter(lab: HandlerLab, closed_at: datetime) -> None:
    """The first 20 days were a grading period, which is closed."""
    quarter = {"type": "gradingPeriod", "start_date": DAYS[0], "end_date": DAYS[20]}
    await lab.deliver([session([], title="first quarter", **quarter)])
    await lab.execute(
        "insert into grading_period_locks values ($1, $2, $3, $4, $5)", TENANT, SCHOOL, PERIOD, closed_at, UUID(int=9)
    )


@pytest.mark.parametrize(
    ("assigned", "day", "hour", "late"),
    [
        (0, 25, 12, True),  # of the quarter, after it was closed
        (0, 25, 11, False),  # at the very moment
        (0, 3, 12, False),  # in time
        (22, 26, 12, False),  # of the next quarter
    ],
)
async def test_a_grade_changed_after_its_period_was_closed_alerts_the_school(
    lab: HandlerLab, assigned: int, day: int, hour: int, late: bool
) -> None:
    await closed_quarter(lab, at(DAYS[25], 11))
    await class_with(lab, assignment(assigned))
    word = grade(assigned, 9, day=day, hour=hour)

    first, again = [await lab.run(audit_grades, [word]) for _ in range(2)]

    alerts = await lab.rows("select student_id, kind, severity, detail, raised_at from student_alerts")
    assert alerts == [{
        "student_id": STUDENT, "kind": "late_grade_change", "severity": "high", "detail": str(CLASS),
        "raised_at": word.graded_at,
    }] * late
    notices = [o.job for o in first.orders]
    assert [(n.recipient_id, n.template, n.subject_id) for n in notices if isinstance(n, DeliverNotification)] == [
        (SCHOOL, "grading.late_change", word.meta.key)
    ] * late
    assert again.orders == []


@pytest.mark.parametrize("missing", ["assignment", "class"])
async def test_a_late_change_shows_when_the_rest_arrives(lab: HandlerLab, missing: str) -> None:
    await closed_quarter(lab, at(DAYS[25], 11))
    known, later = [school_class(), assignment(0)] if missing == "assignment" else [assignment(0), school_class()]
    await lab.deliver([known])
    await lab.deliver([grade(0, 9, day=26)])
    await lab.settle()
    assert await lab.value("select count(*) from student_alerts where kind = 'late_grade_change'") == 0

    await lab.deliver([later])
    await lab.settle()

    assert await lab.value("select count(*) from student_alerts where kind = 'late_grade_change'") == 1
    assert await lab.value("select count(*) from job where payload::jsonb->>'template' = 'grading.late_change'") == 1


# Assignments ----------------------------------------------------------------------------------------------------------


async def work_of(lab: HandlerLab) -> set[tuple[UUID, UUID]]:
    rows = await lab.rows("select student_id, assignment_id from student_assignments")
    return {(r["student_id"], r["assignment_id"]) for r in rows}


@pytest.mark.parametrize(
    ("begin", "end", "theirs"),
    [
        (DAYS[0], None, True),
        (DAYS[2], None, True),  # came on the day it was due
        (DAYS[3], None, False),  # came after it was due
        (DAYS[0], DAYS[0], True),  # left on the day it was given
        (DAYS[0] - timedelta(days=9), DAYS[0] - timedelta(days=1), False),  # left before it was given
    ],
)
@pytest.mark.parametrize("enrolment_first", [True, False])
async def test_an_assignment_is_the_work_of_those_who_are_there(
    lab: HandlerLab, begin: Any, end: Any, theirs: bool, enrolment_first: bool
) -> None:
    come = enrolment(begin, class_id=CLASS)
    given_out = assignment(0)
    if enrolment_first:
        await lab.deliver([come])
        await lab.execute("update enrollments set end_date = $1", end)
        await lab.deliver([given_out])
    else:
        await lab.deliver([given_out])
        await lab.deliver([come])
        await lab.execute("update enrollments set end_date = $1", end)
    await lab.settle()

    assert await work_of(lab) == ({(STUDENT, assignment_id(0))} if theirs else set())


async def test_work_that_is_not_published_or_of_another_class_is_nobody_s(lab: HandlerLab) -> None:
    await lab.deliver([enrolment(class_id=CLASS), enrolment(DAYS[1])])

    await lab.run(create_assignment, assignment(0, published=False))
    await lab.run(create_assignment, assignment(1, class_id=OTHER_CLASS))

    assert await work_of(lab) == set()


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_an_assignment_the_newer_stays_and_says_whose_it_is(
    lab: HandlerLab, newer_first: bool
) -> None:
    await lab.deliver([enrolment(DAYS[3], class_id=CLASS)])
    older = assignment(0, 20, due_at=None, id="older")
    newer = assignment(0, 10, said=NOW, id="newer")  # due before the student came

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(create_assignment, event)

    assert await lab.value("select points_possible::int from assignments") == 10
    assert await work_of(lab) == set()


async def test_what_was_handed_in_or_missed_stays_the_student_s(lab: HandlerLab) -> None:
    await lab.deliver([enrolment(class_id=CLASS)])
    await lab.run(create_assignment, assignment(0, id="older"))
    await lab.execute("update student_assignments set status = 'submitted'")

    await lab.run(create_assignment, assignment(0, published=False, said=NOW, id="newer"))

    assert await work_of(lab) == {(STUDENT, assignment_id(0))}


async def test_a_newer_version_of_an_assignment_stays(lab: HandlerLab) -> None:
    await lab.run(create_assignment, assignment(0, 10))
    await lab.execute("update assignments set version = 1, points_possible = 30, deleted_at = $1", NOW)

    await lab.run(create_assignment, assignment(0, 10, said=NOW, id="again"))

    assert await lab.value("select points_possible::int from assignments") == 30
    assert await lab.value("select deleted_at from assignments") == NOW


async def test_students_are_reminded_a_day_before_work_is_due(lab: HandlerLab) -> None:
    lab.now = datetime(2021, 9, 1, 20, tzinfo=UTC)

    first, again = [await lab.run(create_assignment, assignment(0, said=lab.now)) for _ in range(2)]

    [order] = first.orders
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.recipient_id, order.job.recipient_role) == (CLASS, "students_of")
    assert (order.delay, order.priority) == (timedelta(days=6), LOW)  # due on the 8th at 20:00
    assert [o.id for o in again.orders] == [order.id]


@pytest.mark.parametrize("fields", [{"due_at": None}, {"published": False}, {"due_at": NOW + timedelta(hours=24)}])
async def test_nobody_is_reminded_of_what_is_due_soon_or_never(lab: HandlerLab, fields: dict[str, Any]) -> None:
    done = await lab.run(create_assignment, assignment(0, **fields))

    assert done.orders == []


# Failing grades -------------------------------------------------------------------------------------------------------


async def alerts(lab: HandlerLab) -> dict[str, bool]:
    """kind -> whether it stands."""
    rows = await lab.rows("select kind, resolved_at is null as stands from student_alerts where student_id = $1",
                          STUDENT)
    return {r["kind"]: r["stands"] for r in rows}


async def graded(lab: HandlerLab, *words: Any) -> list[Done]:
    """Grades one after another, each followed by what the alert's handler does."""
    done = []
    for word in words:
        for change in changes(await lab.run(calculate_grades, [word])):
            done.append(await lab.run(watch_grade, change))
    return done


async def test_a_failing_grade_is_told_once_and_resolved_when_it_recovers(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0, 10, TESTS), assignment(1, 10, TESTS), assignment(2, 10, TESTS))

    first, second, third = await graded(lab, grade(0, "5.9"), grade(1, "5.8"), grade(2, 7))
    assert await alerts(lab) == {"failing_grade": False}

    [again] = await graded(lab, grade(2, 2, hour=15))
    assert (await alerts(lab))["failing_grade"]
    told = [o.job for o in first.orders if isinstance(o.job, DeliverNotification)]
    assert [(n.recipient_id, n.recipient_role, n.template) for n in told] == [
        (STUDENT, "guardians_of", "grading.failing_grade"), (STUDENT, "staff_of", "grading.failing_grade"),
    ]
    assert DetectRisk(student_id=STUDENT) in first.enqueued
    assert all(o.priority == NORMAL for o in first.orders_of(DeliverNotification))
    assert (second.orders, third.orders) == ([], [])
    occasions = {o.id for o in again.orders_of(DeliverNotification)}
    assert len(occasions) == 4  # it dropped sharply, too
    assert not occasions & {o.id for o in first.orders_of(DeliverNotification)}


@pytest.mark.parametrize(
    ("after", "days", "dropped"),
    [
        ("8.0", 1, True),  # from 100 to 90: ten points
        ("8.1", 1, False),  # 90.5
        ("8.0", 10, True),  # ten school days are fourteen days
        ("8.0", 11, False),  # the drop took longer
    ],
)
async def test_ten_points_within_fourteen_days_are_a_sharp_drop(
    lab: HandlerLab, after: str, days: int, dropped: bool
) -> None:
    await class_with(lab, assignment(0, 10, TESTS), assignment(1, 10, TESTS))

    await graded(lab, grade(0, 10, day=5), grade(1, after, day=5 + days))

    assert (await alerts(lab)).get("grade_drop", False) is dropped


async def test_an_older_answer_is_not_judged(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0, 10, TESTS))
    [bad] = changes(await lab.run(calculate_grades, [grade(0, 3)]))
    [good] = changes(await lab.run(calculate_grades, [grade(0, 9, hour=15)]))

    for change in (good, bad):
        done = await lab.run(watch_grade, change)
        assert done.orders == []

    assert await alerts(lab) == {}


async def test_the_school_s_letters_say_what_fails(lab: HandlerLab) -> None:
    await lab.run(create_school, school())
    await lab.execute("update letter_scales set min_percent = 65 where letter = 'D'")
    await class_with(lab, assignment(0, 10, TESTS))

    await graded(lab, grade(0, "6.4"))

    assert await alerts(lab) == {"failing_grade": True}


async def test_a_change_of_a_grade_nobody_has_is_passed_over(lab: HandlerLab) -> None:
    change = ClassGradeChanged(
        class_id=CLASS, student_id=STUDENT, grading_period_id=NO_PERIOD, current_score=Decimal(3), calc_version=1
    )

    done = await lab.run(watch_grade, given(change))

    assert done.orders == []
    assert await alerts(lab) == {}


async def test_a_grade_that_is_gone_is_neither_failing_nor_dropped(lab: HandlerLab) -> None:
    await class_with(lab, assignment(0, 10, TESTS))

    await graded(lab, grade(0, 3), grade(0, None, hour=15, excused=True))

    assert await alerts(lab) == {"failing_grade": False}
    assert await lab.value("select category_id from assignments") == TESTS != HOMEWORK
