"""The door: three inputs become one form, everything else is parked with a reason that quotes nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skillcore_streams.runtime.envelope import Arrival, Parked, decode, encode
from tests.runtime.lab import NOW, TOPIC, Probe, Record, record

STUDENT = uuid4()
CANARY = "Penelope Featherstone"


def door(made: Record, topic: str = TOPIC, tenant: str | None = None) -> Arrival | Parked:
    return decode(made, topic, 0, now=NOW, legacy_tenant=tenant)


def event(made: Record, **kwargs: Any) -> Probe:
    arrival = door(made, **kwargs)
    assert isinstance(arrival, Arrival), arrival
    assert isinstance(arrival.event, Probe)
    return arrival.event


def reason(made: Record, **kwargs: Any) -> str:
    parked = door(made, **kwargs)
    assert isinstance(parked, Parked), parked
    assert CANARY not in parked.reason
    return parked.reason


def of(payload: Any) -> Record:
    """A record whose value is this JSON."""
    return record(0, STUDENT, value=json.dumps(payload).encode())


def body(**over: Any) -> dict[str, Any]:
    return {"student_id": str(STUDENT), "n": 1} | over


def test_binary_cloudevents() -> None:
    made = event(record(7, STUDENT, id="a-1", headers={"ce_correlationid": "c", "ce_actorid": "u", "ce_grade": "x"}))

    assert made.meta.tenant == "grand-bend"
    assert (made.meta.id, made.meta.correlation_id, made.meta.actor_id) == ("a-1", "c", "u")
    assert made.meta.extra == {"grade": "x"}


def test_structured_cloudevents() -> None:
    value = {
        "specversion": "1.0", "id": "a", "source": "/s", "type": Probe.__type__, "time": "2026-03-02T14:00:00Z",
        "tenantid": "grand-bend", "data": body(),
    }
    made = Record(str(STUDENT).encode(), json.dumps(value).encode(),
                  [("content-type", b"application/cloudevents+json; charset=UTF-8")])

    assert event(made).n == 1


def test_legacy_events_get_snake_case_the_tenant_of_the_setting_and_an_id_from_their_place() -> None:
    value = {"type": "Probe", "payload": {"studentId": str(STUDENT), "n": 3}, "timestamp": "2026-03-02T14:00:00Z"}
    made = Record(str(STUDENT).encode(), json.dumps(value).encode(), [], offset=5)

    first, again = event(made, tenant="west"), event(made, tenant="west")

    assert (first.n, first.meta.tenant, first.meta.key) == (3, "west", again.meta.key)


def test_a_legacy_event_without_a_tenant_to_give_it_is_parked() -> None:
    value = json.dumps({"type": "Probe", "data": {}}).encode()

    assert "SKILLCORE_LEGACY_TENANT" in reason(Record(b"k", value, []))


def test_unknown_fields_are_tolerated_and_kept_in_the_stored_bytes() -> None:
    arrival = door(of(body(extra=1, __class__="x", __proto__={})))

    assert isinstance(arrival, Arrival)
    assert b"__proto__" in arrival.data


def test_what_we_publish_is_what_we_read() -> None:
    made = event(record(0, STUDENT))
    topic, key, headers, value = encode(made)

    again = event(Record(key, value, [(k, v.encode()) for k, v in headers.items()]), topic=topic)

    assert again == made
    assert again.meta == made.meta


DEEP = b'{"student_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

BAD_VALUES = {  # RELIABILITY.md section 5, by its numbers
    "1 tombstone": None,
    "2 empty": b"",
    "5 invalid UTF-8": b'{"student_id": "\xff\xfe"}',
    "6 byte order mark": b"\xef\xbb\xbf{}",
    "7 UTF-16": json.dumps({"a": 1}).encode("utf-16"),
    "8 lone surrogate": b'{"student_id": "\\ud800"}',
    "10 overlong UTF-8": b'{"student_id": "\xc0\xaf"}',
    "11 truncated": b'{"student_id": "',
    "12 two documents": b"{}{}",
    "13 trailing garbage": b"{} x",
    "14 gzip": b"\x1f\x8b\x08\x00" + bytes(40),
    "15 random": bytes(range(256)) * 4,
    "16 pickle": b"\x80\x04\x95\x0b\x00\x00\x00.",
    "17 Confluent magic byte": b"\x00\x00\x00\x00\x01{}",
    "18 protobuf": b"\x0a\x03abc",
    "19 array": b"[]",
    "20 string": b'"x"',
    "21 number": b"1",
    "22 null": b"null",
    "23 true": b"true",
    "24 deep": DEEP,
    "28 NaN": b'{"student_id": NaN}',
    "30 integer of 10,000 digits": b'{"n": ' + b"9" * 10_000 + b"}",
    "31 past bigint": b'{"n": 9223372036854775808}',
    "34 missing field": b"{}",
    "36 wrong case": json.dumps({"Student_ID": str(STUDENT), "N": 1}).encode(),
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_parked(value: bytes | None) -> None:
    made = record(0, STUDENT)
    made.value = value

    assert reason(made)


def test_25_many_keys_and_37_dunder_keys_do_no_harm() -> None:
    assert event(of(body(**{f"k{n}": n for n in range(100_000 // 4)}))).n == 1


def test_9_a_nul_in_a_string_is_parked_and_an_escaped_backslash_is_not() -> None:
    assert "NUL" in reason(record(0, STUDENT, value=json.dumps(body(note="a\0b")).encode()))
    assert event(record(0, STUDENT, value=json.dumps(body(note="a\\u0000b")).encode())).n == 1


def test_33_a_number_is_not_a_string() -> None:
    assert "int_type" in reason(of(body(n="1")))


def test_27_a_value_over_the_limit_is_parked_before_it_is_parsed() -> None:
    assert "at most" in reason(record(0, STUDENT, value=b" " * (1 << 20) + b"x"))


@pytest.mark.parametrize("key", [None, b"", b"other", str(STUDENT).upper().encode()])
def test_3_4_61_a_key_that_is_not_the_event_s_is_parked(key: bytes | None) -> None:
    assert "student_id" in reason(record(0, STUDENT, key=key))


BAD_HEADERS = {
    "39 unknown type": {"ce_type": "com.skillcore.attendance.Nothing.v1"},
    "40 newer version": {"ce_type": "com.skillcore.attendance.Probe.v2"},
    "41 version zero": {"ce_type": "com.skillcore.attendance.Probe.v0"},
    "41 version latest": {"ce_type": "com.skillcore.attendance.Probe.latest"},
    "42 no id": {"ce_id": None},
    "empty id": {"ce_id": ""},
    "49 dotted path": {"ce_type": "os.system"},
    "49 dunder": {"ce_type": "__class__"},
    "50 long type": {"ce_type": "x" * 10_000},
    "no tenant": {"ce_tenantid": None},
    "no source": {"ce_source": None},
    "other specversion": {"ce_specversion": "0.3"},
    "62 naive time": {"ce_time": "2026-03-02T14:00:00"},
    "63 in ten years": {"ce_time": "2036-03-02T14:00:00Z"},
    "64 epoch": {"ce_time": "1970-01-01T00:00:00Z"},
    "65 no such day": {"ce_time": "2026-02-30T00:00:00Z"},
    "67 leap second": {"ce_time": "2026-06-30T23:59:60Z"},
    "69 offset +25": {"ce_time": "2026-03-02T14:00:00+25:00"},
    "70 milliseconds": {"ce_time": "1772460000000"},
    "a NUL": {"ce_tenantid": "a\0b"},
}


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_bad_envelopes_are_parked(headers: dict[str, str | None]) -> None:
    assert reason(record(0, STUDENT, headers=headers))


def test_40_the_reason_of_a_newer_version_says_what_to_do() -> None:
    assert "after the deploy" in reason(record(0, STUDENT, headers={"ce_type": "com.skillcore.attendance.Probe.v2"}))


def test_51_to_54_bad_headers_are_parked() -> None:
    base = record(0, STUDENT).headers
    for extra in ([("ce_x", None)], [("ce_id", b"twice")], [("ce_x", b"\xff")], [("x", b"y" * 70_000)]):
        assert reason(_with(base, extra))


def _with(base: list[tuple[str, bytes | None]], extra: list[tuple[str, bytes | None]]) -> Record:
    made = record(0, STUDENT)
    made.headers = base + extra
    return made


def test_an_event_on_another_domain_s_topic_is_parked() -> None:
    assert "belongs on" in reason(record(0, STUDENT), topic="skillcore.chat.events.v1")


def test_72_a_payload_that_names_another_tenant_is_parked() -> None:
    assert "another tenant" in reason(of(body(tenant_id="elsewhere")))
    assert event(of(body(tenant_id="grand-bend"))).n == 1


def test_reasons_and_tenants_of_parked_records_quote_nothing() -> None:
    parked = door(record(0, STUDENT, value=json.dumps({"student_id": CANARY, CANARY: 1}).encode()))

    assert isinstance(parked, Parked)
    assert CANARY not in parked.reason
    assert parked.tenant == "grand-bend"


@given(st.binary(max_size=300))
@example(b"")
def test_no_bytes_escape_the_door(value: bytes) -> None:
    decode(Record(b"k", value, record(0).headers), TOPIC, 0, now=NOW)
    decode(Record(b"k", value, []), TOPIC, 0, now=NOW, legacy_tenant="t")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.dictionaries(st.sampled_from(["type", "event", "data", "payload", "id", "time"]), json_values))
def test_no_json_escapes_the_door(value: Any, legacy: dict[str, Any]) -> None:
    decode(of(value), TOPIC, 0, now=NOW)
    decode(Record(b"k", json.dumps(legacy).encode(), []), TOPIC, 0, now=NOW, legacy_tenant="t")
    structured = [("content-type", b"application/cloudevents+json")]
    decode(Record(b"k", json.dumps(legacy).encode(), structured), TOPIC, 0, now=NOW)


@given(st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=30)), max_size=8), st.integers())
def test_no_headers_or_timestamps_escape_the_door(headers: list[tuple[str, bytes | None]], timestamp: int) -> None:
    decode(Record(b"k", b"{}", headers, timestamp=timestamp), TOPIC, 0, now=NOW, legacy_tenant="t")

