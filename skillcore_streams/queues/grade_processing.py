"""Grade processing: class grades recomputed from their scores, in one place for handlers and jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from skillcore_streams.events.gradebook import ClassGradeChanged, GradeCategory
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.rules.grades import (
    LETTERS,
    Assignment,
    Category,
    Mark,
    Scale,
    Scheme,
    class_scores,
    exact,
    letter,
)
from skillcore_streams.runtime import Context, Job, Queue, derive_id, on
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import Message

queue = Queue("grade-processing", concurrency=10)

SOON = timedelta(seconds=5)
PAGE = 500

NO_PERIOD = UUID(int=0)
"""Grading period of a class of which neither periods nor terms are known."""

LATE_CHANGE = "late_grade_change"
"""Kind of the alert that a grade of a closed period was changed."""


class OpenWork(Job, queue=queue, kind="open_work"):
    """Give a student who joined a class its open assignments."""

    class_id: UUID
    student_id: UUID


class RecalculateStudent(Job, queue=queue, kind="recalculate_student"):
    """Recompute the grade of one student in a class."""

    class_id: UUID
    student_id: UUID


class RecalculateClass(Job, queue=queue, kind="recalculate_class"):
    """Assignments or the scheme changed: recompute all grades of a class, a page of students at a time."""

    class_id: UUID
    after: UUID | None = None


# Work is a student's when it was due after they came and given before they left. A day is UTC's here: of work that is
# due in the evening, those who come the next morning may still hear.
IS_THEIRS = """
    a.published and a.deleted_at is null
    and (a.due_at is null or (a.due_at at time zone 'UTC')::date >= e.begin_date)
    and (e.end_date is null or a.assigned_on <= e.end_date)"""

# Enrolments come from another topic: whoever comes second must see what the first one did.
HOLD_WORK = "select pg_advisory_xact_lock(hashtextextended($1, 0))"

GIVE_WORK = f"""
    insert into student_assignments (tenant_id, class_id, student_id, assignment_id)
    select distinct a.tenant_id, a.class_id, e.student_id, a.assignment_id
      from assignments a
      join enrollments e on e.tenant_id = a.tenant_id and e.class_id = a.class_id
     where a.tenant_id = $1 and a.class_id = $2 and ($3::uuid is null or a.assignment_id = $3)
       and ($4::uuid is null or e.student_id = $4) and {IS_THEIRS}
     order by a.tenant_id, a.class_id, e.student_id, a.assignment_id
    on conflict do nothing"""  # noqa: S608 - our own text

TAKE_BACK = f"""
    delete from student_assignments s
     where s.tenant_id = $1 and s.class_id = $2 and ($3::uuid is null or s.assignment_id = $3)
       and ($4::uuid is null or s.student_id = $4) and s.status = 'assigned' and not s.missing
       and not exists (
           select from assignments a
             join enrollments e on e.tenant_id = a.tenant_id and e.class_id = a.class_id
            where a.tenant_id = s.tenant_id and a.class_id = s.class_id and a.assignment_id = s.assignment_id
              and e.student_id = s.student_id and {IS_THEIRS})"""  # noqa: S608 - our own text

STUDENTS = """
    select student_id from grades
     where tenant_id = $1 and class_id = $2 and ($3::uuid is null or student_id > $3)
     union
    select student_id from student_class_grades
     where tenant_id = $1 and class_id = $2 and ($3::uuid is null or student_id > $3)
     order by student_id limit $4"""


@on(OpenWork)
async def open_work(job: OpenWork, ctx: Context) -> None:
    """The student's work, and the final score anew: it counts work that was not done.

    The student is held even without any grade, so that grades given meanwhile are seen, or see the enrolment.
    """
    await settle_work(ctx, job.class_id, student=job.student_id)
    await settle_grades(ctx, [GradeOf(ctx.tenant, job.class_id, job.student_id, None)])


@on(RecalculateStudent)
async def recalculate_student(job: RecalculateStudent, ctx: Context) -> None:
    """One student."""
    await settle_grades(ctx, [GradeOf(ctx.tenant, job.class_id, job.student_id, None)])


@on(RecalculateClass)
async def recalculate_class(job: RecalculateClass, ctx: Context) -> None:
    """One page of students, and an order for the next page. Changes of closed periods may show only now, too."""
    if job.after is None:
        await tell_late_changes(ctx, await ctx.db.fetch(LATE_IN_CLASS, ctx.tenant, job.class_id), {})
    rows = await ctx.db.fetch(STUDENTS, ctx.tenant, job.class_id, job.after, PAGE)
    students = [row["student_id"] for row in rows]
    await settle_grades(ctx, [GradeOf(ctx.tenant, job.class_id, s, None) for s in students])
    if len(students) == PAGE:
        ctx.enqueue(RecalculateClass(class_id=job.class_id, after=students[-1]))


async def settle_work(
    ctx: Context, class_id: UUID, *, assignment: UUID | None = None, student: UUID | None = None
) -> None:
    """Whose the assignments of a class are, by their dates and the enrolments: of one assignment, or of one student.

    What a student has handed in, or missed, stays theirs.
    """
    await ctx.db.execute(HOLD_WORK, f"work/{ctx.tenant}/{class_id}")
    await ctx.db.execute(TAKE_BACK, ctx.tenant, class_id, assignment, student)
    await ctx.db.execute(GIVE_WORK, ctx.tenant, class_id, assignment, student)


# A student's grade in a class, recomputed from rows -------------------------------------------------------------------


class GradeOf(NamedTuple):
    """A student's grade in a class, and the event that asks for it (None: the one message of the call)."""

    tenant: str
    class_id: UUID
    student_id: UUID
    cause: Message | None


