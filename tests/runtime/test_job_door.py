"""Job topics: records of any language become jobs, once; what can't be one is parked with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from skillcore_streams.runtime import Context, Job, Queue
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.jobs import door
from skillcore_streams.runtime.jobs.runner import Runner
from tests.runtime.lab import NOW, Lab, Record, chunk

QUEUE = Queue("door-tests")
TOPIC = QUEUE.topic


class Paint(Job, queue=QUEUE, kind="paint"):
    """A job of these tests."""

    wall: UUID
    coats: int = 1


@QUEUE.translates
def from_the_old_system(name: str, data: dict[str, Any]) -> Job | None:
    return Paint(wall=UUID(data["wallId"])) if name == "paint-wall" else None


WALL = UUID(int=7)


def record(offset: int = 0, *, id: str | None = None, value: Any = None, **headers: str) -> Record:
    """A CloudEvent that orders painting."""
    said = {
        "ce_specversion": "1.0", "ce_id": id or str(uuid4()), "ce_type": "com.skillcore.jobs.door-tests.paint.v1",
        "ce_source": "/api", "ce_time": "2026-03-02T14:00:00Z", "ce_tenantid": "oak",
    } | headers
    body = {"wall": str(WALL)} if value is None else value
    return Record(b"k", json.dumps(body).encode(), [(k, v.encode()) for k, v in said.items()], offset)


def bullmq(body: Any, offset: int = 0, **headers: str) -> Record:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Record(None, raw, [(k, v.encode()) for k, v in headers.items()], offset)


async def take(lab: Lab, *records: Record, start: int = 0) -> None:
    """Bring the records through the chunk transaction, as Kafka would."""
    await lab.begin(topic=TOPIC)
    lab.core.job_topics = frozenset({TOPIC})
    await deliver(chunk(records, topic=TOPIC, start=start), lab.core)


async def reason(lab: Lab, one: Record) -> str:
    await take(lab, one)
    assert await lab.value("select count(*) from job") == 0
    return str(await lab.value("select reason from dead_letter"))


async def test_a_cloud_event_is_a_job_and_comes_once(lab: Lab) -> None:
    await take(lab, record(0, id="a"), record(1, id="a"), record(2, id="b"))
    await deliver(chunk([record(3, id="a")], topic=TOPIC), lab.core)

    rows = await lab.rows("select tenant_id, queue, kind, topic, partition, record_offset from job order by created_at")
    assert [r["record_offset"] for r in rows] == [0, 2]
    assert rows[0]["tenant_id"] == "oak"
    assert (rows[0]["queue"], rows[0]["kind"], rows[0]["topic"]) == ("door-tests", "paint", TOPIC)


async def test_a_job_from_the_topic_runs(lab: Lab) -> None:
    seen: list[tuple[str, UUID]] = []

    async def paint(job: Paint, ctx: Context) -> None:
        seen.append((ctx.tenant, job.wall))

    lab.handler(paint, Paint)  # type: ignore[arg-type]
    await take(lab, record())
    await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w").run_due()

    assert seen == [("oak", WALL)]


async def test_a_job_of_bullmq_is_translated_with_its_options(lab: Lab) -> None:
    options = {"priority": 3, "attempts": 7, "delay": 60_000, "backoff": {"type": "fixed", "delay": 500},
               "removeOnComplete": True}
    await take(lab, bullmq({"name": "paint-wall", "data": {"wallId": str(WALL)}, "opts": options}, ce_tenantid="oak"))

    [job] = await lab.rows("select * from job_now")
    assert (job["kind"], job["priority"], job["max_attempts"], job["state"]) == ("paint", 3, 7, "delayed")
    assert json.loads(job["options"]) == {"backoff": {"type": "fixed", "delay": 500, "jitter": 0}}


async def test_a_job_of_bullmq_without_an_id_is_one_job_however_often_its_record_is_read(lab: Lab) -> None:
    one = bullmq({"name": "paint-wall", "data": {"wallId": str(WALL)}}, ce_tenantid="oak")
    first = door.decode(one, TOPIC, 0, now=NOW)
    second = door.decode(one, TOPIC, 0, now=NOW)

    assert not isinstance(first, door.Parked)
    assert not isinstance(second, door.Parked)
    assert first.id == second.id


@pytest.mark.parametrize(("options", "said"), [
    ({"priority": 2**31}, "priority"),
    ({"priority": -1}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"attempts": 0}, "attempts"),
    ({"attempts": -1}, "attempts"),
    ({"attempts": 10**9}, "attempts"),
    ({"delay": -5}, "delay"),
    ({"delay": 1e300}, "delay"),
    ({"delay": (datetime(2300, 1, 1, tzinfo=UTC) - NOW) / timedelta(milliseconds=1)}, "delay"),
    ({"jobId": "x" * 1_000_000}, ""),
    ({"backoff": {"type": "quadratic", "delay": 5}}, "backoff"),
    ({"deduplication": {"id": "k" * 600}}, ""),
    ({"timeout": 0}, "timeout"),
])
async def test_options_that_mean_nothing_are_parked_with_the_option_s_name(
    lab: Lab, options: dict[str, Any], said: str
) -> None:
    body = {"name": "paint-wall", "data": {"wallId": str(WALL)}, "opts": options}
    assert said in await reason(lab, bullmq(body, ce_tenantid="oak"))


@pytest.mark.parametrize(("one", "said"), [
    (record(ce_type="com.skillcore.jobs.other.paint.v1"), "ce_type must be com.skillcore.jobs.door-tests.<kind>.v1"),
    (record(ce_type="com.skillcore.jobs.door-tests.paint.v2"), "ce_type must be"),
    (record(ce_type="com.skillcore.jobs.door-tests.__class__.v1"), "unknown kind of job"),
    (record(value={"wall": "not a uuid"}), "invalid job: wall"),
    (record(value={"coats": 2}), "invalid job: wall: missing"),
    (record(value=[1]), "not a JSON object"),
    (record(value={"wall": str(WALL), "coats": 1e400}), "invalid job: coats"),
    (record(ce_jobopts='{"priority": -1}'), "priority"),
    (record(ce_jobopts="]"), "invalid job"),
    (record(ce_time="2026-03-02T14:00:00"), "no offset"),
    (bullmq(b"\xff\xfe"), "not JSON"),
    (bullmq(b"null"), "not a JSON object"),
    (bullmq({"name": "paint-wall", "data": {"wallId": str(WALL)}}), "names no tenant"),
    (bullmq({"name": "nobody-knows", "data": {}}, ce_tenantid="oak"), "unknown kind of job"),
    (bullmq({"data": {}}, ce_tenantid="oak"), 'neither a CloudEvent (no ce_type header) nor a BullMQ job'),
])
async def test_what_is_no_job_is_parked_with_a_reason(lab: Lab, one: Record, said: str) -> None:
    assert said in await reason(lab, one)


async def test_bad_records_do_not_keep_good_ones_away(lab: Lab) -> None:
    await take(lab, record(0), bullmq(b"]", 1), record(2, value={}), record(3))

    assert await lab.value("select count(*) from job") == 2
    assert await lab.value("select count(*) from dead_letter") == 2
    assert await lab.value("select next_offset from progress where topic = $1", TOPIC) == 4


async def test_what_the_product_writes_is_read_again(lab: Lab) -> None:
    topic, key, headers, value = door.encode(Paint(wall=WALL, coats=3), "oak", options={"priority": 2}, now=NOW)
    made = Record(key, value, [(k, v.encode()) for k, v in headers.items()])

    order = door.decode(made, topic, 0, now=NOW)

    assert not isinstance(order, door.Parked), order.reason
    assert order.job == Paint(wall=WALL, coats=3)
    assert order.priority == 2
