"""Status reports of providers: believed when signed, effective once, refused when stale; and the whole way round."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import asyncpg
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from skillcore_streams.adapters.producing import Producer
from skillcore_streams.config import Settings
from skillcore_streams.events.notifications import EmailBounced, EmailSent, NotificationFailed, SMSDelivered
from skillcore_streams.runtime.errors import Misconfigured
from skillcore_streams.runtime.messages import EVENT_TYPES, Event
from skillcore_streams.runtime.outbox import Outgoing
from skillcore_streams.stack import free_port as stack_port
from skillcore_streams.stack import temporary
from skillcore_streams.stack.providers import NAMES, StandIns
from skillcore_streams.testing import NOW, TENANT, HandlerLab
from skillcore_streams.webhooks import Reply, Webhooks, read_key, sendgrid_signed, twilio_signature
from tests.commands.lab import Machine, until

DELIVERY, NOTICE, WHO = UUID(int=61), UUID(int=62), UUID(int=63)
TOKEN, PUBLIC_URL = "token", "https://hooks.example"
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()


# Known vectors of the providers' own libraries ------------------------------------------------------------------------


@pytest.mark.parametrize(("caller", "signature"), [
    ("+14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),  # twilio-python, tests/unit/test_request_validator.py
    ("+12349013030", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),  # Twilio's page on security
])
def test_twilio_s_signature_is_that_of_its_own_examples(caller: str, signature: str) -> None:
    form = {"CallSid": "CA1234567890ABCDE", "Caller": caller, "Digits": "1234", "From": caller, "To": "+18005551212"}

    assert twilio_signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", list(form.items())) == signature


VECTOR_KEY = ("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVp"
              "iglSI8eNEc6wEA3F+g==")
VECTOR_SIGNATURE = ("MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=")
VECTOR_BODY = json.dumps([{
    "email": "hello@world.com", "event": "dropped", "reason": "Bounced Address",
    "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
    "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
    "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>", "timestamp": 1600112492,
}], sort_keys=True, separators=(",", ":")).encode() + b"\r\n"


def test_sendgrid_s_signature_is_that_of_its_own_example() -> None:
    """sendgrid-python, test/unit/test_eventwebhook.py."""
    key = read_key(VECTOR_KEY)

    assert sendgrid_signed(key, "1600112502", VECTOR_BODY, VECTOR_SIGNATURE)
    assert not sendgrid_signed(key, "1600112503", VECTOR_BODY, VECTOR_SIGNATURE)
    assert not sendgrid_signed(key, "1600112502", VECTOR_BODY.strip(), VECTOR_SIGNATURE)
    assert not sendgrid_signed(KEY.public_key(), "1600112502", VECTOR_BODY, VECTOR_SIGNATURE)


# One report at a time -------------------------------------------------------------------------------------------------


class Desk:
    """A webhook desk on the lab's database, with reports as the providers write them."""

    def __init__(self, lab: HandlerLab) -> None:
        self.lab = lab
        self.woken: list[str] = []
        settings = Settings(public_url=PUBLIC_URL, twilio_auth_token=SecretStr(TOKEN), sendgrid_webhook_key=PUBLIC)
        self.hooks = Webhooks(settings, lab.transaction, self.woken.append, lambda: lab.now)

    async def delivery(self, channel: str, status: str = "sending") -> None:
        await self.lab.execute("""
            insert into notification_deliveries (tenant_id, delivery_id, notification_id, recipient_id, channel,
                                                 template, status, address_hash, ordered_at, sends)
            values ($1, $2, $3, $4, $5, 'user.welcome', $6, 'hash', $7, 1)""",
            TENANT, DELIVERY, NOTICE, WHO, channel, status, NOW)

    async def text(self, status: str, *, sid: str = "SM1", signature: str | None = None, delivery: object = DELIVERY,
                   **more: str) -> Reply:
        path = f"/webhooks/twilio?delivery={delivery}"
        form = {"MessageSid": sid, "MessageStatus": status, "To": "+13125550001"} | more
        text = PUBLIC_URL + path + "".join(k + form[k] for k in sorted(form))
        right = base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), sha1)).decode()
        return await self.hooks.twilio(path, urlencode(form).encode(), signature or right)

    async def mail(self, *events: dict[str, Any], at: datetime | None = None, body: bytes | None = None) -> Reply:
        said = body if body is not None else json.dumps([self.event(**event) for event in events]).encode()
        stamp = str(int((at or self.lab.now).timestamp()))
        signature = base64.b64encode(KEY.sign(stamp.encode() + said, ec.ECDSA(hashes.SHA256()))).decode()
        return await self.hooks.sendgrid(said, signature, stamp)

    @staticmethod
    def event(event: str = "processed", id: str = "e1", **more: Any) -> dict[str, Any]:
        return {"event": event, "sg_event_id": id, "sg_message_id": "m1", "email": "ada@lake.example",
                "timestamp": int(NOW.timestamp()) - 5, "delivery_id": str(DELIVERY)} | more

    async def published(self) -> list[Event]:
        rows = await self.lab.rows("select headers, value from outbox order by id")
        return [EVENT_TYPES[json.loads(r["headers"])["ce_type"]].model_validate_json(r["value"]) for r in rows]

    async def status(self) -> str:
        return str(await self.lab.value("select status from notification_deliveries"))


