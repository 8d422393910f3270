"""The outbox: what was committed is published, in order per lane; repeats are possible, losses are not."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import pytest

from skillcore_streams.runtime import Context
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.outbox import Outgoing, Publisher
from tests.runtime.lab import TOPIC, Echo, Lab, Probe, chunk, record

LANE = f"{TOPIC}-0"


class Kafka:
    """A topic in memory that can be away."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.away = False

    async def send(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise Infrastructure("Kafka is away")
        self.records.extend(records)

    @property
    def sent(self) -> list[int]:
        return [int(r.value.split(b'"n":')[1].split(b"}")[0]) for r in self.records]


@pytest.fixture
async def kafka_fake(lab: Lab) -> Kafka:
    """Six events in the outbox, and nowhere yet."""

    async def echo(event: Probe, ctx: Context) -> None:
        ctx.publish(Echo(student_id=event.student_id, n=event.n))

    lab.handler(echo)
    await deliver(chunk([record(n) for n in range(6)]), lab.core)
    return Kafka()


def publisher(lab: Lab, kafka: Kafka, owner: str = "w1") -> Publisher:
    return Publisher(lab.postgres.transaction, kafka.send, owner)


async def test_a_lane_is_published_in_order_and_once(lab: Lab, kafka_fake: Kafka) -> None:
    assert await publisher(lab, kafka_fake).publish(LANE) == 6
    assert await publisher(lab, kafka_fake).publish(LANE) == 0

    assert kafka_fake.sent == [0, 1, 2, 3, 4, 5]
    assert {r.topic for r in kafka_fake.records} == {TOPIC}


async def test_what_could_not_be_sent_stays_and_goes_first_later(lab: Lab, kafka_fake: Kafka) -> None:
    kafka_fake.away = True
    with pytest.raises(Infrastructure):
        await publisher(lab, kafka_fake).publish(LANE)
    kafka_fake.away = False
    await deliver(chunk([record(6), record(7)]), lab.core)

    await publisher(lab, kafka_fake).publish(LANE)

    assert kafka_fake.sent == list(range(8))


async def test_a_lane_belongs_to_one_publisher_until_its_lease_ends(lab: Lab, kafka_fake: Kafka) -> None:
    async with lab.postgres.transaction() as db:
        await db.execute("insert into outbox_lease values ($1, 'other', clock_timestamp() + interval '5 s')", LANE)
    assert await publisher(lab, kafka_fake).publish(LANE) == 0

    async with lab.postgres.transaction() as db:
        await db.execute("update outbox_lease set until = clock_timestamp() - interval '1 s'")

    assert await publisher(lab, kafka_fake).publish(LANE) == 6


async def test_a_publisher_that_dies_after_sending_leaves_repeats_not_gaps(lab: Lab, kafka_fake: Kafka) -> None:
    dying = publisher(lab, kafka_fake)
    await dying.publish(LANE)
    async with lab.postgres.transaction() as db:  # it died before it could mark them
        await db.execute("update outbox set published_at = null where id > (select min(id) + 2 from outbox)")

    await publisher(lab, kafka_fake, "w2").publish(LANE)

    first = list(dict.fromkeys(kafka_fake.sent))
    assert first == [0, 1, 2, 3, 4, 5]
    assert kafka_fake.sent == [0, 1, 2, 3, 4, 5, 3, 4, 5]


async def test_the_sweeper_takes_lanes_left_for_five_seconds(lab: Lab, kafka_fake: Kafka) -> None:
    sweeper = publisher(lab, kafka_fake)
    assert await sweeper.sweep() == 0
    async with lab.postgres.transaction() as db:
        await db.execute("update outbox set created_at = created_at - interval '6 s'")

    assert await sweeper.sweep() == 1
    await sweeper.stop()

    assert kafka_fake.sent == [0, 1, 2, 3, 4, 5]


async def test_waking_a_lane_publishes_what_was_committed_meanwhile(lab: Lab, kafka_fake: Kafka) -> None:
    awake = publisher(lab, kafka_fake)
    awake.wake(LANE)
    await deliver(chunk([record(6, uuid4())]), lab.core)
    awake.wake(LANE)
    await awake.stop()

    assert kafka_fake.sent == list(range(7))
