"""`queues`, `jobs` and `dead-letters` as an operator runs them, beside a worker, through to Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Consumer, Producer

from tests.commands.lab import API_TOKEN, STUDENT, Machine, RunningWorker, until

WHY = ("--reason", "a test", "--actor", "ann")
SCHOOL_DAY = json.dumps({"school_id": STUDENT, "day": "2026-03-02"})
QUEUE = ("attendance-aggregation", "school_day", "--tenant", "oak", "--data", SCHOOL_DAY)


def state(machine: Machine, job: str) -> str:
    return str(machine.json("jobs", "show", job)["state"])


def test_a_job_is_added_once_by_its_id_and_runs(machine: Machine, worker: RunningWorker) -> None:
    added = machine.json("jobs", "add", *QUEUE, "--id", "monday")
    again = machine.run("jobs", "add", *QUEUE, "--id", "monday")
    [job] = added["ids"]
    until(lambda: state(machine, job) == "completed", 20, worker.said)
    page = machine.run("jobs", "show", job[:13])

    assert added["added"] == 1
    assert "was added before" in again
    assert "jobs add by" in page
    assert "completed on" in page
    assert "It noted nothing." in machine.run("jobs", "logs", job)


def test_what_cannot_be_added_is_said_in_a_sentence_and_exits_64(machine: Machine) -> None:
    assert "there is no queue lawn-mowing" in machine.run(
        "jobs", "add", "lawn-mowing", "mow", "--tenant", "oak", "--data", "{}", code=64)  # fmt: skip
    assert "there is no queue handler-calls" in machine.run(
        "jobs", "add", "handler-calls", "x", "--tenant", "oak", "--data", "{}", code=64)  # fmt: skip
    unknown = machine.run("jobs", "add", "attendance-aggregation", "mow", "--tenant", "oak", "--data", "{}", code=64)
    assert "school_day" in unknown
    bad = '{"school_id": "Penelope", "day": "2026-03-02"}'
    refused = machine.run("jobs", "add", *QUEUE[:-1], bad, code=64)
    assert "school_id" in refused
    assert "Penelope" not in refused
    assert "priority" in machine.run("jobs", "add", *QUEUE, "--priority", "-1", code=64)
    assert "is not JSON" in machine.run("jobs", "add", *QUEUE[:-1], "{", code=64)
    assert "cannot be read" in machine.run("jobs", "add", *QUEUE[:-1], "@/nowhere", code=64)


def test_many_jobs_are_added_from_lines_all_or_none(machine: Machine, tmp_path: Path) -> None:
    lines = [json.dumps({"name": "school_day", "data": json.loads(SCHOOL_DAY), "opts": {"delay": 10**8}})] * 3
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("\n".join(lines))
    bad.write_text("\n".join([*lines, '{"name": "school_day", "data": {}}']))
    tenant = f"bulk-{uuid4().hex[:6]}"

    said = machine.run("jobs", "add", "attendance-aggregation", "--tenant", tenant, "--bulk", str(bad), code=64)
    assert "line 4" in said
    assert machine.json("jobs", "list", "--tenant", tenant)["jobs"] == []
    assert "3 jobs added" in machine.run("jobs", "add", QUEUE[0], "--tenant", tenant, "--bulk", str(good))
    assert len(machine.json("jobs", "list", "--tenant", tenant, "--state", "delayed")["jobs"]) == 3


def test_a_queue_is_paused_and_resumed_and_a_waiting_job_cancelled(machine: Machine, worker: RunningWorker) -> None:
    assert "Missing option '--reason'" in machine.run("queues", "pause", QUEUE[0], code=64)
    assert "is paused" in machine.run("queues", "pause", QUEUE[0], *WHY)
    try:
        [kept, gone] = (machine.json("jobs", "add", *QUEUE)["ids"][0] for _ in range(2))
        [row] = [q for q in machine.json("queues") if q["queue"] == QUEUE[0]]
        table = machine.run("queues", "list")
        assert "it had not begun" in machine.run("jobs", "cancel", gone, *WHY)
        assert "already" in machine.run("jobs", "cancel", gone, *WHY)
        assert state(machine, kept) == "waiting"
    finally:
        machine.run("queues", "resume", QUEUE[0], *WHY)
    until(lambda: state(machine, kept) == "completed", 20, worker.said)

    assert row["waiting"] >= 2
    assert row["paused_by"] == "ann"
    assert "by ann" in table
    assert state(machine, gone) == "cancelled"
    assert "there is no queue typo" in machine.run("queues", "pause", "typo", *WHY, code=1)


def test_a_delayed_job_is_promoted(machine: Machine, worker: RunningWorker) -> None:
    [job] = machine.json("jobs", "add", *QUEUE, "--delay", "3600")["ids"]
    assert state(machine, job) == "delayed"

    assert "it is due now" in machine.run("jobs", "promote", job, *WHY)

    until(lambda: state(machine, job) == "completed", 20, worker.said)
    assert "not delayed" in machine.run("jobs", "promote", job, *WHY, code=1)
    assert "it has not failed" in machine.run("jobs", "retry", job, *WHY, code=1)
    assert "no job has an id" in machine.run("jobs", "cancel", str(uuid4()), *WHY, code=1)


def test_a_record_with_a_wrong_key_is_copied_to_its_dlq_and_retried_with_the_right_one(
    machine: Machine, worker: RunningWorker
) -> None:
    topic, tenant, event = "skillcore.rostering.events.v1", f"key-{uuid4().hex[:6]}", str(uuid4())
    user = {"user_id": STUDENT, "sourced_id": "s1", "roles": [], "given_name": "Penelope", "family_name": "Ash",
            "status": "active"}  # fmt: skip
    headers = {"ce_specversion": "1.0", "ce_id": event, "ce_type": "com.skillcore.rostering.UserCreated.v1",
               "ce_source": "/tests", "ce_time": "2026-03-02T15:00:00Z", "ce_tenantid": tenant}  # fmt: skip
    producer = Producer({"bootstrap.servers": machine.kafka})
    producer.produce(topic, json.dumps(user).encode(), b"wrong", headers=list(headers.items()))
    producer.flush()
    until(lambda: machine.json("dead-letters", "list", "--tenant", tenant, "--each"), 30, worker.said)
    [letter] = machine.json("dead-letters", "list", "--tenant", tenant, "--each")

    dry = machine.run("dead-letters", "retry", "--tenant", tenant, *WHY)
    assert "1 dead letters would be retried. Nothing was changed" in dry
    assert machine.json("dead-letters", "list", "--tenant", tenant, "--each") == [letter]
    assert "with the right key" in machine.run("dead-letters", "retry", "--tenant", tenant, "--yes", *WHY)
    until(lambda: machine.json("events", "show", "--tenant", tenant), 30, worker.said)
    again = machine.run("dead-letters", "retry", letter["id"], "--yes", *WHY, code=1)
    copy = _copy(machine.kafka, f"{topic}.dlq", letter["id"])

    assert "it was retried already" in again
    assert "by ann" in again
    assert machine.json("events", "show", "--tenant", tenant)[0]["id"] == event
    assert (copy["key"], json.loads(copy["value"])) == (b"wrong", user)
    assert copy["headers"]["ce_id"] == event.encode()
    assert copy["headers"]["__connect.errors.stage"] == b"VALUE_CONVERTER"
    assert copy["headers"]["__connect.errors.exception.message"].startswith(b"wrong key")


def _copy(kafka: str, topic: str, letter: str) -> dict:  # type: ignore[type-arg]
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": str(uuid4()), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        for _ in range(300):
            record = consumer.poll(0.1)
            if record is None or record.error():
                continue
            headers = dict(record.headers() or [])
            if headers.get("skillcore-dead-letter-id") == letter.encode():
                return {"key": record.key(), "value": record.value(), "headers": headers}
        raise AssertionError(f"no copy of {letter} in {topic}")
    finally:
        consumer.close()


def test_letters_are_discarded_by_filter_after_a_dry_run(machine: Machine, worker: RunningWorker) -> None:
    topic, tenant = "skillcore.chat.events.v1", f"bad-{uuid4().hex[:6]}"
    producer = Producer({"bootstrap.servers": machine.kafka})
    for n in range(5):
        producer.produce(topic, b"[%d" % n, b"k", headers=[("ce_tenantid", tenant.encode())])
    producer.flush()
    until(lambda: len(machine.json("dead-letters", "list", "--tenant", tenant, "--each")) == 5, 30, worker.said)
    filters = ("--topic", topic, "--tenant", tenant, "--kind", "record")

    assert "name one letter by its id" in machine.run("dead-letters", "discard", *WHY, code=64)
    assert "5 dead letters would be discarded" in machine.run("dead-letters", "discard", *filters, *WHY)
    assert "5 dead letters discarded, 0 not" in machine.run("dead-letters", "discard", *filters, "--yes", *WHY)
    assert "No open dead letters" in machine.run("dead-letters", "list", *filters)
    [group] = machine.json("dead-letters", "list", *filters, "--status", "discarded")
    assert group["letters"] == 5


def test_the_worker_shows_the_same_under_api(machine: Machine, worker: RunningWorker) -> None:
    [job] = machine.json("jobs", "add", *QUEUE, "--delay", "3600")["ids"]

    assert json.loads(worker.get(f"/api/jobs/{job}")[1])["state"] == "delayed"
    assert job in worker.get(f"/api/jobs?queue={QUEUE[0]}&state=delayed")[1]
    assert f'bullmq_job_count{{queue="{QUEUE[0]}",state="delayed"}}' in worker.get("/metrics")[1]
    until(lambda: QUEUE[0] in worker.get("/api/queues")[1], 10)
    act = f"/api/jobs/{job}/cancel", "POST", {"reason": "a test"}
    assert worker.get(*act)[0] == 401
    status, said = worker.get(*act, Authorization=f"Bearer {API_TOKEN}", X_Actor="bob")
    assert (status, json.loads(said)["said"]) == (200, "it is cancelled; it had not begun")
    assert "jobs cancel by bob: a test" in machine.run("jobs", "show", job)
    assert API_TOKEN not in worker.log.read_text()
    assert worker.get("/api/nothing")[0] == 404
    assert worker.get("/api/jobs", "DELETE")[0] == 405
