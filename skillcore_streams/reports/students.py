"""Reports about one student."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

from skillcore_streams.reports import OfStudent, Page, Params, people, report
from skillcore_streams.reports.words import LETTER, language_of
from skillcore_streams.rules.grades import shown
from skillcore_streams.runtime.documents import (
    Block,
    Column,
    Document,
    Facts,
    Paragraph,
    Section,
    Table,
    columns,
    facts,
    table,
)
from skillcore_streams.runtime.errors import NotYet

THRESHOLD = """
    select * from attendance_threshold
     where tenant_id = $1 and student_id = $2 and school_year = $3 and threshold = $4"""

YEARS = """
    select school_year, days_enrolled, days_absent, rate, as_of from student_attendance_ytd
     where tenant_id = $1 and student_id = $2 and days_enrolled is not null order by school_year desc"""

# A class's teacher: primary before others, who came first before who came later.
GRADES = """
    select c.title, g.current_score, g.final_score, g.letter, t.teacher_id
      from student_class_grades g
      join classes c on c.tenant_id = g.tenant_id and c.class_id = g.class_id
      left join lateral (select teacher_id from class_staff s
                          where s.tenant_id = c.tenant_id and s.class_id = c.class_id
                          order by (s.role = 'primary') desc, s.begin_date, s.teacher_id limit 1) t on true
     where g.tenant_id = $1 and g.student_id = $2 order by c.title, c.class_id"""

RISK = "select * from student_risk where tenant_id = $1 and student_id = $2 and window_end is not null"

ALERTS = """
    select kind, severity, raised_at from student_alerts
     where tenant_id = $1 and student_id = $2 and resolved_at is null order by raised_at, kind, alert_id"""

TRUANCY = """
    select first_day, last_day, days, contact_attempts from truancy_cases
     where tenant_id = $1 and student_id = $2 order by first_day desc"""

GOALS = """
    select domain, measurement, baseline, target, target_date from iep_goals
     where tenant_id = $1 and student_id = $2 order by target_date, goal_id"""

ENROLLED = """
    select o.name, e.grade_level, e.begin_date, e.end_date from enrollments e
      left join orgs o on o.tenant_id = e.tenant_id and o.org_id = e.school_id
     where e.tenant_id = $1 and e.student_id = $2 and e.class_id is null order by e.begin_date, e.enrollment_id"""

ABSENCES = """
    select day, category from attendance_day
     where tenant_id = $1 and student_id = $2 and category <> 'present' order by day"""

DEADLINES = """
    select kind, due_date, completed_on, closed_on from compliance_deadlines
     where tenant_id = $1 and student_id = $2 order by due_date, kind, deadline_id"""

PLANS = """
    select 'IEP' as plan, begin_date, end_date from ieps where tenant_id = $1 and student_id = $2
     union all
    select 'Section 504', begin_date, review_due from section504_plans where tenant_id = $1 and student_id = $2
     order by begin_date, plan"""

POINTS = (Column(title="Area", width=2), Column(title="Points", kind="number"))


class OfThreshold(Params):
    """About a threshold of absences that a student has reached."""

    student_id: UUID
    school_year: str
    threshold: str


@report("attendance_letter", "pdf", params=OfThreshold)
async def attendance_letter(asked: OfThreshold, page: Page) -> Document | None:
    """The letter home, in the language asked for where there are sentences in it.

    None when a correction has taken the threshold back: then there is nothing to write home about.
    """
    reached = await page.row(THRESHOLD, asked.student_id, asked.school_year, asked.threshold)
    if reached is None:
        raise NotYet("attendance threshold")
    if reached["retracted_at"] is not None:
        return None
    student = await people.student(page, asked.student_id)
    language = language_of(page.language, LETTER)
    words = LETTER[language]
    said = {
        "name": student.name, "absent": reached["days_absent"], "enrolled": reached["days_enrolled"],
        "as_of": reached["as_of"].isoformat(), "percent": _percent(reached["rate"]),
    }
    text = [words[part].format_map(said) for part in ("dear", "missed", asked.threshold, "help", "record")]
    figures = Facts(pairs=(
        (words["school"], student.school), (words["year"], asked.school_year), (words["as_of"], said["as_of"]),
        (words["absent"], str(said["absent"])), (words["enrolled"], str(said["enrolled"])),
        (words["rate"], f"{said['percent']} %"),
    ))  # fmt: skip
    return Document(
        title=words["title"], organisation=student.school, language=language, subtitle=student.name,
        sections=(
            Section(blocks=tuple(Paragraph(text=part) for part in text)),
            Section(heading=words["facts"], blocks=(figures,)),
        ),
    )


@report("report_card", "pdf", "xlsx", params=OfStudent)
async def report_card(asked: OfStudent, page: Page) -> Document:
    """Scores and letters of all the student's classes, and attendance by year."""
    student = await people.student(page, asked.student_id)
    return Document(
        title="Report card", organisation=student.school, subtitle=student.name,
        sections=(
            Section(blocks=(_who(student),)),
            Section(heading="Classes", blocks=(await _grades(page, asked.student_id),)),
            Section(heading="Attendance", blocks=(await _attendance(page, asked.student_id),)),
        ),
    )


