"""Notifications: what became of deliveries, as jobs and webhooks tell it; what people want to hear of.

A delivery's status only moves up (`delivery_rank`), so reports may come in any order and more than once. A failed one
is taken over by the next channel, whoever told of the failure first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.notifications import (
    DeliveryEvent,
    EmailBounced,
    EmailSent,
    NotificationFailed,
    NotificationPreferencesUpdated,
    PushNotificationSent,
    SMSDelivered,
)
from skillcore_streams.notifications import deliveries
from skillcore_streams.queues.notification_delivery import (
    SOON,
    NotificationStats,
    PageOnCall,
    next_channel,
    take_over,
)
from skillcore_streams.runtime import Context, derive_id, on
from skillcore_streams.runtime.messages import Message

SOFT_LIMIT, SOFT_WINDOW = 3, timedelta(days=7)
"""So many soft bounces within so long mean a dead address."""

STOPPED = "21610"
"""Twilio: the recipient has answered STOP. Consent is gone until they say START (47 CFR 64.1200(a)(10))."""

# Rows that were never ordered here, of other producers, are kept as they are told.
REPORT = """
    insert into notification_deliveries as d (tenant_id, delivery_id, notification_id, recipient_id, channel, template,
                                              status, provider, provider_message_id, segments, price, ordered_at,
                                              sent_at)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::int[], $11::numeric[], $12::timestamptz[], $13::timestamptz[])
     order by 1, 2
    on conflict (tenant_id, delivery_id) do update
       set status = excluded.status, reason = null, content = null, provider = excluded.provider,
           provider_message_id = coalesce(d.provider_message_id, excluded.provider_message_id),
           segments = coalesce(excluded.segments, d.segments), price = coalesce(excluded.price, d.price),
           sent_at = coalesce(d.sent_at, excluded.sent_at)
     where d.recipient_id = excluded.recipient_id and delivery_rank(d.status) < delivery_rank(excluded.status)"""

FAILED = """
    insert into notification_deliveries as d (tenant_id, delivery_id, notification_id, recipient_id, channel, template,
                                              status, reason, provider, provider_message_id, ordered_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (tenant_id, delivery_id) do update
       set (status, reason) = (
               select status, reason
                 from (values (d.status, d.reason), (excluded.status, excluded.reason)) s (status, reason)
                order by delivery_rank(status) desc limit 1)
     where d.recipient_id = excluded.recipient_id
    returning *"""

VERIFIED = """
    insert into channel_status as s (tenant_id, recipient_id, channel, last_verified_at)
    select t.tenant_id, t.recipient_id, 'sms', max(t.at)
      from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as t (tenant_id, recipient_id, at)
     group by 1, 2 order by 1, 2
    on conflict (tenant_id, recipient_id, channel) do update
       set last_verified_at = greatest(s.last_verified_at, excluded.last_verified_at)"""

INVALID = """
    insert into channel_status as s (tenant_id, recipient_id, channel, valid) values ($1, $2, $3, false)
    on conflict (tenant_id, recipient_id, channel) do update set valid = false"""

SUPPRESS = """
    insert into suppression_list (tenant_id, channel, address_hash, reason, since) values ($1, $2, $3, $4, $5)
    on conflict do nothing"""

REVOKE = """
    update device_tokens set revoked_at = coalesce(revoked_at, $4)
     where tenant_id = $1 and user_id = $2 and device_token_id = $3"""

DEVICES_LEFT = "select count(*) from device_tokens where tenant_id = $1 and user_id = $2 and revoked_at is null"

BOUNCE = """
    insert into email_bounces (tenant_id, recipient_id, delivery_id, bounce_class, bounced_at)
    values ($1, $2, $3, $4, $5) on conflict do nothing"""

SOFT_BOUNCES = """
    select count(*) from email_bounces
     where tenant_id = $1 and recipient_id = $2 and bounce_class in ('soft', 'blocked')
       and bounced_at > $3::timestamptz - $4::interval and bounced_at <= $3"""

TASK = """
    insert into registrar_tasks (tenant_id, task_id, kind, subject_id, raised_at) values ($1, $2, 'fix_address', $3, $4)
    on conflict do nothing"""

PREFERENCES = """
    insert into notification_preferences as p (tenant_id, user_id, version, channels, categories, quiet_start,
                                               quiet_end, quiet_zone, digest, language)
    select * from unnest($1::text[], $2::uuid[], $3::int[], $4::jsonb[], $5::jsonb[], $6::time[], $7::time[],
                         $8::text[], $9::text[], $10::text[])
    on conflict (tenant_id, user_id) do update
       set version = excluded.version, channels = excluded.channels, categories = excluded.categories,
           quiet_start = excluded.quiet_start, quiet_end = excluded.quiet_end, quiet_zone = excluded.quiet_zone,
           digest = excluded.digest, language = excluded.language
     where p.version < excluded.version"""


@on(EmailSent, name="NotificationDeliveryAnalyticsHandler")
async def note_sent_mail(events: list[EmailSent], ctx: Context) -> None:
    """The mail is on its way, whoever says so first: the job that was told so, or SendGrid's webhook."""
    await _report(ctx, "sent", [(e, e.sent_at, None, None) for e in events])


@on(SMSDelivered, name="SMSDeliveryHandler")
async def note_delivered_sms(events: list[SMSDelivered], ctx: Context) -> None:
    """Delivered, and so the number is known to work."""
    await _report(ctx, "delivered", [(e, e.delivered_at, e.segments, e.price) for e in events])
    await ctx.db.execute(
        VERIFIED, [e.meta.tenant for e in events], [e.recipient_id for e in events],
        [e.delivered_at for e in events],
    )


@on(PushNotificationSent, name="PushReceiptHandler")
async def note_push(event: PushNotificationSent, ctx: Context) -> None:
    """A token that is gone is not used again; with the last one gone, the next channel takes over."""
    if event.result == "ok":
        await _report(ctx, "sent", [(event, event.sent_at, None, None)])
        return
    if event.result != "unregistered":
        return  # of a message, not of a device: the delivery's own failure tells
    tenant, who = ctx.tenant, event.recipient_id
    await ctx.db.execute(REVOKE, tenant, who, event.device_token_id, event.sent_at)
    if await ctx.db.fetchval(DEVICES_LEFT, tenant, who) == 0:
        await ctx.db.execute(INVALID, tenant, who, "push")
        await _fail(ctx, event, "failed", "UNREGISTERED", event.sent_at)


@on(EmailBounced, name="EmailBounceHandler")
async def note_bounce(event: EmailBounced, ctx: Context) -> None:
    """A dead address gets no more mail and a person to correct it. Who has called it spam is not asked by SMS."""
    tenant, who = ctx.tenant, event.recipient_id
    await ctx.db.execute(BOUNCE, tenant, who, event.delivery_id, event.bounce_class, event.bounced_at)
    spam = event.bounce_class == "spamreport"
    row = await _fail(ctx, event, "bounced", event.bounce_class, event.bounced_at, over=not spam)
    dead = spam or event.bounce_class == "hard"
    if not dead:
        soft = await ctx.db.fetchval(SOFT_BOUNCES, tenant, who, event.bounced_at, SOFT_WINDOW)
        dead = soft >= SOFT_LIMIT
    if not dead:
        return
    if row is not None and row["address_hash"]:
        await ctx.db.execute(
            SUPPRESS, tenant, "email", row["address_hash"], event.bounce_class, event.bounced_at)
    await ctx.db.execute(INVALID, tenant, who, "email")
    if not spam:
        task = derive_id(tenant, "fix_address", who, row["address_hash"] if row is not None else "")
        await ctx.db.execute(TASK, tenant, task, who, event.bounced_at)


@on(NotificationFailed, name="NotificationFailureEscalationHandler")
async def escalate_failure(event: NotificationFailed, ctx: Context) -> None:
    """The next channel takes over. When all are spent a person must act, and of a critical one somebody is woken."""
    tenant, who = ctx.tenant, event.recipient_id
    row = await _fail(ctx, event, "failed", event.error_code, event.failed_at)
    if event.error_code == STOPPED and row is not None and row["address_hash"]:
        await ctx.db.execute(SUPPRESS, tenant, "sms", row["address_hash"], "stop", event.failed_at)
        await ctx.db.execute(INVALID, tenant, who, "sms")
    rows = await ctx.db.fetch(deliveries.SIBLINGS, tenant, event.notification_id, who)
    if any(r["status"] in deliveries.ALIVE for r in rows):
        return
    new = await ctx.db.fetchval(
        deliveries.ESCALATE, tenant, event.notification_id, who, f"exhausted: {event.error_code}"[:200],
        event.failed_at)
    if new and event.priority == "critical":
        ctx.enqueue(
            PageOnCall(
                dedup_key=f"notification:{event.notification_id}",
                summary="A critical notification could not be delivered by any channel", severity="critical",
                source="notification-delivery",
            ),
            unique=f"page:{event.notification_id}",
        )


@on(NotificationPreferencesUpdated, name="NotificationPreferenceHandler")
async def update_preferences(events: list[NotificationPreferencesUpdated], ctx: Context) -> None:
    """The highest version holds. What waits is asked about it when its time comes."""
    newest: dict[tuple[str, UUID], NotificationPreferencesUpdated] = {}
    for event in sorted(events, key=lambda e: e.version):
        newest[event.meta.tenant, event.user_id] = event
    rows = [event for _, event in sorted(newest.items())]
    quiet = [event.quiet_hours for event in rows]
    await ctx.db.execute(
        PREFERENCES, [e.meta.tenant for e in rows], [e.user_id for e in rows], [e.version for e in rows],
        [json.dumps(e.channels) for e in rows], [json.dumps(e.categories) for e in rows],
        [q.start if q else None for q in quiet], [q.end if q else None for q in quiet],
        [q.tz if q else None for q in quiet], [e.digest for e in rows], [e.language for e in rows],
    )


# What they share ------------------------------------------------------------------------------------------------------


async def _report(
    ctx: Context, status: str, told: Sequence[tuple[DeliveryEvent, datetime, int | None, Any]]
) -> None:
    """Move deliveries up, set-based; of two reports of one delivery the earlier counts."""
    first: dict[tuple[str, UUID], tuple[DeliveryEvent, datetime, int | None, Any]] = {}
    for one in sorted(told, key=lambda t: t[1], reverse=True):
        first[one[0].meta.tenant, one[0].delivery_id] = one
    rows = [one for _, one in sorted(first.items())]
    events = [event for event, _, _, _ in rows]
    times = [at for _, at, _, _ in rows]
    await ctx.db.execute(
        REPORT, [e.meta.tenant for e in events], [e.delivery_id for e in events], [e.notification_id for e in events],
        [e.recipient_id for e in events], [e.channel for e in events], [e.template for e in events],
        [status] * len(rows), [e.provider for e in events], [e.provider_message_id for e in events],
        [segments for _, _, segments, _ in rows], [price for _, _, _, price in rows], times, times,
    )
    _recount(ctx, [(event, at) for event, at, _, _ in rows])


async def _fail(
    ctx: Context, event: DeliveryEvent, status: str, reason: str, at: datetime, over: bool = True
) -> Any:
    """Note that it failed and, `over`, let the next channel take over. Returns the row; None: it is somebody else's."""
    row = await ctx.db.fetchrow(
        FAILED, ctx.tenant, event.delivery_id, event.notification_id, event.recipient_id, event.channel,
        event.template, status, reason, event.provider, event.provider_message_id, at,
    )
    if row is None:
        return None
    delivery = deliveries.of_row(row)
    if over and delivery.status not in deliveries.ALIVE:
        channel = await next_channel(ctx.db, delivery, ctx.now)
        if channel is not None:
            await take_over(ctx, ctx.db, delivery, channel)
    _recount(ctx, [(event, row["ordered_at"])])
    return row


def _recount(ctx: Context, told: Sequence[tuple[Message, datetime]]) -> None:
    """The statistics of the days touched; today's and yesterday's, should midnight lie between order and report."""
    causes = {(event.meta.tenant, at.date()): event for event, at in told}
    for (_, day), event in sorted(causes.items(), key=lambda item: (item[0][0], item[0][1])):
        ctx.enqueue(NotificationStats(day=day), cause=event, debounce=SOON)
