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
    orgs = _tag("LocalEducationAgency", LocalEducationAgencyId="1", NameOfInstitution="Village") + "".join(
        _tag("School", SchoolId=school, NameOfInstitution=f"School {school}", GradeLevel="uri://x#First grade")
        for school in ("11", "12")
    )
    sessions = "".join(
        _tag(
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
            _tag("Student", StudentUniqueId=s, Name=_tag("FirstName", "Ada") + _tag("LastSurname", "Lovelace"))
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
    attendance = _tag("EventDate", mark.day) + _tag("AttendanceEventCategory", DESCRIPTOR + mark.category)
    return _tag(
        "StudentSchoolAttendanceEvent",
        AttendanceEvent=attendance + (_tag("EventDuration", mark.duration) if mark.duration else ""),
        StudentReference=_tag("StudentIdentity", StudentUniqueId=mark.student),
        SchoolReference=_school(mark.school),
        **{
            name: value
            for name, value in {"SchoolAttendanceDuration": mark.minutes, "ArrivalTime": mark.arrival}.items()
            if value
        },
    )


def _school(school: str) -> str:
    return _tag("SchoolIdentity", SchoolId=school)


def _tag(name: str, text: str = "", **children: str) -> str:
    return f"<{name}>{text}{''.join(_tag(child, value) for child, value in children.items())}</{name}>"
