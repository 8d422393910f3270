"""Attendance aggregation: what is recomputed from the rows of many marks, in one place for handlers and jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from skillcore_streams.events.attendance import AttendanceThresholdReached
from skillcore_streams.rules.attendance import TRUANT_AFTER, Crossing, absence_rate, crossings, runs
from skillcore_streams.runtime import Context, Job, Queue, derive_id, on
from skillcore_streams.runtime.messages import Message

queue = Queue("attendance-aggregation", concurrency=10)

SOON = timedelta(seconds=5)
PAGE = 500


class SchoolDay(Job, queue=queue, kind="school_day"):
    """Count a school's day."""

    school_id: UUID
    day: date


class StudentYear(Job, queue=queue, kind="student_year"):
    """Recompute a student's absence rates, thresholds and truancy: of this year and of all others with marks."""

    student_id: UUID
    school_year: str


class SchoolYear(Job, queue=queue, kind="school_year"):
    """A school's calendar changed: recompute all its students, a page of them at a time."""

    school_id: UUID
    school_year: str
    after: UUID | None = None


OTHER_YEARS = """
    select school_year from student_attendance_ytd where tenant_id = $1 and student_id = $2 and school_year <> $3"""

COUNT_DAY = """
    insert into school_attendance_daily as s (tenant_id, school_id, day, present, absent, unexcused, tardy, other)
    select $1, $2, $3,
           count(*) filter (where category = 'present'),
           count(*) filter (where category in ('absent_excused', 'absent_unexcused')),
           count(*) filter (where category = 'absent_unexcused'),
           count(*) filter (where category = 'tardy'),
           count(*) filter (where category in ('partial', 'early_departure'))
      from attendance_day where tenant_id = $1 and school_id = $2 and day = $3
    on conflict (tenant_id, school_id, day) do update
       set present = excluded.present, absent = excluded.absent, unexcused = excluded.unexcused,
           tardy = excluded.tardy, other = excluded.other"""

STUDENTS = """
    select student_id from student_membership
     where tenant_id = $1 and school_id = $2 and ($3::uuid is null or student_id > $3)
     order by student_id limit $4"""


@on(SchoolDay)
async def school_day(job: SchoolDay, ctx: Context) -> None:
    """One statement from the students' days: a repeat changes nothing."""
    await ctx.db.execute(COUNT_DAY, ctx.tenant, job.school_id, job.day)


@on(StudentYear)
async def student_year(job: StudentYear, ctx: Context) -> None:
    """What a mark could not compute because the enrolment came later; it may begin in another year than the marks."""
    others = await ctx.db.fetch(OTHER_YEARS, ctx.tenant, job.student_id, job.school_year)
    years = [job.school_year, *(row["school_year"] for row in others)]
    await settle_years(ctx, [YearOf(ctx.tenant, job.student_id, year, None) for year in years])


@on(SchoolYear)
async def school_year(job: SchoolYear, ctx: Context) -> None:
    """One page of students, and an order for the next page."""
    rows = await ctx.db.fetch(STUDENTS, ctx.tenant, job.school_id, job.after, PAGE)
    students = [row["student_id"] for row in rows]
    await settle_years(ctx, [YearOf(ctx.tenant, s, job.school_year, None) for s in students])
    if len(students) == PAGE:
        ctx.enqueue(SchoolYear(school_id=job.school_id, school_year=job.school_year, after=students[-1]))


# A student's year, recomputed from rows -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class YearOf:
    """A student's school year, and the event that asks for it (None: the one message of the call)."""

    tenant: str
    student_id: UUID
    school_year: str
    cause: Message | None


@dataclass(frozen=True, slots=True)
class Held:
    """Years whose rows this transaction has locked: nobody else changes what follows from them."""

    asked: Mapping[tuple[str, UUID, str], Message | None]

    @property
    def columns(self) -> tuple[list[str], list[UUID], list[str]]:
        """Tenants, students and school years, for unnest()."""
        return [k[0] for k in self.asked], [k[1] for k in self.asked], [k[2] for k in self.asked]

    def only(self, years: Iterable[tuple[str, UUID, str]]) -> Held:
        """Some of them."""
        return Held({year: self.asked[year] for year in sorted(set(years))})


