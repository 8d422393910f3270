"""The providers' HTTP interfaces as they are: SendGrid, Twilio, FCM and PagerDuty, over one aiohttp session.

What each says is sorted into the five outcomes of runtime/providers.py by the same rules:

    no connection was made, or 401, 403, or an error with the provider's own body: Unavailable. It has not been taken.
    no answer within 5 s, a connection lost meanwhile, a 5xx without such a body (a gateway's): Ambiguous
    429: Throttled, for as long as Retry-After says
    any other 4xx: Rejected with the provider's code

Nothing here logs, and no outcome carries more than a code: bodies and texts of errors quote addresses.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from skillcore_streams.adapters.breaker import Breaker
from skillcore_streams.config import Settings
from skillcore_streams.runtime.errors import Misconfigured
from skillcore_streams.runtime.providers import (
    Ambiguous,
    Line,
    Mail,
    Outcome,
    Page,
    Providers,
    Push,
    Rejected,
    Sent,
    Text,
    Throttled,
    Unavailable,
)

TIMEOUT = 5.0
"""Seconds for a call, connecting included. The seed's opossum setting."""

CONNECT = 3.0
"""Seconds of these for the connection: running out of them, nothing has been sent."""

LARGEST_ANSWER = 64 << 10
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(hours=1)
"""What a Retry-After is held within."""

FCM_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EARLY = 300.0
"""Seconds before its end that a token is replaced."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, at most `LARGEST_ANSWER` bytes of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any] | None:
        """The body, when it is a JSON object: then the provider itself has spoken."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return None
        return said if isinstance(said, dict) else None


class Http:
    """One session for all providers. Made when first used, in the loop that uses it."""

    def __init__(self, timeout: float = TIMEOUT, connect: float = CONNECT) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=connect)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, **request: Any) -> Answer | Unavailable | Ambiguous:
        """One POST, never repeated and never redirected. What goes wrong is an outcome, not an exception."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=15),
            )  # fmt: skip
        try:
            async with self._session.post(url, allow_redirects=False, **request) as answer:
                body = await answer.content.read(LARGEST_ANSWER)
                return Answer(answer.status, answer.headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Unavailable("no_connection")
        except TimeoutError:
            return Ambiguous("timeout")
        except aiohttp.InvalidURL:
            return Unavailable("invalid_url")
        except (aiohttp.ClientError, OSError) as error:
            return Ambiguous(type(error).__name__)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def sort(answer: Answer, code: str | None, now: Callable[[], float] = time.time) -> Outcome:
    """The outcome of an answer that is no success. `code`: the provider's own, from its error body."""
    status, name = answer.status, code or str(answer.status)
    if status == 429:
        return Throttled(retry_after(answer.headers, now()))
    if status in (401, 403) or 300 <= status < 400:
        return Unavailable(name)  # our credentials or our address of it: no fault of this message
    if status >= 500 or status == 408 or status < 200:
        return Ambiguous(name) if answer.json() is None else Unavailable(name)
    return Rejected(name)


def retry_after(headers: Mapping[str, str], now: float) -> timedelta:
    """How long to wait: Retry-After in seconds or as a date (RFC 9110 10.2.3), SendGrid's X-RateLimit-Reset, or 5 s."""
    said = headers.get("Retry-After", "")
    reset = headers.get("X-RateLimit-Reset", "")
    if re.fullmatch(r"\d{1,9}", said):
        wait = timedelta(seconds=int(said))
    elif said:
        try:
            wait = parsedate_to_datetime(said) - datetime.fromtimestamp(now, UTC)
        except (ValueError, TypeError):
            wait = timedelta(seconds=5)
    elif re.fullmatch(r"\d{1,12}", reset):
        wait = timedelta(seconds=int(reset) - now)
    else:
        wait = timedelta(seconds=5)
    return min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)


