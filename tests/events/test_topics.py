"""Code and kafka/topics.yaml name the same topics, and importing the vocabulary imports no client library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skillcore_streams import events, handlers, queues
from skillcore_streams.adapters.kafka_admin import Declaration
from skillcore_streams.config import ROOT
from skillcore_streams.runtime.messages import EVENT_TYPES, QUEUES
from skillcore_streams.runtime.registry import REGISTRY

for package in (events, queues, handlers):
    package.load()

DECLARED = {topic.name for topic in Declaration.read(ROOT / "kafka" / "topics.yaml").topics_for("local")}
SEVEN = {
    "notification-delivery", "grade-processing", "attendance-aggregation", "report-generation", "data-archival",
    "intervention-detection", "compliance-reporting",
}


def test_every_event_s_topic_is_declared_with_its_dead_letters() -> None:
    topics = {cls.__topic__ for cls in EVENT_TYPES.values()}

    assert len(topics) == 11
    assert topics | {f"{topic}.dlq" for topic in topics} <= DECLARED


def test_the_seven_queues_are_declared_in_code_and_in_kafka() -> None:
    ours = {name: queue for name, queue in QUEUES.items() if name in SEVEN}

    assert set(ours) == SEVEN
    assert {queue.topic for queue in ours.values()} <= DECLARED


def test_handlers_have_the_ids_of_the_catalogue() -> None:
    import json

    known = {h["id"]: h["event"] for h in json.loads((ROOT / "schemas" / "catalog.json").read_text())["handlers"]}

    for handler in REGISTRY.events():
        if handler.function.__module__.startswith("skillcore_streams."):
            assert known[handler.id] == handler.message.__name__


@pytest.mark.parametrize("package", ["events", "handlers", "queues", "rules", "runtime"])
def test_importing_what_contributors_write_imports_no_client_library(package: str) -> None:
    code = f"""
import sys
import skillcore_streams.{package} as p
getattr(p, 'load', lambda: None)()
print(*sorted({{'faust', 'mode', 'aiokafka', 'asyncpg', 'redis', 'aiobotocore', 'confluent_kafka'}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
