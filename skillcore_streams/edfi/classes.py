"""Sections as classes, who teaches them, who sits in them, and the gradebook.

* A section is known by its section identifier, course, school, year and session together: the identifier alone repeats.
* Who is in a class: StudentSectionAssociation is not among the files, so the students that its gradebook or a section
  attendance event names, from the first day of its session. Section attendance repeats the school's marks of the same
  days; it says who sits where and is not published a second time.
* `scheduled` is every class; grade levels of a section are in no file (empty list).
* A gradebook entry's category is its GradebookEntryType, else one for all of the class. Points possible are MaxPoints,
  else 100: NumericGradeEarned is out of a hundred. Work is due at 23:59 of its DueDate unless DueTime says otherwise.
* A result was graded at DateFulfilled, else on the due date, else on the day it was assigned, at 17:00; by the
  section's teacher of record. NumericGradeEarned stands before PointsEarned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from skillcore_streams.edfi.interchange import Record, code
from skillcore_streams.edfi.people import staff_of, student_of
from skillcore_streams.edfi.reader import Reader, Reads
from skillcore_streams.events.gradebook import AssignmentCreated, GradeUpdated
from skillcore_streams.events.rostering import ClassCreated, StudentEnrolled, TeacherAssigned
from skillcore_streams.runtime.messages import Event

if TYPE_CHECKING:
    from skillcore_streams.edfi.events import Dated, Year

Position = Literal["primary", "co_teacher", "substitute", "aide"]

SCHEDULE = "MasterSchedule"
GRADEBOOK = "StudentGradebook"
TARDY = "StudentSectionAttendance-Tardy"
STAFF = "StaffAssociation"

SCHEMA = """
    create table course (school text, code text, title text not null, primary key (school, code)) without rowid;
    create table section (
        key text primary key, id text, course text, school text, year text, session text, name text, periods text)
        without rowid;
    create table teaching (
        section text, staff text, position text, begin text, end text, primary key (section, staff, begin))
        without rowid;
    create table seat (section text, student text, source text, primary key (section, student)) without rowid;
    create table entry (
        id text primary key, section text, title text, assigned text, due text, due_time text, points text, kind text,
        source text) without rowid;
    create table result (
        entry text, student text, n int, score text, letter text, status text, late int, graded text, reason text,
        source text, primary key (entry, student, n)) without rowid;
"""
"""`source` is null for what the files say, else what made it up. `n` numbers a result's versions."""

SETTLE = """
    insert or ignore into seat select section, student, 'StudentGradebook' from result join entry on entry.id = entry;
    create index teaching_staff on teaching (staff);
    create index section_school on section (school, session);
    create index entry_section on entry (section);
    update result set graded = (select coalesce(due, assigned) from entry where entry.id = result.entry)
     where graded is null;
"""

FORGET = """
    delete from seat where section not in (select key from section);
    delete from teaching where section not in (select key from section);
    delete from entry where section not in (select key from section);
    delete from result where entry not in (select id from entry);
"""

POSITIONS: dict[str, Position] = {  # ClassroomPositionDescriptor -> role of TeacherAssigned
    "Teacher of Record": "primary",
    "Assistant Teacher": "co_teacher",
    "Support Teacher": "aide",
    "Substitute Teacher": "substitute",
}
LATE = {"Late": 1}
GRADED_AT = time(17)
ASSIGNED_AT = time(8)
END_OF_DAY = time(23, 59)

SECTIONS = """
    select section.key, section.id, course, section.school, year, session, coalesce(name, title, course), periods,
           (select json_group_array(staff) from (
               select distinct staff from teaching where section = key and position = 'Teacher of Record' order by 1))
      from section left join course on course.code = section.course and course.school = section.school
     order by section.key"""
TEACHERS = "select section, staff, position, begin, end from teaching join section on key = section order by 1, 2, 4"
SEATS = """
    select seat.section, student, section.school, session, year, seat.source
      from seat join section on key = seat.section order by 1, 2"""
ENTRIES = """
    select entry.id, section, title, assigned, due, due_time, points, kind, source
      from entry order by assigned, entry.id"""
RESULTS = """
    select entry, section, student, n, score, lag(score) over (partition by entry, student order by n), points, letter,
           status, late, graded, reason, result.source,
           (select min(staff) from teaching t where t.section = entry.section and position = 'Teacher of Record')
      from result join entry on entry.id = result.entry order by graded, entry, student, n"""


READS: Reads = {
    "EducationOrganization": {
        "Course": ("insert or replace into course values (?, ?, ?)", lambda r: (
            r.text("EducationOrganizationReference/EducationOrganizationIdentity/EducationOrganizationId"),
            r.text("CourseCode"), r.text("CourseTitle"),
        )),
    },
    SCHEDULE: {
        "Section": ("insert or replace into section values (?, ?, ?, ?, ?, ?, ?, ?)", lambda r: _section(r)),
    },
    STAFF: {
        "StaffSectionAssociation": ("insert or ignore into teaching values (?, ?, ?, ?, ?)", lambda r: (
            section_of(r), staff_of(r), r.code("ClassroomPosition"), _text(r.day("BeginDate")) or "",
            _text(r.day("EndDate")),
        )),
    },
    GRADEBOOK: {
        "GradebookEntry": ("insert or replace into entry values (?, ?, ?, ?, ?, ?, ?, ?, null)", lambda r: (
            "\x1f".join((r.text("Namespace"), r.text("GradebookEntryIdentifier"))), section_of(r), r.text("Title"),
            str(r.date("DateAssigned")), _text(r.day("DueDate")), _text(r.time("DueTime")), _text(r.exact("MaxPoints")),
            code(r.get("GradebookEntryType") or "") or None,
        )),
        "StudentGradebookEntry": ("insert or replace into result values (?, ?, 0, ?, ?, ?, ?, ?, null, null)",
                                  lambda r: _result(r)),
    },
    TARDY: {
        "StudentSectionAttendanceEvent": ("insert or ignore into seat values (?, ?, ?)", lambda r: (
            section_of(r), student_of(r), TARDY,
        )),
    },
}  # fmt: skip


def take_stock(reader: Reader) -> None:
    """What there will be, and what needed a rule."""
    reader.remark("from seat where section not in (select key from section)",
                  "students in a section that MasterSchedule doesn't hold: left out")
    reader.remark("from teaching where section not in (select key from section)",
                  "teachers of a section that MasterSchedule doesn't hold: left out")
    reader.remark("from entry where section not in (select key from section)",
                  "gradebook entries of a section that MasterSchedule doesn't hold: left out")
    reader.remark("from result where entry not in (select id from entry)", "results without their entry: left out")
    reader.db.executescript(FORGET)
    for event, table in (("ClassCreated", "section"), ("TeacherAssigned", "teaching"), ("StudentEnrolled", "seat"),
                         ("AssignmentCreated", "entry"), ("GradeUpdated", "result")):
        reader.plan(event, f"from {table}")
    reader.remark("from section", "classes without grade levels (no file holds a section's)")
    reader.remark("from entry where points is null and source is null", "gradebook entries without MaxPoints: 100")
    reader.remark("from entry where kind is null and source is null",
                  "gradebook entries without GradebookEntryType: one category 'Not stated'")
    reader.remark("from section where key not in (select section from teaching where position = 'Teacher of Record')",
                  "classes without a teacher of record")
    reader.remark("from seat left join home using (student) where seat.source not like '/%' and home.student is null",
                  "class enrolments of students without attendance marks: members of the class's school, no days added")
    reader.remark("from seat where source = 'StudentSectionAttendance-Tardy'",
                  "class enrolments that only a section attendance event shows")


def roster(year: Year) -> Iterator[Event]:
    """Classes, their teachers, their students."""
    for key, sourced_id, course, school, years, session, title, periods, teachers in year.db.execute(SECTIONS):
        class_id = year.id("class", key)
        yield year.said(SCHEDULE, class_id, ClassCreated(
            class_id=class_id, sourced_id=sourced_id, course_id=year.id("course", school, course),
            school_id=year.org(school), term_ids=[year.id("session", school, years, session)], title=title,
            class_type="scheduled", periods=json.loads(periods), grades=[],
            teacher_ids=[year.staff(staff) for staff in json.loads(teachers)],
        ))  # fmt: skip
    for section, staff, position, begin, end in year.db.execute(TEACHERS):
        assignment = year.id("teaching", section, staff, begin or "")
        yield year.said(STAFF, assignment, TeacherAssigned(
            assignment_id=assignment, teacher_id=year.id("staff", staff), class_id=year.id("class", section),
            role=POSITIONS.get(position, "aide"), begin_date=_day(begin) or year.first_day, end_date=_day(end),
        ))  # fmt: skip
    for section, student, school, session, years, source in year.db.execute(SEATS):
        enrollment = year.id("enrollment", student, section)
        yield year.said(source, enrollment, StudentEnrolled(
            enrollment_id=enrollment, student_id=year.student(student), class_id=year.id("class", section),
            school_id=year.org(school), begin_date=year.session_begins(school, years, session), entry_type=None,
            grade_level="Other", role="student",
        ))  # fmt: skip


