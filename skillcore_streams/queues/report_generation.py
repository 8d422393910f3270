"""Report generation: PDF and spreadsheet files, made of rows, kept in the object store.

Reading, rendering and storing happen outside a transaction, in that order; a report that comes again after a crash
finds its file by its content, and its row by its id.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

from skillcore_streams import reports
from skillcore_streams.events.fields import Language
from skillcore_streams.events.resources import ReportGenerated
from skillcore_streams.runtime import Context, Job, PermanentError, Queue, derive_id, on
from skillcore_streams.runtime.documents import MEDIA_TYPES, DocumentRenderer, Format
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.objects import ObjectStore, digest, object_key

queue = Queue("report-generation", concurrency=10, timeout=timedelta(minutes=3))

KEPT = timedelta(days=90)
"""How long a file may be fetched; the bucket's lifecycle rule deletes it some time later."""

SYSTEM = derive_id("system")
"""Who asks when nobody did."""

reports.load()


class GenerateReport(Job, queue=queue, kind="report"):
    """Make a file. `kind` and `params` as skillcore_streams/reports/ has them; `locale`: BCP 47."""

    report_id: UUID
    kind: str
    format: Format
    params: dict[str, str]
    requested_by: UUID
    locale: Language = "en"


class AttendanceLetter(Job, queue=queue, kind="attendance_letter"):
    """The letter home when an absence rate reached a threshold."""

    student_id: UUID
    school_year: str
    threshold: str


FIND = "select * from reports where tenant_id = $1 and report_id = $2"

SAVE = """
    insert into reports (tenant_id, report_id, kind, format, params, language, requested_by, student_id, job_id,
                         object_key, sha256, size, pages, contains_pii, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    on conflict do nothing"""

# A family's language: that of the guardian called first, of those who named one and may hear of the student.
FAMILY_LANGUAGE = """
    select g.language from guardian_students s
      join guardians g on g.tenant_id = s.tenant_id and g.guardian_id = s.guardian_id
     where s.tenant_id = $1 and s.student_id = $2 and s.current and g.language is not null
       and not exists (select from recipient_blocks b where b.tenant_id = s.tenant_id and b.blocked
                          and b.guardian_id = s.guardian_id and b.student_id = s.student_id)
     order by g.emergency_order nulls last, g.guardian_id limit 1"""


@queue.translates
def of_the_old_system(name: str, data: dict[str, Any]) -> Job | None:
    """A BullMQ job named after a kind: `queue.add("report_card", {reportId, format, params, requestedBy})`."""
    if name not in reports.KINDS:
        return None
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", field).lower(): value for field, value in data.items()}
    return GenerateReport.model_validate_json(json.dumps({"kind": name} | snake))


@on(GenerateReport, transaction=False)
async def generate_report(job: GenerateReport, ctx: Context) -> dict[str, Any] | None:
    """Make what was asked for. Returns what ReportGenerated says of the file."""
    return await produce(ctx, job)


@on(AttendanceLetter, transaction=False)
async def attendance_letter(job: AttendanceLetter, ctx: Context) -> dict[str, Any] | None:
    """One letter a student, school year and threshold, in the family's language."""
    params = job.model_dump(mode="json")
    async with ctx.transaction() as db:
        language = await db.fetchval(FAMILY_LANGUAGE, ctx.tenant, job.student_id)
    report_id = derive_id(ctx.tenant, "attendance_letter", *params.values())
    return await produce(ctx, GenerateReport(
        report_id=report_id, kind="attendance_letter", format="pdf", params=params, requested_by=SYSTEM,
        locale=language or "en",
    ))  # fmt: skip


async def produce(ctx: Context, asked: GenerateReport) -> dict[str, Any] | None:
    """Read, render, store, note; then say that it is there. None when what it was to tell no longer holds.

    Raises PermanentError for an unknown kind, for wrong parameters, and for an id that another report has.
    """
    kind = reports.kind_of(asked.kind, asked.format)
    params = kind.read(asked.params)
    async with ctx.transaction() as db:
        made = await db.fetchrow(FIND, ctx.tenant, asked.report_id)
        document = None if made else await kind.write(params, reports.Page(db, ctx.tenant, asked.locale))
    if made is None:
        if document is None:
            ctx.note("what the report was to tell no longer holds; none was made")
            return None
        file = await ctx.service(DocumentRenderer).render(document, asked.format)
        await failpoint("report.rendered")
        sha256 = digest(file.body)
        name = f"{asked.report_id}-{sha256[:12]}.{asked.format}"
        stored = await ctx.service(ObjectStore).put(
            object_key("reports", ctx.tenant, kind.name, name), file.body, MEDIA_TYPES[asked.format]
        )
        await failpoint("report.stored")
        async with ctx.transaction() as db:
            await db.execute(
                SAVE, ctx.tenant, asked.report_id, asked.kind, asked.format, params.model_dump_json(), asked.locale,
                asked.requested_by, getattr(params, "student_id", None), ctx.meta.key, stored.key, sha256, stored.size,
                file.pages, kind.personal, ctx.meta.time + KEPT,
            )
            made = await db.fetchrow(FIND, ctx.tenant, asked.report_id)
        await failpoint("report.noted")
    if (made["kind"], made["format"], json.loads(made["params"])) != (
        asked.kind, asked.format, params.model_dump(mode="json"),
    ):  # fmt: skip
        raise PermanentError("another report has this report_id")
    said = ReportGenerated(
        report_id=asked.report_id, job_id=made["job_id"], kind=made["kind"], format=made["format"],
        requested_by=made["requested_by"], storage_key=made["object_key"], sha256=made["sha256"], size=made["size"],
        pages=made["pages"], contains_pii=made["contains_pii"], expires_at=made["expires_at"],
    )
    ctx.publish(said, id=asked.report_id)
    return {"report_id": str(asked.report_id), "storage_key": said.storage_key, "size": said.size, "pages": said.pages}
