"""Communication: messages between school and home, announcements, alerts, conferences."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from skillcore_streams.events.fields import Channel, Language, Many, Name, Personal, Priority, Role, Text
from skillcore_streams.runtime import Event, EventTime


class CommunicationEvent(Event, topic="skillcore.communication.events.v1"):
    """The domain's topic; each event names its key."""


class MessageSent(CommunicationEvent, key="thread_id"):
    """Message sent (Canvas conversation_message_created)."""

    message_id: UUID
    thread_id: UUID
    sender_id: UUID
    recipient_ids: Many[UUID]
    student_id: UUID | None = None
    subject: Personal[Name | None] = None
    body_ref: Personal[Name]
    language: Language
    priority: Priority
    sent_at: EventTime
    attachments: Many[UUID] | None = None


class MessageRead(CommunicationEvent, key="thread_id"):
    """Message read."""

    message_id: UUID
    thread_id: UUID
    reader_id: UUID
    read_at: EventTime


class MessageReplied(CommunicationEvent, key="thread_id"):
    """Message replied."""

    message_id: UUID
    thread_id: UUID
    in_reply_to: UUID
    sender_id: UUID
    replied_at: EventTime


class AnnouncementPublished(CommunicationEvent, key="announcement_id"):
    """Announcement published (Canvas discussion_topic_created(is_announcement))."""

    announcement_id: UUID
    author_id: UUID
    scope: Literal["district", "school", "class", "group"]
    scope_id: UUID
    roles: Many[Role]
    title: Personal[Name]
    body_ref: Personal[Name]
    publish_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    channels: Many[Channel]


class EmergencyAlertIssued(CommunicationEvent, key="alert_id"):
    """Emergency alert issued."""

    alert_id: UUID
    school_ids: Many[UUID]
    kind: Literal["lockdown", "evacuate", "weather", "medical", "test"]
    message: Personal[Text]
    issued_by: UUID
    issued_at: EventTime
    ack_required: bool


class ParentContactLogged(CommunicationEvent, key="student_id"):
    """Parent contact logged."""

    contact_id: UUID
    student_id: UUID
    guardian_id: UUID
    staff_id: UUID
    method: Literal["phone", "email", "sms", "visit", "meeting"]
    outcome: Literal["reached", "left_message", "no_answer"]
    topic: Literal["attendance", "grades", "behavior", "iep", "other"]
    notes_ref: Personal[Name | None] = None
    occurred_at: EventTime


class ConferenceScheduled(CommunicationEvent, key="conference_id"):
    """Conference scheduled."""

    conference_id: UUID
    student_id: UUID
    organizer_id: UUID
    attendee_ids: Many[UUID]
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    location: Personal[Name | None] = None
    interpreter_language: Language | None = None
    kind: Literal["parent_teacher", "iep", "504", "sst"]


class MessageFlagged(CommunicationEvent, key="thread_id"):
    """Message flagged."""

    flag_id: UUID
    message_id: UUID
    thread_id: UUID
    reporter_id: UUID | None = None
    reason: Personal[Literal["profanity", "harassment", "self_harm", "spam", "other"]]
    source: Literal["user", "filter"]
