"""Resources: the files that the system makes, once they are in the store."""

from __future__ import annotations

from skillcore_streams.events.resources import ArchiveCompleted, ReportGenerated
from skillcore_streams.queues.data_archival import VerifyAndDelete
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.runtime import Context, derive_id, on

SAVE_ARTIFACT = """
    insert into report_artifacts as a (tenant_id, report_id, kind, format, requested_by, storage_key, sha256, size,
                                       pages, contains_pii, expires_at, said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    on conflict (tenant_id, report_id) do update
       set kind = excluded.kind, format = excluded.format, requested_by = excluded.requested_by,
           storage_key = excluded.storage_key, sha256 = excluded.sha256, size = excluded.size, pages = excluded.pages,
           contains_pii = excluded.contains_pii, expires_at = excluded.expires_at, said_at = excluded.said_at,
           said_by = excluded.said_by
     where (a.said_at, a.said_by) < (excluded.said_at, excluded.said_by)"""

# Whom the file is about, its row knows; of one about several, or of another system's, nobody does.
SAVE_ACCESS = """
    insert into ferpa_access_log (tenant_id, access_id, student_id, actor_id, actor_role, record_type, purpose,
                                  accessed_at)
    values ($1, $2, (select student_id from reports where tenant_id = $1 and report_id = $3), $4, 'systemAdministrator',
            $5, 'report', $6)
    on conflict do nothing"""

SAVE_MANIFEST = """
    insert into archive_manifests (tenant_id, archive_id, entity, cutoff_date, bucket, storage_keys, row_count, sha256,
                                   manifest_key)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict do nothing"""


@on(ReportGenerated, name="ReportReadyHandler")
async def offer_report(event: ReportGenerated, ctx: Context) -> None:
    """List the file, record that it tells of students (34 CFR 300.614), and tell whoever asked where it is.

    The message leads to a page that asks who one is: nothing is attached.
    """
    await ctx.db.execute(
        SAVE_ARTIFACT, ctx.tenant, event.report_id, event.kind, event.format, event.requested_by, event.storage_key,
        event.sha256, event.size, event.pages, event.contains_pii, event.expires_at, event.meta.time, event.meta.key,
    )
    if event.contains_pii:
        await ctx.db.execute(
            SAVE_ACCESS, ctx.tenant, derive_id(ctx.tenant, "report", event.report_id), event.report_id,
            event.requested_by, event.kind, event.meta.time,
        )
    if event.requested_by != derive_id("system"):
        ctx.enqueue(
            DeliverNotification(
                notification_id=derive_id(ctx.tenant, "report_ready", event.report_id),
                recipient_id=event.requested_by, recipient_role="user", template="report.ready",
                subject_id=event.report_id,
            ),
            priority=NORMAL,
            unique=f"report_ready:{event.report_id}",
        )


@on(ArchiveCompleted, name="DataArchivedHandler")
async def check_archive(event: ArchiveCompleted, ctx: Context) -> None:
    """Keep what the archive says of itself; a job reads it back, and only then deletes rows."""
    await ctx.db.execute(
        SAVE_MANIFEST, ctx.tenant, event.archive_id, event.entity, event.cutoff_date, event.bucket, event.storage_keys,
        event.row_count, event.sha256, event.manifest_key,
    )
    ctx.enqueue(VerifyAndDelete(archive_id=event.archive_id), unique=f"verify:{event.archive_id}")
