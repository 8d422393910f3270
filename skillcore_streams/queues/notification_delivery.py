"""Notification delivery: everything that reaches a person, by any channel.

An order names an occasion (`DeliverNotification`). It becomes one row and one job (`Deliver`) a person, by the channel
that person prefers. Such a job asks at the last moment whether the notice still holds and is still wanted, commits
`sending`, calls the provider with no transaction open, and notes the answer:

    sent        the provider took it. Its webhooks tell what became of it (webhooks.py)
    rejected    failed for good; NotificationFailed makes the next channel take over (handlers/notifications.py)
    throttled   again when the provider says, no attempt spent; an open circuit likewise, or the next channel
    unavailable again after 1, 2, 4, 8 s, then failed
    ambiguous   a status report has two minutes to come; then once more, or a person decides

One HTTP call a delivery, therefore, unless nobody knows what became of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from skillcore_streams import metrics
from skillcore_streams.events.fields import Many
from skillcore_streams.events.notifications import EmailSent, NotificationFailed, PushNotificationSent
from skillcore_streams.notifications import deliveries
from skillcore_streams.notifications.deliveries import Delivery
from skillcore_streams.notifications.notices import NOTICES, Notice
from skillcore_streams.notifications.people import DEVICES, Recipient, Role, person, recipients
from skillcore_streams.notifications.rendering import LONGEST_SMS, Letter, Renderer
from skillcore_streams.rules.notifications import Person, plain, quiet_for, usable, valid_email, valid_phone
from skillcore_streams.runtime import Context, Job, NotYet, PermanentError, Queue, Snooze, derive_id, on
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.providers import (
    Ambiguous,
    Line,
    Mail,
    Outcome,
    Page,
    Permit,
    Providers,
    Push,
    Rejected,
    Sent,
    Text,
    Throttled,
    Unavailable,
)

queue = Queue("notification-delivery", concurrency=10)

EMERGENCY, NORMAL, LOW = 1, 5, 10
"""The seed's priorities: lower first."""

PATIENCE = timedelta(minutes=2)
"""How long a status report may take after an answer that nobody can interpret."""

SENDS = 2
"""Calls of one delivery at most, the doubtful one included."""

BATCH = 100
"""Users of a page of a bulk mail when its order does not say."""

SOON = timedelta(seconds=5)

Result = dict[str, Any]
"""The seed's: {sent, timestamp}."""

Given = dict[str, Any]


class DeliverNotification(Job, queue=queue, kind="deliver"):
    """Render a template and send it to one person by the channel they prefer. Names the occasion, never its content."""

    notification_id: UUID
    recipient_id: UUID
    recipient_role: Role
    template: str
    subject_id: UUID
    """The row the template is rendered from; whether it still holds is asked at send time."""


class Deliver(Job, queue=queue, kind="send"):
    """Carry out one delivery: its row says what, to whom and how."""

    delivery_id: UUID


class DeliverGiven(Job, queue=queue, kind="given"):
    """The old system's order: this content, by this channel, to this address or user."""

    channel: Literal["email", "sms", "push"]
    recipient: str = Field(min_length=1, max_length=512)
    content: str | Given
    priority: int = NORMAL
    emergency: bool = False


class SendEmail(Job, queue=queue, kind="send_email"):
    """The old system's: one mail to one user. Its other fields are the template's variables."""

    user_id: UUID
    variables: Given = Field(default_factory=dict)


class SendBulk(Job, queue=queue, kind="send_bulk_email"):
    """The old system's: one mail to many users, in pages of `batch_size`, a job a page."""

    user_ids: Many[UUID]
    batch_size: int = Field(BATCH, ge=1, le=1000)
    variables: Given = Field(default_factory=dict)


class SendPage(Job, queue=queue, kind="send_bulk_page"):
    """One page of a bulk mail: a row and a job a user."""

    notification_id: UUID
    user_ids: Many[UUID]
    variables: Given


class GradeDigest(Job, queue=queue, kind="grade_digest"):
    """The grades of a day, to the student and the guardians who want to hear of them."""

    student_id: UUID
    grades: list[Given] = Field(max_length=1000)
    day: str = Field(max_length=64)


class TellInactive(Job, queue=queue, kind="inactive_student"):
    """Nobody has signed in for a while: to the student and the guardians."""

    user_id: UUID
    last_login: str | None = Field(None, max_length=64)
    missed: list[Given | str] = Field([], max_length=1000)


