"""Each handler alone: it writes rows of its event's tenant only, and it is one the catalogue knows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from skillcore_streams import handlers
from skillcore_streams.events.attendance import AttendanceThresholdReached, StudentAbsent
from skillcore_streams.events.gradebook import ClassGradeChanged
from skillcore_streams.handlers.attendance import (
    aggregate_attendance,
    correct_attendance,
    follow_up_threshold,
    notify_of_absence,
)
from skillcore_streams.handlers.compliance import record_consent
from skillcore_streams.handlers.demographics import create_profiles, update_guardians
from skillcore_streams.handlers.gradebook import audit_grades, calculate_grades, create_assignment, watch_grade
from skillcore_streams.handlers.notifications import (
    escalate_failure,
    note_bounce,
    note_delivered_sms,
    note_push,
    note_sent_mail,
    update_preferences,
)
from skillcore_streams.handlers.resources import check_archive, offer_report
from skillcore_streams.handlers.rostering import (
    assign_teacher,
    create_class,
    create_school,
    create_session,
    enroll_students,
)
from skillcore_streams.handlers.special_programs import (
    activate_plan,
    add_goal,
    amend_iep,
    create_iep,
    log_services,
    remind_of_review,
)
from skillcore_streams.queues.attendance_aggregation import (
    SchoolDay,
    SchoolYear,
    StudentYear,
    school_day,
    school_year,
    student_year,
)
from skillcore_streams.queues.compliance_reporting import (
    AcknowledgeAccommodations,
    AcknowledgeInClass,
    DrawUpRegister,
    ServiceMinutes,
    ServiceMinutesOfSchool,
    acknowledge_accommodations,
    acknowledge_in_class,
    draw_up_register,
    service_minutes,
    service_minutes_of_school,
)
from skillcore_streams.queues.data_archival import (
    ArchiveRows,
    RestoreArchive,
    VerifyAndDelete,
    archive_rows,
    restore_archive,
    verify_and_delete,
)
from skillcore_streams.queues.grade_processing import (
    OpenWork,
    RecalculateClass,
    RecalculateStudent,
    open_work,
    recalculate_class,
    recalculate_student,
)
from skillcore_streams.queues.intervention_detection import (
    DetectRisk,
    DetectRiskInSchool,
    detect_risk,
    detect_risk_in_school,
)
from skillcore_streams.queues.notification_delivery import (
    Deliver,
    DeliverGiven,
    DeliverNotification,
    GradeDigest,
    NotificationStats,
    PageOnCall,
    SendBulk,
    SendEmail,
    SendPage,
    TellInactive,
    count_notifications,
    deliver,
    deliver_given,
    order_deliveries,
    page_on_call,
    send_bulk,
    send_email,
    send_grade_digest,
    send_page,
    tell_inactive,
)
from skillcore_streams.queues.report_generation import (
    AttendanceLetter,
    GenerateReport,
    attendance_letter,
    generate_report,
)
from skillcore_streams.runtime import Event, Job, derive_id
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.testing import NOW, HandlerLab, given, rolled_back, undone
from tests.handlers.plans import (
    BEGIN,
    GUARDIAN,
    MATH,
    a_plan,
    amendment,
    goal,
    iep,
    later,
    plan504,
    review,
    service,
    teaches,
)
from tests.handlers.test_compliance import consent
from tests.handlers.test_demographics import USER as WHO
from tests.handlers.test_demographics import guardian, user
from tests.handlers.test_notifications import bounced, delivered, failed, preferences, pushed, sent, told
from tests.handlers.test_resources import completed, generated
from tests.handlers.village import (
    CLASS,
    DAYS,
    SCHOOL,
    STUDENT,
    TEACHER,
    YEAR,
    assignment,
    at,
    class_mark,
    correction,
    enrolment,
    grade,
    mark,
    school,
    school_class,
    session,
    teacher,
)

CATALOG = json.loads((Path(__file__).parents[2] / "schemas" / "catalog.json").read_text())
EAST, WEST = "east", "west"
CUTOFF = date(2023, 1, 1)
ID = UUID(int=88)


def archive_of(tenant: str) -> UUID:
    """The archive that an eventful autumn ends with."""
    return derive_id(tenant, "archive", "attendance_audit", "", CUTOFF, "remove")


handlers.load()

TENANT_TABLES = """
    select t.table_name
      from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
     where c.column_name = 'tenant_id' and t.table_schema = 'public' and t.table_type = 'BASE TABLE'
       and t.table_name !~ '^event_'"""

wrong = mark(1, tenant=EAST)
shorter = session(DAYS[5:9], said=NOW, tenant=EAST)
MESSAGES: dict[Callable[..., Awaitable[None]], list[Event] | list[Job]] = {  # what each does most with
    aggregate_attendance: [*(mark(n, tenant=EAST) for n in range(25)), class_mark(1, 30, tenant=EAST)],
    correct_attendance: [correction(wrong, "present")],
    notify_of_absence: [given(
        StudentAbsent(
            student_id=STUDENT, school_id=SCHOOL, date=DAYS[2], excused=False, consecutive_days=3, guardian_ids=[]
        ),
        tenant=EAST,
    )],
    follow_up_threshold: [given(
        AttendanceThresholdReached(
            student_id=STUDENT, school_id=SCHOOL, school_year=YEAR, threshold="chronic_10", days_enrolled=20,
            days_absent=2, rate="0.1", as_of=DAYS[19],
        ),
        tenant=EAST,
    )],
    create_school: [given(school(name="East"), tenant=EAST)],
    create_session: [shorter],
    enroll_students: [enrolment(DAYS[0].replace(month=8), tenant=EAST, class_id=UUID(int=7))],
    create_class: [school_class(UUID(int=7), tenant=EAST)],
    assign_teacher: [teacher(class_id=UUID(int=7), tenant=EAST)],
    calculate_grades: [grade(0, 3, tenant=EAST, hour=15), grade(9, 3, tenant=EAST)],
    audit_grades: [grade(1, 3, day=30, tenant=EAST)],
    create_assignment: [assignment(5, tenant=EAST)],
    watch_grade: [given(
        ClassGradeChanged(
            class_id=CLASS, student_id=STUDENT, grading_period_id=UUID(int=600), current_score="1", calc_version=99
        ),
        tenant=EAST,
    )],
    open_work: [given(OpenWork(class_id=CLASS, student_id=STUDENT), tenant=EAST)],
    recalculate_student: [given(RecalculateStudent(class_id=CLASS, student_id=STUDENT), tenant=EAST)],
    recalculate_class: [given(RecalculateClass(class_id=CLASS), tenant=EAST)],
    create_profiles: [user("teacher", email="east@x.edu", tenant=EAST)],
    update_guardians: [guardian(2, UUID(int=9), id=GUARDIAN, custody="restricted", phone=None, tenant=EAST)],
    create_iep: [iep(at=later(50), case_manager_id=TEACHER, begin=BEGIN.replace(day=13), tenant=EAST)],
    add_goal: [goal(at=later(50), tenant=EAST)],
    remind_of_review: [review(BEGIN.replace(year=2022), "14", tenant=EAST)],
    amend_iep: [amendment(2, BEGIN.replace(month=12), tenant=EAST)],
    log_services: [service(at(day), 5, type="reading", tenant=EAST) for day in DAYS[3:30:3]],
    activate_plan: [plan504(BEGIN.replace(year=2023), BEGIN.replace(month=12), at=later(100), tenant=EAST)],
    acknowledge_accommodations: [given(AcknowledgeAccommodations(student_id=STUDENT), tenant=EAST)],
    acknowledge_in_class: [given(AcknowledgeInClass(class_id=MATH), tenant=EAST)],
    service_minutes: [given(ServiceMinutes(student_id=STUDENT), tenant=EAST)],
    service_minutes_of_school: [given(ServiceMinutesOfSchool(school_id=SCHOOL), tenant=EAST)],
    offer_report: [generated(tenant=EAST)],
    check_archive: [completed(tenant=EAST)],
    record_consent: [consent("revoked", days=3, tenant=EAST)],
    detect_risk: [given(DetectRisk(student_id=STUDENT), tenant=EAST)],
    detect_risk_in_school: [given(DetectRiskInSchool(school_id=SCHOOL), tenant=EAST)],
    draw_up_register: [given(DrawUpRegister(name="iep_timeliness", period="2022-2023"), tenant=EAST)],
    generate_report: [given(GenerateReport(
        report_id=UUID(int=4003), kind="final_gradebook", format="csv", params={"class_id": str(CLASS)},
        requested_by=TEACHER,
    ), tenant=EAST)],
    attendance_letter: [given(
        AttendanceLetter(student_id=STUDENT, school_year=YEAR, threshold="chronic_10"), tenant=EAST
    )],
    archive_rows: [given(ArchiveRows(entity="grade_audit", cutoff=CUTOFF, remove=True), tenant=EAST)],
    verify_and_delete: [given(VerifyAndDelete(archive_id=archive_of(EAST)), tenant=EAST)],
    restore_archive: [given(RestoreArchive(archive_id=archive_of(EAST)), tenant=EAST)],
    school_day: [given(SchoolDay(school_id=SCHOOL, day=DAYS[1]), tenant=EAST)],
    student_year: [given(StudentYear(student_id=STUDENT, school_year=YEAR), tenant=EAST)],
    school_year: [given(SchoolYear(school_id=SCHOOL, school_year=YEAR), tenant=EAST)],
    note_sent_mail: [told(sent(), tenant=EAST)],
    note_delivered_sms: [told(delivered(), tenant=EAST)],
    note_push: [told(pushed(result="unregistered"), tenant=EAST)],
    note_bounce: [told(bounced(), tenant=EAST)],
    escalate_failure: [told(failed(priority="critical"), tenant=EAST)],
    update_preferences: [told(preferences(), tenant=EAST)],
    order_deliveries: [given(DeliverNotification(
        notification_id=ID, recipient_id=WHO, recipient_role="user", template="user.welcome", subject_id=WHO),
        tenant=EAST)],
    deliver: [given(Deliver(delivery_id=ID), tenant=EAST)],
    deliver_given: [given(DeliverGiven(channel="email", recipient="a@x.example", content="x"), tenant=EAST)],
    send_email: [given(SendEmail(user_id=WHO), tenant=EAST)],
    send_bulk: [given(SendBulk(user_ids=[WHO]), tenant=EAST)],
    send_page: [given(SendPage(notification_id=ID, user_ids=[WHO], variables={}), tenant=EAST)],
    send_grade_digest: [given(GradeDigest(student_id=WHO, grades=[], day="2022-01-01"), tenant=EAST)],
    tell_inactive: [given(TellInactive(user_id=WHO), tenant=EAST)],
    page_on_call: [given(PageOnCall(dedup_key="k", summary="s", severity="info", source="t"), tenant=EAST)],
    count_notifications: [given(NotificationStats(day=NOW.date()), tenant=EAST)],
}


async def of(lab: HandlerLab, tenant: str) -> dict[str, list[str]]:
    """Every row of the tenant, table by table."""
    tables = [row["table_name"] for row in await lab.rows(TENANT_TABLES)]
    assert len(tables) > 20
    return {
        table: sorted(str(row) for row in await lab.rows(f"select * from {table} where tenant_id = $1", tenant))
        for table in tables
    }


async def an_eventful_autumn(lab: HandlerLab, tenant: str) -> None:
    """Rows in every table, of the very uuids that the others use."""
    await teaches(lab, TEACHER, tenant=tenant)
    await lab.deliver([
        given(school(), tenant=tenant), session(tenant=tenant), enrolment(tenant=tenant),
        user("teacher", email="a@x.edu", tenant=tenant), user("student", id=STUDENT, tenant=tenant),
        *(mark(n, tenant=tenant) for n in range(22)),
        class_mark(1, 40, tenant=tenant), correction(mark(15, tenant=tenant), "present"),
        *a_plan(tenant),
        school_class(tenant=tenant), teacher(tenant=tenant), enrolment(tenant=tenant, class_id=CLASS),
        enrolment(DAYS[1], tenant=tenant, class_id=UUID(int=7)), assignment(0, tenant=tenant),
        assignment(1, tenant=tenant), session([], title="quarter", type="gradingPeriod", end_date=DAYS[20],
                                              tenant=tenant),
        grade(0, 9, tenant=tenant), grade(1, 4, tenant=tenant), grade(1, 2, hour=14, tenant=tenant),
    ])
    await lab.execute(
        "insert into grading_period_locks values ($1, $2, $3, $4, $5) on conflict do nothing", tenant, SCHOOL,
        derive_id("session", SCHOOL, "quarter"), at(DAYS[22]), SCHOOL,
    )
    await lab.settle()
    old = ArchiveRows(entity="attendance_audit", cutoff=CUTOFF, remove=True)
    await lab.run(archive_rows, given(old, tenant=tenant))
    await lab.execute("""
        insert into notification_deliveries (tenant_id, delivery_id, notification_id, recipient_id, owner, channel,
                                             template, subject_id, ordered_at)
        values ($1, $2, $2, $3, 'user', 'email', 'user.welcome', $3, $4)""", tenant, ID, WHO, lab.now)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told_twice(migrated_dsn: str) -> AsyncIterator[HandlerLab]:
    """Both tenants have had the same autumn. Telling it takes longer than all that is tried on it."""
    async with rolled_back(migrated_dsn) as lab:
        for tenant in (EAST, WEST):
            await an_eventful_autumn(lab, tenant)
        yield lab


@pytest_asyncio.fixture(loop_scope="module")
async def autumn(told_twice: HandlerLab) -> AsyncIterator[HandlerLab]:
    """The same for every test: what one does is undone."""
    async with undone(told_twice):
        yield told_twice


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("function", MESSAGES, ids=lambda f: f.__name__)
async def test_a_handler_of_one_tenant_leaves_the_rows_of_another_alone(
    autumn: HandlerLab, function: Callable[..., Awaitable[None]]
) -> None:
    lab = autumn
    before, east = await of(lab, WEST), await of(lab, EAST)
    # what stands in the east is undone first, so that each handler has something to do there
    for table in (
        "absence_notices", "truancy_cases", "chronic_absence_status", "school_attendance_daily", "compliance_deadlines",
        "accommodation_acks", "service_minutes_weekly", "recipient_blocks", "student_assignments",
    ):
        await lab.execute(f"delete from {table} where tenant_id = $1", EAST)
    await lab.execute("update student_class_grades set current_score = 1 where tenant_id = $1", EAST)

    await lab.run(function, MESSAGES[function])

    after = await of(lab, WEST)
    assert {table: rows for table, rows in after.items() if rows != before[table]} == {}
    assert sum(map(len, east.values())) > 100


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("function", MESSAGES, ids=lambda f: f.__name__)
async def test_everything_a_handler_writes_belongs_to_its_event_s_tenant(
    autumn: HandlerLab, function: Callable[..., Awaitable[None]]
) -> None:
    tables = [row["table_name"] for row in await autumn.rows(TENANT_TABLES)]
    others = "select count(*) from {} where tenant_id is distinct from $1"
    before = {table: await autumn.value(others.format(table), EAST) for table in tables}

    done = await autumn.run(function, MESSAGES[function])

    assert {table: await autumn.value(others.format(table), EAST) for table in tables} == before
    assert {e.meta.tenant for e in done.published} | {o.meta.tenant for o in done.orders} <= {EAST}


def test_every_registered_handler_is_tried_here() -> None:
    jobs = [h for h in REGISTRY.jobs() if issubclass(h.message, Job) and not h.message.__queue__.internal]
    registered = {h.function for h in [*REGISTRY.events(), *jobs]}  # internal queues are of no tenant

    assert {f for f in registered if f.__module__.startswith("skillcore_streams.")} == set(MESSAGES)


def test_handlers_are_those_of_the_catalogue_for_the_events_it_names() -> None:
    known: dict[str, Any] = {entry["id"]: entry["event"] for entry in CATALOG["handlers"]}
    ours = [h for h in REGISTRY.events() if h.function.__module__.startswith("skillcore_streams.")]

    assert {h.id: h.message.__name__ for h in ours} == {h.id: known.get(h.id) for h in ours}
