"""Demographics: people, how to reach them, and what they want to hear of."""

from __future__ import annotations

import json
from collections.abc import Sequence

from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.rostering import UserCreated
from skillcore_streams.queues.notification_delivery import LOW, NORMAL, DeliverNotification
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

# The guardian's row is locked even where a newer version stays: what else is known of a guardian is written after it.
SAVE_GUARDIANS = """
    insert into guardians as g (tenant_id, guardian_id, version, emergency_order, language)
    select * from unnest($1::text[], $2::uuid[], $3::int[], $4::int[], $5::text[])
    on conflict (tenant_id, guardian_id) do update
       set version = excluded.version, emergency_order = excluded.emergency_order, language = excluded.language
     where g.version < excluded.version
    returning tenant_id, guardian_id"""

SAVE_RELATIONS = """
    insert into guardian_students as r (tenant_id, guardian_id, student_id, version, relationship, custody)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[])
    on conflict (tenant_id, guardian_id, student_id) do update
       set version = excluded.version, relationship = excluded.relationship, custody = excluded.custody
     where r.version < excluded.version"""

# A student whom the guardian's newest version does not name stays as it was named last, but not as current.
SETTLE_RELATIONS = """
    update guardian_students r set current = not r.current
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, guardian_id)
      join guardians g using (tenant_id, guardian_id)
     where r.tenant_id = t.tenant_id and r.guardian_id = t.guardian_id and r.current <> (r.version = g.version)"""

# A restriction holds until a later version of the same guardian and student lifts it.
SETTLE_BLOCKS = """
    insert into recipient_blocks as b (tenant_id, guardian_id, student_id, version, blocked)
    select r.tenant_id, r.guardian_id, r.student_id, r.version, r.custody = 'restricted'
      from unnest($1::text[], $2::uuid[]) as t (tenant_id, guardian_id)
      join guardian_students r using (tenant_id, guardian_id)
     where r.custody = 'restricted'
        or exists (select from recipient_blocks x
                    where (x.tenant_id, x.guardian_id, x.student_id) = (r.tenant_id, r.guardian_id, r.student_id))
     order by r.tenant_id, r.guardian_id, r.student_id
    on conflict (tenant_id, guardian_id, student_id) do update
       set version = excluded.version, blocked = excluded.blocked
     where b.version < excluded.version"""

# After the version's own have been saved: what it does not name is gone.
FORGET_CONTACTS = """
    delete from contact_points c
     using unnest($1::text[], $2::uuid[], $3::int[]) as t (tenant_id, guardian_id, version)
     where c.tenant_id = t.tenant_id and c.owner = 'guardian' and c.owner_id = t.guardian_id
       and c.version < t.version"""

SAVE_GUARDIAN_CONTACTS = """
    insert into contact_points as c (tenant_id, owner, owner_id, channel, address, version)
    select tenant_id, 'guardian', owner_id, channel, address, version
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::int[])
        as t (tenant_id, owner_id, channel, address, version)
    on conflict (tenant_id, owner, owner_id, channel) do update
       set address = excluded.address, version = excluded.version,
           verified = c.verified and c.address = excluded.address
    returning tenant_id, owner_id, verified"""


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


@on(GuardianContactUpdated, name="GuardianContactHandler")
async def update_guardians(events: list[GuardianContactUpdated], ctx: Context) -> None:
    """A guardian as the newest version has it: students, custody, contacts; changed contacts are to be verified anew.

    A version says everything: a student, address or number that it does not name is not current any more. Whom custody
    is restricted for is blocked, and that is asked before every send.
    """
    versions = sorted(events, key=lambda e: e.version, reverse=True)  # of equals, the first word counts
    newest = [e for _, e in sorted({(e.meta.tenant, e.guardian_id): e for e in reversed(versions)}.items())]
    columns = [e.meta.tenant for e in newest], [e.guardian_id for e in newest]
    saved = await ctx.db.fetch(
        SAVE_GUARDIANS, *columns, [e.version for e in newest], [e.emergency_order for e in newest],
        [e.language for e in newest],
    )
    named = sorted({(e.meta.tenant, e.guardian_id, s): e for e in reversed(versions) for s in e.student_ids}.items())
    await ctx.db.execute(
        SAVE_RELATIONS,
        [key[0] for key, _ in named], [key[1] for key, _ in named], [key[2] for key, _ in named],
        [e.version for _, e in named], [e.relationship for _, e in named], [e.custody for _, e in named],
    )
    await ctx.db.execute(SETTLE_RELATIONS, *columns)
    await ctx.db.execute(SETTLE_BLOCKS, *columns)
    now = {(row["tenant_id"], row["guardian_id"]) for row in saved}
    await _save_guardian_contacts(ctx, [e for e in newest if (e.meta.tenant, e.guardian_id) in now])


async def _save_guardian_contacts(ctx: Context, guardians: Sequence[GuardianContactUpdated]) -> None:
    """Contact points of guardians whose version has just been saved; a link goes to what is not verified."""
    contacts = [(g, how, where) for g in guardians for how, where in (("email", g.email), ("sms", g.phone)) if where]
    rows = await ctx.db.fetch(
        SAVE_GUARDIAN_CONTACTS,
        [g.meta.tenant for g, _, _ in contacts], [g.guardian_id for g, _, _ in contacts],
        [channel for _, channel, _ in contacts], [address for _, _, address in contacts],
        [g.version for g, _, _ in contacts],
    )
    await ctx.db.execute(
        FORGET_CONTACTS, [g.meta.tenant for g in guardians], [g.guardian_id for g in guardians],
        [g.version for g in guardians],
    )
    unverified = {(row["tenant_id"], row["owner_id"]) for row in rows if not row["verified"]}
    for guardian in guardians:
        if (guardian.meta.tenant, guardian.guardian_id) in unverified:
            occasion = guardian.guardian_id, guardian.version
            ctx.enqueue(
                DeliverNotification(
                    notification_id=derive_id(guardian.meta.tenant, "verify_guardian", *occasion),
                    recipient_id=guardian.guardian_id, recipient_role="guardian", template="guardian.verify_contact",
                    subject_id=guardian.guardian_id,
                ),
                cause=guardian,
                priority=NORMAL,
                unique="verify_guardian:{}:{}".format(*occasion),
            )


def audience(user: UserCreated) -> str:
    """Which default preferences fit: those of the primary role, else of the first."""
    role = next((r.role for r in user.roles if r.primary), user.roles[0].role if user.roles else "student")
    if role in ("guardian", "parent", "relative"):
        return "guardian"
    return "student" if role == "student" else "staff"
