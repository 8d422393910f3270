"""Reports about a class."""

from __future__ import annotations

from uuid import UUID

from skillcore_streams.reports import Page, Params, people, report
from skillcore_streams.rules.grades import shown
from skillcore_streams.runtime.documents import Column, Document, Section, table
from skillcore_streams.runtime.errors import NotYet

CLASS = "select title, school_id from classes where tenant_id = $1 and class_id = $2"

# A row a student, those without any score too; the newest grade of each assignment that still stands.
SCORES = """
    select g.student_id, g.current_score, g.final_score, g.letter,
           (select count(*) from student_assignments s
             where s.tenant_id = g.tenant_id and s.class_id = g.class_id and s.student_id = g.student_id) as given,
           (select count(*) from student_assignments s
             where s.tenant_id = g.tenant_id and s.class_id = g.class_id and s.student_id = g.student_id
               and s.missing) as missing
      from student_class_grades g where g.tenant_id = $1 and g.class_id = $2"""


class OfClass(Params):
    """About one class."""

    class_id: UUID


@report("final_gradebook", "xlsx", "csv", "pdf", params=OfClass)
async def final_gradebook(asked: OfClass, page: Page) -> Document:
    """Each student's scores, by family name."""
    known = await page.row(CLASS, asked.class_id)
    if known is None:
        raise NotYet("class")
    rows = await page.rows(SCORES, asked.class_id)
    students = await people.names(page, [row["student_id"] for row in rows])
    named = sorted(rows, key=lambda r: (students.get(r["student_id"], "~"), r["student_id"]))
    columns = (
        Column(title="Student", width=2.4), Column(title="Current", kind="percent"),
        Column(title="Final", kind="percent"), Column(title="Letter", width=0.7),
        Column(title="Assignments", kind="number"), Column(title="Missing", kind="number"),
        Column(title="Student id", width=3),
    )
    scores = table("Scores", columns, [
        (
            students.get(r["student_id"], "Name not known"), *(_score(r[s]) for s in ("current_score", "final_score")),
            r["letter"], r["given"], r["missing"], r["student_id"],
        )
        for r in named
    ])  # fmt: skip
    return Document(
        title="Gradebook", organisation=await people.organisation(page, known["school_id"]), subtitle=known["title"],
        wide=True, sections=(Section(blocks=(scores,)),),
    )


def _score(score: object) -> str | None:
    return None if score is None else shown(score)  # type: ignore[arg-type]
