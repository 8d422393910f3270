"""schemas/events.d.ts and the constants beside it: for producers and consumers in TypeScript and JavaScript."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from skillcore_streams.contracts.promises import Promise

FORMATS = {
    "uuid": "Uuid", "date": "CalendarDate", "date-time": "Timestamp", "time-local": "LocalTime", "decimal": "Decimal",
}  # fmt: skip

HEAD = '''\
// Written by `skillcore schemas build` from skillcore_streams/events. Do not edit.
//
// A record in Kafka: key = the value of the event's key field, value = JSON of the data, attributes as ce_* headers.

/** A UUID in lower case, as its key is compared byte by byte. */
export type Uuid = string;
/** A day of the school's calendar, 2025-10-06. */
export type CalendarDate = string;
/** RFC 3339 with an offset, 2025-10-06T14:05:00Z. */
export type Timestamp = string;
/** A time of the school's day, 08:15:00. */
export type LocalTime = string;
/** An exact decimal as a string, "8.50". Never a JSON number. */
export type Decimal = string;
'''

TAIL = '''\
export type EventName = keyof EventData;

/** A CloudEvent 1.0 with its data. The tenant comes from `tenantid` only. */
export interface Envelope<N extends EventName> {
  readonly specversion: "1.0";
  /** The same id from the same source and tenant is the same event: sending it again changes nothing. */
  readonly id: string;
  readonly source: string;
  readonly type: (typeof EVENTS)[N]["type"];
  readonly time: Timestamp;
  readonly tenantid: string;
  readonly subject?: string;
  /** Set on everything that SkillCore publishes, like the next two. */
  readonly correlationid?: string;
  readonly causationid?: string;
  readonly actorid?: string;
  readonly data: EventData[N];
}

/** Any event, told apart by `type`. */
export type AnyEvent = { [N in EventName]: Envelope<N> }[EventName];

/** The headers of a record in Kafka's binary mode. */
export interface EventHeaders<N extends EventName> {
  readonly ce_specversion: "1.0";
  readonly ce_id: string;
  readonly ce_source: string;
  readonly ce_type: (typeof EVENTS)[N]["type"];
  readonly ce_time: Timestamp;
  readonly ce_tenantid: string;
  readonly ce_subject?: string;
  readonly ce_correlationid?: string;
  readonly ce_causationid?: string;
  readonly ce_actorid?: string;
  readonly traceparent?: string;
  readonly "content-type": "application/json";
}
'''


def declarations(promises: Mapping[str, Promise]) -> str:
    """events.d.ts."""
    events = [p for p in promises.values() if p.is_event]
    parts = {name: part for p in events for name, part in p.schema.get("$defs", {}).items()}
    blocks = [HEAD]
    blocks += ["\n".join(_interface(name, part)) for name, part in sorted(parts.items())]
    blocks += ["\n".join(_interface(_name(p), p.schema)) for p in events]
    data = "\n".join(f"  readonly {_name(p)}: {_name(p)};" for p in events)
    blocks.append(f"/** Name of an event -> its data. */\nexport interface EventData {{\n{data}\n}}\n")
    rows = "\n".join(f"  readonly {_name(p)}: {_constant(p)};" for p in events)
    blocks.append(f"/** Type, topic and key field of each event. */\nexport declare const EVENTS: {{\n{rows}\n}};\n")
    return "\n".join([*blocks, TAIL])


def constants(promises: Mapping[str, Promise]) -> str:
    """events.js: the constants that events.d.ts declares, for `import` and `require` alike."""
    rows = "".join(f"  {_name(p)}: Object.freeze({_constant(p, ',')}),\n" for p in promises.values() if p.is_event)
    said = "// Written by `skillcore schemas build` from skillcore_streams/events. Do not edit."
    return f'"use strict";\n{said}\n\nexports.EVENTS = Object.freeze({{\n{rows}}});\n'


def _name(promise: Promise) -> str:
    return promise.title if promise.version == 1 else f"{promise.title}V{promise.version}"


def _constant(promise: Promise, separator: str = ";") -> str:
    mark = "readonly " if separator == ";" else ""
    said = f"{separator} ".join(f'{mark}{name}: "{promise.route[name]}"' for name in ("type", "topic", "key"))
    return f"{{ {said} }}"


def _interface(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"/** {schema['description']} */"
    yield f"export interface {name} {{"
    for field, part in schema["properties"].items():
        notes = ["Personal."] * bool(part.get("x-pii")) + ["More values may come."] * bool(part.get("x-extensible"))
        if said := " ".join([*notes, *([part["description"]] if "description" in part else [])]):
            yield f"  /** {said} */"
        mark = "" if field in schema.get("required", ()) else "?"
        yield f"  readonly {field}{mark}: {_type(part, bool(part.get('x-extensible')))};"
    yield "}\n"


def _type(schema: Mapping[str, Any], extensible: bool) -> str:
    match schema:
        case {"$ref": str(ref)}:
            return ref.rpartition("/")[2]
        case {"anyOf": options}:
            return " | ".join(_type(option, extensible) for option in options)
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join([*map(json.dumps, values), *(["(string & {})"] if extensible else [])])
        case {"type": "string"}:
            return FORMATS.get(schema.get("format", ""), "string")
        case {"type": "integer" | "number"}:
            return "number"
        case {"type": "boolean" | "null" as same}:
            return str(same)
        case {"type": "array", "items": items}:
            inner = _type(items, extensible)
            return f"readonly ({inner})[]" if " " in inner else f"readonly {inner}[]"
        case {"type": "object", "additionalProperties": inner}:
            if names := schema.get("propertyNames", {}).get("enum"):
                return f"{{ readonly [name in {' | '.join(map(json.dumps, names))}]?: {_type(inner, extensible)} }}"
            return f"{{ readonly [name: string]: {_type(inner, extensible)} }}"
    raise ValueError(f"no TypeScript for {sorted(schema)}")
