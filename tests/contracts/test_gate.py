"""The gate refuses what breaks a writer or a reader elsewhere, each in a sentence that says what to do, and no more."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator as Draft

from skillcore_streams import contracts
from skillcore_streams.contracts.gate import breaks
from skillcore_streams.contracts.promises import Promise

Schema = dict[str, Any]

UUID = {"type": "string", "format": "uuid"}
MARK: Schema = {
    "type": "object",
    "required": ["student_id", "code", "category", "minutes", "tags", "place"],
    "properties": {
        "student_id": UUID,
        "code": {"type": "string", "maxLength": 10},
        "category": {"type": "string", "enum": ["present", "absent"]},
        "source": {"type": "string", "enum": ["edfi", "manual"], "x-extensible": True},
        "minutes": {"type": "integer", "minimum": 0, "exclusiveMaximum": 1000},
        "note": {"anyOf": [{"type": "string", "maxLength": 100}, {"type": "null"}]},
        "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "enum": ["a", "b"]}},
        "channels": {
            "type": "object", "additionalProperties": {"type": "boolean"}, "propertyNames": {"enum": ["email", "sms"]},
        },
        "drop": {"type": "integer", "default": 0},
        "phone": {"type": "string", "pattern": "^[0-9]+$"},
        "place": {"$ref": "#/$defs/Place"},
    },
    "$defs": {"Place": {"type": "object", "required": ["room"], "properties": {"room": {"type": "string"}}}},
}  # fmt: skip
ROUTE = {"type": "com.skillcore.attendance.Marked.v1", "topic": "skillcore.attendance.events.v1", "key": "student_id"}


def event(schema: Schema = MARK, **route: str) -> dict[str, Promise]:
    return {"Marked.v1": Promise("Marked.v1", ROUTE | route, schema)}


def changed(change: Callable[[Schema, Schema], object]) -> dict[str, Promise]:
    """The event after a change that is given its schema and its properties."""
    schema = copy.deepcopy(MARK)
    change(schema, schema["properties"])
    return event(schema)


REFUSED: dict[str, tuple[Callable[[Schema, Schema], object], str, str]] = {  # change, field, what the sentence says
    "a removed field": (lambda s, p: p.pop("note"), "note", "is gone"),
    "a removed required field": (lambda s, p: (p.pop("code"), s["required"].remove("code")), "code", "is gone"),
    "a renamed field": (lambda s, p: p.update(remark=p.pop("note")), "note", "renamed to remark"),
    "a new required field": (
        lambda s, p: (p.update(room=UUID), s["required"].append("room")), "room", "make it optional"),
    "an optional field that is demanded": (lambda s, p: s["required"].append("note"), "note", "leave it optional"),
    "a required field that may be missing": (lambda s, p: s["required"].remove("code"), "code", "keep it required"),
    "another type": (lambda s, p: p["minutes"].update(type="string"), "minutes", "was integer and is string"),
    "a wider type": (lambda s, p: p.update(code={"anyOf": [{"type": "string"}, {"type": "integer"}]}), "code", "was"),
    "null no longer": (lambda s, p: p.update(note={"type": "string"}), "note", "was null or string and is string"),
    "null from now on": (
        lambda s, p: p.update(code={"anyOf": [p["code"], {"type": "null"}]}), "code", "is null or string"),
    "a value of an enumeration less": (lambda s, p: p["category"]["enum"].remove("absent"), "category", '"absent"'),
    "a value more": (lambda s, p: p["category"]["enum"].append("tardy"), "category", "x-extensible first"),
    "a value more, tagged in the same step": (
        lambda s, p: (p["category"]["enum"].append("tardy"), p["category"].update({"x-extensible": True})),
        "category", "x-extensible first"),
    "a value less where more may come": (lambda s, p: p["source"]["enum"].remove("edfi"), "source", '"edfi"'),
    "free text that is an enumeration now": (lambda s, p: p["code"].update(enum=["P"]), "code", "takes only"),
    "an enumeration that is free text now": (lambda s, p: p["category"].pop("enum"), "category", "takes anything"),
    "a value of a list's enumeration less": (lambda s, p: p["tags"]["items"]["enum"].remove("a"), "tags[]", '"a"'),
    "a value of a list's enumeration more": (lambda s, p: p["tags"]["items"]["enum"].append("c"), "tags[]", '"c"'),
    "a map's key less": (
        lambda s, p: p["channels"]["propertyNames"]["enum"].remove("sms"), "channels (names)", '"sms"'),
    "a map's values": (
        lambda s, p: p["channels"].update(additionalProperties={"type": "string"}), "channels{}", "was boolean"),
    "a map without constraint": (lambda s, p: p["channels"].pop("propertyNames"), "channels", "freer than"),
    "a shorter text": (lambda s, p: p["code"].update(maxLength=9), "code", "maxLength fell from 10 to 9"),
    "a least length": (lambda s, p: p["code"].update(minLength=1), "code", "minLength rose from 0 to 1"),
    "a shorter text that may be null": (lambda s, p: p["note"]["anyOf"][0].update(maxLength=9), "note", "maxLength"),
    "a shorter list": (lambda s, p: p["tags"].update(maxItems=4), "tags", "maxItems"),
    "a greater least number": (lambda s, p: p["minutes"].update(minimum=1), "minutes", "rose to 1"),
    "a greater least number, exclusive": (lambda s, p: p["minutes"].update(exclusiveMinimum=0), "minutes", "rose to 1"),
    "a smaller greatest number": (lambda s, p: p["minutes"].update(exclusiveMaximum=999), "minutes", "fell to 998"),
    "a bound where none was": (lambda s, p: p["drop"].update(maximum=3), "drop", "fell to 3"),
    "another format": (lambda s, p: p["student_id"].update(format="uri"), "student_id", "its format was uuid"),
    "a format less": (lambda s, p: p["student_id"].pop("format"), "student_id", "is free"),
    "another pattern": (lambda s, p: p["phone"].update(pattern="^[0-9]{3}$"), "phone", "pattern"),
    "another default": (lambda s, p: p["drop"].update(default=1), "drop", "without it was meant 0, now 1"),
    "a field of a part less": (lambda s, p: s["$defs"]["Place"]["properties"].pop("room"), "place.room", "is gone"),
    "a field of a part demanded": (
        lambda s, p: (s["$defs"]["Place"]["properties"].update(floor={"type": "integer"}),
                      s["$defs"]["Place"]["required"].append("floor")), "place.floor", "make it optional"),
    "a keyword that the gate does not know": (lambda s, p: p["code"].update({"not": {}}), "code", "cannot judge"),
    "no further fields": (lambda s, p: s.update(additionalProperties=False), "", "are constrained"),
}  # fmt: skip

ALLOWED: dict[str, Callable[[Schema, Schema], object]] = {
    "nothing": lambda s, p: None,
    "a new optional field": lambda s, p: p.update(room={"anyOf": [UUID, {"type": "null"}]}),
    "a new optional enumeration": lambda s, p: p.update(kind={"type": "string", "enum": ["a"]}),
    "a new optional field of a part": lambda s, p: s["$defs"]["Place"]["properties"].update(floor={"type": "integer"}),
    "a value more where readers expect it": lambda s, p: p["source"]["enum"].append("clever"),
    "free text where readers expect new values": lambda s, p: p["source"].pop("enum"),
    "a longer text": lambda s, p: p["code"].update(maxLength=20),
    "a text without bound": lambda s, p: p["code"].pop("maxLength"),
    "a longer list": lambda s, p: p["tags"].update(maxItems=50),
    "a smaller least number": lambda s, p: p["minutes"].update(minimum=-5),
    "a bound said in other words": lambda s, p: p.update(minutes={"type": "integer", "minimum": 0, "maximum": 999}),
    "both bounds said in other words": lambda s, p: p.update(
        minutes={"type": "integer", "exclusiveMinimum": -1, "maximum": 999}),
    "no pattern any more": lambda s, p: p["phone"].pop("pattern"),
    "better words": lambda s, p: (s.update(description="Better.", title="T"), p["code"].update(description="A code.")),
    "a tag": lambda s, p: p["code"].update({"x-pii": True}),
    "a field that readers shall expect more of": lambda s, p: p["category"].update({"x-extensible": True}),
    "the parts under another name": lambda s, p: (
        s["$defs"].update(Room=s["$defs"].pop("Place")), p["place"].update({"$ref": "#/$defs/Room"})),
    "a part written where it is used": lambda s, p: p.update(place=s.pop("$defs")["Place"]),
    "fields in another order": lambda s, p: s.update(properties=dict(reversed(p.items()))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(name: str) -> None:
    change, field, said = REFUSED[name]

    sentences = breaks(event(), changed(change))

    assert len(sentences) == 1, sentences
    [sentence] = sentences
    assert sentence.startswith("Marked.v1, " + (f"field {field}: " if field else "payload"))
    assert said in sentence
    assert sentence.endswith("or publish a version 2 beside this one.")
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ALLOWED)
def test_it_allows(name: str) -> None:
    assert breaks(event(), changed(ALLOWED[name])) == []


def test_a_constant_is_an_enumeration_of_one() -> None:
    enum = {"type": "object", "required": [], "properties": {"role": {"type": "string", "enum": ["student"]}}}
    const = {"type": "object", "required": [], "properties": {"role": {"type": "string", "const": "student"}}}

    assert breaks(event(enum), event(const)) == breaks(event(const), event(enum)) == []


def test_an_event_that_is_gone_is_refused_and_a_new_one_is_welcome() -> None:
    two = event() | {"Marked.v2": Promise("Marked.v2", ROUTE, MARK)}

    [sentence] = breaks(two, event())

    assert sentence.startswith("Marked.v2 is gone")
    assert breaks(event(), two) == []


def test_a_version_2_beside_the_first_is_how_a_breaking_change_is_made() -> None:
    broken = {"Marked.v2": Promise("Marked.v2", ROUTE, {"type": "object", "required": [], "properties": {}})}

    assert breaks(event(), event() | broken) == []
    assert len(breaks(event(), broken)) == 1


@pytest.mark.parametrize(("what", "value"), [
    ("topic", "skillcore.chat.events.v1"), ("key", "class_id"), ("type", "com.skillcore.chat.Marked.v1"),
])
def test_how_an_event_travels_does_not_change(what: str, value: str) -> None:
    [sentence] = breaks(event(), event(**{what: value}))

    assert sentence.startswith(f"Marked.v1: its {what} was ")
    assert value in sentence


def test_each_fault_has_its_own_sentence() -> None:
    def three(s: Schema, p: Schema) -> None:
        p.pop("note")
        p["code"].update(maxLength=1)
        s["required"].append("source")

    assert len(breaks(event(), changed(three))) == 3


# What the gate lets through, tried with values ----------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
texts = st.builds(
    lambda low, high: {"type": "string", **low, **high},
    st.sampled_from([{}, {"minLength": 1}, {"minLength": 2}]),
    st.sampled_from([{}, {"maxLength": 2}, {"maxLength": 3}]),
)
numbers = st.builds(
    lambda low, high: {"type": "integer", **low, **high},
    st.sampled_from([{}, {"minimum": 0}, {"exclusiveMinimum": 0}, {"minimum": 1, "exclusiveMinimum": -1}]),
    st.sampled_from([{}, {"maximum": 3}, {"exclusiveMaximum": 3}, {"exclusiveMaximum": 4}, {"maximum": 2}]),
)
enums = st.lists(st.sampled_from(["x", "xy", "xyz"]), min_size=1, unique=True).map(
    lambda values: {"type": "string", "enum": values}
)
simple = texts | numbers | enums | st.just({"type": "boolean"})
nullable = simple.map(lambda inner: {"anyOf": [inner, {"type": "null"}]})
lists = st.builds(
    lambda items, high: {"type": "array", "items": items, **high}, simple, st.sampled_from([{}, {"maxItems": 1}])
)
objects = st.builds(
    lambda properties, required: {
        "type": "object", "properties": properties, "required": sorted(set(required) & properties.keys()),
    },
    st.dictionaries(names, simple | nullable | lists, max_size=3), st.lists(names, max_size=3),
)  # fmt: skip
values = st.none() | st.booleans() | st.integers(-1, 5) | st.sampled_from(["", "x", "xy", "xyz", "wxyz"])
payloads = st.dictionaries(names, values | st.lists(values, max_size=2), max_size=3)


def a_step_from(schema: Schema) -> st.SearchStrategy[Schema]:
    """The schema with one of its fields exchanged, dropped, demanded or not: near enough to be allowed at times."""

    def step(field: str, other: Schema, demand: bool) -> Schema:
        made = copy.deepcopy(schema)
        made["properties"][field] = other
        required = set(made["required"]) - {field} | ({field} if demand else set())
        return made | {"required": sorted(required)}

    return st.just(schema) | objects | st.builds(step, names, simple | nullable | lists, st.booleans())


pairs = objects.flatmap(lambda old: st.tuples(st.just(old), a_step_from(old)))


@given(pairs, st.lists(payloads, min_size=5, max_size=20))
def test_what_a_writer_may_send_today_is_still_taken_after_any_change_that_it_allows(
    pair: tuple[Schema, Schema], sent: list[dict[str, Any]]
) -> None:
    old, new = pair
    assume(breaks(event(old), event(new)) == [])
    new_fields = new["properties"].keys() - old["properties"].keys()

    for payload in sent:
        known = {name: value for name, value in payload.items() if name not in new_fields}  # they know today's fields
        if Draft(old).is_valid(known):
            assert Draft(new).is_valid(known)


@given(pairs)
def test_a_reader_finds_every_field_it_relied_on_in_its_old_kind(pair: tuple[Schema, Schema]) -> None:
    old, new = pair
    assume(breaks(event(old), event(new)) == [])

    assert old["properties"].keys() <= new["properties"].keys()
    assert set(old["required"]) <= set(new["required"])
    for name, schema in old["properties"].items():
        assert schema.get("type") == new["properties"][name].get("type")
        assert set(new["properties"][name].get("enum", ())) <= set(schema.get("enum", ()))


@given(objects)
def test_a_contract_may_always_follow_itself(schema: Schema) -> None:
    assert breaks(event(schema), event(schema)) == []


# The real contract --------------------------------------------------------------------------------------------------

PROMISES = contracts.promises_now()


def test_the_code_may_follow_what_was_released() -> None:
    assert breaks(contracts.locked(), PROMISES) == []


@pytest.mark.parametrize("name", PROMISES)
def test_of_every_real_event_and_job_no_field_can_be_taken_or_demanded(name: str) -> None:
    promise = PROMISES[name]

    for field in promise.schema["properties"]:
        for change in ("take", "demand", "rename"):
            schema = copy.deepcopy(promise.schema)
            if change == "take":
                del schema["properties"][field]
            elif change == "rename":
                schema["properties"][f"{field}_2"] = schema["properties"].pop(field)
            elif field in schema["required"]:
                schema["required"].remove(field)
            else:
                schema["required"].append(field)
            sentences = breaks({name: promise}, {name: Promise(name, promise.route, schema)})
            assert any(s.startswith(f"{name}, field {field}: ") for s in sentences), (change, field)


def test_the_lock_constrains_as_the_schema_does() -> None:
    for name, promise in contracts.locked().items():
        now = PROMISES[name]
        assert breaks({name: promise}, {name: now}) == breaks({name: now}, {name: promise}) == []
        assert Draft(promise.schema).is_valid(now.schema["examples"][0])
