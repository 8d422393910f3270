"""Tenants share nothing, even when their ids are the same: what one says changes no row of another."""

from __future__ import annotations

from itertools import zip_longest
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.attendance import StudentAbsent
from skillcore_streams.events.rostering import UserCreated, UserRole
from skillcore_streams.handlers.attendance import aggregate_attendance
from skillcore_streams.runtime import Event
from skillcore_streams.testing import HandlerLab, given, rolled_back
from tests.handlers.plans import a_plan, teaches
from tests.handlers.village import (
    CLASS,
    DAYS,
    SCHOOL,
    STUDENT,
    TEACHER,
    assignment,
    class_mark,
    correction,
    enrolment,
    grade,
    mark,
    school,
    school_class,
    session,
    teacher,
)

SEEDS = range(5)

OF_THE_RUNTIME = {"event", "job", "dead_letter"}
"""Tables that tell who a message was from; every message adds to them."""

ELSEWHERE = {
    "archive_manifests", "archive_parts", "archives", "behavior_incidents", "channel_status", "compliance_register",
    "consents", "consents_history", "device_tokens", "email_bounces", "ferpa_access_log", "ferpa_disclosures",
    "legal_holds", "notification_deliveries", "notification_escalations", "notification_stats_daily", "push_receipts",
    "registrar_tasks", "report_artifacts", "reports", "risk_models", "suppression_list",
}
"""Tables that these terms do not reach: test_each_handler.py looks at what writes them, one handler at a time."""

LATER = {
    "grading_templates", "grading_period_locks",  # what a school sets by itself; GradingPeriodClosed
}
"""Tables that no handler writes yet."""

KEYS = """
    select c.relname as table, k.contype as kind, a.attname as first
      from pg_constraint k
      join pg_class c on c.oid = k.conrelid
      join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
     where k.contype in ('p', 'f') and k.connamespace = 'public'::regnamespace"""

TENANT_TABLES = """
    select c.relname as table from pg_attribute a join pg_class c on c.oid = a.attrelid
     where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and not c.relispartition
       and c.relnamespace = 'public'::regnamespace"""


def a_term(tenant: str, seed: int) -> list[Event]:
    """Something for every handler and job there is; another term with another seed."""
    rnd = Random(seed)
    length, often = rnd.randint(26, 31), rnd.choice([0, 1, 4])
    marks = [mark(n, rnd.choice(["present"] * 4 + ["absent_excused", "absent_unexcused"] * often), tenant=tenant)
             for n in range(length)]
    run = [mark(n, "absent_unexcused", tenant=tenant, hour=10) for n in range(20, 24)]
    sections = [class_mark(period, length, "absent_unexcused", tenant=tenant) for period in range(1, 6)]
    corrected = [*rnd.sample(marks, 8), *rnd.sample(run, rnd.choice([0, 2, 3]))]
    user = UserCreated(
        user_id=STUDENT, sourced_id=str(seed), roles=[UserRole(role="teacher", org_id=SCHOOL, primary=True)],
        given_name=f"given {seed}", family_name="family", email=f"{seed}@example.org", status="active",
    )
    begin = rnd.randint(0, 3)
    work = [assignment(n, rnd.choice([5, 10, 50]), tenant=tenant) for n in range(4)]
    grades = [grade(n, rnd.randint(0, 9), student=UUID(int=who), tenant=tenant) for n in range(4) for who in (1, 2)]
    regraded = [grade(n, rnd.randint(0, 9), hour=15, tenant=tenant) for n in rnd.sample(range(4), 2)]
    return [
        school(tenant=tenant, name=f"Lakeside {seed}"), session(DAYS[begin:], tenant=tenant),
        school_class(tenant=tenant), teacher(tenant=tenant), enrolment(DAYS[begin], tenant=tenant, class_id=CLASS),
        *work, enrolment(DAYS[begin], tenant=tenant), given(user, tenant=tenant), *marks, *run, *sections,
        *(correction(m, rnd.choice(["absent_excused", "absent_unexcused", "present"])) for m in corrected),
        *a_plan(tenant, seed),
        *grades, *regraded,
    ]


