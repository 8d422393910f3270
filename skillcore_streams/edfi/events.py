"""What a district becomes: its roster as it stood when the year began, then what happened, in the order of the days.

Here are the envelope and the subjects that every district has; people.py, classes.py, programs.py and conduct.py have
theirs, each with its rules. What synthetic.py made up has `/import/synthetic/seed-N` as its source, never `/edfi/...`.

Ids are uuid5 of tenant, kind and Ed-Fi's natural key, and an event's `ce_id` is the id of what it is about, so
importing twice changes nothing. A source that has changed since says something else under the same id, which the
inbox parks as a conflict instead of guessing: a change is UserUpdated's or AttendanceCorrected's to tell.

Times. The files don't say when anything was entered. The roster's event time is midnight, local, of the first day of
the school year. Marks are made at 9:00 on the school's clock, plus one second for each step of
present < early departure < tardy < partial < absent: `marked_at` guards the last writer, so of two marks of a day the
gravest stays, whatever the order in which they arrive. Of two absences the excused one stays: an excuse comes later.

What has no source: a student's e-mail, telephone and grade level (`Other`), who marked (one user id stands for the
importer), the district's parent (itself). What has no field: birth dates, AttendanceEventReason, sessions' terms.
An absence of less than half a day (EventDuration < 0.5) is `partial`: an absence is half a day or more (EDFacts FS195).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from heapq import merge
from operator import itemgetter
from uuid import UUID

from skillcore_streams.edfi import classes, conduct, people, programs, synthetic
from skillcore_streams.edfi.district import ATTENDANCE, District, Mark, Term
from skillcore_streams.events.attendance import AttendanceMarked, Category
from skillcore_streams.events.rostering import (
    AcademicSessionCreated,
    SchoolCreated,
    StudentEnrolled,
    UserCreated,
    UserRole,
)
from skillcore_streams.runtime.messages import Event, Meta, derive_id

CATEGORY: dict[str, Category] = {  # AttendanceEventCategoryDescriptor -> ours
    "Present": "present",
    "In Attendance": "present",
    "Early departure": "early_departure",
    "Tardy": "tardy",
    "Partial": "partial",
    "Unexcused Absence": "absent_unexcused",
    "Excused Absence": "absent_excused",
}
RANK = {category: second for second, category in enumerate(dict.fromkeys(CATEGORY.values()))}
"""Seconds after 9:00 by which a graver mark is later."""

GRADES = {  # GradeLevelDescriptor -> CEDS, as OneRoster writes grades
    "Infant/toddler": "IT", "Preschool/Prekindergarten": "PK", "Transitional Kindergarten": "TK", "Kindergarten": "KG",
    "First grade": "01", "Second grade": "02", "Third grade": "03", "Fourth grade": "04", "Fifth grade": "05",
    "Sixth grade": "06", "Seventh grade": "07", "Eighth grade": "08", "Ninth grade": "09", "Tenth grade": "10",
    "Eleventh grade": "11", "Twelfth grade": "12", "Grade 13": "13", "Postsecondary": "PS", "Ungraded": "UG",
}  # fmt: skip
UNKNOWN_GRADE = "Other"

MIDNIGHT = time()
NINE = time(9)


Dated = tuple[date, Event]
"""An event and the school's local day that it belongs to."""


def events(district: District, tenant: str) -> Iterator[Event]:
    """All events of one tenant, each with its envelope: the roster, then the year. The order is always the same."""
    year = Year(district, tenant)
    yield from year.organisations()
    yield from year.sessions()
    yield from people.roster(year)
    yield from year.students()
    yield from year.enrolments()
    yield from classes.roster(year)
    happenings = (
        programs.plans(year),
        programs.eligibility(year),
        conduct.interventions(year),
        synthetic.goals(year),
        synthetic.amendments(year),
        classes.assignments(year),
        year.attendance(),
        conduct.incidents(year),
        synthetic.services(year),
        classes.grades(year),
    )
    for _, event in merge(*happenings, key=itemgetter(0)):
        yield event