@pytest.fixture
def desk(lab: HandlerLab) -> Desk:
    return Desk(lab)


async def test_a_processed_mail_is_said_once_however_often_it_is_told(desk: Desk) -> None:
    await desk.delivery("email")

    first = await desk.mail({})
    again = await desk.mail({}, at=NOW + timedelta(seconds=9))

    assert first == Reply(200, {"taken": 1, "repeated": 0, "unknown": 0, "ignored": 0})
    assert again.body["repeated"] == 1
    [event] = await desk.published()
    assert isinstance(event, EmailSent)
    assert (event.delivery_id, event.recipient_id, event.to_hash) == (DELIVERY, WHO, "hash")
    assert event.sent_at == NOW - timedelta(seconds=5)
    assert desk.woken == [f"webhooks-{WHO}"]
    await desk.lab.deliver_published()
    assert await desk.status() == "sent"


async def test_a_delivered_mail_moves_its_row_up(desk: Desk) -> None:
    await desk.delivery("email")

    await desk.mail({"event": "delivered"})

    assert (await desk.status(), await desk.published()) == ("delivered", [])


@pytest.mark.parametrize(("event", "how"), [
    ({"event": "bounce", "type": "bounce", "status": "5.1.1"}, "hard"),
    ({"event": "bounce", "type": "bounce", "status": "4.2.2"}, "soft"),
    ({"event": "bounce", "type": "blocked", "status": "4.0.0"}, "blocked"),
    ({"event": "dropped", "reason": "Bounced Address"}, "dropped"), ({"event": "spamreport"}, "spamreport"),
])
async def test_bounces_in_the_catalogue_s_words_and_without_the_server_s(
    desk: Desk, event: dict[str, Any], how: str
) -> None:
    await desk.delivery("email")

    await desk.mail(event | {"reason": "550 no such user ada@lake.example"})

    [said] = await desk.published()
    assert isinstance(said, EmailBounced)
    assert (said.bounce_class, said.reason) == (how, "")


@pytest.mark.parametrize("event", ["open", "click", "deferred", "group_unsubscribe", "", "future_event"])
async def test_what_is_nothing_to_us_is_taken_and_ignored(desk: Desk, event: str) -> None:
    await desk.delivery("email")

    assert (await desk.mail({"event": event})).body["ignored"] == 1
    assert await desk.published() == []


async def test_a_text_that_left_moves_its_row_up_and_one_that_arrived_is_said(desk: Desk) -> None:
    await desk.delivery("sms", "ambiguous")

    await desk.text("sent")
    assert await desk.status() == "sent"
    for _ in range(2):
        await desk.text("delivered", NumSegments="2")

    [event] = await desk.published()
    assert isinstance(event, SMSDelivered)
    assert (event.segments, event.provider_message_id) == (2, "SM1")


async def test_an_undelivered_text_is_a_failure_with_twilio_s_code(desk: Desk) -> None:
    await desk.delivery("sms", "sent")

    await desk.text("undelivered", ErrorCode="30003")

    [event] = await desk.published()
    assert isinstance(event, NotificationFailed)
    assert (event.error_code, event.error_class, event.attempts) == ("30003", "permanent", 1)


async def test_a_batch_is_taken_event_by_event(desk: Desk) -> None:
    await desk.delivery("email")

    reply = await desk.mail({"id": "a"}, {"id": "b", "event": "delivered"}, {"id": "c", "event": "open"},
                            {"id": "d", "delivery_id": str(UUID(int=9))}, {"id": "e", "delivery_id": "of others"},
                            {"id": "a"})

    assert reply.body == {"taken": 2, "repeated": 1, "unknown": 1, "ignored": 1}


# What is not believed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-301, 301, -10**6])
async def test_a_stale_signature_is_refused(desk: Desk, seconds: int) -> None:
    await desk.delivery("email")

    assert (await desk.mail({}, at=NOW + timedelta(seconds=seconds))).status == 403
    assert await desk.published() == []


