"""Compliance reporting: what the law asks a district to know of its plans, recomputed from rows for handlers and jobs;
and the registers it asks for, drawn up by one statement each and then made a file by report-generation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from skillcore_streams.events.fields import Language
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.queues.report_generation import SYSTEM, GenerateReport
from skillcore_streams.reports.registers import EVERY_SCHOOL, REGISTERS
from skillcore_streams.rules.periods import bounds_of
from skillcore_streams.rules.special_programs import WEEK, bounds, credited_minutes, is_short, shortfalls, week_of
from skillcore_streams.runtime import Context, Job, PermanentError, Queue, derive_id, on
from skillcore_streams.runtime.documents import Format
from skillcore_streams.runtime.messages import Message

queue = Queue("compliance-reporting", concurrency=10)

SOON = timedelta(seconds=5)
PAGE = 100


class AcknowledgeAccommodations(Job, queue=queue, kind="accommodation_acks"):
    """Ask a student's current teachers to acknowledge the accommodations of the plan, if there is one."""

    student_id: UUID


class AcknowledgeInClass(Job, queue=queue, kind="accommodation_acks_of_class"):
    """A class has another teacher: the same for each of its students."""

    class_id: UUID


class ServiceMinutes(Job, queue=queue, kind="service_minutes"):
    """Recompute all weeks of a student's services: minutes, mandates, shortfalls."""

    student_id: UUID


class ServiceMinutesOfSchool(Job, queue=queue, kind="service_minutes_of_school"):
    """A school's time zone decides which week a session was in: recompute its students, a page of them at a time."""

    school_id: UUID
    after: UUID | None = None


class DrawUpRegister(Job, queue=queue, kind="register"):
    """Draw up a register of a period (a month or a school year), of one school or of all, and order its files.

    `name` is one of skillcore_streams/reports/registers.py: disclosure_register, access_summary, iep_timeliness,
    service_minutes.
    """

    name: str
    period: str
    school_id: UUID | None = None
    formats: tuple[Format, ...] = ("pdf",)
    requested_by: UUID = SYSTEM
    locale: Language = "en"


# Whom a retried call or another job of the same student must wait for; students without programs have no row.
HOLD_PROGRAMS = """
    select 1 from program_caseload where tenant_id = $1 and student_id = any($2::uuid[])
     order by student_id for update"""

CLASSMATES = """
    select distinct e.student_id from enrollments e
     where e.tenant_id = $1 and e.class_id = $2
       and exists (select from program_caseload c where c.tenant_id = e.tenant_id and c.student_id = e.student_id)
     order by e.student_id"""

WITH_SERVICES = """
    select m.student_id from student_membership m
     where m.tenant_id = $1 and m.school_id = $2 and ($3::uuid is null or m.student_id > $3)
       and exists (select from service_logs l where l.tenant_id = m.tenant_id and l.student_id = m.student_id)
     order by m.student_id limit $4"""


@on(AcknowledgeAccommodations)
async def acknowledge_accommodations(job: AcknowledgeAccommodations, ctx: Context) -> None:
    """The student's plans, classes or teachers have changed; the school entered decides which week a session is in."""
    if await ctx.db.fetch(HOLD_PROGRAMS, ctx.tenant, [job.student_id]):
        await settle_acknowledgements(ctx, [job.student_id])
        await settle_all_weeks(ctx, [job.student_id])


@on(AcknowledgeInClass)
async def acknowledge_in_class(job: AcknowledgeInClass, ctx: Context) -> None:
    """Students of the class who have a plan, in one statement: a class is not that large."""
    students = [row["student_id"] for row in await ctx.db.fetch(CLASSMATES, ctx.tenant, job.class_id)]
    await ctx.db.fetch(HOLD_PROGRAMS, ctx.tenant, students)
    await settle_acknowledgements(ctx, students)


@on(ServiceMinutes)
async def service_minutes(job: ServiceMinutes, ctx: Context) -> None:
    """All of the student's weeks, from its logs and IEPs; a week that was still running is judged now if it is over."""
    await ctx.db.fetch(HOLD_PROGRAMS, ctx.tenant, [job.student_id])
    await settle_all_weeks(ctx, [job.student_id])


