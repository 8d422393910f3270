"""The proof: what the year must have come to, by the recount from the XML, beside what Kafka and Postgres hold.

Nothing here is asked of the product: topics are read from their first record, tables by plain SQL, and what is to be
expected comes from recount.py. A line compares two collections with their repetitions. What is missing is *lost*, what
is there more often than expected is *duplicated*, what was never expected is *wrong*.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from skillcore_streams.demo.recount import (
    Expected,
    attendance_id,
    derived_id,
    occurrences,
    recorded_marks,
    recount,
    school_id,
    student_id,
)

YEAR = "2021-2022"
TIERS = ("at_risk_5", "chronic_10", "severe_20")

THREE_IN_SEVEN = """
    select distinct a.student_id
      from (select student_id, day, lag(day, 2) over (partition by student_id order by day) as second_last
              from attendance_day
              join school_calendar_days using (tenant_id, school_id, day)
             where category in ('absent_excused', 'absent_unexcused')) a
     where a.day - a.second_last <= 6"""


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison: how many were expected and found, and how the two differ."""

    section: str
    what: str
    where: str
    expected: int
    found: int
    lost: int
    duplicated: int
    wrong: int

    @property
    def ok(self) -> bool:
        """Expected and found are the same, one by one."""
        return not (self.lost or self.duplicated or self.wrong)


@dataclass(frozen=True, slots=True)
class Written:
    """One record as Kafka holds it."""

    place: tuple[str, int, int]
    """Topic, partition, offset."""
    name: str
    """The event's name: AttendanceMarked of com.skillcore.attendance.AttendanceMarked.v1."""
    key: UUID
    """What makes it the same event as another record."""
    id: str
    source: str
    value: bytes

    @classmethod
    def read(cls, record: Any) -> Written:
        """Of a consumer's record."""
        said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        given, source = said.get("ce_id", ""), said.get("ce_source", "")
        return cls(
            place=(record.topic, record.partition, record.offset),
            name=said.get("ce_type", "..").split(".")[-2],
            key=derived_id(said.get("ce_tenantid"), source, given),
            id=given,
            source=source,
            value=record.value or b"",
        )


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that was thrown in: where Kafka put it, and words that its dead letter must say."""

    place: tuple[str, int, int]
    said: str


@dataclass(frozen=True, slots=True)
class Proof:
    """All comparisons."""

    lines: list[Line]

    @property
    def lost(self) -> int:
        """What is missing, over all lines."""
        return sum(line.lost for line in self.lines)

    @property
    def duplicated(self) -> int:
        """What is there too often, over all lines."""
        return sum(line.duplicated for line in self.lines)

    @property
    def wrong(self) -> int:
        """What nobody expected, over all lines."""
        return sum(line.wrong for line in self.lines)

    @property
    def ok(self) -> bool:
        """Every line is right, and there are lines."""
        return bool(self.lines) and all(line.ok for line in self.lines)

    @property
    def compared(self) -> int:
        """How many things were expected, over all lines."""
        return sum(line.expected for line in self.lines)


def compare(section: str, what: str, where: str, expected: Iterable[Hashable], found: Iterable[Hashable]) -> Line:
    """Count both collections, repetitions included, and take them from each other."""
    should, does = Counter(expected), Counter(found)
    surplus = does - should
    duplicated = sum(count for key, count in surplus.items() if key in should)
    return Line(
        section, what, where, should.total(), does.total(), (should - does).total(), duplicated,
        surplus.total() - duplicated,
    )


async def prove(kafka: str, dsn: str, folder: Path, tenant: str, bad: list[Bad], again: int) -> Proof:
    """Read everything and compare it.

    Args:
        kafka: bootstrap servers; every topic skillcore.* is read from its beginning.
        dsn: the database.
        folder: the interchange files that were imported.
        tenant: for whom.
        bad: the garbage that was thrown in.
        again: how many good events were sent a second time on purpose.
    """
    expected = recount(folder)
    log = await read_log(kafka)
    db: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        lines = [
            *_sent(expected, folder, tenant, log, bad, again),
            *await _stored(db, log, bad),
            *await _parked(db, bad),
            *await _effects(db, expected, tenant),
            *await _left(db, log),
        ]
    finally:
        await db.close()
    return Proof(lines)


async def read_log(kafka: str) -> list[Written]:
    """Every record of every topic skillcore.*, up to where the topics end now. In the order of their partitions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, fetch_max_bytes=32 << 20, max_partition_fetch_bytes=8 << 20, fetch_max_wait_ms=10
    )
    await consumer.start()
    try:
        metadata = await consumer._client.fetch_all_metadata()  # the consumer itself only knows topics it was assigned
        names = sorted(name for name in metadata.topics() if name.startswith("skillcore."))
        places = [TopicPartition(name, p) for name in names for p in metadata.partitions_for_topic(name) or ()]
        consumer.assign(places)
        await consumer._client.force_metadata_update()  # for all at once; else it asks topic by topic, 0.1 s each
        first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        open_ = {tp for tp in places if first[tp] < ends[tp]}
        consumer.assign(sorted(open_))
        for tp in open_:
            consumer.seek(tp, first[tp])
        log: list[Written] = []
        while open_:
            for tp, records in (await consumer.getmany(timeout_ms=1000, max_records=20_000)).items():
                log += [Written.read(record) for record in records if record.offset < ends[tp]]
            done = {tp for tp in open_ if await consumer.position(tp) >= ends[tp]}
            consumer.pause(*done)
            open_ -= done
        return log
    finally:
        await consumer.stop()


