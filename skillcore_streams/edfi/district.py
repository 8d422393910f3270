"""What a district holds, in Ed-Fi's own terms: organisations, sessions, students, attendance, the days of the year.

People, classes, programmes and conduct have modules of their own, each with its tables, what it reads, and what that
becomes; they are listed in `SUBJECTS`.

Students and marks are as many as the district is large, and the files have them by student while a year happens by
date. So they go through a private SQLite database that lives in a temporary file, is never seen by anyone else and
disappears with the process: it sorts, and memory stays the same for a village and for a city.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from skillcore_streams.edfi import classes, conduct, people, programs, synthetic
from skillcore_streams.edfi.interchange import BadRecord, EdFiError, Reading, Record, code, records
from skillcore_streams.edfi.reader import Reader, Reads, Report

ATTENDANCE = "StudentSchoolAttendance"
SUBJECTS = (people, classes, programs, conduct)

Kind = Literal["schoolYear", "semester", "term", "gradingPeriod"]

CATEGORIES = frozenset(
    {"Present", "In Attendance", "Excused Absence", "Unexcused Absence", "Tardy", "Early departure", "Partial"}
)
"""AttendanceEventCategoryDescriptor of Ed-Fi 5.2."""

SETTINGS = """
    pragma journal_mode = off;
    pragma synchronous = off;
    pragma temp_store = file;