@on(ServiceMinutesOfSchool)
async def service_minutes_of_school(job: ServiceMinutesOfSchool, ctx: Context) -> None:
    """One page of students with services, and an order for the next page."""
    rows = await ctx.db.fetch(WITH_SERVICES, ctx.tenant, job.school_id, job.after, PAGE)
    students = [row["student_id"] for row in rows]
    await ctx.db.fetch(HOLD_PROGRAMS, ctx.tenant, students)
    await settle_all_weeks(ctx, students)
    if len(students) == PAGE:
        ctx.enqueue(ServiceMinutesOfSchool(school_id=job.school_id, after=students[-1]))


# Registers ------------------------------------------------------------------------------------------------------------

HOLD_REGISTER = "select pg_advisory_xact_lock(hashtextextended($1, 0))"

FORGET_REGISTER = """
    delete from compliance_register where tenant_id = $1 and kind = $2 and period = $3 and school_id = $4"""

# Row 0 says that the register was drawn up, and how many rows it has: one without rows is a register, too.
DRAW_UP = """
    with facts as materialized ({query}),
    counted as (
        insert into compliance_register (tenant_id, kind, period, school_id, n, facts)
        select $1, $5, $6, $7, 0, jsonb_build_object('rows', count(*)) from facts
    )
    insert into compliance_register (tenant_id, kind, period, school_id, n, facts)
    select $1, $5, $6, $7, row_number() over (), to_jsonb(facts) from facts"""


@on(DrawUpRegister)
async def draw_up_register(job: DrawUpRegister, ctx: Context) -> dict[str, int]:
    """The register anew from rows, and one report a format that shows it as it stands now.

    Raises PermanentError for a register or a period that there is not.
    """
    register = REGISTERS.get(job.name)
    if register is None:
        raise PermanentError("there is no register of this name in this version")
    try:
        first, end = bounds_of(job.period)
    except ValueError as error:
        raise PermanentError(str(error)) from None
    which = (ctx.tenant, job.name, job.period, job.school_id or EVERY_SCHOOL)
    await ctx.db.execute(HOLD_REGISTER, "/".join(map(str, ("register", *which))))
    await ctx.db.execute(FORGET_REGISTER, *which)
    said = await ctx.db.execute(DRAW_UP.format(query=register.query), ctx.tenant, first, end, job.school_id, *which[1:])
    params = {"period": job.period} | ({"school_id": str(job.school_id)} if job.school_id else {})
    for form in job.formats:
        ctx.enqueue(GenerateReport(
            report_id=derive_id(ctx.meta.key, form), kind=job.name, format=form, params=params,
            requested_by=job.requested_by, locale=job.locale,
        ))  # fmt: skip
    return {"rows": int(said.rsplit(" ", 1)[1])}


# Acknowledgements, recomputed from rows -------------------------------------------------------------------------------

# Who must know which plan. A teacher whose assignment or whose student's enrolment has not ended is current; one who
# begins next week must know before. Of an IEP only the latest amendment counts, and none once the IEP has ended or
# another has taken its place; an IEP that was never amended names no accommodations. "Today" is the school's.
WANTED = """
    with asked as (
        select * from unnest($2::uuid[], $3::date[]) as t (student_id, today)
    ), amended as (
        select distinct on (v.student_id, v.iep_id) v.student_id, v.iep_id, v.version::text as version
          from iep_versions v
         where v.tenant_id = $1 and v.student_id = any($2::uuid[])
         order by v.student_id, v.iep_id, v.version desc
    ), activated as (
        select distinct on (student_id) student_id, plan_id, said_by::text as version
          from section504_plans
         where tenant_id = $1 and student_id = any($2::uuid[])
         order by student_id, begin_date desc, said_at desc, plan_id desc
    ), standing as (
        select v.student_id, 'iep' as plan, v.iep_id as plan_id, v.version, i.end_date
          from amended v
          join program_caseload c on c.tenant_id = $1 and c.student_id = v.student_id
          left join ieps i on i.tenant_id = $1 and i.student_id = v.student_id and i.iep_id = v.iep_id
         where i.iep_id is null or i.iep_id = c.iep_id
         union all
        select student_id, '504', plan_id, version, null from activated
    ), wanted as (
        select distinct p.student_id, p.plan, p.plan_id, p.version, s.teacher_id
          from asked a
          join standing p on p.student_id = a.student_id and coalesce(p.end_date >= a.today, true)
          join enrollments e on e.tenant_id = $1 and e.student_id = a.student_id
                            and coalesce(e.end_date >= a.today, true)
          join class_staff s on s.tenant_id = e.tenant_id and s.class_id = e.class_id
                            and coalesce(s.end_date >= a.today, true)
    )"""

