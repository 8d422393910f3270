"""Rostering: schools, their calendars, and who belongs where."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from skillcore_streams.events.chat import ChatMemberJoined, ChatRoomCreated, RoomPolicy
from skillcore_streams.events.fields import Role
from skillcore_streams.events.rostering import (
    AcademicSessionCreated,
    ClassCreated,
    SchoolCreated,
    StudentEnrolled,
    TeacherAssigned,
)
from skillcore_streams.queues.attendance_aggregation import SOON, SchoolYear, StudentYear
from skillcore_streams.queues.compliance_reporting import (
    AcknowledgeAccommodations,
    AcknowledgeInClass,
    ServiceMinutesOfSchool,
)
from skillcore_streams.queues.grade_processing import OpenWork, RecalculateClass
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
from skillcore_streams.rules.calendar import school_year
from skillcore_streams.rules.grades import ALL_WORK, LETTERS
from skillcore_streams.runtime import Context, derive_id, on

CLOSES_IN = timedelta(days=3)
"""How long before a grading period ends its teachers are reminded."""

SYSTEM = derive_id("system")
"""Who acts when nobody did."""

CODES = {
    "P": "present", "Present": "present", "In Attendance": "present", "AE": "absent_excused",
    "Excused Absence": "absent_excused", "AU": "absent_unexcused", "Unexcused Absence": "absent_unexcused",
    "T": "tardy", "Tardy": "tardy", "ED": "early_departure", "Early departure": "early_departure", "Partial": "partial",
}
"""Short codes and Ed-Fi 5.2's words, for a school that has named none of its own."""

BELLS = {str(period): 50 for period in range(1, 8)}
RETENTION = {  # FERPA sets no period; IDEA: 34 CFR 300.624; a state's schedule replaces these
    "attendance": (7, "state retention schedule"),
    "grades": (60, "permanent record, 34 CFR 300.624"),
    "special_education": (7, "34 CFR 300.624, after parents are told"),
    "audit": (7, "34 CFR 99.32(a)(2): as long as the record"),
}

BY_POINTS = json.dumps([{"id": str(ALL_WORK), "name": "All work", "weight": "100"}])
"""Categories of a class whose school has no template: one, in which every point counts alike (Canvas' default)."""

SAVE_ORG = """
    insert into orgs as o (tenant_id, org_id, sourced_id, parent_org_id, name, type, timezone, grade_levels, nces_id,
                           said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (tenant_id, org_id) do update
       set sourced_id = excluded.sourced_id, parent_org_id = excluded.parent_org_id, name = excluded.name,
           type = excluded.type, timezone = excluded.timezone, grade_levels = excluded.grade_levels,
           nces_id = excluded.nces_id, said_at = excluded.said_at, said_by = excluded.said_by
     where (o.said_at, o.said_by) < (excluded.said_at, excluded.said_by)"""

DEFAULT_CODES = """
    insert into attendance_codes select $1, $2, * from unnest($3::text[], $4::text[]) on conflict do nothing"""
DEFAULT_LETTERS = """
    insert into letter_scales select $1, $2, * from unnest($3::text[], $4::numeric[]) on conflict do nothing"""
DEFAULT_BELLS = """
    insert into bell_schedule select $1, $2, * from unnest($3::text[], $4::int[]) on conflict do nothing"""
DEFAULT_RETENTION = """
    insert into retention_policies select $1, * from unnest($2::text[], $3::int[], $4::text[]) on conflict do nothing"""

SAVE_SESSION = """
    insert into academic_sessions as s (tenant_id, session_id, school_id, type, title, start_date, end_date, parent_id,
                                        instructional_days, said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (tenant_id, session_id) do update
       set school_id = excluded.school_id, type = excluded.type, title = excluded.title,
           start_date = excluded.start_date, end_date = excluded.end_date, parent_id = excluded.parent_id,
           instructional_days = excluded.instructional_days, said_at = excluded.said_at, said_by = excluded.said_by
     where (s.said_at, s.said_by) < (excluded.said_at, excluded.said_by)"""

FORGET_CALENDAR = "delete from school_calendar_days where tenant_id = $1 and school_id = $2 returning day"

NUMBER_CALENDAR = """
    insert into school_calendar_days (tenant_id, school_id, day, school_year, ordinal)
    select $1, $2, day, school_year(day), row_number() over (partition by school_year(day) order by day)
      from (select distinct unnest(instructional_days) as day from academic_sessions
             where tenant_id = $1 and school_id = $2) days
    returning day"""

SAVE_ENROLLMENTS = """
    insert into enrollments as e (tenant_id, enrollment_id, student_id, class_id, school_id, begin_date, entry_type,
                                  grade_level, said_at, said_by)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::date[], $7::text[], $8::text[],
                         $9::timestamptz[], $10::uuid[])
    on conflict (tenant_id, enrollment_id) do update  -- an end_date already there stays
       set class_id = excluded.class_id, school_id = excluded.school_id, begin_date = excluded.begin_date,
           entry_type = excluded.entry_type, grade_level = excluded.grade_level, said_at = excluded.said_at,
           said_by = excluded.said_by
     where (e.said_at, e.said_by) < (excluded.said_at, excluded.said_by)"""

