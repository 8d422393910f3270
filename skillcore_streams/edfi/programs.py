"""Programme associations: IEPs, Section 504 plans, English learners, meals; and what of the others has no event.

* IEP. Of every StudentSpecialEducationProgramAssociation. Open is who has no SpecialEducationExitDate: neither EndDate
  of the association nor IEPEndDate close it (they are counted). It ends on that date, else when its review is due.
  The annual review is due 365 days after IEPReviewDate (34 CFR 300.324(b)(1)(i): not less than annually), the
  reevaluation three years after LastEvaluationDate (300.303(b)(2)); where a date is missing, after IEPBeginDate.
* Services. Each SpecialEducationProgramService; where none is named, one called Special Education. SpecialEducation-
  HoursPerWeek are shared among them (60 minutes each); without hours there is no weekly mandate, so no service.
* Coordinator: the agency's representative in the IEP team (300.321(a)(4)), which Ed-Fi doesn't name: the principal of
  the student's school, of the district the superintendent, else the importer. Case manager: the first ServiceProvider.
* Section 504: the review is due 365 days after Section504MeetingDate (34 CFR 104.35 sets no interval). The files have
  no accommodations, only whether there is a plan.
* English as a second language: an English learner from BeginDate. Ed-Fi's file has no language: `und`. An EndDate is
  no reclassification. Bilingual programmes admit others too: no event.
* Food service: free before reduced; `direct_certification` where DirectCertification says so, else an application.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from skillcore_streams.edfi.interchange import Record, code
from skillcore_streams.edfi.people import student_of
from skillcore_streams.edfi.reader import Reader, Reads, Row
from skillcore_streams.events.demographics import EnglishLearnerStatusChanged, MealEligibilityChanged
from skillcore_streams.events.special_programs import IEPCreated, Section504PlanActivated, Service
from skillcore_streams.runtime.messages import Event

if TYPE_CHECKING:
    from skillcore_streams.edfi.events import Dated, Year

PROGRAM = "StudentProgram"
YEARLY = timedelta(days=365)

SCHEMA = """
    create table iep (
        student text, begin text, reviewed text not null, evaluated text not null, closed text, disability text,
        setting text, minutes int, services text not null, provider text, ends int not null, source text,
        primary key (student, begin)) without rowid;
    create table plan504 (student text, begin text, met text, impairment text, primary key (student, begin))
        without rowid;
    create table learner (student text, begin text, primary key (student, begin)) without rowid;
    create table meal (student text, begin text, free int, direct int, primary key (student, begin)) without rowid;
    create table other_program (kind text, ended int);
    create view coordinator as
        select student, coalesce(
            (select min(staff) from post where class = 'Principal' and org = home.school),
            (select min(staff) from post where class = 'Superintendent')) as staff
          from (select student from iep union select student from plan504) left join home using (student);
