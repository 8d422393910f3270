"""The examples, run as a stranger would run them against a real system: what they send takes effect, and once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from skillcore_streams.config import ROOT
from skillcore_streams.stack.kafka import VERSION
from tests.commands.lab import Machine, RunningWorker, until

EXAMPLES = ROOT / "examples"
MARKS = [json.loads(line) for line in (EXAMPLES / "marks.jsonl").read_text().splitlines()]
ABSENT = MARKS[0]["student_id"]
TOPIC = "skillcore.attendance.events.v1"

Send = Callable[[str], None]


def run(*command: object, cwd: Path, **env: str) -> str:
    """A program to its end, without anything of SkillCore in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SKILLCORE_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def node(machine: Machine, node_project: Path) -> Send:
    """examples/node/produce.mjs"""
    command = ["node", "produce.mjs", "../marks.jsonl", "--kafka", machine.kafka, "--tenant"]
    return lambda tenant: run_quietly(*command, tenant, cwd=node_project)


@pytest.fixture
def python(machine: Machine) -> Send:
    """examples/python/produce.py"""
    command = [sys.executable, "-I", "produce.py", "../marks.jsonl", "--kafka", machine.kafka, "--tenant"]
    return lambda tenant: run_quietly(*command, tenant, cwd=EXAMPLES / "python")


@pytest.fixture
def kafka_cli(machine: Machine, kafka_tools: Path) -> Send:
    """examples/kafka-cli/send.sh"""
    folder, libs = EXAMPLES / "kafka-cli", str(kafka_tools)
    return lambda tenant: run_quietly("./send.sh", machine.kafka, tenant, "../marks.jsonl", cwd=folder, KAFKA_LIBS=libs)


def run_quietly(*command: object, cwd: Path, **env: str) -> None:
    assert run(*command, cwd=cwd, **env) == ""


