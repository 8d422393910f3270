"""The recount agrees with the figures that the data's README publishes, and knows nothing of the product."""

import ast
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from skillcore_streams.demo import recount, recount_grades, recount_plans, recount_roster

GRAND_BEND = Path(__file__).parents[2] / "data" / "grand-bend"


def test_the_figures_of_the_readme():
    expected = recount.recount(GRAND_BEND)

    assert expected.recorded == 1917
    assert expected.marks == 38_367
    assert len(expected.students) == 960
    assert Counter(expected.school_of.values()) == {"255901001": 64, "255901044": 48, "255901107": 115}
    assert len(expected.calendar) == 169
    assert len(expected.three_in_seven) == 35
    assert max(expected.days_absent.values()) == 20
    assert sum(days >= 17 for days in expected.days_absent.values()) == 44


def test_a_doubled_day_is_the_absence():
    assert recount.recount(GRAND_BEND).day_of["604822", date(2021, 12, 15)] == "absent_excused"


def test_sunday_is_stored_and_counts_for_no_rate():
    expected = recount.recount(GRAND_BEND)
    sunday = [student for (student, day) in expected.day_of if day == date(2022, 5, 15)]
    assert sorted(sunday) == ["604891", "604906", "604923"]
    assert date(2022, 5, 15) not in expected.calendar


def test_every_enrolled_student_is_counted_once_on_every_instructional_day():
    expected = recount.recount(GRAND_BEND)
    for day in expected.calendar:
        counts = [expected.counts[school, day] for school in set(expected.school_of.values())]
        assert sum(c.present + c.absent + c.tardy + c.other for c in counts) == 227


def test_a_crossing_is_the_first_day_on_which_the_rate_reaches_the_threshold():
    expected = recount.recount(GRAND_BEND)
    assert expected.crossings
    for crossing in expected.crossings:
        percent = recount.THRESHOLDS[crossing.threshold]
        assert crossing.days_enrolled >= 20
        assert crossing.days_absent * 100 >= percent * crossing.days_enrolled
        for n in range(20, crossing.days_enrolled):
            days = expected.calendar[:n]
            missed = sum(expected.day_of[crossing.student, day].startswith("absent") for day in days)
            assert missed * 100 < percent * n


def test_the_figures_of_plans():
    found = recount_plans.ieps(GRAND_BEND)
    open_ = [iep for iep in found if iep.exited is None]

    assert (len(found), len(open_)) == (97, 68)
    assert {iep.review_due for iep in open_} == {date(2022, 8, 27)}
    assert [date(2022, 8, 27) - timedelta(days=stage) for stage in recount_plans.STAGES] == [
        date(2022, 5, 29), date(2022, 6, 28), date(2022, 7, 28),
    ]  # fmt: skip
    school_of = recount.recount(GRAND_BEND).school_of
    assert sum(iep.student in school_of for iep in open_) == 15
    assert sum(iep.student in school_of for iep in found) == 24


def test_a_completed_review_is_followed_by_one_a_year_later():
    (iep, *_) = recount_plans.ieps(GRAND_BEND)
    done = [{"iep_id": str(recount_plans.iep_id("t", iep)), "review_completed_on": "2022-03-01"}]
    rows = [d for d in recount_plans.iep_deadlines(GRAND_BEND, "t", done)
            if d.student_id == recount.student_id("t", iep.student) and d.kind == "annual_review"]  # fmt: skip

    assert [(d.opened, d.due, d.completed) for d in rows] == [
        (date(2021, 9, 1), date(2022, 8, 27), date(2022, 3, 1)), (date(2022, 3, 1), date(2023, 3, 1), None),
    ]  # fmt: skip


def test_a_week_counts_each_service_up_to_its_own_mandate():
    student = str(recount.student_id("t", "1"))
    plan = {"student_id": student, "begin_date": "2021-09-01", "end_date": "2022-08-27",
            "services": [{"type": "a", "minutes_per_week": 60}, {"type": "b", "minutes_per_week": 40}]}  # fmt: skip

    def session(day: int, service: str, minutes: int, missed: str | None = None) -> dict:
        return {"student_id": student, "started_at": f"2021-09-{day:02}T15:00:00Z", "service_type": service,
                "minutes": minutes, "missed_reason": missed}  # fmt: skip

    weeks = recount_plans.service_weeks([plan], [
        session(2, "a", 60),  # the plan did not begin on that week's Monday
        session(6, "a", 90), session(7, "b", 10), session(8, "b", 30, "absent"),
        session(13, "a", 60), session(14, "b", 40),
    ])  # fmt: skip

    assert [(w.monday.day, w.delivered, w.credited, w.mandated, w.short) for w in weeks] == [
        (30, 60, 0, None, False), (6, 100, 70, 100, True), (13, 100, 100, 100, False),
    ]  # fmt: skip


def test_only_the_second_short_week_in_a_row_is_a_shortfall():
    student = recount.student_id("t", "1")
    weeks = [recount_plans.Week(student, date(2021, 9, day), 0, 0, 100) for day in (6, 13, 27)]

    assert recount_plans.shortfalls(weeks) == {(student, date(2021, 9, 13))}


def test_the_figures_of_the_roster_and_the_gradebook():
    roster = recount_roster.recount_roster(GRAND_BEND)
    results = list(recount_grades.file_results(GRAND_BEND, "t"))

    assert (len(roster.staff), len(roster.contacts), len(roster.guardians)) == (68, 1873, 1872)
    assert (len(roster.classes), len(roster.teaching), len(roster.seats)) == (532, 528, 60)
    assert len(results) == 250
    assert (len({r.student_id for r in results}), len({r.assignment_id for r in results})) == (25, 10)
    assert len(recount_grades.class_grades(results)) == 25


def test_a_class_grade_is_points_of_points_without_what_is_excused():
    ids = [recount.student_id("t", str(n)) for n in range(5)]
    results = [
        recount_grades.Result(ids[0], ids[1], ids[2], Decimal(15), Decimal(20)),
        recount_grades.Result(ids[0], ids[1], ids[3], Decimal(0), Decimal(10)),
        recount_grades.Result(ids[0], ids[1], ids[4], None, Decimal(100)),
    ]

    assert [(g.percent, g.letter, g.failing) for g in recount_grades.class_grades(results)] == [(50, "F", True)]


def test_of_a_result_the_last_word_holds_and_missing_work_is_zero():
    key = str(recount.student_id("t", "1"))
    said = {"grade_id": key, "class_id": key, "student_id": key, "assignment_id": key, "points_possible": "20",
            "excused": False, "score": "5", "graded_at": "2021-09-01T22:00:00Z"}  # fmt: skip
    later = said | {"score": None, "graded_at": "2021-09-08T22:00:00Z"}

    for order in ([said, later], [later, said]):
        assert [r.score for r in recount_grades.published_results(order)] == [0]


def test_it_shares_no_code_with_the_product():
    modules = [recount, recount_roster, recount_grades, recount_plans]
    for module in modules:
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        own = {name for name in imported if name.startswith("skillcore")}
        assert own <= {m.__name__ for m in modules}, module.__name__
