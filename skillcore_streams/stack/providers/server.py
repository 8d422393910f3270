"""The stand-ins themselves: what each provider checks, answers and reports, and the ways in which it may fail.

Switches, `POST /switch/<provider>` on the inbox's port with JSON {"mode": ..., "times": n, ...}:

    ok           as it should be
    down         nobody listens: connections are refused
    unavailable  503 with the provider's own error body: not taken, for sure
    blank        500 without a body: taken or not, nobody knows
    slow         answers after `seconds` (6), having taken the message
    throttle     429 with Retry-After of `retry_after` (2) seconds; nothing is taken
    drop         takes the message and closes the connection instead of answering
    reject       a permanent error: `code` (SendGrid 400, Twilio 21211, FCM UNREGISTERED, PagerDuty 400)
    bounce       takes it; reports later that it came back (SendGrid: hard; Twilio: undelivered, 30003)
    silent       takes it and reports nothing

`times` makes it the next n calls only. A person's STOP is `POST /stop {"number": ...}`; Twilio then refuses with 21610.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha1
from hmac import digest
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlencode

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from skillcore_streams.stack import providers

Mode = Literal["ok", "down", "unavailable", "blank", "slow", "throttle", "drop", "reject", "bounce", "silent"]
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
RETRIES = (0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between tries of a webhook that nobody takes."""


@dataclass(slots=True)
class Switch:
    """How one provider behaves."""

    mode: Mode = "ok"
    times: int | None = None
    seconds: float = 6.0
    retry_after: int = 2
    code: str | None = None


@dataclass(slots=True)
class Received:
    """One message that a provider took."""

    n: int
    provider: str
    to: str
    subject: str
    body: str
    at: float
    delivery_id: str | None = None
    html: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Said:
    """A webhook as it was sent."""

    provider: str
    url: str
    status: int
    tries: int


