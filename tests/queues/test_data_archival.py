"""Archives: what left can be read and comes back; nothing leaves before it is there; nothing that is held leaves."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from moto.server import ThreadedMotoServer

from skillcore_streams.adapters.s3 import S3Store
from skillcore_streams.events.resources import ArchiveCompleted
from skillcore_streams.queues import data_archival
from skillcore_streams.queues.data_archival import (
    ENTITIES,
    ArchiveRows,
    RestoreArchive,
    VerifyAndDelete,
    archive_rows,
    restore_archive,
    verify_and_delete,
)
from skillcore_streams.rules.archives import read_manifest, write_part
from skillcore_streams.runtime import PermanentError, derive_id, failpoints
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.failpoints import POINTS
from skillcore_streams.runtime.objects import ObjectStore, StoreError
from skillcore_streams.testing import TENANT, HandlerLab, MemoryStore, given
from tests.queues.archiving import CUTOFF, FILL, OLD, ROWS, fill, put_in_line, student

ARCHIVE_ID = derive_id(TENANT, "archive", "attendance_audit", "", CUTOFF, "remove")
ORDER = ArchiveRows(entity="attendance_audit", cutoff=CUTOFF, remove=True)
ON_THE_WAY = [point for point in POINTS if point.startswith("archive.")]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_archival, "PART", 10)


def store_of(lab: HandlerLab) -> MemoryStore:
    store = lab.services[ObjectStore]
    assert isinstance(store, MemoryStore)
    return store


async def rows_of(lab: HandlerLab) -> list[str]:
    return [row["row"] for row in await lab.rows(ROWS)]


def archived(lab: HandlerLab) -> list[str]:
    """All rows in the store, read as any tool would."""
    parts = [body for key, body in sorted(store_of(lab).objects.items()) if key.endswith(".jsonl.gz")]
    return [line for part in parts for line in gzip.decompress(part).decode().splitlines()]


async def archive(lab: HandlerLab, order: ArchiveRows = ORDER) -> ArchiveCompleted:
    done = await lab.run(archive_rows, order)
    [event] = done.published
    assert isinstance(event, ArchiveCompleted)
    return event


async def remove(lab: HandlerLab, id: UUID = ARCHIVE_ID) -> None:
    await lab.run(verify_and_delete, VerifyAndDelete(archive_id=id))


# The way --------------------------------------------------------------------------------------------------------------


async def test_old_rows_are_archived_verified_and_deleted_and_young_ones_stay(lab: HandlerLab) -> None:
    old = await fill(lab, 57)
    await lab.execute(FILL, TENANT, datetime(2022, 1, 1, tzinfo=OLD.tzinfo), 3)
    everything = await rows_of(lab)

    await put_in_line(lab, ORDER)
    await lab.settle()

    assert sorted(archived(lab)) == old
    assert await rows_of(lab) == sorted(set(everything) - set(old))
    [row] = await lab.rows("select row_count, verified_at, removed_at from archives")
    assert row["row_count"] == 57
    assert None not in row.values()
    assert await lab.rows("select verified, row_count, storage_keys[1] as first from archive_manifests") == [
        {"verified": True, "row_count": 57, "first": min(k for k in store_of(lab).objects if "part-" in k)}
    ]


async def test_an_archive_says_what_it_is_without_the_database(lab: HandlerLab) -> None:
    await fill(lab, 25)

    event = await archive(lab)

    manifest = read_manifest(store_of(lab).objects[event.manifest_key])
    assert (manifest.entity, manifest.table, manifest.rows, len(manifest.parts)) == (
        "attendance_audit", "attendance_audit", 25, 3,
    )
    assert "corrected_at" in manifest.columns
    assert event.row_count == 25
    assert event.storage_keys == [part.key for part in manifest.parts]
    assert event.verified is False
    assert all(key.startswith(f"archive/{TENANT}/attendance_audit/2015-01-01/") for key in event.storage_keys)


async def test_restoring_brings_back_what_was_deleted_to_the_last_bit(lab: HandlerLab) -> None:
    before = await fill(lab, 33)
    await archive(lab)
    await remove(lab)
    assert await rows_of(lab) == []

    await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))

    assert await rows_of(lab) == before


async def test_restoring_leaves_rows_alone_that_are_there_and_may_be_undone(lab: HandlerLab) -> None:
    before = await fill(lab, 12)
    await archive(lab)
    await remove(lab)
    await lab.execute(FILL, TENANT, OLD, 5)
    await lab.execute("update attendance_audit set reason = 'another'")

    await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))

    now = await rows_of(lab)
    assert len(now) == 12
    assert len(set(now) & set(before)) == 7
    await remove(lab)
    assert len(await rows_of(lab)) == 5


async def test_a_second_month_archives_what_has_become_old_since(lab: HandlerLab) -> None:
    await fill(lab, 20)
    await archive(lab)
    await remove(lab)
    await lab.execute(FILL, TENANT, OLD + timedelta(days=400), 5)

    event = await archive(lab, ORDER.model_copy(update={"cutoff": date(2016, 1, 1)}))

    assert event.row_count == 5
    assert event.archive_id != ARCHIVE_ID


async def test_rows_that_stay_are_archived_once(lab: HandlerLab) -> None:
    rows = await fill(lab, 15)
    keep = ORDER.model_copy(update={"remove": False})
    first = await archive(lab, keep)
    await remove(lab, first.archive_id)
    await lab.execute(FILL, TENANT, OLD + timedelta(days=400), 4)

    second = await archive(lab, keep.model_copy(update={"cutoff": date(2016, 1, 1)}))

    assert (first.row_count, second.row_count) == (15, 4)
    assert set(rows) < set(await rows_of(lab))
    [state] = await lab.rows("select verified_at, removed_at from archives where archive_id = $1", first.archive_id)
    assert (state["verified_at"] is not None, state["removed_at"]) == (True, None)


async def test_an_archive_of_nothing_is_an_archive(lab: HandlerLab) -> None:
    event = await archive(lab)
    await remove(lab)

    assert (event.row_count, event.storage_keys) == (0, [])


async def test_a_large_archive_is_made_and_removed_in_several_runs(
    lab: HandlerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_archival, "PARTS_A_RUN", 2)
    old = await fill(lab, 75)

    await put_in_line(lab, ORDER)
    await lab.settle()

    assert sorted(archived(lab)) == old
    assert await rows_of(lab) == []
    assert await lab.value("select count(*) from job where kind = 'archive'") == 5  # the last one finds no more rows
    assert await lab.value("select count(*) from job where kind = 'verify_and_delete'") == 4


async def test_the_same_rows_make_the_same_objects_whatever_the_session_s_zone(lab: HandlerLab) -> None:
    await fill(lab, 25)
    await archive(lab)
    first = dict(store_of(lab).objects)
    await lab.execute("delete from archive_parts")
    await lab.execute("delete from archives")
    await lab.execute("set timezone to 'Asia/Kathmandu'")

    await archive(lab)

    assert store_of(lab).objects == first


async def test_rows_of_another_tenant_stay_where_they_are(lab: HandlerLab) -> None:
    theirs = await fill(lab, 12, tenant="elsewhere")
    await fill(lab, 12)

    await archive(lab)
    await remove(lab)

    assert await rows_of(lab) == theirs
    with pytest.raises(PermanentError, match="no completed archive"):
        await lab.run(restore_archive, given(RestoreArchive(archive_id=ARCHIVE_ID), tenant="elsewhere"))


@pytest.mark.parametrize("entity", sorted(ENTITIES))
async def test_every_kind_of_rows_names_a_table_its_key_and_its_columns_as_they_are(
    lab: HandlerLab, entity: str
) -> None:
    kind = ENTITIES[entity]
    key = await lab.rows("""
        select a.attname from pg_index i, unnest(i.indkey) with ordinality k (attnum, n)
          join pg_attribute a on a.attnum = k.attnum
         where i.indrelid = $1::regclass and i.indisprimary and a.attrelid = i.indrelid order by k.n""", kind.table)
    indexed = await lab.rows("select indexdef from pg_indexes where tablename = $1", kind.table)

    assert [row["attname"] for row in key] == ["tenant_id", *kind.key]
    assert any(f"(tenant_id, {kind.time})" in row["indexdef"] for row in indexed)
    await archive(lab, ArchiveRows(entity=entity, cutoff=CUTOFF, remove=True))


# Nothing leaves before it is there ------------------------------------------------------------------------------------


async def damage_nothing_is_deleted(lab: HandlerLab, reason: str) -> None:
    before = await rows_of(lab)
    with pytest.raises(PermanentError, match=reason):
        await remove(lab)
    assert await rows_of(lab) == before
    assert await lab.value("select verified_at from archives") is None


@pytest.mark.parametrize("which", ["part-00001", "part-00003", "manifest"])
async def test_an_object_that_is_gone_stops_all_deletion(lab: HandlerLab, which: str) -> None:
    await fill(lab, 25)
    await archive(lab)
    [key] = [k for k in store_of(lab).objects if which in k]
    del store_of(lab).objects[key]

    await damage_nothing_is_deleted(lab, r"is not as it was written \(Missing\)")


@pytest.mark.parametrize("which", ["part-00001", "part-00003", "manifest"])
async def test_an_object_with_another_byte_stops_all_deletion(lab: HandlerLab, which: str) -> None:
    await fill(lab, 25)
    await archive(lab)
    [key] = [k for k in store_of(lab).objects if which in k]
    body = store_of(lab).objects[key]
    store_of(lab).objects[key] = body[:-1] + bytes([body[-1] ^ 1])

    await damage_nothing_is_deleted(lab, r"is not as it was written \(Damaged\)")


async def test_a_manifest_that_names_other_parts_stops_all_deletion(lab: HandlerLab) -> None:
    await fill(lab, 25)
    await archive(lab)
    await lab.execute("delete from archive_parts where part = 2")

    await damage_nothing_is_deleted(lab, "names other parts")


async def test_an_archive_that_is_not_complete_deletes_nothing(lab: HandlerLab) -> None:
    await fill(lab, 25)
    failpoints.arm("archive.manifest_written=fail")
    try:
        with pytest.raises(Infrastructure):
            await archive(lab)
    finally:
        failpoints.arm("")

    with pytest.raises(PermanentError, match="no completed archive"):
        await remove(lab)
    assert len(await rows_of(lab)) == 25


async def test_a_row_that_has_changed_since_stays_and_its_neighbours_go(lab: HandlerLab) -> None:
    await fill(lab, 25)
    await archive(lab)
    await lab.execute("update attendance_audit set reason = 'other words' where event_key = md5('event7')::uuid")

    await remove(lab)

    [left] = await rows_of(lab)
    assert json.loads(left)["reason"] == "other words"
    assert "1 rows stay" in lab.notes[-1]
    assert await lab.value("select removed_rows from archive_parts where part = 1") == 9


async def test_a_store_that_is_away_is_tried_again_and_nothing_is_lost(lab: HandlerLab) -> None:
    old = await fill(lab, 25)
    store_of(lab).failing = 1
    with pytest.raises(StoreError):
        await archive(lab)
    await archive(lab)
    store_of(lab).failing = 1
    with pytest.raises(StoreError):
        await remove(lab)
    assert await rows_of(lab) == old

    await remove(lab)

    assert sorted(archived(lab)) == old
    assert await rows_of(lab) == []


# Nothing that is held leaves ------------------------------------------------------------------------------------------

HOLD = "insert into legal_holds values ($1, gen_random_uuid(), $2, $3, 'a request to inspect', now(), null)"


@pytest.mark.parametrize(("whom", "what", "stay"), [
    (student(3), None, 3), (student(3), "attendance_audit", 3), (None, "attendance_audit", 25), (None, None, 25),
    (student(3), "grade_audit", 0), (student(99), None, 0), (None, "grade_audit", 0),
])  # fmt: skip
@pytest.mark.parametrize("when", ["before the archive", "before the deletion"])
async def test_rows_that_a_hold_names_stay(
    lab: HandlerLab, whom: UUID | None, what: str | None, stay: int, when: str
) -> None:
    await fill(lab, 25)
    if when == "before the archive":
        await lab.execute(HOLD, TENANT, whom, what)
    event = await archive(lab)
    if when == "before the deletion":
        await lab.execute(HOLD, TENANT, whom, what)

    await remove(lab)

    left = await rows_of(lab)
    assert len(left) in ((stay, stay + 1) if stay == 3 else (stay,))
    assert event.row_count == (25 - len(left) if when == "before the archive" else 25)
    if whom is not None and left:
        assert {json.loads(row)["student_id"] for row in left} == {str(whom)}


async def test_a_hold_of_another_tenant_and_one_released_hold_nothing(lab: HandlerLab) -> None:
    await fill(lab, 12)
    await lab.execute(HOLD, "elsewhere", None, None)
    await lab.execute(HOLD, TENANT, None, None)
    await lab.execute("update legal_holds set released_at = now() where tenant_id = $1", TENANT)

    await archive(lab)
    await remove(lab)

    assert await rows_of(lab) == []


async def test_a_row_that_names_nobody_stays_while_anybody_is_held(lab: HandlerLab) -> None:
    access = """insert into ferpa_access_log (tenant_id, access_id, student_id, actor_id, actor_role, record_type,
                                              accessed_at) values ($1, gen_random_uuid(), $2, $3, 'teacher', 'x', $4)"""
    for whom in (None, student(1), student(2)):
        await lab.execute(access, TENANT, whom, student(5), OLD)
    await lab.execute(HOLD, TENANT, student(1), None)

    event = await archive(lab, ArchiveRows(entity="access_log", cutoff=CUTOFF, remove=True))
    await remove(lab, event.archive_id)

    left = await lab.rows("select student_id from ferpa_access_log")
    assert {row["student_id"] for row in left} == {None, student(1)}


# Refused --------------------------------------------------------------------------------------------------------------


async def test_rows_of_an_unknown_kind_or_of_a_school_that_they_do_not_name_are_refused(lab: HandlerLab) -> None:
    with pytest.raises(PermanentError, match="there is no archive for this kind of rows"):
        await archive(lab, ORDER.model_copy(update={"entity": "users; drop table users"}))
    with pytest.raises(PermanentError, match="do not name a school"):
        await archive(lab, ORDER.model_copy(update={"school_id": student(1)}))


async def test_a_column_that_is_gone_stops_the_restore_and_a_new_one_gets_its_default(lab: HandlerLab) -> None:
    await fill(lab, 5)
    await archive(lab)
    await remove(lab)
    await lab.execute("alter table attendance_audit add column seen boolean not null default true")

    await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))

    assert await lab.value("select bool_and(seen) from attendance_audit") is True
    await lab.execute("alter table attendance_audit drop column reason")
    with pytest.raises(PermanentError, match="attendance_audit has no column reason any more"):
        await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))


# Killed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", ON_THE_WAY)
async def test_an_archive_that_is_interrupted_anywhere_loses_and_repeats_nothing(
    lab: HandlerLab, point: str, nth: int
) -> None:
    old = await fill(lab, 25)
    failpoints.arm(f"{point}=fail:{nth}")
    try:
        for step in (archive, remove):
            for _ in range(3):
                try:
                    await step(lab)
                    break
                except Infrastructure:
                    here = set(await rows_of(lab))
                    assert here | set(archived(lab)) == set(old)
    finally:
        failpoints.arm("")

    assert await rows_of(lab) == []
    assert sorted(archived(lab)) == old  # each row once, although parts were written twice
    await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))
    assert await rows_of(lab) == old


@pytest.mark.parametrize("point", ON_THE_WAY)
async def test_a_process_that_is_killed_anywhere_is_followed_by_one_that_ends_the_work(
    concurrent_lab: HandlerLab, s3: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = concurrent_lab
    old = await fill(lab, 25)
    bucket = point.replace(".", "-").replace("_", "-")
    store = S3Store(bucket, url=s3, access_key="x", secret_key="x")
    await (await store._connected()).create_bucket(Bucket=bucket)
    dsn = await lab.value("""select 'postgresql://skillcore@127.0.0.1:' || current_setting('port') || '/'
                                    || current_database()""")
    await put_in_line(lab, ORDER)
    try:
        assert await run(dsn, s3, bucket, f"{point}=kill", needs=lab) == -9
        lab.services[ObjectStore] = store
        for _ in range(2):
            await lab.execute("delete from attempt")
            await freed(lab)
            await lab.settle()
        assert await rows_of(lab) == []
        await lab.run(restore_archive, RestoreArchive(archive_id=ARCHIVE_ID))
        assert await rows_of(lab) == old
    finally:
        await store.close()


async def run(dsn: str, s3: str, bucket: str, failpoint: str, needs: HandlerLab) -> int:
    """A process that runs what is due and dies at the point. Its exit code."""
    for _ in range(2):  # the point of the second job is reached when the event of the first has come back
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.queues.archiving", dsn, s3, bucket,
            env=os.environ | {"FAILPOINTS": failpoint}, cwd=Path(__file__).parents[2],
        )
        code = await process.wait()
        if code != 0:
            return code
        await needs.deliver_published()
    return 0


async def freed(lab: HandlerLab) -> None:
    """What the dead process had is put back in line, as the reaper does when its heartbeat is gone."""
    await lab.execute("""
        with gone as (delete from lease returning *)
        insert into later (job_id, queue, priority, run_at, flow, attempts)
        select job_id, queue, priority, now(), flow, attempts from gone""")


def test_the_writer_of_parts_is_the_one_that_is_read_here() -> None:
    assert gzip.decompress(write_part(["{}"])) == b"{}\n"
