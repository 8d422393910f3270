"""What each event and job promises: where it travels, and a JSON Schema 2020-12 of its payload.

One schema serves both sides. Readers are tolerant, so no schema forbids further properties: an added optional field
breaks nobody. Writers are strict by their types: our own classes forbid unknown fields, events.d.ts does for literals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from skillcore_streams.adapters.kafka_admin import DAY_MS, Topic
from skillcore_streams.contracts.samples import sample
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES, Event, Job, Message

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PACKAGE = "skillcore_streams."

DECIMAL = {"type": "string", "format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]{1,6})?$"}
"""As Python's Decimal writes itself. A JSON number would pass through somebody's binary float."""

LOCAL_TIME = {
    "type": "string",
    "format": "time-local",
    "pattern": r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?$",
}
"""A time of the school's day. JSON Schema's own format `time` demands an offset (RFC 3339 full-time)."""

NOTES = frozenset({"title", "description", "examples", "$schema", "$id", "x-event", "x-job", "x-retention"})
"""Keywords that constrain nothing. The lock leaves them out: better words are no new release."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One event or job. `route` says how it travels: type, topic and key of an event; topic and kind of a job."""

    name: str
    route: Mapping[str, str]
    schema: dict[str, Any]

    @property
    def is_event(self) -> bool:
        """An event; else a job."""
        return "type" in self.route

    @property
    def title(self) -> str:
        """Name of its class."""
        return str(self.schema["title"])

    @property
    def version(self) -> int:
        """Of an event: the N of its vN."""
        return int(self.name.rpartition(".v")[2])

    @property
    def path(self) -> str:
        """Of its JSON Schema, below schemas/."""
        return f"{'events' if self.is_event else 'jobs'}/{self.name}.json"

    def lock(self) -> dict[str, Any]:
        """What schemas.lock keeps."""
        return {"route": dict(self.route), "schema": _bare(self.schema)}


def current(topics: Sequence[Topic]) -> dict[str, Promise]:
    """What the code promises, by name: `AttendanceMarked.v1`, `attendance-aggregation.school_day`.

    Jobs of internal queues are promised to nobody: they have no topic.
    """
    public = [cls for cls in JOB_TYPES.values() if not cls.__queue__.internal]
    ours = [cls for cls in [*EVENT_TYPES.values(), *public] if cls.__module__.startswith(PACKAGE)]
    retention = {topic.name: topic.config.get("retention.ms") for topic in topics}
    promises = [_promise(cls, retention) for cls in ours]
    return {promise.name: promise for promise in sorted(promises, key=lambda p: (not p.is_event, p.name))}


def released(content: Mapping[str, Any]) -> dict[str, Promise]:
    """What schemas.lock says. Raises KeyError, TypeError or AttributeError when it is something else."""
    return {name: Promise(name, dict(said["route"]), dict(said["schema"])) for name, said in content.items()}


def dumps(content: Any) -> str:
    """JSON as the generated files have it."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _promise(cls: type[Message], retention: Mapping[str, str | None]) -> Promise:
    if issubclass(cls, Event):
        name = f"{cls.__name__}.v{cls.__version__}"
        route = {"type": cls.__type__, "topic": cls.__topic__, "key": cls.__key__}
    else:
        assert issubclass(cls, Job)
        name = f"{cls.__queue__.name}.{cls.__kind__}"
        route = {"topic": cls.__queue__.topic, "kind": cls.__kind__}
    return Promise(name, route, schema_of(cls, name, route, retention.get(route["topic"])))


def schema_of(cls: type[Message], name: str, route: Mapping[str, str], retention_ms: str | None) -> dict[str, Any]:
    """The JSON Schema of a class: a title, a description, tags, and an example that fits it."""
    made = cls.model_json_schema(schema_generator=_Dialect, ref_template="#/$defs/{model}")
    kind = "event" if "type" in route else "job"
    tags: dict[str, Any] = {f"x-{kind}": dict(route)}
    if retention_ms:  # kafka/topics.yaml is where retention is decided
        tags["x-retention"] = f"P{int(retention_ms) // DAY_MS}D"
    head = {"$schema": DIALECT, "$id": f"urn:skillcore:{kind}:{name}", "title": cls.__name__}
    defs = {"$defs": made["$defs"]} if "$defs" in made else {}
    body = {k: made[k] for k in ("description", "type", "required", "properties") if k in made}
    return head | body | defs | tags | {"examples": [sample(made)]}


class _Dialect(GenerateJsonSchema):
    """Pydantic's schema in our words: decimals are strings, further properties are tolerated, no echo of names."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:
        """`Student Id` says nothing that `student_id` does not."""
        return False

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A string, exact."""
        return dict(DECIMAL)

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        """A local time."""
        return dict(LOCAL_TIME)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Absent and null are the same to the reader, so null is not worth naming as a default."""
        made = super().default_schema(schema)
        if made.get("default", "") is None:
            del made["default"]
        return made

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Readers are tolerant; a docstring's line breaks are no part of what it says."""
        made = super().model_schema(schema)
        made.pop("additionalProperties", None)
        if "description" in made:
            made["description"] = " ".join(made["description"].split())
        return made


def _bare(schema: Any, *, names: bool = False) -> Any:
    """The schema without its notes. `names`: the keys of this object are fields' names, not keywords."""
    if isinstance(schema, dict):
        return {
            key: _bare(value, names=key in ("properties", "$defs") and not names)
            for key, value in schema.items()
            if names or key not in NOTES
        }
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema
