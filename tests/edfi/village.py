"""A district of two schools, small enough to be read at a glance, written as interchange files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = '<?xml version="1.0" encoding="UTF-8"?>\n<Interchange{0} xmlns="http://ed-fi.org/5.2.0">{1}</Interchange{0}>\n'
DESCRIPTOR = "uri://ed-fi.org/AttendanceEventCategoryDescriptor#"


class Marked(NamedTuple):
    student: str
    day: str
    category: str
    school: str = "11"
    duration: str | None = None
    minutes: str | None = None
    arrival: str | None = None


def village(
    folder: Path,
    marks: Iterable[Marked],
    *,
    students: Iterable[str] = ("1", "2", "3"),
    days: Iterable[str] = ("2021-08-23", "2021-08-24", "2021-08-25"),
) -> Path:
    """Write the four interchanges and calendar.csv."""
    orgs = tag("LocalEducationAgency", LocalEducationAgencyId="1", NameOfInstitution="Village") + "".join(
        tag("School", SchoolId=school, NameOfInstitution=f"School {school}", GradeLevel="uri://x#First grade")
        for school in ("11", "12")
    )
    sessions = "".join(
        tag(
            "Session",
            SessionName="Fall Semester",
            SchoolYear="2021-2022",
            BeginDate="2021-08-23",
            EndDate="2021-12-17",
            Term="uri://x#Fall Semester",
            SchoolReference=_school(school),
        )
        for school in ("11", "12")
    )
    write(folder, "EducationOrganization", orgs)
    write(folder, "EducationOrgCalendar", sessions)
    with (folder / "Student.xml").open("w") as file:
        file.write(ROOT.partition("{1}")[0].format("Student"))
        file.writelines(
            tag("Student", StudentUniqueId=s, Name=tag("FirstName", "Ada") + tag("LastSurname", "Lovelace"))
            for s in students
        )
        file.write("</InterchangeStudent>")
    with (folder / "StudentSchoolAttendance.xml").open("w") as file:
        file.write(ROOT.partition("{1}")[0].format("StudentAttendance"))
        file.writelines(map(event, marks))
        file.write("</InterchangeStudentAttendance>")
    (folder / "calendar.csv").write_text("\n".join(["date", *days]))
    return folder


def write(folder: Path, interchange: str, records: str) -> None:
    (folder / f"{interchange}.xml").write_text(ROOT.format(interchange, records))


def event(mark: Marked) -> str:
    attendance = tag("EventDate", mark.day) + tag("AttendanceEventCategory", DESCRIPTOR + mark.category)
    return tag(
        "StudentSchoolAttendanceEvent",
        AttendanceEvent=attendance + (tag("EventDuration", mark.duration) if mark.duration else ""),
        StudentReference=tag("StudentIdentity", StudentUniqueId=mark.student),
        SchoolReference=_school(mark.school),
        **{
            name: value
            for name, value in {"SchoolAttendanceDuration": mark.minutes, "ArrivalTime": mark.arrival}.items()
            if value
        },
    )


def student(student: str = "1") -> str:
    return tag("StudentIdentity", StudentUniqueId=student)


def staff(staff: str = "s1") -> str:
    return tag("StaffIdentity", StaffUniqueId=staff)


def offering(course: str = "MATH-01", school: str = "11") -> str:
    session = tag("SessionIdentity", SessionName="Fall Semester", SchoolYear="2021-2022")
    return tag("CourseOfferingIdentity", LocalCourseCode=course, SchoolReference=_school(school),
                SessionReference=session)  # fmt: skip


def section(identifier: str = "A", course: str = "MATH-01", school: str = "11") -> str:
    """A SectionReference's content."""
    return tag("SectionIdentity", SectionIdentifier=identifier, CourseOfferingReference=offering(course, school))


def _school(school: str) -> str:
    return tag("SchoolIdentity", SchoolId=school)


def tag(name: str, text: str = "", **children: str) -> str:
    return f"<{name}>{text}{''.join(tag(child, value) for child, value in children.items())}</{name}>"
