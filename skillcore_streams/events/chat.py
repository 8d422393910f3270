"""Chat: rooms, members, messages and what is reported of them."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import Count, Many, Name, Part, Personal, Role, Text, Version
from skillcore_streams.runtime import Event, EventTime


class RoomPolicy(Part):
    """Who may be alone with whom."""

    student_dm: bool
    staff_required: bool


class ChatEvent(Event, topic="skillcore.chat.events.v1", key="room_id"):
    """Keyed by room, so a room's conversation keeps its order."""

    room_id: UUID


class ChatMessageSent(ChatEvent):
    """Chat message sent."""

    message_id: UUID
    sender_id: UUID
    sender_role: Role
    body_ref: Personal[Name]
    mentions: Many[UUID] | None = None
    reply_to: UUID | None = None
    sent_at: EventTime
    client_msg_id: Name


class ChatMessageRead(ChatEvent):
    """Chat message read."""

    reader_id: UUID
    last_message_id: UUID
    read_at: EventTime


class ChatMessageEdited(ChatEvent):
    """Chat message edited."""

    message_id: UUID
    editor_id: UUID
    body_ref: Personal[Name]
    edit_no: Version
    edited_at: EventTime


class ChatMessageDeleted(ChatEvent):
    """Chat message deleted."""

    message_id: UUID
    deleted_by: UUID
    deleted_at: EventTime
    reason: Personal[Text | None] = None


class ChatReactionAdded(ChatEvent):
    """Chat reaction added."""

    reaction_id: UUID
    message_id: UUID
    user_id: UUID
    emoji: Name
    added_at: EventTime


class ChatRoomCreated(ChatEvent):
    """Chat room created (Canvas group_created)."""

    kind: Literal["class", "dm", "group", "staff"]
    class_id: UUID | None = None
    created_by: UUID
    member_ids: Many[UUID]
    name: Personal[Name | None] = None
    policy: RoomPolicy


class ChatMemberJoined(ChatEvent):
    """Chat member joined (Canvas group_membership_created)."""

    user_id: UUID
    role: Role
    added_by: UUID
    joined_at: EventTime


class ChatMemberLeft(ChatEvent):
    """Chat member left."""

    user_id: UUID
    removed_by: UUID | None = None
    left_at: EventTime
    reason: Personal[Literal["left", "removed", "withdrawn", "deactivated"]]


class ChatMessageReported(ChatEvent):
    """Chat message reported."""

    report_id: UUID
    message_id: UUID
    reporter_id: UUID
    category: Literal["bullying", "self_harm", "sexual", "threat", "spam"]
    note: Personal[Text | None] = None


class ChatAttachmentUploaded(ChatEvent):
    """Chat attachment uploaded (Canvas attachment_created)."""

    attachment_id: UUID
    message_id: UUID
    uploader_id: UUID
    filename: Personal[Name]
    mime: Name
    size: Count
    sha256: Name
    storage_key: Name
