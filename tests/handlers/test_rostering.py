"""Rostering: schools with their defaults, calendars made of sessions, students and where they belong."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.chat import ChatMemberJoined, ChatRoomCreated, RoomPolicy
from skillcore_streams.handlers.rostering import (
    BY_POINTS,
    CODES,
    SYSTEM,
    assign_teacher,
    create_class,
    create_school,
    create_session,
    enroll_students,
)
from skillcore_streams.queues.attendance_aggregation import SOON, SchoolYear, StudentYear
from skillcore_streams.queues.compliance_reporting import AcknowledgeAccommodations, AcknowledgeInClass
from skillcore_streams.queues.grade_processing import OpenWork
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
from skillcore_streams.runtime import derive_id
from skillcore_streams.testing import NOW, TENANT, HandlerLab, given
from tests.handlers.village import (
    CLASS,
    DAYS,
    OTHER_SCHOOL,
    SCHOOL,
    STUDENT,
    TEACHER,
    TEMPLATE,
    enrolment,
    school,
    school_class,
    session,
    teacher,
    weighed,
)


async def calendar(lab: HandlerLab, of: UUID = SCHOOL) -> list[tuple[date, int]]:
    rows = await lab.rows("select day, ordinal from school_calendar_days where school_id = $1 order by day", of)
    return [(r["day"], r["ordinal"]) for r in rows]


def numbered(days: list[date]) -> list[tuple[date, int]]:
    return [(day, n) for n, day in enumerate(days, 1)]


# Schools --------------------------------------------------------------------------------------------------------------


async def test_a_school_begins_with_codes_letters_bells_and_retention(lab: HandlerLab) -> None:
    await lab.run(create_school, school())

    assert await lab.value("select name from orgs") == "Lakeside"
    codes = await lab.rows("select code, category from attendance_codes")
    assert {r["code"]: r["category"] for r in codes} == CODES
    assert await lab.value("select sum(minutes) from bell_schedule") == 350
    assert await lab.value("select letter from letter_scales where min_percent <= 85 order by min_percent desc") == "B"
    assert await lab.value("select years from retention_policies where entity = 'attendance'") == 7


async def test_what_a_school_has_set_for_itself_stays(lab: HandlerLab) -> None:
    await lab.run(create_school, school())
    await lab.execute("update bell_schedule set minutes = 80 where period = '1'")
    await lab.execute("update retention_policies set years = 9 where entity = 'audit'")

    await lab.run(create_school, school())

    assert await lab.value("select minutes from bell_schedule where period = '1'") == 80
    assert await lab.value("select years from retention_policies where entity = 'audit'") == 9


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_a_school_the_newer_stays(lab: HandlerLab, newer_first: bool) -> None:
    older = given(school(name="Old name"), at=NOW - timedelta(days=1))
    newer = given(school(name="New name"), at=NOW)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(create_school, event)

    assert await lab.value("select name from orgs") == "New name"


# Calendars ------------------------------------------------------------------------------------------------------------


async def test_a_calendar_is_numbered_over_all_sessions_of_a_school_year(lab: HandlerLab) -> None:
    await lab.run(create_session, session(DAYS[10:20], title="second"))
    await lab.run(create_session, session(DAYS[:12], title="first"))

    assert await calendar(lab) == numbered(DAYS[:20])


async def test_every_school_year_counts_from_one(lab: HandlerLab) -> None:
    july = [date(2022, 7, 5), date(2022, 7, 6)]

    await lab.run(create_session, session([*DAYS[:3], *july]))

    assert await calendar(lab) == numbered(DAYS[:3]) + numbered(july)
    rows = await lab.rows("select distinct school_year from school_calendar_days order by 1")
    assert [r["school_year"] for r in rows] == ["2021-2022", "2022-2023"]


async def test_schools_have_calendars_of_their_own(lab: HandlerLab) -> None:
    await lab.run(create_session, session(DAYS[:3]))

    await lab.run(create_session, session(DAYS[1:3], school=OTHER_SCHOOL))

    assert await calendar(lab) == numbered(DAYS[:3])
    assert await calendar(lab, OTHER_SCHOOL) == numbered(DAYS[1:3])


@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize("left", [[], DAYS[2:5]], ids=["no days", "other days"])
async def test_of_two_words_on_a_session_the_newer_makes_the_calendar(
    lab: HandlerLab, newer_first: bool, left: list[date]
) -> None:
    older, newer = session(DAYS[:5]), session(left, said=NOW)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(create_session, event)

    assert await calendar(lab) == numbered(left)


async def test_years_whose_days_changed_are_recomputed_soon_and_no_others(lab: HandlerLab) -> None:
    july = [date(2022, 7, 5)]
    first = await lab.run(create_session, session(DAYS[:5]))
    semester = await lab.run(create_session, session(DAYS[:3], title="repeats the year's days"))
    moved = await lab.run(create_session, session([*DAYS[:3], *july], said=NOW))

    [order] = first.orders
    assert order.job == SchoolYear(school_id=SCHOOL, school_year="2021-2022")
    assert (order.delay, order.coalesce is None) == (SOON, False)
    assert semester.orders == []
    assert moved.enqueued == [SchoolYear(school_id=SCHOOL, school_year=y) for y in ("2021-2022", "2022-2023")]


async def test_teachers_are_reminded_three_days_before_a_grading_period_ends(lab: HandlerLab) -> None:
    lab.now = datetime(2021, 10, 1, 15, tzinfo=UTC)
    period = session([], type="gradingPeriod", end_date=date(2021, 10, 15))

    first, again = [await lab.run(create_session, given(period, at=lab.now)) for _ in range(2)]

    [order] = first.orders
    assert isinstance(order.job, DeliverNotification)
    assert (order.delay, order.priority, order.job.template) == (timedelta(days=11), LOW, "grading.period_closes")
    assert [o.id for o in again.orders] == [order.id]


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("gradingPeriod", date(2021, 10, 4)),  # in three days: too late for a reminder
        ("gradingPeriod", date(2021, 6, 4)),  # long past
        ("semester", date(2021, 12, 20)),  # not a grading period
    ],
)
async def test_nobody_is_reminded_of_what_is_over_or_has_no_grades(lab: HandlerLab, kind: Any, ends: date) -> None:
    lab.now = datetime(2021, 10, 1, 15, tzinfo=UTC)

    done = await lab.run(create_session, session([], type=kind, end_date=ends))

    assert done.orders == []


# Students -------------------------------------------------------------------------------------------------------------


async def test_a_student_is_a_member_from_the_earliest_enrolment_on(lab: HandlerLab) -> None:
    await lab.run(enroll_students, [enrolment(DAYS[5], class_id=CLASS), enrolment(DAYS[2])])
    await lab.run(enroll_students, [enrolment(DAYS[9], class_id=CLASS)])

    assert await lab.value("select count(*) from enrollments") == 3
    assert await lab.rows("select student_id, school_id, begin_date, end_date from student_membership") == [
        {"student_id": STUDENT, "school_id": SCHOOL, "begin_date": DAYS[2], "end_date": None}
    ]


async def test_an_end_that_is_there_already_stays(lab: HandlerLab) -> None:
    await lab.run(enroll_students, [enrolment()])
    await lab.execute("update enrollments set end_date = $1", DAYS[9])
    await lab.execute("update student_membership set end_date = $1", DAYS[9])

    await lab.run(enroll_students, [given(enrolment(), id="again")])

    assert await lab.value("select end_date from enrollments") == DAYS[9]
    assert await lab.value("select end_date from student_membership") == DAYS[9]


async def test_an_enrolment_orders_the_student_s_year_and_the_accommodations_soon(lab: HandlerLab) -> None:
    done = await lab.run(enroll_students, [enrolment()])

    assert done.enqueued == [
        StudentYear(student_id=STUDENT, school_year="2021-2022"), AcknowledgeAccommodations(student_id=STUDENT),
    ]
    assert all(o.delay == SOON and o.coalesce for o in done.orders)
    assert done.published == []


async def test_an_enrolment_in_a_class_joins_its_room_gets_its_work_and_tells_its_teachers(lab: HandlerLab) -> None:
    event = enrolment(DAYS[3], class_id=CLASS)

    done = await lab.run(enroll_students, [event])

    [joined] = done.published
    assert isinstance(joined, ChatMemberJoined)
    assert (joined.room_id, joined.user_id, joined.added_by) == (derive_id(CLASS), STUDENT, SYSTEM)
    assert joined.joined_at == datetime(2021, 9, 9, tzinfo=UTC)
    assert OpenWork(class_id=CLASS, student_id=STUDENT) in done.enqueued
    [notice] = done.orders_of(DeliverNotification)
    assert isinstance(notice.job, DeliverNotification)
    assert (notice.job.recipient_id, notice.job.recipient_role) == (CLASS, "staff_of")
    assert (notice.priority, notice.job.template) == (NORMAL, "roster.student_enrolled")
    assert notice.id == derive_id(TENANT, "notification-delivery", "deliver", f"enrolled:{event.enrollment_id}")


# Classes --------------------------------------------------------------------------------------------------------------


async def test_a_class_begins_with_its_school_s_scheme_and_a_room(lab: HandlerLab) -> None:
    await weighed(lab, method="percentages", missing_policy="floor50")

    done = await lab.run(create_class, school_class())

    assert await lab.value("select title from classes where class_id = $1", CLASS) == "Algebra"
    [scheme] = await lab.rows("select version, method, missing_policy, categories from grading_schemes")
    assert (scheme["version"], scheme["method"], scheme["missing_policy"]) == (0, "percentages", "floor50")
    assert json.loads(scheme["categories"]) == json.loads(TEMPLATE)
    [room] = done.published
    assert isinstance(room, ChatRoomCreated)
    assert (room.room_id, room.kind, room.class_id, room.created_by) == (derive_id(CLASS), "class", CLASS, SYSTEM)
    assert (room.member_ids, room.name) == ([TEACHER], "Algebra")
    assert room.policy == RoomPolicy(student_dm=False, staff_required=True)
    assert done.orders == []


async def test_without_a_template_every_point_of_a_class_counts_alike(lab: HandlerLab) -> None:
    await weighed(lab)

    await lab.run(create_class, school_class(school=OTHER_SCHOOL))

    assert json.loads(await lab.value("select categories from grading_schemes")) == json.loads(BY_POINTS)


async def test_a_class_that_is_there_already_stays_with_its_scheme_and_its_room(lab: HandlerLab) -> None:
    await lab.run(create_class, school_class())
    await lab.execute("update classes set version = 2, title = 'Geometry'")
    await weighed(lab)

    done = await lab.run(create_class, given(school_class(), id="again"))

    assert done.published == []
    assert await lab.value("select title from classes") == "Geometry"
    assert json.loads(await lab.value("select categories from grading_schemes")) == json.loads(BY_POINTS)


# Teachers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_a_teacher_the_newer_stays(lab: HandlerLab, newer_first: bool) -> None:
    older, newer = given(teacher(role="substitute"), at=NOW - timedelta(days=1)), given(teacher(), at=NOW)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(assign_teacher, event)

    assert await lab.rows("select teacher_id, class_id, role, end_date from class_staff") == [
        {"teacher_id": TEACHER, "class_id": CLASS, "role": "primary", "end_date": None}
    ]


@pytest.mark.parametrize(("as_what", "joins_as"), [("primary", "teacher"), ("co_teacher", "teacher"), ("aide", "aide")])
async def test_a_teacher_joins_the_room_and_hears_of_the_class(lab: HandlerLab, as_what: str, joins_as: str) -> None:
    event = teacher(role=as_what, begin_date=DAYS[3])

    done = await lab.run(assign_teacher, event)

    [joined] = done.published
    assert isinstance(joined, ChatMemberJoined)
    assert (joined.room_id, joined.user_id, joined.role) == (derive_id(CLASS), TEACHER, joins_as)
    assert joined.joined_at == datetime(2021, 9, 9, tzinfo=UTC)
    [order] = done.orders_of(DeliverNotification)
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.recipient_id, order.job.recipient_role, order.priority) == (TEACHER, "user", NORMAL)
    assert order.id == derive_id(TENANT, "notification-delivery", "deliver", f"assigned:{event.assignment_id}")


async def test_an_assignment_of_the_past_is_kept_and_nobody_is_told(lab: HandlerLab) -> None:
    done = await lab.run(assign_teacher, teacher(end_date=DAYS[9]))

    assert await lab.value("select end_date from class_staff") == DAYS[9]
    assert (done.published, done.enqueued) == ([], [AcknowledgeInClass(class_id=CLASS)])


async def test_the_class_s_accommodations_are_asked_about_anew_when_its_teachers_change(lab: HandlerLab) -> None:
    done = await lab.run(assign_teacher, teacher(begin_date=DAYS[5]))

    [order] = done.orders_of(AcknowledgeInClass)
    assert order.job == AcknowledgeInClass(class_id=CLASS)
    assert (order.delay, order.coalesce is None) == (SOON, False)


async def test_a_teacher_who_changes_class_has_both_asked_about(lab: HandlerLab) -> None:
    first = teacher(begin_date=DAYS[5])
    await lab.run(assign_teacher, first)
    moved = given(first.model_copy(update={"class_id": UUID(int=301)}), at=first.meta.time + timedelta(hours=1))

    done = await lab.run(assign_teacher, moved)

    assert {o.job.class_id for o in done.orders_of(AcknowledgeInClass)} == {CLASS, UUID(int=301)}  # type: ignore[union-attr]


@pytest.mark.parametrize("who", ["student", "teacher"])
async def test_who_comes_next_week_is_of_the_room_from_now_on(lab: HandlerLab, who: str) -> None:
    """The door refuses events that speak of the future."""
    lab.now = datetime(2021, 9, 1, 15, tzinfo=UTC)
    coming = (
        (enroll_students, [given(enrolment(DAYS[3], class_id=CLASS), at=lab.now)]) if who == "student"
        else (assign_teacher, given(teacher(begin_date=DAYS[3]), at=lab.now))
    )

    done = await lab.run(*coming)
    await lab.deliver_published()

    [joined] = [e for e in done.published if isinstance(e, ChatMemberJoined)]
    assert joined.joined_at == lab.now