WITHDRAW_ACKS = f"""{WANTED}
    update accommodation_acks a set withdrawn_at = $4
     where a.tenant_id = $1 and a.student_id = any($2::uuid[])
       and a.acknowledged_at is null and a.withdrawn_at is null
       and not exists (select from wanted w
                        where (w.student_id, w.plan, w.plan_id, w.version, w.teacher_id)
                            = (a.student_id, a.plan, a.plan_id, a.version, a.teacher_id))"""  # noqa: S608 - our own text

ASK_FOR_ACKS = f"""{WANTED}
    insert into accommodation_acks as a
           (tenant_id, student_id, plan, plan_id, version, teacher_id, requested_at)
    select $1, student_id, plan, plan_id, version, teacher_id, $4 from wanted
     order by student_id, plan_id, version, teacher_id
    on conflict (tenant_id, student_id, plan_id, version, teacher_id) do update
       set requested_at = excluded.requested_at, withdrawn_at = null
     where a.withdrawn_at is not null
    returning student_id, plan, plan_id, version, teacher_id"""  # noqa: S608 - our own text

ACKNOWLEDGE = {"iep": "iep.acknowledge", "504": "section504.acknowledge"}


async def settle_acknowledgements(ctx: Context, students: Sequence[UUID]) -> None:
    """One row for each current teacher and plan that stands; whoever is asked anew is told. 34 CFR 300.323(d).

    What is no longer to be acknowledged is withdrawn, not deleted: that somebody was asked is part of the record.
    The students' programs are held by the caller, and all of them are of the message's tenant.
    """
    if not students:
        return
    tenant = ctx.tenant
    zones = await zones_of(ctx, [(tenant, student) for student in students])
    today = {student: ctx.now.astimezone(ZoneInfo(zone)).date() for (_, student), zone in zones.items()}
    asked = tenant, sorted(today), [today[student] for student in sorted(today)], ctx.now
    await ctx.db.execute(WITHDRAW_ACKS, *asked)
    for row in await ctx.db.fetch(ASK_FOR_ACKS, *asked):
        occasion = row["plan_id"], row["version"], row["teacher_id"]
        ctx.enqueue(
            DeliverNotification(
                notification_id=derive_id(tenant, "acknowledge", *occasion), recipient_id=row["teacher_id"],
                recipient_role="user", template=ACKNOWLEDGE[row["plan"]], subject_id=row["plan_id"],
            ),
            priority=NORMAL,
            unique="acknowledge:{}:{}:{}".format(*occasion),
        )


# Weeks of services, recomputed from rows ------------------------------------------------------------------------------

SHORTFALL_ALERT = "service_shortfall"

# The school that the student entered last. Until it is known, weeks are UTC's; ServiceMinutes makes that good.
ZONES = """
    select t.tenant_id, t.student_id,
           coalesce((select o.timezone from student_membership m
                       join orgs o on o.tenant_id = m.tenant_id and o.org_id = m.school_id
                      where m.tenant_id = t.tenant_id and m.student_id = t.student_id
                      order by m.begin_date desc, m.school_id limit 1), 'UTC') as zone
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, student_id)"""

LOGGED = """
    select student_id, started_at, null::date as week from service_logs
     where tenant_id = $1 and student_id = any($2::uuid[])
     union all
    select student_id, null, week from service_minutes_weekly
     where tenant_id = $1 and student_id = any($2::uuid[])"""

