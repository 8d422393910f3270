"""Status reports of providers: POST /webhooks/twilio and /webhooks/sendgrid on the worker's web port.

A report is believed when its signature is right, and takes effect once, however often it comes. It finds its delivery
by the opaque id that went out with the message, and leaves as an event by the outbox: EmailSent, EmailBounced,
SMSDelivered, NotificationFailed. What the catalogue has no event for (an SMS that left Twilio, a mail that a server
took) only moves the delivery's row up.
"""

from __future__ import annotations

import hmac
import json
import logging
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from skillcore_streams import metrics
from skillcore_streams.config import Settings
from skillcore_streams.events.notifications import (
    DeliveryEvent,
    EmailBounced,
    EmailSent,
    NotificationFailed,
    SMSDelivered,
)
from skillcore_streams.queues.notification_delivery import spoken
from skillcore_streams.runtime import Meta, derive_id, outbox
from skillcore_streams.runtime.context import Clock, Database, Publication
from skillcore_streams.runtime.envelope import encode
from skillcore_streams.runtime.errors import Misconfigured
from skillcore_streams.runtime.messages import CLOCK_SKEW, OLDEST

log = logging.getLogger(__name__)

STALE = timedelta(seconds=300)
"""How far the time of a signature may lie from ours."""

LARGEST = 1 << 20
"""Bytes of a report. SendGrid's batches stay below 768 KiB."""

SEEN = "insert into webhook_seen (provider, event_id) values ($1, $2) on conflict do nothing returning 1"
FIND = "select * from notification_deliveries where delivery_id = $1"
UP = """
    update notification_deliveries
       set status = $3, content = null, provider_message_id = coalesce(provider_message_id, $4),
           sent_at = coalesce(sent_at, $5)
     where tenant_id = $1 and delivery_id = $2 and delivery_rank(status) < delivery_rank($3)"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the provider is told. A 4xx is not asked again, a 5xx is."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """One status of one delivery, in the words of either provider."""

    id: str
    delivery_id: UUID
    message_id: str
    status: str
    at: datetime
    said: Mapping[str, Any]


class Webhooks:
    """Verifies, and turns reports into rows of the outbox.

    Args:
        transaction: opens one.
        published: told the lanes whose rows are to be published soon.
        clock: ours.
    """

    def __init__(
        self, settings: Settings, transaction: Callable[[], AbstractAsyncContextManager[Any]],
        published: Callable[[str], None], clock: Clock,
    ) -> None:
        """Raises Misconfigured when SendGrid's key is none."""
        self._url = (settings.public_url or "").rstrip("/")
        self._token: SecretStr | None = settings.twilio_auth_token
        self._key = None if settings.sendgrid_webhook_key is None else read_key(settings.sendgrid_webhook_key)
        self._transaction, self._published, self._clock = transaction, published, clock

    async def twilio(self, path: str, body: bytes, signature: str | None) -> Reply:
        """A status callback. `path`: with its query, as it was asked for; the host is ours to know."""
        if self._token is None or not self._url:
            return _refuse("twilio", 403, "this worker expects no reports of Twilio")
        try:
            form = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=200)
        except (UnicodeDecodeError, ValueError):
            return _refuse("twilio", 400, "not a form")
        right = twilio_signature(self._token.get_secret_value(), self._url + path, form)
        if signature is None or not hmac.compare_digest(right.encode(), signature.encode("utf-8", "replace")):
            return _refuse("twilio", 403, "wrong signature")
        said = dict(form)
        sid, status = said.get("MessageSid", ""), said.get("MessageStatus", "")
        named = parse_qs(urlsplit(path).query).get("delivery", [""])[-1]
        report = _report(f"{sid}:{status}", named, sid, status, self._clock(), said)
        return await self._take("twilio", [] if report is None or not sid else [report])

    async def sendgrid(self, body: bytes, signature: str | None, timestamp: str | None) -> Reply:
        """A batch of the signed Event Webhook."""
        if self._key is None:
            return _refuse("sendgrid", 403, "this worker expects no reports of SendGrid")
        if signature is None or timestamp is None or not sendgrid_signed(self._key, timestamp, body, signature):
            return _refuse("sendgrid", 403, "wrong signature")
        now = self._clock()
        if not _young(timestamp, now):
            return _refuse("sendgrid", 403, "stale")
        try:
            events = json.loads(body)
        except (ValueError, RecursionError):
            return _refuse("sendgrid", 400, "not JSON")
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            return _refuse("sendgrid", 400, "not a list of events")
        reports = [
            _report(str(e.get("sg_event_id", "")), str(e.get("delivery_id", "")), str(e.get("sg_message_id", "")),
                    str(e.get("event", "")), _time(e.get("timestamp"), now), e)
            for e in events if e.get("sg_event_id")
        ]  # fmt: skip
        return await self._take("sendgrid", [report for report in reports if report is not None])

    async def _take(self, provider: str, reports: Sequence[Report]) -> Reply:
        counts = dict.fromkeys(("taken", "repeated", "unknown", "ignored"), 0)
        lanes: set[str] = set()
        async with self._transaction() as db:
            for report in sorted(reports, key=lambda r: (r.delivery_id, r.id)):  # rows are locked in one order
                result, publication = await self._one(db, provider, report)
                counts[result] += 1
                if publication is not None:
                    await outbox.write(db, [publication])
                    lanes.add(publication.lane)
        for lane in lanes:
            self._published(lane)
        for result, count in counts.items():
            if count:
                metrics.webhook_events_total.labels(provider, result).inc(count)
        return Reply(200, counts)

    async def _one(self, db: Database, provider: str, report: Report) -> tuple[str, Publication | None]:
        row = await db.fetchrow(FIND, report.delivery_id)
        if row is None:
            return "unknown", None
        status, event = _event(provider, report, row)
        if status is None and event is None:
            return "ignored", None
        if await db.fetchval(SEEN, provider, report.id[:512]) is None:
            return "repeated", None
        if status is not None:
            await db.execute(UP, row["tenant_id"], row["delivery_id"], status, report.message_id[:512], report.at)
        if event is None:
            return "taken", None
        source = f"/skillcore/webhooks/{provider}"
        key = derive_id(row["tenant_id"], source, report.id)
        event.with_meta(Meta(
            tenant=row["tenant_id"], id=report.id, source=source, time=report.at, key=key,
            correlation_id=str(report.delivery_id), causation_id=str(report.delivery_id),
        ))  # fmt: skip
        return "taken", Publication(event, f"webhooks-{row['recipient_id']}", encode(event))


