"""Compliance: what families allow, and the records about records."""

from __future__ import annotations

from skillcore_streams.events.compliance import ConsentRecorded
from skillcore_streams.notifications.people import NOBODY
from skillcore_streams.runtime import Context, on

HISTORY = """
    insert into consents_history (tenant_id, consent_id, student_id, guardian_id, scope, decision, effective_at,
                                  expires_at, evidence_ref)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
                         $8::timestamptz[], $9::text[])
    on conflict do nothing"""

# Of two words that take effect at the same moment a revocation stays: what waits for consent waits.
LATEST = """
    insert into consents as c (tenant_id, student_id, guardian_id, scope, decision, effective_at, expires_at, said_by)
    select distinct on (1, 2, 3, 4) *
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                  $8::uuid[]) w (tenant, student, guardian, scope, decision, at, until, by)
     order by 1, 2, 3, 4, at desc, decision desc, by desc
    on conflict (tenant_id, student_id, guardian_id, scope) do update
       set decision = excluded.decision, effective_at = excluded.effective_at, expires_at = excluded.expires_at,
           said_by = excluded.said_by
     where (c.effective_at, c.decision, c.said_by) < (excluded.effective_at, excluded.decision, excluded.said_by)"""


@on(ConsentRecorded, name="ConsentHandler")
async def record_consent(events: list[ConsentRecorded], ctx: Context) -> None:
    """Keep every word, and the latest to take effect of each scope (34 CFR 99.30, 99.37; of SMS, 47 U.S.C. 227).

    Nothing is cancelled here: a delivery asks at the last moment, so a revocation drops what waits. Who gave it for
    whom: a guardian for a student, or the student, under the nil guardian.
    """
    tenants = [e.meta.tenant for e in events]
    students, scopes = [e.student_id for e in events], [e.scope for e in events]
    guardians = [e.guardian_id or NOBODY for e in events]
    decisions = [e.decision for e in events]
    begins, ends = [e.effective_at for e in events], [e.expires_at for e in events]
    await ctx.db.execute(
        HISTORY, tenants, [e.consent_id for e in events], students, guardians, scopes, decisions, begins, ends,
        [e.evidence_ref for e in events],
    )
    await ctx.db.execute(
        LATEST, tenants, students, guardians, scopes, decisions, begins, ends, [e.consent_id for e in events]
    )
