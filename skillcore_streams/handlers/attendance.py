"""Attendance: days, rates, thresholds, and who must be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.attendance import (
    AttendanceCorrected,
    AttendanceMarked,
    AttendanceThresholdReached,
    StudentAbsent,
)
from skillcore_streams.queues.attendance_aggregation import (
    SOON,
    THRESHOLD_ALERT,
    Held,
    SchoolDay,
    YearOf,
    hold_years,
    recompute_years,
    settle_status,
    settle_truancy,
    unexcused_days,
)
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.queues.report_generation import AttendanceLetter
from skillcore_streams.rules.attendance import FIRST_EVALUATED, SectionMark, day_from_sections, run_around
from skillcore_streams.rules.calendar import school_year
from skillcore_streams.runtime import Context, NotYet, derive_id, on
from skillcore_streams.runtime.tables import BY_SCHOOL

GRACE = timedelta(minutes=10)
"""How long a teacher has to correct an absence before the family is told."""

NO_CLASS = UUID(int=0)
PERIOD_MINUTES = 50
DAY_MINUTES = 7 * PERIOD_MINUTES
"""Of schools whose bell schedule is not known yet."""

# `written` is a day's version: when Postgres wrote it, and always more than before. Whoever writes holds the student's
# year, so it grows in the order of the commits; (said_at, said_by) does not: a derived day may follow an older mark.
NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"

# What the live table must hear of saved days, by school: [student, day, category, written, whether nothing is older].
# A day that has moved is gone from the school where it was (category null). `before` is what was replaced.
AND_TELL = """
    words as (
        select tenant_id, school_id, student_id, day, category, written, not replaced as first from saved
         union all
        select b.tenant_id, b.school_id, b.student_id, b.day, null, s.written, false
          from before b join saved s using (tenant_id, student_id, day)
         where b.school_id <> s.school_id
    ), changes as (
        select tenant_id, school_id,
               json_agg(json_build_array(student_id, day, category, written, first))::text as changes
          from words group by tenant_id, school_id
    )"""

# What a saved day means for its year. Where no absence came or went and the school is the same, the year only goes on
# to its latest marked day, and two ordinals say how far; the 20th day and everything else is recomputed from all rows.
# `attendance_day` is read as it was before the statement: what was replaced. The years are held by the caller.
BEFORE = """
    before as (
        select a.tenant_id, a.student_id, a.day, a.school_year, a.school_id, a.category,
               a.absence_event_id is not null as was_absent
          from saved s join attendance_day a using (tenant_id, student_id, day)
         where s.replaced
    )"""

AND_GO_ON = f"""
    {BEFORE}, years as (
        select s.tenant_id, s.student_id, s.school_year, max(s.day) as day,
               (array_agg(s.school_id order by s.day desc))[1] as school_id,
               coalesce(bool_or(s.category like 'absent%' or b.category like 'absent%' or b.school_id <> s.school_id),
                        false) as changed
          from saved s left join before b using (tenant_id, student_id, day)
         group by s.tenant_id, s.student_id, s.school_year
    ), standing as (
        select t.tenant_id, t.student_id, t.school_year, t.school_id, t.day, y.as_of, y.days_enrolled, y.days_absent,
               t.changed or y.as_of is null or y.school_id <> t.school_id or m.end_date is not null as recompute
          from years t
          join student_attendance_ytd y using (tenant_id, student_id, school_year)
          left join student_membership m
            on m.tenant_id = t.tenant_id and m.student_id = t.student_id and m.school_id = t.school_id
    ), steps as materialized (  -- few: a chunk holds few schools and days
        select d.*, last.day as until, last.ordinal - first.ordinal as days
          from (select distinct tenant_id, school_id, school_year, as_of, day from standing
                 where not recompute and day > as_of) d
         cross join lateral (
               select c.day, c.ordinal from school_calendar_days c
                where c.tenant_id = d.tenant_id and c.school_id = d.school_id and c.school_year = d.school_year
                  and c.day <= d.day
                order by c.day desc limit 1) last
          join school_calendar_days first
            on first.tenant_id = d.tenant_id and first.school_id = d.school_id and first.day = d.as_of
    ), ways as (
        select s.tenant_id, s.student_id, s.school_year, n.until, s.days_enrolled + n.days as days_enrolled,
               s.recompute or s.day > s.as_of and n.until is null
                           or s.days_absent > 0 and s.days_enrolled < {FIRST_EVALUATED}
                          and s.days_enrolled + n.days >= {FIRST_EVALUATED} as recompute
          from standing s
          left join steps n
            on n.tenant_id = s.tenant_id and n.school_id = s.school_id and n.school_year = s.school_year
           and n.as_of = s.as_of and n.day = s.day
    ), gone_on as (
        update student_attendance_ytd y
           set as_of = w.until, days_enrolled = w.days_enrolled,
               rate = round(y.days_absent::numeric / w.days_enrolled, 5)
          from ways w
         where not w.recompute and w.until > y.as_of
           and y.tenant_id = w.tenant_id and y.student_id = w.student_id and y.school_year = w.school_year
    ), {AND_TELL}
    select tenant_id, student_id, school_year, day, school_id, was_absent, null as changes from before
     union all
    select tenant_id, student_id, school_year, null, null, null, null from ways where recompute
     union all
    select tenant_id, null, null, null, school_id, null, changes from changes"""  # noqa: S608 - our own text

SAVE_DAYS = f"""
    with saved as (
        insert into attendance_day as a (tenant_id, student_id, day, school_year, school_id, category, code,
                                         attendance_id, minutes_missed, arrival_time, said_at, said_by, written)
        select *, {NOW}
          from unnest($1::text[], $2::uuid[], $3::date[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                      $8::uuid[], $9::int[], $10::time[], $11::timestamptz[], $12::uuid[])
        on conflict (tenant_id, student_id, day) do update
           set school_id = excluded.school_id, category = excluded.category, code = excluded.code,
               attendance_id = excluded.attendance_id, minutes_missed = excluded.minutes_missed,
               arrival_time = excluded.arrival_time, said_at = excluded.said_at, said_by = excluded.said_by,
               written = greatest(excluded.written, a.written + 1)
         where a.attendance_id is null or (a.said_at, a.said_by) < (excluded.said_at, excluded.said_by)
        returning tenant_id, student_id, day, school_year, school_id, category, written, xmax <> 0 as replaced
    ), {AND_GO_ON}"""  # noqa: S608 - our own text

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
SAVE_DERIVED = f"""
    with saved as (
        insert into attendance_day as a (tenant_id, student_id, day, school_year, school_id, category, code, said_at,
                                         said_by, written)
        select *, {NOW}
          from unnest($1::text[], $2::uuid[], $3::date[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                      $8::timestamptz[], $9::uuid[])
        on conflict (tenant_id, student_id, day) do update
           set school_id = excluded.school_id, category = excluded.category, code = excluded.code,
               said_at = excluded.said_at, said_by = excluded.said_by,
               written = greatest(excluded.written, a.written + 1)
         where a.attendance_id is null
        returning tenant_id, student_id, day, school_year, school_id, category, written, xmax <> 0 as replaced
    ), {AND_GO_ON}"""  # noqa: S608 - our own text

FIRST_ABSENCE = """
    update attendance_day a set absence_event_id = t.event_id
      from unnest($1::text[], $2::uuid[], $3::date[], $4::uuid[]) as t (tenant_id, student_id, day, event_id)
     where a.tenant_id = t.tenant_id and a.student_id = t.student_id and a.day = t.day
       and a.category = 'absent_unexcused' and a.absence_event_id is null
    returning a.tenant_id, a.student_id, a.day, a.school_id"""

AUDIT = """
    insert into attendance_audit (tenant_id, student_id, attendance_id, corrected_at, day, old_code, new_code,
                                  new_category, reason, corrected_by, event_key)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict do nothing"""

SECTION_OF = """
    select class_id, period from attendance_section
     where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id = $4 limit 1"""

IS_DAY = "select 1 from attendance_day where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id = $4"

# A mark that another has replaced is no row any more, but what happened is kept.
REPLACED = """
    select data from event
     where tenant_id = $1 and key = $2 and type = $3 and position($4::bytea in data) > 0"""

CORRECT_SECTION = """
    update attendance_section
       set school_id = $6, category = $7, code = $8, attendance_id = $9, minutes_missed = null, arrival_time = null,
           said_at = $10, said_by = $11
     where tenant_id = $1 and student_id = $2 and day = $3 and class_id = $4 and period = $5
       and (said_at, said_by) < ($10, $11)"""

CORRECT_DAY = f"""
    with saved as (
        update attendance_day
           set school_id = $4, category = $5, code = $6, attendance_id = $7, minutes_missed = null,
               arrival_time = null, said_at = $8, said_by = $9, written = greatest({NOW}, written + 1)
         where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id is not null
           and (said_at, said_by) < ($8, $9)
        returning tenant_id, student_id, day, school_id, category, written, true as replaced
    ), {BEFORE}, {AND_TELL}
    select tenant_id, school_id, changes from changes"""  # noqa: S608 - our own text

IS_SECTION_MARKED = """
    select 1 from attendance_section
     where tenant_id = $1 and student_id = $2 and day = $3 and class_id = $4 and period = $5"""

IS_DAY_MARKED = """
    select 1 from attendance_day where tenant_id = $1 and student_id = $2 and day = $3 and attendance_id is not null"""

KNOWN_DAY = """
    select tenant_id, student_id, day, school_id, absence_event_id is not null as was_absent
      from attendance_day where tenant_id = $1 and student_id = $2 and day = $3"""

NOTICE = """
    insert into absence_notices (tenant_id, student_id, day, event_key, retracted_at)
    select $1, $2, $3, $4, case when exists (
               select from attendance_day
                where tenant_id = $1 and student_id = $2 and day = $3 and category <> 'absent_unexcused')
           then $5::timestamptz end
    on conflict (tenant_id, student_id, day) do nothing"""

# A notice stands exactly while its day is an unexcused absence; a family is told only of what stands.
SETTLE_NOTICES = """
    update absence_notices n
       set retracted_at = case when a.category = 'absent_unexcused' then null else $4::timestamptz end
      from unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, day)
      join attendance_day a using (tenant_id, student_id, day)
     where n.tenant_id = t.tenant_id and n.student_id = t.student_id and n.day = t.day
       and (n.retracted_at is null) <> (a.category = 'absent_unexcused')"""

ALERT = """
    insert into student_alerts (tenant_id, alert_id, student_id, kind, severity, detail, raised_at)
    values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing"""


@on(AttendanceMarked, name="DailyAttendanceAggregationHandler")
async def aggregate_attendance(events: list[AttendanceMarked], ctx: Context) -> None:
    """Keep the newest mark of each day or class; recompute the years it changed. The school's day is a job."""
    held = await hold_years(ctx, [year_of(e) for e in events])
    change = await save_days(ctx, newest(e for e in events if not of_a_section(e)))
    sections = [e for e in events if of_a_section(e)]
    if sections:
        await save_sections(ctx, newest_sections(sections))
        change += await derive_days(ctx, {day_of(e) for e in sections})
    await after_days_changed(ctx, events, held, change)


@on(AttendanceCorrected, name="AttendanceCorrectionHandler")
async def correct_attendance(event: AttendanceCorrected, ctx: Context) -> None:
    """Supersede the mark by the same rule as a newer mark; all that follows from the day follows."""
    tenant, student, key = ctx.tenant, event.student_id, event.meta.key
    held = await hold_years(ctx, [year_of(event)])
    change = Change({(tenant, student, school_year(event.date))}, await known_days(ctx, event))
    await ctx.db.execute(
        AUDIT, tenant, student, event.attendance_id, event.corrected_at, event.date, event.old_code, event.new_code,
        event.new_category, event.reason, event.corrected_by, key,
    )
    place = tenant, student, event.date
    said = event.school_id, event.new_category, event.new_code, event.attendance_id, event.corrected_at, key
    corrected = await section_of(ctx, event)
    if corrected is None:
        tell_table(ctx, await ctx.db.fetch(CORRECT_DAY, *place, *said))
    else:
        await ctx.db.execute(CORRECT_SECTION, *place, *corrected, *said)
        await derive_days(ctx, {place})
    await after_days_changed(ctx, [event], held, change)


@on(StudentAbsent, name="AbsenceNotificationHandler")
async def notify_of_absence(event: StudentAbsent, ctx: Context) -> None:
    """One notice a student and day, after the grace for corrections; three unexcused school days running are a case.

    The family is told whether or not the school has sent a calendar. The case waits for it: SchoolYear settles it then.
    """
    tenant, student, year = ctx.tenant, event.student_id, school_year(event.date)
    held = await hold_years(ctx, [YearOf(tenant, student, year, None)])
    await ctx.db.execute(NOTICE, tenant, student, event.date, event.meta.key, ctx.now)
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

    await settle_truancy(ctx, held)


@on(AttendanceThresholdReached, name="ChronicAbsenteeismHandler")
async def follow_up_threshold(event: AttendanceThresholdReached, ctx: Context) -> None:
    """An alert, a letter, a look at the whole student.

    A correction may have taken the threshold back meanwhile, and another may bring it back without a second event: the
    alert stands as long as the threshold does, and what is sent asks again when it is sent.
    """
    tenant, student, year = ctx.tenant, event.student_id, event.school_year
    await hold_years(ctx, [YearOf(tenant, student, year, None)])
    alert = derive_id(tenant, THRESHOLD_ALERT, student, year, event.threshold)
    severity = "warning" if event.threshold == "at_risk_5" else "high"
    detail = f"{year} {event.threshold}"
    await ctx.db.execute(ALERT, tenant, alert, student, THRESHOLD_ALERT, severity, detail, event.meta.time)
    await settle_status(ctx, {(tenant, student, year)})
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
Day = tuple[str, UUID, date]
"""Tenant, student, day."""


@dataclass(frozen=True, slots=True)
class Change:
    """What saved days have changed: years to be recomputed from their rows, and what replaced days were before."""

    years: set[tuple[str, UUID, str]]
    before: list[Any]

    def __add__(self, other: Change) -> Change:
        return Change(self.years | other.years, self.before + other.before)


def changed(ctx: Context, rows: Iterable[Any]) -> Change:
    """The answer of AND_GO_ON, of which the live table hears its part."""
    change = Change(set(), [])
    for row in rows:
        if row["changes"] is not None:
            tell_table(ctx, [row])
        elif row["day"] is None:
            change.years.add((row["tenant_id"], row["student_id"], row["school_year"]))
        else:
            change.before.append(row)
    return change


def tell_table(ctx: Context, rows: Iterable[Any]) -> None:
    """The live table hears what has become of a school's days; made of its parts by Postgres, once a chunk."""
    for row in rows:
        ctx.feed(BY_SCHOOL, f"{row['tenant_id']}/{row['school_id']}", f'{{"changes":{row["changes"]}}}')


def of_a_section(event: AttendanceMarked) -> bool:
    """A mark of one class or period; otherwise it is the school's mark of the whole day."""
    return event.class_id is not None or event.period is not None


def day_of(event: Marked) -> Day:
    """The student's day that the event speaks of."""
    return event.meta.tenant, event.student_id, event.date


def year_of(event: Marked) -> YearOf:
    """The student's year that has to be recomputed."""
    return YearOf(event.meta.tenant, event.student_id, school_year(event.date), event)


def newest(events: Iterable[AttendanceMarked]) -> list[AttendanceMarked]:
    """The last word on each student's day, in the order of the primary key."""
    last: dict[Any, AttendanceMarked] = {}
    for event in events:
        key = day_of(event)
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


async def save_days(ctx: Context, marks: Sequence[AttendanceMarked]) -> Change:
    """Upsert by (marked_at, event id): an older mark changes nothing."""
    if not marks:
        return Change(set(), [])
    return changed(ctx, await ctx.db.fetch(
        SAVE_DAYS,
        [e.meta.tenant for e in marks], [e.student_id for e in marks], [e.date for e in marks],
        [school_year(e.date) for e in marks], [e.school_id for e in marks], [e.category for e in marks],
        [e.code for e in marks], [e.attendance_id for e in marks], [e.minutes_missed for e in marks],
        [e.arrival_time for e in marks], [e.marked_at for e in marks], [e.meta.key for e in marks],
    ))


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


async def section_of(ctx: Context, event: AttendanceCorrected) -> tuple[UUID, str] | None:
    """Class and period of the mark that is corrected; None when it is the school's mark of the whole day.

    The correction names only the mark's id, and the mark may have been replaced by another since. Then the newest of
    all still decides, so the place is looked up among what happened. Raises NotYet while the mark has not arrived.
    """
    tenant, student, mark = ctx.tenant, event.student_id, event.attendance_id
    row = await ctx.db.fetchrow(SECTION_OF, tenant, student, event.date, mark)
    if row is not None:
        return row["class_id"], row["period"]
    if await ctx.db.fetchval(IS_DAY, tenant, student, event.date, mark):
        return None
    stored = await ctx.db.fetch(
        REPLACED, tenant, str(student), AttendanceMarked.__type__, event.date.isoformat().encode()
    )
    marks = (AttendanceMarked.model_validate_json(r["data"], extra="ignore") for r in stored)
    replaced = next((m for m in marks if m.attendance_id == mark and m.date == event.date), None)
    if replaced is not None and not of_a_section(replaced):
        if await ctx.db.fetchval(IS_DAY_MARKED, tenant, student, event.date):
            return None
    elif replaced is not None:
        section = replaced.class_id or NO_CLASS, replaced.period or ""
        if await ctx.db.fetchval(IS_SECTION_MARKED, tenant, student, event.date, *section):
            return section
    raise NotYet("the attendance mark that is corrected")


async def known_days(ctx: Context, event: AttendanceCorrected) -> list[Any]:
    """What the day was before: its school, and whether an unexcused absence was already told."""
    return await ctx.db.fetch(KNOWN_DAY, *day_of(event))


async def derive_days(ctx: Context, days: set[Day]) -> Change:
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
    return changed(ctx, await ctx.db.fetch(
        SAVE_DERIVED,
        [k[0] for k, _ in derived], [k[1] for k, _ in derived], [k[2] for k, _ in derived],
        [school_year(k[2]) for k, _ in derived], [marks[-1]["school_id"] for _, marks in derived],
        categories, ["derived"] * len(derived),
        [marks[-1]["said_at"] for _, marks in derived], [marks[-1]["said_by"] for _, marks in derived],
    ))


async def after_days_changed(ctx: Context, events: Sequence[Marked], held: Held, change: Change) -> None:
    """Years, first unexcused absences, and the schools' days of what was marked or corrected.

    A day whose absence was told earlier may have changed its category: notices and truancy cases follow it. One that
    has moved to another school is counted again in both.
    """
    await recompute_years(ctx, held.only(change.years))
    await publish_absences(ctx, events, held)
    told = sorted((r["tenant_id"], r["student_id"], r["day"]) for r in change.before if r["was_absent"])
    if told:
        await ctx.db.execute(
            SETTLE_NOTICES, [d[0] for d in told], [d[1] for d in told], [d[2] for d in told], ctx.now
        )
        await settle_truancy(ctx, held.only((tenant, student, school_year(day)) for tenant, student, day in told))

    causes = {day_of(e): e for e in events}
    counted = {(e.meta.tenant, e.school_id, e.date): e for e in events}
    for row in change.before:
        before = row["tenant_id"], row["school_id"], row["day"]
        counted.setdefault(before, causes[row["tenant_id"], row["student_id"], row["day"]])
    for (_, school, day), event in counted.items():
        ctx.enqueue(SchoolDay(school_id=school, day=day), cause=event, debounce=SOON)


async def publish_absences(ctx: Context, events: Sequence[Marked], held: Held) -> None:
    """StudentAbsent, once a student and day: by whoever finds the day unexcused and not yet published."""
    causes = {day_of(e): e for e in events if says_unexcused(e)}
    if not causes:
        return
    suspects = sorted(causes)
    ids = [derive_id(*key, "absent") for key in suspects]
    rows = await ctx.db.fetch(
        FIRST_ABSENCE, [k[0] for k in suspects], [k[1] for k in suspects], [k[2] for k in suspects], ids
    )
    if not rows:
        return
    years = held.only((r["tenant_id"], r["student_id"], school_year(r["day"])) for r in rows)
    unexcused = await unexcused_days(ctx, years)
    for row in sorted(rows, key=lambda r: (r["tenant_id"], r["student_id"], r["day"])):
        tenant, student, school, day = row["tenant_id"], row["student_id"], row["school_id"], row["day"]
        numbers = {d: n for n, d in unexcused.get((tenant, student, school_year(day), school), {}).items()}
        today = numbers.get(day)  # none: off the calendar, or the calendar is not known yet
        ctx.publish(
            StudentAbsent(
                student_id=student,
                school_id=school,
                date=day,
                excused=False,
                consecutive_days=1 if today is None else today - run_around(numbers.values(), today)[0] + 1,
                guardian_ids=[],
            ),
            cause=causes[tenant, student, day],
            id=derive_id(tenant, student, day, "absent"),
        )


def says_unexcused(event: Marked) -> bool:
    """Whether the event can have made its day an unexcused absence; marks of classes do it together."""
    if isinstance(event, AttendanceCorrected):
        return True
    return of_a_section(event) or event.category == "absent_unexcused"