# Made or locked first: a retried call may run beside a chunk, and whoever comes second must see what the first one did.
HOLD_MEMBERSHIP = """
    insert into student_membership as m (tenant_id, student_id, school_id, begin_date)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::date[])
    on conflict (tenant_id, student_id, school_id) do update set begin_date = m.begin_date where false"""

MEMBERSHIP = """
    update student_membership m set begin_date = e.begin_date
      from (select tenant_id, student_id, school_id, min(begin_date) as begin_date
              from unnest($1::text[], $2::uuid[], $3::uuid[]) as t (tenant_id, student_id, school_id)
              join enrollments using (tenant_id, student_id, school_id)
             group by 1, 2, 3) e
     where (m.tenant_id, m.student_id, m.school_id) = (e.tenant_id, e.student_id, e.school_id)
       and m.begin_date <> e.begin_date"""

SAVE_CLASS = """
    insert into classes (tenant_id, class_id, sourced_id, course_id, school_id, term_ids, title, class_type, periods,
                         grades)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict (tenant_id, class_id) do nothing
    returning 1"""

FIRST_SCHEME = """
    insert into grading_schemes (tenant_id, class_id, version, method, missing_policy, categories)
    select $1, $2, 0, coalesce(t.method, 'points'), coalesce(t.missing_policy, 'zero'), coalesce(t.categories, $4)
      from (values ($1::text, $3::uuid)) as s (tenant_id, school_id)
      left join grading_templates t using (tenant_id, school_id)
    on conflict do nothing"""

HAS_GRADES = "select exists (select from grades where tenant_id = $1 and class_id = $2)"

# Returns the class that the assignment was to before, or null when a later word stands.
SAVE_STAFF = """
    with before as (select class_id from class_staff where tenant_id = $1 and assignment_id = $2)
    insert into class_staff as s (tenant_id, assignment_id, class_id, teacher_id, role, begin_date, end_date, said_at,
                                  said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id, assignment_id) do update
       set class_id = excluded.class_id, teacher_id = excluded.teacher_id, role = excluded.role,
           begin_date = excluded.begin_date, end_date = excluded.end_date, said_at = excluded.said_at,
           said_by = excluded.said_by
     where (s.said_at, s.said_by) < (excluded.said_at, excluded.said_by)
    returning coalesce((select class_id from before), class_id)"""


@on(SchoolCreated, name="SchoolCreatedHandler")
async def create_school(event: SchoolCreated, ctx: Context) -> None:
    """The organisation, and defaults that a school may replace by its own."""
    tenant, school = ctx.tenant, event.school_id
    await ctx.db.execute(
        SAVE_ORG, tenant, school, event.sourced_id, event.parent_org_id, event.name, event.type, event.timezone,
        event.grade_levels, event.nces_id, event.meta.time, event.meta.key,
    )
    await ctx.db.execute(DEFAULT_CODES, tenant, school, list(CODES), list(CODES.values()))
    await ctx.db.execute(DEFAULT_LETTERS, tenant, school, *map(list, zip(*LETTERS, strict=True)))
    await ctx.db.execute(DEFAULT_BELLS, tenant, school, list(BELLS), list(BELLS.values()))
    years, bases = [y for y, _ in RETENTION.values()], [b for _, b in RETENTION.values()]
    await ctx.db.execute(DEFAULT_RETENTION, tenant, list(RETENTION), years, bases)
    ctx.enqueue(ServiceMinutesOfSchool(school_id=school), debounce=SOON)  # its weeks begin at its own midnight


@on(AcademicSessionCreated, name="AcademicSessionHandler")
async def create_session(event: AcademicSessionCreated, ctx: Context) -> None:
    """Keep the session, number the school's days anew from all its sessions, and have its students recomputed."""
    tenant, school = ctx.tenant, event.school_id
    await ctx.db.execute(
        SAVE_SESSION, tenant, event.session_id, school, event.type, event.title, event.start_date, event.end_date,
        event.parent_id, sorted(event.instructional_days or ()), event.meta.time, event.meta.key,
    )
    before = {row["day"] for row in await ctx.db.fetch(FORGET_CALENDAR, tenant, school)}
    after = {row["day"] for row in await ctx.db.fetch(NUMBER_CALENDAR, tenant, school)}
    for year in sorted({school_year(day) for day in before ^ after}):
        ctx.enqueue(SchoolYear(school_id=school, school_year=year), debounce=SOON)
    if event.type == "gradingPeriod":
        closes = event.end_date - ctx.now.date() - CLOSES_IN
        if closes > timedelta(0):  # of a period long past, nobody needs reminding
            ctx.enqueue(_period_closes(tenant, event), delay=closes, priority=LOW, unique=f"closes:{event.session_id}")


