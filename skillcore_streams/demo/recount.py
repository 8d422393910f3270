"""The year counted again, from the XML, by other means: what the database must hold when everything was processed once.

Shares no code with the product, on purpose: its own reading (regular expressions over the whole file), its own ids,
its own arithmetic. It imports nothing of skillcore_streams and must stay that way (a test looks). This module counts
attendance; recount_roster.py, recount_grades.py and recount_plans.py count the rest.

The rules, from the catalogue and the data's README:

* A day with several marks is what the gravest says: absent > partial > tardy > present; of two absences the excused.
* On every instructional day without a mark an enrolled student was present.
* Days off the calendar are stored and count for nothing. An absence is excused or unexcused.
* rate = days absent / instructional days from enrolment (the first day of the year) to `as_of`, from the 20th such day
  on; `as_of` is the first of those days on which the rate reaches 5, 10 or 20 %. One crossing a student and threshold.
* StudentAbsent: one a student and date whose day is an unexcused absence. Truancy: three or more unexcused
  instructional days in a row.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID, uuid5

ABSENT = ("absent_excused", "absent_unexcused")
GRAVEST_FIRST = ("absent_excused", "absent_unexcused", "partial", "early_departure", "tardy", "present")
WORDS = {
    "Excused Absence": "absent_excused",
    "Unexcused Absence": "absent_unexcused",
    "Partial": "partial",
    "Early departure": "early_departure",
    "Tardy": "tardy",
    "Present": "present",
    "In Attendance": "present",
}
THRESHOLDS = {"at_risk_5": 5, "chronic_10": 10, "severe_20": 20}
"""Per cent of the instructional days since enrolment."""

FIRST_EVALUATED = 20
"""The instructional day on which a rate is looked at first."""

NAMESPACE = UUID("5f0d6a4e-2c1b-5b7e-9f59-6b1f6c1de7aa")


@dataclass(frozen=True, slots=True)
class DayCount:
    """Students of one school on one day. `other` is partial and early departure."""

    present: int
    absent: int
    tardy: int
    other: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A student's absence rate reached a threshold on `as_of`, the `days_enrolled`-th instructional day."""

    student: str
    school: str
    threshold: str
    as_of: date
    days_enrolled: int
    days_absent: int


@dataclass(frozen=True, slots=True)
class Run:
    """Unexcused absences on `days` instructional days in a row."""

    student: str
    first: date
    last: date
    days: int


@dataclass(frozen=True, slots=True)
class Expected:
    """The end state. Students and schools by Ed-Fi's ids (StudentUniqueId, SchoolId).

    Attributes:
        students: every student of the district.
        school_of: the enrolled students' schools.
        calendar: instructional days, in order.
        recorded: marks in the source; a day may have two.
        marks: events AttendanceMarked, the present ones included.
        day_of: (student, day) -> category, every stored day, off-calendar ones too.
        days_absent: student -> days absent that count; students without any are there with 0.
        counts: (school, day) -> what became of the students, every day with a mark, off-calendar ones too.
        three_in_seven: students with three absences within seven days (first and third at most six days apart).
        crossings: thresholds reached.
        student_absent: (student, day) -> unexcused instructional days in a row up to that day: one StudentAbsent each.
        truancy: runs of three or more.
    """

    students: frozenset[str]
    school_of: dict[str, str]
    calendar: tuple[date, ...]
    recorded: int
    marks: int
    day_of: dict[tuple[str, date], str]
    days_absent: dict[str, int]
    counts: dict[tuple[str, date], DayCount]
    three_in_seven: frozenset[str]
    crossings: frozenset[Crossing]
    student_absent: dict[tuple[str, date], int]
    truancy: tuple[Run, ...]


def recount(folder: Path) -> Expected:
    """Compute the end state from the folder's Student and StudentSchoolAttendance files and calendar.csv."""
    students = frozenset(re.findall(r"<StudentUniqueId>(\d+)<", text_of(folder, "Student")))
    with (folder / "calendar.csv").open(encoding="utf-8") as lines:
        calendar = tuple(sorted(date.fromisoformat(row["date"]) for row in csv.DictReader(lines)))

    marked: dict[tuple[str, date], list[str]] = {}
    school_of: dict[str, str] = {}
    recorded = 0
    for student, school, day, descriptor in recorded_marks(folder):
        school_of[student] = school
        marked.setdefault((student, day), []).append(WORDS[descriptor])
        recorded += 1

    day_of = {key: min(categories, key=GRAVEST_FIRST.index) for key, categories in marked.items()}
    added = 0
    for student in school_of:
        for day in calendar:
            if (student, day) not in day_of:
                day_of[student, day] = "present"
                added += 1

    absent = {s: [d for d in calendar if day_of[s, d] in ABSENT] for s in school_of}
    unexcused = {s: [day_of[s, d] == "absent_unexcused" for d in calendar] for s in school_of}
    in_a_row = {
        (student, day): length
        for student, flags in unexcused.items()
        for day, length in zip(calendar, _lengths(flags), strict=True)
    }
    return Expected(
        students=students,
        school_of=school_of,
        calendar=calendar,
        recorded=recorded,
        marks=recorded + added,
        day_of=day_of,
        days_absent={student: len(days) for student, days in absent.items()},
        counts=_counts(day_of, school_of),
        three_in_seven=frozenset(
            s for s, days in absent.items() if any((c - a).days <= 6 for a, c in zip(days, days[2:], strict=False))
        ),
        crossings=frozenset(_crossings(absent, school_of, calendar)),
        student_absent={
            key: in_a_row.get(key, 1) for key, category in day_of.items() if category == "absent_unexcused"
        },
        truancy=tuple(_runs(unexcused, calendar)),
    )


