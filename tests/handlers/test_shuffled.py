"""Whatever order events arrive in, the same end state: a district's autumn, shuffled again and again.

Every shuffle is a tenant of its own with the same schools and students, and all tenants are delivered at once: chunks
are mixed, so a handler that confuses tenants shows here too. A failure names the seed and the shuffle.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.attendance import AttendanceMarked, Category
from skillcore_streams.runtime.messages import Event
from skillcore_streams.testing import HandlerLab, given
from tests.handlers import village
from tests.handlers.village import DAYS, OTHER_SCHOOL, SATURDAY, SCHOOL, weekdays

ANNA, BEN = UUID(int=1), UUID(int=2)
"""Anna's enrolment goes back to June, into the year before; Ben changes schools in September."""

AUTUMN = DAYS[:26]
LAST_JUNE = weekdays(6, date(2021, 6, 14))
CATEGORIES: list[Category] = [
    "absent_unexcused", "absent_unexcused", "absent_excused", "present", "present", "tardy", "partial",
]

END_STATE = {  # without what differs by name only: tenants and keys of events
    "sessions": "select session_id, school_id, title, instructional_days, said_at from academic_sessions",
    "calendar": "select school_id, day, school_year, ordinal from school_calendar_days",
    "enrolments": "select enrollment_id, student_id, school_id, begin_date from enrollments",
    "memberships": "select student_id, school_id, begin_date from student_membership",
    "days": """
        select student_id, day, school_year, school_id, category, code, attendance_id, minutes_missed, arrival_time,
               said_at, category = 'absent_unexcused' and absence_event_id is null as untold from attendance_day""",
    "classes": """
        select student_id, day, class_id, period, school_id, category, code, attendance_id, minutes_missed,
               arrival_time, said_at from attendance_section""",
    "years": """
        select student_id, school_year, school_id, days_enrolled, days_absent, rate, as_of
          from student_attendance_ytd where as_of is not null""",  # without a rate it is only a lock
    "thresholds": """
        select student_id, school_year, threshold, school_id, days_enrolled, days_absent, rate, as_of
          from attendance_threshold where retracted_at is null""",
    "status": "select student_id, school_year, tier, since from chronic_absence_status",
    "truancy": "select student_id, first_day, last_day, days from truancy_cases",
    "notices": "select student_id, day from absence_notices where retracted_at is null",
    "audit": "select student_id, attendance_id, corrected_at, new_category from attendance_audit",
    "schools' days": "select school_id, day, present, absent, unexcused, tardy, other from school_attendance_daily",
}


# A year's events ------------------------------------------------------------------------------------------------------


def autumn(random: Random) -> list[Event]:
    """Everything that happens, in the order in which it happened."""
    return [*roster(), *marks_of(random, ANNA), *marks_of(random, BEN)]


def roster() -> list[Event]:
    """Two schools with calendars that differ, one of them revised; two students."""
    strike = {AUTUMN[9], AUTUMN[10]}
    revised = datetime(2021, 9, 1, tzinfo=UTC)
    return [
        village.school(SCHOOL), village.school(OTHER_SCHOOL),
        village.session(LAST_JUNE, title="last summer"),
        village.session(AUTUMN[:18], title="first"),
        village.session([d for d in AUTUMN[:18] if d not in strike], title="first", said=revised, id="first, revised"),
        village.session(AUTUMN[18:], title="second"),
        village.session(AUTUMN[16:], title="cancelled", school=OTHER_SCHOOL),
        village.session([], title="cancelled", school=OTHER_SCHOOL, said=revised, id="cancelled, revised"),
        village.session([AUTUMN[0], *AUTUMN[8:]], title="first", school=OTHER_SCHOOL),
        village.session([], title="period", type="gradingPeriod"),
        village.enrolment(DAYS[3], student=ANNA, class_id=UUID(int=7)),
        village.enrolment(LAST_JUNE[1], student=ANNA),
        village.enrolment(DAYS[0], student=BEN), village.enrolment(AUTUMN[17], student=BEN, school=OTHER_SCHOOL),
    ]


