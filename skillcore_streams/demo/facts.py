"""What the database tells for the report, by plain SQL. No names of people, and ids cut short.

Attendance is asked for here; absences.py, grades.py and plans.py ask for and show their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg

from skillcore_streams.demo import absences, evening, grades, plans
from skillcore_streams.demo.proof_attendance import THREE_IN_SEVEN

SCHOOLS = """
    select o.org_id, o.name, count(distinct m.student_id) as students
      from orgs o join student_membership m on m.tenant_id = o.tenant_id and m.school_id = o.org_id
     group by o.org_id, o.name order by o.name"""

WEEKS = """
    select school_id, date_trunc('week', day)::date as week, sum(present)::int as present,
           sum(absent - unexcused)::int as excused, sum(unexcused)::int as unexcused, sum(tardy)::int as tardy,
           sum(other)::int as other
      from school_attendance_daily join school_calendar_days using (tenant_id, school_id, day)
     group by 1, 2 order by 1, 2"""

REACHED = """
    select threshold, school_id, as_of from attendance_threshold where retracted_at is null order by as_of"""

DAYS_ABSENT = """
    select days_absent, count(*) as students from student_attendance_ytd where days_absent is not null group by 1"""

PARKED = "select topic, partition, record_offset, kind, reason, octet_length(value) as size from dead_letter"

VERSIONS = "select current_setting('server_version') as postgres"

JOBS = "select queue, kind, state, count(*) as jobs from job_now group by 1, 2, 3 order by 1, 2, 3"

# A whole life: of the longest truancy case the last absence; without such a case any absence.
ABSENCE = """
    select e.* from event e
      left join truancy_cases t
        on t.tenant_id = e.tenant_id and t.student_id::text = e.key
       and t.last_day = (convert_from(e.data, 'UTF8')::jsonb ->> 'date')::date
     where e.type like '%.StudentAbsent.v1'
     order by t.days desc nulls last, e.seq limit 1"""

MARK = "select * from event where tenant_id = $1 and id = $2 and key = $3 order by seq limit 1"

DAY = "select * from attendance_day where tenant_id = $1 and student_id = $2::text::uuid and day = $3"

OUTBOX = """
    select created_at, published_at from outbox
     where topic = $1 and key = $2 and headers ->> 'ce_id' = $3 order by id limit 1"""

NOTICE = "select event_key from absence_notices where tenant_id = $1 and student_id = $2::text::uuid and day = $3"

ORDERED = "select queue, kind, state, run_at, created_at from job_now where event_key = $1 order by created_at, kind"

TRUANCY = """
    select first_day, last_day, days from truancy_cases
     where tenant_id = $1 and student_id = $2::text::uuid and first_day <= $3 and last_day >= $3"""


@dataclass(frozen=True, slots=True)
class Week:
    """Student-days of a school in a week, instructional days only."""

    begins: date
    present: int
    excused: int
    unexcused: int
    tardy: int
    other: int

    @property
    def all(self) -> int:
        """Student-days."""
        return self.present + self.excused + self.unexcused + self.tardy + self.other


@dataclass(frozen=True, slots=True)
class School:
    """A school's year."""

    name: str
    students: int
    weeks: list[Week]
    reached: dict[str, int]

    def sum(self, what: str) -> int:
        """Student-days of one kind over the year."""
        return sum(getattr(week, what) for week in self.weeks)


