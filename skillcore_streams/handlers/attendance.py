"""Attendance: days, rates, thresholds, and who must be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.attendance import (
    AttendanceCorrected,
    AttendanceMarked,
    AttendanceThresholdReached,
    StudentAbsent,
)
from skillcore_streams.queues.attendance_aggregation import SOON, SchoolDay, YearOf, recompute_years, settle_status
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.queues.report_generation import AttendanceLetter
from skillcore_streams.rules.attendance import TRUANT_AFTER, SectionMark, day_from_sections, run_around
from skillcore_streams.rules.calendar import school_year
from skillcore_streams.runtime import Context, NotYet, derive_id, on

GRACE = timedelta(minutes=10)
"""How long a teacher has to correct an absence before the family is told."""

NO_CLASS = UUID(int=0)
PERIOD_MINUTES = 50
DAY_MINUTES = 7 * PERIOD_MINUTES
"""Of schools whose bell schedule is not known yet."""

SAVE_DAYS = """
    insert into attendance_day as a (tenant_id, student_id, day, school_year, school_id, category, code, attendance_id,
                                     minutes_missed, arrival_time, said_at, said_by)
    select * from unnest($1::text[], $2::uuid[], $3::date[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::uuid[],
                         $9::int[], $10::time[], $11::timestamptz[], $12::uuid[])
    on conflict (tenant_id, student_id, day) do update
       set school_id = excluded.school_id, category = excluded.category, code = excluded.code,
           attendance_id = excluded.attendance_id, minutes_missed = excluded.minutes_missed,
           arrival_time = excluded.arrival_time, said_at = excluded.said_at, said_by = excluded.said_by
     where a.attendance_id is null or (a.said_at, a.said_by) < (excluded.said_at, excluded.said_by)"""

SAVE_SECTIONS = """
    insert into attendance_section as a (tenant_id, student_id, day, class_id, period, school_id, category, code,
                                         attendance_id, minutes_missed, arrival_time, said_at, said_by)
    select * from unnest($1::text[], $2::uuid[], $3::date[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[],
                         $9::uuid[], $10::int[], $11::time[], $12::timestamptz[], $13::uuid[])
    on conflict (tenant_id, student_id, day, class_id, period) do update
       set school_id = excluded.school_id, category = excluded.category, code = excluded.code,
           attendance_id = excluded.attendance_id, minutes_missed = excluded.minutes_missed,
           arrival_time = excluded.arrival_time, said_at = excluded.said_at, said_by = excluded.said_by
     where (a.said_at, a.said_by) < (excluded.said_at, excluded.said_by)"""

SECTIONS = """
    select s.tenant_id, s.student_id, s.day, s.school_id, s.category, s.minutes_missed, s.said_at, s.said_by,
           coalesce(b.minutes, $4) as scheduled,
           coalesce((select sum(minutes)::int from bell_schedule x
                      where x.tenant_id = s.tenant_id and x.school_id = s.school_id), $5) as whole_day
      from unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, day)
      join attendance_section s using (tenant_id, student_id, day)
      left join bell_schedule b
        on b.tenant_id = s.tenant_id and b.school_id = s.school_id and b.period = s.period
     order by s.said_at, s.said_by"""

# A day that is only derived: a mark of the school itself stays.
SAVE_DERIVED = """
    insert into attendance_day as a (tenant_id, student_id, day, school_year, school_id, category, code, said_at,
                                     said_by)
    select * from unnest($1::text[], $2::uuid[], $3::date[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::uuid[])
    on conflict (tenant_id, student_id, day) do update
       set school_id = excluded.school_id, category = excluded.category, code = excluded.code,
           said_at = excluded.said_at, said_by = excluded.said_by
     where a.attendance_id is null"""

FIRST_ABSENCE = """
    update attendance_day a set absence_event_id = t.event_id
      from unnest($1::text[], $2::uuid[], $3::date[], $4::uuid[]) as t (tenant_id, student_id, day, event_id)
     where a.tenant_id = t.tenant_id and a.student_id = t.student_id and a.day = t.day
       and a.category = 'absent_unexcused' and a.absence_event_id is null
    returning a.tenant_id, a.student_id, a.day, a.school_id"""

UNEXCUSED = """
    select d.tenant_id, d.student_id, c.ordinal, c.day
      from unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
      join attendance_day d using (tenant_id, student_id, school_year)
      join school_calendar_days c
        on c.tenant_id = d.tenant_id and c.school_id = d.school_id and c.day = d.day
     where d.category = 'absent_unexcused'"""

AUDIT = """
    insert into attendance_audit (tenant_id, student_id, attendance_id, corrected_at, day, old_code, new_code,
                                  new_category, reason, corrected_by, event_key)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict do nothing"""

CORRECT_SECTION = """
    update attendance_section
       set category = $4, code = $5, minutes_missed = null, said_at = $6, said_by = $7
     where tenant_id = $1 and student_id = $2 and attendance_id = $3 and (said_at, said_by) < ($6, $7)"""

IS_SECTION = "select 1 from attendance_section where tenant_id = $1 and student_id = $2 and attendance_id = $3"

CORRECT_DAY = """
    update attendance_day
       set category = $4, code = $5, attendance_id = $6, minutes_missed = null, said_at = $7, said_by = $8
     where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id is not null
       and (said_at, said_by) < ($7, $8)"""

IS_MARKED = """
    select 1 from attendance_day where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id is not null"""

RETRACT_NOTICE = """
    update absence_notices n set retracted_at = $4
     where tenant_id = $1 and student_id = $2 and day = $3 and retracted_at is null
       and not exists (select 1 from attendance_day a
                        where (a.tenant_id, a.student_id, a.day) = (n.tenant_id, n.student_id, n.day)
                          and a.category = 'absent_unexcused')"""

NOTICE = """
    insert into absence_notices (tenant_id, student_id, day, event_key)
    select $1, $2, $3, $4 on conflict (tenant_id, student_id, day) do nothing"""

CALENDAR_KNOWN = """
    select 1 from school_calendar_days where tenant_id = $1 and school_id = $2 and school_year = $3 limit 1"""

REPLACE_CASES = """
    delete from truancy_cases
     where tenant_id = $1 and student_id = $2 and first_day <> $3 and first_day <= $4 and last_day >= $3"""

SAVE_CASE = """
    insert into truancy_cases (tenant_id, student_id, first_day, last_day, days)
    values ($1, $2, $3, $4, $5)
    on conflict (tenant_id, student_id, first_day) do update set last_day = excluded.last_day, days = excluded.days"""

STANDS = """
    select 1 from attendance_threshold
     where tenant_id = $1 and student_id = $2 and school_year = $3 and threshold = $4 and retracted_at is null"""

ALERT = """
    insert into student_alerts (tenant_id, alert_id, student_id, kind, severity, detail, raised_at)
    values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing"""


@on(AttendanceMarked, name="DailyAttendanceAggregationHandler")
async def aggregate_attendance(events: list[AttendanceMarked], ctx: Context) -> None:
    """Keep the newest mark of each day or class, then recompute those students' years. The school's day is a job."""
    await save_days(ctx, newest(e for e in events if not of_a_section(e)))
    sections = [e for e in events if of_a_section(e)]
    if sections:
        await save_sections(ctx, newest_sections(sections))
        await derive_days(ctx, {(e.meta.tenant, e.student_id, e.date) for e in sections})
    await after_days_changed(ctx, events)


@on(AttendanceCorrected, name="AttendanceCorrectionHandler")
async def correct_attendance(event: AttendanceCorrected, ctx: Context) -> None:
    """Supersede the mark by the same rule as a newer mark; the year and the notices follow."""
    tenant, student, key = ctx.tenant, event.student_id, event.meta.key
    said = event.corrected_at, key
    await ctx.db.execute(
        AUDIT, tenant, student, event.attendance_id, event.corrected_at, event.date, event.old_code, event.new_code,
        event.new_category, event.reason, event.corrected_by, key,
    )
    if await ctx.db.fetchval(IS_SECTION, tenant, student, event.attendance_id):
        await ctx.db.execute(
            CORRECT_SECTION, tenant, student, event.attendance_id, event.new_category, event.new_code, *said
        )
        await derive_days(ctx, {(tenant, student, event.date)})
    elif await ctx.db.fetchval(IS_MARKED, tenant, student, event.date):
        await ctx.db.execute(
            CORRECT_DAY, tenant, student, event.date, event.new_category, event.new_code, event.attendance_id, *said
        )
    else:
        raise NotYet("the attendance mark that is corrected")
    await ctx.db.execute(RETRACT_NOTICE, tenant, student, event.date, ctx.now)
    await after_days_changed(ctx, [event])


@on(StudentAbsent, name="AbsenceNotificationHandler")
async def notify_of_absence(event: StudentAbsent, ctx: Context) -> None:
    """One notice a student and day, after the grace for corrections; three unexcused school days running are a case."""
    tenant, student, year = ctx.tenant, event.student_id, school_year(event.date)
    if not await ctx.db.fetchval(CALENDAR_KNOWN, tenant, event.school_id, year):
        raise NotYet("the school's calendar")
    await ctx.db.execute(NOTICE, tenant, student, event.date, event.meta.key)
    ctx.enqueue(
        DeliverNotification(
            notification_id=derive_id(tenant, "absence", student, event.date),
            recipient_id=student,
            recipient_role="guardians_of",
            template="attendance.absent",
            subject_id=event.meta.key,
        ),
        delay=GRACE,
        priority=NORMAL,
        unique=f"absence:{student}:{event.date}",
    )

    rows = await ctx.db.fetch(UNEXCUSED, [tenant], [student], [year])
    day_of = {row["ordinal"]: row["day"] for row in rows}
    today = next((n for n, day in day_of.items() if day == event.date), None)
    if today is None:
        return  # off the calendar, or corrected meanwhile
    first, last = run_around(day_of, today)
    if last - first + 1 >= TRUANT_AFTER:
        await ctx.db.execute(REPLACE_CASES, tenant, student, day_of[first], day_of[last])
        await ctx.db.execute(SAVE_CASE, tenant, student, day_of[first], day_of[last], last - first + 1)


@on(AttendanceThresholdReached, name="ChronicAbsenteeismHandler")
async def follow_up_threshold(event: AttendanceThresholdReached, ctx: Context) -> None:
    """An alert, a letter, a look at the whole student; nothing if a correction has taken it back meanwhile."""
    tenant, student, year = ctx.tenant, event.student_id, event.school_year
    await settle_status(ctx, {(tenant, student, year)})
    if not await ctx.db.fetchval(STANDS, tenant, student, year, event.threshold):
        return
    alert = derive_id(tenant, "attendance_threshold", student, year, event.threshold)
    severity = "warning" if event.threshold == "at_risk_5" else "high"
    await ctx.db.execute(
        ALERT, tenant, alert, student, "attendance_threshold", severity, event.threshold, event.meta.time
    )
    ctx.enqueue(DetectRisk(student_id=student), debounce=SOON)
    letter = AttendanceLetter(student_id=student, school_year=year, threshold=event.threshold)
    ctx.enqueue(letter, unique=f"letter:{alert}")
    ctx.enqueue(
        DeliverNotification(
            notification_id=alert, recipient_id=student, recipient_role="staff_of",
            template="attendance.threshold", subject_id=event.meta.key,
        ),
        priority=NORMAL,
        unique=f"threshold:{alert}",
    )


# The steps they share -------------------------------------------------------------------------------------------------

Marked = AttendanceMarked | AttendanceCorrected


def of_a_section(event: AttendanceMarked) -> bool:
    """A mark of one class or period; otherwise it is the school's mark of the whole day."""
    return event.class_id is not None or event.period is not None


def newest(events: Iterable[AttendanceMarked]) -> list[AttendanceMarked]:
    """The last word on each student's day, in the order of the primary key."""
    last: dict[Any, AttendanceMarked] = {}
    for event in events:
        key = event.meta.tenant, event.student_id, event.date
        if key not in last or (event.marked_at, event.meta.key) > (last[key].marked_at, last[key].meta.key):
            last[key] = event
    return [last[key] for key in sorted(last)]


def newest_sections(events: Iterable[AttendanceMarked]) -> list[AttendanceMarked]:
    """The last word on each class of a student's day, in the order of the primary key."""
    last: dict[Any, AttendanceMarked] = {}
    for event in events:
        key = event.meta.tenant, event.student_id, event.date, event.class_id or NO_CLASS, event.period or ""
        if key not in last or (event.marked_at, event.meta.key) > (last[key].marked_at, last[key].meta.key):
            last[key] = event
    return [last[key] for key in sorted(last)]


async def save_days(ctx: Context, marks: Sequence[AttendanceMarked]) -> None:
    """Upsert by (marked_at, event id): an older mark changes nothing."""
    if marks:
        await ctx.db.execute(
            SAVE_DAYS,
            [e.meta.tenant for e in marks], [e.student_id for e in marks], [e.date for e in marks],
            [school_year(e.date) for e in marks], [e.school_id for e in marks], [e.category for e in marks],
            [e.code for e in marks], [e.attendance_id for e in marks], [e.minutes_missed for e in marks],
            [e.arrival_time for e in marks], [e.marked_at for e in marks], [e.meta.key for e in marks],
        )


async def save_sections(ctx: Context, marks: Sequence[AttendanceMarked]) -> None:
    """The same for marks of one class."""
    await ctx.db.execute(
        SAVE_SECTIONS,
        [e.meta.tenant for e in marks], [e.student_id for e in marks], [e.date for e in marks],
        [e.class_id or NO_CLASS for e in marks], [e.period or "" for e in marks], [e.school_id for e in marks],
        [e.category for e in marks], [e.code for e in marks], [e.attendance_id for e in marks],
        [e.minutes_missed for e in marks], [e.arrival_time for e in marks], [e.marked_at for e in marks],
        [e.meta.key for e in marks],
    )


async def derive_days(ctx: Context, days: set[tuple[str, UUID, date]]) -> None:
    """What the marked classes say of a day that the school itself has not marked."""
    keys = sorted(days)
    rows = await ctx.db.fetch(
        SECTIONS, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys], PERIOD_MINUTES, DAY_MINUTES
    )
    by_day: dict[tuple[str, UUID, date], list[Any]] = {}
    for row in rows:
        by_day.setdefault((row["tenant_id"], row["student_id"], row["day"]), []).append(row)
    derived = sorted(by_day.items())
    categories = [
        day_from_sections(
            [SectionMark(r["category"], r["scheduled"], r["minutes_missed"]) for r in marks], marks[-1]["whole_day"]
        )
        for _, marks in derived
    ]
    await ctx.db.execute(
        SAVE_DERIVED,
        [k[0] for k, _ in derived], [k[1] for k, _ in derived], [k[2] for k, _ in derived],
        [school_year(k[2]) for k, _ in derived], [marks[-1]["school_id"] for _, marks in derived],
        categories, ["derived"] * len(derived),
        [marks[-1]["said_at"] for _, marks in derived], [marks[-1]["said_by"] for _, marks in derived],
    )


async def after_days_changed(ctx: Context, events: Sequence[Marked]) -> None:
    """Years, first unexcused absences and the schools' days of what was marked or corrected."""
    causes = {(e.meta.tenant, e.student_id, e.date): e for e in events}
    await recompute_years(ctx, [YearOf(t, s, school_year(d), e) for (t, s, d), e in causes.items()])
    await publish_absences(ctx, causes)
    for event in {(e.meta.tenant, e.school_id, e.date): e for e in events}.values():
        ctx.enqueue(SchoolDay(school_id=event.school_id, day=event.date), cause=event, debounce=SOON)


async def publish_absences(ctx: Context, causes: dict[tuple[str, UUID, date], Marked]) -> None:
    """StudentAbsent, once a student and day: by whoever finds the day unexcused and not yet published."""
    suspects = sorted(key for key, event in causes.items() if _category(event) == "absent_unexcused" or _derived(event))
    if not suspects:
        return
    ids = [derive_id(*key, "absent") for key in suspects]
    tenants, students, days = [k[0] for k in suspects], [k[1] for k in suspects], [k[2] for k in suspects]
    rows = await ctx.db.fetch(FIRST_ABSENCE, tenants, students, days, ids)
    if not rows:
        return
    years = sorted({(r["tenant_id"], r["student_id"], school_year(r["day"])) for r in rows})
    runs: dict[tuple[str, UUID], dict[date, int]] = {}
    for row in await ctx.db.fetch(UNEXCUSED, [y[0] for y in years], [y[1] for y in years], [y[2] for y in years]):
        runs.setdefault((row["tenant_id"], row["student_id"]), {})[row["day"]] = row["ordinal"]
    for row in sorted(rows, key=lambda r: (r["tenant_id"], r["student_id"], r["day"])):
        ordinals = runs.get((row["tenant_id"], row["student_id"]), {})
        today = ordinals.get(row["day"])
        first = run_around(ordinals.values(), today)[0] if today is not None else None
        ctx.publish(
            StudentAbsent(
                student_id=row["student_id"],
                school_id=row["school_id"],
                date=row["day"],
                excused=False,
                consecutive_days=1 if today is None or first is None else today - first + 1,
                guardian_ids=[],
            ),
            cause=causes[row["tenant_id"], row["student_id"], row["day"]],
            id=derive_id(row["tenant_id"], row["student_id"], row["day"], "absent"),
        )


def _category(event: Marked) -> str:
    return event.new_category if isinstance(event, AttendanceCorrected) else event.category


def _derived(event: Marked) -> bool:
    return isinstance(event, AttendanceCorrected) or of_a_section(event)