def _event(provider: str, report: Report, row: Any) -> tuple[str | None, DeliveryEvent | None]:
    """(status of the row, event): what a report means. (None, None): nothing to us."""
    common: dict[str, Any] = {
        "notification_id": row["notification_id"], "delivery_id": row["delivery_id"],
        "recipient_id": row["recipient_id"], "channel": row["channel"], "provider": provider,
        "provider_message_id": report.message_id[:512], "template": row["template"],
    }  # fmt: skip
    said = report.said
    if provider == "twilio":
        if report.status == "delivered":
            segments = str(said.get("NumSegments", "1"))
            return None, SMSDelivered(
                **common, segments=int(segments) if segments.isdigit() and len(segments) < 4 else 1,
                delivered_at=report.at, carrier_status=report.status)
        if report.status in ("failed", "undelivered"):
            code = str(said.get("ErrorCode") or report.status)[:64]
            return None, NotificationFailed(
                **common, error_code=code, error_class="permanent", attempts=row["sends"],
                priority=spoken(row["priority"]), failed_at=report.at)
        return ("sent", None) if report.status in ("queued", "sending", "sent") else (None, None)
    if report.status == "processed":
        return None, EmailSent(**common, to_hash=row["address_hash"] or "", sent_at=report.at)
    if report.status == "delivered":
        return "delivered", None
    if report.status in ("bounce", "dropped", "spamreport"):
        return None, EmailBounced(**common, bounce_class=_bounce(said), reason="", bounced_at=report.at)
    return None, None


def _bounce(said: Mapping[str, Any]) -> Any:
    """SendGrid's events in the words of the catalogue. A 5.x.x of a bounce is final, a 4.x.x is not (RFC 3463)."""
    if said.get("event") != "bounce":
        return said.get("event")
    if said.get("type") == "blocked":
        return "blocked"
    return "soft" if str(said.get("status", "")).startswith("4") else "hard"


def _report(
    id: str, delivery: str, message: str, status: str, at: datetime, said: Mapping[str, Any]
) -> Report | None:
    """None of what names no delivery of ours."""
    try:
        return Report(id, UUID(delivery), message, status, at, said)
    except ValueError:
        return None


def _young(timestamp: str, now: datetime) -> bool:
    said = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12
    return said and abs(int(timestamp) - now.timestamp()) <= STALE.total_seconds()


def _time(said: object, now: datetime) -> datetime:
    """A report's own time, when it is a plausible one."""
    if isinstance(said, int) and OLDEST.timestamp() <= said <= (now + CLOCK_SKEW).timestamp():
        return datetime.fromtimestamp(said, UTC)
    return now


def _refuse(provider: str, status: int, why: str) -> Reply:
    metrics.webhook_events_total.labels(provider, "refused").inc()
    log.warning("a webhook of %s is refused: %s", provider, why)
    return Reply(status, {"error": why})


def twilio_signature(token: str, url: str, form: Sequence[tuple[str, str]]) -> str:
    """X-Twilio-Signature: base64 of HMAC-SHA1 over the URL and the sorted parameters, names and values run together."""
    text = url + "".join(name + value for name, value in sorted(set(form)))
    return b64encode(hmac.digest(token.encode(), text.encode(), sha1)).decode()


def read_key(said: str) -> ec.EllipticCurvePublicKey:
    """SendGrid's verification key: base64 of DER. Raises Misconfigured."""
    try:
        key = serialization.load_der_public_key(b64decode(said, validate=True))
    except (ValueError, NotBase64):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Misconfigured("SKILLCORE_SENDGRID_WEBHOOK_KEY is no ECDSA public key in base64, as SendGrid shows it")
    return key


def sendgrid_signed(key: ec.EllipticCurvePublicKey, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether timestamp and body, byte for byte, carry this signature: ECDSA with SHA-256."""
    try:
        key.verify(b64decode(signature, validate=True), timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, NotBase64):
        return False
    return True