async def rows_of(lab: HandlerLab, tenant: str) -> dict[str, list[str]]:
    tables = sorted(row["table"] for row in await lab.rows(TENANT_TABLES))
    found = {}
    for table in tables:
        if table not in OF_THE_RUNTIME:
            # When a row was written is no part of what was said.
            rows = await lab.rows(
                f"select (to_jsonb(t) - 'written')::text as row from {table} t where tenant_id = $1", tenant
            )
            found[table] = sorted(row["row"] for row in rows)
    return found


async def said(lab: HandlerLab, events: list[Event]) -> None:
    lab.leave("notification-delivery", "report-generation")  # a letter says what stands when it is written
    for tenant in sorted({event.meta.tenant for event in events}):
        await teaches(lab, TEACHER, tenant=tenant)
    await lab.deliver(events)
    await lab.settle()


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_a_tenant_says_changes_no_row_of_another(migrated_dsn: str, seed: int) -> None:
    rnd = Random(seed)
    east, west = chunks(a_term("east", seed)), chunks(a_term("west", seed + 100))
    async with rolled_back(migrated_dsn) as lab:
        while west:
            if east and rnd.random() < 0.5:  # now this one is ahead, now that one
                await said(lab, east.pop(0))
                continue
            before = await rows_of(lab, "east")

            await said(lab, west.pop(0))

            assert await rows_of(lab, "east") == before


async def test_the_terms_of_these_tests_touch_every_table(lab: HandlerLab) -> None:
    for seed in SEEDS:
        await said(lab, a_term(f"tenant {seed}", seed))
    written = [await rows_of(lab, f"tenant {seed}") for seed in SEEDS]

    untouched = {table for table in written[0] if not any(rows[table] for rows in written)}
    assert untouched == ELSEWHERE | LATER


@pytest.mark.parametrize("seed", SEEDS)
async def test_tenants_in_one_chunk_end_as_each_would_alone(migrated_dsn: str, seed: int) -> None:
    east, west = a_term("east", seed), a_term("west", seed + 100)
    async with rolled_back(migrated_dsn) as lab:
        for some, others in zip_longest(chunks(east), chunks(west), fillvalue=[]):
            await said(lab, [e for pair in zip_longest(some, others) for e in pair if e is not None])
        together = await rows_of(lab, "east"), await rows_of(lab, "west")

    async with rolled_back(migrated_dsn) as lab:
        for some in chunks(east):
            await said(lab, some)
        assert await rows_of(lab, "east") == together[0]
    async with rolled_back(migrated_dsn) as lab:
        for some in chunks(west):
            await said(lab, some)
        assert await rows_of(lab, "west") == together[1]


async def test_a_chunk_of_two_tenants_with_the_same_uuids_is_two_years(lab: HandlerLab) -> None:
    for tenant in ("east", "west"):
        await lab.deliver([session(tenant=tenant), enrolment(tenant=tenant)])

    done = await lab.run(aggregate_attendance, [
        mark(0, tenant="east"), mark(0, "present", tenant="west"), mark(1, "present", tenant="east"),
        mark(2, tenant="west"),
    ])

    rows = await lab.rows("select tenant_id, days_enrolled, days_absent from student_attendance_ytd order by 1")
    assert [tuple(row.values()) for row in rows] == [("east", 2, 1), ("west", 3, 1)]
    assert [(e.meta.tenant, e.date) for e in done.published if isinstance(e, StudentAbsent)] == [
        ("east", DAYS[0]), ("west", DAYS[2]),
    ]
    assert len({e.meta.key for e in done.published}) == 2


def chunks(events: list[Event]) -> list[list[Event]]:
    return [events[n : n + 10] for n in range(0, len(events), 10)]


@pytest.mark.parametrize("kind", ["p", "f"])
async def test_every_key_begins_with_the_tenant(lab: HandlerLab, kind: str) -> None:
    keyed: dict[str, Any] = {r["table"]: r["first"] for r in await lab.rows(KEYS) if bytes_or_text(r["kind"]) == kind}
    ours = {row["table"] for row in await lab.rows(TENANT_TABLES)} - OF_THE_RUNTIME

    wrong = {table: first for table, first in keyed.items() if table in ours and first != "tenant_id"}

    assert wrong == {}
    assert kind == "f" or ours <= keyed.keys()


def bytes_or_text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