class SendGrid:
    """`POST /v3/mail/send`. 202 is a promise; what becomes of the mail, the Event Webhook tells.

    The only thing of ours that SendGrid is told beside the mail is the opaque delivery id: custom arguments can't be
    redacted there, so they carry no personal data.
    """

    def __init__(self, http: Http, url: str, key: str, sender: str, name: str) -> None:
        self._http, self._url = http, url.rstrip("/") + "/v3/mail/send"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._from = {"email": sender, "name": name}

    async def send(self, message: Mail) -> Outcome:
        """One mail to one person."""
        parts = (("text/plain", message.text), ("text/html", message.html))  # in this order, says the API
        answer = await self._http.post(self._url, headers=self._headers, json={
            "personalizations": [{"to": [{"email": message.to}], "custom_args": {
                "delivery_id": str(message.delivery_id)}}],
            "from": self._from,
            "subject": message.subject,
            "content": [{"type": kind, "value": value} for kind, value in parts if value is not None],
            "tracking_settings": {  # a pixel or a rewritten link in a school's mail tells a third party who reads it
                "click_tracking": {"enable": False}, "open_tracking": {"enable": False}},
        })  # fmt: skip
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 202:
            return Sent(answer.headers.get("X-Message-Id", ""))
        return sort(answer, None)


class Twilio:
    """`POST /2010-04-01/Accounts/{sid}/Messages.json`. The status callback's URL carries the delivery id."""

    def __init__(self, http: Http, url: str, sid: str, token: str, sender: str, callback: str | None) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/2010-04-01/Accounts/{quote(sid, safe='')}/Messages.json"
        self._headers = {"Authorization": "Basic " + b64encode(f"{sid}:{token}".encode()).decode()}
        self._sender = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}
        self._callback = callback

    async def send(self, message: Text) -> Outcome:
        """One SMS."""
        form = {"To": message.to, "Body": message.body} | self._sender
        if self._callback is not None:
            form["StatusCallback"] = f"{self._callback}?delivery={message.delivery_id}"
        answer = await self._http.post(self._url, headers=self._headers, data=form)
        if not isinstance(answer, Answer):
            return answer
        said = answer.json() or {}
        if answer.status == 201:
            return Sent(str(said.get("sid", "")))
        code = said.get("code")
        return sort(answer, str(code) if isinstance(code, int) else None)


class Fcm:
    """`POST /v1/projects/{id}/messages:send` of FCM's HTTP v1, with a token of the service account."""

    def __init__(self, http: Http, url: str, account: ServiceAccount) -> None:
        self._http, self._account = http, account
        self._url = f"{url.rstrip('/')}/v1/projects/{quote(account.project_id, safe='')}/messages:send"

    async def send(self, message: Push) -> Outcome:
        """One push to one device."""
        token = await self._account.token(self._http)
        if not isinstance(token, str):
            return token
        data = {"delivery_id": str(message.delivery_id)} | ({"link": message.link} if message.link else {})
        answer = await self._http.post(self._url, headers={"Authorization": f"Bearer {token}"}, json={"message": {
            "token": message.token,
            "notification": {"title": message.title, "body": message.body},
            "data": data,
            "android": {"collapse_key": message.collapse_key, "priority": "HIGH" if message.urgent else "NORMAL"},
            "apns": {"headers": {
                "apns-collapse-id": message.collapse_key, "apns-priority": "10" if message.urgent else "5"}},
        }})  # fmt: skip
        if not isinstance(answer, Answer):
            return answer
        said = answer.json() or {}
        if answer.status == 200:
            return Sent(str(said.get("name", "")))
        if answer.status == 401:
            self._account.forget()
        return sort(answer, _fcm_code(said))


def _fcm_code(said: dict[str, Any]) -> str | None:
    """FCM's own error code (UNREGISTERED, INVALID_ARGUMENT ...), else the API's status."""
    error = said.get("error")
    if not isinstance(error, dict):
        return None
    for detail in error.get("details") or ():
        if isinstance(detail, dict) and isinstance(detail.get("errorCode"), str):
            return str(detail["errorCode"])
    return str(error["status"]) if isinstance(error.get("status"), str) else None


