"""What a crash test needs around the workers: a topic, a database, a sender, processes to kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from skillcore_streams.adapters.migrations import migrate
from skillcore_streams.stack import free_port
from tests.crash.checker import Report, check, ends

ROOT = Path(__file__).resolve().parents[2]
STUDENTS = 40

TOPICS = """
kinds:
  events:
    name: skillcore.{{}}.events.v1
    partitions: {{production: 4, local: 4}}
    max_message_kib: 1024
  leader:
    name: "{{app}}-__assignor-__{{}}"
    partitions: {{production: 1, local: 1}}
    max_message_kib: 1024
topics:
  events:
    {name}: {{owner: tests}}
  leader:
    leader: {{owner: tests}}
"""

TABLES = """
    create table effect (
        id bigint generated always as identity primary key, handler text not null, key text not null, seq int not null,
        worker text not null, at timestamptz not null default clock_timestamp());
    create table moved (id bigint generated always as identity primary key, partition int, was bigint, is_now bigint);
    create function note_move() returns trigger language plpgsql as $$ begin
        insert into moved (partition, was, is_now) values (new.partition, old.next_offset, new.next_offset);
        return null;
    end $$;
    create trigger moved after update of next_offset on progress for each row execute function note_move();
"""


class Load(threading.Thread):
    """Sends Marks at a steady rate until told to stop: some fail, some come twice, some are no events at all."""

    def __init__(self, broker: str, topic: str, rate: float, most: int = 1 << 30) -> None:
        super().__init__(daemon=True)
        self.topic, self.most = topic, most
        self.rate = rate
        """Marks a second; may be changed while it runs."""
        self.acknowledged = 0
        self.errors: list[str] = []
        self._done = threading.Event()
        self._seq = [0] * STUDENTS
        self._lock = threading.Lock()
        self._producer = Producer({
            "bootstrap.servers": broker, "linger.ms": 5, "enable.idempotence": True, "partitioner": "murmur2_random",
            "log_level": 2,
        })

    def run(self) -> None:
        due = time.monotonic()
        for n in range(self.most):
            if self._done.is_set():
                break
            self.mark(n % STUDENTS, self._mode(n), again=n % 100 == 50)
            if n % 100 == 31:
                self.nonsense(n // 100)
            self._producer.poll(0)
            due = max(due + 1 / self.rate, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
        self._producer.flush(60)

    @staticmethod
    def _mode(n: int) -> str:
        if n % 400 in (13, 213):
            return "poison" if n % 400 == 13 else "fatal"
        return "flaky" if n % 50 == 7 else "plain"

    def mark(self, student: int, mode: str, again: bool = False) -> None:
        with self._lock:
            seq, self._seq[student] = self._seq[student], self._seq[student] + 1
        name = f"student-{student}"
        body = json.dumps({"student": name, "seq": seq, "mode": mode})
        self._send(name, body, mode, id=f"{name}-{seq}")
        if again:
            self._send(name, body, "again", id=f"{name}-{seq}")
            other = json.dumps({"student": name, "seq": seq, "mode": "another body"})
            self._send(name, other, "conflict", id=f"{name}-{seq}")

    def nonsense(self, n: int) -> None:
        body = json.dumps({"student": "nobody", "seq": 0, "mode": "plain"})
        [
            lambda: self._send("nobody", "{not json", "bad"),
            lambda: self._send("nobody", None, "bad"),
            lambda: self._send("somebody else", body, "bad"),
            lambda: self._send("nobody", body, "bad", type="NeverHeardOf"),
            lambda: self._send("nobody", json.dumps({"student": "nobody"}), "bad"),
            lambda: self._send(None, "\xff\0", "bad", specversion="7"),
        ][n % 6]()

    def _send(
        self, key: str | None, body: str | None, kind: str, *,
        id: str = "", type: str = "Mark", specversion: str = "1.0",
    ) -> None:
        domain = self.topic.split(".")[1]
        headers = {
            "lab": kind, "ce_specversion": specversion, "ce_id": id or str(uuid4()), "ce_source": "/tests/crash",
            "ce_type": f"com.skillcore.{domain}.{type}.v1", "ce_time": "2026-03-02T14:00:00Z", "ce_tenantid": "lab",
        }
        value = None if body is None else body.encode()
        self._producer.produce(self.topic, value, key, headers=headers, on_delivery=self._delivered)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.errors.append(str(error))

    def stop(self) -> None:
        self._done.set()
        self.join()
        assert not self.errors, self.errors[:3]

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


class Worker:
    """A worker that is started again and again under one name."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.lives = 0
        self.port = free_port(taken=set())
        self.log = world.folder / f"{name}.log"
        self.bitten_log = world.folder / f"{name}.bitten"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, points: str = "") -> None:
        self.lives += 1
        self.world.spawned[f"{self.name}-{self.lives}"] = time.time()
        lab = {
            "topic": self.world.topic, "group": self.world.name, "points": points, "bitten": str(self.bitten_log),
            "killer": str(self.world.folder / "killer"), "sabotage": self.world.sabotage, **self.world.told,
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SKILLCORE_")} | {
            "LAB": json.dumps(lab),
            "SKILLCORE_KAFKA": self.world.broker,
            "SKILLCORE_DATABASE_URL": self.world.dsn,
            "SKILLCORE_TOPICS_FILE": str(self.world.topics_file),
            "SKILLCORE_WORKER_ID": f"{self.name}-{self.lives}",
            "SKILLCORE_ROLES": self.world.roles,
            "SKILLCORE_WEB_PORT": str(self.port),
            "SKILLCORE_DATADIR": str(self.world.folder / "data"),
            "SKILLCORE_SESSION_TIMEOUT": str(self.world.session),
            "SKILLCORE_HEARTBEAT_INTERVAL": str(self.world.session / 5),
            "SKILLCORE_REBALANCE_TIMEOUT": "10",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", self.world.app, "worker", "-l", "warn"],
                stdout=log, stderr=log, cwd=ROOT, env=environment,
            )

    @property
    def ended(self) -> int | None:
        """The exit code of a process that is gone."""
        return None if self.process is None else self.process.poll()

    def bitten(self) -> list[str]:
        """The failpoints that have bitten, of all lives."""
        lines = self.bitten_log.read_text().splitlines() if self.bitten_log.exists() else []
        return [line.split("=")[0] for line in lines]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    async def stop(self, seconds: float = 20) -> int:
        """SIGTERM. Returns the exit code."""
        self.signal(signal.SIGTERM)
        await until(lambda: self.ended is not None, f"{self.name} ends when asked to", seconds)
        assert self.ended is not None
        return self.ended


