"""Gradebook: grades and their audit, assignments, and who must hear of a failing grade."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from skillcore_streams.events.gradebook import AssignmentCreated, ClassGradeChanged, GradeUpdated
from skillcore_streams.queues.grade_processing import (
    LATE_WORDS,
    SOON,
    GradeOf,
    RecalculateClass,
    hold_grades,
    recompute_grades,
    scale_of,
    settle_work,
    tell_late_changes,
)
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
from skillcore_streams.rules.grades import failing_below, in_range
from skillcore_streams.runtime import Context, PermanentError, derive_id, on

REMINDED = timedelta(hours=24)
"""How long before work is due its students are reminded."""

SHARP_DROP, WITHIN = Decimal(10), timedelta(days=14)
"""Points of a percentage, lost within so long, that call for a look at the student."""

FAILING, DROPPED = "failing_grade", "grade_drop"
"""Kinds of alerts: one of each stands for a student and class."""

# What a replaced row said of another student or assignment is read as it was before the statement.
SAVE_GRADES = """
    with saved as (
        insert into grades as g (tenant_id, class_id, grade_id, student_id, assignment_id, submission_id, score,
                                 points_possible, letter, excused, missing, late, posted, said_at, said_by)
        select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::numeric[],
                             $8::numeric[], $9::text[], $10::boolean[], $11::boolean[], $12::boolean[], $13::boolean[],
                             $14::timestamptz[], $15::uuid[])
        on conflict (tenant_id, class_id, grade_id) do update
           set student_id = excluded.student_id, assignment_id = excluded.assignment_id,
               submission_id = excluded.submission_id, score = excluded.score,
               points_possible = excluded.points_possible, letter = excluded.letter, excused = excluded.excused,
               missing = excluded.missing, late = excluded.late, posted = excluded.posted,
               said_at = excluded.said_at, said_by = excluded.said_by
         where (g.said_at, g.said_by) < (excluded.said_at, excluded.said_by)
        returning tenant_id, class_id, grade_id, student_id
    )
    select g.tenant_id, g.class_id, g.grade_id, g.student_id
      from saved s join grades g using (tenant_id, class_id, grade_id)
     where g.student_id <> s.student_id"""

NOT_COUNTED_YET = """
    select distinct t.tenant_id, t.class_id
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as t (tenant_id, class_id, assignment_id)
     where not exists (select from assignments a where a.tenant_id = t.tenant_id and a.class_id = t.class_id
                          and a.assignment_id = t.assignment_id)
        or not exists (select from grading_schemes s where s.tenant_id = t.tenant_id and s.class_id = t.class_id)"""

AUDIT = """
    insert into grade_audit (tenant_id, event_key, class_id, student_id, assignment_id, grade_id, old_score, score,
                             old_points_possible, points_possible, letter, excused, missing, late, posted, grader_id,
                             reason, graded_at)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::numeric[],
                         $8::numeric[], $9::numeric[], $10::numeric[], $11::text[], $12::boolean[], $13::boolean[],
                         $14::boolean[], $15::boolean[], $16::uuid[], $17::text[], $18::timestamptz[])
    on conflict do nothing"""

SAVE_ASSIGNMENT = """
    insert into assignments as a (tenant_id, class_id, assignment_id, category_id, title, points_possible, due_at,
                                  assigned_on, grading_type, extra_credit, omit_from_final, published, said_at,
                                  said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict (tenant_id, class_id, assignment_id) do update
       set category_id = excluded.category_id, title = excluded.title, points_possible = excluded.points_possible,
           due_at = excluded.due_at, assigned_on = excluded.assigned_on, grading_type = excluded.grading_type,
           extra_credit = excluded.extra_credit, omit_from_final = excluded.omit_from_final,
           published = excluded.published, said_at = excluded.said_at, said_by = excluded.said_by
     where a.version = 0 and (a.said_at, a.said_by) < (excluded.said_at, excluded.said_by)
    returning xmax <> 0 as replaced"""

HAS_GRADES = "select exists (select from grades where tenant_id = $1 and class_id = $2)"

# The newest answer, the highest score of the days before it, and the school's letters.
STANDING = """
    select g.calc_version, g.current_score, l.letters, l.least,
           (select max(h.current_score) from grade_history h
             where h.tenant_id = g.tenant_id and h.class_id = g.class_id and h.student_id = g.student_id
               and h.as_of >= latest.as_of - $4::interval) as highest
      from student_class_grades g
      join grade_history latest using (tenant_id, class_id, student_id, calc_version)
      left join classes c using (tenant_id, class_id)
      left join lateral (
           select array_agg(letter order by min_percent desc) as letters,
                  array_agg(min_percent order by min_percent desc) as least
             from letter_scales l where l.tenant_id = c.tenant_id and l.school_id = c.school_id) l on true
     where g.tenant_id = $1 and g.class_id = $2 and g.student_id = $3"""

RAISE = """
    insert into student_alerts as a (tenant_id, alert_id, student_id, kind, severity, detail, raised_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id, alert_id) do update set raised_at = excluded.raised_at, resolved_at = null
     where a.resolved_at is not null
    returning 1"""

RESOLVE = """
    update student_alerts set resolved_at = $3 where tenant_id = $1 and alert_id = $2 and resolved_at is null"""


@on(GradeUpdated, name="GradeCalculationHandler")
async def calculate_grades(events: list[GradeUpdated], ctx: Context) -> None:
    """Keep the newest word on each grade, then recompute the class grades of its students.

    A grade may come before its assignment or its class. It counts when they arrive, by the job that they bring about;
    one that is ordered here sees those that were on their way at this moment.
    """
    check_grades(events)
    held = await hold_grades(ctx, [GradeOf(e.meta.tenant, e.class_id, e.student_id, e) for e in events])
    grades = newest(events)
    moved = await ctx.db.fetch(
        SAVE_GRADES,
        [e.meta.tenant for e in grades], [e.class_id for e in grades], [e.grade_id for e in grades],
        [e.student_id for e in grades], [e.assignment_id for e in grades], [e.submission_id for e in grades],
        [e.score for e in grades], [e.points_possible for e in grades], [e.letter for e in grades],
        [e.excused for e in grades], [e.missing for e in grades], [e.late for e in grades],
        [e.posted for e in grades], [e.graded_at for e in grades], [e.meta.key for e in grades],
    )
    if moved:  # it was another student's
        words = {(e.meta.tenant, e.class_id, e.grade_id): e for e in grades}
        held |= await hold_grades(ctx, [
            GradeOf(r["tenant_id"], r["class_id"], r["student_id"], words[r["tenant_id"], r["class_id"], r["grade_id"]])
            for r in moved
        ])
    await recompute_grades(ctx, held)
    by_class = {(e.meta.tenant, e.class_id): e for e in events}
    for row in await ctx.db.fetch(
        NOT_COUNTED_YET, [e.meta.tenant for e in grades], [e.class_id for e in grades],
        [e.assignment_id for e in grades],
    ):
        cause = by_class[row["tenant_id"], row["class_id"]]
        ctx.enqueue(RecalculateClass(class_id=row["class_id"]), cause=cause, debounce=SOON)


@on(GradeUpdated, name="GradeAuditTrailHandler")
async def audit_grades(events: list[GradeUpdated], ctx: Context) -> None:
    """Every word on a grade, once, also those that a newer one has overtaken; and an alert for closed periods."""
    check_grades(events)
    by_key = {e.meta.key: e for e in events}
    words = sorted(by_key.values(), key=lambda e: (e.meta.tenant, e.meta.key))
    await ctx.db.execute(
        AUDIT,
        [e.meta.tenant for e in words], [e.meta.key for e in words], [e.class_id for e in words],
        [e.student_id for e in words], [e.assignment_id for e in words], [e.grade_id for e in words],
        [e.old_score for e in words], [e.score for e in words], [e.old_points_possible for e in words],
        [e.points_possible for e in words], [e.letter for e in words], [e.excused for e in words],
        [e.missing for e in words], [e.late for e in words], [e.posted for e in words], [e.grader_id for e in words],
        [e.reason for e in words], [e.graded_at for e in words],
    )
    late = await ctx.db.fetch(LATE_WORDS, [e.meta.tenant for e in words], [e.meta.key for e in words])
    await tell_late_changes(ctx, late, by_key)


@on(AssignmentCreated, name="AssignmentCreatedHandler")
async def create_assignment(event: AssignmentCreated, ctx: Context) -> None:
    """The assignment, and who has to do it. Where grades were given already, the class is recomputed by a job.

    So it is where an older word was replaced: grades given at this very moment may have been computed with it.
    """
    check_points(event.points_possible)
    tenant, class_id, assignment = ctx.tenant, event.class_id, event.assignment_id
    replaced = await ctx.db.fetchval(
        SAVE_ASSIGNMENT, tenant, class_id, assignment, event.category_id, event.title, event.points_possible,
        event.due_at, event.assigned_on, event.grading_type, event.extra_credit, event.omit_from_final,
        event.published, event.meta.time, event.meta.key,
    )
    await settle_work(ctx, class_id, assignment=assignment)
    if event.published and event.due_at is not None and event.due_at - REMINDED > ctx.now:
        reminder = DeliverNotification(
            notification_id=derive_id(tenant, "assignment_reminder", assignment), recipient_id=class_id,
            recipient_role="students_of", template="grading.assignment_due", subject_id=assignment,
        )
        ctx.enqueue(reminder, delay=event.due_at - REMINDED - ctx.now, priority=LOW, unique=f"due:{assignment}")
    if replaced or await ctx.db.fetchval(HAS_GRADES, tenant, class_id):
        ctx.enqueue(RecalculateClass(class_id=class_id), debounce=SOON)


@on(ClassGradeChanged, name="FailingGradeAlertHandler")
async def watch_grade(event: ClassGradeChanged, ctx: Context) -> None:
    """An alert stands while the grade is failing, and one while it has dropped sharply; whoever hears of it, once.

    Failing is below the least percentage of the second lowest letter. What is judged is the newest answer: an older
    one has a successor that is judged when its own event arrives.
    """
    row = await ctx.db.fetchrow(STANDING, ctx.tenant, event.class_id, event.student_id, WITHIN)
    if row is None or event.calc_version < row["calc_version"]:
        return
    score, cut = row["current_score"], failing_below(scale_of(row))
    failing = score is not None and cut is not None and score < cut
    dropped = score is not None and row["highest"] - score >= SHARP_DROP
    told = [await _stands(event, ctx, FAILING, "high", failing), await _stands(event, ctx, DROPPED, "warning", dropped)]
    if any(told):
        ctx.enqueue(DetectRisk(student_id=event.student_id), debounce=SOON)


async def _stands(event: ClassGradeChanged, ctx: Context, kind: str, severity: str, stands: bool) -> bool:
    """Raise, keep or resolve one alert. Returns whether it was raised, and then guardians and counselor are told."""
    alert = derive_id(ctx.tenant, kind, event.class_id, event.student_id)
    if not stands:
        await ctx.db.execute(RESOLVE, ctx.tenant, alert, event.meta.time)
        return False
    raised = await ctx.db.fetchval(
        RAISE, ctx.tenant, alert, event.student_id, kind, severity, str(event.class_id), event.meta.time
    )
    if not raised:
        return False
    for role in ("guardians_of", "staff_of"):
        occasion = f"{kind}:{event.class_id}:{event.student_id}:{event.calc_version}:{role}"
        ctx.enqueue(
            DeliverNotification(
                notification_id=derive_id(ctx.tenant, occasion), recipient_id=event.student_id,
                recipient_role=role, template=f"grading.{kind}", subject_id=alert,
            ),
            priority=NORMAL,
            unique=occasion,
        )
    return True


def check_grades(events: Iterable[GradeUpdated]) -> None:
    """Raises PermanentError for grades that no school gives."""
    for event in events:
        check_points(event.points_possible, event.score, event.old_score, event.old_points_possible)


def check_points(possible: Decimal, *others: Decimal | None) -> None:
    """Raises PermanentError for less than no points possible, a billion points, a seventh decimal."""
    if possible < 0 or not in_range(possible, *others):
        raise PermanentError("points are below a billion and have at most six decimals; possible ones are not negative")


def newest(events: Iterable[GradeUpdated]) -> Sequence[GradeUpdated]:
    """The last word on each grade, in the order of the primary key."""
    last: dict[tuple[str, UUID, UUID], GradeUpdated] = {}
    for event in sorted(events, key=lambda e: (e.graded_at, e.meta.key)):
        last[event.meta.tenant, event.class_id, event.grade_id] = event
    return [last[key] for key in sorted(last)]