def recorded_marks(folder: Path) -> Iterator[tuple[str, str, date, str]]:
    """Every mark of the source: student, school, day, Ed-Fi's word for its category."""
    for block in text_of(folder, "StudentSchoolAttendance").split("<StudentSchoolAttendanceEvent>")[1:]:
        yield (
            one(r"<StudentUniqueId>(\d+)<", block),
            one(r"<SchoolId>(\d+)<", block),
            date.fromisoformat(one(r"<EventDate>([-\d]+)<", block)),
            one(r"CategoryDescriptor#([^<]+)<", block),
        )


def occurrences(folder: Path, name: str, record: str) -> int:
    """How many records of this kind an interchange holds: elements of the second level."""
    root = re.sub(r"^.*?<Interchange[^>]*>", "", text_of(folder, name), count=1, flags=re.DOTALL)
    depth = found = 0
    for close, element, end in re.findall(r"<(/?)(\w+)[^>]*?(/?)>", root):
        found += element == record and not close and depth == 0
        depth += 0 if end else -1 if close else 1
    return found


def blocks(folder: Path, name: str, record: str) -> list[str]:
    """What stands between the tags of each record of this kind, none of which holds another of its kind."""
    return re.findall(rf"<{record}(?:\s[^>]*)?>(.*?)</{record}>", text_of(folder, name), re.DOTALL)


def element(name: str, text: str) -> str | None:
    """The text of the first element of this name that has any."""
    found = re.search(rf"<{name}>([^<]+)</{name}>", text)
    return found[1].strip() if found else None


def derived_id(*parts: object) -> UUID:
    """The product's deterministic id: uuid5 of the parts, joined by the unit separator, in its fixed namespace."""
    return uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))


def student_id(tenant: str, student: str) -> UUID:
    """student_id (and user_id) of a StudentUniqueId."""
    return derived_id(tenant, "student", student)


def school_id(tenant: str, school: str) -> UUID:
    """school_id of a SchoolId, or of the district's LocalEducationAgencyId."""
    return derived_id(tenant, "org", school)


def attendance_id(tenant: str, student: str, school: str, day: date, descriptor: str = "Present") -> UUID:
    """attendance_id of one mark; `descriptor` is Ed-Fi's word for its category, as in `WORDS`."""
    return derived_id(tenant, "attendance", student, school, day, descriptor)


def text_of(folder: Path, name: str) -> str:
    """A whole interchange."""
    packed = folder / f"{name}.xml.gz"
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / f"{name}.xml").read_bytes()
    return raw.decode("utf-8")


def one(pattern: str, text: str) -> str:
    """What the pattern finds first. Raises ValueError when there is nothing."""
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"a record has nothing like {pattern}")
    return found[1]


def _counts(day_of: dict[tuple[str, date], str], school_of: dict[str, str]) -> dict[tuple[str, date], DayCount]:
    tally = Counter((school_of[student], day, category) for (student, day), category in day_of.items())
    return {
        (school, day): DayCount(
            present=tally[school, day, "present"],
            absent=sum(tally[school, day, category] for category in ABSENT),
            tardy=tally[school, day, "tardy"],
            other=tally[school, day, "partial"] + tally[school, day, "early_departure"],
        )
        for school, day in {(school, day) for school, day, _ in tally}
    }


def _crossings(absent: dict[str, list[date]], school_of: dict[str, str], calendar: tuple[date, ...]) -> list[Crossing]:
    found = []
    for student, days in absent.items():
        missed = set(days)
        for threshold, percent in THRESHOLDS.items():
            so_far = 0
            for enrolled, day in enumerate(calendar, start=1):
                so_far += day in missed
                if enrolled >= FIRST_EVALUATED and 100 * so_far >= percent * enrolled:
                    found.append(Crossing(student, school_of[student], threshold, day, enrolled, so_far))
                    break
    return found


def _lengths(flags: list[bool]) -> list[int]:
    """How many in a row are set, up to each place."""
    lengths, length = [], 0
    for flag in flags:
        length = length + 1 if flag else 0
        lengths.append(length)
    return lengths


def _runs(unexcused: dict[str, list[bool]], calendar: tuple[date, ...]) -> list[Run]:
    found = []
    for student, flags in unexcused.items():
        lengths = [*_lengths(flags), 0]
        for at, day in enumerate(calendar):
            if lengths[at] >= 3 and lengths[at + 1] == 0:
                found.append(Run(student, calendar[at - lengths[at] + 1], day, lengths[at]))
    return found
