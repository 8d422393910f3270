"""What becomes of deliveries, in whatever order it is told, and what people want to hear of."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, time, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from skillcore_streams.events.notifications import (
    DeliveryEvent,
    EmailBounced,
    EmailSent,
    NotificationFailed,
    NotificationPreferencesUpdated,
    PushNotificationSent,
    QuietHours,
    SMSDelivered,
)
from skillcore_streams.handlers.notifications import (
    escalate_failure,
    note_bounce,
    note_delivered_sms,
    note_push,
    note_sent_mail,
    update_preferences,
)
from skillcore_streams.queues.notification_delivery import Deliver, NotificationStats, PageOnCall
from skillcore_streams.runtime import Event
from skillcore_streams.testing import NOW, TENANT, HandlerLab, given
from tests.handlers.test_demographics import USER, user

E = TypeVar("E", bound=Event)
NOTICE, DELIVERY, DEVICE = UUID(int=81), UUID(int=82), UUID(int=83)


def told(event: E, **more: Any) -> E:
    return given(event, **more)


def common(channel: str, **more: Any) -> dict[str, Any]:
    return {"notification_id": NOTICE, "delivery_id": DELIVERY, "recipient_id": USER, "channel": channel,
            "provider": "p", "provider_message_id": "m"} | more


def sent(at: datetime = NOW, **more: Any) -> EmailSent:
    return EmailSent(**common("email", **more), to_hash="h", sent_at=at)


def delivered(at: datetime = NOW, **more: Any) -> SMSDelivered:
    return SMSDelivered(
        **common("sms", **more), segments=2, price="0.0075", delivered_at=at, carrier_status="delivered")


def pushed(result: str = "ok", device: UUID = DEVICE, **more: Any) -> PushNotificationSent:
    return PushNotificationSent(**common("push", **more), device_token_id=device, result=result, sent_at=NOW)


def bounced(how: str = "hard", at: datetime = NOW, **more: Any) -> EmailBounced:
    return EmailBounced(**common("email", **more), bounce_class=how, reason="550", bounced_at=at)


def failed(code: str = "30003", priority: str = "normal", channel: str = "sms", **more: Any) -> NotificationFailed:
    return NotificationFailed(**common(channel, **more), error_code=code, error_class="permanent", attempts=1,
                              priority=priority, failed_at=NOW)


def preferences(version: int = 1, user_id: UUID = USER, **more: Any) -> NotificationPreferencesUpdated:
    fields: dict[str, Any] = {"channels": {"email": True}, "categories": {}, "digest": "daily", "language": "en"}
    return NotificationPreferencesUpdated(user_id=user_id, version=version, **fields | more)


async def status(lab: HandlerLab) -> list[tuple[str, str | None]]:
    rows = await lab.rows("select status, reason from notification_deliveries order by delivery_id")
    return [(row["status"], row["reason"]) for row in rows]


async def ordered(lab: HandlerLab, channel: str = "email", **more: Any) -> None:
    """A delivery of ours that is under way to a teacher with e-mail and SMS."""
    await lab.deliver([user("teacher", email="ada@lake.example", phone="+15125550100"),
                       told(preferences(channels={"email": True, "sms": True}))])
    await lab.execute("delete from ready; delete from later; delete from notification_deliveries")
    fields = {"status": "sending", "falls_back": True, "priority": 5} | more
    await lab.execute("""
        insert into notification_deliveries (tenant_id, delivery_id, notification_id, recipient_id, owner, channel,
                                             template, subject_id, falls_back, status, address_hash, ordered_at,
                                             priority)
        values ($1, $2, $3, $4, 'user', $5, 'user.welcome', $4, $6, $7, address_hash('ada@lake.example'), $8, $9)""",
        TENANT, DELIVERY, NOTICE, USER, channel, fields["falls_back"], fields["status"], NOW, fields["priority"])


REPORTS: list[tuple[DeliveryEvent, str]] = [
    (sent(), "sent"), (bounced("spamreport", NOW + timedelta(hours=1)), "bounced"),
    (failed(channel="email"), "failed"),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_last_word_of_a_delivery_does_not_depend_on_the_order(
    lab: HandlerLab, order: tuple[int, ...]
) -> None:
    await ordered(lab, falls_back=False)

    for n in order:
        await lab.deliver([told(REPORTS[n][0], id=f"report {n}")])
        await lab.deliver([told(REPORTS[n][0], id=f"again {n}")])

    assert await status(lab) == [("bounced", "spamreport")]


async def test_reports_of_one_chunk_are_one_statement_and_the_earliest_time_counts(lab: HandlerLab) -> None:
    await ordered(lab)
    later = NOW + timedelta(minutes=1)

    done = await lab.run(note_sent_mail, [
        told(sent(later)), told(sent()), told(sent(delivery_id=UUID(int=90))), told(sent(), tenant="other")])

    rows = await lab.rows("select tenant_id, status, sent_at from notification_deliveries order by 1, delivery_id")
    assert [(r["tenant_id"], r["status"], r["sent_at"]) for r in rows] == [
        (TENANT, "sent", NOW), (TENANT, "sent", NOW), ("other", "sent", NOW)]
    assert done.enqueued == [NotificationStats(day=NOW.date())] * 2  # one a tenant


async def test_a_report_with_another_recipient_changes_nothing(lab: HandlerLab) -> None:
    await ordered(lab)

    await lab.run(note_sent_mail, [told(sent(recipient_id=UUID(int=1)))])
    await lab.run(escalate_failure, told(failed(channel="email", recipient_id=UUID(int=1))))

    assert await status(lab) == [("sending", None)]


async def test_a_delivered_sms_proves_the_number(lab: HandlerLab) -> None:
    await ordered(lab, "sms")
    for at in (NOW, NOW - timedelta(days=1)):
        await lab.run(note_delivered_sms, [told(delivered(at))])

    [row] = await lab.rows("select status, segments, price from notification_deliveries")
    assert (row["status"], row["segments"], str(row["price"])) == ("delivered", 2, "0.0075")
    assert await lab.value("select last_verified_at from channel_status where channel = 'sms'") == NOW


async def test_a_failed_sms_is_taken_over_by_mail_once(lab: HandlerLab) -> None:
    await ordered(lab, "sms")

    first = await lab.run(escalate_failure, told(failed()))
    again = await lab.run(escalate_failure, told(failed()))

    [order] = first.orders_of(Deliver)
    assert again.orders_of(Deliver) == []
    rows = await lab.rows("select channel, status from notification_deliveries order by channel")
    assert [tuple(r.values()) for r in rows] == [("email", "waiting"), ("sms", "failed")]
    assert order.priority == 5
    assert await lab.rows("select * from notification_escalations") == []


async def test_a_failure_told_late_starts_nothing_when_another_channel_has_arrived(lab: HandlerLab) -> None:
    await ordered(lab, "sms")
    await lab.run(note_sent_mail, [told(sent(delivery_id=UUID(int=90)))])

    done = await lab.run(escalate_failure, told(failed()))

    assert done.orders_of(Deliver) == []
    assert await lab.rows("select * from notification_escalations") == []


async def test_when_all_is_spent_a_person_must_act_and_of_a_critical_one_somebody_is_woken(lab: HandlerLab) -> None:
    await ordered(lab, "sms", falls_back=False)

    done = await lab.run(escalate_failure, told(failed(priority="critical")))
    again = await lab.run(escalate_failure, told(failed(priority="critical")))

    assert len(await lab.rows("select * from notification_escalations")) == 1
    [page] = [job for job in done.enqueued if isinstance(job, PageOnCall)]
    assert (page.severity, str(USER) in page.model_dump_json()) == ("critical", False)
    assert not any(isinstance(job, PageOnCall) for job in again.enqueued)


async def test_stop_ends_sms_to_that_number(lab: HandlerLab) -> None:
    await ordered(lab, "sms")

    await lab.run(escalate_failure, told(failed("21610")))

    [row] = await lab.rows("select channel, reason from suppression_list")
    assert (row["channel"], row["reason"]) == ("sms", "stop")
    assert await lab.value("select valid from channel_status where channel = 'sms'") is False


async def test_a_hard_bounce_ends_mail_and_gives_the_registrar_a_task(lab: HandlerLab) -> None:
    await ordered(lab)

    for _ in range(2):
        await lab.run(note_bounce, told(bounced()))

    rows = await lab.rows("select channel, status from notification_deliveries order by channel")
    assert [tuple(r.values()) for r in rows] == [("email", "bounced"), ("sms", "waiting")]
    assert await lab.value("select reason from suppression_list") == "hard"
    assert [r["kind"] for r in await lab.rows("select kind from registrar_tasks")] == ["fix_address"]


async def test_who_calls_it_spam_is_not_asked_by_another_channel(lab: HandlerLab) -> None:
    await ordered(lab)

    done = await lab.run(note_bounce, told(bounced("spamreport")))

    assert done.orders_of(Deliver) == []
    assert await lab.rows("select * from registrar_tasks") == []
    assert await lab.value("select reason from suppression_list") == "spamreport"


@pytest.mark.parametrize(("days", "dead"), [([0, 1, 2], True), ([0, 1], False), ([0, 4, 8], False), ([0, 0, 0], True)])
async def test_three_soft_bounces_in_seven_days_are_a_dead_address(
    lab: HandlerLab, days: list[int], dead: bool
) -> None:
    await ordered(lab)
    lab.now = NOW + timedelta(days=10)

    for n, day in enumerate(days):
        event = bounced("soft", NOW + timedelta(days=day), delivery_id=UUID(int=900 + n))
        await lab.run(note_bounce, told(event))

    assert (await lab.value("select count(*) from channel_status where not valid") == 1) is dead


async def test_a_device_that_is_gone_is_revoked_and_the_last_one_hands_over_to_mail(lab: HandlerLab) -> None:
    await ordered(lab, "push")
    devices = [UUID(int=500), UUID(int=501)]
    for n, device in enumerate(devices):
        await lab.execute("insert into device_tokens values ($1, $2, $3, $4, $5)", TENANT, USER, device, f"t{n}", NOW)

    first = await lab.run(note_push, told(pushed("unregistered", devices[0])))
    second = await lab.run(note_push, told(pushed("unregistered", devices[1])))
    third = await lab.run(note_push, told(pushed("unregistered", devices[1])))

    assert [len(done.orders_of(Deliver)) for done in (first, second, third)] == [0, 1, 0]
    assert await lab.value("select count(*) from device_tokens where revoked_at is null") == 0


async def test_a_rejected_message_revokes_no_device(lab: HandlerLab) -> None:
    await ordered(lab, "push")
    await lab.execute("insert into device_tokens values ($1, $2, $3, 't', $4)", TENANT, USER, DEVICE, NOW)

    await lab.run(note_push, told(pushed("invalid_argument")))

    assert await lab.value("select revoked_at from device_tokens") is None


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
async def test_the_highest_version_of_preferences_holds(lab: HandlerLab, order: tuple[int, ...]) -> None:
    for version in order:
        await lab.run(update_preferences, [told(preferences(
            version, language=f"l{'abc'[version - 1]}", channels={"sms": version == 3},
            quiet_hours=QuietHours(start=time(22), end=time(7), tz="Europe/Madrid") if version == 3 else None))])

    [row] = await lab.rows("select * from notification_preferences")
    assert (row["version"], row["language"], json.loads(row["channels"])) == (3, "lc", {"sms": True})
    assert (row["quiet_start"], row["quiet_end"], row["quiet_zone"]) == (time(22), time(7), "Europe/Madrid")


async def test_many_preferences_of_a_chunk_are_kept_each_at_its_highest(lab: HandlerLab) -> None:
    other = UUID(int=77)

    await lab.run(update_preferences, [
        told(preferences(2)), told(preferences(1)), told(preferences(1, other)), told(preferences(5), tenant="west")])

    rows = await lab.rows("select tenant_id, user_id, version from notification_preferences order by 1, 2")
    assert [tuple(r.values()) for r in rows] == [(TENANT, USER, 2), (TENANT, other, 1), ("west", USER, 5)]