Pair = tuple[str, UUID, UUID]
"""Tenant, class, student."""


@dataclass(frozen=True, slots=True)
class Held:
    """Grades whose rows this transaction has locked: nobody else changes what follows from them."""

    asked: Mapping[Pair, Message | None]

    @property
    def columns(self) -> tuple[list[str], list[UUID], list[UUID]]:
        """Tenants, classes and students, for unnest()."""
        return [k[0] for k in self.asked], [k[1] for k in self.asked], [k[2] for k in self.asked]

    @property
    def classes(self) -> tuple[list[str], list[UUID]]:
        """Tenants and classes, each once."""
        keys = sorted({(tenant, class_id) for tenant, class_id, _ in self.asked})
        return [k[0] for k in keys], [k[1] for k in keys]

    def __or__(self, other: Held) -> Held:
        return Held({**other.asked, **self.asked})


# Rows are made or locked in key order; `where false` locks a row without writing it anew.
HOLD = """
    insert into student_class_grades as g (tenant_id, class_id, student_id)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[])
    on conflict (tenant_id, class_id, student_id) do update set letter = g.letter where false"""

SCHEMES = """
    select s.tenant_id, s.class_id, s.version, s.method, s.missing_policy, s.categories, l.letters, l.least
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, class_id)
     cross join lateral (
           select * from grading_schemes s
            where s.tenant_id = t.tenant_id and s.class_id = t.class_id
            order by version desc limit 1) s
      left join classes c on c.tenant_id = t.tenant_id and c.class_id = t.class_id
      left join lateral (
           select array_agg(letter order by min_percent desc) as letters,
                  array_agg(min_percent order by min_percent desc) as least
             from letter_scales l where l.tenant_id = c.tenant_id and l.school_id = c.school_id) l on true"""

WORK = """
    select a.tenant_id, a.class_id, a.assignment_id, a.category_id, a.points_possible, a.extra_credit,
           a.omit_from_final, a.assigned_on, (a.due_at at time zone 'UTC')::date as due_on
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, class_id)
      join assignments a using (tenant_id, class_id)
     where a.published and a.deleted_at is null
     order by a.tenant_id, a.class_id, a.assignment_id"""

