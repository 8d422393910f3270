"""Notices: to whom, by which channel, when; and what follows from each of a provider's answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams import metrics
from skillcore_streams.events.notifications import EmailSent, NotificationFailed, PushNotificationSent
from skillcore_streams.events.rostering import UserRole
from skillcore_streams.notifications.notices import NOTICES
from skillcore_streams.queues import notification_delivery
from skillcore_streams.queues.notification_delivery import (
    PATIENCE,
    Deliver,
    DeliverGiven,
    DeliverNotification,
    NotificationStats,
    PageOnCall,
    ProviderAway,
    SendBulk,
    count_notifications,
    deliver,
    deliver_given,
    order_deliveries,
    page_on_call,
    send_bulk,
    translate,
)
from skillcore_streams.runtime import Job, PermanentError, Snooze, derive_id, failpoints
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.jobs import door
from skillcore_streams.runtime.jobs.orders import insert
from skillcore_streams.runtime.providers import Ambiguous, Rejected, Sent, Throttled, Unavailable
from skillcore_streams.testing import TENANT, given
from tests.handlers.test_demographics import user
from tests.handlers.village import STUDENT
from tests.queues.notify import FATHER, MIDNIGHT, MOTHER, NOON, Desk

TOLD = "select value from outbox where headers->>'ce_type' like $1 order by id"


# Who hears of it, and how ---------------------------------------------------------------------------------------------


async def test_a_notice_reaches_each_guardian_once_by_the_channel_that_is_open(desk: Desk) -> None:
    await desk.absent()
    await desk.absent()
    await desk.lab.settle()

    assert sorted(m.to for m in desk.mail.said) == ["father@home.example", "mother@home.example"]
    assert desk.texts.said == []  # nobody has consented
    assert await desk.statuses() == [("email", "sent")] * 2
    assert "Penelope was marked absent" in (desk.mail.said[0].text or "")
    assert "Penelope" not in desk.mail.said[0].subject


async def test_who_consented_gets_the_sms_and_it_tells_nothing(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.consents(MOTHER)
    await desk.prefers(MOTHER)
    await desk.absent()
    await desk.lab.settle()

    [text] = desk.texts.said
    assert text.to == "+13125550031"
    assert "Penelope" not in text.body
    assert "absent" not in text.body
    assert f"https://app.example/n/{UUID(int=800)}" in text.body


@pytest.mark.parametrize(("decision", "later"), [
    ("revoked", timedelta(0)),          # said no
    ("granted", timedelta(days=30)),    # a yes that begins next month
])
async def test_without_a_consent_that_holds_now_there_is_no_sms(desk: Desk, decision: str, later: timedelta) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER)
    await desk.consents(MOTHER, decision, NOON - timedelta(days=1) + later)
    await desk.absent()
    await desk.lab.settle()

    assert (len(desk.texts.said), len(desk.mail.said)) == (0, 1)


async def test_a_consent_revoked_while_the_notice_waits_keeps_the_sms_back(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER)
    await desk.consents(MOTHER)
    await desk.absent()
    await desk.consents(MOTHER, "revoked", NOON)
    await desk.lab.settle()

    assert desk.texts.said == []
    assert await desk.reasons() == [("email", "sent", None), ("sms", "dropped", "not_wanted")]


async def test_who_may_not_hear_of_the_student_hears_nothing(desk: Desk) -> None:
    await desk.lab.execute("insert into recipient_blocks values ($1, $2, $3, 1, true)", TENANT, FATHER, STUDENT)
    await desk.absent()
    await desk.lab.settle()

    assert [m.to for m in desk.mail.said] == ["mother@home.example"]


async def test_a_court_order_that_comes_while_the_notice_waits_still_holds(desk: Desk) -> None:
    await desk.absent()
    await desk.lab.execute("insert into recipient_blocks values ($1, $2, $3, 1, true)", TENANT, FATHER, STUDENT)
    await desk.lab.settle()

    assert [m.to for m in desk.mail.said] == ["mother@home.example"]
    assert ("email", "dropped", "blocked") in await desk.reasons()


async def test_a_notice_that_no_longer_holds_is_not_sent(desk: Desk) -> None:
    await desk.absent()
    await desk.lab.execute("update absence_notices set retracted_at = now()")
    await desk.lab.settle()

    assert desk.mail.said == []
    assert await desk.reasons() == [("email", "dropped", "retracted")] * 2


async def test_an_order_for_what_no_longer_holds_makes_no_delivery(desk: Desk) -> None:
    await desk.lab.execute("update absence_notices set retracted_at = now()")
    await desk.absent()

    assert await desk.rows() == []


async def test_an_opt_out_of_the_category_is_respected(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER, categories={"attendance": False})
    await desk.absent()

    assert await desk.rows() == []


async def test_a_suppressed_address_gets_nothing_whoever_it_belongs_to(desk: Desk) -> None:
    await desk.lab.execute(
        "insert into suppression_list values ($1, 'email', address_hash('MOTHER@home.example'), 'hard', now())",
        TENANT)
    await desk.absent()
    await desk.lab.settle()

    assert [m.to for m in desk.mail.said] == ["father@home.example"]


async def test_the_recipient_s_language_is_spoken(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER, language="es-MX", email=True)
    await desk.absent()
    await desk.lab.settle()

    assert "no asistió" in (desk.mail.said[0].text or "")
    assert '<html lang="es">' in (desk.mail.said[0].html or "")


async def test_staff_of_a_student_are_those_with_the_notice_s_roles(desk: Desk) -> None:
    counselor, teacher, elsewhere = UUID(int=41), UUID(int=42), UUID(int=43)
    await desk.lab.deliver([
        user("counselor", email="c@school.example", id=counselor),
        user("teacher", email="t@school.example", id=teacher),
        user(email="x@school.example", id=elsewhere,
             roles=[UserRole(role="counselor", org_id=UUID(int=999), primary=True)]),
    ])
    await desk.lab.execute(
        "insert into student_alerts values ($1, $2, $3, 'chronic', 'high', '2021-2022 chronic_10', now())",
        TENANT, UUID(int=801), STUDENT)
    await desk.lab.execute("delete from ready; delete from later")  # the welcomes
    await desk.lab.run(order_deliveries, DeliverNotification(
        notification_id=UUID(int=801), recipient_id=STUDENT, recipient_role="staff_of",
        template="attendance.threshold", subject_id=UUID(int=802)))

    assert [row["recipient_id"] for row in await desk.rows()] == [counselor]


async def test_an_order_with_an_unknown_template_is_refused_at_once(desk: Desk) -> None:
    with pytest.raises(PermanentError, match="no notice of this name"):
        await desk.lab.run(order_deliveries, DeliverNotification(
            notification_id=UUID(int=1), recipient_id=STUDENT, recipient_role="user", template="no.such",
            subject_id=UUID(int=2)))


# When -----------------------------------------------------------------------------------------------------------------


async def test_an_sms_waits_for_the_morning_of_the_recipient_s_school(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER)
    await desk.consents(MOTHER)
    desk.lab.now = MIDNIGHT
    await desk.absent()
    await desk.one_round()

    assert desk.texts.said == []
    assert await desk.waits() == 8 * 3600  # midnight to 08:00 in Chicago
    assert await desk.lab.value("select attempts from later") == 0  # no attempt is spent

    desk.lab.now += timedelta(hours=8)
    await desk.one_round()
    assert len(desk.texts.said) == 1


async def test_quiet_hours_of_one_s_own_hold_for_mail_in_one_s_own_zone(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER, quiet=(17, 20), zone="Europe/Madrid", email=True)
    await desk.absent()
    await desk.one_round()

    assert desk.mail.said == []
    assert await desk.waits() == 3600  # 19:00 in Madrid


async def test_what_is_worthless_after_the_quiet_hours_is_not_sent_at_all(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER, quiet=(0, 23), email=True)
    desk.lab.now = MIDNIGHT
    await desk.absent()
    await desk.lab.execute("update notification_deliveries set expires_at = $1", MIDNIGHT + timedelta(hours=5))
    await desk.one_round()

    assert await desk.reasons() == [("email", "expired", "quiet_hours")]


async def test_an_emergency_does_not_wait(desk: Desk) -> None:
    desk.lab.now = MIDNIGHT
    await desk.lab.execute("insert into contact_points values ($1, 'user', $2, 'sms', '+13125550199')", TENANT, STUDENT)
    await desk.lab.run(deliver_given, DeliverGiven(
        channel="sms", recipient=str(STUDENT), content="Lockdown", emergency=True))

    assert [t.body for t in desk.texts.said] == ["Lockdown"]  # neither consent nor the hour is asked


async def test_an_expired_delivery_is_not_sent(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.absent()
    desk.lab.now += NOTICES["attendance.absent"].lives
    await desk.lab.settle()

    assert await desk.statuses() == [("email", "expired")]
    assert desk.mail.said == []


async def test_the_jobs_carry_priority_and_expiry_of_their_occasion(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.absent()

    assert await desk.lab.value("select priority from job where kind = 'send'") == 5
    assert [row["expires_at"] for row in await desk.rows()] == [NOON + timedelta(days=1)]


# What a provider may answer -------------------------------------------------------------------------------------------


@pytest.fixture
async def one(desk: Desk) -> Desk:
    """One mail is ordered."""
    await desk.only(MOTHER)
    await desk.absent()
    return desk


async def test_sent_is_said_as_an_event_without_the_address(one: Desk) -> None:
    await one.one_round()

    [event] = await one.lab.rows("select headers, value from outbox")
    assert '"ce_type": "com.skillcore.notifications.EmailSent.v1"' in event["headers"]
    assert b"mother@home.example" not in event["value"]
    [row] = await one.rows()
    assert (row["status"], row["sends"], row["provider"], row["provider_message_id"]) == ("sent", 1, "sendgrid", "id-1")
    assert row["address_hash"] == await one.lab.value("select address_hash('mother@home.example')")


async def test_throttled_waits_as_long_as_the_provider_says_and_spends_nothing(one: Desk) -> None:
    one.mail.answers = [Throttled(timedelta(seconds=77))] * 9
    for _ in range(9):
        await one.one_round()
        assert await one.waits() == 77
    await one.one_round()

    assert (await one.statuses(), len(one.mail.said)) == ([("email", "sent")], 10)
    assert [row["sends"] for row in await one.rows()] == [1]
    assert await one.errors() == []


async def test_unavailable_is_tried_five_times_then_failed_and_told(one: Desk) -> None:
    one.mail.answers = [Unavailable("503")] * 5
    one.gates["sendgrid"]._least = 99
    seen = []
    for _ in range(4):
        await one.one_round()
        seen.append(await one.waits())
    await one.one_round()

    assert seen == [1, 2, 4, 8]
    assert await one.reasons() == [("email", "failed", "unavailable:503")]
    assert await one.errors() == ["ProviderAway: sendgrid: 503"] * 4
    assert await failures(one) == [("unavailable:503", "transient", 5)]


async def failures(desk: Desk) -> list[tuple[str, str, int]]:
    rows = await desk.lab.rows(TOLD, "%NotificationFailed%")
    told = [NotificationFailed.model_validate_json(row["value"]) for row in rows]
    return [(e.error_code, e.error_class, e.attempts) for e in told]


async def test_a_rejected_mail_goes_by_the_next_channel_at_once(desk: Desk) -> None:
    await desk.only(MOTHER)
    await desk.prefers(MOTHER)
    await desk.consents(MOTHER)
    desk.texts.answers = [Rejected("21211")]
    await desk.absent()
    await desk.lab.settle()

    assert await desk.reasons() == [("email", "sent", None), ("sms", "failed", "21211")]
    assert len(desk.mail.said) == 1
    assert len({row["delivery_id"] for row in await desk.rows()}) == 2


async def test_when_every_channel_has_failed_a_person_must_act(one: Desk) -> None:
    one.mail.answers = [Rejected("400")]
    await one.lab.settle()

    [row] = await one.lab.rows("select reason, recipient_id from notification_escalations")
    assert row == {"reason": "exhausted: 400", "recipient_id": MOTHER}
    assert one.pages.said == []  # nothing of it was critical


async def test_a_doubt_waits_two_minutes_then_says_it_once_more_and_counts_it(one: Desk) -> None:
    counted = metrics.possible_duplicate_total.labels("sendgrid")._value.get()
    one.mail.answers = [Ambiguous("timeout")]
    await one.one_round()
    assert (await one.statuses(), await one.waits()) == ([("email", "ambiguous")], PATIENCE.total_seconds())

    one.lab.now += PATIENCE - timedelta(seconds=1)
    await one.one_round()
    assert len(one.mail.said) == 1  # too early

    one.lab.now += timedelta(seconds=1)
    await one.one_round()
    assert (await one.statuses(), len(one.mail.said)) == ([("email", "sent")], 2)
    assert metrics.possible_duplicate_total.labels("sendgrid")._value.get() == counted + 1
    assert await one.errors() == []


async def test_a_status_report_within_two_minutes_settles_the_doubt(one: Desk) -> None:
    one.mail.answers = [Ambiguous("timeout")]
    await one.one_round()
    [row] = await one.rows()
    await one.lab.deliver([given(EmailSent(
        notification_id=row["notification_id"], delivery_id=row["delivery_id"], recipient_id=MOTHER, channel="email",
        provider="sendgrid", provider_message_id="from the webhook", to_hash="x", sent_at=one.lab.now))])
    one.lab.now += PATIENCE
    await one.lab.settle()

    assert len(one.mail.said) == 1
    assert [(r["status"], r["provider_message_id"]) for r in await one.rows()] == [("sent", "from the webhook")]


async def test_a_second_doubt_stops_for_a_person(one: Desk) -> None:
    one.mail.answers = [Ambiguous("timeout"), Ambiguous("timeout")]
    for _ in range(4):
        await one.one_round()
        one.lab.now += PATIENCE

    assert (await one.statuses(), len(one.mail.said)) == ([("email", "stopped")], 2)
    assert await one.lab.value("select reason from notification_escalations") == "ambiguous"


async def test_a_notice_that_must_not_come_twice_stops_at_the_first_doubt(
    one: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NOTICES, "attendance.absent", replace(NOTICES["attendance.absent"], on_doubt="stop"))
    one.mail.answers = [Ambiguous("timeout")]
    for _ in range(3):
        await one.one_round()
        one.lab.now += PATIENCE

    assert (await one.statuses(), len(one.mail.said)) == ([("email", "stopped")], 1)


# Crashes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "calls"), [
    ("delivery.sending", 0),   # committed as sending, the provider was not called
    ("delivery.answered", 1),  # the provider said yes, nobody noted it
])
async def test_a_run_that_ends_between_call_and_note_leaves_a_doubt(one: Desk, point: str, calls: int) -> None:
    [job_id] = [r["id"] for r in await one.lab.rows("select delivery_id as id from notification_deliveries")]
    failpoints.arm(f"{point}=fail")
    try:
        with pytest.raises(Infrastructure):
            await one.lab.run(deliver, Deliver(delivery_id=job_id))
    finally:
        failpoints.arm("")
    assert (await one.statuses(), len(one.mail.said)) == ([("email", "sending")], calls)

    await one.one_round()  # the job runs again
    assert (await one.statuses(), len(one.mail.said)) == ([("email", "ambiguous")], calls)
    one.lab.now += PATIENCE
    await one.one_round()

    assert (await one.statuses(), len(one.mail.said)) == ([("email", "sent")], calls + 1)


async def crash_after_the_note(one: Desk) -> None:
    [delivery] = [row["delivery_id"] for row in await one.rows()]
    failpoints.arm("delivery.noted=fail")
    try:
        with pytest.raises(Infrastructure):
            await one.lab.run(deliver, Deliver(delivery_id=delivery))
    finally:
        failpoints.arm("")


async def test_a_run_that_ends_after_the_note_says_the_same_and_calls_nobody(one: Desk) -> None:
    await crash_after_the_note(one)
    one.lab.now += timedelta(minutes=1)
    await one.one_round()

    assert len(one.mail.said) == 1
    [event] = await one.lab.rows("select value from outbox")
    assert EmailSent.model_validate_json(event["value"]).sent_at == NOON  # when it was sent, not when it was told
    assert await one.statuses() == [("email", "sent")]


async def test_a_failure_noted_before_a_crash_is_still_told_after_it(one: Desk) -> None:
    one.mail.answers = [Rejected("400")]
    await crash_after_the_note(one)
    await one.one_round()

    assert (len(one.mail.said), await failures(one)) == (1, [("400", "permanent", 1)])


# The breaker ----------------------------------------------------------------------------------------------------------


def open_circuit(desk: Desk, name: str) -> None:
    for _ in range(5):
        permit = desk.gates[name].permit()
        assert permit is not None
        permit.settle(Unavailable("down"))
    assert desk.gates[name].state == "open"


async def test_an_open_circuit_spends_no_attempt(one: Desk) -> None:
    open_circuit(one, "sendgrid")
    for _ in range(9):
        await one.one_round()
        assert await one.waits() == 30
    one.pass_seconds(30)
    await one.one_round()

    assert (await one.statuses(), len(one.mail.said)) == ([("email", "sent")], 1)
    assert one.gates["sendgrid"].state == "closed"  # the probe
    assert await one.errors() == []


async def test_while_mail_is_down_who_consented_gets_an_sms(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    mail_first = replace(NOTICES["attendance.absent"], channels=("email", "sms"))
    monkeypatch.setitem(NOTICES, "attendance.absent", mail_first)
    await desk.prefers(MOTHER)
    await desk.consents(MOTHER)
    open_circuit(desk, "sendgrid")
    await desk.absent()
    await desk.one_round()
    await desk.lab.deliver_published()
    await desk.one_round()

    assert [t.to for t in desk.texts.said] == ["+13125550031"]
    assert await desk.reasons() == [
        ("email", "failed", "circuit_open"), ("email", "waiting", None), ("sms", "sent", None)]  # father has not: waits
    assert await failures(desk) == [("circuit_open", "circuit_open", 1)]


async def test_a_run_that_fails_while_it_holds_the_probe_gives_it_back(one: Desk) -> None:
    open_circuit(one, "sendgrid")
    one.pass_seconds(30)
    one.mail.answers = [RuntimeError("a bug")]
    await one.one_round()
    assert one.gates["sendgrid"].state == "half_open"

    permit = one.gates["sendgrid"].permit()
    assert permit is not None


# Push -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def phones(desk: Desk) -> Desk:
    """The mother has two devices and wants push."""
    await desk.only(MOTHER)
    await desk.prefers(MOTHER, push=True, email=True)
    for token in ("one", "two"):
        await desk.device(MOTHER, token)
    await desk.absent()
    return desk


async def pushes(desk: Desk) -> list[str]:
    rows = await desk.lab.rows(TOLD, "%PushNotificationSent%")
    return [PushNotificationSent.model_validate_json(row["value"]).result for row in rows]


async def test_a_push_goes_to_every_device_under_one_collapse_key(phones: Desk) -> None:
    await phones.one_round()

    assert sorted(p.token for p in phones.pushes.said) == ["one", "two"]
    assert {p.collapse_key for p in phones.pushes.said} == {str(UUID(int=800))}
    assert all("Penelope" not in p.title + p.body and "absent" not in p.title + p.body for p in phones.pushes.said)
    assert await pushes(phones) == ["ok", "ok"]
    assert await phones.statuses() == [("push", "sent")]


async def test_a_device_that_is_gone_is_forgotten_and_the_other_one_suffices(phones: Desk) -> None:
    phones.pushes.answers = [Rejected("UNREGISTERED")]
    await phones.lab.settle()

    assert await phones.statuses() == [("push", "sent")]
    assert await phones.lab.value("select count(*) from device_tokens where revoked_at is not null") == 1


async def test_with_the_last_device_gone_mail_takes_over_once(phones: Desk) -> None:
    phones.pushes.answers = [Rejected("UNREGISTERED")] * 2
    await phones.lab.settle()

    assert await phones.reasons() == [("email", "sent", None), ("push", "failed", "UNREGISTERED")]
    assert len(phones.mail.said) == 1
    assert await phones.lab.value("select valid from channel_status where channel = 'push'") is False


async def test_a_device_without_an_answer_is_asked_again_and_the_others_are_not(phones: Desk) -> None:
    phones.pushes.answers = [Sent("a"), Ambiguous("timeout")]
    await phones.one_round()
    await phones.one_round()

    assert [p.token for p in phones.pushes.said][2:] == [phones.pushes.said[1].token]
    assert await phones.statuses() == [("push", "sent")]


# Bad inputs 75, 76, 79 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [
    "a@x.example\r\nBcc: all@x.example", "a@x.example,b@x.example", "A <a@x.example>", "a@x", "a b@x.example",
    "a@x..example", "x" * 250 + "@x.example",
])
async def test_an_address_that_breaks_out_is_never_written_to(one: Desk, address: str) -> None:
    await one.lab.execute("update contact_points set address = $1 where channel = 'email'", address)
    await one.lab.settle()

    assert one.mail.said == []
    assert await one.reasons() == [("email", "failed", "invalid_address")]
    assert address[:6] not in str(await one.lab.rows("select line from job_log"))


@pytest.mark.parametrize("number", [
    "+1312555,,99", "+19005550100", "3125550031", "+1312555003 1", "+4487100000", "+979123456",
])
async def test_a_number_with_pauses_or_at_premium_rate_is_never_called(desk: Desk, number: str) -> None:
    await desk.lab.run(deliver_given, DeliverGiven(channel="sms", recipient=number, content="x"))

    assert desk.texts.said == []
    assert await desk.reasons() == [("sms", "failed", "invalid_address")]


@pytest.mark.parametrize("name", [
    "'); DROP TABLE notification_deliveries; --", "${jndi:ldap://x}", "{{7*7}}", "{% raw %}", '=HYPERLINK("x")',
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\r\nBcc: b@c.example", "Zoe" + "\u0301" * 100_000,
    "\u202egnp.exe", "👩‍👩‍👧 Ana", "Z\u200bo\u200be",
])
async def test_a_name_is_text_wherever_it_stands(one: Desk, name: str) -> None:
    await one.lab.execute("update user_profiles set given_name = $1 where user_id = $2", name, STUDENT)
    await one.lab.settle()

    [mail] = one.mail.said
    html, text = mail.html or "", mail.text or ""
    assert "<script" not in html
    assert "<img" not in html
    assert "{{7*7}}" not in name or ("{{7*7}}" in html and "49" not in html.partition("<body")[2])
    assert not any(c in html + text + mail.subject for c in ("\u202e", "\u200b", "\r"))
    assert "\n" not in mail.subject
    assert len(html) < 10_000


# What the old system orders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "job"), [
    ("emergency-alert", {"channel": "sms", "recipient": "+13125550001", "content": "x"}, DeliverGiven),
    ("grade-posted", {"channel": "email", "recipient": "a@x.example", "content": {"text": "t"}}, DeliverGiven),
    ("weekly-digest", {"channel": "push", "recipient": str(STUDENT), "content": "x"}, DeliverGiven),
    ("anything-else", {"channel": "email", "recipient": "a@x.example", "content": "x"}, DeliverGiven),
    ("daily-grade-digest", {"studentId": str(STUDENT), "grades": [], "date": "2022-03-02T00:00:00Z"}, None),
    ("inactive-student", {"userId": str(STUDENT), "lastLogin": "2022-02-01", "missedAssignments": ["a"]}, None),
    ("send-email", {"userId": str(STUDENT), "subject": "s"}, None),
    ("send-bulk-email", {"userIds": [str(STUDENT)], "batchSize": 10}, SendBulk),
])
def test_the_seed_s_names_are_translated(name: str, data: dict[str, Any], job: type[Job] | None) -> None:
    made = translate(name, data)

    assert made is not None
    assert job is None or type(made) is job


def test_a_name_that_means_nothing_is_none_of_ours() -> None:
    assert translate("resize-image", {"width": 3}) is None


async def test_given_content_is_sent_as_given_and_the_result_is_the_seed_s(desk: Desk) -> None:
    job = given(DeliverGiven(channel="email", recipient="who@ever.example",
                             content={"subject": "Hi\r\nBcc: x@y.example", "html": "<p>as <b>is</b></p>"}), at=NOON)
    for _ in range(2):
        await desk.lab.run(deliver_given, job)

    [mail] = desk.mail.said
    assert (mail.to, mail.subject, mail.html) == ("who@ever.example", "Hi Bcc: x@y.example", "<p>as <b>is</b></p>")
    [row] = await desk.rows()
    assert row["delivery_id"] == derive_id("notification-delivery", job.meta.key, "who@ever.example")
    assert (row["status"], row["content"]) == ("sent", None)


async def test_the_seed_s_job_has_the_seed_s_result(desk: Desk) -> None:
    order = door.order(notification_delivery.queue, "grade-posted",
                       {"channel": "email", "recipient": "who@ever.example", "content": "Posted"},
                       door.JobOptions(priority=5), door.job_meta(TENANT, notification_delivery.queue, "7", NOON))
    async with desk.lab.transaction() as db:
        await insert(db, [order])
    await desk.lab.run_jobs()

    result = await desk.lab.value("select result from job_result")
    assert result == '{"sent": true, "timestamp": "2022-07-06T17:00:00+00:00"}'


async def test_given_content_for_a_suppressed_address_is_dropped(desk: Desk) -> None:
    await desk.lab.execute(
        "insert into suppression_list values ($1, 'email', address_hash('who@ever.example'), 'spamreport', now())",
        TENANT)
    await desk.lab.run(deliver_given, DeliverGiven(channel="email", recipient="who@ever.example", content="x"))

    assert await desk.reasons() == [("email", "dropped", "suppressed")]


@pytest.mark.parametrize(("channel", "content", "reason"), [
    ("sms", "x" * 1601, "too_long"), ("sms", "", "no_content"), ("email", {"attachment": "x"}, "no_content"),
    ("email", {"text": ["x"]}, "no_content"),
])
async def test_given_content_that_cannot_be_said_fails_with_a_code(
    desk: Desk, channel: Any, content: Any, reason: str
) -> None:
    recipient = "+13125550001" if channel == "sms" else "a@x.example"
    await desk.lab.run(deliver_given, DeliverGiven(channel=channel, recipient=recipient, content=content))

    assert await desk.reasons() == [(channel, "failed", reason)]
    assert (desk.texts.said, desk.mail.said) == ([], [])


async def test_a_bulk_mail_is_a_job_a_page_and_a_delivery_a_user(desk: Desk) -> None:
    users = [UUID(int=5000 + n) for n in range(25)]
    await desk.lab.deliver([user("teacher", email=f"t{n}@x.example", id=u) for n, u in enumerate(users)])
    await desk.lab.execute("delete from ready; delete from later")  # the welcomes
    done = await desk.lab.run(send_bulk, SendBulk(user_ids=users + users[:3], batch_size=10,
                                                  variables={"subject": "Snow day", "message": "Stay home"}))
    await desk.lab.settle()

    assert len(done.orders) == 3
    assert sorted(m.to for m in desk.mail.said) == sorted(f"t{n}@x.example" for n in range(25))
    assert {m.subject for m in desk.mail.said} == {"A message from SkillCore"}
    assert "Stay home" in (desk.mail.said[0].html or "")


async def test_a_grade_digest_reaches_student_and_guardians_who_take_digests(desk: Desk) -> None:
    await desk.prefers(FATHER, email=True, digest="none")
    await desk.prefers(STUDENT, email=True)
    job = translate("daily-grade-digest", {"studentId": str(STUDENT), "date": "2022-03-02",
                                           "grades": [{"title": "Essay <1>", "score": "93"}]})
    assert job is not None
    await desk.lab.run(notification_delivery.send_grade_digest, job)
    await desk.lab.settle()

    assert sorted(m.to for m in desk.mail.said) == ["mother@home.example", "penelope@school.example"]
    assert "Essay &lt;1&gt;: 93" in (desk.mail.said[0].html or "")
    assert "93" not in desk.mail.said[0].subject


async def test_an_inactive_student_and_the_family_are_told(desk: Desk) -> None:
    job = translate("inactive-student", {
        "userId": str(STUDENT), "lastLogin": "2022-02-01", "missedAssignments": ["Essay"]})
    assert job is not None
    await desk.prefers(STUDENT, email=True)
    await desk.lab.run(notification_delivery.tell_inactive, job)
    await desk.lab.settle()

    assert len(desk.mail.said) == 3
    assert "Essay" in (desk.mail.said[0].text or "")


# Paging and counting --------------------------------------------------------------------------------------------------

PAGE = PageOnCall(dedup_key="k", summary="s", severity="critical", source="t")


async def test_a_page_is_one_incident(desk: Desk) -> None:
    await desk.lab.run(page_on_call, PAGE)

    assert [(p.dedup_key, p.action) for p in desk.pages.said] == [("k", "trigger")]


@pytest.mark.parametrize(("answer", "error"), [
    (Throttled(timedelta(seconds=3)), Snooze), (Rejected("400"), PermanentError),
    (Unavailable("503"), ProviderAway), (Ambiguous("timeout"), ProviderAway),
])
async def test_a_page_that_was_not_taken_is_tried_again_or_dead(
    desk: Desk, answer: Any, error: type[Exception]
) -> None:
    desk.pages.answers = [answer]

    with pytest.raises(error):
        await desk.lab.run(page_on_call, PAGE)


async def test_the_day_s_deliveries_are_counted(desk: Desk) -> None:
    await desk.absent()
    [first, _] = await desk.rows()
    await desk.lab.run(deliver, Deliver(delivery_id=first["delivery_id"]))
    for _ in range(2):
        await desk.lab.run(count_notifications, NotificationStats(day=NOON.date()))

    [row] = await desk.lab.rows("select * from notification_stats_daily")
    assert {k: row[k] for k in ("ordered", "sent", "delivered", "failed", "dropped")} == {
        "ordered": 2, "sent": 1, "delivered": 0, "failed": 0, "dropped": 0}
