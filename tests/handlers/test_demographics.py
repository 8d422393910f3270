"""Demographics: who is who, how to reach them, and what they hear by default."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.fields import Role
from skillcore_streams.events.rostering import UserCreated, UserRole
from skillcore_streams.handlers.demographics import DEFAULT_CHANNELS, create_profiles, update_guardians
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
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


# Guardians ------------------------------------------------------------------------------------------------------------

MOTHER, ANNA, BEN = UUID(int=70), UUID(int=1), UUID(int=2)


def guardian(
    version: int = 1, *students: UUID, custody: str = "joint", id: UUID = MOTHER, tenant: str = TENANT, **more: Any
) -> GuardianContactUpdated:
    """A version of a guardian: of Anna when no students are given, with an e-mail address and a telephone."""
    fields: dict[str, Any] = {
        "guardian_id": id, "student_ids": list(students or (ANNA,)), "version": version, "email": "mother@lake.edu",
        "phone": "+15125550101", "relationship": "Mother", "custody": custody, "emergency_order": 1, "language": "es",
    }
    return given(GuardianContactUpdated(**fields | more), tenant=tenant, id=f"{id}/{version}/{more}")


async def contacts(lab: HandlerLab) -> list[tuple[Any, ...]]:
    rows = await lab.rows("select channel, address, version, verified from contact_points order by channel")
    return [tuple(row.values()) for row in rows]


async def relations(lab: HandlerLab) -> list[tuple[Any, ...]]:
    rows = await lab.rows("select student_id, version, custody, current from guardian_students order by student_id")
    return [tuple(row.values()) for row in rows]


async def blocked(lab: HandlerLab) -> list[UUID]:
    rows = await lab.rows("select student_id from recipient_blocks where blocked order by student_id")
    return [row["student_id"] for row in rows]


async def test_a_guardian_has_students_and_contact_points_to_be_verified(lab: HandlerLab) -> None:
    first, again = [await lab.run(update_guardians, [guardian(1, BEN, ANNA)]) for _ in range(2)]

    assert await lab.rows("select version, emergency_order, language from guardians") == [
        {"version": 1, "emergency_order": 1, "language": "es"}
    ]
    assert await relations(lab) == [(ANNA, 1, "joint", True), (BEN, 1, "joint", True)]
    assert await contacts(lab) == [("email", "mother@lake.edu", 1, False), ("sms", "+15125550101", 1, False)]
    assert await lab.value("select distinct owner from contact_points") == "guardian"
    [order] = first.orders
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.recipient_id, order.job.recipient_role) == (MOTHER, "guardian")
    assert (order.job.template, order.priority) == ("guardian.verify_contact", NORMAL)
    assert order.id == derive_id(TENANT, "notification-delivery", "deliver", f"verify_guardian:{MOTHER}:1")
    assert again.orders == []


async def test_only_what_has_changed_must_be_verified_anew(lab: HandlerLab) -> None:
    await lab.run(update_guardians, [guardian(1)])
    await lab.execute("update contact_points set verified = true")

    same = await lab.run(update_guardians, [guardian(2, custody="full")])
    moved = await lab.run(update_guardians, [guardian(3, phone="+15125550199")])

    assert await contacts(lab) == [("email", "mother@lake.edu", 3, True), ("sms", "+15125550199", 3, False)]
    assert same.orders == []
    assert len(moved.orders) == 1


async def test_an_address_that_the_newest_version_does_not_name_is_gone(lab: HandlerLab) -> None:
    await lab.run(update_guardians, [guardian(1)])

    done = await lab.run(update_guardians, [guardian(2, email=None, phone=None)])

    assert await contacts(lab) == []
    assert done.orders == []


async def test_contact_points_of_a_user_of_the_same_id_are_not_the_guardian_s(lab: HandlerLab) -> None:
    await lab.run(create_profiles, [user("parent", id=MOTHER, email="work@lake.edu")])

    await lab.run(update_guardians, [guardian(1), guardian(2, email=None)])

    rows = await lab.rows("select owner, address from contact_points order by owner")
    assert [tuple(row.values()) for row in rows] == [("guardian", "+15125550101"), ("user", "work@lake.edu")]


async def test_restricted_custody_blocks_until_a_later_version_lifts_it(lab: HandlerLab) -> None:
    seen = []
    for event in (
        guardian(1, ANNA, BEN), guardian(2, ANNA, custody="restricted"), guardian(3, BEN),  # says nothing of Anna
        guardian(4, ANNA, custody="full"), guardian(5, ANNA, BEN, custody="restricted"),
    ):
        await lab.run(update_guardians, [event])
        seen.append(await blocked(lab))

    assert seen == [[], [ANNA], [ANNA], [], [ANNA, BEN]]


VERSIONS = [
    guardian(1, ANNA, BEN, custody="restricted"), guardian(2, ANNA, email=None), guardian(3, BEN, phone="+15125550199"),
    guardian(4, BEN, custody="restricted", email="new@lake.edu"),
]


@pytest.mark.parametrize("together", [True, False], ids=["one chunk", "chunks of one"])
async def test_versions_of_a_guardian_end_the_same_in_any_order(lab: HandlerLab, together: bool) -> None:
    ends = set()
    for n, order in enumerate(permutations(VERSIONS)):
        await lab.execute("delete from contact_points; delete from guardians")
        await lab.execute("delete from guardian_students; delete from recipient_blocks")
        for chunk in [[*order, order[0]]] if together else [[event] for event in (*order, order[0])]:
            await lab.run(update_guardians, [given(event, id=f"{n}/{event.version}") for event in chunk])
        ends.add(str((await contacts(lab), await relations(lab), await blocked(lab))))

    assert await relations(lab) == [(ANNA, 2, "joint", False), (BEN, 4, "restricted", True)]
    assert await blocked(lab) == [BEN]
    assert len(ends) == 1


async def test_guardians_of_two_tenants_in_one_chunk_are_two(lab: HandlerLab) -> None:
    done = await lab.run(update_guardians, [
        guardian(1, tenant="east", custody="restricted"), guardian(2, tenant="west", email=None),
    ])

    rows = await lab.rows("select tenant_id, version from guardians order by 1")
    assert [tuple(row.values()) for row in rows] == [("east", 1), ("west", 2)]
    assert await lab.value("select array_agg(tenant_id) from recipient_blocks") == ["east"]
    assert [order.meta.tenant for order in done.orders] == ["east", "west"]
