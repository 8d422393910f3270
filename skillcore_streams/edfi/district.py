"""What a district holds, in Ed-Fi's own terms: organisations, sessions, students, attendance, the days of the year.

Students and marks are as many as the district is large, and the files have them by student while a year happens by
date. So they go through a private SQLite database that lives in a temporary file, is never seen by anyone else and
disappears with the process: it sorts, and memory stays the same for a village and for a city.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from skillcore_streams.edfi.interchange import EdFiError, Record, code, records

ATTENDANCE = "StudentSchoolAttendance"

Kind = Literal["schoolYear", "semester", "term", "gradingPeriod"]

CATEGORIES = frozenset(
    {"Present", "In Attendance", "Excused Absence", "Unexcused Absence", "Tardy", "Early departure", "Partial"}
)
"""AttendanceEventCategoryDescriptor of Ed-Fi 5.2."""

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


@dataclass(slots=True)
class Report:
    """How much the source holds, and, by reason, what of it has no place in the events or needed a rule."""

    organisations: int = 0
    sessions: int = 0
    students: int = 0
    enrolled: int = 0
    recorded: int = 0
    marks: int = 0
    remarks: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """How many events one tenant gets."""
        return self.organisations + self.sessions + self.students + self.enrolled + self.marks

    def remark(self, count: int, reason: str) -> None:
        """Note that `count` records were treated by a rule; nothing when there are none."""
        if count:
            self.remarks[reason] = self.remarks.get(reason, 0) + count


class District:
    """One district's files, read once; a context manager, because its temporary database must be closed.

    Reads EducationOrganization, EducationOrgCalendar, Student and StudentSchoolAttendance, and calendar.csv with the
    instructional days (column `date`), which Ed-Fi's sample doesn't list. Ed-Fi names no time zone: `zone` is the
    zone of the schools.
    """

    def __init__(self, folder: Path, zone: str = "America/Chicago") -> None:
        try:
            self.zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise EdFiError(f"{zone!r} is not a time zone; write it as in America/Chicago.") from None
        self.report = Report()
        self._db = sqlite3.connect("")
        self._db.executescript(SCHEMA)
        try:
            self._read(folder)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def begins(self, school: str | None = None) -> date:
        """The first day of the year at a school, or, where its sessions are unknown or none is named, anywhere."""
        return min([t.begin for t in self.terms if t.school == school] or [t.begin for t in self.terms])

    def students(self) -> Iterator[Student]:
        """Every student, by id."""
        return map(Student._make, self._db.execute(STUDENTS))

    def enrolments(self) -> Iterator[tuple[str, str]]:
        """(student, school) where the school is known, by student."""
        return self._db.execute("select student, school from home")

    def marks(self) -> Iterator[Mark]:
        """The year in the order of its days; within a day by student."""
        for day, student, school, category, duration, minutes, arrival in self._db.execute(
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
        self.district, self.schools = _organisations(folder)
        self.terms = _terms(folder)
        self.instructional_days = _calendar(folder / "calendar.csv")
        self._db.executemany("insert into calendar values (?)", ((str(day),) for day in self.instructional_days))
        self._db.executemany(
            "insert or replace into student values (?, ?, ?)",
            (
                (r.text("StudentUniqueId"), r.text("Name/FirstName"), r.text("Name/LastSurname"))
                for r in records(folder, "Student", "Student")
            ),
        )
        self._db.executemany("insert or ignore into mark values (?, ?, ?, ?, ?, ?, ?)", self._attendance(folder))
        self._db.executescript(SETTLE)
        self._take_stock()

    def _attendance(self, folder: Path) -> Iterator[tuple[object, ...]]:
        schools = {school.id for school in self.schools}
        for r in records(folder, ATTENDANCE, f"{ATTENDANCE}Event"):
            category = r.code("AttendanceEvent/AttendanceEventCategory")
            school = r.text("SchoolReference/SchoolIdentity/SchoolId")
            if category not in CATEGORIES:
                self.report.remark(1, "marks of a category that is not Ed-Fi's: left out")
            elif school not in schools:
                self.report.remark(1, "marks at a school that EducationOrganization doesn't hold: left out")
            else:
                self.report.recorded += 1
                arrival = r.time("ArrivalTime")
                yield (
                    str(r.date("AttendanceEvent/EventDate")),
                    r.text("StudentReference/StudentIdentity/StudentUniqueId"),
                    school,
                    category,
                    r.number("AttendanceEvent/EventDuration"),
                    r.number("SchoolAttendanceDuration"),
                    arrival and str(arrival),
                )

    def _take_stock(self) -> None:
        count = self._count
        report = self.report
        report.organisations = 1 + len(self.schools)
        report.sessions = len(self.terms) + len({(t.school, t.year) for t in self.terms})
        report.students = count("from student")
        report.enrolled = count("from home")
        report.marks = count(YEAR)
        stored = count("from mark")
        report.remark(report.recorded - stored, "marks repeated in the source: published once")
        report.recorded = stored
        report.remark(
            count("from student where id not in (select student from home)"),
            "students whose school no file names: users of the district, not enrolled",
        )
        report.remark(
            count("from home where student not in (select id from student)"),
            "students with marks but without a Student record: enrolled, no user",
        )
        report.remark(
            count("from mark join home using (student) where mark.school <> home.school"),
            "marks at another school than the student's first one: published there",
        )
        report.remark(report.enrolled, "enrolments without a grade level: 'Other' (no file holds a student's)")
        report.remark(
            count("from mark where date not in (select date from calendar)"),
            "marks on a day off the calendar: published, count for no rate",
        )
        report.remark(
            count("from (select 1 from mark group by date, student having count(*) > 1)"),
            "student-days with more than one mark: all published, the gravest is the latest",
        )

    def _count(self, what: str) -> int:
        found: int = self._db.execute(f"select count(*) {what}").fetchone()[0]
        return found


def _organisations(folder: Path) -> tuple[Organisation, list[Organisation]]:
    found: dict[str, list[Organisation]] = {"LocalEducationAgency": [], "School": []}
    for r in records(folder, "EducationOrganization", *found):
        found[r.kind].append(
            Organisation(
                r.text(f"{r.kind}Id"), r.text("NameOfInstitution"), [code(g) for g in r.all("GradeLevel")], _nces_id(r)
            )
        )
    districts, schools = found.values()
    if len(districts) != 1:
        raise EdFiError(f"EducationOrganization names {len(districts)} districts. Import one district at a time.")
    return districts[0], schools


def _nces_id(record: Record) -> str | None:
    systems = record.all("EducationOrganizationIdentificationCode/EducationOrganizationIdentificationSystem")
    ids = record.all("EducationOrganizationIdentificationCode/IdentificationCode")
    return next((nces for nces, system in zip(ids, systems, strict=False) if code(system) == "NCES"), None)


def _terms(folder: Path) -> list[Term]:
    """Sessions, then grading periods. A grading period is found by the reference that its session makes to it."""
    sessions: list[Term] = []
    periods: list[Term] = []
    holds: dict[str, str] = {}
    for r in records(folder, "EducationOrgCalendar", "Session"):
        name = r.text("SessionName")
        holds |= dict.fromkeys(r.references("GradingPeriodReference"), name)
        kind: Kind = "semester" if "Semester" in r.code("Term") else "term"
        sessions.append(_term(r, name, kind))
    for r in records(folder, "EducationOrgCalendar", "GradingPeriod"):
        periods.append(_term(r, r.text("GradingPeriodName"), "gradingPeriod", holds.get(r.anchor or "")))
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
