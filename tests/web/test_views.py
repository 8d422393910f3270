"""What a worker shows, what it hides, and what it does when it cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from pathlib import Path

import pytest

from skillcore_streams.config import ROOT
from tests.commands.lab import Machine, RunningWorker, new_database, until

FAUSTS_OWN = (
    "/", "/graph", "/graph/", "/router/", "/router", "/table/", "/table/x/y/", "/performance/", "/assignment/",
    "/stats/", "/livecheck/", "/production_index/", "/docs/tasks", "/health/../table/", "/HEALTH",
)


def test_health_answers_as_the_seed_did(worker: RunningWorker) -> None:
    status, body = worker.get("/health")

    assert status == 200
    assert json.loads(body)["status"] == "ok"
    assert json.loads(body)["handlersRegistered"] >= 8


def test_health_events_has_the_seed_s_shape(worker: RunningWorker) -> None:
    def settled() -> bool:
        """All is processed, and a heartbeat has said who has the partitions."""
        said = json.loads(worker.get("/health/events")[1])["streams"]["domain-events"]
        return said["pending"] == 0 and said["consumerGroups"][0]["consumers"] > 0

    until(settled, 20)
    status, text = worker.get("/health/events")
    body = json.loads(text)
    stream = body["streams"]["domain-events"]

    assert status == 200
    assert body["status"] in ("healthy", "degraded")
    assert set(stream) >= {"pending", "consumerGroups", "lastEventTimestamp"}
    assert set(stream["consumerGroups"][0]) == {"name", "consumers", "pending", "lag"}
    assert stream["consumerGroups"][0]["name"] == "event-workers"
    assert stream["consumerGroups"][0]["consumers"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stream["lastEventTimestamp"])
    assert set(body["dlq"]) == {"messageCount", "oldestMessage"}
    assert body["handlersRegistered"] >= 8


def test_live_and_ready(worker: RunningWorker) -> None:
    assert worker.get("/livez") == (200, '{"status":"ok","problems":[]}')
    assert worker.get("/readyz")[0] == 200


@pytest.mark.parametrize("name", [
    "event_worker_count", "event_processing_duration_seconds", "event_handler_errors_total", "dlq_message_count",
    "bullmq_queue_waiting_count", "bullmq_queue_active_count", "bullmq_queue_completed_count",
    "bullmq_queue_failed_count", "bullmq_processing_duration_seconds",
])
def test_the_seed_s_nine_metrics_are_there(worker: RunningWorker, name: str) -> None:
    assert re.search(rf"^# TYPE {name} ", worker.get("/metrics")[1], re.MULTILINE)


def test_metrics_carry_handlers_and_queues_and_no_person(worker: RunningWorker) -> None:
    text = worker.get("/metrics")[1]

    assert 'handler="demographics.UserProfileHandler"' in text
    assert 'bullmq_queue_waiting_count{queue="notification-delivery"}' in text
    assert "Penelope" not in text
    assert "oak" not in text


@pytest.mark.parametrize("path", FAUSTS_OWN)
def test_faust_s_own_pages_do_not_exist(worker: RunningWorker, path: str) -> None:
    assert worker.get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_views_can_only_be_read(worker: RunningWorker, method: str) -> None:
    assert worker.get("/health", method)[0] == 405


def test_a_worker_listens_on_loopback_and_nowhere_else(worker: RunningWorker) -> None:
    open_files = [os.readlink(fd) for fd in Path(f"/proc/{worker.process.pid}/fd").iterdir()]
    inodes = {name[8:-1] for name in open_files if name.startswith("socket:[")}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{worker.process.pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                listening.append(parts[1])

    assert listening == [f"0100007F:{worker.port:04X}"]


def test_a_port_that_is_taken_is_said_in_a_sentence(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = machine.worker_ends(SKILLCORE_WEB_PORT=str(taken.getsockname()[1]))

    assert code == 78
    assert "SKILLCORE_WEB_PORT" in said
    assert "Traceback" not in said


def test_missing_topics_end_the_worker_with_the_command_to_run(machine: Machine, tmp_path: Path) -> None:
    declared = tmp_path / "topics.yaml"
    declared.write_text((ROOT / "kafka" / "topics.yaml").read_text().replace("chat", "chatter"))

    code, said = machine.worker_ends(SKILLCORE_TOPICS_FILE=str(declared))

    assert code == 78
    assert "skillcore topics apply" in said
    assert "Traceback" not in said


def test_an_old_schema_ends_the_worker_with_the_command_to_run(machine: Machine) -> None:
    code, said = machine.worker_ends(SKILLCORE_DATABASE_URL=asyncio.run(new_database(machine.dsn)))

    assert code == 78
    assert "skillcore migrate" in said
    assert "Traceback" not in said


def test_an_unknown_setting_ends_the_worker(machine: Machine) -> None:
    code, said = machine.worker_ends(SKILLCORE_KAFKAA="x")

    assert code == 78
    assert "SKILLCORE_KAFKAA" in said


def test_a_broker_that_is_away_ends_the_worker_to_be_started_again(machine: Machine) -> None:
    code, said = machine.worker_ends(SKILLCORE_KAFKA="127.0.0.1:1")

    assert code == 1
    assert "Kafka does not answer" in said
    assert "Traceback" not in said


def test_without_postgres_a_worker_lives_but_is_not_ready(machine: Machine) -> None:
    with machine.worker(SKILLCORE_DATABASE_URL="postgresql://x@127.0.0.1:1/x") as alone:
        until(lambda: alone.get("/livez")[0] == 200, 40, alone.said)
        status, body = alone.get("/readyz")

        assert status == 503
        assert "Postgres is away" in body
        assert alone.get("/health/events")[0] == 503


def test_sigterm_ends_a_worker_cleanly(machine: Machine) -> None:
    with machine.worker() as short:
        short.ready()

        assert short.stop() == 0
        assert "Traceback" not in short.said()
