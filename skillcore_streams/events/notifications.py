"""Notifications: what became of messages to people, as the providers tell it."""

from __future__ import annotations

from datetime import time
from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import (
    Channel,
    Count,
    Language,
    Name,
    Part,
    Personal,
    Priority,
    Text,
    TimeZone,
    Version,
)
from skillcore_streams.runtime import Event, EventTime, Exact


class QuietHours(Part):
    """No message between `start` and `end`, local times of the recipient's zone."""

    start: time
    end: time
    tz: TimeZone


class NotificationsEvent(Event, topic="skillcore.notifications.events.v1"):
    """The domain's topic; each event names its key."""


class DeliveryEvent(NotificationsEvent, key="recipient_id"):
    """What became of one delivery: one notification to one person by one channel."""

    notification_id: UUID
    delivery_id: UUID
    recipient_id: UUID
    channel: Channel
    provider: Name
    provider_message_id: Name
    template: Name | None = None


class EmailSent(DeliveryEvent):
    """Email sent (SendGrid `processed`)."""

    to_hash: Personal[Name]
    sent_at: EventTime
    subject_key: Name | None = None


class SMSDelivered(DeliveryEvent):
    """SMS delivered (Twilio MessageStatus=delivered)."""

    segments: Count
    price: Exact | None = None
    delivered_at: EventTime
    carrier_status: Name


class PushNotificationSent(DeliveryEvent):
    """Push notification sent (FCM v1 error UNREGISTERED)."""

    device_token_id: UUID
    result: Literal["ok", "unregistered", "invalid_argument", "quota"]
    sent_at: EventTime


class EmailBounced(DeliveryEvent):
    """Email bounced (SendGrid bounce/dropped/spamreport)."""

    bounce_class: Literal["hard", "soft", "blocked", "dropped", "spamreport"]
    reason: Personal[Text]
    bounced_at: EventTime


class NotificationFailed(DeliveryEvent):
    """Notification failed (Twilio failed/undelivered 30003/21610)."""

    error_code: Name
    error_class: Literal["transient", "permanent", "circuit_open"]
    attempts: Count
    priority: Priority
    failed_at: EventTime


class NotificationPreferencesUpdated(NotificationsEvent, key="user_id"):
    """Notification preferences updated."""

    user_id: UUID
    version: Version
    channels: dict[Channel, bool]
    categories: dict[Name, bool]
    quiet_hours: QuietHours | None = None
    digest: Literal["none", "daily", "weekly"]
    language: Language
