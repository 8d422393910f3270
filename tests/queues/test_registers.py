"""Registers: what the law asks for, drawn up from rows and shown as it stood."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from skillcore_streams.queues.compliance_reporting import DrawUpRegister, draw_up_register
from skillcore_streams.queues.report_generation import GenerateReport, generate_report
from skillcore_streams.reports.registers import REGISTERS
from skillcore_streams.runtime import PermanentError, derive_id
from skillcore_streams.runtime.objects import ObjectStore
from skillcore_streams.testing import TENANT, HandlerLab, MemoryStore, given
from tests.handlers.plans import BEGIN, a_plan, amendment, iep
from tests.handlers.test_demographics import user
from tests.handlers.village import OTHER_SCHOOL, SCHOOL, STUDENT, TEACHER, YEAR, at, enrolment, school

CLASSMATE = UUID(int=2)
DISCLOSE = """
    insert into ferpa_disclosures
    values ($1, $2, $3, 'County hospital', 'health_safety', '=emergency', '{health,grades}', '34 CFR 99.36', '{}', $4,
            $5)"""
ACCESS = """
    insert into ferpa_access_log (tenant_id, access_id, student_id, actor_id, actor_role, record_type, purpose,
                                  accessed_at)
    values ($1, gen_random_uuid(), $2, $3, $4, $5, $6, $7)"""
DEADLINE = """
    insert into compliance_deadlines (tenant_id, student_id, kind, subject_id, opened_on, deadline_id, due_date,
                                      completed_on, closed_on)
    values ($1, $2, $3, gen_random_uuid(), '2020-01-01', gen_random_uuid(), $4, $5, $6)"""
DAY = date(2022, 5, 10)


async def disclose(lab: HandlerLab, when: datetime, *, student: UUID = STUDENT, tenant: str = TENANT) -> None:
    await lab.execute(DISCLOSE, tenant, derive_id(when, student, tenant), student, TEACHER, when)


async def deadline(
    lab: HandlerLab, due: date, completed: date | None, closed: date | None = None, *, student: UUID = STUDENT,
    kind: str = "annual_review",
) -> None:
    await lab.execute(DEADLINE, TENANT, student, kind, due, completed, closed or completed)


async def drawn_up(lab: HandlerLab, name: str, period: str = YEAR, school: UUID | None = None) -> list[dict[str, Any]]:
    """Draw the register up; its rows."""
    await lab.run(draw_up_register, DrawUpRegister(name=name, period=period, school_id=school))
    rows = await lab.rows(
        """select facts from compliance_register where kind = $1 and period = $2 and school_id = $3 and n > 0
            order by n""", name, period, school or UUID(int=0),
    )  # fmt: skip
    return [json.loads(row["facts"]) for row in rows]


async def test_the_register_of_disclosures_names_party_interest_and_student_in_order(lab: HandlerLab) -> None:
    await lab.deliver([user("student", id=STUDENT, given_name="José", family_name="Núñez")])
    await disclose(lab, at(DAY, 9))
    await disclose(lab, at(DAY - timedelta(days=20), 9), student=CLASSMATE)
    await disclose(lab, at(date(2021, 6, 30), 23))
    await disclose(lab, at(DAY, 9), tenant="elsewhere")

    rows = await drawn_up(lab, "disclosure_register")

    assert [(r["day"], r["student"]) for r in rows] == [("2022-04-20", None), ("2022-05-10", "Núñez, José")]
    assert rows[1] | {"student": ""} == {
        "day": "2022-05-10", "student": "", "recipient_party": "County hospital", "recipient_type": "health safety",
        "legitimate_interest": "=emergency", "records": "health, grades", "exception_cite": "34 CFR 99.36",
        "further_parties": "",
    }


async def test_a_disclosure_never_changes_and_never_leaves(lab: HandlerLab) -> None:
    await disclose(lab, at(DAY, 9))

    for statement in ("update ferpa_disclosures set recipient_party = 'x'", "delete from ferpa_disclosures"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await lab.execute(statement)


async def test_access_is_summed_up_by_role_record_and_purpose(lab: HandlerLab) -> None:
    for student, actor, purpose, when in (
        (STUDENT, 1, "conference", DAY), (STUDENT, 1, "conference", DAY), (CLASSMATE, 2, "conference", DAY),
        (STUDENT, 3, None, DAY), (STUDENT, 1, "conference", DAY + timedelta(days=31)),
    ):
        await lab.execute(ACCESS, TENANT, student, UUID(int=actor), "teacher", "iep", purpose, at(when))

    rows = await drawn_up(lab, "access_summary", "2022-05")

    assert [(r["purpose"], r["accesses"], r["people"], r["students"]) for r in rows] == [
        ("conference", 3, 2, 2), ("not given", 1, 1, 1),
    ]


async def test_timeliness_counts_reviews_by_their_due_date(lab: HandlerLab) -> None:
    day = timedelta(days=1)
    await deadline(lab, DAY, DAY)
    await deadline(lab, DAY, DAY - 30 * day)
    await deadline(lab, DAY, DAY + 4 * day)
    await deadline(lab, DAY, None)
    await deadline(lab, DAY, None, closed=DAY - 9 * day)  # another plan took its place: nothing was due
    await deadline(lab, DAY, DAY + 2 * day, kind="triennial")
    await deadline(lab, DAY + 60 * day, None)

    rows = await drawn_up(lab, "iep_timeliness", "2022-05")

    names = ("kind", "due", "on_time", "late", "open", "percent_on_time", "longest_delay")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("annual review", 4, 2, 1, 1, 50.00, 4), ("triennial", 1, 0, 1, 0, 0.00, 2),
    ]


async def test_timeliness_follows_from_plans_and_amendments(lab: HandlerLab) -> None:
    await lab.deliver([school(), enrolment(BEGIN), iep(), amendment(1, BEGIN + timedelta(days=300))])
    await lab.run_jobs()

    rows = await drawn_up(lab, "iep_timeliness", "2022-2023")

    [annual] = [row for row in rows if row["kind"] == "annual review"]
    assert (annual["due"], annual["on_time"], annual["late"]) == (1, 1, 0)


async def test_service_minutes_are_summed_up_by_school(lab: HandlerLab) -> None:
    await lab.deliver([school(), enrolment(BEGIN), *a_plan()])
    await lab.run_jobs()
    weeks = await lab.rows("select * from service_minutes_weekly")

    [row] = await drawn_up(lab, "service_minutes")

    assert (row["school"], row["students"], row["weeks"]) == ("Lakeside", 1, len(weeks))
    assert row["delivered"] == sum(week["delivered"] for week in weeks)
    assert row["mandated"] == sum(week["mandated"] for week in weeks)
    assert row["short_weeks"] == sum(week["credited"] * 100 < week["mandated"] * 80 for week in weeks)


async def test_a_school_s_register_is_of_its_students(lab: HandlerLab) -> None:
    await lab.deliver([school(), enrolment(), enrolment(student=CLASSMATE, school=OTHER_SCHOOL)])
    await disclose(lab, at(DAY, 9))
    await disclose(lab, at(DAY, 10), student=CLASSMATE)

    assert len(await drawn_up(lab, "disclosure_register")) == 2
    assert len(await drawn_up(lab, "disclosure_register", school=SCHOOL)) == 1
    assert await drawn_up(lab, "disclosure_register", school=UUID(int=404)) == []


@pytest.mark.parametrize("name", sorted(REGISTERS))
async def test_a_register_drawn_up_again_is_the_same_and_orders_its_files(lab: HandlerLab, name: str) -> None:
    await lab.deliver([school(), enrolment(BEGIN), *a_plan()])
    await disclose(lab, at(DAY, 9))
    await lab.execute(ACCESS, TENANT, STUDENT, TEACHER, "teacher", "iep", None, at(DAY))
    await lab.run_jobs()
    order = given(DrawUpRegister(name=name, period=YEAR, formats=("pdf", "csv")))

    first = await lab.run(draw_up_register, order)
    rows = await lab.rows("select n, facts from compliance_register order by n")
    again = await lab.run(draw_up_register, order)

    assert await lab.rows("select n, facts from compliance_register order by n") == rows
    assert len(rows) > 1
    assert json.loads(rows[0]["facts"]) == {"rows": len(rows) - 1}
    assert [set(json.loads(row["facts"])) for row in rows[1:]] == [
        {column for column, _ in REGISTERS[name].columns}
    ] * (len(rows) - 1)
    jobs = [job for job in first.enqueued if isinstance(job, GenerateReport)]
    assert [(job.kind, job.format) for job in jobs] == [(name, "pdf"), (name, "csv")]
    assert [order.id for order in again.orders] == [order.id for order in first.orders]


async def test_a_register_in_a_file_is_the_register_as_it_stood(lab: HandlerLab) -> None:
    await disclose(lab, at(DAY, 9))
    done = await lab.run(draw_up_register, DrawUpRegister(name="disclosure_register", period=YEAR, formats=("csv",)))
    await disclose(lab, at(DAY, 10), student=CLASSMATE)
    [job] = [job for job in done.enqueued if isinstance(job, GenerateReport)]

    await lab.run(generate_report, job)

    store = lab.services[ObjectStore]
    assert isinstance(store, MemoryStore)
    [body] = store.objects.values()
    rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")))
    assert len(rows) == 2
    assert rows[1][:5] == ["2022-05-10", "", "County hospital", "health safety", "'=emergency"]


async def test_a_register_or_a_period_that_there_is_not_is_refused(lab: HandlerLab) -> None:
    with pytest.raises(PermanentError, match="there is no register of this name"):
        await lab.run(draw_up_register, DrawUpRegister(name="x", period=YEAR))
    with pytest.raises(PermanentError, match="a period is a month"):
        await lab.run(draw_up_register, DrawUpRegister(name="service_minutes", period="2021"))
