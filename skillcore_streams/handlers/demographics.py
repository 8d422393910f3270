"""Demographics: people, how to reach them, and what they want to hear of."""

from __future__ import annotations

import json

from skillcore_streams.events.rostering import UserCreated
from skillcore_streams.queues.notification_delivery import LOW, DeliverNotification
from skillcore_streams.runtime import Context, derive_id, on

WELCOMED = frozenset({
    "administrator", "aide", "counselor", "districtAdministrator", "guardian", "parent", "principal", "proctor",
    "relative", "siteAdministrator", "systemAdministrator", "teacher",
})
"""Staff and guardians; students are welcomed by their teachers."""

DEFAULT_CHANNELS = {
    "student": {"email": False, "sms": False, "push": True},
    "guardian": {"email": True, "sms": False, "push": True},  # SMS only after consent (TCPA)
    "staff": {"email": True, "sms": False, "push": False},
}

SAVE_PROFILES = """
    insert into user_profiles (tenant_id, user_id, sourced_id, roles, given_name, family_name, email, phone, grades,
                               status)
    select t.tenant_id, t.user_id, t.sourced_id, t.roles, t.given_name, t.family_name, t.email, t.phone,
           case when t.grades is not null then array(select jsonb_array_elements_text(t.grades)) end, t.status
      from unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::text[], $8::text[],
                  $9::jsonb[], $10::text[])
        as t (tenant_id, user_id, sourced_id, roles, given_name, family_name, email, phone, grades, status)
    on conflict (tenant_id, user_id) do nothing"""

SAVE_CONTACTS = """
    insert into contact_points (tenant_id, owner, owner_id, channel, address)
    select tenant_id, 'user', owner_id, channel, address
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) as t (tenant_id, owner_id, channel, address)
    on conflict do nothing"""

SAVE_PREFERENCES = """
    insert into notification_preferences (tenant_id, user_id, channels, digest)
    select * from unnest($1::text[], $2::uuid[], $3::jsonb[], $4::text[])
    on conflict do nothing"""


@on(UserCreated, name="UserProfileHandler")
async def create_profiles(events: list[UserCreated], ctx: Context) -> None:
    """Profile, contact points and default preferences, all of version 0: a newer row stays."""
    users = [first for _, first in sorted({(e.meta.tenant, e.user_id): e for e in reversed(events)}.items())]
    await ctx.db.execute(
        SAVE_PROFILES,
        [u.meta.tenant for u in users], [u.user_id for u in users], [u.sourced_id for u in users],
        [json.dumps([r.model_dump(mode="json") for r in u.roles]) for u in users],
        [u.given_name for u in users], [u.family_name for u in users], [u.email for u in users],
        [u.phone for u in users], [None if u.grades is None else json.dumps(u.grades) for u in users],
        [u.status for u in users],
    )
    contacts = [(u, how, where) for u in users for how, where in (("email", u.email), ("sms", u.phone)) if where]
    if contacts:
        await ctx.db.execute(
            SAVE_CONTACTS,
            [u.meta.tenant for u, _, _ in contacts], [u.user_id for u, _, _ in contacts],
            [channel for _, channel, _ in contacts], [address for _, _, address in contacts],
        )
    await ctx.db.execute(
        SAVE_PREFERENCES,
        [u.meta.tenant for u in users], [u.user_id for u in users],
        [json.dumps(DEFAULT_CHANNELS[audience(u)]) for u in users],
        ["daily" if audience(u) == "guardian" else "none" for u in users],
    )
    for user in users:
        if any(r.role in WELCOMED for r in user.roles):
            ctx.enqueue(
                DeliverNotification(
                    notification_id=derive_id(user.meta.tenant, "welcome", user.user_id), recipient_id=user.user_id,
                    recipient_role="user", template="user.welcome", subject_id=user.user_id,
                ),
                cause=user,
                priority=LOW,
                unique=f"welcome:{user.user_id}",
            )


def audience(user: UserCreated) -> str:
    """Which default preferences fit: those of the primary role, else of the first."""
    role = next((r.role for r in user.roles if r.primary), user.roles[0].role if user.roles else "student")
    if role in ("guardian", "parent", "relative"):
        return "guardian"
    return "student" if role == "student" else "staff"
