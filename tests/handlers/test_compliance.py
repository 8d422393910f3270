"""Consents: the latest to take effect stands, whatever order one hears of them in, and every word is kept."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.compliance import ConsentRecorded
from skillcore_streams.handlers.compliance import record_consent
from skillcore_streams.testing import NOW, TENANT, HandlerLab, given
from tests.handlers.plans import GUARDIAN
from tests.handlers.village import STUDENT

STANDS = "select scope, decision, guardian_id, said_by from consents order by scope, guardian_id"


def consent(decision: str, *, days: int = 0, id: int = 1, tenant: str = TENANT, **more: Any) -> ConsentRecorded:
    fields: dict[str, Any] = {
        "consent_id": UUID(int=7000 + id), "student_id": STUDENT, "guardian_id": GUARDIAN, "scope": "sms",
        "decision": decision, "effective_at": NOW + timedelta(days=days - 10), "evidence_ref": "form 12",
    }
    return given(ConsentRecorded(**fields | more), tenant=tenant)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_latest_to_take_effect_stands_in_any_order(lab: HandlerLab, order: tuple[int, ...]) -> None:
    words = [consent("granted", id=1), consent("revoked", days=5, id=2), consent("granted", days=3, id=3)]

    await lab.run(record_consent, [words[n] for n in order[:2]])
    await lab.run(record_consent, [words[n] for n in (order[2], order[0])])

    assert await lab.rows(STANDS) == [
        {"scope": "sms", "decision": "revoked", "guardian_id": GUARDIAN, "said_by": UUID(int=7002)}
    ]
    assert await lab.value("select count(*) from consents_history") == 3


async def test_of_two_at_the_same_moment_a_revocation_stands(lab: HandlerLab) -> None:
    await lab.run(record_consent, [consent("revoked", id=1), consent("granted", id=2)])
    await lab.run(record_consent, consent("granted", id=3))

    assert await lab.value("select decision from consents") == "revoked"


async def test_scopes_guardians_and_students_are_apart(lab: HandlerLab) -> None:
    await lab.run(record_consent, [
        consent("granted", id=1), consent("revoked", id=2, guardian_id=None), consent("granted", id=3, scope="media"),
    ])

    assert [(r["scope"], r["decision"], r["guardian_id"].int) for r in await lab.rows(STANDS)] == [
        ("media", "granted", GUARDIAN.int), ("sms", "revoked", 0), ("sms", "granted", GUARDIAN.int),
    ]
