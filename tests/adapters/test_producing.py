"""The records that leave: CloudEvents 1.0 in Kafka's binary mode, acknowledged, or a sentence."""

import asyncio
import json
from datetime import UTC, date, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from skillcore_streams.adapters.producing import Outgoing, Producer, Undelivered, outgoing
from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.runtime.envelope import Arrival, decode
from skillcore_streams.runtime.errors import Misconfigured, PermanentError
from skillcore_streams.runtime.messages import Meta, derive_id

NINE = datetime(2021, 8, 23, 14, 0, tzinfo=UTC)


def marked(**envelope: str) -> AttendanceMarked:
    event = AttendanceMarked(
        attendance_id=UUID(int=1),
        student_id=UUID(int=2),
        school_id=UUID(int=3),
        class_id=None,
        period=None,
        date=date(2021, 8, 23),
        code="Present",
        category="present",
        minutes_missed=None,
        arrival_time=None,
        marked_by=UUID(int=4),
        marked_at=NINE,
    )
    key = derive_id("lakeside", "/edfi/test", "1")
    event.with_meta(
        Meta(tenant="lakeside", id="1", source="/edfi/test", time=NINE, key=key, correlation_id="c", **envelope)
    )
    return event


def test_the_envelope_is_cloudevents_binary():
    record = outgoing(marked(causation_id="cause", actor_id="actor"))

    assert record.topic == "skillcore.attendance.events.v1"
    assert record.key == str(UUID(int=2)).encode()
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_type": b"com.skillcore.attendance.AttendanceMarked.v1",
        "ce_source": b"/edfi/test",
        "ce_time": b"2021-08-23T14:00:00Z",
        "ce_tenantid": b"lakeside",
        "ce_correlationid": b"c",
        "ce_causationid": b"cause",
        "ce_actorid": b"actor",
        "content-type": b"application/json",
    }
    assert json.loads(record.value)["date"] == "2021-08-23"


def test_the_door_reads_what_leaves():
    event = marked()
    record = outgoing(event)
    arrived = SimpleNamespace(key=record.key, value=record.value, headers=record.headers, offset=0, timestamp=0)

    arrival = decode(arrived, record.topic, 0, now=datetime.now(UTC))

    assert isinstance(arrival, Arrival)
    assert arrival.event == event
    assert arrival.event.meta == event.meta


async def test_no_broker_is_a_sentence(unused_tcp_port):
    with pytest.raises(Undelivered, match=f"Kafka at 127.0.0.1:{unused_tcp_port} cannot be reached"):
        async with Producer(f"127.0.0.1:{unused_tcp_port}"):
            pass


@pytest.fixture
async def topic(kafka):
    name = f"test.producing.{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    yield name
    await admin.delete_topics([name])
    await admin.close()


async def stored(kafka: str, topic: str) -> list[tuple[bytes, bytes, tuple]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in (0, 1)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records = []
        while len(records) < sum(ends.values()):
            for chunk in (await consumer.getmany(timeout_ms=200)).values():
                records += [(r.key, r.value, r.headers) for r in chunk]
        return records
    finally:
        await consumer.stop()


@pytest.mark.kafka
async def test_what_send_returned_for_is_in_the_topic_in_order_per_key(kafka, topic):
    records = [Outgoing(topic, b"%d" % (n % 7), b"%d" % n, [("ce_id", b"%d" % n)]) for n in range(3_000)]

    async with Producer(kafka) as producer:
        await producer.send(records)
        found = await stored(kafka, topic)

    assert len(found) == 3_000
    for key in {key for key, _, _ in found}:
        assert [v for k, v, _ in found if k == key] == [r.value for r in records if r.key == key]
    assert all(headers == (("ce_id", value),) for _, value, headers in found)


@pytest.mark.kafka
async def test_what_can_never_be_written_is_refused_before_anything_is(kafka, topic):
    good = Outgoing(topic, b"k", b"v", [])
    async with Producer(kafka) as producer:
        with pytest.raises(Misconfigured, match=r"no topic test\.nowhere\. Create it: skillcore topics apply"):
            await producer.send([good, Outgoing("test.nowhere", b"k", b"v", [])])
        with pytest.raises(PermanentError, match="has 2000001 bytes"):
            await producer.send([good, Outgoing(topic, b"k", b"v" * 2_000_000, [])])
        assert await stored(kafka, topic) == []


@pytest.mark.kafka
async def test_a_broker_that_falls_silent_is_told_and_the_producer_comes_back(kafka, topic):
    """aiokafka alone would neither give up nor close."""
    async with Producer(kafka, timeout=1.0) as producer:
        await producer.send([Outgoing(topic, b"k", b"1", [])])
        client = await producer._connected()
        client.client.send = _silence  # every request from here on is never answered
        with pytest.raises(Undelivered, match="acknowledged 0 of 1 records in 1 s"):
            await producer.send([Outgoing(topic, b"k", b"2", [])])
        await producer.send([Outgoing(topic, b"k", b"3", [])])
    assert [value for _, value, _ in await stored(kafka, topic)] == [b"1", b"3"]


async def _silence(*args: object, **kwargs: object) -> None:
    await asyncio.sleep(3600)
