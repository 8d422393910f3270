"""Named points where a fault test may end, freeze or disturb the process. Free when off: one empty dict.

Armed by `SKILLCORE_FAILPOINTS`, for example `chunk.before_commit=kill:3,outbox.sent=hold`: the third time a worker is
about to commit it dies by kill -9; each time an outbox batch was sent it waits a second.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from skillcore_streams.runtime.errors import Infrastructure, Misconfigured

POINTS = {  # every point, in the order in which a message meets them
    "assign.before_seek": "a partition is ours, its offset is not read yet",
    "assign.after_seek": "the read position is Postgres' next_offset",
    "revoke.start": "partitions are about to leave us, chunks may be in flight",
    "revoke.settled": "what was in flight is done or rolled back",
    "chunk.received": "a chunk was delivered, nothing is open",
    "chunk.claimed": "the claim of the partition is recorded",
    "chunk.fenced": "next_offset is moved, uncommitted",
    "chunk.admitted": "inbox and event store are written, uncommitted",
    "chunk.handler": "a handler has run, uncommitted",
    "chunk.flushed": "outbox, jobs and dead letters are written, uncommitted",
    "chunk.committed": "committed, not yet acked to Faust",
    "second_pass.savepoint": "a call of the second pass is about to run",
    "second_pass.failed": "a failing call was isolated",
    "suspect.noted": "the one record under suspicion is about to be tried",
    "outbox.leased": "a lane is ours",
    "outbox.sent": "rows are acknowledged by Kafka, not yet marked",
    "outbox.marked": "rows are marked published",
    "table.received": "a chunk of a table's inputs was delivered",
    "table.changelog_sent": "its new values are acknowledged by Kafka, ours are still the old ones",
    "table.before_ack": "the table has them, the inputs are not acked",
    "job.claimed": "a start is recorded, the work has not begun",
    "job.alone": "a suspect is leased with nothing beside it, the work has not begun",
    "job.ran": "the work is done, uncommitted",
    "job.committed": "work and completion are committed",
    "job.ended": "the ends of jobs outside a transaction are written, uncommitted",
    "job.failed": "a failed start is charged and back in line, uncommitted",
    "job.buried": "a job is a dead letter, uncommitted",
    "job.released": "an interrupted job is back in line uncharged, uncommitted",
    "job.promoted": "what came due is in line, uncommitted",
    "reap.lost": "what a lost process had is under suspicion or charged, uncommitted",
    "reap.committed": "it is committed, nobody was told",
    "delivery.sending": "a delivery is committed as being sent, the provider is not called yet",
    "delivery.answered": "a provider has answered, nothing is noted yet",
    "delivery.noted": "a provider's answer is committed, the job is not",
    "report.rendered": "a report is made, nothing is stored",
    "report.stored": "its file is in the store, no row knows it",
    "report.noted": "its row is committed, the job is not ended",
    "archive.part_written": "a part is in the store, no row knows it",
    "archive.part_noted": "the part's row is committed",
    "archive.manifest_written": "the manifest is in the store, the archive is not completed",
    "archive.completed": "the archive is completed, ArchiveCompleted is not out",
    "archive.verified": "every object was found as it was written, nothing is deleted",
    "archive.deleted": "rows of a part are deleted, uncommitted",
    "archive.part_removed": "the deletion of a part's rows is committed",
}
ACTIONS = {"kill", "freeze", "hold", "fail"}

_armed: dict[str, tuple[str, int]] = {}
_hits: Counter[str] = Counter()
_log: Path | None = None


def arm(spec: str, log: Path | None = None) -> None:
    """Parse and arm `point=action[:nth]`, separated by commas. Raises Misconfigured for an unknown point or action."""
    global _log
    _armed.clear()
    _hits.clear()
    _log = log
    for item in filter(None, spec.split(",")):
        point, _, rest = item.partition("=")
        action, _, nth = rest.partition(":")
        if point not in POINTS or action not in ACTIONS or not (nth or "1").isdigit():
            raise Misconfigured(
                f"failpoint {item!r}: write point=action[:nth] with a point of {', '.join(POINTS)} "
                f"and an action of {', '.join(sorted(ACTIONS))}"
            )
        _armed[point] = action, int(nth or 1)


async def failpoint(point: str) -> None:
    """Do what is armed for `point`, at its nth visit."""
    if not _armed:
        return
    plan = _armed.get(point)
    if plan is None:
        return
    action, nth = plan
    _hits[point] += 1
    if _hits[point] != nth:
        return
    if _log is not None:  # the proof that the fault bit, for tests
        fd = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, f"{point}={action} {os.getpid()}\n".encode())
        os.close(fd)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "hold":
        await asyncio.sleep(1.0)
    elif action == "fail":
        raise Infrastructure(f"failpoint {point}")
