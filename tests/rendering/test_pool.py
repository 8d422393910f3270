"""Rendering elsewhere: processes that die, hang or eat memory harm only what they were doing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from skillcore_streams.rendering import render
from skillcore_streams.rendering.pool import MEMORY, RenderPool
from skillcore_streams.runtime.documents import RenderFailed
from skillcore_streams.runtime.errors import PermanentError
from tests.rendering.test_files import SOME, report

LONG = report(*((f"student {n}", "2022-05-01", n, n) for n in range(20_000)))


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    made = RenderPool(size=1)
    yield made
    await made.close()


def child_of(pool: RenderPool) -> int:
    """The pid of the one process, which is idle or, in the middle of a test, at work."""
    found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_ours(pid)]
    assert len(found) == 1
    return found[0]


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as line:
            parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            return parent == os.getpid() and "skillcore_streams.rendering" in line.read()
    except OSError:
        return False


async def test_a_file_made_elsewhere_is_the_file_made_here(pool: RenderPool) -> None:
    assert await pool.render(SOME, "pdf") == render(SOME, "pdf")
    assert await pool.render(SOME, "xlsx") == render(SOME, "xlsx")


async def test_one_process_makes_many_files_until_its_life_is_over() -> None:
    pool = RenderPool(size=1, life=2)
    try:
        pids = []
        for _ in range(4):
            await pool.render(SOME, "csv")
            pids.append(child_of(pool))
        assert pids[0] == pids[1] != pids[2] == pids[3]
    finally:
        await pool.close()


async def test_no_more_processes_than_places() -> None:
    pool = RenderPool(size=2)
    try:
        made = await asyncio.gather(*(pool.render(SOME, "csv") for _ in range(8)))
        assert len({m.body for m in made}) == 1
        assert sum(map(_is_ours, map(int, filter(str.isdigit, os.listdir("/proc"))))) == 2
    finally:
        await pool.close()


async def test_a_process_that_is_killed_fails_its_job_and_another_takes_its_place(pool: RenderPool) -> None:
    await pool.render(SOME, "csv")
    victim = child_of(pool)
    job = asyncio.create_task(pool.render(LONG, "pdf"))
    await asyncio.sleep(0.05)

    os.kill(victim, signal.SIGKILL)

    with pytest.raises(RenderFailed, match=r"the rendering process died \(exit code -9\)"):
        await job
    assert await pool.render(SOME, "csv") == render(SOME, "csv")
    assert child_of(pool) != victim


async def test_a_cancelled_job_ends_its_process(pool: RenderPool) -> None:
    await pool.render(SOME, "csv")
    victim = child_of(pool)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pool.render(LONG, "pdf")

    assert not _is_ours(victim)
    assert await pool.render(SOME, "csv") == render(SOME, "csv")


async def test_a_refused_document_is_not_tried_again_and_costs_no_process(pool: RenderPool) -> None:
    await pool.render(SOME, "csv")
    before = child_of(pool)

    with pytest.raises(PermanentError, match="a CSV holds one table"):
        await pool.render(report(sections=()), "csv")

    assert child_of(pool) == before


async def test_a_process_whose_worker_is_gone_ends_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skillcore_streams.rendering", str(MEMORY), stdin=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.close()  # as the kernel does when a worker is killed

    async with asyncio.timeout(30):
        assert await process.wait() == 0


async def test_a_process_out_of_memory_fails_its_job_only() -> None:
    pool = RenderPool(size=1, memory=450 << 20)
    try:
        with pytest.raises(RenderFailed):
            await pool.render(LONG, "pdf")
        assert await pool.render(SOME, "csv") == render(SOME, "csv")
    finally:
        await pool.close()
