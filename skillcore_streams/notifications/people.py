"""Who is meant by an order, and what is known of a person at the moment of sending."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from skillcore_streams.notifications.notices import Notice
from skillcore_streams.rules.notifications import Person, QuietHours
from skillcore_streams.runtime.context import Database

Role = Literal["user", "guardian", "guardians_of", "staff_of", "students_of"]


class Recipient(NamedTuple):
    """One person. `owner` says whose contact points are meant."""

    id: UUID
    owner: str


GUARDIANS = """
    select guardian_id as id from guardian_students where tenant_id = $1 and student_id = $2 and current order by 1"""

STUDENTS = """
    select distinct student_id as id from enrollments
     where tenant_id = $1 and class_id = $2 and begin_date <= $3 and (end_date is null or end_date >= $3) order by 1"""

# Staff of a class, of a school or of a student: who teaches there, and who has one of the roles at its school. All
# teachers of a school are meant only when the school itself is.
STAFF = """
    with classes_ as (
        select $2::uuid as class_id
        union select e.class_id from enrollments e
               where e.tenant_id = $1 and e.student_id = $2 and e.class_id is not null and e.begin_date <= $3
                 and (e.end_date is null or e.end_date >= $3)
    ), schools as (
        select $2::uuid as school_id
        union select m.school_id from student_membership m
               where m.tenant_id = $1 and m.student_id = $2 and (m.end_date is null or m.end_date >= $3)
        union select c.school_id from classes c where c.tenant_id = $1 and c.class_id = $2
    )
    select s.teacher_id as id from class_staff s join classes_ using (class_id)
     where s.tenant_id = $1 and (s.end_date is null or s.end_date >= $3) and 'teacher' = any($4::text[])
    union
    select u.user_id from schools
      cross join lateral unnest($4::text[]) as wanted (role)
      join user_profiles u on u.tenant_id = $1 and u.deactivated_on is null
       and u.roles @> jsonb_build_array(jsonb_build_object('org_id', schools.school_id::text, 'role', wanted.role))
     where wanted.role <> 'teacher' or schools.school_id = $2
     order by 1"""

# One row, whatever is known. A preference of a guardian is kept under the guardian's id.
PERSON = """
    select p.user_id is not null as stated, p.channels, p.categories, p.quiet_start, p.quiet_end, p.quiet_zone,
           coalesce(p.language, g.language) as language, u.roles,
           u.user_id is not null or g.guardian_id is not null as known,
           u.deactivated_on is not null as gone,
           coalesce((select b.blocked from recipient_blocks b
                      where b.tenant_id = $1 and b.guardian_id = $2 and b.student_id = $4), false) as blocked,
           (select jsonb_object_agg(c.channel, c.address) from contact_points c
             where c.tenant_id = $1 and c.owner = $3 and c.owner_id = $2
               and not exists (select from suppression_list x where x.tenant_id = $1 and x.channel = c.channel
                                  and x.address_hash = address_hash(c.address) and x.lifted_at is null)
               and not exists (select from channel_status s where s.tenant_id = $1 and s.recipient_id = $2
                                  and s.channel = c.channel and not s.valid)) as addresses,
           (select count(*) from device_tokens t
             where t.tenant_id = $1 and t.user_id = $2 and t.revoked_at is null) as devices,
           coalesce((select n.decision = 'granted' and (n.expires_at is null or n.expires_at > $5) from consents n
                      where n.tenant_id = $1 and n.scope = 'sms' and n.effective_at <= $5
                        and (n.guardian_id = $2 or (n.student_id = $2 and n.guardian_id = $6))
                      order by n.effective_at desc, n.said_by desc limit 1), false) as consented,
           coalesce((select o.timezone from student_membership m
                       join orgs o on o.tenant_id = m.tenant_id and o.org_id = m.school_id
                      where m.tenant_id = $1 and m.student_id in ($2, $4)
                      order by m.begin_date desc, m.school_id limit 1),
                    (select o.timezone from guardian_students w
                       join student_membership m on m.tenant_id = $1 and m.student_id = w.student_id
                       join orgs o on o.tenant_id = $1 and o.org_id = m.school_id
                      where w.tenant_id = $1 and w.guardian_id = $2 and w.current
                      order by m.begin_date desc, m.school_id limit 1),
                    (select o.timezone from jsonb_array_elements(u.roles) r
                       join orgs o on o.tenant_id = $1 and o.org_id = (r->>'org_id')::uuid
                      order by (r->>'primary')::boolean desc, o.org_id limit 1)) as zone
      from (values (1)) one
      left join user_profiles u on u.tenant_id = $1 and u.user_id = $2
      left join guardians g on g.tenant_id = $1 and g.guardian_id = $2
      left join notification_preferences p on p.tenant_id = $1 and p.user_id = $2"""

NOBODY = UUID(int=0)

DEVICES = """
    select device_token_id, token from device_tokens
     where tenant_id = $1 and user_id = $2 and revoked_at is null
       and not exists (select from push_receipts r where r.tenant_id = $1 and r.delivery_id = $3
                          and r.device_token_id = device_tokens.device_token_id)
     order by device_token_id"""


async def recipients(
    db: Database, tenant: str, role: Role, named: UUID, notice: Notice, today: date
) -> list[Recipient]:
    """Who is meant. Nobody is an answer: a district may keep no guardians here."""
    if role in ("user", "guardian"):
        return [Recipient(named, role)]
    if role == "guardians_of":
        return [Recipient(row["id"], "guardian") for row in await db.fetch(GUARDIANS, tenant, named)]
    if role == "students_of":
        return [Recipient(row["id"], "user") for row in await db.fetch(STUDENTS, tenant, named, today)]
    rows = await db.fetch(STAFF, tenant, named, today, sorted(notice.staff))
    return [Recipient(row["id"], "user") for row in rows]


async def person(
    db: Database, tenant: str, recipient: Recipient, about: UUID | None, now: datetime
) -> Person | None:
    """What is known now; None of somebody who has not arrived yet. Who has left has no channel."""
    row = await db.fetchrow(PERSON, tenant, recipient.id, recipient.owner, about, now, NOBODY)
    if not row["known"]:
        return None
    addresses: dict[str, str] = {} if row["gone"] else json.loads(row["addresses"] or "{}")
    if row["devices"] and not row["gone"]:
        addresses["push"] = str(row["devices"])
    return Person(
        kind=_kind(recipient.owner, json.loads(row["roles"] or "[]")),
        zone=row["quiet_zone"] or row["zone"] or "UTC",
        channels=json.loads(row["channels"]) if row["stated"] else None,
        categories=json.loads(row["categories"]) if row["stated"] else {},
        quiet=None if row["quiet_start"] is None else QuietHours(row["quiet_start"], row["quiet_end"]),
        language=row["language"], addresses=addresses, consented=row["consented"], blocked=row["blocked"],
    )  # fmt: skip


def _kind(owner: str, roles: list[dict[str, Any]]) -> str:
    said = {role["role"] for role in roles}
    if owner == "guardian" or said & {"guardian", "parent", "relative"}:
        return "guardian"
    return "student" if said <= {"student"} else "staff"