DELIVERED = """
    select t.tenant_id, t.student_id, t.week, l.service_type,
           coalesce(sum(l.minutes) filter (where l.missed_reason is null), 0)::bigint as minutes
      from unnest($1::text[], $2::uuid[], $3::date[], $4::timestamptz[], $5::timestamptz[])
        as t (tenant_id, student_id, week, since, until)
      join service_logs l on l.tenant_id = t.tenant_id and l.student_id = t.student_id
                         and l.started_at >= t.since and l.started_at < t.until
     group by t.tenant_id, t.student_id, t.week, l.service_type"""

# The IEP in force from Monday to Friday; of several, the one that began last.
MANDATES = """
    select distinct on (t.tenant_id, t.student_id, t.week) t.tenant_id, t.student_id, t.week, i.services
      from unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, week)
      join ieps i on i.tenant_id = t.tenant_id and i.student_id = t.student_id
                 and i.begin_date <= t.week and i.end_date >= t.week + 4
     order by t.tenant_id, t.student_id, t.week, i.begin_date desc, i.said_at desc, i.iep_id desc"""

FORGET_WEEKS = """
    delete from service_minutes_weekly w
     using unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, week)
     where w.tenant_id = t.tenant_id and w.student_id = t.student_id and w.week = t.week"""

SAVE_WEEKS = """
    insert into service_minutes_weekly as w (tenant_id, student_id, week, delivered, credited, mandated)
    select * from unnest($1::text[], $2::uuid[], $3::date[], $4::bigint[], $5::bigint[], $6::bigint[])
    on conflict (tenant_id, student_id, week) do update
       set delivered = excluded.delivered, credited = excluded.credited, mandated = excluded.mandated
     where (w.delivered, w.credited, w.mandated)
           is distinct from (excluded.delivered, excluded.credited, excluded.mandated)"""

# A week's own alert and the next one's depend on it; the one before decides whether it is the second in a row.
AROUND = """
    select distinct w.tenant_id, w.student_id, w.week, w.credited, w.mandated
      from unnest($1::text[], $2::uuid[], $3::date[]) as t (tenant_id, student_id, week)
      join service_minutes_weekly w on w.tenant_id = t.tenant_id and w.student_id = t.student_id
                                   and w.week between t.week - 7 and t.week + 7"""

RAISE = f"""
    insert into student_alerts as a (tenant_id, alert_id, student_id, kind, severity, detail, raised_at)
    select tenant_id, alert_id, student_id, '{SHORTFALL_ALERT}', 'high', week, $5
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[]) as t (tenant_id, alert_id, student_id, week)
     order by tenant_id, alert_id
    on conflict (tenant_id, alert_id) do update set resolved_at = null where a.resolved_at is not null"""  # noqa: S608

RESOLVE = """
    update student_alerts a set resolved_at = $3
      from (select a.tenant_id, a.alert_id
              from unnest($1::text[], $2::uuid[]) as t (tenant_id, alert_id)
              join student_alerts a using (tenant_id, alert_id)
             where a.resolved_at is null
             order by a.tenant_id, a.alert_id for update of a) gone
     where a.tenant_id = gone.tenant_id and a.alert_id = gone.alert_id"""

Student = tuple[str, UUID]
"""Tenant and student."""

Week = tuple[str, UUID, date]
"""Tenant, student, Monday."""


async def zones_of(ctx: Context, students: Iterable[Student]) -> dict[Student, str]:
    """The time zone of each student's school."""
    asked = sorted(set(students))
    rows = await ctx.db.fetch(ZONES, [t for t, _ in asked], [s for _, s in asked])
    return {(row["tenant_id"], row["student_id"]): row["zone"] for row in rows}


async def settle_all_weeks(ctx: Context, students: Sequence[UUID]) -> None:
    """Every week of these students of the message's tenant: those with entries, and those that had some."""
    zones = await zones_of(ctx, [(ctx.tenant, student) for student in students])
    weeks: dict[Week, Message | None] = {}
    for row in await ctx.db.fetch(LOGGED, ctx.tenant, students):
        student = ctx.tenant, row["student_id"]
        weeks[*student, row["week"] or week_of(row["started_at"], zones[student])] = None
    await settle_weeks(ctx, weeks, zones)