class Year:
    """One tenant's view of a district: its ids, its clock, its envelopes."""

    def __init__(self, district: District, tenant: str) -> None:
        self.district = district
        self.db = district.db
        self.tenant = tenant
        self.first_day = district.begins()
        self.last_day = max(term.end for term in district.terms)
        self.name = max(term.year for term in district.terms)
        self.begins = self.at(self.first_day)
        self.importer = self.id("user", "edfi-import")
        self.synthetic = synthetic.source(district.seed)
        self._sessions = {(t.school, t.year, t.name): t.begin for t in district.terms}

    def at(self, day: date, clock: time = MIDNIGHT) -> datetime:
        """A time of the schools' day, in UTC."""
        return datetime.combine(day, clock, self.district.zone).astimezone(UTC)

    def org(self, id: str) -> UUID:
        """A district or school."""
        return self.id("org", id)

    def student(self, id: str) -> UUID:
        """A student, and the user that the student is."""
        return self.id("student", id)

    def staff(self, id: str | None) -> UUID:
        """A member of the staff; the importer where the source names nobody."""
        return self.id("staff", id) if id else self.importer

    def session_begins(self, school: str, year: str, session: str) -> date:
        """The first day of a session; of one that EducationOrgCalendar doesn't hold, of the year."""
        return self._sessions.get((school, year, session), self.first_day)

    def id(self, kind: str, *key: str) -> UUID:
        """The id of something that Ed-Fi knows by `key`."""
        return derive_id(self.tenant, kind, *key)

    def organisations(self) -> Iterator[Event]:
        """The district, then its schools."""
        root = self.district.district
        for org in [root, *self.district.schools]:
            yield self.said(
                "EducationOrganization",
                self.org(org.id),
                SchoolCreated(
                    school_id=self.org(org.id),
                    sourced_id=org.id,
                    parent_org_id=self.org(root.id),
                    name=org.name,
                    type="district" if org is root else "school",
                    timezone=self.district.zone.key,
                    grade_levels=[GRADES.get(grade, UNKNOWN_GRADE) for grade in org.grades],
                    nces_id=org.nces_id,
                ),
            )

    def sessions(self) -> Iterator[Event]:
        """Per school its year, with the instructional days, then what divides it."""
        years: dict[tuple[str, str], list[Term]] = {}
        for term in self.district.terms:
            years.setdefault((term.school, term.year), []).append(term)
        for (school, year), terms in years.items():
            begin, end = min(t.begin for t in terms), max(t.end for t in terms)
            days = [day for day in self.district.instructional_days if begin <= day <= end]
            whole = Term(school, year, year, "schoolYear", begin, end)
            yield self.session(whole, None, days)
            for term in terms:
                parent = self.id("session", school, year, term.within or year)
                yield self.session(term, parent, None)

    def session(self, term: Term, parent: UUID | None, days: list[date] | None) -> Event:
        """One academic session."""
        session_id = self.id("session", term.school, term.year, term.name)
        return self.said(
            "EducationOrgCalendar",
            session_id,
            AcademicSessionCreated(
                session_id=session_id,
                school_id=self.org(term.school),
                type=term.kind,
                title=term.name,
                start_date=term.begin,
                end_date=term.end,
                parent_id=parent,
                instructional_days=days,
            ),
        )

    def students(self) -> Iterator[Event]:
        """Every student as a user, of the school where it is known, else of the district."""
        for student in self.district.students():
            org = student.school or self.district.district.id
            yield self.said(
                "Student",
                self.student(student.id),
                UserCreated(
                    user_id=self.student(student.id),
                    sourced_id=student.id,
                    roles=[UserRole(role="student", org_id=self.org(org), primary=True)],
                    given_name=student.given,
                    family_name=student.family,
                    email=None,
                    phone=None,
                    grades=None,
                    status="active",
                ),
            )

    def enrolments(self) -> Iterator[Event]:
        """Who is in which school, from its first day: the files don't say when a student came."""
        begins = {school.id: self.district.begins(school.id) for school in self.district.schools}
        for student, school in self.district.enrolments():
            enrollment_id = self.id("enrollment", student, school, str(begins[school]))
            yield self.said(
                ATTENDANCE,
                enrollment_id,
                StudentEnrolled(
                    enrollment_id=enrollment_id,
                    student_id=self.student(student),
                    class_id=None,
                    school_id=self.org(school),
                    begin_date=begins[school],
                    entry_type=None,
                    grade_level=UNKNOWN_GRADE,
                    role="student",
                ),
            )

    def attendance(self) -> Iterator[Dated]:
        """Every mark, day by day."""
        return ((mark.date, self.marked(mark)) for mark in self.district.marks())

    def marked(self, mark: Mark) -> Event:
        """One mark. Its natural key is Ed-Fi's: student, school, day and category."""
        attendance_id = self.id("attendance", mark.student, mark.school, str(mark.date), mark.category)
        category = CATEGORY[mark.category]
        if mark.duration is not None and mark.duration < 0.5 and category.startswith("absent"):
            category = "partial"
        marked_at = self.at(mark.date, NINE) + timedelta(seconds=RANK[category])
        return self.said(
            ATTENDANCE if mark.recorded else "calendar.csv",
            attendance_id,
            AttendanceMarked(
                attendance_id=attendance_id,
                student_id=self.student(mark.student),
                school_id=self.org(mark.school),
                class_id=None,
                period=None,
                date=mark.date,
                code=mark.category,
                category=category,
                minutes_missed=mark.minutes,
                arrival_time=mark.arrival,
                marked_by=self.importer,
                marked_at=marked_at,
            ),
            marked_at,
        )

    def said(self, file: str, id: UUID, event: Event, time: datetime | None = None) -> Event:
        """The event with its envelope: `/edfi/<file>` said it, or the source that `file` is when it begins with a
        slash; when the year began unless a time is given."""
        source = file if file.startswith("/") else f"/edfi/{file}"
        key = derive_id(self.tenant, source, id)
        at = time or self.begins
        event.with_meta(Meta(tenant=self.tenant, id=str(id), source=source, time=at, key=key, correlation_id=str(key)))
        return event
