"""The door: Kafka records become events here, or are parked with a reason. Nothing past this point parses an envelope.

Three inputs, one form: CloudEvents 1.0 in Kafka's binary mode (the rule), its structured mode, and the legacy JSON of
the old system. `decode` never raises: every record has a place to go.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic import ValidationError

from skillcore_streams.runtime.messages import CLOCK_SKEW, EVENT_TYPES, JOB_TYPES, OLDEST, Event, Meta, derive_id

R = TypeVar("R")

MAX_VALUE = 1 << 20
MAX_HEADERS = 64 << 10
MAX_ATTRIBUTE = 512

OPTIONS = frozenset({
    "jobId", "attempts", "backoff", "delay", "priority", "deduplication", "timeout", "expiresAt",
})
"""Names of job options, which a reason may name too."""

STRUCTURED = b"application/cloudevents+json"
CONTENT_TYPE = "application/json"

LEGACY_TYPE = ("type", "event", "event_type")
LEGACY_DATA = ("data", "payload")
LEGACY_ID = ("id", "eventId", "event_id")
LEGACY_TIME = ("timestamp", "time", "occurredAt", "occurred_at")
LEGACY_ALIASES = {  # after camelCase has become snake_case
    "days_until_due": "days_remaining",
    "attendance_date": "date",
    "enrolment_id": "enrollment_id",
    "term_id": "session_id",
}

UNREADABLE = (ValueError, TypeError, RecursionError, OverflowError)
"""What reading bytes that anybody may have written can raise."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TYPE = re.compile(r"com\.skillcore\.[a-z-]+\.([A-Za-z0-9]+)\.v(\d+)")


class Record(Protocol):
    """What Kafka holds of one record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that is an event: what the inbox and the event store keep of it."""

    event: Event
    record: Record
    data: bytes
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that can't be processed as it is, and why, in words that quote nothing of it."""

    record: Record
    kind: str
    reason: str
    tenant: str | None = None
    event_key: UUID | None = None


class Refused(Exception):
    """Inside the door only: the reason why a record is parked."""


def decode(
    record: Record, topic: str, partition: int, *, now: datetime, legacy_tenant: str | None = None
) -> Arrival | Parked:
    """Turn a record into an event, or say why not. Never raises."""
    return or_parked(
        record, lambda: _decode(record, topic, partition, now, legacy_tenant), "invalid payload", "unreadable envelope")


def or_parked(record: Record, read: Callable[[], R], invalid: str, unreadable: str) -> R | Parked:
    """What `read` makes of the record, or the reason why nothing can be made of it. Never raises.

    `invalid`: what to call that which fits no class; `unreadable`: that of which not even that can be said.
    """
    try:
        return read()
    except Refused as refusal:
        return Parked(record, "record", str(refusal), claimed_tenant(record))
    except ValidationError as error:
        return Parked(record, "record", f"{invalid}: {explain(error)}", claimed_tenant(record))
    except UNREADABLE as error:
        return Parked(record, "record", f"{unreadable}: {type(error).__name__}", claimed_tenant(record))


def _decode(record: Record, topic: str, partition: int, now: datetime, legacy_tenant: str | None) -> Arrival:
    event, data = _read(record, topic, partition, now, legacy_tenant)
    if record.key != event.partition_key().encode():
        raise Refused(f"wrong key: the record's key must be the value of {event.__key__}")
    body_hash = blake2b(event.__type__.encode() + b"\0" + data, digest_size=16).digest()
    return Arrival(event, record, data, body_hash)


def right_key(
    record: Record, topic: str, partition: int, *, now: datetime, legacy_tenant: str | None = None
) -> bytes | None:
    """The key that this record's event asks for, whatever key it has; None when it cannot be read."""
    try:
        event, _ = _read(record, topic, partition, now, legacy_tenant)
    except (Refused, ValidationError, *UNREADABLE):
        return None
    return event.partition_key().encode()


def _read(
    record: Record, topic: str, partition: int, now: datetime, legacy_tenant: str | None
) -> tuple[Event, bytes]:
    value = record.value
    if value is None:
        raise Refused("no value (a tombstone): events are never deleted")
    if len(value) > MAX_VALUE:
        raise Refused(f"value of {len(value)} bytes, at most {MAX_VALUE} are read")
    attributes, content_type = attributes_of(record.headers)
    data = value
    if "type" not in attributes:
        if content_type.startswith(STRUCTURED):
            attributes, data = _structured(value)
        else:
            attributes, data = _legacy(record, topic, partition, legacy_tenant)

    cls = _event_class(attributes, topic)
    if b"\\u0000" in data and holds_nul(json.loads(data)):
        raise Refused("a string holds a NUL character, which Postgres cannot store")
    event = cls.model_validate_json(data, extra="ignore", context={"now": now})
    meta = meta_of(attributes, now)
    event.with_meta(meta)
    if b'"tenant_id"' in data and json.loads(data).get("tenant_id", meta.tenant) != meta.tenant:
        raise Refused("the payload names another tenant than ce_tenantid")
    return event, data


