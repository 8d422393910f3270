"""Notification delivery: everything that reaches a person, by any channel. Orders wait here for the job engine."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from skillcore_streams.runtime import Job, Queue

queue = Queue("notification-delivery", concurrency=10)

EMERGENCY, NORMAL, LOW = 1, 5, 10
"""The seed's priorities: lower first."""


class DeliverNotification(Job, queue=queue, kind="deliver"):
    """Render a template and send it to one person by the channel they prefer. Names the occasion, never its content."""

    notification_id: UUID
    recipient_id: UUID
    recipient_role: Literal["user", "guardians_of", "staff_of"]
    template: str
    subject_id: UUID
    """The row the template is rendered from; whether it still holds is asked at send time."""
