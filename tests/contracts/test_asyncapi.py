"""schemas/asyncapi.yaml is AsyncAPI 3.1 by its own JSON Schema, and tells the truth about topics, keys and messages."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from skillcore_streams import contracts
from skillcore_streams.adapters.kafka_admin import Declaration
from skillcore_streams.config import ROOT
from skillcore_streams.contracts.asyncapi import published
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.jobs import door
from tests.runtime.lab import NOW, Record

OFFICIAL = Draft7Validator(json.loads((Path(__file__).parent / "vendored" / "asyncapi-3.1.0.json").read_text()))
DOCUMENT: dict[str, Any] = yaml.safe_load(contracts.generate()["asyncapi.yaml"])
PROMISES = contracts.promises_now()
EVENTS = {name: p for name, p in PROMISES.items() if p.is_event}
JOBS = {name: p for name, p in PROMISES.items() if not p.is_event}


def resolve(ref: str) -> Any:
    found: Any = DOCUMENT
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in refs(value)]
    return [ref for item in node for ref in refs(item)] if isinstance(node, list) else []


def test_the_official_schema_accepts_it() -> None:
    assert [error.message for error in OFFICIAL.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize("path", [
    ("info", "title"), ("channels", "attendance", "address"), ("operations", "receive-attendance", "action"),
    ("components", "messages", "AttendanceMarked.v1", "bindings", "kafka", "key"), ("asyncapi",),
])
def test_the_official_schema_would_refuse_a_mistake(path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(DOCUMENT)
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 17

    assert not OFFICIAL.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    found = refs(DOCUMENT)

    assert len(found) > 300
    assert all(resolve(ref) for ref in found)


def test_channels_are_the_topics_of_events_and_jobs_as_they_are_declared() -> None:
    declared = {t.name: t for t in Declaration.read(ROOT / "kafka" / "topics.yaml").topics_for("production")}

    for channel in DOCUMENT["channels"].values():
        topic = declared[channel["address"]]
        kafka = channel["bindings"]["kafka"]
        assert kafka["topic"] == topic.name
        assert (kafka["partitions"], kafka["replicas"]) == (topic.partitions, topic.replicas)
        assert str(kafka["topicConfiguration"]["retention.ms"]) == topic.config["retention.ms"]
    assert {c["address"] for c in DOCUMENT["channels"].values()} == {p.route["topic"] for p in PROMISES.values()}


@pytest.mark.parametrize("name", EVENTS)
def test_a_message_has_type_key_headers_and_an_example_that_fits(name: str) -> None:
    promise, message = EVENTS[name], DOCUMENT["components"]["messages"][name]
    headers = resolve(message["traits"][0]["$ref"])["headers"]
    [case] = message["examples"]
    schema = {**resolve(message["payload"]["schema"]["$ref"]), "components": DOCUMENT["components"]}

    assert message["name"] == promise.route["type"]
    assert promise.route["key"] in message["bindings"]["kafka"]["key"]["description"]
    assert message["bindings"]["kafka"]["key"]["format"] == "uuid"
    assert Draft202012Validator(schema).is_valid(case["payload"])
    for part in (headers, message["headers"]):
        assert Draft202012Validator(part).is_valid(case["headers"])
    assert not Draft202012Validator(headers).is_valid({})


@pytest.mark.parametrize("name", JOBS)
def test_the_example_of_a_job_comes_through_the_door(name: str) -> None:
    """What a producer copies from the document is taken in by what reads the topic."""
    promise, message = JOBS[name], DOCUMENT["components"]["messages"][name]
    [case] = message["examples"]
    headers = [(k, v.encode()) for k, v in (case["headers"] | {"ce_jobopts": '{"priority": 5}'}).items()]
    record = Record(b"any", json.dumps(case["payload"]).encode(), [*headers])

    order = door.decode(record, promise.route["topic"], 0, now=NOW)

    assert isinstance(order, Order), order.reason
    assert (order.queue, order.kind) == tuple(name.split("."))
    assert (order.priority, order.meta.tenant) == (5, "oak")
    assert "ce_jobopts" in resolve(message["traits"][1]["$ref"])["headers"]["properties"]


def test_the_channel_of_each_message_is_its_topic() -> None:
    for channel in DOCUMENT["channels"].values():
        for name in channel["messages"]:
            assert PROMISES[name].route["topic"] == channel["address"]
    assert sum(len(c["messages"]) for c in DOCUMENT["channels"].values()) == len(PROMISES)


def test_we_receive_everything_and_send_those_that_follow_from_others() -> None:
    def messages(action: str) -> set[str]:
        found = [o for o in DOCUMENT["operations"].values() if o["action"] == action]
        return {m["$ref"].rpartition("/")[2] for o in found for m in o["messages"]}

    assert messages("receive") == set(PROMISES)
    assert {"StudentAbsent.v1", "AttendanceThresholdReached.v1", "ChatMemberJoined.v1"} <= messages("send")
    assert "AttendanceMarked.v1" not in messages("send")


def test_what_handlers_publish_is_among_what_we_say_we_send() -> None:
    catalog = json.loads((contracts.FOLDER / "catalog.json").read_text())
    code = "".join(p.read_text() for f in ("handlers", "queues") for p in (ROOT / "skillcore_streams" / f).glob("*.py"))
    names = {p.title for p in EVENTS.values()}
    built = names & set(re.findall(r"publish\(\s*(\w+)\(", code))

    assert built
    assert built <= published(catalog)


def test_the_document_is_small_enough_to_read_and_has_no_anchors() -> None:
    text = contracts.generate()["asyncapi.yaml"]

    assert "&id" not in text
    assert len(text) < 1_000_000
