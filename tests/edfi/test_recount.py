"""The recount agrees with the figures that the data's README publishes, and knows nothing of the product."""

import ast
from collections import Counter
from datetime import date
from pathlib import Path

from skillcore_streams.demo import recount

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


def test_it_shares_no_code_with_the_product():
    tree = ast.parse(Path(recount.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.startswith("skillcore")]