ORIGIN = "skillcore-origin"
"""Header of a record that was written again: partition/offset where it stood first. What has no id of its own gets the
id of that place, so that the same record is the same event however often it comes."""


def origin_of(record: Record, partition: int) -> tuple[int, int]:
    """(partition, offset) where this record stood first."""
    for name, value in record.headers:
        if name == ORIGIN and value is not None and (place := re.fullmatch(rb"(\d{1,9})/(\d{1,18})", value)):
            return int(place[1]), int(place[2])
    return partition, record.offset


def holds_nul(value: object) -> bool:
    """Does any string of it hold a NUL character?"""
    if isinstance(value, dict):
        return any(holds_nul(k) or holds_nul(v) for k, v in value.items())
    if isinstance(value, list):
        return any(map(holds_nul, value))
    return isinstance(value, str) and "\0" in value


def attributes_of(headers: Sequence[tuple[str, bytes | None]]) -> tuple[dict[str, str], bytes]:
    """CloudEvents attributes by name, and the content type. One loop: it runs for every record there is."""
    attributes: dict[str, str] = {}
    content_type = b""
    names = set()
    size = 0
    for name, value in headers:
        if value is None:
            raise Refused(f"header {shown_name(name)} has no value")
        names.add(name)
        size += len(value)
        attribute = name[3:] if name.startswith("ce_") else name if name == "traceparent" else None
        if attribute is not None:
            if len(value) > MAX_ATTRIBUTE:
                raise Refused(f"header {shown_name(name)} is longer than {MAX_ATTRIBUTE} bytes")
            if b"\0" in value:
                raise Refused(f"header {shown_name(name)} holds a NUL character")
            attributes[attribute] = value.decode()
        elif name == "content-type":
            content_type = value
    if len(names) != len(headers):
        raise Refused("a header name repeats")
    if size > MAX_HEADERS:
        raise Refused(f"headers of more than {MAX_HEADERS} bytes")
    return attributes, content_type


def shown_name(name: str) -> str:
    """A header's name, if it is one we know: a stranger's may be anything."""
    return name if re.fullmatch(r"[a-z_-]{1,40}", name) else "(unknown name)"


def _structured(value: bytes) -> tuple[dict[str, str], bytes]:
    body = _json_object(value)
    data, binary = body.pop("data", None), body.pop("data_base64", None)
    if data is None and isinstance(binary, str):  # an SDK that was given bytes does not look what they are
        data = _json_object(b64decode(binary))
    if not isinstance(data, dict):
        raise Refused("structured CloudEvent without a JSON object in data")
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items() if isinstance(v, str | int)}
    attributes = {k: v for k, v in said.items() if len(v) <= MAX_ATTRIBUTE and "\0" not in v}
    return attributes, _dump(data)


def _legacy(record: Record, topic: str, partition: int, tenant: str | None) -> tuple[dict[str, str], bytes]:
    body = _json_object(record.value or b"")
    name = _first(body, LEGACY_TYPE)
    data = _first(body, LEGACY_DATA)
    if not isinstance(name, str) or not isinstance(data, dict):
        raise Refused("neither a CloudEvent (no ce_type header) nor a legacy event (type and data)")
    if tenant is None:
        raise Refused("a legacy event names no tenant; set SKILLCORE_LEGACY_TENANT to accept it")
    time = _first(body, LEGACY_TIME)
    return {
        "specversion": "1.0",
        "type": name,
        "source": f"legacy:{topic}",
        "id": str(_first(body, LEGACY_ID) or derive_id(topic, *origin_of(record, partition))),
        "time": time if isinstance(time, str) else datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(),
        "tenantid": tenant,
    }, _dump({_snake(k): v for k, v in data.items()})


def _snake(name: str) -> str:
    snake = _HUMP.sub("_", name).lower()
    return LEGACY_ALIASES.get(snake, snake)


