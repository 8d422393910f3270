"""Table `notification_deliveries`: one row a notification, person and channel, and the steps that move it.

    waiting ──► sending ──► sent ──► delivered ──► bounced          dropped, expired: nothing was said
       ▲           │  └──► failed                                   stopped: nobody knows, a person decides
       └───────────┴─► ambiguous ──► sending (once more) or stopped
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from skillcore_streams.notifications.notices import Notice
from skillcore_streams.notifications.people import Recipient
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.messages import derive_id

ORDER = """
    insert into notification_deliveries (tenant_id, delivery_id, notification_id, recipient_id, owner, channel,
                                         template, subject_id, content, falls_back, priority, ordered_at, expires_at)
    select $1::text, t.*, $7::text, $8::uuid, $9::jsonb, $10::boolean, $11::int, $12::timestamptz, $13::timestamptz
      from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[]) as t (delivery_id)
     order by t.delivery_id
    on conflict do nothing returning delivery_id"""

LOCK = "select * from notification_deliveries where tenant_id = $1 and delivery_id = $2 for update"

MOVE = """
    update notification_deliveries
       set status = $3, reason = $4,  -- what failed may go by another channel yet
           content = case when $3 in ('waiting', 'sending', 'ambiguous', 'failed') then content end
     where tenant_id = $1 and delivery_id = $2 and delivery_rank(status) < delivery_rank('sent')"""

BEGIN = """
    update notification_deliveries
       set status = 'sending', sends = sends + 1, sending_at = $3, provider = $4, address_hash = address_hash($5)
     where tenant_id = $1 and delivery_id = $2"""

NOT_TAKEN = """
    update notification_deliveries set status = 'waiting', sends = sends - 1
     where tenant_id = $1 and delivery_id = $2 and status = 'sending'"""

SENT = """
    update notification_deliveries
       set status = case when delivery_rank(status) < delivery_rank('sent') then 'sent' else status end,
           provider_message_id = coalesce(provider_message_id, $3), sent_at = coalesce(sent_at, $4), content = null,
           reason = case when delivery_rank(status) < delivery_rank('failed') then null else reason end
     where tenant_id = $1 and delivery_id = $2 returning *"""

SIBLINGS = """
    select channel, status, delivery_id from notification_deliveries
     where tenant_id = $1 and notification_id = $2 and recipient_id = $3"""

ESCALATE = """
    insert into notification_escalations (tenant_id, notification_id, recipient_id, reason, raised_at)
    values ($1, $2, $3, $4, $5) on conflict do nothing returning 1"""

RECEIPT = """
    insert into push_receipts (tenant_id, delivery_id, device_token_id, result, provider_message_id, at)
    values ($1, $2, $3, $4, $5, $6) on conflict do nothing"""

RECEIPTS = "select * from push_receipts where tenant_id = $1 and delivery_id = $2 order by device_token_id"

ALIVE = frozenset({"waiting", "sending", "ambiguous", "stopped", "sent", "delivered"})
"""Of these, no other channel need take over."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row, as it was when it was locked."""

    tenant: str
    id: UUID
    notification_id: UUID
    recipient: Recipient
    channel: str
    template: str | None
    subject_id: UUID | None
    content: Mapping[str, Any] | None
    falls_back: bool
    priority: int
    status: str
    reason: str | None
    sends: int
    provider: str | None
    provider_message_id: str | None
    address_hash: str | None
    ordered_at: datetime
    expires_at: datetime | None
    sending_at: datetime | None
    sent_at: datetime | None


def delivery_id(tenant: str, notification: UUID, recipient: UUID, channel: str) -> UUID:
    """The same notification to the same person by the same channel is one delivery."""
    return derive_id(tenant, notification, recipient, channel)


def of_row(row: Any) -> Delivery:
    """Of a row of the table."""
    return Delivery(
        row["tenant_id"], row["delivery_id"], row["notification_id"],
        Recipient(row["recipient_id"], row["owner"] or "user"), row["channel"], row["template"], row["subject_id"],
        None if row["content"] is None else json.loads(row["content"]), row["falls_back"], row["priority"],
        row["status"], row["reason"], row["sends"], row["provider"], row["provider_message_id"], row["address_hash"],
        row["ordered_at"], row["expires_at"], row["sending_at"], row["sent_at"],
    )  # fmt: skip


async def order(
    db: Database, tenant: str, notification: UUID, whom: Sequence[tuple[Recipient, str]], *, template: str | None,
    subject: UUID | None, now: datetime, priority: int, expires: datetime | None, falls_back: bool = False,
    content: Mapping[str, Any] | None = None, ids: Sequence[UUID] | None = None,
) -> list[UUID]:
    """Rows for these (recipient, channel) that are new. Returns their ids, and not those that were there before.

    `ids`: of deliveries whose id does not follow from the notification.
    """
    made = [delivery_id(tenant, notification, who.id, channel) for who, channel in whom] if ids is None else ids
    rows = await db.fetch(
        ORDER, tenant, list(made), [notification] * len(whom), [who.id for who, _ in whom],
        [who.owner for who, _ in whom], [channel for _, channel in whom], template, subject,
        None if content is None else json.dumps(content, default=str), falls_back, priority, now, expires,
    )  # fmt: skip
    return [row["delivery_id"] for row in rows]


async def lock(db: Database, tenant: str, id: UUID) -> Delivery | None:
    """The row, ours until the transaction ends."""
    row = await db.fetchrow(LOCK, tenant, id)
    return None if row is None else of_row(row)


async def move(db: Database, delivery: Delivery, status: str, reason: str | None = None) -> None:
    """To another status. What has been sent meanwhile stays so."""
    await db.execute(MOVE, delivery.tenant, delivery.id, status, reason)


async def facts(db: Database, notice: Notice, tenant: str, subject: UUID | None, notification: UUID,
                recipient: UUID | None) -> dict[str, Any] | None:  # fmt: skip
    """What the notice tells, as it stands now; None when it no longer holds."""
    assert notice.lookup is not None
    known = {"subject": subject, "notification": notification, "recipient": recipient}
    row = await db.fetchrow(notice.lookup, tenant, *(known[name] for name in notice.by))
    return None if row is None else dict(row)