def marks_of(random: Random, student: UUID) -> list[Event]:
    """A student's marks: days and classes, said again, moved, corrected, corrected again, off the calendar."""
    happened: list[Event] = []
    minute = 0

    def mark(day: date, category: Category, school: UUID, **more: Any) -> AttendanceMarked:
        nonlocal minute
        minute += 1
        said = village.at(day, 8) + timedelta(minutes=minute)  # no two of a student at one time
        name = f"{student}/{minute}"
        made = village.mark(day, category, student=student, school=school, marked_at=said, id=name, **more)
        happened.append(made)
        return made

    def correct(wrong: AttendanceMarked, category: Category) -> None:
        nonlocal minute
        minute += 1
        happened.append(village.correction(
            wrong, category, id=f"{student}/{minute}",
            corrected_at=village.at(wrong.date, 8) + timedelta(minutes=minute + random.choice([0, 200])),
        ))

    truant = random.randrange(4, 20)
    for n, day in enumerate([*(LAST_JUNE if student == ANNA else []), *AUTUMN]):
        school = OTHER_SCHOOL if student == BEN and day >= AUTUMN[17] else SCHOOL
        if truant <= n < truant + 5:
            category: Category = "absent_unexcused"
        else:
            category = random.choice(["present"] * 12 + CATEGORIES)
        if random.random() < 0.15:  # a day of classes
            classes = [
                mark(day, random.choice([category, "absent_unexcused"]), school, period=str(p), class_id=UUID(int=p))
                for p in range(1, random.randint(4, 7))
            ]
            if random.random() < 0.5:
                again = random.choice(classes)
                mark(day, random.choice(CATEGORIES), school, period=again.period, class_id=again.class_id)
            if random.random() < 0.6:
                correct(random.choice(classes), random.choice(CATEGORIES))
            if random.random() < 0.6:
                continue  # else the school marks the day as well
        first = mark(day, category, school, arrival_time=None if category == "present" else village.time(9, 30))
        if random.random() < 0.2:  # twice
            mark(day, random.choice(CATEGORIES), school, minutes_missed=random.choice([None, 20]))
        if random.random() < 0.05:  # the other school says it too
            mark(day, random.choice(CATEGORIES), OTHER_SCHOOL)
        if random.random() < 0.25:
            correct(first, random.choice(CATEGORIES))
        if random.random() < 0.1:
            correct(first, random.choice(CATEGORIES))
    mark(SATURDAY, "absent_unexcused", SCHOOL)
    if random.random() < 0.3:  # after the last day, at a school where Anna never was
        mark(AUTUMN[-1] + timedelta(days=20), "absent_excused", OTHER_SCHOOL)
    return happened


def of_tenant(event: Event, tenant: str) -> Event:
    """The same event, of another tenant."""
    meta = event.meta
    return given(event, tenant=tenant, at=meta.time, id=meta.id)


def shuffled(events: list[Event], random: Random) -> list[Event]:
    """Any order at all, and some of them twice."""
    order = [*events, *random.sample(events, len(events) // 10)]
    random.shuffle(order)
    return order


# Playing it -----------------------------------------------------------------------------------------------------------


async def play(lab: HandlerLab, queues: list[list[Event]], random: Random, *, meanwhile: bool) -> None:
    """Deliver all tenants' events in chunks with a random piece of each. What follows runs at the end, or meanwhile."""
    lab.leave("notification-delivery", "report-generation")  # they tell of the end state, they are not of it
    positions = [0] * len(queues)
    while any(at < len(queue) for at, queue in zip(positions, queues, strict=True)):
        chunk: list[Event] = []
        for n, queue in enumerate(queues):
            piece = queue[positions[n] : positions[n] + random.choice([0, 1, 10, 30, 60])]
            positions[n] += len(piece)
            chunk += piece
        await lab.deliver(chunk)
        if meanwhile and random.random() < 0.3:
            await lab.run_jobs()
        if meanwhile and random.random() < 0.3:
            await lab.deliver_published()
    await lab.settle()


async def end_state(
    lab: HandlerLab, queries: dict[str, str] = END_STATE
) -> dict[str, dict[str, set[tuple[Any, ...]]]]:
    """tenant -> what of the state -> rows."""
    state: dict[str, dict[str, set[tuple[Any, ...]]]] = {}
    for name, query in queries.items():
        for row in await lab.rows(query.replace("select ", "select tenant_id, ", 1)):
            tenant, *values = row.values()
            state.setdefault(tenant, {}).setdefault(name, set()).add(tuple(map(str, values)))
    return state


def difference(right: dict[str, set[Any]], wrong: dict[str, set[Any]]) -> str:
    return "\n".join(
        f"{name}: lacks {sorted(right.get(name, set()) - wrong.get(name, set()))},"
        f" has {sorted(wrong.get(name, set()) - right.get(name, set()))}"
        for name in sorted(right.keys() | wrong.keys()) if right.get(name) != wrong.get(name)
    )


async def compare(lab: HandlerLab, seed: int, shuffles: list[int], *, meanwhile: bool) -> None:
    """The same autumn in order, and once for each of the shuffles."""
    events = autumn(Random(seed))
    tenants = {"in order": events} | {f"shuffle {n}": shuffled(events, Random(f"{seed}/{n}")) for n in shuffles}
    queues = [[of_tenant(event, tenant) for event in order] for tenant, order in tenants.items()]

    await play(lab, queues, Random(seed), meanwhile=meanwhile)

    state = await end_state(lab)
    right = state["in order"]
    assert right.keys() == END_STATE.keys(), f"the autumn is too quiet: it has no {END_STATE.keys() - right.keys()}"
    for tenant, found in state.items():
        assert found == right, f"seed {seed}, {tenant}:\n{difference(right, found)}"


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_gives_the_same_end_state(concurrent_lab: HandlerLab, seed: int) -> None:
    await compare(concurrent_lab, seed, list(range(10)), meanwhile=False)


@pytest.mark.parametrize("seed", range(3, 6))
async def test_any_order_gives_the_same_end_state_when_jobs_and_reactions_run_in_between(
    concurrent_lab: HandlerLab, seed: int
) -> None:
    await compare(concurrent_lab, seed, list(range(10)), meanwhile=True)