def _first(body: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((body[n] for n in names if n in body), None)


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        body = json.loads(value)
    except ValueError:
        raise Refused("value is not JSON") from None
    if not isinstance(body, dict):
        raise Refused("value is not a JSON object")
    return body


def _dump(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _event_class(attributes: Mapping[str, str], topic: str) -> type[Event]:
    name = attributes.get("type", "")
    cls = EVENT_TYPES.get(name) or _by_bare_name().get(name)
    if cls is None:
        known = _TYPE.fullmatch(name)
        if known and any(c.__name__ == known[1] for c in EVENT_TYPES.values()):
            raise Refused(f"unknown version {known[2]} of {known[1]}; redrive it after the deploy that knows it")
        raise Refused("unknown event type; redrive it after the deploy that knows it")
    if cls.__topic__ != topic:
        raise Refused(f"wrong topic: {cls.__name__} belongs on {cls.__topic__}")
    return cls


_bare_names: dict[str, type[Event]] = {}


def _by_bare_name() -> dict[str, type[Event]]:
    """Legacy producers say `IEPCreated`, without domain and version."""
    if len(_bare_names) != len(EVENT_TYPES):
        _bare_names.update({cls.__name__: cls for cls in EVENT_TYPES.values()})
    return _bare_names


_ATTRIBUTES = frozenset(
    {"specversion", "type", "id", "source", "time", "tenantid", "correlationid", "causationid", "actorid"}
)


def meta_of(attributes: Mapping[str, str], now: datetime) -> Meta:
    """The envelope that these CloudEvents attributes make. Raises Refused."""
    if attributes.get("specversion") != "1.0":
        raise Refused("ce_specversion must be 1.0")
    event_id, source = attributes.get("id"), attributes.get("source")
    tenant, said = attributes.get("tenantid"), attributes.get("time")
    if not (event_id and source and tenant and said):
        missing = [n for n in ("id", "source", "time", "tenantid") if not attributes.get(n)]
        raise Refused(f"missing CloudEvents attribute: {', '.join(missing)}")
    try:
        time = datetime.fromisoformat(said)
    except ValueError:
        raise Refused("ce_time is not an RFC 3339 time") from None
    if time.tzinfo is None:
        raise Refused("ce_time has no offset from UTC")
    if not OLDEST <= time <= now + CLOCK_SKEW:
        raise Refused("ce_time lies before the year 2000 or more than a day ahead")
    key = derive_id(tenant, source, event_id)
    return Meta(
        tenant=tenant,
        id=event_id,
        source=source,
        time=time,
        key=key,
        correlation_id=attributes.get("correlationid") or str(key),
        causation_id=attributes.get("causationid"),
        actor_id=attributes.get("actorid"),
        extra={k: v for k, v in attributes.items() if k not in _ATTRIBUTES} if attributes.keys() - _ATTRIBUTES else {},
    )


def claimed_tenant(record: Record) -> str | None:
    """Whom a parked record concerns, as far as it says: an operator asks "which schools?"."""
    try:
        tenant = dict(record.headers).get("ce_tenantid")
        text = tenant.decode() if tenant and len(tenant) <= MAX_ATTRIBUTE else None
    except (UnicodeDecodeError, TypeError, ValueError):
        return None
    return None if text is None or "\0" in text else text


def explain(error: ValidationError) -> str:
    """Field names of our own models and kinds of errors; never a value, nor a name that the sender chose."""
    said = []
    for e in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        field = str(e["loc"][0]) if e["loc"] else "value"
        models = (*EVENT_TYPES.values(), *JOB_TYPES.values())
        known = field in OPTIONS or any(field in cls.model_fields for cls in models)
        what = e["msg"].removeprefix("Value error, ") if e["type"] == "value_error" else e["type"]
        said.append(f"{field if known else '(field)'}: {what}")
    return "; ".join(said)


def encode(event: Event) -> tuple[str, bytes, dict[str, str], bytes]:
    """(topic, key, headers, value) of an event that has its envelope: CloudEvents 1.0, Kafka binary mode."""
    meta = event.meta
    headers = {
        "ce_specversion": "1.0",
        "ce_id": meta.id,
        "ce_type": event.__type__,
        "ce_source": meta.source,
        "ce_time": meta.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce_tenantid": meta.tenant,
        "ce_correlationid": meta.correlation_id,
        "content-type": CONTENT_TYPE,
    }
    if meta.causation_id:
        headers["ce_causationid"] = meta.causation_id
    if meta.actor_id:
        headers["ce_actorid"] = meta.actor_id
    if "traceparent" in meta.extra:
        headers["traceparent"] = meta.extra["traceparent"]
    return event.__topic__, event.partition_key().encode(), headers, event.model_dump_json(exclude_none=True).encode()
