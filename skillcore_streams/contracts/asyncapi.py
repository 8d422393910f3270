"""schemas/asyncapi.yaml: the topics, what travels on them, and which of it we read and write (AsyncAPI 3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import yaml

from skillcore_streams.adapters.kafka_admin import Topic
from skillcore_streams.contracts.promises import Promise
from skillcore_streams.runtime.envelope import CONTENT_TYPE

SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
BINDING = "0.5.0"
GROUP = "skillcore"

DESCRIPTION = """\
Events of school districts. An event written to its topic, from any language, takes effect once: sending it again with
the same id changes nothing, importing again is always safe.

CloudEvents 1.0 in Kafka's binary mode: the record's key is the value of the event's key field, its value the JSON of
the data, its attributes are ce_* headers. Structured mode is accepted too. The tenant comes from ce_tenantid only.
Readers are tolerant: ignore fields that you do not know.

Jobs travel the same way on topics of their own, a topic a queue. A job's id is its ce_id: sent again, it is one job.
BullMQ's own form, the JSON object {"name", "data", "opts"} with a ce_tenantid header, is read too.
"""

JOBOPTS = {
    "type": "string",
    "contentMediaType": "application/json",
    "description": "BullMQ's options: attempts, backoff, delay, priority, jobId, deduplication; timeout, expiresAt",
}

OPTIONAL = {
    "ce_subject": "what the event is about, student/7f3...",
    "ce_correlationid": "the first event of the story; set on everything we publish",
    "ce_causationid": "the event that caused this one",
    "ce_actorid": "who did it",
    "traceparent": "W3C trace context",
}


def document(promises: Mapping[str, Promise], topics: Sequence[Topic], catalog: Mapping[str, Any]) -> str:
    """The document as YAML."""
    everything = list(promises.values())
    declared = {topic.name: topic for topic in topics}
    channels = sorted({p.route["topic"] for p in everything})
    ours = published(catalog)
    content = {
        "asyncapi": "3.1.0",
        "info": {
            "title": "SkillCore Streams",
            "version": version("skillcore-streams"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {"kafka": _server()},
        "channels": {
            _channel_id(topic): _channel(declared[topic], [p for p in everything if p.route["topic"] == topic])
            for topic in channels
        },
        "operations": _operations(everything, ours),
        "components": {
            "messages": {p.name: _message(p) for p in everything},
            "messageTraits": {
                "cloudEvent": {"headers": _headers(), "correlationId": _correlation()},
                "job": {"headers": {"type": "object", "properties": {"ce_jobopts": JOBOPTS}}},
            },
            "schemas": _schemas(everything),
        },
    }
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


BY_DELIVERY = frozenset({"EmailSent", "PushNotificationSent", "NotificationFailed"})
"""What the queue notification-delivery publishes: the catalogue lists handlers, not queues."""


def published(catalog: Mapping[str, Any]) -> frozenset[str]:
    """Names of the events that we write ourselves, as the catalogue tells it."""
    names = {event["type"] for event in catalog["events"]}
    said = {event["type"] for event in catalog["events"] if "PUBLISHED BY" in event["standard"]}
    clauses = [clause for handler in catalog["handlers"] for clause in handler["downstream"].split(";")]
    words = {word for clause in clauses for word in re.findall(r"\w+", clause.partition("publishes ")[2])}
    return frozenset(said | (words & names) | BY_DELIVERY)


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": "kafka",
        "description": "A bootstrap server of the cluster.",
        "variables": {
            "host": {"default": "127.0.0.1", "description": "a broker's name or address"},
            "port": {"default": "9092", "description": "a broker's port"},
        },
    }


def _channel_id(topic: str) -> str:
    """`attendance` of skillcore.attendance.events.v1, `jobs-data-archival` of skillcore.jobs.data-archival.v1."""
    _, domain, name, _ = topic.split(".")
    return f"jobs-{name}" if domain == "jobs" else domain


def _channel(topic: Topic, promises: list[Promise]) -> dict[str, Any]:
    name = _channel_id(topic.name)
    package = "events" if promises[0].is_event else "queues"
    module = import_module(f"skillcore_streams.{package}.{name.removeprefix('jobs-').replace('-', '_')}")
    return {
        "address": topic.name,
        "title": name,
        "description": " ".join((module.__doc__ or "").split()),
        "servers": [_ref("servers", "kafka")],
        "messages": {p.name: _ref("components", "messages", p.name) for p in promises},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "topicConfiguration": {
                    "cleanup.policy": [topic.config["cleanup.policy"]],
                    "retention.ms": int(topic.config["retention.ms"]),
                    "max.message.bytes": int(topic.config["max.message.bytes"]),
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operations(promises: list[Promise], ours: frozenset[str]) -> dict[str, Any]:
    """Of each topic: what the workers read, and what of it they write themselves."""
    operations = {}
    for topic in sorted({p.route["topic"] for p in promises}):
        domain = _channel_id(topic)
        here = [p for p in promises if p.route["topic"] == topic]
        done = "read, stored and handled once" if here[0].is_event else "put into the queue, once by its id"
        operations[f"receive-{domain}"] = {
            "action": "receive",
            "channel": _ref("channels", domain),
            "summary": f"Everything that is written to the topic is {done}.",
            "messages": [_ref("channels", domain, "messages", p.name) for p in here],
            "bindings": {"kafka": {"groupId": {"type": "string", "enum": [GROUP]}, "bindingVersion": BINDING}},
        }
        if sent := [p for p in here if p.title in ours]:
            operations[f"send-{domain}"] = {
                "action": "send",
                "channel": _ref("channels", domain),
                "summary": "What follows from other events is written here, in order for each key.",
                "messages": [_ref("channels", domain, "messages", p.name) for p in sent],
            }
    return operations


def _message(promise: Promise) -> dict[str, Any]:
    schema, kind = promise.schema, _type(promise)
    traits, key = ["cloudEvent"], {"type": "string", "description": "any; jobs of one key are put in line in order"}
    if promise.is_event:
        said = schema["properties"][promise.route["key"]]
        key = {k: said[k] for k in ("type", "format") if k in said}
        key["description"] = f"the value of {promise.route['key']}"
    else:
        traits.append("job")
    return {
        "name": kind,
        "title": promise.title,
        "summary": schema["description"],
        "contentType": CONTENT_TYPE,
        "traits": [_ref("components", "messageTraits", trait) for trait in traits],
        "headers": {"type": "object", "properties": {"ce_type": {"type": "string", "const": kind}}},
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": _ref("components", "schemas", promise.name)},
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
        "examples": [{"name": "example", "headers": _example(promise), "payload": schema["examples"][0]}],
    }


def _type(promise: Promise) -> str:
    """The CloudEvents type of an event or a job."""
    if promise.is_event:
        return promise.route["type"]
    return f"com.{promise.route['topic'].removesuffix('.v1')}.{promise.route['kind']}.v1"


def _headers() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 512}
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenantid"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": text | {"description": "the same id of one source and tenant is the same event; UUIDv7 advised"},
            "ce_source": text | {"description": "who says so, /skillcore/api/gradebook"},
            "ce_type": text,
            "ce_time": {"type": "string", "format": "date-time", "description": "decides which of two states is newer"},
            "ce_tenantid": text | {"description": "the district"},
            "content-type": {"type": "string", "const": CONTENT_TYPE},
        }
        | {name: {"type": "string", "description": said} for name, said in OPTIONAL.items()},
    }


def _correlation() -> dict[str, str]:
    return {"location": "$message.header#/ce_correlationid", "description": OPTIONAL["ce_correlationid"]}


def _example(promise: Promise) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": "0199b9d4-53a0-7c4e-8f2e-2f1f9a60c3d1",
        "ce_source": "/sis/oak",
        "ce_type": _type(promise),
        "ce_time": "2025-10-06T14:05:00Z",
        "ce_tenantid": "oak",
        "content-type": CONTENT_TYPE,
    }


def _schemas(promises: list[Promise]) -> dict[str, Any]:
    """The schemas and their parts side by side; `$defs` of a schema would not be found from here."""
    parts = {name: part for p in promises for name, part in p.schema.get("$defs", {}).items()}
    whole = {p.name: {k: v for k, v in p.schema.items() if k not in ("$schema", "$id", "$defs")} for p in promises}
    moved: dict[str, Any] = _moved(parts | whole)
    return moved


def _moved(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            k: v.replace("#/$defs/", "#/components/schemas/") if k == "$ref" and isinstance(v, str) else _moved(v)
            for k, v in schema.items()
        }
    return [_moved(item) for item in schema] if isinstance(schema, list) else schema


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


class _Dumper(yaml.SafeDumper):
    """No anchors: a reader should not have to look elsewhere for a line that is there."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
