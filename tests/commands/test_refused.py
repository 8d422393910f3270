"""Postgres and Kafka disagree about a partition: it is refused in a sentence until somebody has decided."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.commands.lab import Machine, new_database, until

TOPIC = "skillcore.resources.events.v1"


@pytest.fixture
def apart(machine: Machine, tmp_path: Path) -> Machine:
    """A system whose database comes from a backup of another Kafka: it stands past the end of a partition."""
    made = Machine(machine.kafka, asyncio.run(new_database(machine.dsn)), tmp_path)
    made.env["SKILLCORE_ROLES"] = "events,outbox"  # a group of its own: the other worker has another database
    made.run("topics", "apply")
    made.run("migrate")

    async def restore() -> None:
        connection = await asyncpg.connect(made.dsn)
        await connection.execute("insert into progress (topic, partition, next_offset) values ($1, 0, 1000000)", TOPIC)
        await connection.close()

    asyncio.run(restore())
    return made


def test_a_partition_past_kafka_s_end_is_refused_and_offsets_set_resolves_it(apart: Machine) -> None:
    with apart.worker() as worker:
        until(lambda: "is refused" in worker.get("/readyz")[1], 40, worker.said)
        status, body = worker.get("/readyz")
        [row] = [r for r in apart.json("offsets", "show") if r["problem"]]

        assert status == 503
        assert "past Kafka's end" in body
        assert "offsets set" in body
        assert (row["topic"], row["partition"], row["next"]) == (TOPIC, 0, 1000000)
        assert worker.get("/livez")[0] == 200

        apart.run("offsets", "set", TOPIC, "0", str(row["end"]), "--reason", "the backup is of another cluster")

        until(lambda: worker.get("/readyz")[0] == 200, 20, worker.said)
        assert not [r for r in apart.json("offsets", "show") if r["problem"]]


def test_a_topic_recreated_under_us_is_refused(apart: Machine) -> None:
    async def other_topic() -> None:
        connection = await asyncpg.connect(apart.dsn)
        await connection.execute("update progress set next_offset = 0, topic_id = gen_random_uuid()")
        await connection.close()

    asyncio.run(other_topic())
    with apart.worker() as worker:
        until(lambda: "deleted and created anew" in worker.get("/readyz")[1], 40, worker.said)


def test_records_deleted_before_they_were_processed_are_not_skipped_silently(apart: Machine) -> None:
    producer = Producer({"bootstrap.servers": apart.kafka})
    for _ in range(5):
        producer.produce(TOPIC, b"{}", key=b"k", partition=1)
    producer.flush()
    admin = AdminClient({"bootstrap.servers": apart.kafka})  # kept: collected, it would fail its own futures
    for future in admin.delete_records([TopicPartition(TOPIC, 1, 3)]).values():
        future.result(10)

    async def behind() -> None:
        connection = await asyncpg.connect(apart.dsn)
        await connection.execute("update progress set partition = 1, next_offset = 1")
        await connection.close()

    asyncio.run(behind())
    with apart.worker() as worker:
        until(lambda: "2 were deleted before they were processed" in worker.get("/readyz")[1], 40, worker.said)
