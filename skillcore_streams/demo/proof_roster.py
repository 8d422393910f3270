"""The proof of who is there: organisations, people, guardians, classes, their teachers and students, calendars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from skillcore_streams.demo.compare import MADE_UP, Case, Line, compare
from skillcore_streams.demo.recount import Expected, derived_id, occurrences, school_id, student_id
from skillcore_streams.demo.recount_roster import Roster, class_id, contact_id, recount_roster, staff_id

WHERE = "topics, unique ids"
GUARDIANS = "select guardian_id, student_id from guardian_students where current"
ENROLMENTS = "select student_id, class_id, school_id from enrollments"


def sent(case: Case, expected: Expected) -> Iterable[Line]:
    """The roster of the files is in Kafka."""
    section, log, folder = "in Kafka", case.log, case.folder
    roster = recount_roster(folder)
    terms = (
        ("schoolYear", len(set(expected.school_of.values()))),
        ("semester", occurrences(folder, "EducationOrgCalendar", "Session")),
        ("gradingPeriod", occurrences(folder, "EducationOrgCalendar", "GradingPeriod")),
    )
    orgs = 1 + occurrences(folder, "EducationOrganization", "School")
    yield compare(section, "SchoolCreated", WHERE, range(orgs), range(len(log.ids("SchoolCreated"))))
    yield compare(section, "AcademicSessionCreated", WHERE, [
        (kind, n) for kind, count in terms for n in range(count)
    ], [
        (kind, n) for kind, count in Counter(s["type"] for s in log.said("AcademicSessionCreated")).items()
        for n in range(count)
    ])
    yield compare(section, "UserCreated: students, staff, contacts", WHERE,
                  map(str, _users(case, expected, roster)), log.ids("UserCreated"))
    yield compare(section, "GuardianContactUpdated", WHERE, _guardians(case, roster), [
        (UUID(said["guardian_id"]), UUID(student))
        for said in log.said("GuardianContactUpdated") for student in said["student_ids"]
    ])
    yield compare(section, "ClassCreated", WHERE, [str(class_id(case.tenant, key)) for key in roster.classes],
                  log.ids("ClassCreated"))
    yield compare(section, "TeacherAssigned", WHERE, _teaching(case, roster), [
        (UUID(said["class_id"]), UUID(said["teacher_id"])) for said in log.said("TeacherAssigned")
    ])
    yield compare(section, "StudentEnrolled, in schools and classes", WHERE, _seats(case, expected, roster), [
        _seat(said["student_id"], said["class_id"], said["school_id"]) for said in log.said("StudentEnrolled")
    ])


async def effects(case: Case, expected: Expected) -> Iterable[Line]:
    """What the handlers have made of it."""
    section, rows = "who is there", case.rows
    roster = recount_roster(case.folder)
    made_up = [_seat(said["student_id"], said["class_id"], said["school_id"])
               for said in case.log.said("StudentEnrolled", MADE_UP)]  # fmt: skip
    schools = {school_id(case.tenant, s) for s in set(expected.school_of.values())}
    classes = [class_id(case.tenant, key) for key in roster.classes]
    return [
        compare(section, "users", "user_profiles", [(user,) for user in _users(case, expected, roster)],
                await rows("select user_id from user_profiles")),
        compare(section, "guardians and their students", "guardian_students", _guardians(case, roster),
                await rows(GUARDIANS)),
        compare(section, "classes", "classes", [(c,) for c in classes], await rows("select class_id from classes")),
        compare(section, "teachers of classes", "class_staff", _teaching(case, roster),
                await rows("select class_id, teacher_id from class_staff")),
        compare(section, "enrolments, of them made up: " + f"{len(made_up):,}", "enrollments",
                [*_seats(case, expected, roster), *made_up], await rows(ENROLMENTS)),
        compare(section, "a room for each class, published once", "event",
                [(str(derived_id(c)), "class") for c in classes],
                await case.stored("ChatRoomCreated", "room_id", "kind")),
        compare(section, "schools' calendars", "school_calendar_days",
                [(s, day, n) for s in schools for n, day in enumerate(expected.calendar, start=1)],
                await rows("select school_id, day, ordinal from school_calendar_days")),
    ]


def _users(case: Case, expected: Expected, roster: Roster) -> list[UUID]:
    return [
        *(student_id(case.tenant, student) for student in expected.students),
        *(staff_id(case.tenant, staff) for staff in roster.staff),
        *(contact_id(case.tenant, contact) for contact in roster.contacts),
    ]


def _guardians(case: Case, roster: Roster) -> list[tuple[UUID, UUID]]:
    return [
        (contact_id(case.tenant, contact), student_id(case.tenant, student))
        for contact, students in roster.guardians.items() for student in students
    ]


def _teaching(case: Case, roster: Roster) -> list[tuple[UUID, UUID]]:
    return [(class_id(case.tenant, key), staff_id(case.tenant, staff)) for key, staff in roster.teaching]


def _seats(case: Case, expected: Expected, roster: Roster) -> list[tuple[UUID, UUID | None, UUID]]:
    return [
        *((student_id(case.tenant, student), None, school_id(case.tenant, school))
          for student, school in expected.school_of.items()),
        *((student_id(case.tenant, student), class_id(case.tenant, key), school_id(case.tenant, key.split("\x1f")[0]))
          for student, key in roster.seats),
    ]


def _seat(student: str, in_class: str | None, school: str) -> tuple[UUID, UUID | None, UUID]:
    return UUID(student), UUID(in_class) if in_class else None, UUID(school)