# Rows are made or locked in key order; `where false` locks a row without writing it anew.
HOLD = """
    insert into student_attendance_ytd as y (tenant_id, student_id, school_year)
    select * from unnest($1::text[], $2::uuid[], $3::text[])
    on conflict (tenant_id, student_id, school_year) do update set school_id = y.school_id where false"""

RECOMPUTE = """
    with facts as (
        select t.tenant_id, t.student_id, t.school_year, latest.school_id, first.ordinal as first, last.ordinal as last,
               last.day as as_of, case when last.day is not null then coalesce(absent.ordinals, '{}') end as absent
          from unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
          left join lateral (  -- the latest mark that can be judged: of a school whose member and calendar are known
               select d.school_id, m.begin_date, least(d.day, m.end_date) as until
                 from attendance_day d
                 join student_membership m
                   on m.tenant_id = d.tenant_id and m.student_id = d.student_id and m.school_id = d.school_id
                where d.tenant_id = t.tenant_id and d.student_id = t.student_id and d.school_year = t.school_year
                  and exists (select from school_calendar_days c
                               where c.tenant_id = d.tenant_id and c.school_id = d.school_id
                                 and c.school_year = t.school_year
                                 and c.day between m.begin_date and least(d.day, m.end_date))
                order by d.day desc limit 1) latest on true
          left join lateral (
               select c.ordinal from school_calendar_days c
                where c.tenant_id = t.tenant_id and c.school_id = latest.school_id and c.school_year = t.school_year
                  and c.day >= latest.begin_date
                order by c.day limit 1) first on true
          left join lateral (
               select c.ordinal, c.day from school_calendar_days c
                where c.tenant_id = t.tenant_id and c.school_id = latest.school_id and c.school_year = t.school_year
                  and c.day between latest.begin_date and latest.until
                order by c.day desc limit 1) last on true
          left join lateral (
               select array_agg(c.ordinal - first.ordinal + 1 order by c.ordinal) as ordinals
                 from attendance_day d
                 join school_calendar_days c on c.tenant_id = d.tenant_id and c.school_id = latest.school_id
                                            and c.day = d.day
                where d.tenant_id = t.tenant_id and d.student_id = t.student_id and d.school_year = t.school_year
                  and d.category in ('absent_excused', 'absent_unexcused')
                  and c.ordinal between first.ordinal and last.ordinal) absent on true
    )
    update student_attendance_ytd y
       set school_id = f.school_id, days_enrolled = f.last - f.first + 1, days_absent = cardinality(f.absent),
           rate = round(cardinality(f.absent)::numeric / (f.last - f.first + 1), 5), as_of = f.as_of
      from facts f
     where y.tenant_id = f.tenant_id and y.student_id = f.student_id and y.school_year = f.school_year
    returning f.*"""

RETRACT = """
    update attendance_threshold a set retracted_at = $5
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) as t (tenant_id, student_id, school_year, reached)
     where a.tenant_id = t.tenant_id and a.student_id = t.student_id and a.school_year = t.school_year
       and a.threshold <> all (string_to_array(t.reached, ',')) and a.retracted_at is null
    returning a.tenant_id, a.student_id, a.school_year"""

REACH = """
    insert into attendance_threshold as a
           (tenant_id, student_id, school_year, threshold, school_id, days_enrolled, days_absent, rate, as_of)
    select t.tenant_id, t.student_id, t.school_year, t.threshold, t.school_id, t.days_enrolled, t.days_absent, t.rate,
           c.day
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::int[], $8::numeric[],
                  $9::int[])
        as t (tenant_id, student_id, school_year, threshold, school_id, days_enrolled, days_absent, rate, ordinal)
      join school_calendar_days c on c.tenant_id = t.tenant_id and c.school_id = t.school_id
                                 and c.school_year = t.school_year and c.ordinal = t.ordinal
     order by t.tenant_id, t.student_id, t.school_year, t.threshold
    on conflict (tenant_id, student_id, school_year, threshold) do update
       set school_id = excluded.school_id, as_of = excluded.as_of, days_enrolled = excluded.days_enrolled,
           days_absent = excluded.days_absent, rate = excluded.rate, retracted_at = null
     where (a.school_id, a.as_of, a.days_enrolled, a.days_absent)
           is distinct from (excluded.school_id, excluded.as_of, excluded.days_enrolled, excluded.days_absent)
        or a.retracted_at is not null
    returning tenant_id, student_id, school_year, threshold, school_id, days_enrolled, days_absent, as_of,
              xmax = 0 as is_new"""