@on(ClassCreated, name="ClassCreationHandler")
async def create_class(event: ClassCreated, ctx: Context) -> None:
    """The class with its first grading scheme, and a room to talk in. Grades that came first are computed by a job."""
    tenant, class_id = ctx.tenant, event.class_id
    new = await ctx.db.fetchval(
        SAVE_CLASS, tenant, class_id, event.sourced_id, event.course_id, event.school_id, event.term_ids, event.title,
        event.class_type, event.periods, event.grades,
    )
    await ctx.db.execute(FIRST_SCHEME, tenant, class_id, event.school_id, BY_POINTS)
    if new:
        ctx.publish(ChatRoomCreated(
            room_id=derive_id(class_id), kind="class", class_id=class_id, created_by=SYSTEM,
            member_ids=event.teacher_ids, name=event.title, policy=RoomPolicy(student_dm=False, staff_required=True),
        ))
    if await ctx.db.fetchval(HAS_GRADES, tenant, class_id):
        ctx.enqueue(RecalculateClass(class_id=class_id), debounce=SOON)


@on(TeacherAssigned, name="TeacherAssignmentHandler")
async def assign_teacher(event: TeacherAssigned, ctx: Context) -> None:
    """Who teaches a class. They join its room, hear of it, and are asked about their students' accommodations."""
    tenant, class_id = ctx.tenant, event.class_id
    before = await ctx.db.fetchval(
        SAVE_STAFF, tenant, event.assignment_id, class_id, event.teacher_id, event.role, event.begin_date,
        event.end_date, event.meta.time, event.meta.key,
    )
    if before is None:
        return
    for changed in sorted({before, class_id}):
        ctx.enqueue(AcknowledgeInClass(class_id=changed), debounce=SOON)
    if event.end_date is None or event.end_date >= ctx.now.date():
        role: Role = "aide" if event.role == "aide" else "teacher"
        ctx.publish(_member(class_id, event.teacher_id, role, event.begin_date, ctx))
        ctx.enqueue(
            DeliverNotification(
                notification_id=derive_id(tenant, "assigned", event.assignment_id), recipient_id=event.teacher_id,
                recipient_role="user", template="roster.teacher_assigned", subject_id=event.assignment_id,
            ),
            priority=NORMAL,
            unique=f"assigned:{event.assignment_id}",
        )


@on(StudentEnrolled, name="StudentEnrollmentHandler")
async def enroll_students(events: list[StudentEnrolled], ctx: Context) -> None:
    """Enrolments and memberships. Attendance that came first is recomputed by a job."""
    by_time = sorted(events, key=lambda e: (e.meta.time, e.meta.key))
    rows = [e for _, e in sorted({(e.meta.tenant, e.enrollment_id): e for e in by_time}.items())]
    await ctx.db.execute(
        SAVE_ENROLLMENTS,
        [e.meta.tenant for e in rows], [e.enrollment_id for e in rows], [e.student_id for e in rows],
        [e.class_id for e in rows], [e.school_id for e in rows], [e.begin_date for e in rows],
        [e.entry_type for e in rows], [e.grade_level for e in rows], [e.meta.time for e in rows],
        [e.meta.key for e in rows],
    )
    begins = {(e.meta.tenant, e.student_id, e.school_id): e.begin_date for e in rows}
    members = sorted(begins)
    columns = [m[0] for m in members], [m[1] for m in members], [m[2] for m in members]
    await ctx.db.execute(HOLD_MEMBERSHIP, *columns, [begins[m] for m in members])
    await ctx.db.execute(MEMBERSHIP, *columns)
    for event in rows:
        year = StudentYear(student_id=event.student_id, school_year=school_year(event.begin_date))
        ctx.enqueue(year, cause=event, debounce=SOON)
        ctx.enqueue(AcknowledgeAccommodations(student_id=event.student_id), cause=event, debounce=SOON)
        if event.class_id is not None:
            _join_class(event, event.class_id, ctx)


def _period_closes(tenant: str, event: AcademicSessionCreated) -> DeliverNotification:
    return DeliverNotification(
        notification_id=derive_id(tenant, "period_closes", event.session_id), recipient_id=event.school_id,
        recipient_role="staff_of", template="grading.period_closes", subject_id=event.session_id,
    )


def _member(class_id: UUID, user: UUID, role: Role, begins: date, ctx: Context) -> ChatMemberJoined:
    """Somebody is of a class's room from their first day on, or from now: an event may not speak of the future."""
    joined = min(datetime.combine(begins, time(), UTC), ctx.now)
    return ChatMemberJoined(room_id=derive_id(class_id), user_id=user, role=role, added_by=SYSTEM, joined_at=joined)


def _join_class(event: StudentEnrolled, class_id: UUID, ctx: Context) -> None:
    """A student of a class joins its room, gets its open work, and its teachers hear of it."""
    ctx.publish(_member(class_id, event.student_id, "student", event.begin_date, ctx), cause=event)
    ctx.enqueue(OpenWork(class_id=class_id, student_id=event.student_id), cause=event)
    ctx.enqueue(
        DeliverNotification(
            notification_id=derive_id(event.meta.tenant, "enrolled", event.enrollment_id), recipient_id=class_id,
            recipient_role="staff_of", template="roster.student_enrolled", subject_id=event.enrollment_id,
        ),
        cause=event,
        priority=NORMAL,
        unique=f"enrolled:{event.enrollment_id}",
    )
