"""When and how a person may be written to. Pure: people, preferences and clocks come in, an answer goes out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

NIGHT = time(21), time(8)
"""Local times between which no SMS or push is sent unless asked for: those of 47 CFR 64.1200(c)(1)."""

DEFAULT_CHANNELS = {"email": True, "push": True, "sms": False}
"""Of a person who has stated nothing: SMS only after consent (TCPA, 47 U.S.C. 227)."""

CONSENTED = {"guardian", "student"}
"""Who must have consented to SMS. Staff have by turning the channel on."""

_PART = r"[^\s\x00-\x20\x7f@,;:<>()\[\]\\\"]"
ADDRESS = re.compile(rf"{_PART}{{1,64}}@{_PART}+\.{_PART}{{2,}}")

PREMIUM = (
    "+1900", "+979", "+449", "+4487", "+4470", "+3389", "+49900", "+49137", "+39899", "+34803", "+34806", "+61190",
    "+41900", "+41901", "+41906", "+43900", "+43930", "+31900", "+32900",
)  # fmt: skip
"""Beginnings of numbers that cost whoever calls them: nothing of a school is sent there."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """No message from `start` until `end`, local times; over midnight when `start` is the later one."""

    start: time
    end: time


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of a recipient at the moment of sending."""

    kind: str
    """guardian, student or staff."""
    zone: str
    channels: Mapping[str, bool] | None = None
    categories: Mapping[str, bool] = field(default_factory=dict)
    quiet: QuietHours | None = None
    language: str | None = None
    addresses: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Channel -> address, without those that are suppressed or known to be bad; of push: how many devices."""
    consented: bool = False
    """To SMS."""
    blocked: bool = False
    """A court order: nothing about this student reaches this person."""


def usable(
    person: Person, wanted: Sequence[str], *, category: str, mandatory: bool = False, emergency: bool = False
) -> list[str]:
    """Channels by which this person may hear of it, the best first.

    Args:
        wanted: the template's channels in its order.
        category: what people opt out of. `mandatory` notices ignore that, an opt-out of a channel they do not.
        emergency: to every channel there is an address for; consent is not needed (47 CFR 64.1200(a)(1)).
    """
    if person.blocked:
        return []
    there = [channel for channel in wanted if channel in person.addresses]
    if emergency:
        return there
    if not mandatory and person.categories.get(category) is False:
        return []
    stated = DEFAULT_CHANNELS if person.channels is None else person.channels
    may_text = person.consented or person.kind not in CONSENTED
    return [c for c in there if stated.get(c, False) and (c != "sms" or may_text)]


def quiet_for(person: Person, channel: str, now: datetime) -> timedelta:
    """How long this channel has to be silent. Nothing when it need not be.

    A person's own hours hold for every channel; of who has stated none, SMS and push are silent by night. The end is a
    local time: of one that a clock change skips or repeats, the first moment at or after it.
    """
    quiet = person.quiet
    if quiet is None:
        if channel not in ("sms", "push"):
            return timedelta(0)
        quiet = QuietHours(*NIGHT)
    zone = ZoneInfo(person.zone)
    local = now.astimezone(zone)
    clock = local.timetz().replace(tzinfo=None)
    if quiet.start == quiet.end:
        return timedelta(0)
    inside = quiet.start <= clock < quiet.end if quiet.start < quiet.end else clock >= quiet.start or clock < quiet.end
    if not inside:
        return timedelta(0)
    day = local.date() if clock < quiet.end else local.date() + timedelta(days=1)
    ends = datetime.combine(day, quiet.end, zone)
    return max(ends.astimezone(now.tzinfo) - now, timedelta(seconds=1))


def language_of(wanted: str | None, there: Collection[str], default: str = "en") -> str:
    """The best of the languages there are: "es-MX" -> "es-MX", else "es", else English."""
    parts = (wanted or "").split("-")
    for length in range(len(parts), 0, -1):
        for known in there:
            if known.lower() == "-".join(parts[:length]).lower():
                return known
    return default


def valid_email(address: str) -> bool:
    """One address and nothing more: no line breaks, no list, no display name. At most 254 characters (RFC 5321)."""
    return len(address) <= 254 and ".." not in address and ADDRESS.fullmatch(address) is not None


def valid_phone(number: str) -> bool:
    """E.164 and nothing more: no pauses, no extensions, no number that costs its caller."""
    return re.fullmatch(r"\+[1-9][0-9]{6,14}", number, re.ASCII) is not None and not number.startswith(PREMIUM)


def plain(text: str, limit: int = 200) -> str:
    """A name or title as it may stand in a message: one line, nothing invisible, nothing that turns text around.

    Control, format and private characters go (but the joiner that holds an emoji together), marks beyond three on one
    character go, and so does what is beyond `limit` characters.
    """
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text[: limit * 8]):
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            character, category = " ", "Zs"
        joins = character == "\u200d" and bool(kept) and unicodedata.category(kept[-1]) in ("So", "Sk", "Mn")
        if category.startswith("C") and not joins:
            continue
        marks = marks + 1 if category.startswith("M") else 0
        if marks <= 3:
            kept.append(character)
    return " ".join("".join(kept).split())[:limit]


def mask(address: str) -> str:
    """An address as operators may see it: p***@example.org, +1******0006."""
    name, at, domain = address.partition("@")
    return f"{name[:1]}***@{domain}" if at else f"{address[:2]}{'*' * max(0, len(address) - 6)}{address[-4:]}"
