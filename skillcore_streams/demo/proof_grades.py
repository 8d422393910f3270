"""The proof of grades: every result once, and every class grade recomputed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

from skillcore_streams.demo.compare import MADE_UP, Case, Line, compare
from skillcore_streams.demo.recount_grades import Result, class_grades, file_results, published_results

RESULTS = "select class_id, student_id, assignment_id, score from grades where not voided"
GRADES = """
    select class_id, student_id, current_score, final_score, letter from student_class_grades
     where current_score is not null"""
VERSIONS = "select class_id, student_id, calc_version from grade_history"
FAILING = """
    select detail::uuid, student_id from student_alerts where kind = 'failing_grade' and resolved_at is null"""


def sent(case: Case) -> Iterable[Line]:
    """The gradebook of the files is in Kafka."""
    results = list(file_results(case.folder, case.tenant))
    yield compare("in Kafka", "AssignmentCreated", "topics, unique ids",
                  {str(result.assignment_id) for result in results}, case.log.ids("AssignmentCreated"))
    yield compare("in Kafka", "GradeUpdated, with scores", "topics, unique ids", [
        (result.student_id, result.assignment_id, result.score) for result in results
    ], [
        (UUID(said["student_id"]), UUID(said["assignment_id"]), Decimal(said["score"]))
        for said in case.log.said("GradeUpdated")
    ])


async def effects(case: Case) -> Iterable[Line]:
    """What the handlers have made of it, and of what is made up."""
    section, rows = "grades", case.rows
    made_up = case.log.said("GradeUpdated", MADE_UP)
    said = [*case.log.said("GradeUpdated"), *made_up]
    results = [*file_results(case.folder, case.tenant), *published_results(made_up)]
    grades = class_grades(results)
    versions = await rows(VERSIONS)
    work = [*case.log.said("AssignmentCreated"), *case.log.said("AssignmentCreated", MADE_UP)]
    return [
        compare(section, "assignments", "assignments", [(UUID(a["assignment_id"]),) for a in work],
                await rows("select assignment_id from assignments")),
        compare(section, f"results, of them made up: {len({g['grade_id'] for g in made_up}):,}", "grades",
                [_result(result) for result in results], await _results(case)),
        compare(section, "every word on a grade, once", "grade_audit",
                [(UUID(g["grade_id"]), g["graded_at"]) for g in said],
                [(grade, _stamp(at)) for grade, at in await rows("select grade_id, graded_at from grade_audit")]),
        compare(section, "class grades: per cent, final, letter", "student_class_grades",
                [(g.class_id, g.student_id, g.percent, g.percent, g.letter) for g in grades], await rows(GRADES)),
        compare(section, "ClassGradeChanged, one a version", "event", [tuple(map(str, v)) for v in versions],
                await case.stored("ClassGradeChanged", "class_id", "student_id", "calc_version")),
        compare(section, "alerts that stand: failing", "student_alerts",
                [(g.class_id, g.student_id) for g in grades if g.failing], await rows(FAILING)),
    ]


def _result(result: Result) -> tuple[UUID, UUID, UUID, Decimal]:
    """Missing work has no score in the table, and none here: that it counts as zero shows in the class grade."""
    return result.class_id, result.student_id, result.assignment_id, result.score or Decimal(0)


async def _results(case: Case) -> list[tuple[UUID, UUID, UUID, Decimal]]:
    return [(c, s, a, score or Decimal(0)) for c, s, a, score in await case.rows(RESULTS)]


def _stamp(at: object) -> str:
    return str(at).replace(" ", "T").replace("+00:00", "Z")