def _sent(
    expected: Expected, folder: Path, tenant: str, log: list[Written], bad: list[Bad], again: int
) -> Iterable[Line]:
    """What the topics hold: each event of the year, what was sent twice on purpose, and the garbage."""
    section = "in Kafka"
    places = {b.place for b in bad}
    imported = [w for w in log if w.place not in places and w.source.startswith("/edfi/")]
    records = Counter(w.key for w in imported)
    once = {w.key: w for w in imported}.values()

    def ids(name: str) -> list[str]:
        return [w.id for w in once if w.name == name]

    marks = [str(attendance_id(tenant, *mark)) for mark in recorded_marks(folder)]
    recorded = {(student, day) for student, _, day, _ in recorded_marks(folder)}
    marks += [
        str(attendance_id(tenant, student, school, day))
        for student, school in expected.school_of.items() for day in expected.calendar if (student, day) not in recorded
    ]
    students = [str(student_id(tenant, student)) for student in expected.students]
    sessions = [json.loads(w.value) for w in once if w.name == "AcademicSessionCreated"]
    terms = (
        ("schoolYear", len(set(expected.school_of.values()))),
        ("semester", occurrences(folder, "EducationOrgCalendar", "Session")),
        ("gradingPeriod", occurrences(folder, "EducationOrgCalendar", "GradingPeriod")),
    )
    orgs = 1 + occurrences(folder, "EducationOrganization", "School")
    enrolled = [
        (json.loads(w.value)["student_id"], json.loads(w.value)["school_id"])
        for w in once if w.name == "StudentEnrolled"
    ]
    where = "topics, unique ids"
    yield compare(section, "AttendanceMarked, the year's marks", where, marks, ids("AttendanceMarked"))
    yield compare(section, "UserCreated, the students", where, students, ids("UserCreated"))
    yield compare(section, "StudentEnrolled", where, [
        (str(student_id(tenant, student)), str(school_id(tenant, school)))
        for student, school in expected.school_of.items()
    ], enrolled)
    yield compare(section, "SchoolCreated", where, range(orgs), range(len(ids("SchoolCreated"))))
    yield compare(section, "AcademicSessionCreated", where, [
        (kind, n) for kind, count in terms for n in range(count)
    ], [
        (kind, n) for kind, count in Counter(s["type"] for s in sessions).items() for n in range(count)
    ])
    yield compare(section, "sent a second time on purpose", "topics, repeated ids",
                  range(again), range(records.total() - len(records)))
    thrown = [w.place for w in log if w.place in places]
    yield compare(section, "garbage thrown in", "topics, by offset", places, thrown)


async def _stored(db: Any, log: list[Written], bad: list[Bad]) -> Iterable[Line]:
    """The event store: everything good in the topics, once, in the bytes it was sent in. Repeats vanish."""
    places = {b.place for b in bad}
    good = {w.key: w for w in log if w.place not in places and ".events." in w.place[0]}
    rows = await db.fetch("select event_key, type, md5(data) as digest from event")
    sent: dict[str, list[Hashable]] = defaultdict(list)
    kept: dict[str, list[Hashable]] = defaultdict(list)
    for written in good.values():
        sent[written.name].append((written.key, md5(written.value).hexdigest()))  # noqa: S324 - Postgres' checksum
    for row in rows:
        kept[row["type"].split(".")[-2]].append((row["event_key"], row["digest"]))
    return [
        compare("stored", name, "event (key and bytes)", sent[name], kept[name]) for name in sorted({*sent, *kept})
    ]


async def _parked(db: Any, bad: list[Bad]) -> Iterable[Line]:
    """The dead letters: the garbage, all of it, nothing else, each with the reason it deserves."""
    rows = await db.fetch("select topic, partition, record_offset, reason from dead_letter")
    reasons = {(r["topic"], r["partition"], r["record_offset"]): r["reason"] for r in rows}
    places = [(r["topic"], r["partition"], r["record_offset"]) for r in rows]
    understood = [b.place for b in bad if b.said in reasons.get(b.place, "")]
    return [
        compare("parked", "dead letters are the garbage", "dead_letter (offset)", [b.place for b in bad], places),
        compare("parked", "each says why", "dead_letter.reason", [b.place for b in bad], understood),
    ]


