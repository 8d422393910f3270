"""The gate: may this contract follow the released one?

An event has writers and readers elsewhere, in languages we don't see, deployed when they like. So a field may be
neither taken away from readers nor demanded anew from writers, and what it holds may neither shrink (a writer's value
would be refused) nor change its kind (a reader would not understand it). What may always come: events, jobs, optional
fields, looser bounds; new values of an enumeration only where readers were told to expect them (`x-extensible`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skillcore_streams.contracts.promises import NOTES, Promise

VERSION_2 = "publish a version 2 beside this one"

LOWEST = ("minLength", "minItems", "minProperties")
HIGHEST = ("maxLength", "maxItems", "maxProperties")
LOOKED_AT = frozenset({
    *LOWEST, *HIGHEST, *NOTES, "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "type", "format",
    "pattern", "enum", "const", "anyOf", "properties", "required", "items", "additionalProperties", "propertyNames",
    "default", "$defs", "x-extensible", "x-pii",
})  # fmt: skip

Schema = Mapping[str, Any]


def breaks(released: Mapping[str, Promise], now: Mapping[str, Promise]) -> list[str]:
    """Why `now` may not follow `released`: a sentence for each thing that would break somebody. Empty: it may."""
    return [sentence for name, old in released.items() for sentence in _broken(name, old, now.get(name))]


def _broken(name: str, old: Promise, new: Promise | None) -> Iterator[str]:
    if new is None:
        yield f"{name} is gone; keep it for those who still write or read it, and let its successor stand beside it."
        return
    for what, value in old.route.items():
        if new.route.get(what) != value:
            yield f"{name}: its {what} was {value} and is {new.route.get(what)}; take that back, or {VERSION_2}."
    old_schema, new_schema = _expand(old.schema, old.schema), _expand(new.schema, new.schema)
    for field, what, remedy in _narrowed("", old_schema, new_schema):
        yield f"{name}, {f'field {field}' if field else 'payload'}: {what}; {remedy}, or {VERSION_2}."


def _expand(schema: Any, root: Schema) -> Any:
    """The schema with every reference replaced by what it means; models of events don't contain themselves."""
    if isinstance(schema, list):
        return [_expand(item, root) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if isinstance(schema.get("$ref"), str):
        beside = {k: v for k, v in schema.items() if k != "$ref"}
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **beside}
    return {key: _expand(value, root) for key, value in schema.items() if key != "$defs"}


Finding = tuple[str, str, str]
"""Field, what has changed, what to do instead of a new version."""


def _narrowed(field: str, old: Schema, new: Schema, extensible: bool = False) -> Iterator[Finding]:
    """What a value of `old` may no longer be, or may now be that its readers don't know."""
    extensible = extensible or bool(old.get("x-extensible"))
    kinds, kinds_now = _kinds(old), _kinds(new)
    if kinds.keys() != kinds_now.keys():
        yield field, f"was {_either(kinds)} and is {_either(kinds_now)}", "give the new form a field of its own"
        return
    if old.get("default") != new.get("default"):
        was, is_now = (_shown(s["default"]) if "default" in s else "nothing" for s in (old, new))
        yield field, f"without it was meant {was}, now {is_now}", "keep the default"
    for kind, before in kinds.items():
        after = kinds_now[kind]
        yield from _values(field, before, after, extensible)
        yield from _bounds(field, before, after)
        yield from _form(field, before, after)
        yield from _fields(field, before, after)
        for inside in ("items", "additionalProperties", "propertyNames"):
            yield from _inside(field, inside, before.get(inside, True), after.get(inside, True), extensible)


def _kinds(schema: Schema) -> dict[str, Schema]:
    """Type -> schema, of each of its alternatives. Two alternatives of one type are numbered."""
    found: dict[str, Schema] = {}
    for one in schema.get("anyOf", [schema]):
        types = one.get("type", "anything")
        for kind in [types] if isinstance(types, str) else types:
            found[kind if kind not in found else f"{kind} {len(found)}"] = one
    return found


def _values(field: str, old: Schema, new: Schema, extensible: bool) -> Iterator[Finding]:
    before, after = _enum(old), _enum(new)
    if before is None and after is not None:
        yield field, f"took anything and takes only {_list(after)}", "let it take what it took"
    elif before is not None and after is None:
        if not extensible:
            yield field, "was an enumeration and takes anything", "keep the enumeration"
    elif before is not None and after is not None:
        if gone := [v for v in before if v not in after]:
            yield field, f"no longer takes {_list(gone)}", "keep the value"
        if (come := [v for v in after if v not in before]) and not extensible:
            remedy = "release the field as x-extensible first, or give the new value a field of its own"
            yield field, f"takes {_list(come)}, which its readers don't know", remedy