"""
"""`minutes` a week, null without a mandate; `ends` is 1 for an end that does not close an IEP."""

SETTLE = ""

UNMAPPED = {
    "StudentProgramAssociation": "ProgramType",
    "StudentMigrantEducationProgramAssociation": "Migrant education",
    "StudentCTEProgramAssociation": "Career and technical education",
    "StudentHomelessProgramAssociation": "Homeless",
    "StudentNeglectedOrDelinquentProgramAssociation": "Neglected or delinquent",
    "StudentTitleIPartAProgramAssociation": "Title I part A",
}

IEPS = """
    select student, begin, reviewed, evaluated, closed, disability, setting, minutes, services, provider, source, staff
      from iep join coordinator using (student) order by begin, student"""
PLANS = """
    select student, begin, met, impairment, staff
      from plan504 join coordinator using (student) order by begin, student"""


def _other(kind: str, name: str) -> Row:
    def row(record: Record) -> tuple[object, ...]:
        said = code(record.text("ProgramReference/ProgramIdentity/ProgramType")) if name == "ProgramType" else name
        return said, record.get("EndDate") is not None

    return row


READS: Reads = {
    PROGRAM: {
        "StudentSpecialEducationProgramAssociation": (
            "insert or replace into iep values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)", lambda r: _iep(r)),
        "StudentSection504ProgramAssociation": ("insert or replace into plan504 values (?, ?, ?, ?)", lambda r: (
            student_of(r), str(r.date("BeginDate")), str(r.day("Section504MeetingDate") or r.date("BeginDate")),
            code(r.get("Section504Disability") or "") or None,
        )),
        "StudentLanguageInstructionProgramAssociation": ("insert or ignore into learner values (?, ?)", lambda r: (
            student_of(r), str(r.date("BeginDate")),
        )),
        "StudentSchoolFoodServiceProgramAssociation": ("insert or replace into meal values (?, ?, ?, ?)", lambda r: (
            student_of(r), str(r.date("BeginDate")),
            any("Free" in code(service) for service in _food(r)) if _food(r) else None,
            bool(r.flag("DirectCertification")),
        )),
        **{kind: ("insert into other_program values (?, ?)", _other(kind, name)) for kind, name in UNMAPPED.items()},
    },
}  # fmt: skip


def take_stock(reader: Reader) -> None:
    """What there will be, and what needed a rule."""
    reader.remark("from meal where free is null", "food service without a service: no eligibility, left out")
    reader.db.execute("delete from meal where free is null")
    for event, table in (("IEPCreated", "iep"), ("Section504PlanActivated", "plan504"),
                         ("EnglishLearnerStatusChanged", "learner"), ("MealEligibilityChanged", "meal")):
        reader.plan(event, f"from {table}")
    reader.remark("from iep where closed is not null", "IEPs closed by SpecialEducationExitDate")
    reader.remark("from iep where ends and closed is null",
                  "IEPs with an EndDate or IEPEndDate but no SpecialEducationExitDate: open")
    reader.remark("from iep where disability is null", "IEPs without a disability: 'Not reported'")
    reader.remark("from iep where minutes is null and source is null", "IEPs without hours a week: no service mandate")
    reader.remark("from iep where student not in (select student from home)",
                  "IEPs of students whose school no attendance names: coordinated by the district")
    reader.remark("from plan504",
                  "Section 504 plans without accommodations: the files only have whether there are any")
    reader.remark("from learner", "English learners without a language: 'und'")
    for kind, count in reader.db.execute("select kind, count(*) from other_program group by kind order by kind"):
        reader.report.remark(count, f"programme associations without an event: {kind}")


def plans(year: Year) -> Iterator[Dated]:
    """IEPs and Section 504 plans, on the day they begin."""
    for (student, begin, reviewed, evaluated, closed, disability, setting, minutes, services, provider, source,
         coordinator) in year.db.execute(IEPS):
        day, iep_id = date.fromisoformat(begin), year.id("iep", student, begin)
        due = date.fromisoformat(reviewed) + YEARLY
        yield day, year.said(source or PROGRAM, iep_id, IEPCreated(
            iep_id=iep_id, student_id=year.student(student), program_type="IEP",
            disability_category=disability or "Not reported", begin_date=day,
            end_date=date.fromisoformat(closed) if closed else due, annual_review_due=due,
            triennial_due=in_three_years(date.fromisoformat(evaluated)), coordinator_id=year.staff(coordinator),
            case_manager_id=year.staff(provider) if provider else None, setting=setting,
            services=mandate(json.loads(services), minutes),
        ), year.at(day))  # fmt: skip
    for student, begin, met, impairment, coordinator in year.db.execute(PLANS):
        day, plan_id = date.fromisoformat(begin), year.id("504", student, begin)
        yield day, year.said(PROGRAM, plan_id, Section504PlanActivated(
            plan_id=plan_id, student_id=year.student(student), begin_date=day, impairment=impairment, accommodations=[],
            review_due=date.fromisoformat(met) + YEARLY, coordinator_id=year.staff(coordinator),
        ), year.at(day))  # fmt: skip


def eligibility(year: Year) -> Iterator[Dated]:
    """English learners and meals, on the day they begin."""
    for (student, begin) in year.db.execute("select student, begin from learner order by begin, student"):
        day = date.fromisoformat(begin)
        yield day, _eligible(year, "el", student, day, EnglishLearnerStatusChanged(
            student_id=year.student(student), old_status="non_el", new_status="el", home_language="und",
            effective_date=day,
        ))  # fmt: skip
    for student, begin, free, direct in year.db.execute("select * from meal order by begin, student"):
        day = date.fromisoformat(begin)
        basis: Literal["direct_certification", "application"] = "direct_certification" if direct else "application"
        yield day, _eligible(year, "meal", student, day, MealEligibilityChanged(
            student_id=year.student(student), school_year=year.name, eligibility="free" if free else "reduced",
            basis=basis, effective_date=day,
        ))  # fmt: skip


def mandate(services: list[str], minutes: int | None) -> list[Service]:
    """The weekly minutes, shared among the services; the first ones get what doesn't divide."""
    if minutes is None:
        return []
    names = services or ["Special Education"]
    each, rest = divmod(minutes, len(names))
    return [Service(type=name, minutes_per_week=each + (n < rest)) for n, name in enumerate(names)]


def in_three_years(day: date) -> date:
    """The same day three years later; of 29 February the 28th."""
    try:
        return day.replace(year=day.year + 3)
    except ValueError:
        return day.replace(year=day.year + 3, day=28)


def _eligible(year: Year, kind: str, student: str, day: date, event: Event) -> Event:
    return year.said(PROGRAM, year.id(kind, student, str(day)), event, year.at(day))


def _food(record: Record) -> list[str]:
    return record.all("SchoolFoodServiceProgramService/SchoolFoodServiceProgramService")


def _iep(record: Record) -> tuple[object, ...]:
    service = "SpecialEducationProgramService"
    hours = record.exact("SpecialEducationHoursPerWeek")
    if hours is not None and not 0 <= hours <= 168:
        raise record.wrong("SpecialEducationHoursPerWeek", "is more than a week has, or less than nothing")
    begin = record.day("IEPBeginDate") or record.date("BeginDate")
    return (
        student_of(record), str(begin), str(record.day("IEPReviewDate") or begin),
        str(record.day("LastEvaluationDate") or begin), _text(record.day("SpecialEducationExitDate")),
        code(record.get("Disability/Disability") or "") or None,
        code(record.get("SpecialEducationSetting") or "") or None,
        None if hours is None else int(hours * 60),
        json.dumps([code(name) for name in record.all(f"{service}/{service}")]),
        record.get(f"{service}/ServiceProvider/StaffReference/StaffIdentity/StaffUniqueId"),
        bool(record.get("EndDate") or record.get("IEPEndDate")),
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)
