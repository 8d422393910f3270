"""Explained absence rates: the days add up to what is stored, whatever has happened; and what does not is named."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from skillcore_streams.explain.absences import explain_absence
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.testing import TENANT, HandlerLab
from tests.handlers.test_shuffled import autumn
from tests.handlers.village import DAYS, SATURDAY, SCHOOL, STUDENT, YEAR, class_mark, mark, ready


async def explained(lab: HandlerLab, year: str | None = None) -> dict[str, Any]:
    async with lab.transaction() as db:
        return await explain_absence(db, TENANT, STUDENT, year)


async def a_term(lab: HandlerLab) -> None:
    """25 days; absent on the 2nd and the 21st, in most classes of the 5th, and on a Saturday."""
    await ready(lab)
    classes = [class_mark(period, 4) for period in range(1, 6)]
    await lab.deliver([
        mark(1), mark(20, "absent_excused"), mark(24, "present"), mark(SATURDAY), *classes,
    ])
    await lab.settle()


@pytest.mark.parametrize("seed", range(4))
async def test_every_rate_of_an_eventful_autumn_is_explained(lab: HandlerLab, seed: int) -> None:
    await lab.deliver(autumn(Random(seed)))
    await lab.settle()

    years = await lab.rows("select student_id, school_year from student_attendance_ytd where as_of is not null")
    assert len(years) >= 2
    async with lab.transaction() as db:
        for row in years:
            told = await explain_absence(db, TENANT, row["student_id"], row["school_year"])
            assert told["differences"] == [], row


async def test_each_absent_day_says_what_it_was_and_who_said_so(lab: HandlerLab) -> None:
    await a_term(lab)

    told = await explained(lab)

    assert [(d["day"], d["school_day"], d["category"], len(d["classes"])) for d in told["absent_days"]] == [
        (DAYS[1], 2, "absent_unexcused", 0), (DAYS[4], 5, "absent_unexcused", 5), (DAYS[20], 21, "absent_excused", 0),
    ]
    assert told["absent_days"][0]["event"] == mark(1).meta.id
    assert told["absent_days"][1]["classes"][0]["event"] == class_mark(1, 4).meta.id
    assert told["not_counted"] == [{"day": SATURDAY, "category": "absent_unexcused", "why": "not a school day"}]
    assert told["enrolled"] == {
        "school": SCHOOL, "begin": DAYS[0], "end": None, "first_school_day": DAYS[0], "as_of": DAYS[24],
        "school_days": 25, "calendar_days_of_the_year": 60,
    }
    assert told["explained"] == {"days_enrolled": 25, "days_absent": 3, "rate": Decimal("0.12000")}
    assert [(t["threshold"], t["as_of"], t["days_absent"]) for t in told["thresholds"]] == [
        ("at_risk_5", DAYS[19], 2), ("chronic_10", DAYS[19], 2),
    ]
    assert told["differences"] == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("update student_attendance_ytd set days_absent = 4", ["days_absent"]),
        ("update student_attendance_ytd set rate = 0.5", ["rate"]),
        ("update student_attendance_ytd set as_of = as_of - 1", ["as_of"]),
        ("update attendance_threshold set days_absent = 9 where threshold = 'at_risk_5'", ["at_risk_5, days_absent"]),
        (
            "update attendance_threshold set retracted_at = now() where threshold = 'chronic_10'",
            [f"chronic_10, {what}" for what in ("as_of", "days_enrolled", "days_absent", "rate")],
        ),
        ("delete from attendance_day where category = 'absent_excused'", ["days_absent", "rate"]),
    ],
)
async def test_a_stored_number_that_the_days_do_not_give_is_named(
    lab: HandlerLab, statement: str, named: list[str]
) -> None:
    await a_term(lab)
    await lab.execute(statement)

    told = await explained(lab, YEAR)

    assert [d.split(":")[0] for d in told["differences"]] == named


async def test_a_student_without_attendance_cannot_be_explained(lab: HandlerLab) -> None:
    with pytest.raises(SkillCoreError, match="no attendance of any year"):
        await explained(lab)


async def test_a_rate_that_waits_for_enrolment_and_calendar_is_explained_as_none(lab: HandlerLab) -> None:
    await lab.deliver([mark(0)])

    told = await explained(lab)

    assert told["explained"] == {"days_enrolled": 0, "days_absent": 0, "rate": None}
    assert [d["why"] for d in told["not_counted"]] == ["neither enrolment nor calendar is known"]
    assert told["differences"] == []