def _enum(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _bounds(field: str, old: Schema, new: Schema) -> Iterator[Finding]:
    for keyword in LOWEST:
        if new.get(keyword, 0) > old.get(keyword, 0):
            yield field, f"{keyword} rose from {old.get(keyword, 0)} to {new[keyword]}", "keep the bound"
    for keyword in HIGHEST:
        if new.get(keyword, float("inf")) < old.get(keyword, float("inf")):
            yield field, f"{keyword} fell from {old.get(keyword, 'none')} to {new[keyword]}", "keep the bound"
    if (low := _lowest(new)) > _lowest(old):
        yield field, f"the least value rose to {_bound(low)}", "keep the bound"
    if (high := _highest(new)) < _highest(old):
        yield field, f"the greatest value fell to {_bound(high)}", "keep the bound"


def _lowest(schema: Schema) -> tuple[float, bool]:
    """(bound, is it left out?), so that a tighter one compares as greater."""
    step = schema.get("type") == "integer"  # of whole numbers, `> 0` and `>= 1` are the same
    inclusive = (schema.get("minimum", float("-inf")), False)
    exclusive = schema.get("exclusiveMinimum", float("-inf"))
    return max(inclusive, (exclusive + 1, False) if step else (exclusive, True))


def _highest(schema: Schema) -> tuple[float, bool]:
    """(bound, is it kept in?), so that a tighter one compares as less."""
    step = schema.get("type") == "integer"
    inclusive = (schema.get("maximum", float("inf")), True)
    exclusive = schema.get("exclusiveMaximum", float("inf"))
    return min(inclusive, (exclusive - 1, True) if step else (exclusive, False))


def _bound(bound: tuple[float, bool]) -> str:
    return f"{bound[0]:g}"


def _form(field: str, old: Schema, new: Schema) -> Iterator[Finding]:
    if old.get("format") != new.get("format"):
        what = f"its format was {old.get('format', 'free')} and is {new.get('format', 'free')}"
        yield field, what, "give the new form a field of its own"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield field, "must match another pattern", "keep the pattern"
    for keyword in sorted((old.keys() | new.keys()) - LOOKED_AT):
        if old.get(keyword) != new.get(keyword):
            yield field, f"{keyword} has changed, which this gate cannot judge", "take it back"


def _fields(path: str, old: Schema, new: Schema) -> Iterator[Finding]:
    before, after = old.get("properties", {}), new.get("properties", {})
    must, must_now = set(old.get("required", ())), set(new.get("required", ()))
    come = [name for name in after if name not in before]
    for name, schema in before.items():
        field = f"{path}.{name}" if path else name
        if name not in after:
            like = next((n for n in come if after[n] == schema and (n in must_now) == (name in must)), None)
            gone = f"is gone (renamed to {like}?)" if like else "is gone"
            yield field, f"{gone}, but its readers rely on it", "keep it beside the new one"
            continue
        if name in must_now - must:
            yield field, "is demanded now, but there are writers who leave it out", "leave it optional"
        if name in must - must_now:
            yield field, "may be missing now, but its readers rely on it", "keep it required"
        yield from _narrowed(field, schema, after[name])
    for name in come:
        if name in must_now:
            field = f"{path}.{name}" if path else name
            yield field, "is new and demanded, but there are writers who don't know it", "make it optional"


def _inside(field: str, where: str, old: Any, new: Any, extensible: bool) -> Iterator[Finding]:
    """Of an array's items, of a map's values and names. True is JSON Schema's word for anything."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        name = {"items": "[]", "additionalProperties": "{}", "propertyNames": " (names)"}[where]
        yield from _narrowed(field + name, old, new, extensible)
    elif old is True and new is not True:
        yield field, f"its {where} were free and are constrained", "leave them free"
    elif old != new:
        yield field, f"its {where} are freer than its readers know", "keep the constraint"


def _either(kinds: Mapping[str, Schema]) -> str:
    return " or ".join(sorted(kinds))


def _list(values: list[Any]) -> str:
    return ", ".join(map(_shown, values))


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
