"""Demographics: who is who, how to reach them, and what they hear by default."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.fields import Role
from skillcore_streams.events.rostering import UserCreated, UserRole
from skillcore_streams.handlers.demographics import DEFAULT_CHANNELS, create_profiles
from skillcore_streams.queues.notification_delivery import LOW, DeliverNotification
from skillcore_streams.runtime import derive_id
from skillcore_streams.testing import TENANT, HandlerLab, given

USER = UUID(int=7)
STAFF: list[Role] = [
    "administrator", "aide", "counselor", "districtAdministrator", "principal", "proctor", "siteAdministrator",
    "systemAdministrator", "teacher",
]


def user(*roles: Role, id: UUID = USER, tenant: str = TENANT, **more: Any) -> UserCreated:
    """A user with these roles, the first of them primary."""
    fields: dict[str, Any] = {
        "user_id": id, "sourced_id": f"u{id.int}", "given_name": "Ada", "family_name": "Lake", "status": "active",
        "roles": [UserRole(role=role, org_id=UUID(int=100), primary=n == 0) for n, role in enumerate(roles)],
    }
    return given(UserCreated(**fields | more), tenant=tenant)


async def test_a_user_has_a_profile_contact_points_and_preferences_of_version_0(lab: HandlerLab) -> None:
    await lab.run(create_profiles, [user("teacher", email="ada@lake.edu", phone="+15125550100", grades=["07", "K,1"])])

    [profile] = await lab.rows("select * from user_profiles")
    assert (profile["given_name"], profile["status"], profile["version"]) == ("Ada", "active", 0)
    assert profile["grades"] == ["07", "K,1"]
    assert json.loads(profile["roles"]) == [{"role": "teacher", "org_id": str(UUID(int=100)), "primary": True}]
    contacts = await lab.rows("select owner, channel, address, version, verified from contact_points order by channel")
    assert [tuple(c.values()) for c in contacts] == [
        ("user", "email", "ada@lake.edu", 0, False), ("user", "sms", "+15125550100", 0, False),
    ]
    assert await lab.value("select version from notification_preferences") == 0


async def test_unknown_grades_are_not_the_same_as_none_at_all(lab: HandlerLab) -> None:
    await lab.run(create_profiles, [user("student"), user("student", id=UUID(int=8), grades=[])])

    assert [r["grades"] for r in await lab.rows("select grades from user_profiles order by user_id")] == [None, []]


@pytest.mark.parametrize("role", [*STAFF, "guardian", "parent", "relative"])
async def test_staff_and_guardians_are_welcomed_once(lab: HandlerLab, role: Role) -> None:
    first, again = [await lab.run(create_profiles, [user(role)]) for _ in range(2)]

    [order] = first.orders
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.template, order.job.recipient_id, order.priority) == ("user.welcome", USER, LOW)
    assert order.id == derive_id(TENANT, "notification-delivery", "deliver", f"welcome:{USER}")
    assert [o.id for o in again.orders] == [order.id]


async def test_students_are_not_welcomed_by_us(lab: HandlerLab) -> None:
    done = await lab.run(create_profiles, [user("student"), user(id=UUID(int=8))])

    assert done.orders == []


@pytest.mark.parametrize(
    ("roles", "audience", "digest"),
    [
        (["student"], "student", "none"),
        (["guardian"], "guardian", "daily"),
        (["parent", "teacher"], "guardian", "daily"),  # the primary role decides
        (["teacher", "parent"], "staff", "none"),
        ([], "student", "none"),  # the most careful
    ],
)
async def test_preferences_begin_as_the_role_suggests(
    lab: HandlerLab, roles: list[Role], audience: str, digest: str
) -> None:
    await lab.run(create_profiles, [user(*roles)])

    [row] = await lab.rows("select channels, digest from notification_preferences")
    assert (json.loads(row["channels"]), row["digest"]) == (DEFAULT_CHANNELS[audience], digest)


def test_nobody_gets_text_messages_without_consent() -> None:
    assert not any(channels["sms"] for channels in DEFAULT_CHANNELS.values())


async def test_newer_versions_of_profile_contacts_and_preferences_stay(lab: HandlerLab) -> None:
    await lab.run(create_profiles, [user("teacher", email="old@lake.edu")])
    await lab.execute("update user_profiles set version = 3, given_name = 'Adele'")
    await lab.execute("update contact_points set version = 3, address = 'new@lake.edu'")
    await lab.execute("""update notification_preferences set version = 3, digest = 'weekly'""")

    await lab.run(create_profiles, [user("teacher", email="old@lake.edu")])

    assert await lab.value("select given_name from user_profiles") == "Adele"
    assert await lab.value("select address from contact_points") == "new@lake.edu"
    assert await lab.value("select digest from notification_preferences") == "weekly"


async def test_of_one_user_twice_in_a_chunk_the_first_word_counts(lab: HandlerLab) -> None:
    done = await lab.run(create_profiles, [user("teacher"), user("teacher", given_name="Eve")])

    assert await lab.value("select given_name from user_profiles") == "Ada"
    assert len(done.orders) == 1
