"""The table on a real Kafka: killed, frozen, replayed, moved, rebuilt, and each time compared with Postgres in sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from benchmarks.events import cpu
from skillcore_streams.runtime.failpoints import POINTS
from tests.commands.lab import RunningWorker
from tests.tables.world import CHANGELOG, EAST, GROUP, INPUTS, MONDAY, ROOT, District, World, until

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(240)]


def metric(worker: RunningWorker, name: str) -> float:
    return sum(
        float(line.rpartition(" ")[2]) for line in worker.get("/metrics")[1].splitlines() if line.startswith(name)
    )


def lag_of(worker: RunningWorker) -> list[float]:
    """Of each of its partitions."""
    lines = worker.get("/metrics")[1].splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith('table_lag{partition="')]


def dead(worker: RunningWorker) -> bool:
    """Killed at its point; it must not have ended in any other way."""
    code = worker.process.poll()
    assert code in (None, -signal.SIGKILL), worker.said()
    return code is not None


def stands_still(worker: RunningWorker) -> bool:
    return Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_killed_in_the_middle_and_shared_by_one_three_and_one_it_equals_postgres(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker dies at each named point while marks flow; then three share the partitions; then one has all."""
    districts = [District(world, seed) for seed in range(4)]
    flows = [district.flow(rate=25) for district in districts]
    points = [point for point in POINTS if point.startswith("table.")]
    armed = [world.worker(f"{point}=kill:3") for point in points]
    for point, worker in zip(points, armed, strict=True):
        until(lambda w=worker: dead(w), f"{point} kills its worker", 60)

    last = world.worker()
    until(lambda: lag_of(last), "one has taken over", 60)
    others = [world.worker(), world.worker()]
    until(lambda: all(map(lag_of, (last, *others))), "each of three has a partition", 60)
    for worker in others:
        worker.process.send_signal(signal.SIGTERM)
    assert [worker.process.wait(20) for worker in others] == [0, 0]
    for flow in flows:
        flow.stop()
    until(world.drained, "all is handled and heard", 60)

    for district in districts:
        assert world.difference(district.tenant) == {}
    until(lambda: sum(lag_of(last)) == 0, "nothing waits")
    with capsys.disabled():
        print(f"\nThe table: killed at {len(points)} points, {sum(d.sent for d in districts):,} marks, equal")


def test_read_again_from_its_first_input_nothing_is_written(world: World) -> None:
    world.end()
    district = District(world, 11)
    district.send(300)
    with running(world) as worker:
        until(world.drained, "all is handled and heard")
        assert metric(worker, 'table_inputs_total{outcome="news"}') > 0
    before = world.ends(CHANGELOG)
    world.admin.alter_consumer_group_offsets([
        ConsumerGroupTopicPartitions(GROUP, [TopicPartition(INPUTS, p, 0) for p in range(4)])
    ])[GROUP].result(20)

    with running(world) as worker:
        until(world.drained, "all is heard again")

        assert metric(worker, 'table_inputs_total{outcome="repeat"}') > 300
        assert metric(worker, 'table_inputs_total{outcome="news"}') == 0
    assert world.ends(CHANGELOG) == before
    assert world.difference(district.tenant) == {}


def test_a_worker_that_stood_still_in_the_middle_spoils_nothing(world: World) -> None:
    """It wakes up with a chunk in its hands, and writes values that are older than those of its successor."""
    world.end()
    frozen = world.worker("table.received=freeze:4")
    district = District(world, 12)
    flow = district.flow(rate=60)
    until(lambda: stands_still(frozen), "a worker stands still with a chunk in its hands")
    with running(world) as successor:
        flow.stop()
        district.send(400)
        until(world.drained, "the successor has done everything", 60)
        before = world.ends(CHANGELOG)
        frozen.process.send_signal(signal.SIGCONT)

        until(lambda: world.ends(CHANGELOG) != before, "the other one wakes up and writes")
        until(lambda: metric(successor, "table_rewrites_total") + metric(frozen, "table_rewrites_total") > 0,
              "whoever owns the partition has seen it")
        until(lambda: world.difference(district.tenant) == {}, "and has said its own values again", 30)


def test_what_is_wrong_in_the_table_is_found_and_rebuilt(world: World) -> None:
    world.end()
    district = District(world, 13)
    district.send(300)
    with running(world):
        until(world.drained, "all is handled and heard")
        day, ours, nobody = (MONDAY + timedelta(days=39)).isoformat(), str(district.students[0]), str(UUID(int=99))
        # As after Postgres was restored from a backup: the table has heard of what never happened.
        lost = [[ours, day, "tardy", int(time.time() * 1e6), False], [nobody, day, "present", 5, True]]
        feed(world.broker, INPUTS, f"{district.tenant}/{EAST}", {"changes": lost})
        until(world.drained, "it is heard")
        assert nobody in str(world.difference(district.tenant))

        said = world.machine.run("tables", "check", "--tenant", district.tenant, "--json", code=1)
        assert any(found["extra"] for found in json.loads(said.partition("They differ")[0]))
        rebuilt = world.machine.json("tables", "rebuild", "--tenant", district.tenant, "--reason", "a test")
        until(world.drained, "the rebuild is heard")

        assert {r["school"] for r in rebuilt} >= {str(EAST)}
        assert world.difference(district.tenant) == {}
        checked = world.machine.json("tables", "check", "--tenant", district.tenant)
        assert [f["missing"] + f["stale"] + f["extra"] for f in checked] == [0, 0]
        assert sum(f["marks"] for f in checked) > 50
        district.send(100)
        until(world.drained, "later marks are heard")
        assert world.difference(district.tenant) == {}
        assert world.machine.run("tables", "check", "--tenant", "nobody") == "No school has marks.\n"
    assert world.value("select reason from operator_action where action = 'tables rebuild'") == "a test"


# Beside stock Faust, and cold -----------------------------------------------------------------------------------------


class Lab:
    """Topics and workers of one kind, by lab.py."""

    def __init__(self, world: World, folder: Path, kind: str, partitions: int = 1, **changelog: str) -> None:
        self.world, self.kind = world, kind
        self.group = f"lab-{kind}-{uuid4().hex[:6]}"
        self.topic = f"{self.group}-inputs"
        self.changelog = f"{self.group}-attendance-changelog"
        self.log = folder / f"{kind}.log"
        made = world.admin.create_topics([
            NewTopic(self.topic, partitions, 1),
            NewTopic(self.changelog, partitions, 1, config={"cleanup.policy": "compact"} | changelog),
        ])
        for future in made.values():
            future.result(20)

    @contextmanager
    def worker(self) -> Iterator[int]:
        lab = {"kind": self.kind, "broker": self.world.broker, "group": self.group, "topic": self.topic,
               "log": str(self.log)}
        self.log.unlink(missing_ok=True)
        with self.log.with_suffix(".err").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.tables.lab", "worker", "--without-web", "-l", "warn"],
                cwd=ROOT, stdout=errors, stderr=errors, env=os.environ | {"LAB": json.dumps(lab)},
            )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()

    def lines(self, kind: str) -> list[list[Any]]:
        if not self.log.exists():
            return []
        return [line[1:] for line in map(json.loads, self.log.read_text().splitlines()) if line[0] == kind]

    def committed(self) -> int:
        asked = [ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, 0)])]
        answer = self.world.admin.list_consumer_group_offsets(asked)[self.group].result(20)
        return max(0, answer.topic_partitions[0].offset)


def feed(broker: str, topic: str, key: str, body: dict[str, Any]) -> None:
    producer = Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random", "log_level": 2})
    producer.produce(topic, json.dumps(body).encode(), key)
    assert producer.flush(20) == 0


def test_an_input_is_committed_only_when_the_changelog_has_it(world: World, tmp_path: Path) -> None:
    """A changelog that refuses the record, for its size, for a while. Stock Faust logs it and goes on."""
    world.end()
    stock, ours = (Lab(world, tmp_path, kind, **{"max.message.bytes": "2000"}) for kind in ("stock", "ours"))
    words = [[str(uuid4()), "2022-01-10", "absent_excused", n, True] for n in range(1, 60)]
    for lab in stock, ours:
        feed(world.broker, lab.topic, f"t/{EAST}", {"changes": words})
    with stock.worker(), ours.worker():
        until(lambda: stock.committed() == 1, "stock commits the input")
        until(lambda: ours.lines("took"), "ours has it in its hands")
        assert ours.committed() == 0
    assert not any(key.endswith("/2022-01-10") for key in world.changelog(stock.changelog))
    for lab in stock, ours:
        bigger = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, lab.changelog, incremental_configs=[bigger])
        world.admin.incremental_alter_configs([resource])[resource].result(20)

    with stock.worker(), ours.worker():
        until(lambda: ours.committed() == 1, "ours commits it now")
        until(lambda: stock.lines("ready"), "stock is ready")
        assert stock.lines("done") == []
    day = f"t/{EAST}/2022-01-10"
    assert len(world.changelog(ours.changelog)[day]) == 59
    assert day not in world.changelog(stock.changelog), "stock Faust has lost it"


def test_sixty_thousand_keys_are_recovered_from_cold(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.end()
    lab = Lab(world, tmp_path, "ours", partitions=4)
    producer = Producer({"bootstrap.servers": world.broker, "linger.ms": 20, "log_level": 2})
    for n in range(60_000):
        value = {"2022-01-10": ["absent_excused", n], "2022-02-11": ["tardy", n]}
        producer.produce(lab.changelog, json.dumps(value), json.dumps(f"t/{EAST}/{UUID(int=n)}"), partition=n % 4)
        if n % 1000 == 0:
            producer.poll(0.01)
    assert producer.flush(30) == 0
    began = time.monotonic()

    with lab.worker() as pid:
        [[keys]] = until(lambda: lab.lines("ready"), "the table is recovered", 150)
        took, used = time.monotonic() - began, cpu(pid)

    assert keys == 60_000
    with capsys.disabled():
        print(f"\nThe table: 60,000 keys recovered from cold in {took:.1f} s ({used:.1f} s of CPU), start included")


@contextmanager
def running(world: World, points: str = "", **env: str) -> Iterator[RunningWorker]:
    """A ready worker, for a block."""
    worker = world.worker(points, **env)
    try:
        worker.ready()
        yield worker
    finally:
        worker.stop()