"""
"""Nobody reads it after a crash. Its page cache (2 MB, SQLite's default) is all of it that memory holds."""

SCHEMA = """
    create table calendar (date text primary key) without rowid;
    create table student (id text primary key, given text not null, family text not null) without rowid;
    create table mark (
        date text, student text, school text, category text, duration real, minutes real, arrival text,
        primary key (date, student, school, category)) without rowid;
    create table home (student text primary key, school text not null) without rowid;
    create table day (date text primary key, instructional int not null) without rowid;
"""

SETTLE = """
    insert into home select student, school from (select student, school, min(date) from mark group by student);
    insert into day select date, 1 from calendar;
    insert or ignore into day select distinct date, 0 from mark;
    analyze;
"""
"""A student's school is the school of the first mark: nothing else in the interchanges names one."""

STUDENTS = "select id, given, family, school from student left join home on student = id"

MARKS = "select day.date, home.student, coalesce(mark.school, home.school), category, duration, minutes, arrival"

YEAR = """
    from day cross join home left join mark on mark.date = day.date and mark.student = home.student
    where day.instructional or mark.category is not null
"""
"""Every mark of the year: those recorded, and a present one (category is null) for each other instructional day."""


@dataclass(frozen=True, slots=True)
class Organisation:
    """A district (`grades` empty) or a school. Ids are Ed-Fi's EducationOrganizationId."""

    id: str
    name: str
    grades: list[str]
    nces_id: str | None


@dataclass(frozen=True, slots=True)
class Term:
    """A Session or a GradingPeriod of a school. `within` is the name of a grading period's session."""

    school: str
    year: str
    name: str
    kind: Kind
    begin: date
    end: date
    within: str | None = None


class Student(NamedTuple):
    """A student; `school` is None when no file says which."""

    id: str
    given: str
    family: str
    school: str | None


class Mark(NamedTuple):
    """What was marked for a student and day; `recorded` is False for the present marks that complete a day.

    Units: `duration` in days (1 is the whole day), `minutes` of the exception, `arrival` on the school's clock.
    """

    date: date
    student: str
    school: str
    category: str
    duration: float | None
    minutes: int | None
    arrival: time | None
    recorded: bool


class District:
    """One district's files, read once; a context manager, because its temporary database must be closed.

    Reads EducationOrganization, EducationOrgCalendar, Student and StudentSchoolAttendance, and calendar.csv with the
    instructional days (column `date`), which Ed-Fi's sample doesn't list; and, of the interchanges that the subjects
    name, those that are there.

    Args:
        folder: where the files are.
        zone: the schools' time zone; Ed-Fi names none.
        seed: generate what the files lack, from this seed (synthetic.py); None generates nothing.
        reading: told how far the reading is.
    """

    def __init__(
        self,
        folder: Path,
        zone: str = "America/Chicago",
        *,
        seed: int | None = None,
        reading: Reading = lambda file, done, size: None,
    ) -> None:
        try:
            self.zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise EdFiError(f"{zone!r} is not a time zone; write it as in America/Chicago.") from None
        self.report = Report()
        self.seed = seed
        self.db = sqlite3.connect("")
        for schema in (SETTINGS, SCHEMA, synthetic.SCHEMA, *(subject.SCHEMA for subject in SUBJECTS)):
            self.db.executescript(schema)
        self._reader = Reader(folder, self.db, self.report, reading)
        try:
            self._read(folder)
        except BaseException:
            self.db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()

    def begins(self, school: str | None = None) -> date:
        """The first day of the year at a school, or, where its sessions are unknown or none is named, anywhere."""
        return min([t.begin for t in self.terms if t.school == school] or [t.begin for t in self.terms])

    def students(self) -> Iterator[Student]:
        """Every student, by id."""
        return map(Student._make, self.db.execute(STUDENTS))

    def enrolments(self) -> Iterator[tuple[str, str]]:
        """(student, school) where the school is known, by student."""
        return self.db.execute("select student, school from home")

    def marks(self) -> Iterator[Mark]:
        """The year in the order of its days; within a day by student."""
        for day, student, school, category, duration, minutes, arrival in self.db.execute(
            f"{MARKS} {YEAR} order by day.date, home.student"
        ):
            yield Mark(
                date.fromisoformat(day),
                student,
                school,
                category or "Present",
                duration,
                None if minutes is None else int(minutes),
                time.fromisoformat(arrival) if arrival else None,
                recorded=category is not None,
            )

    def _read(self, folder: Path) -> None:
        self.district, self.schools = _organisations(folder, self.report)
        self.terms = _terms(folder, self.report)
        self.instructional_days = _calendar(folder / "calendar.csv")
        self.db.executemany("insert into calendar values (?)", ((str(day),) for day in self.instructional_days))
        for interchange, kinds in self._reads().items():
            self._reader.read(interchange, kinds)
        self._reader.read_all([subject.READS for subject in SUBJECTS])
        for settle in (SETTLE, *(subject.SETTLE for subject in SUBJECTS)):
            self.db.executescript(settle)
        if self.seed is not None:
            synthetic.Synthesis(self.db, self.seed, self.instructional_days, self.terms).generate()
        self._take_stock()
        for subject in (*SUBJECTS, synthetic):
            subject.take_stock(self._reader)
        self.db.commit()

    def _reads(self) -> Reads:
        """The interchanges that must be there."""
        schools = {school.id for school in self.schools}

        def student(r: Record) -> tuple[object, ...]:
            return r.text("StudentUniqueId"), r.text("Name/FirstName"), r.text("Name/LastSurname")

        def mark(r: Record) -> tuple[object, ...] | None:
            category = r.code("AttendanceEvent/AttendanceEventCategory")
            school = r.text("SchoolReference/SchoolIdentity/SchoolId")
            duration = r.exact("AttendanceEvent/EventDuration")
            arrival = r.time("ArrivalTime")
            row = (
                str(r.date("AttendanceEvent/EventDate")), people.student_of(r), school, category,
                None if duration is None else float(duration), r.count("SchoolAttendanceDuration"),
                arrival and str(arrival),
            )  # fmt: skip
            if category not in CATEGORIES:
                self.report.remark(1, "marks of a category that is not Ed-Fi's: left out")
            elif school not in schools:
                self.report.remark(1, "marks at a school that EducationOrganization doesn't hold: left out")
            else:
                self.report.recorded += 1
                return row
            return None

        return {
            "Student": {"Student": ("insert or replace into student values (?, ?, ?)", student)},
            ATTENDANCE: {f"{ATTENDANCE}Event": ("insert or ignore into mark values (?, ?, ?, ?, ?, ?, ?)", mark)},
        }

    def _take_stock(self) -> None:
        reader, report = self._reader, self.report
        report.planned["SchoolCreated"] = 1 + len(self.schools)
        report.planned["AcademicSessionCreated"] = len(self.terms) + len({(t.school, t.year) for t in self.terms})
        reader.plan("UserCreated", "from student")
        reader.plan("StudentEnrolled", "from home")
        reader.plan("AttendanceMarked", YEAR)
        stored = reader.count("from mark")
        report.remark(report.recorded - stored, "marks repeated in the source: published once")
        report.recorded = stored
        reader.remark("from student where id not in (select student from home)",
                      "students whose school no attendance names: users of the district, not enrolled")
        reader.remark("from home where student not in (select id from student)",
                      "students with marks but without a Student record: enrolled, no user")
        reader.remark("from mark join home using (student) where mark.school <> home.school",
                      "marks at another school than the student's first one: published there")
        reader.remark("from home", "enrolments without a grade level: 'Other' (no file holds a student's)")
        reader.remark("from mark where date not in (select date from calendar)",
                      "marks on a day off the calendar: published, count for no rate")
        reader.remark("from (select 1 from mark group by date, student having count(*) > 1)",
                      "student-days with more than one mark: all published, the gravest is the latest")


def _organisations(folder: Path, report: Report) -> tuple[Organisation, list[Organisation]]:
    found: dict[str, list[Organisation]] = {"LocalEducationAgency": [], "School": []}
    for r in records(folder, "EducationOrganization", *found):
        try:
            key, name, grades = r.text(f"{r.kind}Id"), r.text("NameOfInstitution"), r.all("GradeLevel")
        except BadRecord as error:
            report.refuse(error)
        else:
            found[r.kind].append(Organisation(key, name, [code(grade) for grade in grades], _nces_id(r)))
    districts, schools = found.values()
    if len(districts) != 1:
        raise EdFiError(f"EducationOrganization names {len(districts)} districts. Import one district at a time.")
    return districts[0], schools


def _nces_id(record: Record) -> str | None:
    systems = record.all("EducationOrganizationIdentificationCode/EducationOrganizationIdentificationSystem")
    ids = record.all("EducationOrganizationIdentificationCode/IdentificationCode")
    return next((nces for nces, system in zip(ids, systems, strict=False) if code(system) == "NCES"), None)


def _terms(folder: Path, report: Report) -> list[Term]:
    """Sessions, then grading periods. A grading period is found by the reference that its session makes to it."""
    sessions: list[Term] = []
    periods: list[Term] = []
    holds: dict[str, str] = {}
    for wanted in ("Session", "GradingPeriod"):
        for r in records(folder, "EducationOrgCalendar", wanted):
            try:
                if wanted == "Session":
                    name = r.text("SessionName")
                    kind: Kind = "semester" if "Semester" in r.code("Term") else "term"
                    sessions.append(_term(r, name, kind))
                    holds |= dict.fromkeys(r.references("GradingPeriodReference"), name)
                else:
                    periods.append(
                        _term(r, r.text("GradingPeriodName"), "gradingPeriod", holds.get(r.anchor or ""))
                    )
            except BadRecord as error:
                report.refuse(error)
    if not sessions:
        raise EdFiError("EducationOrgCalendar holds no Session, so the school year has no beginning.")
    return sessions + periods


def _term(record: Record, name: str, kind: Kind, within: str | None = None) -> Term:
    school = record.text("SchoolReference/SchoolIdentity/SchoolId")
    return Term(school, record.text("SchoolYear"), name, kind, record.date("BeginDate"), record.date("EndDate"), within)


def _calendar(path: Path) -> list[date]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            days = sorted({date.fromisoformat(row["date"]) for row in csv.DictReader(lines)})
    except FileNotFoundError:
        raise EdFiError(f"{path} is missing. It lists the instructional days under the heading `date`.") from None
    except (KeyError, TypeError, ValueError):
        raise EdFiError(f"{path.name} needs a column `date` with days written as YYYY-MM-DD.") from None
    if not days:
        raise EdFiError(f"{path.name} lists no instructional day.")
    return days