class Office:
    """All stand-ins of one stack: their inbox, switches, and the webhooks they send."""

    def __init__(self, folder: Path) -> None:
        self.inbox: list[Received] = []
        self.said: list[Said] = []
        self.switches = {name: Switch() for name in providers.NAMES}
        self.stopped: set[str] = set()
        self.incidents: dict[str, str] = {}
        self.webhook_url = "http://127.0.0.1:6066/webhooks/sendgrid"  # in SendGrid's dashboard, for the whole account
        self.calls = dict.fromkeys(providers.NAMES, 0)
        key = serialization.load_pem_private_key((folder / "sendgrid-webhook.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._signing = key
        account = json.loads((folder / "service-account.json").read_text())
        private = serialization.load_pem_private_key(account["private_key"].encode(), None)
        assert isinstance(private, rsa.RSAPrivateKey)
        self._account, self._public = account, private.public_key()
        self._tokens: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._runners: dict[str, web.AppRunner] = {}
        self._sites: dict[str, web.TCPSite] = {}
        self._ports: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, folder: Path, ports: Mapping[str, int]) -> AsyncIterator[Office]:
        """Listen until the block ends. `ports`: inbox, and one for each provider."""
        office = cls(folder)
        office._ports = dict(ports)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            office._session = session
            try:
                for name in (*providers.NAMES, "inbox"):  # the inbox last: when it answers, all do
                    office._runners[name] = runner = web.AppRunner(
                        office._site(name), access_log=None, shutdown_timeout=0.1)
                    await runner.setup()
                    await office._listen(name)
                yield office
            finally:
                for task in office._tasks:
                    task.cancel()
                for runner in office._runners.values():
                    await runner.cleanup()

    def _site(self, name: str) -> web.Application:
        app = web.Application(client_max_size=30 << 20)
        routes = {
            "sendgrid": [web.post("/v3/mail/send", self.sendgrid)],
            "twilio": [web.post("/2010-04-01/Accounts/{sid}/Messages.json", self.twilio)],
            "fcm": [web.post("/v1/projects/{project}/messages:send", self.fcm), web.post("/token", self.token)],
            "pagerduty": [web.post("/v2/enqueue", self.pagerduty)],
            "inbox": [
                web.get("/", self.page), web.get("/inbox.json", self.listing), web.get("/mail/{n}", self.mail),
                web.get("/switches", self.look), web.post("/switch/{provider}", self.turn),
                web.post("/stop", self.stop), web.post("/clear", self.clear), web.post("/webhook", self.point),
            ],
        }
        app.add_routes(routes[name])
        return app

    async def _listen(self, name: str) -> None:
        self._sites[name] = site = web.TCPSite(
            self._runners[name], "127.0.0.1", self._ports[name], reuse_address=True
        )
        await site.start()

    async def switch(self, name: str, switch: Switch) -> None:
        """Turn a provider's switch. `down` closes its port and what is connected to it."""
        self.switches[name] = switch
        if switch.mode == "down" and name in self._sites:
            await self._sites.pop(name).stop()
            for connection in getattr(self._runners[name].server, "connections", []):
                if connection.transport is not None:
                    connection.transport.close()
        elif switch.mode != "down" and name not in self._sites:
            await self._listen(name)

    def _mode(self, name: str) -> Switch:
        """How this call is answered; counts it."""
        self.calls[name] += 1
        switch = self.switches[name]
        if switch.times == 0:
            self.switches[name] = switch = Switch()
        elif switch.times is not None:
            switch.times -= 1
        return switch

    def _take(self, provider: str, to: str, subject: str, body: str, **more: Any) -> Received:
        taken = Received(len(self.inbox), provider, to, subject, body, time.time(), **more)
        self.inbox.append(taken)
        return taken

    async def _fail(self, request: web.Request, switch: Switch, error: dict[str, Any]) -> web.Response | None:
        """Failures in which nothing is taken."""
        if switch.mode == "unavailable":
            return web.json_response(error, status=503)
        if switch.mode == "throttle":
            return web.json_response(error, status=429, headers={"Retry-After": str(switch.retry_after)})
        return None

    async def _answer(self, request: web.Request, switch: Switch, answer: web.Response) -> web.Response:
        """Failures in which the message has been taken."""
        if switch.mode == "slow":
            await asyncio.sleep(switch.seconds)
        if switch.mode == "drop" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=500) if switch.mode == "blank" else answer

    # SendGrid -----------------------------------------------------------------------------------------------------

    async def sendgrid(self, request: web.Request) -> web.Response:
        """v3 Mail Send, as far as one mail to one person needs it."""
        switch = self._mode("sendgrid")
        if request.headers.get("Authorization") != f"Bearer {providers.API_KEY}":
            return _sendgrid_error(401, "The provided authorization grant is invalid, expired, or revoked", None)
        if (failed := await self._fail(request, switch, {"errors": [{"message": "try later"}]})) is not None:
            return failed
        try:
            said = json.loads(await request.read())
            [person] = said["personalizations"]
            to, content = person["to"][0]["email"], said["content"]
            kinds = [part["type"] for part in content]
            subject = said["subject"]
            assert isinstance(said["from"]["email"], str)
            assert content
            assert all(part["value"] for part in content)
        except (ValueError, KeyError, IndexError, TypeError, AssertionError):
            return _sendgrid_error(400, "Bad Request", None)
        if not re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+", to):
            return _sendgrid_error(400, "Does not contain a valid address.", "personalizations.0.to.0.email")
        if not subject or "\n" in subject or "\r" in subject:
            return _sendgrid_error(400, "The subject is required.", "subject")
        if kinds != sorted(kinds, key=["text/plain", "text/html"].index):
            return _sendgrid_error(400, "Content types must be in order text/plain, text/html", "content")
        if switch.mode == "reject":
            return _sendgrid_error(int(switch.code or 400), "refused", None)
        parts = dict(zip(kinds, (part["value"] for part in content), strict=True))
        arguments = person.get("custom_args", {})
        message_id = secrets.token_urlsafe(16)
        self._take("sendgrid", to, subject, parts.get("text/plain", ""), html=parts.get("text/html"),
                   delivery_id=arguments.get("delivery_id"), more={"id": message_id, "custom_args": arguments})
        if switch.mode != "silent":
            self._report(self._sendgrid_reports(to, message_id, arguments, switch.mode))
        return await self._answer(request, switch, web.Response(status=202, headers={"X-Message-Id": message_id}))

    async def _sendgrid_reports(self, to: str, message_id: str, arguments: dict[str, str], mode: Mode) -> None:
        def event(name: str, **more: object) -> dict[str, object]:
            return arguments | {  # custom arguments stand beside the others
                "email": to, "timestamp": int(time.time()), "event": name, "sg_event_id": secrets.token_urlsafe(16),
                "sg_message_id": f"{message_id}.recvd-local-0", "smtp-id": f"<{message_id}@local>",
            } | more  # fmt: skip

        await self._post_signed([event("processed")])
        if mode == "bounce":
            await self._post_signed([event("bounce", type="bounce", status="5.1.1", reason="550 5.1.1 no such user")])
        else:
            await self._post_signed([event("delivered", response="250 OK")])

    async def _post_signed(self, events: list[dict[str, object]]) -> None:
        """The Event Webhook: ECDSA over timestamp and body, base64 of DER."""
        body, now = json.dumps(events).encode(), str(int(time.time()))
        signature = base64.b64encode(self._signing.sign(now.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
        await self._post("sendgrid", self.webhook_url, body, {
            "Content-Type": "application/json", "X-Twilio-Email-Event-Webhook-Signature": signature,
            "X-Twilio-Email-Event-Webhook-Timestamp": now,
        })  # fmt: skip

    # Twilio -------------------------------------------------------------------------------------------------------

    async def twilio(self, request: web.Request) -> web.Response:
        """Messages: create."""
        switch = self._mode("twilio")
        basic = base64.b64encode(f"{providers.ACCOUNT_SID}:{providers.AUTH_TOKEN}".encode()).decode()
        sid = request.match_info["sid"]
        if request.headers.get("Authorization") != f"Basic {basic}" or sid != providers.ACCOUNT_SID:
            return _twilio_error(401, 20003, "Authenticate")
        if switch.mode in ("unavailable", "throttle"):
            code = 20429 if switch.mode == "throttle" else 20500
            failed = await self._fail(request, switch, {"code": code, "message": "try later", "status": code})
            assert failed is not None
            return failed
        form = {name: values[-1] for name, values in parse_qs((await request.read()).decode()).items()}
        to, body = form.get("To", ""), form.get("Body", "")
        if not E164.fullmatch(to):
            return _twilio_error(400, 21211, "The 'To' number is not a valid phone number.")
        if not ("From" in form or "MessagingServiceSid" in form):
            return _twilio_error(400, 21603, "A 'From' phone number is required.")
        if not body:
            return _twilio_error(400, 21602, "Message body is required.")
        if len(body) > 1600:
            return _twilio_error(400, 21617, "The concatenated message body exceeds the 1600 character limit")
        if to in self.stopped:
            return _twilio_error(400, 21610, "Attempt to send to unsubscribed recipient")
        if switch.mode == "reject":
            return _twilio_error(400, int(switch.code or 21211), "refused")
        message_sid = "SM" + secrets.token_hex(16)
        callback = form.get("StatusCallback", "")
        found = re.search(r"[?&]delivery=([^&]+)", callback)
        self._take("twilio", to, "", body, delivery_id=found[1] if found else None, more={"id": message_sid})
        if callback and switch.mode != "silent":
            self._report(self._twilio_reports(callback, to, message_sid, switch.mode))
        return await self._answer(request, switch, web.json_response(status=201, data={
            "sid": message_sid, "status": "queued", "to": to, "account_sid": sid, "num_segments": "1",
            "error_code": None, "price": None, "direction": "outbound-api",
        }))  # fmt: skip

    async def _twilio_reports(self, callback: str, to: str, sid: str, mode: Mode) -> None:
        for status in ("sent", "undelivered" if mode == "bounce" else "delivered"):
            form = {
                "MessageSid": sid, "SmsSid": sid, "MessageStatus": status, "SmsStatus": status, "To": to,
                "From": providers.FROM_NUMBER, "AccountSid": providers.ACCOUNT_SID, "ApiVersion": "2010-04-01",
            }  # fmt: skip
            if status == "undelivered":
                form["ErrorCode"] = "30003"
            text = callback + "".join(name + form[name] for name in sorted(form))
            signature = base64.b64encode(digest(providers.AUTH_TOKEN.encode(), text.encode(), sha1)).decode()
            await self._post("twilio", callback, urlencode(form).encode(), {
                "Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature,
            })  # fmt: skip

    # FCM ----------------------------------------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.Response:
        """Google's token end point: a signed claim for a token of an hour."""
        form = {name: values[-1] for name, values in parse_qs((await request.read()).decode()).items()}
        try:
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            head, claim, signature = form["assertion"].split(".")
            self._public.verify(_unbase64(signature), f"{head}.{claim}".encode(), padding.PKCS1v15(), hashes.SHA256())
            said = json.loads(_unbase64(claim))
            assert json.loads(_unbase64(head))["alg"] == "RS256"
            assert said["iss"] == self._account["client_email"]
            assert said["aud"] == self._account["token_uri"]
            assert said["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
            assert said["iat"] - 60 <= time.time() < said["exp"] <= said["iat"] + 3600
        except (KeyError, ValueError, AssertionError, InvalidSignature):
            return web.json_response({"error": "invalid_grant", "error_description": "Invalid JWT"}, status=400)
        token = "ya29." + secrets.token_urlsafe(16)
        self._tokens[token] = time.time() + 3600
        return web.json_response({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    async def fcm(self, request: web.Request) -> web.Response:
        """HTTP v1: messages:send."""
        switch = self._mode("fcm")
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(bearer, 0) < time.time():
            return _fcm_error(401, "UNAUTHENTICATED", None)
        if request.match_info["project"] != providers.PROJECT:
            return _fcm_error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")
        failing = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}
        if (failed := await self._fail(request, switch, failing)) is not None:
            return failed
        try:
            message = json.loads(await request.read())["message"]
            token, notice = message["token"], message["notification"]
            assert token
            assert all(isinstance(value, str) for value in message.get("data", {}).values())
        except (ValueError, KeyError, TypeError, AssertionError):
            return _fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        if switch.mode == "reject":
            code = switch.code or "UNREGISTERED"
            return _fcm_error(404 if code == "UNREGISTERED" else 400, "NOT_FOUND", code)
        name = f"projects/{providers.PROJECT}/messages/{secrets.token_hex(8)}"
        collapse = message.get("android", {}).get("collapse_key")
        same = [r for r in self.inbox if r.provider == "fcm" and r.to == token and r.more.get("collapse") == collapse]
        for before in same if collapse else []:
            before.more["replaced"] = True  # the device shows the newer one only
        self._take("fcm", token, notice.get("title", ""), notice.get("body", ""),
                   delivery_id=message.get("data", {}).get("delivery_id"),
                   more={"id": name, "collapse": collapse, "message": message})
        return await self._answer(request, switch, web.json_response({"name": name}))

    # PagerDuty ----------------------------------------------------------------------------------------------------

    async def pagerduty(self, request: web.Request) -> web.Response:
        """Events API v2."""
        switch = self._mode("pagerduty")
        error = {"status": "invalid event", "message": "Event object is invalid", "errors": []}
        if (failed := await self._fail(request, switch, error)) is not None:
            return failed
        try:
            said = json.loads(await request.read())
            action, key = said["event_action"], said["dedup_key"]
            assert said["routing_key"] == providers.ROUTING_KEY
            assert action in ("trigger", "acknowledge", "resolve")
            assert len(key) <= 255
            payload = said["payload"] if action == "trigger" else {}
            assert action != "trigger" or (payload["summary"] and payload["source"] and payload["severity"] in (
                "info", "warning", "error", "critical"))
        except (ValueError, KeyError, TypeError, AssertionError):
            return web.json_response(error, status=400)
        if switch.mode == "reject":
            return web.json_response(error, status=int(switch.code or 400))
        self.incidents[key] = "resolved" if action == "resolve" else "open"
        self._take("pagerduty", key, action, payload.get("summary", ""), more={"event": said})
        return await self._answer(request, switch, web.json_response(
            {"status": "success", "message": "Event processed", "dedup_key": key}, status=202))

    # Webhooks -----------------------------------------------------------------------------------------------------

    def _report(self, reports: Any) -> None:
        task = asyncio.create_task(reports)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, provider: str, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Until somebody takes it: a 2xx, or a 4xx, which is not asked again."""
        said = Said(provider, url, 0, 0)
        self.said.append(said)
        assert self._session is not None
        for pause in RETRIES:
            await asyncio.sleep(pause)
            said.tries += 1
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    said.status = answer.status
                    if answer.status < 500:
                        return

    # Inbox and switches -------------------------------------------------------------------------------------------

    async def listing(self, request: web.Request) -> web.Response:
        """What was received, oldest first; `?to=` and `?provider=` choose."""
        chosen = [asdict(r) for r in self.inbox if _matches(r, request)]
        return web.json_response({"received": chosen, "calls": self.calls, "incidents": self.incidents,
                                  "webhooks": [asdict(s) for s in self.said]})

    async def look(self, request: web.Request) -> web.Response:
        """All switches."""
        return web.json_response({name: asdict(switch) for name, switch in self.switches.items()})

    async def turn(self, request: web.Request) -> web.Response:
        """Turn one."""
        name = request.match_info["provider"]
        try:
            said = await request.json()
            if name not in self.switches or said.get("mode") not in get_args(Mode):
                raise ValueError
            switch = Switch(**said)
        except (ValueError, TypeError):
            raise web.HTTPBadRequest(text=f"providers: {', '.join(self.switches)}; modes: {', '.join(get_args(Mode))}"
                                     ) from None
        await self.switch(name, switch)
        return web.json_response(asdict(switch))

    async def stop(self, request: web.Request) -> web.Response:
        """A person answers STOP, or START again."""
        said = await request.json()
        (self.stopped.discard if said.get("start") else self.stopped.add)(said["number"])
        return web.json_response({"stopped": sorted(self.stopped)})

    async def clear(self, request: web.Request) -> web.Response:
        """Forget what was received; all switches back to ok."""
        self.inbox.clear()
        self.said.clear()
        self.incidents.clear()
        self.stopped.clear()
        self.calls = dict.fromkeys(providers.NAMES, 0)
        for name in self.switches:
            await self.switch(name, Switch())
        return web.json_response({})

    async def point(self, request: web.Request) -> web.Response:
        """Where SendGrid's Event Webhook goes: what a person sets in its dashboard."""
        self.webhook_url = (await request.json())["url"]
        return web.json_response({"url": self.webhook_url})

    async def page(self, request: web.Request) -> web.Response:
        """The inbox for people, by recipient."""
        people: dict[str, list[Received]] = {}
        for received in self.inbox:
            people.setdefault(received.to, []).append(received)
        sections = "".join(
            f"<section><h2>{html.escape(to)}</h2><ul>{''.join(map(_line, some))}</ul></section>"
            for to, some in people.items()
        )
        switches = ", ".join(f"{name}: {switch.mode}" for name, switch in self.switches.items())
        return web.Response(content_type="text/html", text=PAGE.format(
            count=len(self.inbox), switches=html.escape(switches), sections=sections or "<p>Nothing yet.</p>"))

    async def mail(self, request: web.Request) -> web.Response:
        """One mail as a mail program shows it; nothing in it may run."""
        n = request.match_info["n"]
        if not n.isdigit() or int(n) >= len(self.inbox):
            raise web.HTTPNotFound
        shown = self.inbox[int(n)].html or f"<pre>{html.escape(self.inbox[int(n)].body)}</pre>"
        return web.Response(text=shown, content_type="text/html", headers={
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"})


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Inbox of the stand-ins</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1b1b }}
h2 {{ font-size: 1.1rem; border-bottom: 1px solid #767676 }} li {{ margin: .5rem 0; white-space: pre-wrap }}
small {{ color: #565656 }}</style></head><body><main><h1>{count} messages received</h1>
<p>Stand-ins, not the real providers. Switches: {switches}.</p>{sections}</main></body></html>"""


def _line(received: Received) -> str:
    when = time.strftime("%H:%M:%S", time.gmtime(received.at))
    said = " — ".join(filter(None, (received.subject, received.body)))
    link = f' <a href="/mail/{received.n}">as HTML</a>' if received.html else ""
    replaced = " (replaced by a newer one)" if received.more.get("replaced") else ""
    return f"<li><small>{when} {received.provider}{replaced}</small> {html.escape(said)}{link}</li>"


def _matches(received: Received, request: web.Request) -> bool:
    wanted = {"to": received.to, "provider": received.provider}
    return all(request.query.get(name, value) == value for name, value in wanted.items())


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sendgrid_error(status: int, message: str, where: str | None) -> web.Response:
    return web.json_response({"errors": [{"message": message, "field": where, "help": None}]}, status=status)


def _twilio_error(status: int, code: int, message: str) -> web.Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return web.json_response({"code": code, "message": message, "more_info": more, "status": status}, status=status)


def _fcm_error(status: int, name: str, code: str | None) -> web.Response:
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}] if code else []
    error = {"code": status, "message": "refused", "status": name, "details": details}
    return web.json_response({"error": error}, status=status)