class District:
    """A tenant of its own, and what the system knows of it."""

    def __init__(self, machine: Machine, worker: RunningWorker) -> None:
        self.machine, self.worker, self.tenant = machine, worker, f"example-{uuid4().hex[:8]}"

    def rows(self, query: str) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.machine.dsn)
            try:
                return [dict(row) for row in await connection.fetch(query, self.tenant)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    def events(self) -> list[str]:
        return [r["type"].split(".")[3] for r in self.rows("select type from event where tenant_id = $1 order by 1")]

    def effects(self) -> dict[str, Any]:
        """All that marks do; jobs by what they are, as their state moves on."""
        return {
            "events": self.events(),
            "days": self.rows("select student_id, category from attendance_day where tenant_id = $1 order by 1"),
            "notices": self.rows("select student_id, day from absence_notices where tenant_id = $1"),
            "jobs": self.rows("select id, queue, kind from job where tenant_id = $1 order by id"),
            "dead letters": self.rows("select reason from dead_letter where tenant_id = $1"),
        }

    def settled(self) -> None:
        """Everything written has been read, and what followed from it has come back and been read too."""
        until(self._is_settled, 60, self.worker.said)

    def _is_settled(self) -> bool:
        rows = [row for row in self.machine.json("offsets", "show", "--all") if row["topic"] == TOPIC]
        waiting = self.rows("select id from outbox where published_at is null and $1::text is not null")
        return bool(rows) and all(row["lag"] == 0 for row in rows) and not waiting

    def repeats(self) -> float:
        """How many events the inbox has dropped as seen before."""
        found = re.search(rf'inbox_duplicates_total{{topic="{TOPIC}"}} ([0-9.]+)', self.worker.get("/metrics")[1])
        return float(found[1]) if found else 0.0


@pytest.fixture
def district(machine: Machine, worker: RunningWorker) -> District:
    return District(machine, worker)


@pytest.mark.parametrize("language", ["node", "python", "kafka_cli"])
def test_what_an_example_sends_takes_effect_and_sending_it_twice_changes_nothing(
    language: str, district: District, request: pytest.FixtureRequest
) -> None:
    send: Send = request.getfixturevalue(language)

    send(district.tenant)
    until(lambda: len(district.events()) == 4, 60, district.worker.said)
    district.settled()
    once, repeats = district.effects(), district.repeats()
    send(district.tenant)
    until(lambda: district.repeats() >= repeats + len(MARKS), 60, district.worker.said)
    district.settled()

    assert once["events"] == ["AttendanceMarked"] * 3 + ["StudentAbsent"]
    assert {str(day["student_id"]): day["category"] for day in once["days"]} == {
        mark["student_id"]: mark["category"] for mark in MARKS
    }
    assert [str(notice["student_id"]) for notice in once["notices"]] == [ABSENT]
    assert once["jobs"]
    assert once["dead letters"] == []
    assert district.effects() == once


def test_the_same_marks_from_another_language_are_the_same_events(
    node: Send, python: Send, kafka_cli: Send, district: District
) -> None:
    node(district.tenant)
    until(lambda: len(district.events()) == 4, 60, district.worker.said)
    district.settled()
    once, repeats = district.effects(), district.repeats()

    python(district.tenant)  # its JSON has other spaces
    kafka_cli(district.tenant)
    until(lambda: district.repeats() >= repeats + 2 * len(MARKS), 60, district.worker.said)
    district.settled()

    assert district.effects() == once


def test_the_consumer_reads_what_the_system_publishes(
    python: Send, built: Path, machine: Machine, district: District
) -> None:
    python(district.tenant)
    until(lambda: "StudentAbsent" in district.events(), 60, district.worker.said)

    said = run("node", "consume.js", "--kafka", machine.kafka, "--tenant", district.tenant, "--group", uuid4(),
               "--count", "1", cwd=built)

    [line] = map(json.loads, said.splitlines())
    [stored] = district.rows("select id, causation_id from event where tenant_id = $1 and type like '%StudentAbsent%'")
    assert (line["student_id"], line["date"], line["consecutive_days"]) == (ABSENT, MARKS[0]["date"], 1)
    assert (line["id"], line["because_of"]) == (stored["id"], stored["causation_id"])


def test_producers_of_all_languages_send_a_student_to_one_partition(
    node: Send, python: Send, kafka_cli: Send, district: District
) -> None:
    from confluent_kafka import Consumer

    for send in (node, python, kafka_cli):
        send(district.tenant)
    consumer = Consumer({
        "bootstrap.servers": district.machine.kafka, "group.id": str(uuid4()), "auto.offset.reset": "earliest",
    })
    consumer.subscribe([TOPIC])
    found: list[tuple[bytes, int]] = []
    try:
        while len(found) < 3 * len(MARKS):
            message = consumer.poll(20)
            assert message is not None, found
            assert message.error() is None
            headers = dict(message.headers() or ())
            if headers["ce_tenantid"] == district.tenant.encode() and headers["ce_source"] == b"/sis/example":
                found.append((message.key(), message.partition()))
    finally:
        consumer.close()

    assert len(set(found)) == len({key for key, _ in found}) == len(MARKS)


def test_the_examples_know_nothing_of_our_package_and_name_the_kafka_we_run() -> None:
    assert "skillcore_streams" not in (EXAMPLES / "python" / "produce.py").read_text()
    assert f"<version>{VERSION}</version>" in (EXAMPLES / "kafka-cli" / "pom.xml").read_text()
    lock = (EXAMPLES / "node" / "package-lock.json").read_text()
    assert "integrity" in lock
    assert "http" not in lock


@pytest.mark.parametrize(("folder", "command"), [
    ("python", [sys.executable, "-I", "produce.py", "../marks.jsonl"]), ("kafka-cli", ["./send.sh", "127.0.0.1:1"]),
])
def test_a_wrong_call_says_how_it_is_called(folder: str, command: list[str]) -> None:
    done = subprocess.run(command, cwd=EXAMPLES / folder, capture_output=True, text=True, timeout=30)

    assert done.returncode in (2, 64)
    assert "usage: " in done.stderr
