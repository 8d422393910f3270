"""The proof of messages: what providers took is what was to be said, each once, by whichever channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from skillcore_streams.demo.compare import MADE_UP, Case, Line, compare
from skillcore_streams.demo.recount import Expected, derived_id, student_id

CHANNELS = {"sendgrid": "email", "twilio": "sms", "fcm": "push"}

SENT = """
    select channel, delivery_id::text from notification_deliveries
     where provider is not null and status in ('sent', 'delivered')"""

UNKNOWN = "select delivery_id::text from notification_deliveries where status = 'ambiguous'"
"""Twilio went down between a message and its answer: nobody knows. For two minutes a report may still tell."""

TOLD = """
    select notification_id, recipient_id from notification_deliveries
     where template = 'attendance.absent' and status in ('sent', 'delivered', 'ambiguous')"""


async def effects(case: Case, expected: Expected, taken: Iterable[dict[str, Any]]) -> list[Line]:
    """What the providers' stand-ins hold beside the deliveries, and the absence notices beside the absences.

    A family is told when it consented and wishes it; who did is made up, so the events say.
    """
    section = "messages"
    unknown = {row[0] for row in await case.rows(UNKNOWN)}
    found = [(CHANNELS[m["provider"]], m["delivery_id"])
             for m in taken if m["provider"] in CHANNELS and m["delivery_id"] not in unknown]
    consented: dict[UUID, list[UUID]] = {}
    for said in case.log.said("ConsentRecorded", MADE_UP):
        consented.setdefault(UUID(said["student_id"]), []).append(UUID(said["guardian_id"]))
    notices = [
        (derived_id(case.tenant, "absence", student, day), guardian)
        for student, day in ((student_id(case.tenant, s), day) for s, day in expected.student_absent)
        for guardian in consented.get(student, ())
    ]
    return [
        compare(section, "each message taken by its provider once", "the stand-ins' inbox",
                await case.rows(SENT), found),
        compare(section, "families told of an absence, once by one channel", "notification_deliveries", notices,
                await case.rows(TOLD)),
    ]