@report("intervention_summary", "pdf", params=OfStudent)
async def intervention_summary(asked: OfStudent, page: Page) -> Document:
    """Why a team should look at a student: the early-warning score and what it was made of, what stands open."""
    student = await people.student(page, asked.student_id)
    risk = await page.row(RISK, asked.student_id)
    blocks: list[Block] = []
    if risk is None:
        blocks.append(Paragraph(text="No early-warning score has been computed for this student."))
    else:
        blocks.append(
            facts(tier=risk["tier"], score=risk["score"], model=risk["model_version"], as_of=risk["window_end"])
        )
        areas = ("attendance", "behavior", "course")
        blocks.append(table("Points by area", POINTS, [(a.capitalize(), risk[f"{a}_points"]) for a in areas]))
        blocks += [Paragraph(text=f"{reason[:1].upper()}{reason[1:]}.") for reason in risk["reasons"]]
    return Document(
        title="Intervention summary", organisation=student.school, subtitle=student.name,
        sections=(
            Section(blocks=(_who(student),)),
            Section(heading="Early warning", blocks=tuple(blocks)),
            Section(heading="Attendance", blocks=(
                await _attendance(page, asked.student_id), await _truancy(page, asked.student_id),
            )),
            Section(heading="Classes", blocks=(await _grades(page, asked.student_id),)),
            Section(heading="Open alerts", blocks=(table(
                "Alerts that nobody has resolved", columns("Alert", "Severity", since="date"),
                [(r["kind"].replace("_", " "), r["severity"], r["raised_at"])
                 for r in await page.rows(ALERTS, asked.student_id)],
            ),)),
        ),
    )  # fmt: skip


@report("student_record_packet", "pdf", "xlsx", params=OfStudent)
async def student_record_packet(asked: OfStudent, page: Page) -> Document:
    """What a parent who asks to inspect the record is shown (34 CFR 99.10), as far as it is kept here."""
    student = await people.student(page, asked.student_id)
    of = asked.student_id
    return Document(
        title="Student record", organisation=student.school, subtitle=student.name,
        sections=(
            Section(blocks=(_who(student),)),
            Section(heading="Enrollment", blocks=(table(
                "Schools attended", columns("School", "Grade level", begin="date", end="date"),
                [(r["name"], r["grade_level"], r["begin_date"], r["end_date"]) for r in await page.rows(ENROLLED, of)],
            ),)),
            Section(heading="Attendance", blocks=(
                await _attendance(page, of), await _truancy(page, of),
                table("Days that were not full days of presence", columns("Kind", day="date"),
                      [(r["category"].replace("_", " "), r["day"]) for r in await page.rows(ABSENCES, of)]),
            )),
            Section(heading="Classes", blocks=(await _grades(page, of),)),
            Section(heading="Special programs", blocks=(
                table("Plans", columns("Plan", begin="date", until="date"),
                      [(r["plan"], r["begin_date"], r["end_date"]) for r in await page.rows(PLANS, of)]),
                table("Goals", columns("Domain", "Measured by", baseline="number", target="number", by="date"),
                      [(r["domain"], r["measurement"], r["baseline"], r["target"], r["target_date"])
                       for r in await page.rows(GOALS, of)]),
                table("Reviews and deadlines", columns("Kind", due="date", completed="date", closed="date"),
                      [(r["kind"].replace("_", " "), r["due_date"], r["completed_on"], r["closed_on"])
                       for r in await page.rows(DEADLINES, of)]),
            )),
        ),
    )  # fmt: skip


async def _grades(page: Page, student_id: UUID) -> Table:
    rows = await page.rows(GRADES, student_id)
    teachers = await people.names(page, [r["teacher_id"] for r in rows if r["teacher_id"] is not None])
    of_class = (
        Column(title="Class", width=3), Column(title="Teacher", width=2), Column(title="Current", kind="percent"),
        Column(title="Final", kind="percent"), Column(title="Letter", width=0.7),
    )
    return table("Current counts graded work, final counts work that is missing as well", of_class, [
        (r["title"], teachers.get(r["teacher_id"]), _score(r["current_score"]), _score(r["final_score"]), r["letter"])
        for r in rows
    ])  # fmt: skip


async def _attendance(page: Page, student_id: UUID) -> Table:
    of_year = columns("School year", enrolled="number", absent="number", rate="percent", as_of="date")
    return table("Days enrolled and days absent, excused or not", of_year, [
        (r["school_year"], r["days_enrolled"], r["days_absent"], _percent(r["rate"]), r["as_of"])
        for r in await page.rows(YEARS, student_id)
    ])  # fmt: skip


async def _truancy(page: Page, student_id: UUID) -> Table:
    of_run = columns(first="date", last="date", days="number", contacts="number")
    return table("Runs of unexcused days", of_run, [
        (r["first_day"], r["last_day"], r["days"], r["contact_attempts"]) for r in await page.rows(TRUANCY, student_id)
    ])  # fmt: skip


def _who(student: people.Student) -> Facts:
    return facts(
        student=student.name, student_number=student.number, grade_level=student.grade_level, school=student.school
    )


def _percent(rate: Decimal) -> str:
    return str((rate * 100).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _score(score: Decimal | None) -> str | None:
    return None if score is None else shown(score)