# One row a student: the newest word on each assignment in arrays, which cost less than rows. Who is not known to be
# enrolled has no dates. Work may be missing that nobody has graded.
MARKS = """
    select t.tenant_id, t.class_id, t.student_id, g.*, m.missing_work, e.begins, e.ends,
           y.current_score, y.final_score, y.letter, y.unposted_current_score, y.unposted_final_score, y.calc_version
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as t (tenant_id, class_id, student_id)
      join student_class_grades y using (tenant_id, class_id, student_id)
     cross join lateral (
           select array_agg(assignment_id) as assignments, array_agg(score) as scores, array_agg(excused) as excused,
                  array_agg(missing) as missing, array_agg(posted) as posted, max(said_at) as as_of
             from (select distinct on (assignment_id) *
                     from grades g
                    where g.tenant_id = t.tenant_id and g.class_id = t.class_id and g.student_id = t.student_id
                      and not g.voided
                    order by assignment_id, said_at desc, said_by desc) newest) g
     cross join lateral (
           select array_agg(assignment_id) as missing_work
             from student_assignments s
            where s.tenant_id = t.tenant_id and s.class_id = t.class_id and s.student_id = t.student_id
              and s.missing) m
     cross join lateral (
           select min(begin_date) as begins,
                  case when not bool_or(end_date is null) then max(end_date) end as ends
             from enrollments e
            where e.tenant_id = t.tenant_id and e.student_id = t.student_id and e.class_id = t.class_id) e"""

# What students and guardians see makes a version; a change of what they do not see yet is only kept.
SAVE = """
    with saved as (
        update student_class_grades y
           set current_score = t.current_score, final_score = t.final_score, letter = t.letter,
               unposted_current_score = t.unposted_current_score, unposted_final_score = t.unposted_final_score,
               calc_version = y.calc_version + t.seen::int
          from unnest($1::text[], $2::uuid[], $3::uuid[], $4::numeric[], $5::numeric[], $6::text[], $7::numeric[],
                      $8::numeric[], $9::boolean[], $10::timestamptz[])
            as t (tenant_id, class_id, student_id, current_score, final_score, letter, unposted_current_score,
                  unposted_final_score, seen, as_of)
         where y.tenant_id = t.tenant_id and y.class_id = t.class_id and y.student_id = t.student_id
        returning y.tenant_id, y.class_id, y.student_id, y.calc_version, t.as_of, y.current_score, y.final_score,
                  y.letter, t.seen
    ), kept as (
        insert into grade_history (tenant_id, class_id, student_id, calc_version, as_of, current_score, final_score,
                                   letter)
        select tenant_id, class_id, student_id, calc_version, as_of, current_score, final_score, letter
          from saved where seen
    )
    select s.tenant_id, s.class_id, s.student_id, s.calc_version,
           coalesce(p.session_id, c.term_ids[1]) as period
      from saved s
      left join classes c on c.tenant_id = s.tenant_id and c.class_id = s.class_id
      left join lateral (
           select session_id from academic_sessions a
            where a.tenant_id = c.tenant_id and a.school_id = c.school_id and a.type = 'gradingPeriod'
              and (s.as_of at time zone 'UTC')::date between a.start_date and a.end_date
            order by start_date desc, session_id limit 1) p on true
     where s.seen
     order by s.tenant_id, s.class_id, s.student_id"""


class Class(NamedTuple):
    """What is known of a class: its scheme, its letters, and its work with the days it was given and due."""

    version: int
    scheme: Scheme
    scale: Scale
    work: list[tuple[Assignment, date, date | None]]

    def work_of(self, begins: date | None, ends: date | None, marks: Mapping[UUID, Mark]) -> list[Assignment]:
        """The work of a student who came and left on these days: theirs by GIVE_WORK's rule, or marked anyway."""
        return [
            a for a, given, due in self.work
            if ((begins is None or due is None or due >= begins) and (ends is None or given <= ends)) or a.id in marks
        ]


class Grade(NamedTuple):
    """What is stored of a student in a class: percentages of posted grades, their letter, percentages of all."""

    current: Decimal | None
    final: Decimal | None
    letter: str | None
    unposted_current: Decimal | None
    unposted_final: Decimal | None

    @property
    def seen(self) -> tuple[Decimal | None, Decimal | None, str | None]:
        """What students and guardians see."""
        return self[:3]


