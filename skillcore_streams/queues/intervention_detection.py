"""Intervention detection: who needs support, from attendance, behaviour and courses.

Scores are recomputed from rows, a page of students in a fixed number of statements. An event says only that a student's
tier has changed; the score itself is for staff and goes to nobody else (DOMAIN.md 3.1, EarlyWarningHandler).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.interventions import StudentRiskDetected
from skillcore_streams.rules.early_warning import DEFAULT, Facts, Model, Risk, assess, failed, grade_point_average
from skillcore_streams.runtime import Context, Job, Queue, derive_id, on

queue = Queue("intervention-detection", concurrency=10)

PAGE = 200

WINDOW = timedelta(days=90)
"""How far back behaviour incidents count. Attendance is the latest school year's, grades count as they stand."""


class DetectRisk(Job, queue=queue, kind="student"):
    """Score one student anew."""

    student_id: UUID


class DetectRiskInSchool(Job, queue=queue, kind="school"):
    """Score a school's students anew, a page of them at a time."""

    school_id: UUID
    after: UUID | None = None


MODEL = "select * from risk_models where tenant_id = $1"

# Rows are made or locked in key order; `where false` locks a row without writing it anew.
HOLD = """
    insert into student_risk as r (tenant_id, student_id)
    select $1, s from unnest($2::uuid[]) s order by s
    on conflict (tenant_id, student_id) do update set tier = r.tier where false"""

# A student's school is the one entered last; its day of today ends the window. Grades count in classes that go on.
FACTS = """
    select t.student_id, m.school_id, today.day as window_end, r.tier, y.days_enrolled, y.rate,
           (select count(*)::int from behavior_incidents b
             where b.tenant_id = $1 and b.student_id = t.student_id and b.occurred_at > $3::timestamptz - $4::interval
               and b.occurred_at <= $3) as incidents,
           array(select g.letter from student_class_grades g
                  where g.tenant_id = $1 and g.student_id = t.student_id and g.letter is not null
                    and exists (select from enrollments e
                                 where e.tenant_id = $1 and e.class_id = g.class_id and e.student_id = g.student_id
                                   and e.begin_date <= today.day and coalesce(e.end_date >= today.day, true))
                  order by g.class_id) as letters
      from unnest($2::uuid[]) t (student_id)
      join student_risk r on r.tenant_id = $1 and r.student_id = t.student_id
      join lateral (select x.school_id from student_membership x
                     where x.tenant_id = $1 and x.student_id = t.student_id
                     order by x.begin_date desc, x.school_id limit 1) m on true
      left join orgs o on o.tenant_id = $1 and o.org_id = m.school_id
     cross join lateral (select ($3::timestamptz at time zone coalesce(o.timezone, 'UTC'))::date as day) today
      left join lateral (select x.days_enrolled, x.rate from student_attendance_ytd x
                          where x.tenant_id = $1 and x.student_id = t.student_id and x.rate is not null
                          order by x.school_year desc limit 1) y on true
     order by t.student_id"""

SAVE = """
    update student_risk r
       set model_version = $2, window_end = t.window_end, tier = t.tier, score = t.attendance + t.behavior + t.course,
           attendance_points = t.attendance, behavior_points = t.behavior, course_points = t.course,
           reasons = case t.reasons when '' then '{}' else string_to_array(t.reasons, E'\\n') end
      from unnest($3::uuid[], $4::date[], $5::int[], $6::int[], $7::int[], $8::int[], $9::text[])
           t (student_id, window_end, tier, attendance, behavior, course, reasons)
     where r.tenant_id = $1 and r.student_id = t.student_id"""

STUDENTS = """
    select student_id from student_membership
     where tenant_id = $1 and school_id = $2 and ($3::uuid is null or student_id > $3)
     order by student_id limit $4"""


@on(DetectRisk)
async def detect_risk(job: DetectRisk, ctx: Context) -> None:
    """One student."""
    await settle_risk(ctx, [job.student_id])


@on(DetectRiskInSchool)
async def detect_risk_in_school(job: DetectRiskInSchool, ctx: Context) -> None:
    """One page of students, and an order for the next page."""
    rows = await ctx.db.fetch(STUDENTS, ctx.tenant, job.school_id, job.after, PAGE)
    students = [row["student_id"] for row in rows]
    await settle_risk(ctx, students)
    if len(students) == PAGE:
        ctx.enqueue(DetectRiskInSchool(school_id=job.school_id, after=students[-1]))


async def settle_risk(ctx: Context, students: Sequence[UUID]) -> None:
    """Score these students of the message's tenant. Whose tier has changed is published, everybody beginning in tier 1.

    A student of no school is not scored: nobody would know whom to tell.
    """
    if not students:
        return
    await ctx.db.execute(HOLD, ctx.tenant, list(students))
    model = await model_of(ctx)
    rows = await ctx.db.fetch(FACTS, ctx.tenant, list(students), ctx.now, WINDOW)
    risks = [(row, assess(_facts(row), model)) for row in rows]
    await ctx.db.execute(
        SAVE, ctx.tenant, model.version, [row["student_id"] for row, _ in risks],
        [row["window_end"] for row, _ in risks], [r.tier for _, r in risks], [r.attendance for _, r in risks],
        [r.behavior for _, r in risks], [r.course for _, r in risks], ["\n".join(r.reasons) for _, r in risks],
    )
    for row, risk in risks:
        if risk.tier != row["tier"]:
            ctx.publish(_detected(ctx.tenant, row, risk, model))


async def model_of(ctx: Context) -> Model:
    """The tenant's own thresholds, or the published ones."""
    row = await ctx.db.fetchrow(MODEL, ctx.tenant)
    if row is None:
        return DEFAULT
    return Model(**{name: row[name] for name in Model.__dataclass_fields__})


def _facts(row: Mapping[str, Any]) -> Facts:
    letters = row["letters"]
    return Facts(
        days_enrolled=row["days_enrolled"] or 0, rate=row["rate"], incidents=row["incidents"],
        gpa=grade_point_average(letters), failing=failed(letters),
    )


def _detected(tenant: str, row: Mapping[str, Any], risk: Risk, model: Model) -> StudentRiskDetected:
    student, window_end = row["student_id"], row["window_end"]
    return StudentRiskDetected(
        risk_id=derive_id(tenant, "risk", student, window_end, model.version), student_id=student,
        school_id=row["school_id"], window_end=window_end, score=risk.score, attendance_pts=risk.attendance,
        behavior_pts=risk.behavior, course_pts=risk.course, reasons=list(risk.reasons),
        recommended_tier=risk.tier, model_version=model.version,  # type: ignore[arg-type]
    )
