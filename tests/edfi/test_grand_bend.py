"""The figures of data/grand-bend, exactly, and what the importer says of them."""

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from skillcore_streams.demo import recount
from skillcore_streams.edfi import District, events
from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.events.rostering import AcademicSessionCreated, SchoolCreated, StudentEnrolled, UserCreated
from skillcore_streams.runtime.messages import Event

GRAND_BEND = Path(__file__).parents[2] / "data" / "grand-bend"
TENANT = "grand-bend"


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
        UserCreated: 960,
        StudentEnrolled: 227,
        AttendanceMarked: 38_367,
    }
    assert district.report.events == len(year)


def test_categories(marks):
    assert Counter(mark.category for mark in marks) == {
        "present": 36_450,
        "absent_excused": 1_077,
        "absent_unexcused": 773,
        "tardy": 66,
        "partial": 1,
    }


def test_what_had_no_place_is_counted(district):
    assert sorted(district.report.remarks.values()) == [1, 3, 227, 733]


def test_the_roster_comes_first_and_attendance_by_date(year, marks):
    assert all(isinstance(event, AttendanceMarked) for event in year[-38_367:])
    days = [mark.date for mark in marks]
    assert days == sorted(days)


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
