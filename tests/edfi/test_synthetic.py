"""What is made up: always the same for a seed, always to be told from what the district said, and plausible."""

from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path

import pytest

from skillcore_streams.edfi import District, events
from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.events.gradebook import AssignmentCreated, GradeUpdated
from skillcore_streams.events.rostering import StudentEnrolled
from skillcore_streams.events.special_programs import IEPAmended, IEPCreated, IEPGoalAdded, IEPServiceDelivered
from skillcore_streams.runtime.messages import Event

GRAND_BEND = Path(__file__).parents[2] / "data" / "grand-bend"
SOURCE = "/import/synthetic/seed-7"


def imported(seed: int | None) -> list[Event]:
    with District(GRAND_BEND, seed=seed) as district:
        found = list(events(district, "t"))
        assert district.report.planned == Counter(type(event).__name__ for event in found)
        return found


@pytest.fixture(scope="module")
def year() -> list[Event]:
    return imported(7)


@pytest.fixture(scope="module")
def real() -> list[Event]:
    return imported(None)


def of(year: list[Event], kind: type) -> list:
    return [event for event in year if isinstance(event, kind)]


def made_up(year: list[Event], kind: type) -> list:
    return [event for event in of(year, kind) if event.meta.source == SOURCE]


def test_the_same_seed_makes_the_same_year_and_another_one_another(year):
    assert [(e, e.meta) for e in imported(7)] == [(e, e.meta) for e in year]
    other = {e.meta.key for e in imported(8) if not e.meta.source.startswith("/edfi/")}
    assert other.isdisjoint(e.meta.key for e in year)


def test_what_the_district_said_stays_as_it_said_it(year, real):
    by_key = {e.meta.key: e for e in year}
    changed = [e for e in real if by_key.get(e.meta.key) != e]

    assert Counter(type(e) for e in changed) == {IEPCreated: 90}  # those that are given services


def test_an_iep_that_is_given_services_says_so_and_keeps_all_else(year, real):
    before = {e.iep_id: e for e in of(real, IEPCreated)}
    given = made_up(year, IEPCreated)

    assert len(given) == 90
    for plan in given:
        assert plan.services
        assert plan.model_copy(update={"services": []}) == before[plan.iep_id]


def test_every_student_with_a_school_has_three_classes_a_session_with_graded_work(year):
    school = {e.student_id for e in of(year, AttendanceMarked)}
    seats = Counter(e.student_id for e in made_up(year, StudentEnrolled))
    graded = Counter(e.student_id for e in made_up(year, GradeUpdated))

    assert len(school) == 227
    assert seats.keys() == school
    assert all(seats[student] in (5, 6) for student in school)  # a class may be one that the files already name
    assert all(graded[student] >= 20 for student in school)


def test_nobody_sits_in_two_classes_of_one_period_or_of_another_school(year):
    classes = {e.class_id: e for e in year if type(e).__name__ == "ClassCreated"}
    held = Counter()
    for seat in made_up(year, StudentEnrolled):
        assert classes[seat.class_id].school_id == seat.school_id
        held[seat.student_id, classes[seat.class_id].term_ids[0], classes[seat.class_id].periods[0]] += 1
    assert set(held.values()) == {1}


def test_a_result_is_of_work_of_the_class_within_its_points_and_after_it_was_assigned(year):
    work = {e.assignment_id: e for e in of(year, AssignmentCreated)}
    for grade in made_up(year, GradeUpdated):
        assignment = work[grade.assignment_id]
        assert (grade.class_id, grade.points_possible) == (assignment.class_id, assignment.points_possible)
        assert (grade.score is None) == (grade.missing or grade.excused)
        assert grade.score is None or 0 <= grade.score <= grade.points_possible
        assert grade.meta.time > assignment.meta.time


def test_graded_work_is_spread_over_the_year(year):
    months = Counter(e.graded_at.month for e in made_up(year, GradeUpdated))

    assert months.keys() >= {9, 10, 11, 12, 1, 2, 3, 4, 5}


def test_a_correction_knows_the_score_before_it(year):
    versions = defaultdict(list)
    for grade in made_up(year, GradeUpdated):
        versions[grade.grade_id].append(grade)
    corrected = [found for found in versions.values() if len(found) > 1]

    assert len(corrected) > 50
    for first, second in corrected:
        assert second.old_score == first.score
        assert second.graded_at >= first.graded_at
        assert second.reason == "regraded"


def test_services_are_those_of_the_plan_while_it_stands_on_school_days(year):
    plans = {e.iep_id: e for e in of(year, IEPCreated)}
    with District(GRAND_BEND) as district:
        days = set(district.instructional_days)
        zone = district.zone
    for log in of(year, IEPServiceDelivered):
        plan, day = plans[log.iep_id], log.started_at.astimezone(zone).date()
        assert log.service_type in {service.type for service in plan.services}
        assert plan.begin_date <= day <= plan.end_date
        assert day in days
        assert (log.minutes == 0) == (log.missed_reason is not None)


def test_a_week_without_a_miss_has_exactly_its_mandate_and_some_fall_short(year):
    mandates = {e.student_id: sum(s.minutes_per_week for s in e.services) for e in of(year, IEPCreated)}
    weeks, missed = Counter(), set()
    for log in of(year, IEPServiceDelivered):
        day = log.started_at.date()
        week = log.student_id, day - timedelta(days=day.weekday())
        weeks[week] += log.minutes
        if log.missed_reason:
            missed.add(week)

    assert all(weeks[week] == mandates[week[0]] for week in weeks if week not in missed)
    assert 100 < sum(weeks[week] < 0.8 * mandates[week[0]] for week in weeks) < len(weeks) / 3


def test_open_ieps_have_goals_and_some_are_amended_or_reviewed(year):
    open_ = {e.iep_id for e in of(year, IEPCreated) if e.end_date > date(2022, 5, 27)}
    goals = Counter(e.iep_id for e in made_up(year, IEPGoalAdded))
    amendments = made_up(year, IEPAmended)

    assert goals == dict.fromkeys(open_, 2)
    assert {e.iep_id for e in amendments} < open_
    assert 5 < len(amendments) < 30
    assert 0 < sum(e.review_completed_on is not None for e in amendments) < len(amendments)
