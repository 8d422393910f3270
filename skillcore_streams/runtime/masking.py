"""What people are shown of a payload: fields tagged as personal are hidden, and all that their class does not know."""

from __future__ import annotations

import json
import typing
from typing import Any

from pydantic import BaseModel

MASK = "•••"


def masked(cls: type[BaseModel] | None, payload: bytes | str | None) -> dict[str, Any] | None:
    """The payload as its class knows it. Names that a sender chose may tell as much as values: they are only counted.

    None for what is no JSON object.
    """
    try:
        body = json.loads(payload or b"")
    except (ValueError, RecursionError):
        return None
    return _object(cls, body) if isinstance(body, dict) else None


def _object(cls: type[BaseModel] | None, body: dict[str, Any]) -> dict[str, Any]:
    fields = cls.model_fields if cls is not None else {}
    shown = {name: _value(fields[name], value) for name, value in body.items() if name in fields}
    if strange := len(body) - len(shown):
        shown[f"({strange} unknown field{'s' * (strange > 1)})"] = MASK
    return shown


def _value(field: Any, value: Any) -> Any:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("x-pii"):
        return MASK
    part = _part(field.annotation)
    if isinstance(value, dict):
        return _object(part, value)
    if isinstance(value, list):
        return [_object(part, v) if isinstance(v, dict) else v for v in value]
    return value


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's type: of `list[Service] | None` it is Service."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _part(inner))), None)
