"""The figures of data/grand-bend, exactly, and what the importer says of them."""

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from skillcore_streams.demo import recount
from skillcore_streams.edfi import District, events
from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.events.demographics import (
    EnglishLearnerStatusChanged,
    GuardianContactUpdated,
    MealEligibilityChanged,
)
from skillcore_streams.events.gradebook import AssignmentCreated, GradeUpdated
from skillcore_streams.events.interventions import BehaviorIncidentReported, InterventionAssigned
from skillcore_streams.events.rostering import (
    AcademicSessionCreated,
    ClassCreated,
    SchoolCreated,
    StudentEnrolled,
    TeacherAssigned,
    UserCreated,
)
from skillcore_streams.events.special_programs import IEPCreated, Section504PlanActivated
from skillcore_streams.runtime.messages import Event

GRAND_BEND = Path(__file__).parents[2] / "data" / "grand-bend"
TENANT = "grand-bend"
ROSTER = {
    SchoolCreated, AcademicSessionCreated, UserCreated, GuardianContactUpdated, StudentEnrolled, ClassCreated,
    TeacherAssigned,
}  # fmt: skip


@pytest.fixture(scope="module")
def district():
    with District(GRAND_BEND) as district:
        yield district


@pytest.fixture(scope="module")
def year(district) -> list[Event]:
    return list(events(district, TENANT))


@pytest.fixture(scope="module")
def marks(year) -> list[AttendanceMarked]:
    return [event for event in year if isinstance(event, AttendanceMarked)]


def test_counts(year, district):
    assert Counter(map(type, year)) == {
        SchoolCreated: 4,
        AcademicSessionCreated: 3 + 6 + 18,
        UserCreated: 960 + 68 + 1_873,
        GuardianContactUpdated: 1_872,
        StudentEnrolled: 227 + 25 + 35,
        ClassCreated: 532,
        TeacherAssigned: 528,
        AssignmentCreated: 10,
        GradeUpdated: 250,
        AttendanceMarked: 38_367,
        IEPCreated: 97,
        Section504PlanActivated: 3,
        EnglishLearnerStatusChanged: 38,
        MealEligibilityChanged: 82,
        InterventionAssigned: 25,
        BehaviorIncidentReported: 21,
    }
    assert district.report.planned == Counter(type(event).__name__ for event in year)
    assert (district.report.bad_records, district.report.missing) == (0, [])


def test_categories(marks):
    assert Counter(mark.category for mark in marks) == {
        "present": 36_450,
        "absent_excused": 1_077,
        "absent_unexcused": 773,
        "tardy": 66,
        "partial": 1,
    }


def test_what_had_no_place_is_counted(district):
    remarks = district.report.remarks
    assert remarks["students whose school no attendance names: users of the district, not enrolled"] == 733
    assert remarks["marks on a day off the calendar: published, count for no rate"] == 3
    assert remarks["student-days with more than one mark: all published, the gravest is the latest"] == 1
    assert remarks["witnesses and victims of incidents: no event"] == 2
    assert {kind.rpartition(": ")[2]: n for kind, n in remarks.items() if "without an event" in kind} == {
        "Bilingual": 40, "Gifted and Talented": 86, "Migrant education": 275, "Homeless": 11, "Title I part A": 2,
        "Career and technical education": 64, "Neglected or delinquent": 8,
    }  # fmt: skip
    mapped = 97 + 3 + 38 + 82
    assert mapped + sum(n for kind, n in remarks.items() if "without an event" in kind) == 706


def test_the_roster_comes_first_and_what_happened_by_its_day(district, year, marks):
    zone = district.zone
    dated = [event.meta.time.astimezone(zone).date() for event in year]
    roster = sum(type(event) in ROSTER for event in year)
    assert all(type(event) in ROSTER for event in year[:roster])
    assert set(dated[:roster]) == {date(2021, 8, 23)}
    assert dated[roster:] == sorted(dated[roster:])
    assert [mark.date for mark in marks] == sorted(mark.date for mark in marks)


def test_nothing_is_made_up_unless_it_is_asked_for(year):
    assert all(event.meta.source.startswith("/edfi/") for event in year)


def test_no_ieps_year_is_over_but_of_those_with_an_exit_date(year):
    plans = [event for event in year if isinstance(event, IEPCreated)]
    assert {plan.begin_date for plan in plans} == {date(2021, 9, 1)}
    assert {plan.annual_review_due for plan in plans} == {date(2022, 8, 27)}
    assert Counter(plan.end_date for plan in plans) == {date(2021, 10, 1): 29, date(2022, 8, 27): 68}
    assert Counter(plan.triennial_due for plan in plans) == {date(2024, 8, 23): 95, date(2024, 8, 24): 2}
    assert sum(bool(plan.services) for plan in plans) == 7