class World:
    """One topic, one database, one group, and what happens to them."""

    app = "tests.crash.lab"
    roles = "events,jobs,schedules,bridge,outbox"
    """Its world has no table."""
    topics, tables = TOPICS, TABLES
    told: Mapping[str, str] = {}
    """More that the lab is told."""

    def __init__(self, broker: str, server: str, folder: Path, sabotage: str) -> None:
        self.broker, self.server, self.folder, self.sabotage = broker, server, folder, sabotage
        self.name = f"crash-{''.join(c for c in uuid4().hex if c.isalpha())[:8]}"
        self.topic = f"skillcore.{self.name}.events.v1"
        self.database = self.name.replace("-", "_")
        self.dsn = server.rsplit("/", 1)[0] + "/" + self.database
        self.topics_file = folder / "topics.yaml"
        self.session = 2.0
        """Seconds of silence after which the broker gives up a worker."""
        self.workers: list[Worker] = []
        self.spawned: dict[str, float] = {}
        """When each life of a worker began (Unix time)."""
        self.loads: list[Load] = []

    async def begin(self) -> None:
        self.folder.mkdir()
        self.topics_file.write_text(self.topics.format(name=self.name))
        config = {"cleanup.policy": "delete", "max.message.bytes": str(1 << 20), "min.insync.replicas": "1"}
        admin = AdminClient({"bootstrap.servers": self.broker, "log_level": 2})
        leader = f"{self.name}-__assignor-__leader"
        topics = [NewTopic(self.topic, 4, 1, config=config), NewTopic(leader, 1, 1, config=config),
                  NewTopic(f"{self.topic}.dlq", 1, 1, config=config | {"max.message.bytes": str(1152 << 10)})]
        for created in admin.create_topics(topics).values():
            created.result(20)
        connection = await asyncpg.connect(self.server)
        await connection.execute(f"create database {self.database}")
        await connection.close()
        await migrate(self.dsn)
        await self.execute(self.tables)

    def end(self) -> None:
        for load in self.loads:
            load._done.set()
        for worker in self.workers:
            if worker.process is not None and worker.ended is None:
                worker.kill()

    def worker(self, points: str = "") -> Worker:
        worker = Worker(self, "abcdef"[len(self.workers)])
        self.workers.append(worker)
        worker.start(points)
        return worker

    def load(self, rate: float, most: int = 1 << 30) -> Load:
        load = Load(self.broker, self.topic, rate, most)
        self.loads.append(load)
        load.start()
        return load

    async def execute(self, query: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(query)
        await connection.close()

    async def value(self, query: str) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def drained(self) -> bool:
        """All that was sent is processed, published and run; what that published, too."""
        left = """
            select (select count(*) from outbox where published_at is null)
                 + (select count(*) from job_now where state in ('waiting', 'delayed', 'held', 'running'))"""
        return not await self.value(left) and await self.at_the_end() and not await self.value(left)

    async def at_the_end(self) -> bool:
        """All that is on the topic has been processed."""
        stands = await self.value("select json_object_agg(partition, next_offset)::text from progress") or "{}"
        at = {int(p): n for p, n in json.loads(stands).items()}
        return at == await asyncio.to_thread(ends, self.broker, self.topic)

    async def working(self) -> bool:
        """Every partition has had a chunk."""
        return await self.value("select count(distinct partition) from moved") == 4

    async def report(self) -> Report:
        return await check(self.broker, self.topic, self.dsn, sum(load.acknowledged for load in self.loads))

    async def last_words(self) -> str:
        """Where the partitions stand, the group, the ends of the workers' logs: for whoever reads a failure."""
        standing = await self.value("select json_agg(p)::text from progress p")
        busy = await self.value("""
            select json_agg(json_build_array(
                       application_name, state, wait_event, now() - state_change, left(query, 90)))::text
              from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()""")
        admin = AdminClient({"bootstrap.servers": self.broker, "log_level": 2})
        group = admin.describe_consumer_groups([self.name])[self.name].result(20)
        members = [sorted(f"{p.topic}-{p.partition}" for p in m.assignment.topic_partitions) for m in group.members]
        logs = [f"--- {w.log}\n{w.log.read_text(errors='replace')[-3000:]}" for w in self.workers]
        return "\n".join([standing, busy, f"{group.state} {members}", *logs])


@asynccontextmanager
async def world(broker: str, server: str, folder: Path, sabotage: str = "") -> AsyncIterator[World]:
    """A new world; its processes end with the block."""
    made = World(broker, server, folder, sabotage)
    await made.begin()
    try:
        yield made
    except BaseException:
        print(await made.last_words())
        raise
    finally:
        made.end()


async def until(true: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Ask again until the answer (or what it promises) is true. Fails, saying what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = true()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        await asyncio.sleep(0.05)