# The highest threshold that stands. Only the attendance topic and its jobs write it, while they hold the year.
STATUS = """
    with standing as (
        select distinct on (a.tenant_id, a.student_id, a.school_year)
               a.tenant_id, a.student_id, a.school_year, a.threshold, a.as_of
          from attendance_threshold a
          join unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
         using (tenant_id, student_id, school_year)
         where a.retracted_at is null
         order by a.tenant_id, a.student_id, a.school_year,
                  array_position(array['severe_20', 'chronic_10', 'at_risk_5'], a.threshold)
    ), gone as (
        delete from chronic_absence_status s
         using unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
         where s.tenant_id = t.tenant_id and s.student_id = t.student_id and s.school_year = t.school_year
           and not exists (select from standing x where (x.tenant_id, x.student_id, x.school_year)
                                                      = (s.tenant_id, s.student_id, s.school_year))
    )
    insert into chronic_absence_status (tenant_id, student_id, school_year, tier, since)
    select * from standing
    on conflict (tenant_id, student_id, school_year) do update set tier = excluded.tier, since = excluded.since"""


THRESHOLD_ALERT = "attendance_threshold"

# An alert stands as long as its threshold does: taken back by a correction, raised again when it is reached again.
ALERTS = f"""
    update student_alerts a set resolved_at = h.retracted_at
      from unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
      join attendance_threshold h using (tenant_id, student_id, school_year)
     where a.tenant_id = h.tenant_id and a.student_id = h.student_id and a.kind = '{THRESHOLD_ALERT}'
       and a.detail = h.school_year || ' ' || h.threshold and a.resolved_at is distinct from h.retracted_at"""  # noqa: S608

UNEXCUSED = """
    select d.tenant_id, d.student_id, d.school_year, d.school_id, c.ordinal, d.day
      from unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
      join attendance_day d using (tenant_id, student_id, school_year)
      join school_calendar_days c
        on c.tenant_id = d.tenant_id and c.school_id = d.school_id and c.day = d.day
     where d.category = 'absent_unexcused'"""

CASES = """
    select c.tenant_id, c.student_id, c.first_day, c.last_day, c.days
      from unnest($1::text[], $2::uuid[], $3::text[]) as t (tenant_id, student_id, school_year)
      join truancy_cases c
        on c.tenant_id = t.tenant_id and c.student_id = t.student_id and school_year(c.first_day) = t.school_year"""

CLOSE_CASES = """
    delete from truancy_cases c using unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, first_day)
     where c.tenant_id = t.tenant_id and c.student_id = t.student_id and c.first_day = t.first_day"""

SAVE_CASES = """
    insert into truancy_cases (tenant_id, student_id, first_day, last_day, days)
    select * from unnest($1::text[], $2::uuid[], $3::date[], $4::date[], $5::int[])
    on conflict (tenant_id, student_id, first_day) do update set last_day = excluded.last_day, days = excluded.days"""


async def hold_years(ctx: Context, years: Iterable[YearOf]) -> Held:
    """Lock the years until COMMIT, before anything of them is read or written.

    So whoever comes next, chunk or job, waits here and then sees all that the other has committed.
    """
    asked = {(y.tenant, y.student_id, y.school_year): y.cause for y in years}
    held = Held({key: asked[key] for key in sorted(asked)})
    if asked:
        await ctx.db.execute(HOLD, *held.columns)
    return held


async def settle_years(ctx: Context, years: Iterable[YearOf]) -> None:
    """All that follows from enrolment and calendar, anew."""
    held = await hold_years(ctx, years)
    await recompute_years(ctx, held)
    await settle_truancy(ctx, held)