async def hold_grades(ctx: Context, grades: Iterable[GradeOf]) -> Held:
    """Lock the grades until COMMIT, before anything of them is read or written.

    So whoever comes next, chunk or job, waits here and then sees all that the other has committed.
    """
    asked = {(g.tenant, g.class_id, g.student_id): g.cause for g in grades}
    held = Held({key: asked[key] for key in sorted(asked)})
    if asked:
        await ctx.db.execute(HOLD, *held.columns)
    return held


async def settle_grades(ctx: Context, grades: Iterable[GradeOf]) -> None:
    """Compute these grades anew."""
    await recompute_grades(ctx, await hold_grades(ctx, grades))


async def recompute_grades(ctx: Context, held: Held) -> None:
    """Class grades of these students, from their rows: repeats change nothing. What changed is published.

    A class whose scheme is not known yet has no grades; ClassCreated brings about a job that computes them.
    """
    if not held.asked:
        return
    classes = await known_classes(ctx.db, *held.classes)
    changed: list[tuple[Any, Grade, Grade]] = []
    for row in await ctx.db.fetch(MARKS, *held.columns):
        known = classes.get((row["tenant_id"], row["class_id"]))
        if known is None:
            continue
        before = stored(row)
        after = computed(known, row)
        if after != before:
            changed.append((row, before, after))
    if changed:
        await _save(ctx, held, changed)


async def known_classes(db: Database, tenants: Sequence[str], classes: Sequence[UUID]) -> dict[tuple[str, UUID], Class]:
    """Classes that have a scheme."""
    found = {
        (row["tenant_id"], row["class_id"]): Class(row["version"], scheme_of(row), scale_of(row), [])
        for row in await db.fetch(SCHEMES, tenants, classes)
    }
    if found:
        for row in await db.fetch(WORK, [k[0] for k in found], [k[1] for k in found]):
            assignment = Assignment(
                row["assignment_id"], row["category_id"], row["points_possible"], row["extra_credit"],
                row["omit_from_final"],
            )
            found[row["tenant_id"], row["class_id"]].work.append((assignment, row["assigned_on"], row["due_on"]))
    return found


def scheme_of(row: Any) -> Scheme:
    """The scheme as it is stored: categories as GradeCategoryWeightsChanged has them."""
    categories = [GradeCategory.model_validate_json(json.dumps(c)) for c in json.loads(row["categories"])]
    return Scheme(
        [
            Category(c.id, c.name, c.weight, c.drop_lowest, c.drop_highest, frozenset(c.never_drop))
            for c in categories
        ],
        row["method"],
        row["missing_policy"],
    )


def scale_of(row: Any) -> Scale:
    """The school's letters, or everybody's while it is not known."""
    return LETTERS if row["letters"] is None else list(zip(row["letters"], row["least"], strict=True))


def marks_of(row: Any) -> dict[UUID, Mark]:
    """What the student was given, by assignment; missing work without a grade is marked missing."""
    marks = {work: Mark(None, missing=True) for work in row["missing_work"] or ()}
    for work, *given in zip(
        row["assignments"] or (), row["scores"] or (), row["excused"] or (), row["missing"] or (), row["posted"] or (),
        strict=True,
    ):
        mark = Mark(*given)
        marks[work] = mark._replace(missing=True) if work in marks and mark.score is None else mark
    return marks


def stored(row: Any) -> Grade:
    """The grade as its row has it."""
    return Grade(
        row["current_score"], row["final_score"], row["letter"], row["unposted_current_score"],
        row["unposted_final_score"],
    )


def computed(known: Class, row: Any) -> Grade:
    """The grade as it follows from the rows. Without a single grade there is none: work alone is no zero."""
    if row["as_of"] is None:
        return Grade(None, None, None, None, None)
    marks = marks_of(row)
    work = known.work_of(row["begins"], row["ends"], marks)

    current, final = class_scores(known.scheme, work, marks)
    seen = exact(current.percent), exact(final.percent)
    if all(mark.posted for mark in marks.values()):
        everything = seen
    else:
        unposted = class_scores(known.scheme, work, marks, posted_only=False)
        everything = exact(unposted[0].percent), exact(unposted[1].percent)
    return Grade(*seen, letter(current.percent, known.scale), *everything)