class PageOnCall(Job, queue=queue, kind="page"):
    """Tell whoever is on call, by PagerDuty. No student's data: it leaves the district. Repeats join the incident."""

    dedup_key: str = Field(min_length=1, max_length=255)
    summary: str = Field(max_length=1024)
    severity: Literal["info", "warning", "error", "critical"]
    source: str = Field(max_length=255)
    action: Literal["trigger", "acknowledge", "resolve"] = "trigger"


class NotificationStats(Job, queue=queue, kind="notification_stats"):
    """Recount one day's deliveries."""

    day: date


class ProviderAway(SkillCoreError):
    """A provider has certainly not taken a message. Tried again, as often as the queue says."""


class ChannelFailed(Exception):
    """This delivery has failed for good; carries a code, never an address."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# From an occasion to people -------------------------------------------------------------------------------------------

TERMS = "select priority, max_attempts, expires_at from job where id = $1"


@dataclass(frozen=True, slots=True)
class Terms:
    """What was said of the job that runs."""

    priority: int = NORMAL
    attempts: int = queue.attempts
    expires: datetime | None = None


async def _terms(ctx: Context, db: Database) -> Terms:
    row = None if ctx.run is None else await db.fetchrow(TERMS, ctx.run.job_id)
    return Terms() if row is None else Terms(row["priority"], row["max_attempts"], row["expires_at"])


@on(DeliverNotification)
async def order_deliveries(job: DeliverNotification, ctx: Context) -> None:
    """One delivery a person who is meant and may hear of it, by the first channel that they can be reached by."""
    notice = NOTICES.get(job.template)
    if notice is None or notice.lookup is None:
        raise PermanentError("no notice of this name has a look-up in this version")
    named = job.recipient_id if job.recipient_role in ("user", "guardian") else None
    facts = await deliveries.facts(ctx.db, notice, ctx.tenant, job.subject_id, job.notification_id, named)
    if facts is None:
        ctx.note("what was to be said no longer holds")
        return
    terms = await _terms(ctx, ctx.db)
    whom = await recipients(ctx.db, ctx.tenant, job.recipient_role, job.recipient_id, notice, ctx.now.date())
    await _order(ctx, job.notification_id, whom, notice, facts.get("about"), terms, subject=job.subject_id)


async def _order(
    ctx: Context, notification: UUID, whom: list[Recipient], notice: Notice, about: UUID | None, terms: Terms, *,
    subject: UUID | None = None, content: Given | None = None, only: str | None = None,
) -> None:
    """Rows and jobs for those who may hear of it. `only`: by this channel or not at all."""
    chosen: list[tuple[Recipient, str]] = []
    for who in whom:
        them = await person(ctx.db, ctx.tenant, who, about, ctx.now)
        if them is None and len(whom) == 1:
            raise NotYet("profile of the recipient")
        channels = [] if them is None else _channels(them, notice)
        if only is not None:
            channels = [c for c in channels if c == only]
        chosen += [(who, channel) for channel in (channels if notice.emergency else channels[:1])]
    expires = ctx.now + notice.lives
    if terms.expires is not None:
        expires = min(expires, terms.expires)
    made = await deliveries.order(
        ctx.db, ctx.tenant, notification, chosen, template=notice.name, subject=subject, now=ctx.now,
        priority=terms.priority, expires=expires, falls_back=only is None, content=content,
    ) if chosen else []  # fmt: skip
    for delivery in made:
        send(ctx, delivery, terms.priority)
    ctx.note(f"{len(whom)} recipients, {len(made)} deliveries ordered")


def send(ctx: Context, delivery: UUID, priority: int) -> None:
    """Order that a delivery be carried out, once. When it expires stands in its row, which is to say so then."""
    ctx.enqueue(Deliver(delivery_id=delivery), priority=priority, unique=f"delivery:{delivery}")


def _channels(them: Person, notice: Notice) -> list[str]:
    return usable(
        them, notice.channels, category=notice.category, mandatory=notice.mandatory, emergency=notice.emergency
    )


async def next_channel(db: Database, delivery: Delivery, now: datetime) -> str | None:
    """The channel that takes over from a failed delivery. None when none is left, or another one is alive."""
    notice = NOTICES.get(delivery.template or "")
    if not delivery.falls_back or notice is None or (notice.lookup is None and delivery.content is None):
        return None
    rows = await db.fetch(deliveries.SIBLINGS, delivery.tenant, delivery.notification_id, delivery.recipient.id)
    if any(row["status"] in deliveries.ALIVE for row in rows if row["delivery_id"] != delivery.id):
        return None
    them = await person(db, delivery.tenant, delivery.recipient, await _about(db, delivery), now)
    tried = {row["channel"] for row in rows} | {delivery.channel}
    left = [] if them is None else [c for c in _channels(them, notice) if c not in tried]
    return left[0] if left else None


async def _about(db: Database, delivery: Delivery) -> UUID | None:
    notice = NOTICES[delivery.template or ""]
    if notice.lookup is None:
        said = (delivery.content or {}).get("about")
        return UUID(said) if said else None
    found = await deliveries.facts(
        db, notice, delivery.tenant, delivery.subject_id, delivery.notification_id, delivery.recipient.id)
    return None if found is None else found.get("about")


async def take_over(ctx: Context, db: Database, delivery: Delivery, channel: str) -> None:
    """The same notification by another channel."""
    made = await deliveries.order(
        db, delivery.tenant, delivery.notification_id, [(delivery.recipient, channel)], template=delivery.template,
        subject=delivery.subject_id, now=ctx.now, priority=delivery.priority, expires=delivery.expires_at,
        falls_back=True, content=delivery.content,
    )  # fmt: skip
    for new in made:
        send(ctx, new, delivery.priority)


# One delivery ---------------------------------------------------------------------------------------------------------


@on(Deliver, transaction=False)
async def deliver(job: Deliver, ctx: Context) -> Result:
    """Carry it out, or say why not."""
    return await _carry(ctx, job.delivery_id)


@on(DeliverGiven, transaction=False)
async def deliver_given(job: DeliverGiven, ctx: Context) -> Result:
    """The row is made by the job itself, so that the job's result is what became of it, as it was in the old system."""
    content = {"text": job.content} if isinstance(job.content, str) else job.content
    notification = derive_id(queue.name, ctx.meta.key)
    try:
        whom = Recipient(UUID(job.recipient), "user")
    except ValueError:
        whom = Recipient(derive_id("address", job.channel, job.recipient.lower()), "address")
    delivery = derive_id(queue.name, ctx.meta.key, job.recipient)
    async with ctx.transaction() as db:
        terms = await _terms(ctx, db)
        said = content | {"emergency": job.emergency} | ({"to": job.recipient} if whom.owner == "address" else {})
        await deliveries.order(
            db, ctx.tenant, notification, [(whom, job.channel)], template=None, subject=None, now=ctx.now,
            priority=job.priority, expires=terms.expires, content=said, ids=[delivery],
        )  # fmt: skip
    return await _carry(ctx, delivery)


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a provider needs: committed as `sending`, with leave to call."""

    delivery: Delivery
    line: Line[Any]
    permit: Permit
    messages: list[tuple[UUID | None, Any]]
    """(device token's id, message): one, or one a device."""


async def _carry(ctx: Context, delivery_id: UUID) -> Result:
    with ExitStack() as held:  # a permit that is never used goes back, whatever happens in between
        async with ctx.transaction() as db:
            terms = await _terms(ctx, db)
            step = await _prepare(ctx, db, delivery_id, held)
            if isinstance(step, Ended):
                rows = await _rows(ctx, db, delivery_id)
        if isinstance(step, Ended):
            return _say(ctx, step, rows)
        await failpoint("delivery.sending")
        outcome = await _call(ctx, step)
        await failpoint("delivery.answered")
        step.permit.settle(outcome)
    return await _note(ctx, step, outcome, terms)


async def _call(ctx: Context, step: Ready) -> Outcome:
    """One call, or one a device. Of several devices one yes is enough; a doubt leaves the rest to the next run."""
    outcome: Outcome = Ambiguous("not_called")
    taken: Sent | None = None
    for device, message in step.messages:
        outcome = await step.line.sender.send(message)
        if device is not None and not await _push_receipt(ctx, step.delivery, device, outcome):
            return outcome
        taken = taken or (outcome if isinstance(outcome, Sent) else None)
    return taken or outcome


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing is to be called: (was it sent, why not)."""

    status: str
    reason: str | None = None


async def _prepare(ctx: Context, db: Database, delivery_id: UUID, held: ExitStack) -> Ready | Ended:
    """Everything that is asked before the call. Raises Snooze to ask again later. `held` gives back what it holds."""
    delivery = await deliveries.lock(db, ctx.tenant, delivery_id)
    if delivery is None:
        raise PermanentError("there is no such delivery")
    if delivery.status not in ("waiting", "sending", "ambiguous"):
        return Ended(delivery.status, delivery.reason)
    if delivery.expires_at is not None and delivery.expires_at <= ctx.now:
        return await _drop(db, delivery, "expired", "expired")
    notice = NOTICES.get(delivery.template or "")
    if delivery.template is not None and notice is None:
        raise PermanentError("no notice of this name in this version")
    doubtful = delivery.status in ("sending", "ambiguous") and delivery.channel != "push"  # of pushes a newer replaces
    if doubtful and (doubt := await _doubt(ctx, db, delivery, notice)) is not None:
        return doubt
    if notice is None:
        emergency = bool((delivery.content or {}).get("emergency"))
        return await _begin(ctx, db, delivery, held, None, _given(delivery), emergency=emergency)
    facts: Mapping[str, Any] | None = delivery.content or {}
    if notice.lookup is not None:
        facts = await deliveries.facts(
            db, notice, delivery.tenant, delivery.subject_id, delivery.notification_id, delivery.recipient.id)
    if facts is None:
        return await _drop(db, delivery, "dropped", "retracted")

    def compose(them: Person | None) -> Letter:
        return ctx.service(Renderer).render(
            notice.name, them.language if them else None, delivery.channel, facts,
            notification_id=delivery.notification_id, zone=them.zone if them else "UTC",
        )  # fmt: skip

    about = facts.get("about")
    student = UUID(about) if isinstance(about, str) else about
    return await _begin(ctx, db, delivery, held, notice, compose, student, notice.emergency)


def _given(delivery: Delivery) -> Callable[[Person | None], Letter]:
    """Content as it was given; it is only kept from breaking out of its header or its channel."""
    content = delivery.content or {}

    def compose(them: Person | None) -> Letter:
        text = content.get("text") or content.get("body") or content.get("message") or ""
        html = content.get("html")
        if not isinstance(text, str) or not isinstance(html, str | None) or not (text or html):
            raise ChannelFailed("no_content")
        if delivery.channel == "sms" and len(text) > LONGEST_SMS:
            raise ChannelFailed("too_long")
        return Letter(plain(str(content.get("subject") or content.get("title") or "SkillCore")), text, html)

    return compose


async def _begin(
    ctx: Context, db: Database, delivery: Delivery, held: ExitStack, notice: Notice | None,
    compose: Callable[[Person | None], Letter], about: UUID | None = None, emergency: bool = False,
) -> Ready | Ended:
    """Ask the person's side and the provider's, write the letter, commit `sending`."""
    them: Person | None = None
    if delivery.recipient.owner == "address":
        address = str((delivery.content or {}).get("to", ""))
        if await db.fetchval(SUPPRESSED, delivery.tenant, delivery.channel, address):
            return await _drop(db, delivery, "dropped", "suppressed")
    else:
        them = await person(db, delivery.tenant, delivery.recipient, about, ctx.now)
        if them is None:
            raise NotYet("profile of the recipient")
        if (refused := await _refused(ctx, db, delivery, them, notice, emergency)) is not None:
            return refused
        address = them.addresses[delivery.channel]
    line = _line(ctx.service(Providers), delivery.channel)
    if line is None:
        return await _fail(db, delivery, "not_configured")
    if not _valid(delivery.channel, address):
        return await _fail(db, delivery, "invalid_address")
    try:
        letter = compose(them)
    except ChannelFailed as failure:
        return await _fail(db, delivery, failure.code)
    messages = await _messages(ctx, db, delivery, address, letter, emergency)
    if not messages:
        return await _by_receipts(ctx, db, delivery)
    permit = line.gate.permit()
    if permit is None:
        if await next_channel(db, delivery, ctx.now) is not None:
            metrics.circuit_breaker_fallback_total.labels(line.name).inc()
            return await _fail(db, delivery, "circuit_open")
        raise Snooze(max(line.gate.retry_in(), timedelta(seconds=1)), f"the circuit of {line.name} is open")
    held.callback(permit.release)
    if delivery.status != "waiting" and delivery.channel != "push":
        metrics.possible_duplicate_total.labels(line.name).inc()
    await db.execute(deliveries.BEGIN, delivery.tenant, delivery.id, ctx.now, line.name, address)
    return Ready(delivery, line, permit, messages)


async def _refused(
    ctx: Context, db: Database, delivery: Delivery, them: Person, notice: Notice | None, emergency: bool
) -> Ended | None:
    """The person does not want it, or may not have it, or sleeps. None: they may be written to now."""
    if them.blocked:
        return await _drop(db, delivery, "dropped", "blocked")
    if notice is not None:
        channels = _channels(them, notice)
    else:
        channels = usable(them, [delivery.channel], category="", mandatory=True, emergency=emergency)
    if delivery.channel not in channels:
        await _drop(db, delivery, "dropped", "not_wanted")
        if (other := await next_channel(db, delivery, ctx.now)) is not None:
            await take_over(ctx, db, delivery, other)
        return Ended("dropped", "not_wanted")
    quiet = timedelta(0) if emergency else quiet_for(them, delivery.channel, ctx.now)
    if quiet and delivery.expires_at is not None and ctx.now + quiet >= delivery.expires_at:
        return await _drop(db, delivery, "expired", "quiet_hours")
    if quiet:
        raise Snooze(quiet, "quiet hours")
    return None


async def _by_receipts(ctx: Context, db: Database, delivery: Delivery) -> Ended:
    """No device is left to be called: an earlier run has called them all, or there never was one."""
    results = [row["result"] for row in await db.fetch(deliveries.RECEIPTS, delivery.tenant, delivery.id)]
    if "ok" in results:
        await db.execute(deliveries.SENT, delivery.tenant, delivery.id, "", ctx.now)
        return Ended("sent")
    return await _fail(db, delivery, "UNREGISTERED" if results else "no_device")


SUPPRESSED = """
    select true from suppression_list
     where tenant_id = $1 and channel = $2 and address_hash = address_hash($3) and lifted_at is null"""


async def _messages(
    ctx: Context, db: Database, delivery: Delivery, address: str, letter: Letter, emergency: bool
) -> list[tuple[UUID | None, Any]]:
    if delivery.channel == "email":
        return [(None, Mail(address, letter.subject, letter.text or None, letter.html, delivery.id))]
    if delivery.channel == "sms":
        return [(None, Text(address, letter.text, delivery.id))]
    link = ctx.service(Renderer).link(delivery.notification_id)
    collapse = str(delivery.notification_id)
    devices = [(row["device_token_id"], row["token"]) for row in await db.fetch(
        DEVICES, delivery.tenant, delivery.recipient.id, delivery.id)]
    if delivery.recipient.owner == "address":
        devices = [(derive_id("device", address), address)]
    return [(device, Push(token, letter.subject, letter.text, collapse, emergency, delivery.id, link))
            for device, token in devices]  # fmt: skip


def _line(providers: Providers, channel: str) -> Line[Any] | None:
    lines: dict[str, Line[Any] | None] = {
        "email": providers.email, "sms": providers.sms, "push": providers.push}
    return lines.get(channel)


def _valid(channel: str, address: str) -> bool:
    return valid_email(address) if channel == "email" else valid_phone(address) if channel == "sms" else bool(address)


async def _doubt(ctx: Context, db: Database, delivery: Delivery, notice: Notice | None) -> Ended | None:
    """A call may have been made and nobody knows what came of it. None: make another one."""
    assert delivery.sending_at is not None
    left = delivery.sending_at + PATIENCE - ctx.now
    if left > timedelta(0):
        if delivery.status == "sending":
            await deliveries.move(db, delivery, "ambiguous", "interrupted")
            return Ended("ambiguous")  # committed; _end waits
        raise Snooze(left, "waiting for a status report")
    again = "resend" if notice is None else notice.on_doubt
    if again == "resend" and delivery.sends < SENDS:
        return None
    await deliveries.move(db, delivery, "stopped", "ambiguous")
    await db.fetchval(
        deliveries.ESCALATE, delivery.tenant, delivery.notification_id, delivery.recipient.id, "ambiguous", ctx.now)
    metrics.notification_deliveries_total.labels(delivery.channel, "stopped").inc()
    return Ended("stopped", "ambiguous")


async def _drop(db: Database, delivery: Delivery, status: str, reason: str) -> Ended:
    await deliveries.move(db, delivery, status, reason)
    metrics.notification_deliveries_total.labels(delivery.channel, status).inc()
    return Ended(status, reason)


async def _fail(db: Database, delivery: Delivery, code: str) -> Ended:
    await deliveries.move(db, delivery, "failed", code)
    metrics.notification_deliveries_total.labels(delivery.channel, "failed").inc()
    return Ended("failed", code)


# The answer -----------------------------------------------------------------------------------------------------------

CLASSES: dict[str, Literal["transient", "permanent", "circuit_open"]] = {
    "circuit_open": "circuit_open", "unavailable": "transient",
}


async def _note(ctx: Context, step: Ready, outcome: Outcome, terms: Terms) -> Result:
    """Commit what the provider said. Raises Snooze or ProviderAway when there is to be another call."""
    delivery = step.delivery
    metrics.notification_deliveries_total.labels(delivery.channel, type(outcome).__name__.lower()).inc()
    last = ctx.run is not None and ctx.run.attempt >= terms.attempts
    async with ctx.transaction() as db:
        match outcome:  # what is said of it is read in the same breath
            case Sent(provider_id):
                await db.execute(deliveries.SENT, delivery.tenant, delivery.id, provider_id, ctx.now)
            case Rejected(code):
                await deliveries.move(db, delivery, "failed", code)
            case Throttled():
                await db.execute(deliveries.NOT_TAKEN, delivery.tenant, delivery.id)
            case Unavailable() if not last:
                await db.execute(deliveries.NOT_TAKEN, delivery.tenant, delivery.id)
            case Unavailable(code):
                await deliveries.move(db, delivery, "failed", f"unavailable:{code}")
            case Ambiguous(code):
                await deliveries.move(db, delivery, "waiting" if delivery.channel == "push" else "ambiguous", code)
        rows = await _rows(ctx, db, delivery.id)
    await failpoint("delivery.noted")
    match outcome:
        case Sent():
            took = (ctx.now - delivery.ordered_at).total_seconds()
            metrics.notification_send_seconds.labels(delivery.channel).observe(max(0.0, took))
            return _say(ctx, Ended("sent"), rows)
        case Throttled(retry_after):
            raise Snooze(retry_after, f"{step.line.name} asks for time")
        case Ambiguous(code) if delivery.channel != "push":
            raise Snooze(PATIENCE, "waiting for a status report")
        case Ambiguous(code):
            raise ProviderAway(f"{step.line.name}: {code}")
        case Unavailable(code) if not last:
            raise ProviderAway(f"{step.line.name}: {code}")
        case Rejected(code):
            return _say(ctx, Ended("failed", code), rows)
        case Unavailable(code):
            return _say(ctx, Ended("failed", f"unavailable:{code}"), rows)


async def _push_receipt(ctx: Context, delivery: Delivery, device: UUID, outcome: Outcome) -> bool:
    """What one device's call said. False: the others wait for the next run."""
    results = {"UNREGISTERED": "unregistered", "INVALID_ARGUMENT": "invalid_argument"}
    match outcome:
        case Sent(provider_id):
            result, said = "ok", provider_id
        case Rejected(code):
            result, said = results.get(code, "invalid_argument"), ""
        case _:
            return False
    async with ctx.transaction() as db:
        await db.execute(deliveries.RECEIPT, delivery.tenant, delivery.id, device, result, said, ctx.now)
    return True


Rows = tuple[Delivery, list[Any]]
"""The delivery as it stands, and its receipts when it is a push."""


async def _rows(ctx: Context, db: Database, delivery_id: UUID) -> Rows:
    delivery = await deliveries.lock(db, ctx.tenant, delivery_id)
    assert delivery is not None
    push = delivery.channel == "push"
    return delivery, await db.fetch(deliveries.RECEIPTS, ctx.tenant, delivery_id) if push else []


def _say(ctx: Context, ended: Ended, rows: Rows) -> Result:
    """Say what became of it, from the rows: a run that comes again after a crash says the same."""
    if ended.status == "ambiguous":
        raise Snooze(PATIENCE, "waiting for a status report")
    delivery, receipts = rows
    common: dict[str, Any] = {
        "notification_id": delivery.notification_id, "delivery_id": delivery.id,
        "recipient_id": delivery.recipient.id, "channel": delivery.channel, "provider": delivery.provider or "none",
        "template": delivery.template,
    }  # fmt: skip
    for row in receipts:
        ctx.publish(
            PushNotificationSent(**common, provider_message_id=row["provider_message_id"], result=row["result"],
                                 device_token_id=row["device_token_id"], sent_at=row["at"]),
            id=derive_id(delivery.id, "push", row["device_token_id"]),
        )  # fmt: skip
    if ended.status == "sent" and delivery.channel == "email" and delivery.sent_at is not None:
        ctx.publish(
            EmailSent(**common, provider_message_id=delivery.provider_message_id or "", sent_at=delivery.sent_at,
                      to_hash=delivery.address_hash or ""),
            id=derive_id(delivery.id, "accepted"),
        )  # fmt: skip
    if ended.status == "failed" and ended.reason is not None:
        kind = CLASSES.get(ended.reason.partition(":")[0], "permanent")
        ctx.publish(
            NotificationFailed(
                **common, provider_message_id=delivery.provider_message_id or "", error_code=ended.reason,
                error_class=kind, attempts=ctx.run.attempt if ctx.run else 1,
                priority=spoken(delivery.priority), failed_at=ctx.now,
            ),
            id=derive_id(delivery.id, "failed"),
        )  # fmt: skip
    if ended.reason is not None:
        ctx.note(f"{delivery.channel}: {ended.status}, {ended.reason}")
    sent = delivery.status in ("sent", "delivered")
    return {"sent": sent, "timestamp": (delivery.sent_at or ctx.now).isoformat()}


def spoken(priority: int) -> Literal["low", "normal", "high", "critical"]:
    """The seed's numbers in the words of the events."""
    return "critical" if priority == EMERGENCY else "normal" if priority <= NORMAL else "low"


# The old system's orders ----------------------------------------------------------------------------------------------


@on(SendEmail)
async def send_email(job: SendEmail, ctx: Context) -> None:
    """One delivery; what the old system called the template's variables are ours."""
    await _mail(ctx, derive_id(queue.name, ctx.meta.key), [job.user_id], job.variables)


@on(SendBulk)
async def send_bulk(job: SendBulk, ctx: Context) -> Result:
    """A job a page, in this transaction."""
    users = sorted(set(job.user_ids))
    pages = [users[n : n + job.batch_size] for n in range(0, len(users), job.batch_size)]
    terms = await _terms(ctx, ctx.db)
    for page in pages:
        order = SendPage(
            notification_id=derive_id(queue.name, ctx.meta.key), user_ids=page, variables=job.variables)
        ctx.enqueue(order, priority=terms.priority, expires=terms.expires)
    return {"pages": len(pages), "recipients": len(users)}


@on(SendPage)
async def send_page(job: SendPage, ctx: Context) -> None:
    """One delivery a user, each once."""
    await _mail(ctx, job.notification_id, job.user_ids, job.variables)


async def _mail(ctx: Context, notification: UUID, users: list[UUID], variables: Given) -> None:
    content = {
        "subject": str(variables.get("subject", "SkillCore")),
        "message": str(variables.get("message") or variables.get("body") or variables.get("content") or ""),
        "school": str(variables.get("school", "")), "about": None,
    }  # fmt: skip
    terms = await _terms(ctx, ctx.db)
    whom = [Recipient(user, "user") for user in users]
    await _order(ctx, notification, whom, NOTICES["message.plain"], None, terms, content=content, only="email")


@on(GradeDigest)
async def send_grade_digest(job: GradeDigest, ctx: Context) -> None:
    """To each who takes digests; grades travel by e-mail only."""
    rows = [{"title": str(g.get("title") or g.get("assignment") or g.get("assignmentTitle") or ""),
             "value": str(g.get("score") or g.get("letter") or g.get("value") or "")} for g in job.grades]  # fmt: skip
    await _family(ctx, job.student_id, "digest.grades", {"day": job.day, "grades": rows})


@on(TellInactive)
async def tell_inactive(job: TellInactive, ctx: Context) -> None:
    """What is missed is listed in the mail; SMS and push say only that there is something."""
    missed = [{"title": m if isinstance(m, str) else str(m.get("title") or m.get("name") or "")} for m in job.missed]
    await _family(ctx, job.user_id, "student.inactive", {"last_login": job.last_login or "-", "missed": missed})


NAME = "select given_name from user_profiles where tenant_id = $1 and user_id = $2"
NO_DIGEST = """
    select user_id from notification_preferences
     where tenant_id = $1 and user_id = any($2::uuid[]) and digest = 'none'"""


async def _family(ctx: Context, student: UUID, name: str, content: Given) -> None:
    notice = NOTICES[name]
    known = await ctx.db.fetchval(NAME, ctx.tenant, student)
    if known is None:
        raise NotYet("profile of the student")
    guardians = await recipients(ctx.db, ctx.tenant, "guardians_of", student, notice, ctx.now.date())
    whom = [Recipient(student, "user"), *guardians]
    if name.startswith("digest."):
        refused = await ctx.db.fetch(NO_DIGEST, ctx.tenant, [who.id for who in whom])
        whom = [who for who in whom if who.id not in {row["user_id"] for row in refused}]
    said = content | {"student": known, "school": "", "about": str(student)}
    terms = await _terms(ctx, ctx.db)
    await _order(ctx, derive_id(queue.name, ctx.meta.key), whom, notice, student, terms, content=said)


@queue.translates
def translate(name: str, data: dict[str, Any]) -> Job | None:
    """Names and payloads of the old system (DOMAIN.md 3.3). None: the payload is none of theirs.

    Raises pydantic's ValidationError for a payload that lacks what its name promises.
    """
    if name == "daily-grade-digest":
        return GradeDigest(student_id=_id(data.get("studentId")), grades=data.get("grades") or [],
                           day=str(data.get("date") or "")[:10])  # fmt: skip
    if name == "inactive-student":
        login = data.get("lastLogin")
        return TellInactive(user_id=_id(data.get("userId")), last_login=None if login is None else str(login)[:10],
                            missed=data.get("missedAssignments") or [])  # fmt: skip
    if name == "send-email":
        return SendEmail(user_id=_id(data.get("userId")), variables=_rest(data, "userId"))
    if name == "send-bulk-email":
        users = [_id(user) for user in data.get("userIds") or []]
        return SendBulk(user_ids=users, batch_size=data.get("batchSize") or BATCH,
                        variables=_rest(data, "userIds", "batchSize"))  # fmt: skip
    if {"channel", "recipient", "content"} <= data.keys():
        emergency = name == "emergency-alert"
        known = {"emergency-alert": EMERGENCY, "grade-posted": NORMAL, "weekly-digest": LOW}
        return DeliverGiven(channel=data["channel"], recipient=data["recipient"], content=data["content"],
                            priority=known.get(name, NORMAL), emergency=emergency)  # fmt: skip
    return None


_ID = TypeAdapter(UUID)


def _id(said: object) -> UUID:
    return _ID.validate_python(said)


def _rest(data: dict[str, Any], *named: str) -> Given:
    return {key: value for key, value in data.items() if key not in named}


# Whoever is on call, and the counts -----------------------------------------------------------------------------------


@on(PageOnCall, transaction=False)
async def page_on_call(job: PageOnCall, ctx: Context) -> Result:
    """One event of PagerDuty. Its dedup key makes repeats harmless, so doubt is simply another try."""
    line = ctx.service(Providers).pages
    if line is None:
        ctx.note("nobody is paged: PagerDuty is not configured")
        ctx.log.error("nobody is paged, PagerDuty is not configured: %s", job.dedup_key)
        return {"sent": False, "timestamp": ctx.now.isoformat()}
    permit = line.gate.permit()
    if permit is None:
        raise Snooze(max(line.gate.retry_in(), timedelta(seconds=1)), f"the circuit of {line.name} is open")
    try:
        outcome = await line.sender.send(Page(job.dedup_key, job.summary, job.severity, job.source, job.action))
        permit.settle(outcome)
    finally:
        permit.release()
    match outcome:
        case Sent():
            return {"sent": True, "timestamp": ctx.now.isoformat()}
        case Throttled(retry_after):
            raise Snooze(retry_after, f"{line.name} asks for time")
        case Rejected(code):
            raise PermanentError(f"{line.name} refuses the event: {code}")
        case Unavailable(code) | Ambiguous(code):
            raise ProviderAway(f"{line.name}: {code}")


RECOUNT = """
    insert into notification_stats_daily as s (tenant_id, day, channel, template, ordered, sent, delivered, failed,
                                               bounced, dropped)
    select tenant_id, $2, channel, coalesce(template, ''), count(*),
           count(*) filter (where sent_at is not null or status in ('sent', 'delivered')),
           count(*) filter (where status = 'delivered'), count(*) filter (where status = 'failed'),
           count(*) filter (where status = 'bounced'), count(*) filter (where status in ('dropped', 'expired'))
      from notification_deliveries
     where tenant_id = $1 and ordered_at >= $3 and ordered_at < $4
     group by 1, 3, 4 order by 1, 3, 4
    on conflict (tenant_id, day, channel, template) do update
       set ordered = excluded.ordered, sent = excluded.sent, delivered = excluded.delivered, failed = excluded.failed,
           bounced = excluded.bounced, dropped = excluded.dropped"""

FORGET_WEBHOOKS = """
    delete from webhook_seen where (provider, event_id) in (
        select provider, event_id from webhook_seen where seen_at < $1 order by seen_at limit 1000)"""


@on(NotificationStats)
async def count_notifications(job: NotificationStats, ctx: Context) -> None:
    """Recount the day's rows, and forget which webhooks were seen long ago: their events' keys stay in the inbox."""
    begins = datetime(job.day.year, job.day.month, job.day.day, tzinfo=UTC)
    ends = begins + timedelta(days=1)
    await ctx.db.execute(RECOUNT, ctx.tenant, job.day, begins, ends)
    await ctx.db.execute(FORGET_WEBHOOKS, ctx.now - timedelta(days=45))