async def test_every_flipped_bit_is_refused(desk: Desk) -> None:
    await desk.delivery("email")
    body, stamp = json.dumps([Desk.event()]).encode(), str(int(NOW.timestamp()))
    signature = base64.b64encode(KEY.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    assert (await desk.hooks.sendgrid(body, signature, stamp)).status == 200

    for n in range(0, len(body), 7):
        flipped = body[:n] + bytes([body[n] ^ 1]) + body[n + 1 :]
        assert (await desk.hooks.sendgrid(flipped, signature, stamp)).status == 403
    for n in range(0, len(signature), 5):
        other = "A" if signature[n] != "A" else "B"
        assert (await desk.hooks.sendgrid(body, signature[:n] + other + signature[n + 1 :], stamp)).status == 403


@pytest.mark.parametrize(("signature", "stamp"), [
    (None, "1"), ("x", None), ("", ""), ("not base64!", "1656590400"), ("AAAA", "1656590400"), ("AAAA", "９"),
])
async def test_a_missing_or_odd_signature_is_refused(desk: Desk, signature: str | None, stamp: str | None) -> None:
    assert (await desk.hooks.sendgrid(b"[]", signature, stamp)).status == 403


@pytest.mark.parametrize("stamp", ["soon", "-1", "1" * 40, "1e9", " 1656590400"])
async def test_a_signed_time_that_is_none_is_refused(desk: Desk, stamp: str) -> None:
    signature = base64.b64encode(KEY.sign(stamp.encode() + b"[]", ec.ECDSA(hashes.SHA256()))).decode()

    assert (await desk.hooks.sendgrid(b"[]", signature, stamp)).status == 403


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[", b"\xff", b"[" * 100_000])
async def test_a_signed_body_that_is_no_batch_is_refused(desk: Desk, body: bytes) -> None:
    assert (await desk.mail(body=body)).status == 400


async def test_a_text_s_report_with_a_wrong_signature_or_another_url_is_refused(desk: Desk) -> None:
    await desk.delivery("sms")

    assert (await desk.text("delivered", signature="RSOYDt4T1cUTdK1PDd93/VVr8B8=")).status == 403
    assert (await desk.text("delivered", signature="é")).status == 403
    form = urlencode({"MessageSid": "SM1", "MessageStatus": "delivered"}).encode()
    assert (await desk.hooks.twilio(f"/webhooks/twilio?delivery={DELIVERY}", form, None)).status == 403
    assert (await desk.status(), await desk.published()) == ("sending", [])


async def test_a_text_s_report_of_no_delivery_of_ours_is_taken_and_means_nothing(desk: Desk) -> None:
    await desk.delivery("sms")

    assert (await desk.text("delivered", delivery=UUID(int=1))).body["unknown"] == 1
    assert (await desk.text("delivered", delivery="'; drop table job; --")).status == 200
    assert await desk.published() == []


async def test_without_keys_every_report_is_refused(lab: HandlerLab) -> None:
    hooks = Webhooks(Settings(), lab.transaction, lambda lane: None, lambda: NOW)

    assert (await hooks.twilio("/webhooks/twilio", b"", "x")).status == 403
    assert (await hooks.sendgrid(b"[]", "x", "1")).status == 403


@pytest.mark.parametrize("key", ["", "AAAA", "not base64", base64.b64encode(b"x" * 91).decode()])
def test_a_key_that_is_none_does_not_start(key: str) -> None:
    with pytest.raises(Misconfigured, match="SKILLCORE_SENDGRID_WEBHOOK_KEY"):
        read_key(key)


@pytest.fixture(autouse=True)
def _only_what_a_test_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        if name not in ("kafka", "database_url", "redis_url"):
            monkeypatch.delenv(f"SKILLCORE_{name.upper()}", raising=False)


# The whole way round --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A stack of its own: another worker of these topics, without providers, would say that the deliveries failed."""
    with temporary() as stack:
        if stack.kafka_kind == "mock":
            pytest.skip("NOT RUN: needs Apache Kafka, and this machine has only librdkafka's in-memory broker")
        env = stack.env()
        made = Machine(env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"], tmp_path_factory.mktemp("alone"))
        made.run("topics", "apply")
        made.run("migrate")
        yield made


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandIns]:
    ports: dict[str, int] = {}
    for name in ("inbox", *NAMES):
        ports[name] = stack_port(set(ports.values()))
    service = StandIns("providers", tmp_path / "providers", ports)
    service.spawn()
    service.wait_ready()
    try:
        yield service
    finally:
        service.stop()


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data, headers={"Content-Type": "application/json"}), timeout=10) as answer:
        return json.loads(answer.read())


def received(stand_ins: StandIns) -> list[tuple[str, str]]:
    found = ask(f"http://{stand_ins.address}/inbox.json")["received"]
    return sorted((r["provider"], r["to"]) for r in found)


def reported(stand_ins: StandIns) -> list[tuple[str, int]]:
    found = ask(f"http://{stand_ins.address}/inbox.json")["webhooks"]
    return sorted({(said["provider"], said["status"]) for said in found})


async def add_job(kafka: str, name: str, job_id: str, **data: str) -> None:
    """As a producer writes it that still speaks BullMQ. The topics outlive a run, so ids are of this one."""
    body = {"name": name, "data": data, "opts": {"jobId": f"{job_id} {uuid4()}", "priority": 5}}
    async with Producer(kafka) as producer:
        await producer.send([Outgoing("skillcore.jobs.notification-delivery.v1", b"k", json.dumps(body).encode(),
                                      [("ce_tenantid", b"maple")])])


def reachable(stand_ins: StandIns) -> dict[str, str]:
    """A worker's settings under which providers find its webhooks."""
    port = stack_port(set(stand_ins.ports.values()))
    here = f"http://127.0.0.1:{port}"
    ask(f"http://{stand_ins.address}/webhook", {"url": f"{here}/webhooks/sendgrid"})
    return stand_ins.env() | {"SKILLCORE_PUBLIC_URL": here, "SKILLCORE_WEB_PORT": str(port)}


async def test_a_bullmq_job_goes_out_and_its_status_comes_back(alone: Machine, stand_ins: StandIns) -> None:
    env = reachable(stand_ins)
    with alone.worker(**env) as worker:
        worker.port = int(env["SKILLCORE_WEB_PORT"])
        worker.ready()
        addresses = [("fcm", "push", "device-1"), ("sendgrid", "email", "ada@lake.example"),
                     ("twilio", "sms", "+13125550001")]
        for _, channel, to in addresses:
            await add_job(alone.kafka, "grade-posted", channel, channel=channel, recipient=to, content="There is news")

        until(lambda: len(received(stand_ins)) >= 3, 40, worker.said)
        assert received(stand_ins) == [(provider, to) for provider, _, to in addresses]
        until(lambda: reported(stand_ins) == [("sendgrid", 200), ("twilio", 200)], 40, worker.said)
        until(lambda: "SMSDelivered" in alone.run("events", "show", "--tenant", "maple", "--json"), 40, worker.said)
        told = alone.run("events", "show", "--tenant", "maple", "--json")
        assert "EmailSent" in told
        assert "PushNotificationSent" in told
        assert "ada@lake.example" not in told

        assert worker.get("/webhooks/twilio")[0] == 405
        assert worker.get("/webhooks/twilio", "POST")[0] == 403
        assert worker.get("/webhooks/other", "POST")[0] == 404
        text = worker.get("/metrics")[1]
        assert 'circuit_breaker_state{dependency="sendgrid"} 0.0' in text
        assert re.search(r'notification_deliveries_total\{channel="sms",status="sent"\} [1-9]', text)
        log = worker.log.read_text(errors="replace")
        assert not any(private in log for private in ("ada@lake.example", "+13125550001", "There is news"))


async def test_a_worker_killed_after_the_provider_s_yes_sends_no_second_mail(
    alone: Machine, stand_ins: StandIns
) -> None:
    env = reachable(stand_ins)
    with alone.worker(**env, SKILLCORE_FAILPOINTS="delivery.answered=kill") as first:
        first.port = int(env["SKILLCORE_WEB_PORT"])
        first.ready()
        to = "once@lake.example"
        await add_job(alone.kafka, "grade-posted", "killed", channel="email", recipient=to, content="News")
        until(lambda: first.process.poll() is not None, 40, first.said)
    assert first.process.returncode == -signal.SIGKILL

    with alone.worker(**env) as second:  # SendGrid's webhook is tried until somebody takes it
        second.port = int(env["SKILLCORE_WEB_PORT"])
        second.ready()
        until(lambda: ("sendgrid", 200) in reported(stand_ins), 90, second.said)
        db = await asyncpg.connect(alone.dsn)
        async with asyncio.timeout(60):  # the job is run again: it is done by then, or waits for a report
            while await db.fetchval(AGAIN) not in ("completed", "delayed"):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.2)
            while await db.fetchval(STANDS) != ("delivered", 1):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await db.close()

    assert received(stand_ins) == [("sendgrid", "once@lake.example")]


AGAIN = "select state from job_now where kind = 'given' and payload like '%once@lake.example%'"
STANDS = """
    select (status, sends) from notification_deliveries where address_hash = address_hash('once@lake.example')"""