async def _save(ctx: Context, held: Held, changed: Sequence[tuple[Any, Grade, Grade]]) -> None:
    rows = await ctx.db.fetch(
        SAVE,
        [r["tenant_id"] for r, *_ in changed], [r["class_id"] for r, *_ in changed],
        [r["student_id"] for r, *_ in changed], *map(list, zip(*(after for *_, after in changed), strict=True)),
        [after.seen != before.seen for _, before, after in changed],
        [r["as_of"] or ctx.now for r, *_ in changed],
    )
    by_key = {(r["tenant_id"], r["class_id"], r["student_id"]): (b, a) for r, b, a in changed}
    for row in rows:
        key = row["tenant_id"], row["class_id"], row["student_id"]
        before, after = by_key[key]
        ctx.publish(
            ClassGradeChanged(
                class_id=row["class_id"], student_id=row["student_id"], grading_period_id=row["period"] or NO_PERIOD,
                current_score=after.current, old_current_score=before.current, final_score=after.final,
                letter=after.letter, old_letter=before.letter, calc_version=row["calc_version"],
            ),
            cause=held.asked[key],
        )


# Grades of closed periods ---------------------------------------------------------------------------------------------

# An assignment belongs to the grading period in which it was due, else given.
IS_LATE = """
      join classes c on c.tenant_id = g.tenant_id and c.class_id = g.class_id
      join assignments a on a.tenant_id = g.tenant_id and a.class_id = g.class_id and a.assignment_id = g.assignment_id
      join grading_period_locks l on l.tenant_id = c.tenant_id and l.school_id = c.school_id
       and l.closed_at < g.graded_at
      join academic_sessions p on p.tenant_id = l.tenant_id and p.session_id = l.grading_period_id
       and coalesce((a.due_at at time zone 'UTC')::date, a.assigned_on) between p.start_date and p.end_date"""

LATE_WORDS = f"""
    select g.tenant_id, g.class_id, g.student_id, g.event_key, g.graded_at, c.school_id
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, event_key)
      join grade_audit g using (tenant_id, event_key) {IS_LATE}"""  # noqa: S608 - our own text

LATE_IN_CLASS = f"""
    select g.tenant_id, g.class_id, g.student_id, g.event_key, g.graded_at, c.school_id
      from grade_audit g {IS_LATE}
     where g.tenant_id = $1 and g.class_id = $2"""  # noqa: S608 - our own text

ALERT_LATE = """
    insert into student_alerts (tenant_id, alert_id, student_id, kind, severity, detail, raised_at)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
    on conflict do nothing returning tenant_id, alert_id"""


async def tell_late_changes(ctx: Context, rows: Sequence[Any], causes: Mapping[UUID, Message]) -> None:
    """An alert, and a notice to the school, for each grade that was changed after its grading period was closed.

    Args:
        rows: what LATE_WORDS or LATE_IN_CLASS found.
        causes: the events by their keys; without one, the one message of this call is the cause.
    """
    late = {(r["tenant_id"], derive_id(r["tenant_id"], LATE_CHANGE, r["event_key"])): r for r in rows}
    if not late:
        return
    order = sorted(late)
    found = [late[key] for key in order]
    new = await ctx.db.fetch(
        ALERT_LATE,
        [k[0] for k in order], [k[1] for k in order], [r["student_id"] for r in found], [LATE_CHANGE] * len(found),
        ["high"] * len(found), [str(r["class_id"]) for r in found], [r["graded_at"] for r in found],
    )
    for tenant, alert in sorted(tuple(row.values()) for row in new):
        row = late[tenant, alert]
        ctx.enqueue(
            DeliverNotification(
                notification_id=alert, recipient_id=row["school_id"], recipient_role="staff_of",
                template="grading.late_change", subject_id=row["event_key"],
            ),
            cause=causes.get(row["event_key"]),
            priority=NORMAL,
            unique=f"late:{alert}",
        )
