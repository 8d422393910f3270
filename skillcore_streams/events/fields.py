"""What fields of events are made of: bounded, so that no producer can fill the database, and tagged where personal."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

T = TypeVar("T")

Personal = Annotated[T, Field(json_schema_extra={"x-pii": True})]
"""Tells something about a person: masked wherever a payload is shown."""

Extensible = Annotated[T, Field(json_schema_extra={"x-extensible": True})]
"""An enumeration that may gain values without a new version: readers are told to expect some they do not know."""

MASK = "•••"
"""What is shown instead of it."""


def is_personal(field: FieldInfo) -> bool:
    """Whether a field of an event is tagged `Personal`."""
    extra = field.json_schema_extra
    return bool(extra.get("x-pii")) if isinstance(extra, dict) else False


Name = Annotated[str, Field(max_length=512)]
Text = Annotated[str, Field(max_length=10_000)]
Integer = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Version = Annotated[int, Field(ge=0, lt=2**31)]
Many = Annotated[list[T], Field(max_length=10_000)]

Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", description="E.164")]
"""E.164: a plus, the country, the number; no pauses, no extensions."""

Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", description="BCP 47")]
"""BCP 47."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError("not a zone of the time zone database") from None
    return name


TimeZone = Annotated[
    str, Field(max_length=64, description="a zone of the IANA database"), AfterValidator(_known_zone)
]
"""Name of a zone of the IANA database."""

Channel = Literal["email", "sms", "push", "in_app", "voice"]
Priority = Literal["low", "normal", "high", "critical"]
Role = Literal[
    "administrator", "aide", "counselor", "districtAdministrator", "guardian", "parent", "principal", "proctor",
    "relative", "siteAdministrator", "student", "systemAdministrator", "teacher",
]
"""OneRoster 1.2, section 4.13.11."""

Entity = Name
"""Kind of row: users, classes, enrollments, messages ..."""


class Part(BaseModel):
    """A part of an event's payload, as strict as the event."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


__all__ = [name for name, value in dict(globals()).items() if not name.startswith("_") and value is not Any]
