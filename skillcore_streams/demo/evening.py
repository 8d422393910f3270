"""The evening: families are told of the year's absences, and Twilio goes down in the middle of it.

The sample has no mail addresses, wishes and consents of guardians. For every eighth of them they are made up, and
labelled so: an address, text messages preferred, consent to them (47 U.S.C. 227). Absence notices wait ten minutes for
corrections; here an operator lets them go at once, as `skillcore jobs promote` does. The second half of them finds
Twilio's port closed: its circuit opens, and what was to be a text message becomes a mail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import time as clock
from typing import Any

import aiohttp
import asyncpg

from skillcore_streams.demo.parts import MADE_UP, table
from skillcore_streams.edfi.synthetic import source
from skillcore_streams.events.compliance import ConsentRecorded
from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.notifications import NotificationPreferencesUpdated, QuietHours
from skillcore_streams.runtime.acts import By
from skillcore_streams.runtime.jobs import operator
from skillcore_streams.runtime.messages import Event, Meta, derive_id

TEXTED = 8
"""Every so many guardians with a telephone."""

NOTICES = """
    select l.job_id from later l join job j on j.id = l.job_id
     where l.queue = 'notification-delivery' and j.kind = 'deliver' order by l.run_at, l.job_id"""

WHY = By("the demonstration", "nobody wants to wait ten minutes for corrections here")

SMS_SENT = """
    select count(*) from notification_deliveries
     where template = 'attendance.absent' and channel = 'sms' and status in ('sent', 'delivered')"""

SOME = 10
"""Text messages that go out before Twilio goes down."""

# A person who was to have a text message, and has a mail.
FELL_BACK = """
    select count(*) from notification_deliveries m
      join notification_deliveries s using (tenant_id, notification_id, recipient_id)
     where m.channel = 'email' and m.status in ('sent', 'delivered') and s.channel = 'sms' and s.status = 'failed'"""

BY_TEMPLATE = """
    select coalesce(template, 'given') as template, channel,
           count(*) filter (where status in ('sent', 'delivered')) as sent,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status in ('dropped', 'expired')) as dropped,
           count(*) filter (where status = 'ambiguous') as unknown
      from notification_deliveries group by 1, 2 order by 1, 2"""


def wishes(guardians: Iterable[GuardianContactUpdated], seed: int) -> Iterator[Event]:
    """What is made up of every eighth guardian with a telephone."""
    for known in guardians:
        guardian, meta = known.guardian_id, known.meta
        if known.phone is None or guardian.int % TEXTED:
            continue
        yield _said(meta, seed, known.model_copy(update={
            "version": known.version + 1, "email": f"guardian-{str(guardian)[:8]}@grand-bend.example",
        }))
        yield _said(meta, seed, NotificationPreferencesUpdated(
            user_id=guardian, version=1, channels={"sms": True, "email": True}, categories={}, digest="none",
            language="en", quiet_hours=QuietHours(start=clock(0), end=clock(0), tz="America/Chicago"),
        ))
        for student in known.student_ids:
            yield _said(meta, seed, ConsentRecorded(
                consent_id=derive_id("consent", guardian, student), student_id=student, guardian_id=guardian,
                scope="sms", decision="granted", effective_at=meta.time, evidence_ref="made up",
            ))


def _said(meta: Meta, seed: int, event: Event) -> Event:
    by = source(seed)
    made = derive_id(meta.id, type(event).__name__, getattr(event, "consent_id", ""))
    key = derive_id(meta.tenant, by, made)
    event.with_meta(Meta(
        tenant=meta.tenant, id=str(made), source=by, time=meta.time, key=key, correlation_id=str(key)
    ))
    return event


class Evening:
    """Lets the notices go, and turns Twilio off for the second half of them."""

    def __init__(self, dsn: str, office: str, happened: Callable[[str], None]) -> None:
        self._dsn = dsn
        self._office = office
        self._happened = happened
        self.texts = self.fell_back = 0

    async def passes(self) -> None:
        """From the first notice to the first mail that was to be a text, at most 20 s; the rest goes on by itself."""
        async with asyncpg.create_pool(self._dsn, min_size=1, max_size=1) as pool, aiohttp.ClientSession() as session:
            notices = [row["job_id"] for row in await pool.fetch(NOTICES)]
            half = len(notices) // 2
            await self._let_go(pool, notices[:half])
            self._happened(f"{half:,} absence notices are let go (skillcore jobs promote)")
            await _until(lambda: pool.fetchval(f"select ({SMS_SENT}) >= {SOME}"))
            await self._turn(session, "down")
            self._happened("Twilio is down: its port is closed")
            await self._let_go(pool, notices[half:])
            await _until(lambda: pool.fetchval(FELL_BACK))
            self._happened("the first text message has become a mail")

    async def ends(self) -> None:
        """Everything is said: count, and open Twilio's port again."""
        db = await asyncpg.connect(self._dsn)
        try:
            self.texts, self.fell_back = await db.fetchval(SMS_SENT), await db.fetchval(FELL_BACK)
        finally:
            await db.close()
        async with aiohttp.ClientSession() as session:
            await self._turn(session, "ok")
        self._happened(f"{self.texts:,} text messages were sent, {self.fell_back:,} became mails")

    async def _let_go(self, pool: Any, notices: list[Any]) -> None:
        async with pool.acquire() as db, db.transaction():
            for notice in notices:
                await operator.promote(db, notice, WHY)

    async def _turn(self, session: aiohttp.ClientSession, mode: str) -> None:
        async with session.post(f"http://{self._office}/switch/twilio", json={"mode": mode}) as answer:
            answer.raise_for_status()


async def _until(true: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> None:
    """Or not: what has not come by then is counted at the end like the rest."""
    deadline = time.monotonic() + seconds
    while not await true() and time.monotonic() < deadline:  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(0.2)


async def inbox(office: str) -> list[dict[str, Any]]:
    """What the stand-ins have taken."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{office}/inbox.json") as answer:
        found: list[dict[str, Any]] = (await answer.json())["received"]
        return found


HEADS = ("Template", "Channel", "Sent", "Failed", "Not wanted", "Unknown")


def section(rows: Iterable[Any], texts: int, fell_back: int) -> str:
    """The report's part about messages."""
    return (
        f"<p>Addresses, wishes and consents of every eighth guardian are {MADE_UP}. Absence notices were let go when "
        f"the year was over; in their middle Twilio’s port was closed. {texts:,} text messages had been sent by then, "
        f"and {fell_back:,} became mails. Each message reached its provider once: see the proof. Of a message whose "
        "answer was cut off nobody knows: a status report has two minutes to come, before it is sent again.</p>"
        + table("Messages by template and channel", HEADS, (
            [r["template"], r["channel"], *(f"{r[what]:,}" for what in ("sent", "failed", "dropped", "unknown"))]
            for r in rows
        ), numbers=4)
    )
