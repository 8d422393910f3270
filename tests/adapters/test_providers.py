"""Adapters of providers against the stand-ins, in each of the ways a provider may answer or fail to."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import SecretStr

from skillcore_streams.adapters import providers as adapters
from skillcore_streams.adapters.providers import Http, connect, read_account, retry_after
from skillcore_streams.config import Settings
from skillcore_streams.runtime.core import utc_now
from skillcore_streams.runtime.errors import Misconfigured
from skillcore_streams.runtime.providers import (
    Ambiguous,
    Line,
    Mail,
    Page,
    Providers,
    Push,
    Rejected,
    Sent,
    Text,
    Throttled,
    Unavailable,
)
from skillcore_streams.stack import free_port
from skillcore_streams.stack.providers import NAMES, StandIns
from skillcore_streams.stack.providers.server import Mode, Office, Switch

DELIVERY = UUID(int=5)
MAIL = Mail("ada@lake.example", "Hello", "text", "<p>html</p>", DELIVERY)
TEXT = Text("+13125550001", "new message", DELIVERY)
PUSH = Push("token-1", "SkillCore", "new message", "notice-1", False, DELIVERY, "https://app.example/n/1")
PAGE = Page("incident-1", "it burns", "critical", "tests")
MESSAGES: dict[str, Any] = {"sendgrid": MAIL, "twilio": TEXT, "fcm": PUSH, "pagerduty": PAGE}


@pytest.fixture(autouse=True)
def _only_what_a_test_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SKILLCORE_")]:
        monkeypatch.delenv(name)


@dataclass
class World:
    office: Office
    lines: Providers
    settings: Settings
    http: Http
    home: Path

    def line(self, name: str) -> Line[Any]:
        lines = {"sendgrid": self.lines.email, "twilio": self.lines.sms, "fcm": self.lines.push,
                 "pagerduty": self.lines.pages}
        found = lines[name]
        assert found is not None
        return found


def settings_of(stand_ins: StandIns, **more: Any) -> Settings:
    said = {name.removeprefix("SKILLCORE_").lower(): value for name, value in stand_ins.env().items()}
    return Settings(**said | more)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    ports: dict[str, int] = {}
    for name in ("inbox", *NAMES):
        ports[name] = free_port(set(ports.values()))
    stand_ins = StandIns("providers", tmp_path, ports)
    stand_ins.prepare()
    http = Http(timeout=0.5, connect=0.4)
    settings = settings_of(stand_ins, public_url=f"http://127.0.0.1:{ports['inbox']}/nobody")
    async with Office.at(tmp_path, ports) as office:
        yield World(office, connect(settings, http), settings, http, tmp_path)
        await http.close()


EXPECTED: dict[Mode, Callable[[Any], bool]] = {
    "ok": lambda o: isinstance(o, Sent) and bool(o.provider_id),
    "bounce": lambda o: isinstance(o, Sent),
    "silent": lambda o: isinstance(o, Sent),
    "down": lambda o: o == Unavailable("no_connection"),
    "unavailable": lambda o: isinstance(o, Unavailable),
    "blank": lambda o: isinstance(o, Ambiguous),
    "slow": lambda o: o == Ambiguous("timeout"),
    "drop": lambda o: isinstance(o, Ambiguous),
    "throttle": lambda o: o == Throttled(timedelta(seconds=7)),
    "reject": lambda o: isinstance(o, Rejected),
}
TAKEN = {"ok", "bounce", "silent", "blank", "slow", "drop"}
"""Modes in which the provider has the message, whatever it answered."""


def test_every_mode_has_its_expectation() -> None:
    assert set(EXPECTED) == set(get_args(Mode))


@pytest.mark.parametrize("mode", EXPECTED)
@pytest.mark.parametrize("name", NAMES)
async def test_each_provider_in_each_mode(world: World, name: str, mode: Mode) -> None:
    await world.line(name).sender.send(MESSAGES[name])  # a connection is open, a token is there
    world.office.inbox.clear()
    await world.office.switch(name, Switch(mode, seconds=1.0, retry_after=7))
    if mode == "down":
        await world.http.close()  # a connection that the provider has just ended would be a doubt, and rightly so

    outcome = await world.line(name).sender.send(MESSAGES[name])

    assert EXPECTED[mode](outcome), outcome
    assert len(world.office.inbox) == (mode in TAKEN)
    for private in ("ada@lake.example", "+13125550001", "token-1", "new message"):
        assert private not in repr(outcome)

    await world.office.switch(name, Switch())
    assert isinstance(await world.line(name).sender.send(MESSAGES[name]), Sent)


async def test_a_mail_carries_nothing_of_ours_but_the_delivery_s_id(world: World) -> None:
    await world.line("sendgrid").sender.send(MAIL)

    [received] = world.office.inbox
    assert (received.to, received.subject, received.body, received.html) == (
        "ada@lake.example", "Hello", "text", "<p>html</p>")
    assert received.more["custom_args"] == {"delivery_id": str(DELIVERY)}


async def test_a_text_s_status_callback_carries_the_delivery_s_id(world: World) -> None:
    await world.office.switch("twilio", Switch("silent"))
    await world.line("twilio").sender.send(TEXT)

    assert world.office.inbox[0].delivery_id == str(DELIVERY)


async def test_a_second_push_of_a_notice_replaces_the_first(world: World) -> None:
    for _ in range(2):
        await world.line("fcm").sender.send(PUSH)

    assert [bool(r.more.get("replaced")) for r in world.office.inbox] == [True, False]
    assert world.office.inbox[1].more["message"]["data"] == {
        "delivery_id": str(DELIVERY), "link": "https://app.example/n/1"}


@pytest.mark.parametrize(("name", "message", "code"), [
    ("sendgrid", Mail("no address", "s", "t", None, DELIVERY), "400"),
    ("sendgrid", Mail("a@x.example", "a\nb", "t", None, DELIVERY), "400"),
    ("twilio", Text("+0", "x", DELIVERY), "21211"),
    ("twilio", Text("+13125550001", "x" * 1601, DELIVERY), "21617"),
])
async def test_a_provider_s_own_error_code_is_kept(world: World, name: str, message: Any, code: str) -> None:
    assert await world.line(name).sender.send(message) == Rejected(code)
    assert world.office.inbox == []


async def test_who_said_stop_is_21610(world: World) -> None:
    world.office.stopped.add(TEXT.to)

    assert await world.line("twilio").sender.send(TEXT) == Rejected("21610")


@pytest.mark.parametrize(("code", "outcome"), [
    ("UNREGISTERED", Rejected("UNREGISTERED")), ("INVALID_ARGUMENT", Rejected("INVALID_ARGUMENT")),
])
async def test_fcm_s_own_code_stands_in_its_details(world: World, code: str, outcome: Rejected) -> None:
    await world.office.switch("fcm", Switch("reject", code=code))

    assert await world.line("fcm").sender.send(PUSH) == outcome


async def test_one_token_serves_many_pushes_at_once(world: World) -> None:
    outcomes = await asyncio.gather(*(world.line("fcm").sender.send(PUSH) for _ in range(8)))

    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert len(world.office._tokens) == 1


async def test_a_token_that_is_refused_is_replaced_at_the_next_try(world: World) -> None:
    await world.line("fcm").sender.send(PUSH)
    world.office._tokens.clear()

    assert await world.line("fcm").sender.send(PUSH) == Unavailable("UNAUTHENTICATED")
    assert isinstance(await world.line("fcm").sender.send(PUSH), Sent)


async def test_a_token_is_renewed_five_minutes_before_its_end(world: World) -> None:
    now = time.time()
    account = adapters.ServiceAccount(json.loads((world.home / "service-account.json").read_text()), clock=lambda: now)
    first = await account.token(world.http)
    now += 3599 - 301
    assert await account.token(world.http) == first
    now += 2

    world_clock = await account.token(world.http)  # Google refuses a claim from the future; ours is one by now
    assert isinstance(world_clock, Unavailable)


async def test_without_a_token_nothing_was_said(world: World) -> None:
    await world.office.switch("fcm", Switch("down"))

    assert await world.line("fcm").sender.send(PUSH) == Unavailable("no_token")


async def test_wrong_credentials_are_ours_to_mend_not_the_message_s_fault(world: World) -> None:
    wrong = world.settings.model_copy(update={
        "sendgrid_api_key": SecretStr("SG.wrong"), "twilio_auth_token": SecretStr("wrong")})
    lines = connect(wrong, world.http)
    assert lines.email is not None
    assert lines.sms is not None

    assert await lines.email.sender.send(MAIL) == Unavailable("401")
    assert await lines.sms.sender.send(TEXT) == Unavailable("20003")


async def test_resolving_an_incident_ends_it(world: World) -> None:
    for action in ("trigger", "trigger", "resolve"):
        assert await world.line("pagerduty").sender.send(Page("k", "s", "error", "t", action)) == Sent("k")  # type: ignore[arg-type]

    assert world.office.incidents == {"k": "resolved"}


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"Retry-After": "3"}, 3), ({"Retry-After": "0"}, 1), ({"Retry-After": "99999"}, 3600), ({}, 5),
    ({"Retry-After": "soon"}, 5), ({"X-RateLimit-Reset": "1700000060"}, 60),
    ({"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60), ({"Retry-After": "-5"}, 5),
])
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: int) -> None:
    assert retry_after(headers, 1_700_000_000) == timedelta(seconds=seconds)


def test_a_date_as_servers_write_it() -> None:
    then = utc_now().replace(microsecond=0) + timedelta(seconds=90)

    assert 85 < retry_after({"Retry-After": format_datetime(then, usegmt=True)}, time.time()).total_seconds() <= 90


@pytest.mark.parametrize("half", [
    {"sendgrid_api_key": SecretStr("x")}, {"mail_from": "a@x.example"}, {"twilio_account_sid": "AC"},
    {"twilio_account_sid": "AC", "twilio_auth_token": SecretStr("x")},
])
def test_half_a_configuration_does_not_start(half: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="half configured: set SKILLCORE_"):
        connect(Settings(**half), Http())


def test_without_settings_there_are_no_channels() -> None:
    assert connect(Settings(), Http()).channels() == frozenset()


def test_a_bad_service_account_is_said_without_quoting_it(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"private_key": "secret", "project_id": "p"}')

    with pytest.raises(Misconfigured, match="is no service account") as error:
        read_account(path)
    assert "secret" not in str(error.value)


def test_secrets_do_not_show_in_the_settings_repr() -> None:
    shown = repr(Settings(sendgrid_api_key=SecretStr("SG.secret"), twilio_auth_token=SecretStr("tw-secret"),
                          pagerduty_routing_key=SecretStr("pd-secret")))

    assert not any(secret in shown for secret in ("SG.secret", "tw-secret", "pd-secret"))
    assert all("ada" not in repr(message) and "+1312" not in repr(message) for message in (MAIL, TEXT, PUSH))
