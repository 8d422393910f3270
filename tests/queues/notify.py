"""A school with families, and providers that answer as they are told: what tests of notifications talk about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.rostering import UserCreated, UserRole
from skillcore_streams.queues.notification_delivery import DeliverNotification, order_deliveries
from skillcore_streams.runtime.messages import derive_id
from skillcore_streams.runtime.providers import Providers
from skillcore_streams.testing import TENANT, HandlerLab, given
from tests.handlers.village import DAYS, SCHOOL, STUDENT, enrolment, school

MOTHER, FATHER = UUID(int=31), UUID(int=32)
NOON = datetime(2022, 7, 6, 17, 0, tzinfo=UTC)
"""Noon in Chicago, a Wednesday."""

MIDNIGHT = datetime(2022, 7, 7, 5, 0, tzinfo=UTC)
NOTICE = UUID(int=700)
"""The event that an absence notice is from."""


class Desk:
    """The lab with providers, a clock for their breakers, and short words."""

    def __init__(self, lab: HandlerLab) -> None:
        self.lab = lab
        self.mail, self.texts = lab.providers.mail, lab.providers.texts
        self.pushes, self.pages = lab.providers.pushes, lab.providers.pages
        found = lab.services[Providers]
        assert isinstance(found, Providers)
        lines = (found.email, found.sms, found.push, found.pages)
        self.gates: dict[str, Any] = {line.name: line.gate for line in lines if line is not None}
        lab.now = NOON

    def pass_seconds(self, seconds: float) -> None:
        """For the breakers."""
        self.lab.providers.seconds[0] += seconds

    async def village(self) -> None:
        """A student of a school in Chicago, with a mother and a father who have e-mail and phone."""
        pupil = UserCreated(
            user_id=STUDENT, sourced_id="s", roles=[UserRole(role="student", org_id=SCHOOL, primary=True)],
            given_name="Penelope", family_name="Featherstone", email="penelope@school.example", status="active",
        )
        await self.lab.deliver([school(timezone="America/Chicago"), enrolment(), given(pupil)])
        for who, name in ((MOTHER, "mother"), (FATHER, "father")):
            await self.guardian(who, email=f"{name}@home.example", sms=f"+1312555{who.int:04d}")
        await self.lab.execute(
            "insert into absence_notices (tenant_id, student_id, day, event_key) values ($1, $2, $3, $4)",
            TENANT, STUDENT, DAYS[2], NOTICE,
        )

    async def guardian(self, who: UUID, **contacts: str) -> None:
        await self.lab.execute("insert into guardians values ($1, $2, 0, null, 'en')", TENANT, who)
        await self.lab.execute(
            "insert into guardian_students values ($1, $2, $3, 0, 'parent', 'joint')", TENANT, who, STUDENT)
        for channel, address in contacts.items():
            await self.lab.execute("insert into contact_points values ($1, 'guardian', $2, $3, $4)", TENANT, who,
                                   channel, address)

    async def only(self, who: UUID) -> None:
        """This guardian is the only one."""
        await self.lab.execute("delete from guardian_students where guardian_id <> $1", who)

    async def prefers(self, who: UUID, quiet: tuple[int, int] | None = None, zone: str | None = None,
                      language: str | None = None, categories: dict[str, bool] | None = None, digest: str = "daily",
                      **channels: bool) -> None:
        start, end = (None, None) if quiet is None else (time(quiet[0]), time(quiet[1]))
        await self.lab.execute("""
            insert into notification_preferences (tenant_id, user_id, version, channels, digest, language, categories,
                                                  quiet_start, quiet_end, quiet_zone)
            values ($1, $2, 1, $3, $10, $4, $5, $6, $7, $8)
            on conflict (tenant_id, user_id) do update set channels = $3, language = $4, categories = $5,
              quiet_start = $6, quiet_end = $7, quiet_zone = $8, digest = $10, version = $9""", TENANT, who,
            json.dumps(channels or {"email": True, "push": True, "sms": True}), language, json.dumps(categories or {}),
            start, end, zone, 1, digest)

    async def consents(self, who: UUID, decision: str = "granted", at: datetime = NOON - timedelta(days=9)) -> None:
        await self.lab.execute("""
            insert into consents values ($1, $2, $3, 'sms', $4, $5, null, $3)
            on conflict (tenant_id, student_id, guardian_id, scope) do update set decision = $4, effective_at = $5""",
            TENANT, STUDENT, who, decision, at)

    async def device(self, who: UUID, token: str) -> UUID:
        device = derive_id("device of", who, token)
        row = TENANT, who, device, token, NOON
        await self.lab.execute("insert into device_tokens values ($1, $2, $3, $4, $5)", *row)
        return device

    async def absent(self) -> DeliverNotification:
        """Order the notice of the absence; nothing is sent yet."""
        order = given(DeliverNotification(
            notification_id=UUID(int=800), recipient_id=STUDENT, recipient_role="guardians_of",
            template="attendance.absent", subject_id=NOTICE), at=self.lab.now)
        await self.lab.run(order_deliveries, order)
        return order

    async def rows(self) -> list[dict[str, Any]]:
        return await self.lab.rows("select * from notification_deliveries order by channel, recipient_id")

    async def statuses(self) -> list[tuple[str, str]]:
        return [(row["channel"], row["status"]) for row in await self.rows()]

    async def reasons(self) -> list[tuple[str, str, str | None]]:
        return [(row["channel"], row["status"], row["reason"]) for row in await self.rows()]

    async def one_round(self) -> None:
        """Every job that waits for its time is due: run each once."""
        await self.lab.execute("update later set run_at = clock_timestamp() - interval '1 s'")
        await self.lab._runner.run_due()

    async def waits(self) -> float:
        """Seconds until the one waiting job of a delivery is due."""
        found = await self.lab.value("""
            select extract(epoch from l.run_at - clock_timestamp()) from later l join job j on j.id = l.job_id
             where j.kind in ('send', 'given', 'page')""")
        assert found is not None, "no job of a delivery waits"
        return round(float(found))

    async def errors(self) -> list[str]:
        return [row["error"] for row in await self.lab.rows("select error from attempt order by n")]


@asynccontextmanager
async def desk_of(lab: HandlerLab) -> AsyncIterator[Desk]:
    desk = Desk(lab)
    await desk.village()
    yield desk
