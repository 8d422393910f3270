"""The official CloudEvents SDK and our door agree on Kafka's protocol binding, in both directions and both modes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v03.event import CloudEvent as OldCloudEvent
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams import contracts
from skillcore_streams.runtime.envelope import Arrival, Parked, decode, encode
from skillcore_streams.runtime.messages import EVENT_TYPES, Event, Meta, derive_id

EVENTS = {p.name: p for p in contracts.promises_now().values() if p.is_event}
NOW = datetime(2025, 10, 6, 15, tzinfo=UTC)
MARKED = EVENTS["AttendanceMarked.v1"]

Mode = Callable[..., KafkaMessage]
both_modes = pytest.mark.parametrize("mode", [kafka.to_binary, kafka.to_structured], ids=["binary", "structured"])


@dataclass
class Record:
    """What Kafka would hold of a message of the SDK."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    offset: int = 0
    timestamp: int = int(NOW.timestamp() * 1000)


def attributes(type_: str = MARKED.route["type"], **more: Any) -> dict[str, Any]:
    given = {"id": "a-1", "source": "/sis/oak", "type": type_, "time": NOW, "tenantid": "oak"} | more
    return {name: value for name, value in given.items() if value is not None}


def payload(name: str = MARKED.name) -> dict[str, Any]:
    made: dict[str, Any] = EVENTS[name].schema["examples"][0]
    return made


def key_of(event: Any) -> bytes:
    """The key that our topics ask for."""
    cls = EVENT_TYPES[event.get_type()]
    data = event.get_data()
    return str((json.loads(data) if isinstance(data, bytes) else data)[cls.__key__]).encode()


def door(message: KafkaMessage, topic: str = MARKED.route["topic"]) -> Arrival | Parked:
    key = message.key.encode() if isinstance(message.key, str) else message.key
    return decode(Record(key, message.value, list(message.headers.items())), topic, 0, now=NOW)


def read(message: KafkaMessage, topic: str = MARKED.route["topic"]) -> Event:
    arrival = door(message, topic)
    assert isinstance(arrival, Arrival), arrival
    return arrival.event


def written(mode: Mode, data: Any = None, **more: Any) -> KafkaMessage:
    event = CloudEvent(attributes(**more), payload() if data is None else data)
    return mode(event, JSONFormat(), key_of)


# What the SDK writes, we read ----------------------------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize("name", EVENTS)
def test_what_the_sdk_writes_is_the_event(name: str, mode: Mode) -> None:
    route = EVENTS[name].route
    sent = CloudEvent(attributes(route["type"], datacontenttype="application/json"), payload(name))

    event = read(mode(sent, JSONFormat(), key_of), route["topic"])

    assert type(event) is EVENT_TYPES[route["type"]]
    assert event == type(event).model_validate_json(json.dumps(payload(name)))
    assert (event.meta.id, event.meta.source, event.meta.time, event.meta.tenant) == ("a-1", "/sis/oak", NOW, "oak")


@both_modes
def test_the_ids_of_the_story_arrive(mode: Mode) -> None:
    meta = read(written(mode, correlationid="c", causationid="b", actorid="u")).meta

    assert (meta.correlation_id, meta.causation_id, meta.actor_id) == ("c", "b", "u")


@both_modes
def test_missing_optional_attributes_are_missing(mode: Mode) -> None:
    meta = read(written(mode)).meta

    assert (meta.causation_id, meta.actor_id) == (None, None)
    assert meta.correlation_id == str(meta.key)


@both_modes
def test_further_attributes_are_kept(mode: Mode) -> None:
    meta = read(written(mode, subject="student/7", grade="x", term=3, dataschema="/schemas/a")).meta

    assert meta.extra == {"subject": "student/7", "grade": "x", "term": "3", "dataschema": "/schemas/a"}


def test_in_structured_mode_numbers_and_truth_values_read_as_the_specification_writes_them() -> None:
    extra = read(written(kafka.to_structured, term=3, final=True)).meta.extra

    assert extra == {"term": "3", "final": "true"}


@both_modes
@pytest.mark.parametrize("type_", [None, "application/json", "application/json; charset=utf-8", "text/json"])
def test_any_way_to_say_json_is_taken(mode: Mode, type_: str | None) -> None:
    assert read(written(mode, datacontenttype=type_)) == read(written(mode))


@both_modes
def test_bytes_that_are_json_are_the_same_event(mode: Mode) -> None:
    assert read(written(mode, json.dumps(payload()).encode())) == read(written(mode))


@both_modes
@pytest.mark.parametrize("data", [b"\xff\xfe", b"[]", b"", "text"])
def test_data_that_is_no_json_object_is_parked(mode: Mode, data: Any) -> None:
    message = mode(CloudEvent(attributes(), data), JSONFormat(), lambda event: b"k")

    assert isinstance(door(message), Parked)


