"""Every event and job has a JSON Schema that says what the class says, with an example that fits both."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator as Draft
from pydantic import BaseModel, TypeAdapter

from skillcore_streams import contracts
from skillcore_streams.contracts import Promise
from skillcore_streams.contracts.promises import DECIMAL, LOCAL_TIME
from skillcore_streams.contracts.samples import FORMATS, VALUES
from skillcore_streams.runtime import Exact
from skillcore_streams.runtime.envelope import encode
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES, Event, Message, Meta, derive_id
from skillcore_streams.runtime.registry import REGISTRY

PROMISES = contracts.promises_now()
CLASSES: dict[str, type[Message]] = {f"{c.__name__}.v{c.__version__}": c for c in EVENT_TYPES.values()} | {
    f"{queue}.{kind}": c for (queue, kind), c in JOB_TYPES.items() if not c.__queue__.internal
}
NOW = datetime(2025, 10, 6, 15, tzinfo=UTC)

each = pytest.mark.parametrize("promise", PROMISES.values(), ids=PROMISES.keys())


def validator(schema: dict[str, Any]) -> Draft:
    return Draft(schema, format_checker=Draft.FORMAT_CHECKER)


def example(promise: Promise) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(promise.schema["examples"][0]))
    return made


def test_every_event_and_every_job_is_promised() -> None:
    ours = {name for name, cls in CLASSES.items() if cls.__module__.startswith("skillcore_streams.")}

    assert PROMISES.keys() == ours
    assert sum(p.is_event for p in PROMISES.values()) == 78


@each
def test_a_schema_is_valid_and_names_title_description_and_retention(promise: Promise) -> None:
    Draft.check_schema(promise.schema)

    assert promise.schema["$schema"] == Draft.META_SCHEMA["$id"]
    assert promise.schema["title"] == CLASSES[promise.name].__name__
    assert len(promise.schema["description"]) > 10
    assert promise.schema["x-retention"] == ("P7D" if promise.is_event else "P14D")


@each
def test_its_example_fits_the_schema_and_the_class(promise: Promise) -> None:
    payload = example(promise)

    assert list(validator(promise.schema).iter_errors(payload)) == []
    CLASSES[promise.name].model_validate_json(json.dumps(payload), context={"now": NOW})


@each
def test_what_the_class_refuses_the_schema_refuses_and_a_further_field_is_tolerated(promise: Promise) -> None:
    payload = example(promise)
    checker, cls = validator(promise.schema), CLASSES[promise.name]

    for field in promise.schema.get("required", ()):
        less = {name: value for name, value in payload.items() if name != field}
        assert not checker.is_valid(less), f"without {field}"
        with pytest.raises(ValueError, match=field):
            cls.model_validate_json(json.dumps(less))
    for field in promise.schema["properties"]:
        wrong = payload | {field: [[["no field is a list of lists of lists"]]]}
        assert not checker.is_valid(wrong), f"nonsense in {field}"
    assert checker.is_valid(payload | {"said_later": 1})
    assert not checker.is_valid([payload])


@pytest.mark.parametrize("name", [p.name for p in PROMISES.values() if p.is_event])
def test_what_we_publish_fits_the_schema(name: str) -> None:
    cls = CLASSES[name]
    assert issubclass(cls, Event)
    event = cls.model_validate_json(json.dumps(example(PROMISES[name])))
    key = derive_id("oak", "/s", "1")
    event.with_meta(Meta(tenant="oak", id="1", source="/s", time=NOW, key=key, correlation_id=str(key)))

    topic, record_key, headers, value = encode(event)

    assert list(validator(PROMISES[name].schema).iter_errors(json.loads(value))) == []
    assert PROMISES[name].route == {"type": headers["ce_type"], "topic": topic, "key": cls.__key__}
    assert json.loads(value)[cls.__key__] == record_key.decode()


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_decimal_we_can_write_fits_and_is_read_back(number: Decimal) -> None:
    text = TypeAdapter(Exact).dump_python(number, mode="json")

    assert Draft(DECIMAL).is_valid(text)
    assert TypeAdapter(Exact).validate_json(json.dumps(text)) == number


@given(st.from_regex(DECIMAL["pattern"].replace("$", r"\Z")))
def test_every_decimal_that_fits_is_read(text: str) -> None:
    assert TypeAdapter(Exact).validate_json(json.dumps(text)) is not None


@given(st.times())
def test_every_local_time_we_can_write_fits(moment: time) -> None:
    assert Draft(LOCAL_TIME).is_valid(TypeAdapter(time).dump_python(moment, mode="json"))


@given(st.from_regex(LOCAL_TIME["pattern"].replace("$", r"\Z")))
def test_every_local_time_that_fits_is_read(text: str) -> None:
    assert TypeAdapter(time).validate_json(json.dumps(text), strict=True).tzinfo is None


@pytest.mark.parametrize("value", [8.5, 8, "8,5", "NaN", "Infinity", "", "0x1"])
def test_a_decimal_is_a_string_of_digits(value: object) -> None:
    assert not Draft(DECIMAL).is_valid(value)


def personal(model: type[BaseModel], path: str = "") -> set[str]:
    """Fields tagged `Personal` in the code, those of parts included."""
    found = set()
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("x-pii"):
            found.add(path + name)
        for part in parts(info.annotation):
            found |= personal(part, f"{path}{name}.")
    return found


def parts(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {part for inner in get_args(annotation) for part in parts(inner)}


def tagged(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> set[str]:
    """Properties tagged x-pii in the schema."""
    found = set()
    for name, part in schema["properties"].items():
        if part.get("x-pii"):
            found.add(path + name)
        for ref in (text.split('"')[0] for text in json.dumps(part).split('"$ref": "#/$defs/')[1:]):
            found |= tagged(root["$defs"][ref], root, f"{path}{name}.")
    return found


@each
def test_what_is_personal_in_the_code_is_x_pii_in_the_schema(promise: Promise) -> None:
    assert tagged(promise.schema, promise.schema) == personal(CLASSES[promise.name])


def test_personal_fields_are_there_at_all() -> None:
    assert "accommodations.description" in personal(CLASSES["Section504PlanActivated.v1"])
    assert {"given_name", "email"} <= personal(CLASSES["UserCreated.v1"])


def test_examples_use_every_line_of_the_story() -> None:
    models = [s for p in PROMISES.values() for s in [p.schema, *p.schema.get("$defs", {}).values()]]
    fields = {field for model in models for field in model["properties"]}
    titles = {model["title"] for model in models}

    for name in VALUES:
        title, _, field = name.rpartition(".")
        assert field in fields, name
        assert not title or title in titles, name
    assert FORMATS.keys() == {"date", "date-time", "time-local", "decimal"}


def test_the_committed_files_are_what_the_code_says() -> None:
    assert contracts.stale() == []
    assert contracts.generate() == contracts.generate()


def test_every_generated_file_ends_with_one_newline_and_carries_no_path_of_this_machine() -> None:
    for path, text in contracts.generate().items():
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert str(Path.home()) not in text, path
        assert "/work/" not in text, path


def test_the_page_of_reactions_names_every_handler_and_marks_what_is_not_built() -> None:
    page = contracts.generate()["handlers.md"]
    catalog = json.loads((contracts.FOLDER / "catalog.json").read_text())

    for handler in catalog["handlers"]:
        [row] = [line for line in page.splitlines() if f"| `{handler['id']}`" in line]
        assert handler["event"] in row
        assert ("**not yet**" in row) == (REGISTRY.get(handler["id"]) is None)
    for queue, kind in JOB_TYPES:
        assert f"| {queue} | `{kind}` |" in page