class ServiceAccount:
    """Who we are to Google: a key that signs a claim (RS256), which its token_uri exchanges for a token of an hour."""

    def __init__(self, account: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        """Raises ValueError or KeyError when it is not a service account's JSON."""
        self.project_id = str(account["project_id"])
        self._email, self._key_id = str(account["client_email"]), str(account["private_key_id"])
        self._uri = str(account["token_uri"])
        key = serialization.load_pem_private_key(str(account["private_key"]).encode(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("the key of a service account is an RSA key")
        self._key, self._clock = key, clock
        self._token, self._good_until = "", 0.0
        self._asking = asyncio.Lock()

    async def token(self, http: Http) -> str | Unavailable:
        """A token that is good for some minutes yet. One request at a time, whoever waits for it."""
        async with self._asking:
            if self._clock() < self._good_until:
                return self._token
            answer = await http.post(self._uri, data={"grant_type": JWT_GRANT, "assertion": self._assertion()})
            said = answer.json() if isinstance(answer, Answer) and answer.status == 200 else None
            if said is None or not isinstance(said.get("access_token"), str):
                return Unavailable("no_token")  # whatever it was: no message has been said
            lifetime = said.get("expires_in")
            self._token = said["access_token"]
            self._good_until = self._clock() + (lifetime if isinstance(lifetime, int) else 3600) - EARLY
            return self._token

    def forget(self) -> None:
        """The token was refused: the next call asks for another."""
        self._good_until = 0.0

    def _assertion(self) -> str:
        """A JSON Web Token (RFC 7519) as RFC 7523 wants it."""
        now = int(self._clock())
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        claim = {"iss": self._email, "scope": FCM_SCOPE, "aud": self._uri, "iat": now, "exp": now + 3600}
        said = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claim).encode())}"
        return f"{said}.{_base64(self._key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


class PagerDuty:
    """`POST /v2/enqueue` of the Events API v2. Saying the same `dedup_key` again is harmless by its contract."""

    def __init__(self, http: Http, url: str, routing_key: str) -> None:
        self._http, self._url, self._key = http, url.rstrip("/") + "/v2/enqueue", routing_key

    async def send(self, message: Page) -> Outcome:
        """Trigger, acknowledge or resolve."""
        event: dict[str, Any] = {
            "routing_key": self._key, "event_action": message.action, "dedup_key": message.dedup_key,
        }
        if message.action == "trigger":
            event["payload"] = {
                "summary": message.summary[:1024], "severity": message.severity, "source": message.source,
                "custom_details": dict(message.details),
            }
        answer = await self._http.post(self._url, json=event)
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 202:
            return Sent(str((answer.json() or {}).get("dedup_key", message.dedup_key)))
        return sort(answer, None)


def connect(settings: Settings, http: Http) -> Providers:
    """The lines that are configured. Raises Misconfigured for half a configuration: it would be found out by night."""
    callback = None if settings.public_url is None else settings.public_url.rstrip("/") + "/webhooks/twilio"
    email: Line[Mail] | None = None
    if mail := _whole("SendGrid", sendgrid_api_key=settings.sendgrid_api_key, mail_from=settings.mail_from):
        key, sender = mail
        sendgrid = SendGrid(http, settings.sendgrid_url, key, sender, settings.mail_from_name)
        email = Line("sendgrid", sendgrid, Breaker("sendgrid"))
    sms: Line[Text] | None = None
    if texting := _whole("Twilio", twilio_account_sid=settings.twilio_account_sid,
                         twilio_auth_token=settings.twilio_auth_token, twilio_from=settings.twilio_from):  # fmt: skip
        sid, token, number = texting
        sms = Line("twilio", Twilio(http, settings.twilio_url, sid, token, number, callback), Breaker("twilio"))
    push: Line[Push] | None = None
    if settings.fcm_service_account is not None:
        fcm = Fcm(http, settings.fcm_url, read_account(settings.fcm_service_account))
        push = Line("fcm", fcm, Breaker("fcm"))
    pages: Line[Page] | None = None
    if settings.pagerduty_routing_key is not None:
        pager = PagerDuty(http, settings.pagerduty_url, settings.pagerduty_routing_key.get_secret_value())
        pages = Line("pagerduty", pager, Breaker("pagerduty"))
    return Providers(email, sms, push, pages)


def read_account(path: Path) -> ServiceAccount:
    """Read a service account's JSON. Raises Misconfigured with a sentence that quotes nothing of the file."""
    try:
        return ServiceAccount(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"SKILLCORE_FCM_SERVICE_ACCOUNT: {path} is no service account's JSON ({type(error).__name__})"
        ) from None


def _whole(provider: str, **settings: str | SecretStr | None) -> list[str]:
    """All of a provider's settings; none when none is set."""
    missing = sorted(f"SKILLCORE_{name.upper()}" for name, value in settings.items() if value is None)
    if missing and len(missing) < len(settings):
        raise Misconfigured(f"{provider} is half configured: set {', '.join(missing)}, or none of its settings.")
    plain = (value.get_secret_value() if isinstance(value, SecretStr) else value for value in settings.values())
    return [value for value in plain if value is not None]
