"""Dead letters: what the old system's `<queue>-dlq` workers did. Log them, tell operations, archive them for analysis.

Nobody enqueues a job a letter: a flood would double itself. The letters say themselves whether somebody was told
(`dead_letter.notice`), and the reaper orders one job for all new letters of a cause, at most every quarter of an hour.
An alert does not wait in notification-delivery: it may be about that queue.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from skillcore_streams.queues.notification_delivery import PageOnCall, page_on_call
from skillcore_streams.runtime import Context, Job, Queue, on
from skillcore_streams.runtime.objects import ObjectStore

queue = Queue("dead-letters", concurrency=2, timeout=timedelta(minutes=5), internal=True)

PART = 8 << 20
"""Bytes of one object of the archive before compression, about."""

PAGE = 50

LOUD = 50
"""More open letters of one cause than this are critical: the seed's alert threshold."""


class DeadLettered(Job, queue=queue, kind="dead_lettered"):
    """New dead letters of one cause. Their `notice` is this job's id; `dead_letter_id` is the first of them."""

    dead_letter_id: UUID


class ArchiveLetters(Job, queue=queue, kind="archive_letters"):
    """Keep the letters of a notice, whole, for analysis."""

    notice: UUID


class TellOperations(PageOnCall, queue=queue, kind="tell_operations"):
    """An alert for whoever is on call, as notification-delivery gives it, but from this queue."""


SUMMARY = """
    select d.kind, coalesce(d.handler, d.queue, d.topic, 'unknown') as source, d.queue, d.reason, d.fingerprint,
           d.job_id, jsonb_array_length(d.attempts) as attempts, of_all.letters,
           (select count(*) from dead_letter o where o.status = 'open' and o.fingerprint = d.fingerprint) as open
      from dead_letter d,
           (select count(*) as letters from dead_letter where notice = $2) of_all
     where d.id = $1"""

LETTERS = """
    select id, tenant_id, kind, handler, queue, job_id, event_key, fingerprint, reason, attempts, first_at, last_at,
           topic, partition, record_offset, key, headers, value
      from dead_letter where notice = $1 and id > $2 order by id limit $3"""


@on(DeadLettered)
async def dead_lettered(job: DeadLettered, ctx: Context) -> dict[str, object]:
    """Log them; to tell operations and to archive are jobs of their own: neither waits for the other's outage."""
    notice = ctx.meta.key
    letter = await ctx.db.fetchrow(SUMMARY, job.dead_letter_id, notice)
    if letter is None:
        ctx.note("the letters are gone: retention was faster")
        return {"letters": 0}
    summary = f"{letter['letters']} dead letters of {letter['source']}: {letter['reason']}"
    ctx.log.error("%s (%s, fingerprint %s)", summary, letter["kind"], letter["fingerprint"])
    ctx.note(summary)
    if letter["queue"] == queue.name:
        ctx.note("they are of this very queue: no alert about an alert that could not be given")
        return {"letters": letter["letters"]}
    ctx.enqueue(ArchiveLetters(notice=notice))
    look = f"skillcore dead-letters list --fingerprint {letter['fingerprint']}"
    tried = f" after {letter['attempts']} attempts" if letter["attempts"] else ""
    ctx.enqueue(TellOperations(
        dedup_key=f"dead-letters/{letter['fingerprint']}",
        summary=f"{letter['letters']} dead letters of {letter['source']}{tried}: {letter['reason'][:700]}. {look}",
        severity="critical" if letter["open"] > LOUD else "error",
        source=letter["source"][:255],
    ))  # fmt: skip
    return {"letters": letter["letters"]}


@on(TellOperations, transaction=False)
async def tell_operations(job: TellOperations, ctx: Context) -> object:
    """Tell whoever is on call; the incident's key makes repeats one."""
    return await page_on_call(job, ctx)


@on(ArchiveLetters, transaction=False)
async def archive_letters(job: ArchiveLetters, ctx: Context) -> dict[str, object]:
    """The letters as gzip JSON lines, in parts of some megabytes. A repeat writes the same objects again."""
    try:
        store = ctx.service(ObjectStore)
    except LookupError:
        ctx.note("not archived: no store is configured")
        return {"objects": []}
    objects: list[str] = []
    lines: list[bytes] = []
    last = UUID(int=0)
    while True:
        async with ctx.transaction() as db:
            rows = await db.fetch(LETTERS, job.notice, last, PAGE)
        for row in rows:
            last = row["id"]
            lines.append(json.dumps(_plain(row), default=str, sort_keys=True).encode() + b"\n")
        if lines and (len(rows) < PAGE or sum(map(len, lines)) >= PART):
            objects.append(await _put(store, len(objects), lines, job, ctx))
            lines = []
        if len(rows) < PAGE:
            return {"objects": objects}


async def _put(store: ObjectStore, part: int, lines: Sequence[bytes], job: ArchiveLetters, ctx: Context) -> str:
    body = gzip.compress(b"".join(lines), mtime=0)
    key = f"dead-letters/{ctx.meta.time:%Y/%m/%d}/{job.notice}/{part:05d}-{sha256(body).hexdigest()[:12]}.jsonl.gz"
    await store.put(key, body, "application/gzip")
    ctx.note(f"{len(lines)} letters are in {key}")
    return key


def _plain(row: Any) -> dict[str, Any]:
    """Everything Kafka held of it: bytes as base64, since nothing about them can be taken for granted."""
    letter = dict(row)
    for name in ("key", "value"):
        letter[name] = None if letter[name] is None else b64encode(letter[name]).decode()
    return letter | {name: json.loads(letter[name]) if letter[name] else None for name in ("attempts", "headers")}
