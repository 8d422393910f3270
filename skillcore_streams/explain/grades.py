"""A student's grade in a class, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from skillcore_streams.events.gradebook import AssignmentCreated, GradeCategoryWeightsChanged
from skillcore_streams.events.rostering import ClassCreated
from skillcore_streams.explain import differences, event_ids, masked
from skillcore_streams.queues.grade_processing import Class, known_classes
from skillcore_streams.rules.grades import ALL_WORK, NOT_GRADED, Assignment, Mark, Scheme, class_score, earned, exact
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.errors import SkillCoreError

STORED = """
    select * from student_class_grades where tenant_id = $1 and class_id = $2 and student_id = $3"""

CAME = """
    select min(begin_date) as begins, case when not bool_or(end_date is null) then max(end_date) end as ends
      from enrollments where tenant_id = $1 and class_id = $2 and student_id = $3"""

# The class's assignments with the student's newest grade, and grades whose assignment is not known.
ITEMS = """
    select coalesce(a.assignment_id, g.assignment_id) as assignment_id, a.category_id, a.title, a.points_possible,
           a.extra_credit, a.omit_from_final, a.assigned_on, (a.due_at at time zone 'UTC')::date as due_on,
           a.published, a.deleted_at is not null as deleted, a.said_by as given_by,
           g.score, g.excused, g.missing, g.posted, g.said_by as graded_by, s.missing as missed
      from (select * from assignments where tenant_id = $1 and class_id = $2) a
      full join (
           select distinct on (assignment_id) * from grades
            where tenant_id = $1 and class_id = $2 and student_id = $3 and not voided
            order by assignment_id, said_at desc, said_by desc) g using (assignment_id)
      left join student_assignments s
        on s.tenant_id = $1 and s.class_id = $2 and s.student_id = $3 and s.assignment_id = a.assignment_id
     order by a.assigned_on nulls last, a.due_at nulls last, 1"""

WORDS = """
    select assignment_id, event_key from grade_audit
     where tenant_id = $1 and class_id = $2 and student_id = $3 order by graded_at desc, event_key desc"""

SCHEME_SAID = """
    select id from event where tenant_id = $1 and key = $2 and type = $3 order by time desc, seq desc limit 1"""

VARIANTS = {  # stored column: (final, posted only)
    "current_score": (False, True),
    "final_score": (True, True),
    "unposted_current_score": (False, False),
    "unposted_final_score": (True, False),
}


async def explain_grade(db: Database, tenant: str, class_id: UUID, student_id: UUID) -> dict[str, Any]:
    """The stored grade, each item and category behind it, and `differences`: where the items say something else.

    Raises SkillCoreError when there is no grade to explain.
    """
    of = tenant, class_id, student_id
    row = await db.fetchrow(STORED, *of)
    if row is None:
        raise SkillCoreError("this student has no grade in this class")
    known = (await known_classes(db, [tenant], [class_id])).get((tenant, class_id))
    if known is None:
        raise SkillCoreError("the class has no grading scheme: its ClassCreated has not arrived")
    items = await db.fetch(ITEMS, *of)
    counting = [_counting(items, known.scheme, await db.fetchrow(CAME, *of), *flags) for flags in VARIANTS.values()]
    if all(item["graded_by"] is None for item in items):  # work alone makes no grade
        sums: list[Fraction | None] = [None] * len(VARIANTS)
    else:
        sums = [_class_sum(known.scheme, each) for each in counting]
    words = await db.fetch(WORDS, *of)
    ids = await event_ids(db, [*(w["event_key"] for w in words), *(i["given_by"] for i in items)])
    said_by = ClassCreated if known.version == 0 else GradeCategoryWeightsChanged
    return {
        "tenant": tenant, "class": class_id, "student": student_id,
        "stored": {name: row[name] for name in (*VARIANTS, "letter", "calc_version")},
        "scheme": {
            "version": known.version, "method": known.scheme.method, "missing_work": known.scheme.missing,
            "event": await db.fetchval(SCHEME_SAID, tenant, str(class_id), said_by.__type__),
        },
        "letters": dict(known.scale),
        "items": [
            _item(item, known.scheme, [each[item["assignment_id"]] for each in counting[:2]], [
                ids.get(w["event_key"]) for w in words if w["assignment_id"] == item["assignment_id"]
            ], ids.get(item["given_by"]))
            for item in items
        ],
        "categories": _categories(known.scheme, *counting[:2]),
        "explained": {name: exact(value) for name, value in zip(VARIANTS, sums, strict=True)},
        "differences": differences([
            *((name, row[name], exact(value)) for name, value in zip(VARIANTS, sums, strict=True)),
            ("letter", row["letter"], _letter(sums[0], known)),
        ]),
    }


Counted = Mapping[UUID, tuple[Any, Decimal | str]]
"""Assignment id -> its row, and what counts for it or why it does not count."""


def _counting(items: Sequence[Any], scheme: Scheme, came: Any, final: bool, posted_only: bool) -> Counted:
    """What counts for each item. Which ones are dropped is asked of the rule; everything else is looked at here."""
    named = {category.id for category in scheme.categories}
    found: dict[UUID, tuple[Any, Decimal | str]] = {}
    work, marks = [], {}
    for item in items:
        assignment, mark = _assignment(item), _mark(item)
        if assignment is None:
            found[item["assignment_id"]] = item, "its assignment has not arrived"
            continue
        verdict = _not_theirs(item, mark, came) or earned(assignment, mark, scheme.missing, posted_only=posted_only)
        if final and verdict == NOT_GRADED:
            verdict = Decimal(0)
        if isinstance(verdict, Decimal):
            work.append(assignment)
            if mark is not None:
                marks[assignment.id] = mark
            if not named & {assignment.category, ALL_WORK}:
                verdict = "its category is not in the scheme"
            elif scheme.method == "percentages" and not assignment.possible:
                verdict = "of no points there is no percentage"
        found[assignment.id] = item, verdict
    for part in class_score(scheme, work, marks, final=final, posted_only=posted_only).parts:
        for dropped, why in ((part.lowest, "dropped as one of the lowest"), (part.highest, "dropped as a highest")):
            found |= {key: (found[key][0], why) for key in dropped}
    return found


def _not_theirs(item: Any, mark: Mark | None, came: Any) -> str | None:
    if item["deleted"]:
        return "deleted"
    if not item["published"]:
        return "not published"
    if mark is not None or came["begins"] is None:
        return None
    if item["due_on"] is not None and item["due_on"] < came["begins"]:
        return "due before the student came"
    if came["ends"] is not None and item["assigned_on"] > came["ends"]:
        return "given after the student left"
    return None


def _assignment(item: Any) -> Assignment | None:
    if item["category_id"] is None:
        return None
    return Assignment(
        item["assignment_id"], item["category_id"], item["points_possible"], item["extra_credit"],
        item["omit_from_final"],
    )


def _mark(item: Any) -> Mark | None:
    if item["graded_by"] is None:
        return Mark(None, missing=True) if item["missed"] else None
    missing = item["missing"] or (item["score"] is None and bool(item["missed"]))
    return Mark(item["score"], item["excused"], missing, item["posted"])


def _in(item: Any, category: UUID, scheme: Scheme) -> bool:
    named = {c.id for c in scheme.categories}
    return bool(item["category_id"] == category or (category == ALL_WORK and item["category_id"] not in named))


def _sums(category: UUID, scheme: Scheme, counted: Counted) -> tuple[Fraction, Fraction]:
    """Earned and possible of a category, by plain addition; extra credit is earned only."""
    earned_, possible = Fraction(0), Fraction(0)
    for item, points in counted.values():
        if isinstance(points, Decimal) and _in(item, category, scheme):
            of = Fraction(item["points_possible"])
            earned_ += Fraction(points) if scheme.method == "points" else Fraction(points) / of
            if not item["extra_credit"]:
                possible += of if scheme.method == "points" else 1
    return earned_, possible


def _class_sum(scheme: Scheme, counted: Counted) -> Fraction | None:
    """Σ weight · percentage / Σ weight, of the categories in which something counts."""
    total, weights = Fraction(0), Fraction(0)
    for category in scheme.categories:
        points, possible = _sums(category.id, scheme, counted)
        if possible:
            total += Fraction(category.weight) * 100 * points / possible
            weights += Fraction(category.weight)
    return total / weights if weights else None


def _letter(percent: Fraction | None, known: Class) -> str | None:
    if percent is None or not known.scale:
        return None
    reached = [(least, name) for name, least in known.scale if Fraction(least) <= percent]
    return max(reached)[1] if reached else min((least, name) for name, least in known.scale)[1]


def _item(
    item: Any, scheme: Scheme, verdicts: Sequence[tuple[Any, Decimal | str]], words: Sequence[str | None],
    given_by: str | None,
) -> dict[str, Any]:
    names = [c.name for c in scheme.categories if item["category_id"] is not None and _in(item, c.id, scheme)]
    return {
        "assignment": item["assignment_id"],
        "title": None if item["title"] is None else masked(AssignmentCreated, "title", item["title"]),
        "category": names[0] if names else None,
        "possible": item["points_possible"], "score": item["score"],
        "extra_credit": item["extra_credit"], "excused": item["excused"], "missing": item["missing"] or item["missed"],
        "posted": item["posted"],
        "current": verdicts[0][1], "final": verdicts[1][1],
        "grade_events": words, "assignment_event": given_by,
    }


def _categories(scheme: Scheme, current: Counted, final: Counted) -> list[dict[str, Any]]:
    rows = []
    for category in scheme.categories:
        row: dict[str, Any] = {
            "category": category.name, "weight": category.weight, "drop_lowest": category.drop_lowest,
            "drop_highest": category.drop_highest, "never_drop": sorted(category.never_drop),
        }
        for name, counted in (("current", current), ("final", final)):
            points, possible = _sums(category.id, scheme, counted)
            row |= {
                f"{name}_earned": exact(points), f"{name}_possible": exact(possible),
                f"{name}_percent": exact(100 * points / possible) if possible else None,
            }
        rows.append(row)
    return rows
