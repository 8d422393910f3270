"""Data archival: old rows leave for the object store, and from the database only once they are there for sure.

    archive    rows in order, part by part: gzip of JSON lines -> store -> row of archive_parts; then the manifest
    verify     the manifest and each part are read back and compared by size and SHA-256
    remove     rows that still are what was archived, a part a transaction; none that a legal hold names

Each step begins where the last one ended, by rows that are committed after what they tell of. So a process may die
anywhere: the worst that is left is an object that no row knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.resources import ArchiveCompleted
from skillcore_streams.rules.archives import Manifest, Part, read_manifest, read_part, write_part
from skillcore_streams.runtime import Context, Job, PermanentError, Queue, derive_id, on
from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.objects import Damaged, Missing, ObjectStore, Stored, digest, object_key

queue = Queue("data-archival", concurrency=10, timeout=timedelta(minutes=5))

PART = 5_000
"""Rows of a part, which are deleted in one transaction."""

PARTS_A_RUN = 20
"""Parts that one run makes or removes before it hands on to the next: a worker that stops waits for a run."""

JSON_LINES = "application/gzip"


@dataclass(frozen=True, slots=True)
class Archivable:
    """A kind of rows that may be archived. To add one: an entry in ENTITIES, and an index by tenant and `time`.

    Attributes:
        table: its table, whose first key column is tenant_id.
        key: the other columns of its primary key.
        time: the column (timestamptz) that says how old a row is.
        student: the column that says whom a row is about. None: any student's hold keeps all rows.
        school: the column that says whose it is. None: no archive of one school can be made.
    """

    table: str
    key: Sequence[str]
    time: str
    student: str | None = None
    school: str | None = None


ENTITIES: Mapping[str, Archivable] = {
    "attendance_audit": Archivable(
        "attendance_audit", ("student_id", "attendance_id", "corrected_at", "event_key"), "corrected_at", "student_id"
    ),
    "grade_audit": Archivable("grade_audit", ("event_key",), "graded_at", "student_id"),
    "access_log": Archivable("ferpa_access_log", ("access_id",), "accessed_at", "student_id"),
}


class ArchiveRows(Job, queue=queue, kind="archive"):
    """Archive a tenant's rows older than a day, of one school or of all.

    Rows that stay (`remove` false) are not archived again: the next archive begins where this one ended.

    Args:
        remove: delete the rows once the archive is verified.
        policy_id: the retention policy that asked for it.
    """

    entity: str
    cutoff: date
    school_id: UUID | None = None
    policy_id: UUID | None = None
    remove: bool = False


class VerifyAndDelete(Job, queue=queue, kind="verify_and_delete"):
    """Compare an archive with what was written, then delete its rows if it was made to that end."""

    archive_id: UUID


class RestoreArchive(Job, queue=queue, kind="restore"):
    """Put the rows of an archive back where they are missing."""

    archive_id: UUID


# Every value in a row is written as in UTC, whatever the session's zone: the same rows make the same bytes.
IN_UTC = "set local timezone to 'UTC'"

BEGIN = """
    insert into archives (tenant_id, archive_id, entity, school_id, since, cutoff, removes)
    values ($1, $2, $3, $4, case when not $6 then (
               select max(a.cutoff)::timestamp at time zone 'UTC' from archives a
                where a.tenant_id = $1 and a.entity = $3 and a.school_id is not distinct from $4 and not a.removes
                  and a.completed_at is not null and a.cutoff < $5) end, $5, $6)
    on conflict do nothing"""

ARCHIVE = "select * from archives where tenant_id = $1 and archive_id = $2"
PARTS = "select * from archive_parts where tenant_id = $1 and archive_id = $2 order by part"
COLUMNS = """
    select attname from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum"""

NOTE_PART = """
    insert into archive_parts (tenant_id, archive_id, part, object_key, sha256, size, row_count, last)
    values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing"""

COMPLETE = """
    update archives set row_count = $3, manifest_key = $4, manifest_sha256 = $5, manifest_size = $6, completed_at = $7
     where tenant_id = $1 and archive_id = $2 and completed_at is null"""

VERIFIED = """
    update archives set verified_at = coalesce(verified_at, $3) where tenant_id = $1 and archive_id = $2"""
MANIFEST_VERIFIED = "update archive_manifests set verified = true where tenant_id = $1 and archive_id = $2"

PART_REMOVED = """
    update archive_parts set removed_at = $4, removed_rows = $5
     where tenant_id = $1 and archive_id = $2 and part = $3"""
REMOVED = "update archives set removed_at = $3 where tenant_id = $1 and archive_id = $2"
PUT_BACK = """
    update archive_parts set removed_at = null, removed_rows = null where tenant_id = $1 and archive_id = $2"""

# A hold names a student, a kind of row, both, or neither, which is everything.
NOT_HELD = """
    not exists (select from legal_holds h where h.tenant_id = $1 and h.released_at is null
                   and coalesce(h.entity = '{entity}', true) and ({whose}))"""

READ = """
    select to_jsonb(t)::text as row from {table} t
     where t.tenant_id = $1 and t.{time} < $2 and ($3::timestamptz is null or t.{time} >= $3) and {school}
       and ($5::jsonb is null or t.{time} >= ($5->>'{time}')::timestamptz and ({order}) >
            (select {last} from jsonb_populate_record(null::{table}, $5) last)) and {not_held}
     order by {order} limit $6"""

REMOVE = """
    delete from {table} t
     using jsonb_array_elements($2::jsonb) a, jsonb_populate_record(null::{table}, a.value) r
     where t.tenant_id = $1 and r.tenant_id = $1 and {same} and to_jsonb(t) = a.value and {not_held}"""

RESTORE = """
    insert into {table} ({columns})
    select {columns} from jsonb_populate_recordset(null::{table}, $2::jsonb) r where r.tenant_id = $1
    on conflict do nothing"""


# Archive --------------------------------------------------------------------------------------------------------------


@on(ArchiveRows, transaction=False)
async def archive_rows(job: ArchiveRows, ctx: Context) -> dict[str, Any] | None:
    """Write the parts that are missing, then the manifest, then say so. Returns what the archive holds, at its end."""
    kind = entity_of(job.entity)
    if job.school_id is not None and kind.school is None:
        raise PermanentError(f"rows of {job.entity} do not name a school; archive all of them")
    tenant = ctx.tenant
    purpose = "remove" if job.remove else "keep"
    archive_id = derive_id(tenant, "archive", job.entity, job.school_id or "", job.cutoff, purpose)
    async with ctx.transaction() as db:
        await db.execute(BEGIN, tenant, archive_id, job.entity, job.school_id, job.cutoff, job.remove)
        archive = await db.fetchrow(ARCHIVE, tenant, archive_id)
        parts = await db.fetch(PARTS, tenant, archive_id)
    if archive["completed_at"] is None:
        written = len(parts)
        while await _write_part(ctx, job.entity, kind, archive, written):
            written += 1
            ctx.progress({"parts": written})
            if written >= len(parts) + PARTS_A_RUN:
                ctx.enqueue(job)  # the rest is for the next run
                return None
        archive = await _complete(ctx, job.entity, kind, archive)
        await failpoint("archive.completed")
    async with ctx.transaction() as db:
        parts = await db.fetch(PARTS, tenant, archive_id)
    ctx.publish(
        ArchiveCompleted(
            archive_id=archive_id, entity=job.entity, cutoff_date=job.cutoff, bucket=ctx.service(ObjectStore).bucket,
            storage_keys=[part["object_key"] for part in parts], row_count=archive["row_count"],
            sha256=archive["manifest_sha256"], manifest_key=archive["manifest_key"], verified=False,
        ),
        id=archive_id,
    )
    return {"archive_id": str(archive_id), "rows": archive["row_count"], "parts": len(parts)}


async def _write_part(ctx: Context, entity: str, kind: Archivable, archive: Any, written: int) -> bool:
    """One more part, behind what was written. False when no row is left for one."""
    tenant, archive_id = archive["tenant_id"], archive["archive_id"]
    until = datetime.combine(archive["cutoff"], time(), UTC)
    async with ctx.transaction() as db:
        await db.execute(IN_UTC)
        last = await db.fetchval(
            "select last::text from archive_parts where tenant_id = $1 and archive_id = $2 and part = $3",
            tenant, archive_id, written,
        )
        rows = await db.fetch(
            _reading(entity, kind), tenant, until, archive["since"], archive["school_id"], last, PART
        )
    if not rows:
        return False
    lines = [row["row"] for row in rows]
    body = write_part(lines)
    name = f"part-{written + 1:05}-{digest(body)[:12]}.jsonl.gz"
    stored = await ctx.service(ObjectStore).put(_key(archive, name), body, JSON_LINES)
    await failpoint("archive.part_written")
    async with ctx.transaction() as db:
        await db.execute(
            NOTE_PART, tenant, archive_id, written + 1, stored.key, stored.sha256, stored.size, len(lines), lines[-1]
        )
    await failpoint("archive.part_noted")
    return True


async def _complete(ctx: Context, entity: str, kind: Archivable, archive: Any) -> Any:
    tenant, archive_id = archive["tenant_id"], archive["archive_id"]
    async with ctx.transaction() as db:
        parts = await db.fetch(PARTS, tenant, archive_id)
        columns = [row["attname"] for row in await db.fetch(COLUMNS, kind.table)]
    manifest = Manifest(
        archive_id=str(archive_id), tenant=tenant, entity=entity, table=kind.table, columns=columns,
        since=archive["since"].isoformat() if archive["since"] else None, cutoff=archive["cutoff"].isoformat(),
        rows=sum(part["row_count"] for part in parts),
        parts=[Part(p["object_key"], p["sha256"], p["size"], p["row_count"]) for p in parts],
    )
    body = manifest.to_bytes()
    stored = await ctx.service(ObjectStore).put(
        _key(archive, f"manifest-{digest(body)[:12]}.json"), body, "application/json"
    )
    await failpoint("archive.manifest_written")
    async with ctx.transaction() as db:
        await db.execute(
            COMPLETE, tenant, archive_id, manifest.rows, stored.key, stored.sha256, stored.size, ctx.now
        )
        return await db.fetchrow(ARCHIVE, tenant, archive_id)


# Verify and remove ----------------------------------------------------------------------------------------------------


@on(VerifyAndDelete, transaction=False)
async def verify_and_delete(job: VerifyAndDelete, ctx: Context) -> dict[str, Any] | None:
    """Read every object back first: if one is not as it was written, nothing at all is deleted.

    Raises PermanentError for an archive that is damaged or incomplete: somebody must look.
    """
    tenant, store = ctx.tenant, ctx.service(ObjectStore)
    async with ctx.transaction() as db:
        archive = await db.fetchrow(ARCHIVE, tenant, job.archive_id)
        parts = await db.fetch(PARTS, tenant, job.archive_id)
    if archive is None or archive["completed_at"] is None:
        raise PermanentError("there is no completed archive of this id")
    if archive["verified_at"] is None:
        await _verify(store, archive, parts)
        async with ctx.transaction() as db:
            await db.execute(VERIFIED, tenant, job.archive_id, ctx.now)
    async with ctx.transaction() as db:
        await db.execute(MANIFEST_VERIFIED, tenant, job.archive_id)
    await failpoint("archive.verified")
    if not archive["removes"]:
        return {"verified": True, "removed": 0}
    kind = entity_of(archive["entity"])
    left = [part for part in parts if part["removed_at"] is None]
    for part in left[:PARTS_A_RUN]:
        lines = read_part(await _read(store, part))
        async with ctx.transaction() as db:
            await db.execute(IN_UTC)
            said = await db.execute(_removing(archive["entity"], kind), tenant, _array(lines))
            await failpoint("archive.deleted")
            await db.execute(
                PART_REMOVED, tenant, job.archive_id, part["part"], ctx.now, int(said.rsplit(" ", 1)[1])
            )
        await failpoint("archive.part_removed")
        ctx.progress({"part": part["part"], "of": len(parts)})
    if len(left) > PARTS_A_RUN:
        ctx.enqueue(job)
        return None
    async with ctx.transaction() as db:
        await db.execute(REMOVED, tenant, job.archive_id, ctx.now)
        parts = await db.fetch(PARTS, tenant, job.archive_id)
    removed = sum(part["removed_rows"] for part in parts)
    if stayed := archive["row_count"] - removed:
        ctx.note(f"{stayed} rows stay: they have changed since, are held, or had gone already")
    return {"verified": True, "removed": removed}


async def _verify(store: ObjectStore, archive: Any, parts: Sequence[Any]) -> None:
    manifest = Stored(archive["manifest_key"], archive["manifest_size"], archive["manifest_sha256"])
    try:
        said = read_manifest(await store.read(manifest))
    except (Missing, Damaged, ValueError) as error:
        raise PermanentError(f"the archive's manifest is not as it was written ({type(error).__name__})") from None
    if [(p.key, p.sha256, p.size, p.rows) for p in said.parts] != [
        (p["object_key"], p["sha256"], p["size"], p["row_count"]) for p in parts
    ]:
        raise PermanentError("the archive's manifest names other parts than the database")
    for part in parts:
        if len(read_part(await _read(store, part))) != part["row_count"]:
            raise PermanentError(f"part {part['part']} of the archive has another number of rows")


async def _read(store: ObjectStore, part: Any) -> bytes:
    try:
        return await store.read(Stored(part["object_key"], part["size"], part["sha256"]))
    except (Missing, Damaged) as error:
        raise PermanentError(
            f"part {part['part']} of the archive is not as it was written ({type(error).__name__})"
        ) from None


# Restore --------------------------------------------------------------------------------------------------------------


@on(RestoreArchive, transaction=False)
async def restore_archive(job: RestoreArchive, ctx: Context) -> dict[str, int]:
    """Put rows back that are missing; those that are there stay as they are. Returns how many came back.

    The archive's rows may be removed again afterwards by another order to verify and delete it.
    """
    store = ctx.service(ObjectStore)
    async with ctx.transaction() as db:
        archive = await db.fetchrow(ARCHIVE, ctx.tenant, job.archive_id)
    if archive is None or archive["completed_at"] is None:
        raise PermanentError("there is no completed archive of this id")
    written = Stored(archive["manifest_key"], archive["manifest_size"], archive["manifest_sha256"])
    manifest = read_manifest(await store.read(written))
    restored = 0
    for part in manifest.parts:
        lines = read_part(await store.read(Stored(part.key, part.size, part.sha256)))
        async with ctx.transaction() as db:
            restored += await restore_rows(db, ctx.tenant, manifest, lines)
    async with ctx.transaction() as db:
        await db.execute(PUT_BACK, ctx.tenant, job.archive_id)
        await db.execute(REMOVED, ctx.tenant, job.archive_id, None)
    return {"restored": restored}


async def restore_rows(db: Database, tenant: str, manifest: Manifest, lines: Sequence[str]) -> int:
    """Insert archived rows of this tenant that are missing. Columns added since then get their defaults.

    Raises PermanentError when a column of the archive is gone: its values would be lost without a word.
    """
    kind = entity_of(manifest.entity)
    known = {row["attname"] for row in await db.fetch(COLUMNS, kind.table)}
    if gone := sorted(set(manifest.columns) - known):
        raise PermanentError(f"{kind.table} has no column {gone[0]} any more; restore it from the archive's files")
    await db.execute(IN_UTC)
    columns = ", ".join(f'"{column}"' for column in manifest.columns)
    said = await db.execute(RESTORE.format(table=kind.table, columns=columns), tenant, _array(lines))
    return int(said.rsplit(" ", 1)[1])


# Statements -----------------------------------------------------------------------------------------------------------


def entity_of(name: str) -> Archivable:
    """Raises PermanentError for a kind of rows that is not archived."""
    if name not in ENTITIES:
        raise PermanentError("there is no archive for this kind of rows in this version")
    return ENTITIES[name]


def _reading(entity: str, kind: Archivable) -> str:
    order = (kind.time, *(column for column in kind.key if column != kind.time))
    return READ.format(
        table=kind.table, time=kind.time, order=", ".join(f"t.{c}" for c in order),
        last=", ".join(f"last.{c}" for c in order), not_held=_not_held(entity, kind),
        school=f"($4::uuid is null or t.{kind.school} = $4)" if kind.school else "$4::uuid is null",
    )


def _removing(entity: str, kind: Archivable) -> str:
    same = " and ".join(f"t.{column} = r.{column}" for column in kind.key)
    return REMOVE.format(table=kind.table, same=same, not_held=_not_held(entity, kind))


def _not_held(entity: str, kind: Archivable) -> str:
    whose = "true" if kind.student is None else (  # of a row that names nobody, nobody knows whom it is about
        f"h.student_id is null or t.{kind.student} is null or h.student_id = t.{kind.student}"
    )
    return NOT_HELD.format(entity=entity, whose=whose)


def _key(archive: Any, name: str) -> str:
    facts = (archive[part] for part in ("tenant_id", "entity", "cutoff", "archive_id"))
    return object_key("archive", *facts, name)


def _array(lines: Sequence[str]) -> str:
    return "[" + ",".join(lines) + "]"
