"""The event classes say what the catalogue says: type, topic, key, fields, which of them are optional."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skillcore_streams import events
from skillcore_streams.runtime.messages import EVENT_TYPES

CATALOG = json.loads((Path(__file__).parents[2] / "schemas" / "catalog.json").read_text())

events.load()
CLASSES = {cls.__name__: cls for cls in EVENT_TYPES.values()}


def test_every_event_of_the_catalogue_has_a_class_and_no_other_exists() -> None:
    known = {name for name, cls in CLASSES.items() if cls.__module__.startswith("skillcore_streams.")}

    assert known == {e["type"] for e in CATALOG["events"]}


@pytest.mark.parametrize("entry", CATALOG["events"], ids=lambda e: e["type"])
def test_a_class_says_what_the_catalogue_says(entry: dict[str, Any]) -> None:
    cls = CLASSES[entry["type"]]
    fields = dict(f.split(":", 1) for f in entry["fields"])

    assert cls.__topic__ == entry["topic"]
    assert cls.__key__ == entry["key"]
    assert set(cls.model_fields) == set(fields)
    assert {n for n, f in cls.model_fields.items() if not f.is_required()} == {
        n for n, t in fields.items() if t.endswith("?")
    }


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_names_addresses_and_free_text_are_tagged_as_personal(name: str) -> None:
    telling = {"given_name", "family_name", "email", "phone", "line1", "birth_date", "note", "notes_ref", "reason"}
    for field, info in CLASSES[name].model_fields.items():
        if field in telling:
            extra = info.json_schema_extra
            assert isinstance(extra, dict), f"{name}.{field}"
            assert extra.get("x-pii"), f"{name}.{field}"
