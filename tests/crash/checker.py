"""The independent count. It shares no code with the product: it reads the topic itself and asks Postgres in plain SQL.

What a Mark must bring about, by its mode (`flaky` and `killer` end like `plain`):

    tally, note     once
    stumble         once; never for `poison` and `fatal`, whose calls must be dead letters
    heard           once when 5 divides seq, by way of an Echo on the topic
    recount         once when 7 divides seq, by way of a job

A record is known by its header `lab`: a mode, or `again` (sent twice), `conflict` (another body under a known id), or
`bad` (whatever cannot be an event). Bad and conflicting ones must be dead letters, each at its own offset.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from confluent_kafka import Consumer, TopicPartition

MODES = {"plain", "flaky", "poison", "fatal", "killer"}
Effect = tuple[str, str, int]
"""handler, student, seq."""


@dataclass
class Report:
    """What was found. `problems` counts what must not be."""

    facts: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not any(self.problems.values())

    def note(self, name: str, found: Iterable[Any]) -> None:
        all_of_it = list(found)
        self.problems[name] = len(all_of_it)
        if all_of_it:
            self.examples[name] = sorted(all_of_it)[:5]

    def table(self, title: str) -> str:
        rows = [*self.facts.items(), ("", ""), *self.problems.items()]
        lines = [f"  {name:<34}{count:>10}" for name, count in rows]
        examples = [f"  {name}: for example {some}" for name, some in self.examples.items()]
        return "\n".join([f"\n{title}", "  " + "-" * 44, *lines, *examples])


async def check(broker: str, topic: str, dsn: str, acknowledged: int) -> Report:
    """Count everything. `acknowledged`: how many records the broker told the sender that it has."""
    report = Report()
    records = read(broker, topic)
    marks: dict[tuple[str, int], str] = {}
    echoes: list[tuple[str, int]] = []
    bad, conflicts, sent = set(), set(), 0
    for partition, offset, kind, body in records:
        sent += kind is not None
        if kind in MODES:
            marks[body["student"], body["seq"]] = kind
        elif kind == "bad":
            bad.add((partition, offset))
        elif kind == "conflict":
            conflicts.add((partition, offset))
        elif kind is None:
            echoes.append((body["student"], body["seq"]))

    db = await asyncpg.connect(dsn)
    try:
        effects = [
            ((r["handler"], r["key"], r["seq"]), r["id"])
            for r in await db.fetch("select * from effect order by id")
        ]
        letters = await db.fetch("""
            select kind, handler, partition, record_offset, convert_from(value, 'UTF8')::jsonb as body
              from dead_letter where kind = 'call'
             union all
            select kind, handler, partition, record_offset, null from dead_letter where kind <> 'call'""")
        retried = {
            (r["handler"], r["key"], r["seq"]) for r in await db.fetch("""
            select replace(j.kind, 'lab.', '') as handler, e.key,
                   (convert_from(e.data, 'UTF8')::jsonb ->> 'seq')::int as seq
              from job_now j join event e using (event_key) where j.queue = 'handler-calls'""")
        }
        stored = [r["key"] for r in await db.fetch("select event_key as key from event")]
        jobs = Counter({(r["queue"], r["state"]): r["n"] for r in await db.fetch(
            "select queue, state, count(*) as n from job_now group by 1, 2")})
        waiting = await db.fetchval("select count(*) from outbox where published_at is null")
        moves = await db.fetch("select partition, was, is_now from moved order by id")
        standing = {r["partition"]: r["next_offset"] for r in await db.fetch(
            "select partition, next_offset from progress where topic = $1", topic)}
    finally:
        await db.close()

    failing = {mark for mark, mode in marks.items() if mode in ("poison", "fatal")}
    expected: set[Effect] = set()
    for student, seq in marks:
        expected |= {("tally", student, seq), ("note", student, seq)}
        if (student, seq) not in failing:
            expected.add(("stumble", student, seq))
        if seq % 5 == 0:
            expected.add(("heard", student, seq))
        if seq % 7 == 0:
            expected.add(("recount", student, seq))
    found = Counter(effect for effect, _ in effects)

    report.facts |= {
        "records sent": sent,
        "events": len(marks),
        "sent twice": sum(kind == "again" for _, _, kind, _ in records),
        "bad and conflicting records": len(bad) + len(conflicts),
        "events published by handlers": len(set(echoes)),
        "effects": len(effects),
        "calls retried by the executor": len(retried),
        "jobs run": jobs["lab-jobs", "completed"],
        "dead letters": len(letters),
        "chunks committed": len(moves),
    }
    report.note("records the broker lost", range(max(0, acknowledged - sent)))
    report.note("effects LOST", expected - found.keys())
    report.note("effects DUPLICATED", (e for e, n in found.items() if n > 1))
    report.note("PHANTOM effects", found.keys() - expected)
    report.note("effects OUT OF ORDER", out_of_order(e for e, _ in effects if in_order(e, retried)))
    report.note("events stored twice", (str(k) for k, n in Counter(stored).items() if n > 1))
    report.note("events not stored", range(abs(len(marks) + len(set(echoes)) - len(set(stored)))))
    report.note("publications OUT OF ORDER", out_of_order(
        ("announce", *e) for e in dict.fromkeys(echoes) if ("announce", *e) not in retried))
    report.note("bad records not parked, or others", bad ^ at(letters, "record"))
    report.note("conflicts not parked, or others", conflicts ^ at(letters, "conflict"))
    calls = [(r["handler"], *mark(r["body"])) for r in letters if r["kind"] == "call"]
    report.note("poison not dead-lettered, or others", {("lab.stumble", *m) for m in failing} ^ set(calls))
    report.note("jobs in dead letters", at(letters, "job"))
    report.note("outbox not drained", range(waiting))
    unsettled = ("waiting", "delayed", "held", "running")
    report.note("jobs not settled", (k for k, n in jobs.items() if n and k[1] in unsettled))
    report.note("partitions not at their end", (p for p, n in ends(broker, topic).items() if standing.get(p, 0) != n))
    report.note("offsets moved BACK", (tuple(move) for move in moves if move["is_now"] <= move["was"]))
    return report


def mark(body: str) -> tuple[str, int]:
    data = json.loads(body)
    return data["student"], data["seq"]


def at(letters: Iterable[Any], kind: str) -> set[tuple[int, int]]:
    return {(r["partition"], r["record_offset"]) for r in letters if r["kind"] == kind}


def in_order(effect: Effect, retried: set[Effect]) -> bool:
    """Whether the promise of order holds for this effect: a first attempt, of an event that came in order itself."""
    handler, student, seq = effect
    late = handler == "heard" and ("announce", student, seq) in retried
    return handler != "recount" and effect not in retried and not late


def out_of_order(effects: Iterable[Effect]) -> list[Effect]:
    """Those whose number does not rise, by handler and student. What is there twice is counted as duplicated."""
    last: dict[tuple[str, str], int] = {}
    wrong = []
    for handler, student, seq in effects:
        if seq < last.get((handler, student), -1):
            wrong.append((handler, student, seq))
        last[handler, student] = max(seq, last.get((handler, student), -1))
    return wrong


def read(broker: str, topic: str) -> list[tuple[int, int, str | None, dict[str, Any]]]:
    """Every record of the topic: partition, offset, what the sender called it (None: a handler published it), body."""
    consumer = Consumer({
        "bootstrap.servers": broker, "group.id": "checker", "enable.auto.commit": False, "enable.partition.eof": True,
        "auto.offset.reset": "earliest", "log_level": 2,
    })
    partitions = ends(broker, topic)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    records = []
    unfinished = {p for p, end in partitions.items() if end}
    while unfinished:
        for message in consumer.consume(5000, 1.0):
            if message.error() is not None:  # end of a partition
                continue
            headers = dict(message.headers() or [])
            kind = headers["lab"].decode() if "lab" in headers else None
            body = json.loads(message.value()) if kind is None or kind in MODES else {}
            records.append((message.partition(), message.offset(), kind, body))
            if message.offset() + 1 >= partitions[message.partition()]:
                unfinished.discard(message.partition())
    consumer.close()
    return sorted(records, key=lambda r: r[:2])


def ends(broker: str, topic: str) -> dict[int, int]:
    """The end offset of each partition."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "checker", "log_level": 2})
    try:
        known = consumer.list_topics(topic, 10).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 10)[1] for p in known}
    finally:
        consumer.close()
