"""Each scenario runs twice: `stock` is Faust as it comes, `ours` HardenedApp. Each has its own topic and group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.transport.lab import Options

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(true: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """Ask again until the answer is true. Fails, saying what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.05)
    return answer


class Worker:
    """One process of the lab."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.log = Path(options.log)
        self.errors = self.log.with_suffix(".err")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.transport.lab", "worker", "--without-web", "-l", "warn"],
                stdout=errors, stderr=errors, cwd=ROOT, env=os.environ | {"LAB": json.dumps(asdict(options))},
            )

    def lines(self, kind: str) -> list[list[Any]]:
        """What the worker wrote down of that kind, without the kind."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line[1:] for line in lines if line[0] == kind]

    def values(self, kind: str = "done") -> list[str]:
        return [value for _, _, value in self.lines(kind)]

    def offsets(self, kind: str = "done", partition: int = 0) -> list[int]:
        return [offset for p, offset, _ in self.lines(kind) if p == partition]

    def said(self, words: str) -> bool:
        return words in self.errors.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


class Side:
    """One topic, one group, and workers of one kind."""

    def __init__(self, broker: str, folder: Path, hardened: bool) -> None:
        self.broker = broker
        self.hardened = hardened
        self.folder = folder
        self.name = f"transport-{'ours' if hardened else 'stock'}-{uuid4().hex[:8]}"
        self.workers: list[Worker] = []
        self.admin = AdminClient({"bootstrap.servers": broker, "log_level": 2})
        self._producer: Producer | None = None
        folder.mkdir()

    def topic(self, partitions: int = 1) -> None:
        self.admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(20)

    def worker(self, **options: Any) -> Worker:
        n = len(self.workers)
        made = Worker(Options(
            broker=self.broker, topic=self.name, group=self.name, hardened=self.hardened,
            log=str(self.folder / f"{n}.log"), datadir=str(self.folder / f"{n}.data"), **options,
        ))
        self.workers.append(made)
        return made

    def produce(self, values: Sequence[bytes | None], partition: int = 0, transactional: bool = False) -> None:
        """Write records; `transactional`: each in a transaction of its own, whose marker takes an offset too."""
        settings: dict[str, Any] = {"bootstrap.servers": self.broker, "linger.ms": 0, "log_level": 2}
        if transactional:
            settings["transactional.id"] = f"{self.name}-{uuid4().hex[:8]}"
        producer = Producer(settings)
        if transactional:
            producer.init_transactions(20)
        for value in values:
            if transactional:
                producer.begin_transaction()
            producer.produce(self.name, value, partition=partition)
            if transactional:
                producer.commit_transaction(20)
        assert producer.flush(20) == 0

    def committed(self, partition: int = 0) -> int:
        """The group's offset in Kafka; 0 when there is none."""
        asked = [ConsumerGroupTopicPartitions(self.name, [TopicPartition(self.name, partition)])]
        [answer] = self.admin.list_consumer_group_offsets(asked)[self.name].result(20).topic_partitions
        return max(0, answer.offset)

    def state(self) -> str:
        """The group's: STABLE, EMPTY, PREPARING_REBALANCING ..."""
        return str(self.admin.describe_consumer_groups([self.name])[self.name].result(20).state.name)

    def members(self) -> int:
        return len(self.admin.describe_consumer_groups([self.name])[self.name].result(20).members)

    def settled(self, members: int) -> bool:
        """The group is stable with so many members."""
        group = self.admin.describe_consumer_groups([self.name])[self.name].result(20)
        return group.state.name == "STABLE" and len(group.members) == members

    def stranger(self) -> Consumer:
        """A member of the group that knows only the assignor `range`, which Faust does not speak."""
        consumer = Consumer({
            "bootstrap.servers": self.broker, "group.id": self.name, "partition.assignment.strategy": "range",
            "session.timeout.ms": 6000, "log_level": 2,
        })
        consumer.subscribe([self.name])
        until(lambda: consumer.poll(0.1) is None and self.settled(1), "a stranger is the group's only member")
        return consumer

    def end(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
            worker.kill()


@pytest.fixture
def stock(kafka: str, tmp_path: Path) -> Iterator[Side]:
    side = Side(kafka, tmp_path / "stock", hardened=False)
    yield side
    side.end()


@pytest.fixture
def ours(kafka: str, tmp_path: Path) -> Iterator[Side]:
    side = Side(kafka, tmp_path / "ours", hardened=True)
    yield side
    side.end()
