"""Each handler alone: it writes rows of its event's tenant only, and it is one the catalogue knows."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams import handlers
from skillcore_streams.events.attendance import AttendanceThresholdReached, StudentAbsent
from skillcore_streams.handlers.attendance import (
    aggregate_attendance,
    correct_attendance,
    follow_up_threshold,
    notify_of_absence,
)
from skillcore_streams.handlers.demographics import create_profiles
from skillcore_streams.handlers.rostering import create_school, create_session, enroll_students
from skillcore_streams.queues.attendance_aggregation import (
    SchoolDay,
    SchoolYear,
    StudentYear,
    school_day,
    school_year,
    student_year,
)
from skillcore_streams.runtime import Event, Job
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.testing import NOW, HandlerLab, given
from tests.handlers.test_demographics import user
from tests.handlers.village import (
    DAYS,
    SCHOOL,
    STUDENT,
    YEAR,
    class_mark,
    correction,
    enrolment,
    mark,
    school,
    session,
)

CATALOG = json.loads((Path(__file__).parents[2] / "schemas" / "catalog.json").read_text())
EAST, WEST = "east", "west"
handlers.load()

TENANT_TABLES = """
    select t.table_name
      from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
     where c.column_name = 'tenant_id' and t.table_schema = 'public' and t.table_type = 'BASE TABLE'
       and t.table_name !~ '^event_'"""

wrong = mark(1, tenant=EAST)
shorter = session(DAYS[5:9], said=NOW, tenant=EAST)
MESSAGES: dict[Callable[..., Awaitable[None]], list[Event] | list[Job]] = {  # what each does most with
    aggregate_attendance: [*(mark(n, tenant=EAST) for n in range(25)), class_mark(1, 30, tenant=EAST)],
    correct_attendance: [correction(wrong, "present")],
    notify_of_absence: [given(
        StudentAbsent(
            student_id=STUDENT, school_id=SCHOOL, date=DAYS[2], excused=False, consecutive_days=3, guardian_ids=[]
        ),
        tenant=EAST,
    )],
    follow_up_threshold: [given(
        AttendanceThresholdReached(
            student_id=STUDENT, school_id=SCHOOL, school_year=YEAR, threshold="chronic_10", days_enrolled=20,
            days_absent=2, rate="0.1", as_of=DAYS[19],
        ),
        tenant=EAST,
    )],
    create_school: [given(school(name="East"), tenant=EAST)],
    create_session: [shorter],
    enroll_students: [enrolment(DAYS[0].replace(month=8), tenant=EAST, class_id=UUID(int=7))],
    create_profiles: [user("teacher", email="east@x.edu", tenant=EAST)],
    school_day: [given(SchoolDay(school_id=SCHOOL, day=DAYS[1]), tenant=EAST)],
    student_year: [given(StudentYear(student_id=STUDENT, school_year=YEAR), tenant=EAST)],
    school_year: [given(SchoolYear(school_id=SCHOOL, school_year=YEAR), tenant=EAST)],
}


async def of(lab: HandlerLab, tenant: str) -> dict[str, list[str]]:
    """Every row of the tenant, table by table."""
    tables = [row["table_name"] for row in await lab.rows(TENANT_TABLES)]
    assert len(tables) > 20
    return {
        table: sorted(str(row) for row in await lab.rows(f"select * from {table} where tenant_id = $1", tenant))
        for table in tables
    }


async def an_eventful_autumn(lab: HandlerLab, tenant: str) -> None:
    """Rows in every table, of the very uuids that the others use."""
    await lab.deliver([
        given(school(), tenant=tenant), session(tenant=tenant), enrolment(tenant=tenant),
        user("teacher", email="a@x.edu", tenant=tenant), *(mark(n, tenant=tenant) for n in range(22)),
        class_mark(1, 40, tenant=tenant), correction(mark(15, tenant=tenant), "present"),
    ])
    await lab.settle()


@pytest.mark.parametrize("function", MESSAGES, ids=lambda f: f.__name__)
async def test_a_handler_of_one_tenant_leaves_the_rows_of_another_alone(
    lab: HandlerLab, function: Callable[..., Awaitable[None]]
) -> None:
    for tenant in (EAST, WEST):
        await an_eventful_autumn(lab, tenant)
    before, east = await of(lab, WEST), await of(lab, EAST)
    # what stands in the east is undone first, so that each handler has something to do there
    for table in ("absence_notices", "truancy_cases", "chronic_absence_status", "school_attendance_daily"):
        await lab.execute(f"delete from {table} where tenant_id = $1", EAST)

    await lab.run(function, MESSAGES[function])

    after = await of(lab, WEST)
    assert {table: rows for table, rows in after.items() if rows != before[table]} == {}
    assert sum(map(len, east.values())) > 100


@pytest.mark.parametrize("function", MESSAGES, ids=lambda f: f.__name__)
async def test_everything_a_handler_writes_belongs_to_its_event_s_tenant(
    lab: HandlerLab, function: Callable[..., Awaitable[None]]
) -> None:
    await an_eventful_autumn(lab, EAST)

    done = await lab.run(function, MESSAGES[function])

    tables = [row["table_name"] for row in await lab.rows(TENANT_TABLES)]
    others = "select count(*) from {} where tenant_id is distinct from $1"
    strangers = {table: await lab.value(others.format(table), EAST) for table in tables}
    assert {table: count for table, count in strangers.items() if count} == {}
    assert {e.meta.tenant for e in done.published} | {o.meta.tenant for o in done.orders} <= {EAST}


async def test_a_chunk_of_two_tenants_with_the_same_uuids_is_two_years(lab: HandlerLab) -> None:
    for tenant in (EAST, WEST):
        await lab.deliver([session(tenant=tenant), enrolment(tenant=tenant)])

    done = await lab.run(aggregate_attendance, [
        mark(0, tenant=EAST), mark(0, "present", tenant=WEST), mark(1, "present", tenant=EAST), mark(2, tenant=WEST),
    ])

    rows = await lab.rows("select tenant_id, days_enrolled, days_absent from student_attendance_ytd order by 1")
    assert [tuple(row.values()) for row in rows] == [(EAST, 2, 1), (WEST, 3, 1)]
    assert [(e.meta.tenant, e.date) for e in done.published if isinstance(e, StudentAbsent)] == [
        (EAST, DAYS[0]), (WEST, DAYS[2]),
    ]
    assert len({e.meta.key for e in done.published}) == 2


def test_every_registered_handler_is_tried_here() -> None:
    registered = {h.function for h in [*REGISTRY.events(), *REGISTRY.jobs()]}

    assert {f for f in registered if f.__module__.startswith("skillcore_streams.")} == set(MESSAGES)


def test_handlers_are_those_of_the_catalogue_for_the_events_it_names() -> None:
    known: dict[str, Any] = {entry["id"]: entry["event"] for entry in CATALOG["handlers"]}
    ours = [h for h in REGISTRY.events() if h.function.__module__.startswith("skillcore_streams.")]

    assert {h.id: h.message.__name__ for h in ours} == {h.id: known.get(h.id) for h in ours}
