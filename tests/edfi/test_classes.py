"""Sections, teachers, seats and the gradebook: their rules, each on a village."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from skillcore_streams.edfi import District, events
from skillcore_streams.events.gradebook import AssignmentCreated, GradeUpdated
from skillcore_streams.events.rostering import ClassCreated, StudentEnrolled, TeacherAssigned
from tests.edfi.village import Marked, offering, section, staff, student, tag, village, write

MATH = tag("Section", SectionIdentifier="A", CourseOfferingReference=offering())
TAUGHT = tag("StaffSectionAssociation", StaffReference=staff("s1"), SectionReference=section(),
             ClassroomPosition="uri://x#Teacher of Record", BeginDate="2021-08-23", EndDate="2021-12-17")  # fmt: skip


def entry(id: str = "1", **more: str) -> str:
    given = {"DateAssigned": "2021-08-23", "Title": "Quiz 1", "SectionReference": section()} | more
    return tag("GradebookEntry", GradebookEntryIdentifier=id, Namespace="n", **given)


def result(id: str = "1", of: str = "1", **more: str) -> str:
    reference = tag("GradebookEntryIdentity", GradebookEntryIdentifier=id, Namespace="n")
    return tag("StudentGradebookEntry", GradebookEntryReference=reference, StudentReference=student(of), **more)


def imported(folder: Path, kind: type, gradebook: str = "", schedule: str = MATH, staff: str = "") -> list:
    village(folder, [Marked("1", "2021-08-23", "Tardy")])
    write(folder, "MasterSchedule", schedule)
    write(folder, "StudentGradebook", gradebook)
    write(folder, "StaffAssociation", staff)
    with District(folder) as district:
        assert district.report.bad == []
        found = [event for event in events(district, "t") if isinstance(event, kind)]
        assert district.report.planned[kind.__name__] == len(found)
        return found


def test_the_same_identifier_in_two_schools_is_two_classes(tmp_path):
    elsewhere = tag("Section", SectionIdentifier="A", CourseOfferingReference=offering(school="12"))

    assert len({c.class_id for c in imported(tmp_path, ClassCreated, schedule=MATH + elsewhere)}) == 2


def test_a_class_is_called_by_its_name_else_its_course_else_the_courses_code(tmp_path):
    named = tag("Section", SectionIdentifier="B", SectionName="Numbers", CourseOfferingReference=offering())
    coded = tag("Section", SectionIdentifier="C", CourseOfferingReference=offering("ART-01"))
    village(tmp_path, [])
    course = tag("Course", CourseCode="MATH-01", CourseTitle="Mathematics", EducationOrganizationReference=tag(
        "EducationOrganizationIdentity", EducationOrganizationId="11"))  # fmt: skip
    path = tmp_path / "EducationOrganization.xml"
    path.write_text(path.read_text().replace("</Interchange", f"{course}</Interchange"))
    write(tmp_path, "MasterSchedule", MATH + named + coded)

    with District(tmp_path) as district:
        titles = {e.sourced_id: e.title for e in events(district, "t") if isinstance(e, ClassCreated)}

    assert titles == {"A": "Mathematics", "B": "Numbers", "C": "ART-01"}


def test_a_teacher_of_record_is_primary_and_grades(tmp_path):
    teaching = imported(tmp_path, TeacherAssigned, staff=TAUGHT)
    grades = imported(tmp_path, GradeUpdated, entry() + result(NumericGradeEarned="74.00"), staff=TAUGHT)

    assert [(t.role, t.begin_date, t.end_date) for t in teaching] == [
        ("primary", date(2021, 8, 23), date(2021, 12, 17))
    ]
    assert [g.grader_id for g in grades] == [teaching[0].teacher_id]


def test_who_has_a_result_sits_in_the_class_from_the_sessions_first_day(tmp_path):
    seats = imported(tmp_path, StudentEnrolled, entry() + result() + result(of="2"))

    assert [(s.begin_date.isoformat(), s.class_id is None) for s in seats] == [
        ("2021-08-23", True), ("2021-08-23", False), ("2021-08-23", False),
    ]  # fmt: skip


def test_who_was_late_for_a_class_sits_in_it_and_is_not_marked_twice(tmp_path):
    village(tmp_path, [Marked("1", "2021-08-23", "Tardy")])
    write(tmp_path, "MasterSchedule", MATH)
    tardy = tag("StudentSectionAttendanceEvent", StudentReference=student(), SectionReference=section())
    write(tmp_path, "StudentSectionAttendance-Tardy", tardy * 3)

    with District(tmp_path) as district:
        assert district.report.planned["StudentEnrolled"] == 2  # in the school, in the class
        assert district.report.planned["AttendanceMarked"] == 3


@pytest.mark.parametrize(
    ("more", "due", "points"),
    [
        ({}, None, 100),
        ({"DueDate": "2021-08-24"}, datetime(2021, 8, 25, 4, 59, tzinfo=UTC), 100),
        ({"DueDate": "2021-08-24", "DueTime": "15:30:00"}, datetime(2021, 8, 24, 20, 30, tzinfo=UTC), 100),
        ({"MaxPoints": "12.5"}, None, Decimal("12.5")),
    ],
)
def test_work_is_due_by_the_end_of_its_day_and_out_of_a_hundred(tmp_path, more, due, points):
    (work,) = imported(tmp_path, AssignmentCreated, entry(**more))

    assert (work.due_at, work.points_possible) == (due, points)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"NumericGradeEarned": "74.50"}, (Decimal("74.50"), False, False, False)),
        ({"PointsEarned": "9"}, (Decimal(9), False, False, False)),
        ({"NumericGradeEarned": "0", "PointsEarned": "9"}, (Decimal(0), False, False, False)),
        ({"SubmissionStatus": "uri://x#Excused"}, (None, True, False, False)),
        ({"SubmissionStatus": "uri://x#Missing"}, (None, False, True, False)),
        ({"NumericGradeEarned": "5", "AssignmentLateStatus": "uri://x#Late"}, (Decimal(5), False, False, True)),
        ({"NumericGradeEarned": "5", "AssignmentLateStatus": "uri://x#Not Late"}, (Decimal(5), False, False, False)),
    ],
)
def test_a_result_says_score_excuse_absence_and_lateness(tmp_path, more, said):
    (grade,) = imported(tmp_path, GradeUpdated, entry() + result(**more))

    assert (grade.score, grade.excused, grade.missing, grade.late) == said


def test_a_result_was_graded_when_fulfilled_else_when_due_else_when_assigned(tmp_path):
    book = (
        entry("1") + entry("2", DueDate="2021-08-24")
        + result("1") + result("2") + result("2", "2", DateFulfilled="2021-08-25")
    )  # fmt: skip
    grades = imported(tmp_path, GradeUpdated, book)

    assert [g.graded_at.isoformat() for g in grades] == [
        "2021-08-23T22:00:00+00:00", "2021-08-24T22:00:00+00:00", "2021-08-25T22:00:00+00:00",
    ]  # fmt: skip


def test_work_of_a_class_that_is_not_there_is_left_out_with_all_that_hangs_on_it(tmp_path):
    village(tmp_path, [])
    write(tmp_path, "MasterSchedule", "")
    write(tmp_path, "StudentGradebook", entry() + result() + result("nothing"))

    with District(tmp_path) as district:
        remarks = district.report.remarks
        assert remarks["gradebook entries of a section that MasterSchedule doesn't hold: left out"] == 1
        assert remarks["results without their entry: left out"] == 1
        assert district.report.events == len(list(events(district, "t"))) == 3 + 4 + 3