@dataclass(frozen=True, slots=True)
class Step:
    """One station in the life of an absence."""

    at: datetime | None
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the report shows beside the proof."""

    schools: list[School]
    reached: list[tuple[str, date]]
    days_absent: dict[int, int]
    three_in_seven: int
    parked: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    life: list[Step]
    event_id: str
    postgres: str
    explained: absences.Explained | None
    grades: grades.Grades
    plans: plans.Plans


async def gather(dsn: str) -> Facts:
    """Ask the database."""
    db: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        weeks = await db.fetch(WEEKS)
        reached = await db.fetch(REACHED)
        schools = [
            School(
                name=s["name"],
                students=s["students"],
                weeks=[
                    Week(w["week"], w["present"], w["excused"], w["unexcused"], w["tardy"], w["other"])
                    for w in weeks if w["school_id"] == s["org_id"]
                ],
                reached={
                    tier: sum(r["school_id"] == s["org_id"] and r["threshold"] == tier for r in reached)
                    for tier in ("at_risk_5", "chronic_10", "severe_20")
                },
            )
            for s in await db.fetch(SCHOOLS)
        ]
        life, event_id = await _life(db)
        return Facts(
            schools=schools,
            reached=[(r["threshold"], r["as_of"]) for r in reached],
            days_absent={r["days_absent"]: r["students"] for r in await db.fetch(DAYS_ABSENT)},
            three_in_seven=len(await db.fetch(THREE_IN_SEVEN)),
            parked=[dict(r) for r in await db.fetch(PARKED)],
            jobs=[dict(r) for r in await db.fetch(JOBS)],
            messages=[dict(r) for r in await db.fetch(evening.BY_TEMPLATE)],
            life=life,
            event_id=event_id,
            postgres=str(await db.fetchval(VERSIONS)).partition(" ")[0],
            explained=await absences.gather(db),
            grades=await grades.gather(db),
            plans=await plans.gather(db),
        )
    finally:
        await db.close()


async def _life(db: Any) -> tuple[list[Step], str]:
    """What became of one absence, station by station."""
    absent = await db.fetchrow(ABSENCE)
    if absent is None:
        return [], ""
    tenant, student = absent["tenant_id"], absent["key"]
    day = date.fromisoformat(json.loads(absent["data"])["date"])
    mark = await db.fetchrow(MARK, tenant, absent["causation_id"], student)
    if mark is None:
        return [], absent["id"]
    standing = await db.fetchrow(DAY, tenant, student, day)
    out = await db.fetchrow(OUTBOX, absent["topic"], student, absent["id"])
    stored, came_back = mark["stored_at"], absent["stored_at"]
    category = standing["category"] if standing else "unknown"
    steps = [
        Step(None, f"Ed-Fi records an absence of student {short(student)} on {day:%A, %-d %B %Y}.",
             f"{mark['source'].rpartition('/')[2]}.xml"),
        Step(None, f"AttendanceMarked {short(mark['id'])} is written to Kafka and acknowledged.", _place(mark)),
        Step(stored, "One transaction: fenced, admitted once, stored, and handled.", "progress, inbox, event"),
        Step(stored, f"In it the student's day becomes {category}.",
             "attendance_day, student_attendance_ytd"),
        Step(stored, f"In it StudentAbsent {short(absent['id'])} is laid into the outbox.", "outbox"),
    ]
    if out is not None and out["published_at"] is not None:
        steps.append(Step(out["published_at"], "After the commit it is written to Kafka.", _place(absent)))
    steps.append(Step(came_back, "It comes back as an event of its own and is stored once.", _place(absent)))
    if await db.fetchval(NOTICE, tenant, student, day):
        notice = "A notice for the guardians is kept, one a student and day."
        steps.append(Step(came_back, notice, "absence_notices"))
    if case := await db.fetchrow(TRUANCY, tenant, student, day):
        days = f"Unexcused school days in a row: {case['days']}. A truancy case is kept."
        steps.append(Step(came_back, days, "truancy_cases"))
    for job in await db.fetch(ORDERED, absent["event_key"]):
        ordered = f"Job {job['kind']} is ordered; it is {job['state']}."
        steps.append(Step(job["created_at"], ordered, f"queue {job['queue']}"))
    return steps, mark["id"]


def short(id: str) -> str:
    """An id as far as a person needs it to tell it from others."""
    return str(id)[:8]


def _place(event: Any) -> str:
    return f"{event['topic']}-{event['partition']} @ {event['record_offset']}"