async def recompute_years(ctx: Context, held: Held) -> None:
    """Absence rates and thresholds of these students, from their rows: never `+ 1`, so repeats change nothing.

    A threshold that is reached for the first time is published by whoever inserts its row; one that is no longer
    reached is retracted; its event is not repeated when it is reached again. Students whose enrolment or calendar is
    not known yet have no rate; the jobs that those bring about will compute it.
    """
    if not held.asked:
        return
    rows = await ctx.db.fetch(RECOMPUTE, *held.columns)
    reached = [crossings(r["absent"], r["last"] - r["first"] + 1) if r["as_of"] else {} for r in rows]
    retracted = await ctx.db.fetch(
        RETRACT,
        [r["tenant_id"] for r in rows], [r["student_id"] for r in rows], [r["school_year"] for r in rows],
        [",".join(hits) for hits in reached], ctx.now,
    )
    found = [(r, name, hit) for r, hits in zip(rows, reached, strict=True) for name, hit in hits.items()]
    moved = await _reach(ctx, found, held) if found else []
    await settle_status(ctx, {(r["tenant_id"], r["student_id"], r["school_year"]) for r in [*retracted, *moved]})


async def settle_truancy(ctx: Context, held: Held) -> None:
    """Truancy cases of these students' years: every run of unexcused school days that is long enough, and no other."""
    if not held.asked:
        return
    wanted = {}
    for (tenant, student, *_), days in (await unexcused_days(ctx, held)).items():
        for first, last in runs(days):
            if last - first + 1 >= TRUANT_AFTER:
                wanted[tenant, student, days[first]] = days[last], last - first + 1
    standing = {
        (r["tenant_id"], r["student_id"], r["first_day"]): (r["last_day"], r["days"])
        for r in await ctx.db.fetch(CASES, *held.columns)
    }
    gone = sorted(standing.keys() - wanted.keys())
    if gone:
        await ctx.db.execute(CLOSE_CASES, [k[0] for k in gone], [k[1] for k in gone], [k[2] for k in gone])
    changed = sorted(key for key in wanted if standing.get(key) != wanted[key])
    if changed:
        await ctx.db.execute(
            SAVE_CASES,
            [k[0] for k in changed], [k[1] for k in changed], [k[2] for k in changed],
            [wanted[k][0] for k in changed], [wanted[k][1] for k in changed],
        )


async def unexcused_days(ctx: Context, held: Held) -> dict[tuple[str, UUID, str, UUID], dict[int, date]]:
    """Unexcused school days by their number, for each (tenant, student, school year, school)."""
    days: dict[tuple[str, UUID, str, UUID], dict[int, date]] = {}
    for row in await ctx.db.fetch(UNEXCUSED, *held.columns):
        key = row["tenant_id"], row["student_id"], row["school_year"], row["school_id"]
        days.setdefault(key, {})[row["ordinal"]] = row["day"]
    return days


async def settle_status(ctx: Context, years: set[tuple[str, UUID, str]]) -> None:
    """Chronic absence status of these students' years: the highest threshold that stands, or none; and the alerts."""
    if years:
        keys = sorted(years)
        columns = [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
        await ctx.db.execute(STATUS, *columns)
        await ctx.db.execute(ALERTS, *columns)


async def _reach(ctx: Context, found: Sequence[tuple[Any, str, Crossing]], held: Held) -> list[Any]:
    moved = await ctx.db.fetch(
        REACH,
        [r["tenant_id"] for r, _, _ in found], [r["student_id"] for r, _, _ in found],
        [r["school_year"] for r, _, _ in found], [name for _, name, _ in found],
        [r["school_id"] for r, _, _ in found],
        [c.days_enrolled for _, _, c in found], [c.days_absent for _, _, c in found], [c.rate for _, _, c in found],
        [r["first"] + c.days_enrolled - 1 for r, _, c in found],
    )
    for row in moved:
        if row["is_new"]:
            key = row["tenant_id"], row["student_id"], row["school_year"]
            ctx.publish(
                AttendanceThresholdReached(
                    student_id=row["student_id"],
                    school_id=row["school_id"],
                    school_year=row["school_year"],
                    threshold=cast(Literal["at_risk_5", "chronic_10", "severe_20"], row["threshold"]),
                    days_enrolled=row["days_enrolled"],
                    days_absent=row["days_absent"],
                    rate=absence_rate(row["days_absent"], row["days_enrolled"]),
                    as_of=row["as_of"],
                ),
                cause=held.asked[key],
                id=derive_id(*key, row["threshold"]),
            )
    return list(moved)