async def settle_weeks(ctx: Context, weeks: Mapping[Week, Message | None], zones: Mapping[Student, str]) -> None:
    """Delivered, credited and mandated minutes of these weeks from logs and IEPs, and the shortfalls that follow.

    A week that is not over yet is no shortfall: an order for its end is left behind. The students' programs are held
    by the caller.

    Args:
        weeks: with the event that asks for each; None for the one message of the call.
        zones: of their students.
    """
    if not weeks:
        return
    keys = sorted(weeks)
    columns = [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
    spans = [bounds(week, zones[tenant, student]) for tenant, student, week in keys]
    delivered: dict[Week, dict[str, int]] = {}
    for row in await ctx.db.fetch(DELIVERED, *columns, [since for since, _ in spans], [until for _, until in spans]):
        services = delivered.setdefault((row["tenant_id"], row["student_id"], row["week"]), {})
        services[row["service_type"]] = row["minutes"]
    mandated = {
        (row["tenant_id"], row["student_id"], row["week"]): mandates(row["services"])
        for row in await ctx.db.fetch(MANDATES, *columns)
    }
    empty = [key for key in keys if key not in delivered]
    if empty:
        await ctx.db.execute(FORGET_WEEKS, [k[0] for k in empty], [k[1] for k in empty], [k[2] for k in empty])
    full = [key for key in keys if key in delivered]
    if full:
        await ctx.db.execute(
            SAVE_WEEKS,
            [k[0] for k in full], [k[1] for k in full], [k[2] for k in full],
            [sum(delivered[k].values()) for k in full],
            [credited_minutes(delivered[k], mandated.get(k, {})) for k in full],
            [sum(mandated[k].values()) if k in mandated else None for k in full],
        )
    await _settle_shortfalls(ctx, keys, zones)
    for key, (_, until) in zip(keys, spans, strict=True):
        if key in delivered and until > ctx.now:
            ctx.enqueue(
                ServiceMinutes(student_id=key[1]), cause=weeks[key], delay=until - ctx.now,
                unique=f"week_over:{key[1]}:{key[2]}",
            )


def mandates(services: str) -> dict[str, int]:
    """Minutes a week by type of service, from ieps.services: JSON, a list of {type, minutes_per_week}."""
    minutes: dict[str, int] = {}
    for service in json.loads(services):
        minutes[service["type"]] = minutes.get(service["type"], 0) + service["minutes_per_week"]
    return minutes


async def _settle_shortfalls(ctx: Context, keys: Sequence[Week], zones: Mapping[Student, str]) -> None:
    """An alert stands as long as its week and the one before are both short."""
    short: dict[Student, set[date]] = {}
    for row in await ctx.db.fetch(AROUND, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]):
        student = row["tenant_id"], row["student_id"]
        if is_short(row["credited"], row["mandated"]) and _is_over(row["week"], zones[student], ctx.now):
            short.setdefault(student, set()).add(row["week"])
    running = {(*student, week) for student, weeks in short.items() for week in shortfalls(weeks)}
    looked_at = sorted({(t, s, later) for t, s, week in keys for later in (week, week + WEEK)})
    standing = [key for key in looked_at if key in running]
    if standing:
        await ctx.db.execute(
            RAISE,
            [k[0] for k in standing], [_alert(k) for k in standing], [k[1] for k in standing],
            [k[2].isoformat() for k in standing], ctx.now,
        )
    gone = [key for key in looked_at if key not in running]
    await ctx.db.execute(RESOLVE, [k[0] for k in gone], [_alert(k) for k in gone], ctx.now)


def _is_over(week: date, zone: str, now: datetime) -> bool:
    return bounds(week, zone)[1] <= now


def _alert(key: Week) -> UUID:
    return derive_id(key[0], SHORTFALL_ALERT, key[1], key[2])
