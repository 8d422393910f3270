"""Special programs: who is told of an IEP, when it is reviewed, whether its services are given, who must know of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.interventions import InterventionAssigned
from skillcore_streams.events.special_programs import IEPServiceDelivered
from skillcore_streams.handlers.special_programs import (
    activate_plan,
    add_goal,
    amend_iep,
    create_iep,
    log_services,
    remind_of_review,
)
from skillcore_streams.queues.compliance_reporting import SOON, AcknowledgeAccommodations, ServiceMinutes
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.runtime import Context, derive_id
from skillcore_streams.runtime.context import Effects
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.testing import TENANT, Done, HandlerLab
from tests.handlers.plans import (
    ART,
    BEGIN,
    COORDINATOR,
    GUARDIAN,
    IEP,
    MANAGER,
    MATH,
    PLAN,
    SAID,
    amendment,
    deadlines,
    goal,
    iep,
    later,
    plan504,
    review,
    service,
    teaches,
)
from tests.handlers.village import STUDENT, TEACHER, at, enrolment, school

ANNUAL, TRIENNIAL = BEGIN + timedelta(days=360), BEGIN + timedelta(days=800)
SECOND = UUID(int=501)
OTHER_TEACHER = UUID(int=210)


def told(done: Done, template: str) -> list[tuple[UUID, str]]:
    """Whom the notifications of a template go to."""
    jobs = [job for job in done.enqueued if isinstance(job, DeliverNotification) and job.template == template]
    return [(job.recipient_id, job.recipient_role) for job in jobs]


# IEPs -----------------------------------------------------------------------------------------------------------------


async def test_an_iep_has_a_caseload_and_two_deadlines_and_is_told_to_those_who_answer_for_it(lab: HandlerLab) -> None:
    event = iep()

    done = await lab.run(create_iep, event)

    assert await lab.rows("select iep_id, coordinator_id, case_manager_id from program_caseload") == [
        {"iep_id": IEP, "coordinator_id": COORDINATOR, "case_manager_id": MANAGER}
    ]
    assert await deadlines(lab, "kind", "due_date", "owner_id", "stage", "closed_on") == [
        ("annual_review", ANNUAL, MANAGER, None, None), ("triennial", TRIENNIAL, MANAGER, None, None),
    ]
    assert told(done, "iep.created") == [(COORDINATOR, "user"), (MANAGER, "user")]
    assert {order.priority for order in done.orders} == {NORMAL}
    [first, _] = done.orders
    unique = f"iep.created:{IEP}:{COORDINATOR}"
    assert first.id == derive_id(TENANT, "notification-delivery", "deliver", unique)


async def test_a_coordinator_who_manages_the_case_is_told_once(lab: HandlerLab) -> None:
    done = await lab.run(create_iep, iep(case_manager_id=COORDINATOR))
    alone = await lab.run(create_iep, iep(id=SECOND, case_manager_id=None))

    assert told(done, "iep.created") == told(alone, "iep.created") == [(COORDINATOR, "user")]


async def test_an_annual_review_is_due_at_most_365_days_after_the_iep_began(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep(annual_review_due=BEGIN + timedelta(days=500)))

    assert (await deadlines(lab, "due_date"))[0] == (BEGIN + timedelta(days=365),)


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_an_iep_the_newer_stays(lab: HandlerLab, newer_first: bool) -> None:
    older = iep(setting="inclusion")
    newer = iep(at=later(1), setting="resource room", begin=BEGIN + timedelta(days=7), case_manager_id=None)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(create_iep, event)

    assert await lab.value("select setting from ieps") == "resource room"
    assert await lab.value("select case_manager_id from program_caseload") is None
    assert await deadlines(lab, "due_date", "owner_id") == [
        (ANNUAL + timedelta(days=7), COORDINATOR), (TRIENNIAL + timedelta(days=7), COORDINATOR),
    ]


async def test_an_older_word_on_an_iep_tells_nobody(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep(at=later(1)))

    done = await lab.run(create_iep, iep(coordinator_id=UUID(int=999)))

    assert (done.orders, done.published) == ([], [])


@pytest.mark.parametrize("later_first", [True, False])
async def test_the_next_iep_takes_the_place_of_the_one_before(lab: HandlerLab, later_first: bool) -> None:
    next_year = BEGIN + timedelta(days=350)
    first, second = iep(), iep(id=SECOND, begin=next_year, at=later(300), coordinator_id=UUID(int=7))

    for event in (second, first) if later_first else (first, second):
        await lab.run(create_iep, event)

    assert await lab.value("select iep_id from program_caseload") == SECOND
    assert await deadlines(lab, "subject_id", "kind", "completed_on", "closed_on") == [
        (IEP, "annual_review", None, next_year), (SECOND, "annual_review", None, None),
        (IEP, "triennial", None, next_year), (SECOND, "triennial", None, None),
    ]


# Goals ----------------------------------------------------------------------------------------------------------------


async def test_a_goal_has_an_aim_line_and_an_intervention_by_the_case_manager(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())
    event = goal()

    done = await lab.run(add_goal, event)

    [row] = await lab.rows("select baseline, target, aim_line_slope, start_date from iep_goals")
    assert tuple(row.values()) == (Decimal(20), Decimal(60), Decimal(1), SAID.date())  # 40 words in 40 weeks
    [assigned] = done.published
    assert isinstance(assigned, InterventionAssigned)
    assert (assigned.intervention_id, assigned.tier, assigned.source) == (derive_id(event.goal_id), 3, "iep_goal")
    assert (assigned.start_date, assigned.end_date) == (SAID.date(), event.target_date)
    assert (assigned.baseline, assigned.target, assigned.interventionist_id) == (Decimal(20), Decimal(60), MANAGER)
    [order] = done.orders
    assert order.job == DetectRisk(student_id=STUDENT)
    assert (order.delay, order.coalesce is None) == (SOON, False)


async def test_a_goal_before_its_iep_is_handed_to_the_case_manager_when_it_comes(lab: HandlerLab) -> None:
    early = await lab.run(add_goal, goal())
    elsewhere = await lab.run(add_goal, goal(iep=SECOND))

    done = await lab.run(create_iep, iep())
    again = await lab.run(create_iep, iep(at=later(1)))
    moved = await lab.run(create_iep, iep(at=later(2), case_manager_id=COORDINATOR))

    def who(done: Done) -> list[tuple[UUID, UUID | None]]:
        assigned = (e for e in done.published if isinstance(e, InterventionAssigned))
        return [(e.intervention_id, e.interventionist_id) for e in assigned]

    mine = derive_id(goal().goal_id)
    assert who(early) == [(mine, None)]
    assert [manager for _, manager in who(elsewhere)] == [None]
    assert who(done) == [(mine, MANAGER)]
    assert who(again) == []
    assert who(moved) == [(mine, COORDINATOR)]


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_a_goal_the_newer_stays(lab: HandlerLab, newer_first: bool) -> None:
    older, newer = goal(), goal(at=later(7), target=Decimal(80), baseline=None)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(add_goal, event)

    assert await lab.rows("select target, aim_line_slope from iep_goals") == [{"target": 80, "aim_line_slope": None}]


async def test_a_goal_whose_date_is_past_is_assigned_for_that_day(lab: HandlerLab) -> None:
    done = await lab.run(add_goal, goal(target_date=BEGIN - timedelta(days=30)))

    [assigned] = done.published
    assert isinstance(assigned, InterventionAssigned)
    assert assigned.start_date == assigned.end_date == BEGIN - timedelta(days=30)
    assert await lab.value("select aim_line_slope from iep_goals") is None


# Reviews --------------------------------------------------------------------------------------------------------------


async def test_a_reminder_moves_the_deadline_s_stage_and_tells_team_and_guardians(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())

    done = await lab.run(remind_of_review, review(ANNUAL, "90"))

    assert await deadlines(lab, "kind", "stage") == [("annual_review", "90"), ("triennial", None)]
    assert told(done, "iep.review_due") == [(COORDINATOR, "user"), (MANAGER, "user")]
    assert told(done, "iep.meeting_notice") == [(GUARDIAN, "guardian")]
    assert len({order.id for order in done.orders}) == 3


async def test_a_stage_is_told_once_whoever_says_it(lab: HandlerLab) -> None:
    first = await lab.run(remind_of_review, review(ANNUAL, "60"))
    again = await lab.run(remind_of_review, review(ANNUAL, "60", at=later(1)))
    nearer = await lab.run(remind_of_review, review(ANNUAL, "30", at=later(30)))

    assert [len(done.orders) for done in (first, again, nearer)] == [3, 0, 3]
    assert await lab.value("select count(*) from reminder_log") == 2


async def test_stages_only_go_forward(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())

    seen = []
    for stage in ("60", "90", "overdue", "14", "30"):
        await lab.run(remind_of_review, review(ANNUAL, stage))
        seen.append((await deadlines(lab, "stage"))[0][0])

    assert seen == ["60", "60", "overdue", "overdue", "overdue"]


async def test_a_stage_belongs_to_its_due_date_and_kind(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())

    await lab.run(remind_of_review, review(ANNUAL + timedelta(days=1), "30"))
    await lab.run(remind_of_review, review(ANNUAL, "14", review_type="amendment"))
    await lab.run(remind_of_review, review(TRIENNIAL, "60", review_type="triennial"))

    assert await deadlines(lab, "kind", "stage") == [("annual_review", None), ("triennial", "60")]


async def test_a_reminder_before_its_iep_is_a_deadline_until_the_iep_knows_better(lab: HandlerLab) -> None:
    await lab.run(remind_of_review, review(ANNUAL, "60"))
    before = await deadlines(lab, "kind", "due_date", "stage", "owner_id")
    await lab.run(create_iep, iep())

    assert before == [("annual_review", ANNUAL, "60", None)]
    assert await deadlines(lab, "kind", "due_date", "stage", "owner_id") == [
        ("annual_review", ANNUAL, "60", MANAGER), ("triennial", TRIENNIAL, None, MANAGER),
    ]


# Amendments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_a_completed_review_closes_the_open_one_and_opens_the_next(
    lab: HandlerLab, order: tuple[int, ...]
) -> None:
    held = date(2022, 3, 1)
    said: list[tuple[Any, Any]] = [(create_iep, iep()), (amend_iep, amendment(1)), (amend_iep, amendment(2, held))]

    for n in order:
        await lab.run(*said[n])

    assert [d for d in await deadlines(lab, "kind", "opened_on", "due_date", "completed_on", "closed_on")
            if d[0] == "annual_review"] == [
        ("annual_review", BEGIN, ANNUAL, held, held),
        ("annual_review", held, held + timedelta(days=365), None, None),
    ]


async def test_reviews_follow_from_the_highest_version_whatever_comes_late(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())
    await lab.run(amend_iep, amendment(3, date(2022, 8, 1)))

    await lab.run(amend_iep, amendment(2, date(2022, 2, 1)))
    await lab.run(amend_iep, amendment(1))

    found = await deadlines(lab, "kind", "due_date", "completed_on")
    assert [row[1:] for row in found if row[0] == "annual_review"] == [
        (ANNUAL, date(2022, 2, 1)), (date(2023, 2, 1), date(2022, 8, 1)), (date(2023, 8, 1), None),
    ]


async def test_a_version_is_kept_as_it_was_sent(lab: HandlerLab) -> None:
    event = amendment(4, date(2022, 2, 1))

    await lab.run(amend_iep, event)

    [row] = await lab.rows("select version, effective_date, review_completed_on, snapshot from iep_versions")
    assert (row["version"], row["effective_date"], row["review_completed_on"]) == (4, BEGIN, date(2022, 2, 1))
    assert json.loads(row["snapshot"]) == event.model_dump(mode="json")


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_words_on_a_version_the_newer_stays(lab: HandlerLab, newer_first: bool) -> None:
    older, newer = amendment(1, date(2022, 2, 1)), amendment(1, at=later(30))
    await lab.run(create_iep, iep())

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(amend_iep, event)

    assert await deadlines(lab, "kind", "completed_on") == [("annual_review", None), ("triennial", None)]


async def test_reviews_of_an_iep_that_never_came_are_known_from_what_was_completed(lab: HandlerLab) -> None:
    held = date(2022, 2, 1)

    await lab.run(amend_iep, amendment(3, held))

    assert await deadlines(lab, "kind", "due_date", "closed_on") == [
        ("annual_review", held + timedelta(days=365), None)
    ]


async def test_what_a_sweep_has_told_of_a_deadline_stays_until_its_due_date_moves(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())
    await lab.execute("update compliance_deadlines set escalation = 7")

    await lab.run(amend_iep, amendment(1))
    kept = await deadlines(lab, "kind", "escalation")
    await lab.run(create_iep, iep(at=later(1), annual_review_due=ANNUAL - timedelta(days=9)))

    assert kept == [("annual_review", 7), ("triennial", 7)]
    assert await deadlines(lab, "kind", "escalation") == [("annual_review", None), ("triennial", 7)]


# Teachers -------------------------------------------------------------------------------------------------------------


async def asked(lab: HandlerLab) -> list[tuple[Any, ...]]:
    """(plan, version, teacher) of acknowledgements that are asked for."""
    rows = await lab.rows("""
        select plan, version, teacher_id from accommodation_acks where withdrawn_at is null order by 1, 2, 3""")
    return [tuple(row.values()) for row in rows]


async def in_classes(lab: HandlerLab, *classes: UUID, student: UUID = STUDENT) -> None:
    await lab.deliver([enrolment(BEGIN, student=student, class_id=c, enrollment_id=derive_id(student, c))
                       for c in classes])


async def test_teachers_of_the_student_s_classes_must_acknowledge_an_amendment(lab: HandlerLab) -> None:
    await in_classes(lab, MATH, ART)
    for teacher, where in ((TEACHER, MATH), (TEACHER, ART), (OTHER_TEACHER, ART), (UUID(int=5), UUID(int=6))):
        await teaches(lab, teacher, where)

    done = await lab.run(amend_iep, amendment(1))
    again = await lab.run(amend_iep, amendment(1, at=later(9)))

    assert await asked(lab) == [("iep", "1", TEACHER), ("iep", "1", OTHER_TEACHER)]
    assert told(done, "iep.acknowledge") == [(TEACHER, "user"), (OTHER_TEACHER, "user")]
    assert told(again, "iep.acknowledge") == []
    [order] = done.orders_of(AcknowledgeAccommodations)
    assert (order.delay, order.coalesce is None) == (SOON, False)


async def test_an_iep_that_was_never_amended_names_nothing_to_acknowledge(lab: HandlerLab) -> None:
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER)

    await lab.deliver([iep()])
    await lab.settle()

    assert await asked(lab) == []


async def test_a_newer_version_withdraws_what_was_asked_and_not_acknowledged(lab: HandlerLab) -> None:
    await in_classes(lab, MATH, ART)
    await teaches(lab, TEACHER)
    await teaches(lab, OTHER_TEACHER, ART)
    await lab.run(amend_iep, amendment(1))
    await lab.execute("update accommodation_acks set acknowledged_at = $1 where teacher_id = $2", SAID, TEACHER)

    await lab.run(amend_iep, amendment(2))
    late = await lab.run(amend_iep, amendment(0, at=later(0.5)))

    assert await asked(lab) == [("iep", "1", TEACHER), ("iep", "2", TEACHER), ("iep", "2", OTHER_TEACHER)]
    assert told(late, "iep.acknowledge") == []


async def test_who_teaches_the_student_no_more_is_not_asked(lab: HandlerLab) -> None:
    today = lab.now.date()
    await in_classes(lab, MATH, ART)
    await teaches(lab, TEACHER, end=today)  # the last day is a day
    await teaches(lab, OTHER_TEACHER, end=today - timedelta(days=1))
    await teaches(lab, UUID(int=8), ART)
    await lab.execute("update enrollments set end_date = $2 where class_id = $1", ART, today - timedelta(days=1))

    await lab.run(amend_iep, amendment(1))

    assert await asked(lab) == [("iep", "1", TEACHER)]


async def test_today_is_the_school_s(lab: HandlerLab) -> None:
    lab.now = datetime(2022, 7, 1, 3, tzinfo=UTC)  # still June in Chicago
    await lab.deliver([school()])
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER, end=date(2022, 6, 30))

    await lab.run(amend_iep, amendment(1))

    assert await asked(lab) == [("iep", "1", TEACHER)]


async def test_an_iep_that_has_ended_or_was_replaced_is_not_to_be_acknowledged(lab: HandlerLab) -> None:
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER)
    await lab.run(amend_iep, amendment(1))
    await lab.run(amend_iep, amendment(1, iep=SECOND))
    unknown = await asked(lab)

    await lab.run(create_iep, iep(end_date=lab.now.date() - timedelta(days=1)))
    ended = await asked(lab)
    await lab.run(create_iep, iep(at=later(1)))
    await lab.run(create_iep, iep(id=SECOND, begin=BEGIN + timedelta(days=30)))

    assert len(unknown) == 2
    assert ended == [("iep", "1", TEACHER)]  # of the second, which has not come
    [row] = await lab.rows("select plan_id from accommodation_acks where withdrawn_at is null")
    assert row["plan_id"] == SECOND


# Section 504 ----------------------------------------------------------------------------------------------------------


async def test_a_504_plan_has_accommodations_a_review_and_teachers_who_must_know(lab: HandlerLab) -> None:
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER)
    event = plan504(codes=("breaks", "extended time", "breaks"))

    done = await lab.run(activate_plan, event)

    assert await lab.rows("select n, code from accommodations order by n") == [
        {"n": 1, "code": "breaks"}, {"n": 2, "code": "extended time"}, {"n": 3, "code": "breaks"},
    ]
    assert await deadlines(lab, "kind", "subject_id", "opened_on", "due_date", "owner_id") == [
        ("504_review", PLAN, BEGIN, event.review_due, COORDINATOR)
    ]
    assert await asked(lab) == [("504", str(event.meta.key), TEACHER)]
    assert told(done, "section504.acknowledge") == [(TEACHER, "user")]
    assert told(done, "section504.activated") == [(COORDINATOR, "user")]


@pytest.mark.parametrize("newer_first", [True, False])
async def test_of_two_activations_the_newer_stands_and_the_older_one_s_review_is_closed(
    lab: HandlerLab, newer_first: bool
) -> None:
    held = date(2022, 5, 2)
    older = plan504(codes=("breaks", "seat in front"))
    newer = plan504(date(2023, 6, 1), held, at=later(240), codes=("breaks",), coordinator_id=MANAGER)

    for event in (newer, older) if newer_first else (older, newer):
        await lab.run(activate_plan, event)

    assert await lab.value("select array_agg(code) from accommodations") == ["breaks"]
    assert await lab.value("select coordinator_id from section504_plans") == MANAGER
    assert await deadlines(lab, "due_date", "completed_on", "closed_on", "owner_id") == [
        (older.review_due, held, held, MANAGER), (date(2023, 6, 1), None, None, MANAGER),
    ]


async def test_an_activation_that_came_late_changes_nothing_that_stands(lab: HandlerLab) -> None:
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER)
    newer = plan504(at=later(9))
    await lab.run(activate_plan, newer)

    done = await lab.run(activate_plan, plan504())

    assert done.orders == []
    assert await asked(lab) == [("504", str(newer.meta.key), TEACHER)]


async def test_another_504_plan_takes_the_place_of_the_first(lab: HandlerLab) -> None:
    begins = BEGIN + timedelta(days=100)
    await in_classes(lab, MATH)
    await teaches(lab, TEACHER)

    second = plan504(id=SECOND, begin_date=begins, at=later(100), due=begins + timedelta(days=365))
    await lab.run(activate_plan, plan504())
    await lab.run(activate_plan, second)

    assert await deadlines(lab, "subject_id", "closed_on") == [(PLAN, begins), (SECOND, None)]
    assert await asked(lab) == [("504", str(second.meta.key), TEACHER)]


# Services -------------------------------------------------------------------------------------------------------------

MONDAYS = [BEGIN + timedelta(weeks=n) for n in range(8)]


async def weeks(lab: HandlerLab) -> list[tuple[Any, ...]]:
    rows = await lab.rows("select week, delivered, credited, mandated from service_minutes_weekly order by week")
    return [tuple(row.values()) for row in rows]


async def alerts(lab: HandlerLab) -> list[str]:
    rows = await lab.rows("""
        select detail from student_alerts where kind = 'service_shortfall' and resolved_at is null order by 1""")
    return [row["detail"] for row in rows]


async def test_a_week_s_minutes_are_added_up_beside_the_mandate(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep(minutes={"speech": 60, "reading": 100}))

    done = await lab.run(log_services, [
        service(at(MONDAYS[0]), 30), service(at(MONDAYS[0], 10), 50, type="reading"),
        service(at(MONDAYS[0] + timedelta(days=4)), 40), service(at(MONDAYS[1]), 20),
        service(at(MONDAYS[1], 10), 20, type="music"),
        service(at(MONDAYS[1], 11), 45, missed_reason="provider ill"),
    ])

    assert await weeks(lab) == [
        (MONDAYS[0], 120, 110, 160),  # ten minutes of speech too many make up for no reading
        (MONDAYS[1], 40, 20, 160),  # music is in no IEP, and what was missed was not given
    ]
    assert done.enqueued == [ServiceMinutes(student_id=STUDENT)]
    assert done.orders[0].delay == SOON


async def test_an_entry_said_twice_counts_once_and_a_corrected_one_as_it_was_said_last(lab: HandlerLab) -> None:
    await lab.run(create_iep, iep())
    first = service(at(MONDAYS[0]), 30)
    moved = service(at(MONDAYS[1]), 25, at=later(60), service_log_id=first.service_log_id)

    seen = []
    for chunk in ([first, first], [moved], [first]):
        await lab.run(log_services, chunk)
        seen.append(await weeks(lab))

    assert seen == [[(MONDAYS[0], 30, 30, 60)], [(MONDAYS[1], 25, 25, 60)], [(MONDAYS[1], 25, 25, 60)]]


async def test_services_before_their_iep_have_no_mandate_until_it_comes(lab: HandlerLab) -> None:
    await lab.run(log_services, [service(at(monday), 10) for monday in MONDAYS[:3]])
    before = await weeks(lab), await alerts(lab)

    await lab.run(create_iep, iep())

    assert before == ([(monday, 10, 0, None) for monday in MONDAYS[:3]], [])
    assert await weeks(lab) == [(monday, 10, 10, 60) for monday in MONDAYS[:3]]
    assert await alerts(lab) == [str(MONDAYS[1]), str(MONDAYS[2])]


async def test_a_mandate_holds_for_weeks_that_are_the_iep_s_from_monday_to_friday(lab: HandlerLab) -> None:
    wednesday = MONDAYS[1] + timedelta(days=2)
    friday = MONDAYS[4] + timedelta(days=4)
    await lab.run(create_iep, iep(begin=wednesday, end_date=friday))
    await lab.run(create_iep, iep(id=SECOND, begin=MONDAYS[3], end_date=friday, minutes={"speech": 90}))

    await lab.run(log_services, [service(at(monday), 30) for monday in MONDAYS[:6]])

    assert [mandated for *_, mandated in await weeks(lab)] == [None, None, 60, 90, 90, None]


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([60, 60, 60], []),
        ([47, 60, 47], []),  # never two running
        ([47, 47, 60], [1]),
        ([48, 47, 47], [2]),  # 48 of 60 is 80 %
        ([47, 47, 47], [1, 2]),
        ([0, None, 0], []),  # nobody logged anything in between
    ],
)
async def test_two_weeks_running_below_80_percent_are_a_shortfall(
    lab: HandlerLab, minutes: list[int | None], expected: list[int]
) -> None:
    await lab.run(create_iep, iep())

    for n, given_minutes in enumerate(minutes):
        if given_minutes is not None:
            await lab.run(log_services, [service(at(MONDAYS[n]), given_minutes)])

    assert await alerts(lab) == [str(MONDAYS[n]) for n in expected]


async def test_a_shortfall_is_resolved_by_what_is_logged_late_and_stands_again_when_that_is_taken_back(
    lab: HandlerLab,
) -> None:
    await lab.run(create_iep, iep())
    await lab.run(log_services, [service(at(monday), 10) for monday in MONDAYS[:3]])
    late = service(at(MONDAYS[1], 14), 60)

    seen = [await alerts(lab)]
    for event in (late, service(at(MONDAYS[1], 14), 0, at=later(90), service_log_id=late.service_log_id)):
        await lab.run(log_services, [event])
        seen.append(await alerts(lab))

    both = [str(MONDAYS[1]), str(MONDAYS[2])]
    assert seen == [both, [], both]


async def test_a_week_is_judged_when_it_is_over_and_an_order_waits_for_that(lab: HandlerLab) -> None:
    await lab.deliver([school(), enrolment()])
    await lab.run(create_iep, iep())
    await lab.run(log_services, [service(at(MONDAYS[0]), 10)])
    lab.now = datetime(2021, 9, 16, 15, tzinfo=UTC)  # a Thursday

    done = await lab.run(log_services, [service(at(MONDAYS[1], 15), 10)])
    running = await alerts(lab)
    lab.now = datetime(2021, 9, 20, 5, tzinfo=UTC)  # Monday's first second in Chicago
    await lab.run_jobs()

    [order] = [o for o in done.orders_of(ServiceMinutes) if o.coalesce is None]
    assert order.delay == datetime(2021, 9, 20, 5, tzinfo=UTC) - datetime(2021, 9, 16, 15, tzinfo=UTC)
    assert running == []
    assert await alerts(lab) == [str(MONDAYS[1])]


@pytest.mark.parametrize("school_first", [True, False])
async def test_a_session_late_on_sunday_is_of_the_school_s_week(lab: HandlerLab, school_first: bool) -> None:
    sunday_evening = datetime(2021, 9, 20, 2, tzinfo=UTC)  # 21:00 in Chicago
    events = [school(), enrolment(), service(sunday_evening, 30)]

    for event in events if school_first else reversed(events):
        await lab.deliver([event])
    await lab.settle()

    assert await weeks(lab) == [(MONDAYS[1], 30, 0, None)]


class Counting:
    """A transaction that counts the statements it is given."""

    def __init__(self, db: Any) -> None:
        self.db, self.statements = db, 0

    def __getattr__(self, name: str) -> Any:
        self.statements += 1
        return getattr(self.db, name)


async def test_a_chunk_of_many_students_takes_as_many_statements_as_one_of_two(lab: HandlerLab) -> None:
    students = [UUID(int=1000 + n) for n in range(200)]
    for student in students[:3]:
        await lab.run(create_iep, iep(student=student, id=derive_id(student)))
    sessions = [service(at(MONDAYS[n]), 10, student=student) for student in students for n in range(3)]

    taken = []
    for chunk in (sessions[:6], sessions[6:]):
        async with lab.transaction() as db:
            counting = Counting(db)
            ctx = Context(REGISTRY.of(IEPServiceDelivered)[0], chunk, db=counting, clock=lambda: lab.now,
                          effects=Effects.none(), lane="lab")
            await log_services(chunk, ctx)
        taken.append(counting.statements)

    assert await lab.value("select count(*) from service_minutes_weekly where delivered = 10") == 600
    assert await alerts(lab) == sorted([str(MONDAYS[1]), str(MONDAYS[2])] * 3)
    assert taken[0] == taken[1] < 12
