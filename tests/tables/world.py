"""The product's workers on a stack of their own, districts whose days are marked, and the table as Kafka holds it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from skillcore_streams.stack import Stack
from tests.commands.lab import Machine, RunningWorker
from tests.tables.truth import ROWS, difference, of_postgres, of_table

ROOT = Path(__file__).resolve().parents[2]
EVENTS, INPUTS = "skillcore.attendance.events.v1", "skillcore.internal.attendance-by-school.v1"
CHANGELOG, GROUP = "skillcore-attendance-changelog", "skillcore"
CATEGORIES = ["present"] * 6 + ["absent_unexcused", "absent_excused", "tardy", "partial"]
EAST, WEST = UUID(int=0xE), UUID(int=0xF)
MONDAY = date(2022, 1, 10)

UNDONE = """
    select (select count(*) from outbox where published_at is null)
         + (select count(*) from job_now
             where state in ('waiting', 'delayed', 'running') and queue = 'handler-calls')"""


def until(true: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
    """Ask again until the answer is true. Fails, saying what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.1)
    return answer


class World:
    """One Kafka, one Postgres, one group. Tests use tenants of their own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        env = stack.env()
        self.broker, self.dsn = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]
        self.machine = Machine(self.broker, self.dsn, folder)
        self.machine.run("topics", "apply")
        self.machine.run("migrate")
        self.admin = AdminClient({"bootstrap.servers": self.broker, "log_level": 2})
        self.workers: list[RunningWorker] = []
        self.flows: list[Flow] = []

    # Workers ------------------------------------------------------------------------------------------------------

    def worker(self, points: str = "", **env: str) -> RunningWorker:
        """Start one, perhaps with something armed."""
        running = RunningWorker(self.machine, {
            "SKILLCORE_FAILPOINTS": points, "SKILLCORE_SESSION_TIMEOUT": "1.5", "SKILLCORE_HEARTBEAT_INTERVAL": "0.3",
            "SKILLCORE_REBALANCE_TIMEOUT": "10",
        } | env)
        self.workers.append(running)
        return running

    def end(self) -> None:
        """Stop all workers, at once, and what a test that failed left flowing."""
        while self.flows:
            self.flows.pop().stop()
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.stop()
        self.workers.clear()

    # What happens -------------------------------------------------------------------------------------------------

    def value(self, query: str, *args: Any) -> Any:
        return self._sql(lambda c: c.fetchval(query, *args))

    def execute(self, query: str, *args: Any) -> None:
        self._sql(lambda c: c.execute(query, *args))

    def rows(self, tenant: str) -> list[dict[str, Any]]:
        return [dict(r) for r in self._sql(lambda c: c.fetch(f"{ROWS} where tenant_id = $1", tenant))]

    def _sql(self, ask: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await ask(connection)
            finally:
                await connection.close()

        return asyncio.run(run())

    # Kafka --------------------------------------------------------------------------------------------------------

    def ends(self, topic: str) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "ends", "log_level": 2})
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        found = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in partitions}
        consumer.close()
        return found

    def committed(self, topic: str = INPUTS) -> dict[int, int]:
        asked = [ConsumerGroupTopicPartitions(GROUP, [TopicPartition(topic, p) for p in range(4)])]
        answer = self.admin.list_consumer_group_offsets(asked)[GROUP].result(20)
        return {tp.partition: max(0, tp.offset) for tp in answer.topic_partitions}

    def changelog(self, topic: str = CHANGELOG) -> dict[str, Any]:
        """What a worker would recover: the last value of every key."""
        ends = {p: end for p, end in self.ends(topic).items() if end}
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": f"read-{uuid4()}", "log_level": 2,
                             "enable.partition.eof": False, "auto.offset.reset": "earliest"})
        consumer.assign([TopicPartition(topic, p, 0) for p in ends])
        state: dict[str, Any] = {}
        left = set(ends)
        while left:
            message = consumer.poll(20)
            assert message is not None, f"{topic} cannot be read"
            assert message.error() is None
            state[json.loads(message.key())] = json.loads(message.value()) if message.value() else None
            if message.offset() + 1 >= ends[message.partition()]:
                left.discard(message.partition())
        consumer.close()
        return {key: value for key, value in state.items() if value is not None}

    # When all is done ---------------------------------------------------------------------------------------------

    def drained(self) -> bool:
        """All events are handled, all inputs written to Kafka, heard, and committed."""
        at = {r["partition"]: r["next_offset"] for r in self._sql(
            lambda c: c.fetch("select partition, next_offset from progress where topic = $1", EVENTS))}
        ends = self.ends(EVENTS)
        return (
            all(at.get(p, 0) >= end for p, end in ends.items())
            and not self.value(UNDONE)
            and self.committed() == self.ends(INPUTS)
        )

    def difference(self, tenant: str) -> dict[str, Any]:
        """Between the table, as Kafka holds it, and Postgres."""
        table = self.changelog()
        return difference(of_table(table, tenant), of_postgres(self.rows(tenant), table))


class District:
    """Two schools and their students; what is marked of them, in an order that has nothing to do with the days'."""

    def __init__(self, world: World, seed: int, students: int = 24) -> None:
        self.world, self.rnd = world, Random(seed)
        self.tenant = f"district-{uuid4().hex[:6]}"
        self.students = [UUID(int=(seed << 64) + n + 1) for n in range(students)]
        self.sent = 0
        self._said: list[dict[str, Any]] = []
        self._producer = Producer({
            "bootstrap.servers": world.broker, "linger.ms": 2, "enable.idempotence": True,
            "partitioner": "murmur2_random", "log_level": 2,
        })

    def marks(self, n: int, days: int = 40) -> Iterator[None]:
        """Marks, marks again, corrections, days that move to the other school."""
        for _ in range(n):
            if self._said and self.rnd.random() < 0.15:
                self._correct(self.rnd.choice(self._said[-200:]))
            else:
                day = MONDAY + timedelta(days=self.rnd.randrange(days))
                self.mark(self.rnd.choice(self.students), day, self.rnd.choice(CATEGORIES))
            yield

    def mark(self, student: UUID, day: date, category: str, school: UUID | None = None) -> None:
        at_home = EAST if student.int % 2 else WEST
        away = WEST if at_home == EAST else EAST
        body = {
            "attendance_id": str(uuid4()), "student_id": str(student), "date": day.isoformat(), "code": category,
            "school_id": str(school or (away if self.rnd.random() < 0.1 else at_home)), "category": category,
            "marked_by": str(UUID(int=9)), "marked_at": self._moment(),
        }
        self._said.append(body)
        self._send("AttendanceMarked", body)

    def _correct(self, said: dict[str, Any]) -> None:
        category = self.rnd.choice(CATEGORIES)
        self._send("AttendanceCorrected", {
            "attendance_id": said["attendance_id"], "student_id": said["student_id"], "school_id": said["school_id"],
            "date": said["date"], "old_code": said["code"], "new_code": category, "new_category": category,
            "reason": "a note from home", "corrected_by": str(UUID(int=9)), "corrected_at": self._moment(),
        })

    def _moment(self) -> str:
        """Mostly later than before, sometimes earlier."""
        early = timedelta(hours=self.rnd.choice([0, 0, 0, 7]))
        return (datetime(2022, 6, 1, tzinfo=UTC) + timedelta(seconds=self.sent) - early).isoformat()

    def _send(self, type: str, body: dict[str, Any]) -> None:
        self.sent += 1
        headers = {
            "ce_specversion": "1.0", "ce_id": str(uuid4()), "ce_source": "/tests/tables", "ce_tenantid": self.tenant,
            "ce_type": f"com.skillcore.attendance.{type}.v1", "ce_time": "2022-06-01T12:00:00Z",
        }
        self._producer.produce(EVENTS, json.dumps(body).encode(), body["student_id"], headers=headers)
        self._producer.poll(0)

    def send(self, n: int, days: int = 40) -> None:
        """That many, at once."""
        for _ in self.marks(n, days):
            pass
        assert self._producer.flush(30) == 0

    def flow(self, rate: float) -> Flow:
        """A steady stream of them, until it is stopped."""
        flow = Flow(self, rate)
        self.world.flows.append(flow)
        flow.start()
        return flow


class Flow(threading.Thread):
    """Marks a second, until told to stop."""

    def __init__(self, district: District, rate: float) -> None:
        super().__init__(daemon=True)
        self.district, self.rate = district, rate
        self._over = threading.Event()

    def run(self) -> None:
        for _ in self.district.marks(1 << 30):
            if self._over.wait(1 / self.rate):
                break
        assert self.district._producer.flush(30) == 0

    def stop(self) -> None:
        self._over.set()
        self.join()
