"""The same script of adds and failures, played by a real BullMQ and by us: same order, same times of runs.

Where we differ on purpose, `DIFFERENT` says so and the test shows both.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.runtime import Context, Job, PermanentError, Queue
from skillcore_streams.runtime.core import utc_now
from skillcore_streams.runtime.jobs import insert
from skillcore_streams.runtime.jobs.door import JobOptions, job_meta, order
from skillcore_streams.runtime.jobs.runner import Runner
from skillcore_streams.runtime.registry import Handler, Registry
from skillcore_streams.testing import migrated

HERE = Path(__file__).parent
OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")

SECONDS = 6.0
"""How long a script is played."""

CLOSE = 750
"""Milliseconds by which two waits may differ and be the same: other things go on on this machine, and the waits of the
scripts differ by more."""

Step = dict[str, Any]

SCRIPTS: dict[str, list[Step]] = {
    "priorities": [
        {"n": n, "opts": {"priority": p}} for n, p in enumerate([10, 1, 0, 5, 1, 2_097_151, 0, 10])
    ],
    "no-priority-is-first": [{"n": 0, "opts": {"priority": 1}}, {"n": 1}, {"n": 2, "opts": {"priority": 0}}],
    "exponential": [{"n": 1, "fails": 3, "opts": {"attempts": 4, "backoff": {"type": "exponential", "delay": 600}}}],
    "fixed": [{"n": 1, "fails": 3, "opts": {"attempts": 4, "backoff": {"type": "fixed", "delay": 800}}}],
    "fixed-as-a-number": [{"n": 1, "fails": 2, "opts": {"attempts": 3, "backoff": 700}}],
    "attempts-are-total-tries": [{"n": 1, "fails": 9, "opts": {"attempts": 2, "backoff": 500}}],
    "one-attempt": [{"n": 1, "fails": 9, "opts": {"attempts": 1}}],
    "a-retry-without-a-wait-goes-to-the-tail": [
        {"n": 1, "fails": 1, "opts": {"attempts": 3, "backoff": 0}}, {"n": 2}, {"n": 3},
    ],
    "a-retry-keeps-its-priority-behind-its-equals": [
        {"n": 1, "fails": 1, "opts": {"attempts": 2, "backoff": 0, "priority": 5}},
        {"n": 2, "opts": {"priority": 5}}, {"n": 3, "opts": {"priority": 9}},
    ],
    "unrecoverable": [{"n": 1, "fatal": True, "opts": {"attempts": 5, "backoff": 300}}, {"n": 2}],
    "delayed": [{"n": 1, "opts": {"delay": 2000}}, {"n": 2, "opts": {"delay": 1000}}, {"n": 3}],
    "one-job-an-id": [
        {"n": 1, "opts": {"jobId": "a"}}, {"n": 2, "opts": {"jobId": "a"}}, {"n": 3, "opts": {"jobId": "b"}},
        {"n": 4, "after": 1500, "opts": {"jobId": "a"}},
    ],
    "deduplicated-until-it-has-ended": [
        {"n": 1, "opts": {"deduplication": {"id": "d"}}}, {"n": 2, "opts": {"deduplication": {"id": "d"}}},
        {"n": 3, "after": 1500, "opts": {"deduplication": {"id": "d"}}},
    ],
    "throttled": [
        {"n": 1, "opts": {"deduplication": {"id": "d", "ttl": 2500}}},
        {"n": 2, "after": 1000, "opts": {"deduplication": {"id": "d", "ttl": 2500}}},
        {"n": 3, "after": 3500, "opts": {"deduplication": {"id": "d", "ttl": 2500}}},
    ],
    "debounced": [
        {"n": n, "after": 700 * n, "opts": {
            "delay": 1500, "deduplication": {"id": "d", "ttl": 1500, "extend": True, "replace": True}}}
        for n in (1, 2, 3)
    ],
}

DIFFERENT: dict[str, tuple[list[Step], list[int], list[int], str]] = {
    "attempts-by-default": (
        [{"n": 1, "fails": 1}], [1], [1, 1],
        "BullMQ tries once unless told otherwise; our queues have the seed's options: 5 attempts, 1 s and doubling",
    ),
}
"""Script, what BullMQ runs, what we run, and why."""


@pytest.fixture(scope="session")
def bullmq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with BullMQ installed from the committed lock."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("NOT RUN: Node and npm are not installed")
    folder = tmp_path_factory.mktemp("bullmq")
    for name in ("package.json", "package-lock.json", "bull.mjs"):
        shutil.copy(HERE / name, folder)
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True,
                          text=True, timeout=170)
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip("NOT RUN: the npm registry cannot be reached")
    assert done.returncode == 0, done.stderr
    return folder


async def theirs(folder: Path, scripts: dict[str, list[Step]]) -> dict[str, list[tuple[int, float]]]:
    """What a real BullMQ runs, and when."""
    port = urlsplit(os.environ["SKILLCORE_REDIS_URL"]).port
    told = json.dumps({"port": port, "scripts": scripts, "milliseconds": SECONDS * 1000})
    node = await asyncio.create_subprocess_exec(
        "node", "bull.mjs", cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complaint = await asyncio.wait_for(node.communicate(told.encode()), 60)
    assert node.returncode == 0, complaint.decode()
    return {name: [(n, ms) for n, ms in runs] for name, runs in json.loads(said).items()}


async def ours(dsn: str, scripts: dict[str, list[Step]]) -> dict[str, list[tuple[int, float]]]:
    """What we run, and when."""
    postgres = Postgres(dsn, size=8)
    registry, said = Registry(), dict[str, list[tuple[int, float]]]()
    began = 0.0
    queues: dict[str, Queue] = {}
    for name in scripts:
        queue = queues[name] = Queue(f"beside-{name}-{uuid4().hex[:6]}", concurrency=1, internal=True)
        registry.add(_player(name, queue, said.setdefault(name, []), lambda: began))
    runner = Runner(postgres.transaction, registry, utc_now, "beside#1", queues=[q.name for q in queues.values()])

    async def add(name: str, step: Step) -> None:
        options = step.get("opts", {})
        said = JobOptions.model_validate_json(json.dumps(options))
        meta = job_meta("oak", queues[name], options.get("jobId", str(uuid4())), utc_now())
        async with postgres.transaction() as db:
            await insert(db, [order(queues[name], "step", {"told": json.dumps(step)}, said, meta)])
        runner.wake([queues[name].name])

    async def later(name: str, step: Step) -> None:
        await asyncio.sleep(max(0.0, began + step["after"] / 1000 - time.monotonic()))
        await add(name, step)

    async with postgres.transaction() as db:  # a heartbeat: nobody is to take our jobs for lost
        await db.execute("""insert into worker (id, process, app_id, roles, started_at, seen_at)
                            values ('beside', 'beside#1', '', 'jobs', now(), now() + interval '1 h')""")
    for name, steps in scripts.items():
        for step in (s for s in steps if "after" not in s):
            await add(name, step)
    began = time.monotonic()
    serving = asyncio.create_task(runner.serve())
    await asyncio.gather(*(later(n, s) for n, steps in scripts.items() for s in steps if "after" in s))
    await asyncio.sleep(max(0.0, began + SECONDS - time.monotonic()))
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await runner.stop()
    await postgres.close()
    return said


def waits(runs: list[tuple[int, float]]) -> list[float]:
    """Milliseconds between each run and the next."""
    return [after - before for (_, before), (_, after) in itertools.pairwise(runs)]


def _player(name: str, queue: Queue, runs: list[tuple[int, float]], began: Any) -> Handler:
    class Told(Job, queue=queue, kind="step"):
        told: str

    failed: dict[int, int] = {}

    async def play(job: Told, ctx: Context) -> None:
        step = json.loads(job.told)
        n = step["n"]
        runs.append((n, (time.monotonic() - began()) * 1000))
        failed[n] = failed.get(n, 0) + 1
        if step.get("fatal"):
            raise PermanentError("fatal")
        if failed[n] <= step.get("fails", 0):
            raise ValueError

    return Handler(f"beside.{name}", Told, play, False, False, False)


async def test_bullmq_and_we_run_the_same_script_in_the_same_order_at_the_same_times(
    bullmq: Path, postgres_dsn: str
) -> None:
    different = {name: script for name, (script, *_) in DIFFERENT.items()}
    async with migrated(postgres_dsn) as dsn:
        bull, we = await theirs(bullmq, SCRIPTS | different), await ours(dsn, SCRIPTS | different)

    for name in SCRIPTS:
        print(f"{name:45} BullMQ {bull[name]}  ours {[(n, round(ms)) for n, ms in we[name]]}")
        assert [n for n, _ in we[name]] == [n for n, _ in bull[name]], name
        for a, b in zip(waits(we[name]), waits(bull[name]), strict=True):
            assert abs(a - b) <= CLOSE, f"{name}: {a:.0f} ms between two runs, BullMQ has {b:.0f} ms"
    for name, (_, theirs_, ours_, why) in DIFFERENT.items():
        print(f"{name:45} differs: {why}")
        assert [n for n, _ in bull[name]] == theirs_
        assert [n for n, _ in we[name]] == ours_