def test_grades_are_those_of_the_file(year):
    grades = [event for event in year if isinstance(event, GradeUpdated)]
    assert len({grade.student_id for grade in grades}) == 25
    assert set(Counter(grade.student_id for grade in grades).values()) == {10}
    assert sum(grade.late for grade in grades) == 25
    assert {grade.points_possible for grade in grades} == {100}


def test_every_class_has_its_own_id_though_section_identifiers_repeat(year):
    classes = [event for event in year if isinstance(event, ClassCreated)]
    assert len({c.class_id for c in classes}) == 532
    assert len({c.sourced_id for c in classes}) == 520
    assert all(len(c.term_ids) == 1 and c.periods and c.title for c in classes)
    sessions = {event.session_id for event in year if isinstance(event, AcademicSessionCreated)}
    assert all(set(c.term_ids) <= sessions for c in classes)


def test_who_teaches_a_class_is_said_by_both_events(year):
    taught = {(e.class_id, e.teacher_id) for e in year if isinstance(e, TeacherAssigned) and e.role == "primary"}
    assert taught == {(e.class_id, teacher) for e in year if isinstance(e, ClassCreated) for teacher in e.teacher_ids}


def test_what_events_refer_to_exists(year):
    users = {event.user_id for event in year if isinstance(event, UserCreated)}
    classes = {event.class_id for event in year if isinstance(event, ClassCreated)}
    people = {"student_id", "teacher_id", "coordinator_id", "case_manager_id", "grader_id", "reported_by"}
    for event in year:
        for field in people & type(event).model_fields.keys():
            assert getattr(event, field) is None or getattr(event, field) in users, (type(event), field)
        if "class_id" in type(event).model_fields:
            assert event.class_id is None or event.class_id in classes


def test_a_removal_is_an_expulsion_not_a_suspension_in_school(year):
    incidents = [event for event in year if isinstance(event, BehaviorIncidentReported)]
    assert Counter((i.action, i.removal_days) for i in incidents) == {("iss", None): 20, ("expulsion", 5): 1}
    assert Counter(i.severity for i in incidents) == {"major": 9, "moderate": 4, "minor": 8}


def test_importing_again_says_the_same_thing(district, year):
    assert [(e, e.meta) for e in events(district, TENANT)] == [(e, e.meta) for e in year]


def test_every_event_has_an_id_of_its_own_and_another_one_in_another_tenant(district, year):
    keys = {event.meta.key for event in year}
    assert len(keys) == len(year)
    assert keys.isdisjoint(event.meta.key for event in events(district, "grand-bend-2"))


def test_a_doubled_day_is_two_marks_of_which_the_absence_is_the_later(marks):
    student = recount.student_id(TENANT, "604822")
    doubled = [m for m in marks if m.student_id == student and m.date == date(2021, 12, 15)]
    assert len({m.attendance_id for m in doubled}) == 2
    assert max(doubled, key=lambda m: m.marked_at).category == "absent_excused"


def test_marks_are_made_at_nine_on_the_schools_clock_summer_and_winter(marks):
    present = {m.date: m.marked_at for m in marks if m.category == "present"}
    assert present[date(2021, 8, 23)] == datetime(2021, 8, 23, 14, tzinfo=UTC)
    assert present[date(2022, 1, 10)] == datetime(2022, 1, 10, 15, tzinfo=UTC)


def test_a_school_year_has_its_instructional_days_and_its_parts_hang_below_it(year):
    high = recount.school_id(TENANT, "255901001")
    sessions = {e.session_id: e for e in year if isinstance(e, AcademicSessionCreated) and e.school_id == high}
    (whole,) = [s for s in sessions.values() if s.type == "schoolYear"]
    assert whole.title == "2021-2022"
    assert len(whole.instructional_days) == 169
    assert Counter(sessions[s.parent_id].type for s in sessions.values() if s.parent_id) == {
        "schoolYear": 2,
        "semester": 6,
    }


def test_the_recount_names_the_same_rows(marks):
    expected = recount.recount(GRAND_BEND)
    last = {(m.student_id, m.date): m for m in sorted(marks, key=lambda m: m.marked_at)}
    assert {key: m.category for key, m in last.items()} == {
        (recount.student_id(TENANT, student), day): category for (student, day), category in expected.day_of.items()
    }
    assert {m.attendance_id for m in marks if m.code == "Present"} == {
        recount.attendance_id(TENANT, student, expected.school_of[student], day)
        for (student, day), category in expected.day_of.items()
        if category == "present"
    }
