"""The proof: what the year must have come to, counted again, beside what Kafka and Postgres hold.

Nothing here is asked of the product: topics are read from their first record, tables by plain SQL, and what is to be
expected comes from recount*.py: from the XML, and for what is made up, which no file holds, from the events as they
were published. A line compares two collections with their repetitions. What is missing is *lost*, what is there more
often than expected is *duplicated*, what was never expected is *wrong*. Each subject has a module, proof_*.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from skillcore_streams.demo import proof_attendance, proof_grades, proof_messages, proof_plans, proof_roster
from skillcore_streams.demo.compare import Case, Line, Log, Written, compare
from skillcore_streams.demo.recount import recount

__all__ = ["Bad", "Line", "Proof", "Written", "compare", "prove", "read_log"]


Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that was thrown in: where Kafka put it, and words that its dead letter must say."""

    place: Place
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


async def prove(
    kafka: str, dsn: str, folder: Path, tenant: str, bad: list[Bad], taken: list[dict[str, Any]], *,
    sent: int, again: int,
) -> Proof:
    """Read everything and compare it.

    Args:
        kafka: bootstrap servers; every topic skillcore.* is read from its beginning.
        dsn: the database.
        folder: the interchange files that were imported.
        tenant: for whom.
        bad: the garbage that was thrown in.
        taken: the messages that the providers' stand-ins hold.
        sent: how many good events were sent, each counted once.
        again: how many good events were sent a second time on purpose.
    """
    expected = recount(folder)
    log, places = await read_log(kafka), [b.place for b in bad]
    db: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        case = Case(folder, tenant, Log(log, places), db)
        lines = [
            *proof_attendance.sent(case, expected),
            *proof_roster.sent(case, expected),
            *proof_grades.sent(case),
            *proof_plans.sent(case),
            *_sent(case, places, log, sent, again),
            *await _stored(db, log, bad),
            *await _parked(db, bad),
            *await proof_roster.effects(case, expected),
            *await proof_attendance.effects(case, expected),
            *await proof_grades.effects(case),
            *await proof_plans.effects(case),
            *await proof_messages.effects(case, expected, taken),
            *await _left(db, log),
        ]
    finally:
        await db.close()
    return Proof(lines)


async def read_log(kafka: str) -> list[Written]:
    """Every record of every topic skillcore.*, up to where the topics end now. In the order of their partitions.

    But for the copies of dead letters: they say once more what somebody else has said.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, fetch_max_bytes=32 << 20, max_partition_fetch_bytes=8 << 20, fetch_max_wait_ms=10
    )
    await consumer.start()
    try:
        metadata = await consumer._client.fetch_all_metadata()  # the consumer itself only knows topics it was assigned
        ours = {name for name in metadata.topics() if name.startswith("skillcore.")}
        names = sorted(name for name in ours if not name.endswith(".dlq"))
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


def _sent(case: Case, garbage: Iterable[Place], log: list[Written], sent: int, again: int) -> Iterable[Line]:
    """What the topics hold beside what the files say: no event too many, what was sent twice, and the garbage."""
    section, places = "in Kafka", set(garbage)
    yield compare(section, "all that was sent, made up or not", "topics, unique ids", range(sent),
                  range(len(case.log.events)))
    yield compare(section, "sent a second time on purpose", "topics, repeated ids",
                  range(again), range(case.log.records - len(case.log.events)))
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


async def _left(db: Any, log: list[Written]) -> Iterable[Line]:
    """What must have come to an end: the topics are read, the outbox is empty, no call has failed."""
    ends: dict[tuple[str, int], int] = {}
    for written in log:
        topic, partition, offset = written.place
        if ".events." in topic:
            ends[topic, partition] = max(offset + 1, ends.get((topic, partition), 0))
    standing = {(r["topic"], r["partition"]): r["next_offset"] for r in await db.fetch("select * from progress")}
    waiting = await db.fetch("select id from outbox where published_at is null")
    failed = await db.fetch("select id from job_now where queue = 'handler-calls' and state <> 'completed'")
    return [
        compare("at rest", "partitions read to their ends", "progress", ends.items(),
                [(place, standing.get(place)) for place in ends]),
        compare("at rest", "outbox rows not yet in Kafka", "outbox", (), [r["id"] for r in waiting]),
        compare("at rest", "handler calls that failed", "job", (), [r["id"] for r in failed]),
    ]