def assignments(year: Year) -> Iterator[Dated]:
    """The work of each class, on the day it was assigned."""
    for entry, section, title, assigned, due, due_time, points, kind, source in year.db.execute(ENTRIES):
        day = date.fromisoformat(assigned)
        assignment, class_id = year.id("assignment", entry), year.id("class", section)
        due_at = due and year.at(date.fromisoformat(due), time.fromisoformat(due_time) if due_time else END_OF_DAY)
        yield day, year.said(source or GRADEBOOK, assignment, AssignmentCreated(
            assignment_id=assignment, class_id=class_id, category_id=year.id("category", section, kind or "Not stated"),
            title=title, points_possible=Decimal(points or 100), due_at=due_at or None, assigned_on=day,
            grading_type="points", extra_credit=False, omit_from_final=False, published=True,
        ), year.at(day, ASSIGNED_AT))  # fmt: skip


def grades(year: Year) -> Iterator[Dated]:
    """The results, on the day they were graded. A later version of a result knows the score before it."""
    for (entry, section, student, n, score, before, points, letter, status, late, graded, reason, source,
         teacher) in year.db.execute(RESULTS):
        day = date.fromisoformat(graded)
        grade, at = year.id("grade", entry, student), year.at(day, GRADED_AT)
        yield day, year.said(source or GRADEBOOK, grade if n == 0 else year.id("grade", entry, student, str(n)),
            GradeUpdated(
                grade_id=grade, assignment_id=year.id("assignment", entry), class_id=year.id("class", section),
                student_id=year.student(student), score=None if score is None else Decimal(score),
                old_score=None if before is None else Decimal(before), points_possible=Decimal(points or 100),
                letter=letter, excused=status == "Excused", missing=status == "Missing", late=bool(late), posted=True,
                grader_id=year.id("staff", teacher) if teacher else year.importer, reason=reason, graded_at=at,
            ), at)  # fmt: skip


def section_of(record: Record) -> str:
    """The natural key of the section that a record refers to."""
    return _key(record, "SectionReference/SectionIdentity/")


def _key(record: Record, path: str) -> str:
    offering = f"{path}CourseOfferingReference/CourseOfferingIdentity/"
    session = f"{offering}SessionReference/SessionIdentity/"
    return "\x1f".join((
        record.text(f"{offering}SchoolReference/SchoolIdentity/SchoolId"), record.text(f"{session}SchoolYear"),
        record.text(f"{session}SessionName"), record.text(f"{offering}LocalCourseCode"),
        record.text(f"{path}SectionIdentifier"),
    ))  # fmt: skip


def _section(record: Record) -> tuple[object, ...]:
    key = _key(record, "")
    school, year, session, course, identifier = key.split("\x1f")
    periods = record.all("ClassPeriodReference/ClassPeriodIdentity/ClassPeriodName")
    return key, identifier, course, school, year, session, record.get("SectionName"), json.dumps(periods)


def _result(record: Record) -> tuple[object, ...]:
    reference = "GradebookEntryReference/GradebookEntryIdentity/"
    score = record.exact("NumericGradeEarned")
    return (
        "\x1f".join((record.text(f"{reference}Namespace"), record.text(f"{reference}GradebookEntryIdentifier"))),
        student_of(record), _text(record.exact("PointsEarned") if score is None else score),
        record.get("LetterGradeEarned"), code(record.get("SubmissionStatus") or ""),
        LATE.get(code(record.get("AssignmentLateStatus") or ""), 0), _text(record.day("DateFulfilled")),
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
