"""What the tests of archives talk about; run as a program, the process that a fault test kills.

    python -m tests.queues.archiving DSN S3_URL BUCKET     runs due jobs until none is left, with SKILLCORE_FAILPOINTS
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from datetime import UTC, date, datetime
from uuid import UUID

from skillcore_streams import events, handlers, queues
from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.adapters.s3 import S3Store
from skillcore_streams.queues import data_archival
from skillcore_streams.runtime import failpoints
from skillcore_streams.runtime.jobs import door, insert
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.messages import Job, derive_id
from skillcore_streams.runtime.objects import ObjectStore
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.testing import NOW, TENANT, HandlerLab

OLD = datetime(2014, 3, 1, 8, tzinfo=UTC)
CUTOFF = date(2015, 1, 1)

# Names and reasons that a careless reader would trip over.
FILL = r"""
    insert into attendance_audit (tenant_id, student_id, attendance_id, corrected_at, day, old_code, new_code,
                                  new_category, reason, corrected_by, event_key)
    select $1, md5('student' || n % 7)::uuid, md5('attendance' || n)::uuid, $2::timestamptz + n * interval '1 hour 7 s',
           ($2::timestamptz + n * interval '1 hour')::date, 'AU', 'P', 'present',
           E'{"a": "b\\n"} \n \t ''; drop table x -- é 中 ' || n, md5('staff')::uuid, md5('event' || n)::uuid
      from generate_series(1, $3) n"""

ROWS = "select to_jsonb(a)::text as row from attendance_audit a order by 1"


def student(n: int) -> UUID:
    """One of the seven."""
    return UUID(hashlib.md5(f"student{n}".encode()).hexdigest())


async def fill(lab: HandlerLab, rows: int = 60, *, tenant: str = TENANT, since: datetime = OLD) -> list[str]:
    """Old rows of the audit of attendance. Returns all there are, as they stand."""
    await lab.execute(FILL, tenant, since, rows)
    return [row["row"] for row in await lab.rows(ROWS)]


async def put_in_line(lab: HandlerLab, job: Job) -> None:
    """Order a job, as a record of its topic would."""
    queue = job.__queue__
    meta = door.job_meta(TENANT, queue, str(derive_id(job.model_dump_json())), lab.now)
    async with lab.transaction() as db:
        data = json.loads(job.model_dump_json())
        await insert(db, [door.order(queue, job.__kind__, data, door.JobOptions(), meta)])


async def main(dsn: str, url: str, bucket: str) -> None:
    for package in (events, queues, handlers):
        package.load()
    data_archival.PART = 10
    failpoints.arm(os.environ.get("FAILPOINTS", ""))
    postgres = Postgres(dsn, name="to be killed")
    store = S3Store(bucket, url=url, access_key="x", secret_key="x")
    runner = Runner(
        postgres.transaction, REGISTRY, lambda: NOW, "victim", services={ObjectStore: store},
        queues=["data-archival"],
    )
    while await runner.run_due():
        pass
    await store.close()
    await postgres.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