async def _effects(db: Any, expected: Expected, tenant: str) -> Iterable[Line]:
    """What the handlers have made of it."""
    section = "effects"
    student = {s: student_id(tenant, s) for s in expected.students | expected.school_of.keys()}
    school = {s: school_id(tenant, s) for s in set(expected.school_of.values())}
    enrolled, last = len(expected.calendar), expected.calendar[-1]

    async def rows(sql: str) -> list[tuple[Any, ...]]:
        return [tuple(r.values()) for r in await db.fetch(sql)]

    lines = [
        compare(section, "students' days, by category", "attendance_day",
                [(student[s], day, category) for (s, day), category in expected.day_of.items()],
                await rows("select student_id, day, category from attendance_day")),
        compare(section, "schools' days: present, absent, tardy, other", "school_attendance_daily",
                [(school[s], day, c.present, c.absent, c.tardy, c.other) for (s, day), c in expected.counts.items()],
                await rows("select school_id, day, present, absent, tardy, other from school_attendance_daily")),
        compare(section, "absence rates of the year", "student_attendance_ytd",
                [(student[s], enrolled, absent, _rate(absent, enrolled), last)
                 for s, absent in expected.days_absent.items()],
                await rows("select student_id, days_enrolled, days_absent, rate, as_of from student_attendance_ytd")),
        compare(section, "three absences in seven days", "SQL over attendance_day",
                [(student[s],) for s in expected.three_in_seven], await rows(THREE_IN_SEVEN)),
    ]
    reached = await rows("""
        select student_id, threshold, as_of, days_enrolled, days_absent from attendance_threshold
         where retracted_at is null""")
    for tier in TIERS:
        lines.append(compare(
            section, f"reached {tier}, and when", "attendance_threshold",
            [(student[c.student], tier, c.as_of, c.days_enrolled, c.days_absent)
             for c in expected.crossings if c.threshold == tier],
            [row for row in reached if row[1] == tier],
        ))
    highest: dict[str, tuple[UUID, str, Any]] = {}
    for crossing in sorted(expected.crossings, key=lambda c: TIERS.index(c.threshold)):
        highest[crossing.student] = student[crossing.student], crossing.threshold, crossing.as_of
    crossed = [(str(student[c.student]), c.threshold) for c in expected.crossings]
    absences = [(student[s], day) for s, day in expected.student_absent]
    absent_said = [(str(s), str(day)) for s, day in absences]
    lines += [
        compare(section, "AttendanceThresholdReached, published once each", "event", crossed,
                await _said(db, "AttendanceThresholdReached", "student_id", "threshold")),
        compare(section, "tiers of chronic absence", "chronic_absence_status", highest.values(),
                await rows("select student_id, tier, since from chronic_absence_status")),
        compare(section, "StudentAbsent, published once each", "event", absent_said,
                await _said(db, "StudentAbsent", "student_id", "date")),
        compare(section, "absence notices", "absence_notices", absences,
                await rows("select student_id, day from absence_notices where retracted_at is null")),
        compare(section, "truancy cases: first and last day, length", "truancy_cases",
                [(student[r.student], r.first, r.last, r.days) for r in expected.truancy],
                await rows("select student_id, first_day, last_day, days from truancy_cases")),
        compare(section, "users", "user_profiles", [(student[s],) for s in expected.students],
                await rows("select user_id from user_profiles")),
        compare(section, "enrolments", "enrollments",
                [(student[s], school[at]) for s, at in expected.school_of.items()],
                await rows("select student_id, school_id from enrollments")),
        compare(section, "schools' calendars", "school_calendar_days",
                [(s, day, n) for s in school.values() for n, day in enumerate(expected.calendar, start=1)],
                await rows("select school_id, day, ordinal from school_calendar_days")),
    ]
    return lines


async def _said(db: Any, name: str, *fields: str) -> list[tuple[str, ...]]:
    """Fields of the stored events of this name."""
    rows = await db.fetch("select data from event where type like '%.' || $1 || '.v1'", name)
    return [tuple(str(json.loads(row["data"])[field]) for field in fields) for row in rows]


async def _left(db: Any, log: list[Written]) -> Iterable[Line]:
    """What must have come to an end: the topics are read, the outbox is empty, no call has failed."""
    ends: dict[tuple[str, int], int] = {}
    for written in log:
        topic, partition, offset = written.place
        if ".events." in topic:
            ends[topic, partition] = max(offset + 1, ends.get((topic, partition), 0))
    standing = {(r["topic"], r["partition"]): r["next_offset"] for r in await db.fetch("select * from progress")}
    waiting = await db.fetch("select id from outbox where published_at is null")
    failed = await db.fetch("select id from job where queue = 'handler-calls' and state <> 'completed'")
    return [
        compare("at rest", "partitions read to their ends", "progress", ends.items(),
                [(place, standing.get(place)) for place in ends]),
        compare("at rest", "outbox rows not yet in Kafka", "outbox", (), [r["id"] for r in waiting]),
        compare("at rest", "handler calls that failed", "job", (), [r["id"] for r in failed]),
    ]


def _rate(absent: int, enrolled: int) -> Decimal:
    return (Decimal(absent) / enrolled).quantize(Decimal("0.00001"), ROUND_HALF_UP)
