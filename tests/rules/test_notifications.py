"""When and how a person may be written to."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from skillcore_streams.rules.notifications import (
    NIGHT,
    Person,
    QuietHours,
    language_of,
    mask,
    plain,
    quiet_for,
    usable,
    valid_email,
    valid_phone,
)

ALL = {"email": "a@x.example", "sms": "+13125550001", "push": "1"}
WANTED = ("sms", "push", "email")
CHICAGO = "America/Chicago"


def person(kind: str = "guardian", **more: Any) -> Person:
    return Person(kind=kind, zone=more.pop("zone", CHICAGO), addresses=more.pop("addresses", ALL), **more)


@pytest.mark.parametrize(("who", "how", "channels"), [
    (person(), {}, ["push", "email"]),                                             # nothing stated: no SMS
    (person(channels={"email": True, "sms": True, "push": True}), {}, ["push", "email"]),  # wants SMS, never consented
    (person(channels={"sms": True}, consented=True), {}, ["sms"]),                 # what is not stated is off
    (person("staff", channels={"sms": True}), {}, ["sms"]),                        # staff consent by turning it on
    (person("staff"), {}, ["push", "email"]),
    (person(addresses={"email": "a@x.example"}), {}, ["email"]),
    (person(addresses={}), {}, []),
    (person(categories={"grades": False}), {}, []),
    (person(categories={"grades": False}), {"mandatory": True}, ["push", "email"]),
    (person(categories={"grades": False}), {"emergency": True}, ["sms", "push", "email"]),
    (person(channels={"email": False}), {"emergency": True}, ["sms", "push", "email"]),
    (person(blocked=True), {"emergency": True, "mandatory": True}, []),            # a court order stands above all
])
def test_channels_that_may_be_used(who: Person, how: dict[str, bool], channels: list[str]) -> None:
    assert usable(who, WANTED, category="grades", **how) == channels


def chicago(hour: int, minute: int = 0, day: int = 2, month: int = 3) -> datetime:
    return datetime(2022, month, day, hour, minute, tzinfo=ZoneInfo(CHICAGO)).astimezone(UTC)


@pytest.mark.parametrize(("channel", "now", "wait"), [
    ("sms", chicago(20, 59), timedelta(0)),
    ("sms", chicago(21), timedelta(hours=11)),
    ("push", chicago(23, 30), timedelta(hours=8, minutes=30)),
    ("sms", chicago(7, 59), timedelta(minutes=1)),
    ("sms", chicago(8), timedelta(0)),
    ("email", chicago(3), timedelta(0)),                                # mail wakes nobody
    ("sms", chicago(21, day=12), timedelta(hours=10)),                  # the night in which an hour is skipped
    ("sms", chicago(21, day=5, month=11), timedelta(hours=12)),         # the night in which one comes twice
])
def test_the_night_is_the_recipient_s(channel: str, now: datetime, wait: timedelta) -> None:
    assert quiet_for(person(), channel, now) == wait


def test_one_s_own_hours_hold_for_every_channel_and_may_lie_within_a_day() -> None:
    lunch = person(quiet=QuietHours(time(12), time(13)))

    assert quiet_for(lunch, "email", chicago(12, 15)) == timedelta(minutes=45)
    assert quiet_for(lunch, "sms", chicago(23)) == timedelta(0)


def test_no_quiet_at_all_can_be_wished_for() -> None:
    assert quiet_for(person(quiet=QuietHours(time(0), time(0))), "sms", chicago(3)) == timedelta(0)


def test_hours_that_end_in_a_gap_end_when_it_is_over() -> None:
    ends_at_half_past_two = person(quiet=QuietHours(time(22), time(2, 30)))  # 2022-03-13 has no 02:30 in Chicago

    wait = quiet_for(ends_at_half_past_two, "sms", chicago(22, day=12))

    assert timedelta(hours=4) <= wait <= timedelta(hours=5)
    assert quiet_for(ends_at_half_past_two, "sms", chicago(22, day=12) + wait) == timedelta(0)


@for_all(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.sampled_from([CHICAGO, "Asia/Kathmandu", "UTC"]),
         st.times(), st.times())
def test_after_the_wait_it_is_not_quiet(now: datetime, zone: str, start: time, end: time) -> None:
    who = person(zone=zone, quiet=QuietHours(start, end))
    moment = now.replace(tzinfo=UTC)

    for _ in range(3):  # a clock change may need another look, never many
        wait = quiet_for(who, "sms", moment)
        assert timedelta(0) <= wait <= timedelta(hours=26)
        moment += wait
    assert quiet_for(who, "sms", moment) == timedelta(0)


def test_the_default_night_is_that_of_the_regulation() -> None:
    start, end = NIGHT

    assert (start, end) == (time(21), time(8))


@pytest.mark.parametrize(("wanted", "chosen"), [
    ("es-MX", "es"), ("es", "es"), ("pt-BR", "pt-BR"), ("pt", "en"), ("vi", "en"), (None, "en"), ("EN-us", "en"),
])
def test_the_nearest_language_is_taken(wanted: str | None, chosen: str) -> None:
    assert language_of(wanted, {"en", "es", "pt-BR"}) == chosen


@pytest.mark.parametrize(("address", "valid"), [
    ("ada@lake.example", True), ("a.b+c@sub.lake.example", True), ("åsa@sjö.example", True),
    ("o'hara@x.example", True),
    ("a@b@c.example", False), ("a@x.example\nBcc: b@x.example", False), ("a@x.example;b@x.example", False),
    ("<a@x.example>", False), ("a@x", False), ("@x.example", False), ("", False), ("a@x.example\x00", False),
])
def test_one_address_and_nothing_more(address: str, valid: bool) -> None:
    assert valid_email(address) is valid


@pytest.mark.parametrize(("number", "valid"), [
    ("+13125550001", True), ("+447911123456", True), ("13125550001", False), ("+0312555", False),
    ("+1312555000p1", False),
    ("+1 312 555 0001", False), ("+19005550001", False), ("+449098790879", False),
    ("+٣١٢٥٥٥٠٠٠١", False), ("+1312", False),
])
def test_one_number_that_costs_nobody(number: str, valid: bool) -> None:
    assert valid_phone(number) is valid


@pytest.mark.parametrize(("said", "read"), [
    ("a\r\nb\tc", "a b c"), ("Zo\u200be\u200b", "Zoe"), ("\u202eabc", "abc"), ("a\x00b", "a b"), ("  a   b ", "a b"),
    ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"), ("a\u200db", "ab"), ("José", "José"), ("", ""),
])
def test_a_name_becomes_one_visible_line(said: str, read: str) -> None:
    assert plain(said) == read


@for_all(st.text(max_size=400))
def test_plain_text_is_short_visible_and_stays_as_it_is(said: str) -> None:
    once = plain(said, 50)

    assert len(once) <= 50
    assert not any(c in once for c in "\r\n\t\x00\u202e\u200b\u2028")
    assert plain(once, 50) == once


def test_a_megabyte_of_marks_is_three() -> None:
    assert plain("e" + "\u0301" * 1_000_000) == "é" + "\u0301" * 3


def test_operators_see_masked_addresses() -> None:
    assert mask("ada@lake.example") == "a***@lake.example"
    assert mask("+13125550001") == "+1******0001"
