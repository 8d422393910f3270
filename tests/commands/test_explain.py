"""`skillcore explain` as an operator runs it: what it says, and its exit code when a number does not add up."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.testing import HandlerLab
from tests.commands.lab import Machine, new_database
from tests.handlers.village import (
    CLASS,
    DAYS,
    STUDENT,
    TESTS,
    assignment,
    enrolment,
    grade,
    mark,
    school,
    school_class,
    session,
    weighed,
)

TENANT = "elm"
GRADE = "explain", "grade", "--tenant", TENANT, "--class", str(CLASS), "--student", str(STUDENT)
ABSENCE = "explain", "absence", "--tenant", TENANT, "--student", str(STUDENT)


@pytest.fixture(scope="module")
def district(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A class with two grades and a student with an absence, processed without Kafka; a database of its own."""
    machine = Machine("127.0.0.1:1", asyncio.run(new_database(postgres_dsn)), tmp_path_factory.mktemp("explain"))
    machine.run("migrate")

    async def fill() -> None:
        postgres = Postgres(machine.dsn, name="tests")
        try:
            lab = HandlerLab(postgres.transaction)
            await weighed(lab, tenant=TENANT)
            await lab.deliver([
                school(tenant=TENANT), session(tenant=TENANT), enrolment(tenant=TENANT),
                enrolment(tenant=TENANT, class_id=CLASS), school_class(tenant=TENANT),
                assignment(0, tenant=TENANT), assignment(1, 50, TESTS, tenant=TENANT, title="Penelope's test"),
                mark(0, tenant=TENANT), mark(1, "present", tenant=TENANT),
            ])
            await lab.deliver([
                grade(0, 9, tenant=TENANT), grade(1, 40, tenant=TENANT, reason="Penelope was ill"),
            ])
            await lab.run_jobs()
        finally:
            await postgres.close()

    asyncio.run(fill())
    return machine


def change(machine: Machine, statement: str) -> None:
    async def run() -> None:
        postgres = Postgres(machine.dsn, name="tests")
        try:
            async with postgres.transaction() as db:
                await db.execute(statement, TENANT)
        finally:
            await postgres.close()

    asyncio.run(run())


def test_a_grade_is_told_item_by_item_and_adds_up(district: Machine) -> None:
    said = district.run(*GRADE)

    assert "current 83.33 % (B), final 83.33 %" in said
    assert "(30 × 90.00 + 60 × 80.00) / 90 = 83.33" in said
    assert "The items add up to what is stored." in said
    for word in (grade(0, 9, tenant=TENANT), assignment(0, tenant=TENANT)):
        assert word.meta.id in said or str(word.assignment_id) in said
    assert "Penelope" not in said


def test_a_grade_as_json_has_exact_numbers_and_the_events_behind_them(district: Machine) -> None:
    told = district.json(*GRADE)

    assert told["explained"]["current_score"] == "83.33333333333333333333333333"
    assert [item["grade_events"] for item in told["items"]] == [
        [grade(0, 9).meta.id], [grade(1, 40, reason="Penelope was ill").meta.id],
    ]
    assert told["differences"] == []


def test_an_absence_rate_is_told_day_by_day_and_adds_up(district: Machine) -> None:
    said = district.run(*ABSENCE, "--year", "2021-2022")

    assert str(DAYS[0]) in said
    assert "1 / 2 = 0.50000" in said
    assert "The items add up to what is stored." in said
    assert district.json(*ABSENCE)["absent_days"][0]["event"] == mark(0, tenant=TENANT).meta.id


def test_a_number_that_does_not_add_up_is_named_and_exits_1(district: Machine) -> None:
    change(district, "update student_class_grades set letter = 'C' where tenant_id = $1")
    change(district, "update student_attendance_ytd set days_absent = 2 where tenant_id = $1")
    try:
        assert "DIFFERS  letter: stored is C, the items add up to B" in district.run(*GRADE, code=1)
        assert "DIFFERS  days_absent: stored is 2, the items add up to 1" in district.run(*ABSENCE, code=1)
        assert '"letter: stored is C' in district.run(*GRADE, "--json", code=1)
    finally:
        change(district, "update student_class_grades set letter = 'B' where tenant_id = $1")
        change(district, "update student_attendance_ytd set days_absent = 1 where tenant_id = $1")


def test_what_is_not_there_is_said_in_a_sentence(district: Machine) -> None:
    nobody = str(UUID(int=77))

    assert "no grade in this class" in district.run(*GRADE[:-1], nobody, code=1)
    assert "no attendance of 1999-2000" in district.run(*ABSENCE, "--year", "1999-2000", code=1)
    assert "not a valid UUID" in district.run(*GRADE[:-1], "Penelope", code=64)