@both_modes
def test_the_sdk_s_own_way_to_a_key_is_the_partitionkey(mode: Mode) -> None:
    event = CloudEvent(attributes(partitionkey=payload()["student_id"]), payload())

    assert read(mode(event, JSONFormat())).partition_key() == payload()["student_id"]


@both_modes
def test_without_a_key_or_a_tenant_it_is_parked_with_what_to_do(mode: Mode) -> None:
    no_key = door(mode(CloudEvent(attributes(), payload()), JSONFormat()))
    no_tenant = door(written(mode, tenantid=None))

    assert isinstance(no_key, Parked)
    assert "student_id" in no_key.reason
    assert isinstance(no_tenant, Parked)
    assert "tenantid" in no_tenant.reason


@both_modes
def test_an_event_of_version_0_3_is_parked(mode: Mode) -> None:
    parked = door(mode(OldCloudEvent(attributes(specversion="0.3"), payload()), JSONFormat(), key_of))

    assert isinstance(parked, Parked)
    assert "specversion" in parked.reason


words = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co")), min_size=1, max_size=40
)  # what CloudEvents calls a String: no control characters, no surrogates
moments = st.builds(
    lambda moment, minutes: moment.replace(tzinfo=timezone(timedelta(minutes=minutes))),
    st.datetimes(datetime(2001, 1, 1), datetime(2025, 10, 5)),
    st.integers(-14 * 60, 14 * 60),
)
names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(lambda n: n not in attributes() | {"data": 1})


@given(words, words, words, moments, st.dictionaries(names, words | st.integers(-9, 9), max_size=3), st.sampled_from(
    [kafka.to_binary, kafka.to_structured]
))
def test_any_attributes_mean_the_same_here_and_there(
    id_: str, source: str, tenant: str, time: datetime, more: dict[str, Any], mode: Mode
) -> None:
    reserved = {"specversion", "datacontenttype", "dataschema", "subject", "correlationid", "causationid", "actorid"}
    more = {name: value for name, value in more.items() if name not in reserved}

    meta = read(written(mode, id=id_, source=source, tenantid=tenant, time=time, **more)).meta

    assert (meta.id, meta.source, meta.tenant, meta.time) == (id_, source, tenant, time)
    assert meta.extra == {name: str(value) for name, value in more.items()}
    assert meta.key == derive_id(tenant, source, id_)


# What we write, the SDK reads ----------------------------------------------------------------------------------------


def ours(name: str = MARKED.name, **meta: Any) -> tuple[Event, KafkaMessage]:
    """An event of ours, and the message that encode() makes of it."""
    event = EVENT_TYPES[EVENTS[name].route["type"]].model_validate_json(json.dumps(payload(name)))
    key = derive_id("oak", "/skillcore", "e-1")
    event.with_meta(Meta(**{
        "tenant": "oak", "id": "e-1", "source": "/skillcore", "time": NOW, "key": key, "correlation_id": "c",
    } | meta))  # fmt: skip
    _, record_key, headers, value = encode(event)
    return event, KafkaMessage({n: text.encode() for n, text in headers.items()}, record_key, value)


@pytest.mark.parametrize("name", EVENTS)
def test_what_we_write_the_sdk_reads_with_all_attributes(name: str) -> None:
    event, message = ours(name, causation_id="b", actor_id="u")

    seen = kafka.from_binary(message, JSONFormat())

    assert seen.get_attributes() == {
        "specversion": "1.0", "id": "e-1", "source": "/skillcore", "type": EVENTS[name].route["type"], "time": NOW,
        "datacontenttype": "application/json", "tenantid": "oak", "correlationid": "c", "causationid": "b",
        "actorid": "u", "partitionkey": event.partition_key(),
    }
    assert seen.get_data() == json.loads(message.value)
    assert type(event).model_validate_json(json.dumps(seen.get_data())) == event


def test_what_we_leave_out_is_not_there() -> None:
    _, message = ours()

    seen = kafka.from_binary(message, JSONFormat()).get_attributes()

    assert not {"causationid", "actorid", "subject", "dataschema"} & seen.keys()


@given(words, words, words, moments)
def test_any_envelope_of_ours_means_the_same_there(id_: str, source: str, tenant: str, time: datetime) -> None:
    _, message = ours(id=id_, source=source, tenant=tenant, time=time)

    seen = kafka.from_binary(message, JSONFormat())

    assert (seen.get_id(), seen.get_source(), seen.get_time()) == (id_, source, time)
    assert seen.get_extension("tenantid") == tenant


def test_the_sdk_sees_binary_mode_in_our_headers() -> None:
    _, message = ours()

    assert kafka.from_kafka(message, JSONFormat()).get_id() == "e-1"


@both_modes
def test_through_the_sdk_and_back_an_event_is_the_same(mode: Mode) -> None:
    event, message = ours(causation_id="b", actor_id="u")

    again = read(mode(kafka.from_binary(message, JSONFormat()), JSONFormat()))

    assert again == event
    assert again.meta._replace(extra={}) == event.meta._replace(extra={})
