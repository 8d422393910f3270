"""Two workers, real Kafka, real Postgres: killed at every named point and at random, and then everything is counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from skillcore_streams.runtime import failpoints
from skillcore_streams.stack import Stack
from tests.crash.checker import Report
from tests.crash.world import Load, Worker, World, until, world

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

SECONDS = float(os.environ.get("CRASH_SECONDS", "60"))
"""How long workers are killed at random, about. Longer runs are for a quiet afternoon."""

SEED = int(os.environ.get("CRASH_SEED", "7"))

ELSEWHERE = "table.", "job.", "reap.", "delivery.", "report.", "archive."
"""Points that other suites kill at: tests/tables, tests/jobcrash, tests/queues, tests/web."""

POINTS = [point for point in failpoints.POINTS if not point.startswith(ELSEWHERE)]

SUSPECT = "suspect.noted"  # only a record that has killed its worker twice is ever a suspect

LATER = {point: 3 for point in POINTS if point.startswith(("chunk.", "outbox."))} | {"chunk.claimed": 1}
"""The visit at which a point bites, where not the first: in the middle of work."""

Show = pytest.CaptureFixture[str]


def armed(points: list[str], action: str = "kill") -> str:
    return ",".join(f"{point}={action}:{LATER.get(point, 1)}" for point in points)


def show(capsys: Show, report: Report, title: str, **facts: object) -> None:
    """For a person who reads CI."""
    report.facts = {name.replace("_", " "): n for name, n in facts.items()} | report.facts  # type: ignore[assignment]
    with capsys.disabled():
        print(report.table(title))


async def settle(made: World, load: Load, seconds: float = 60.0) -> tuple[Report, float]:
    """Stop sending, wait until nothing is left to do, count. Also returns how long catching up took."""
    await asyncio.to_thread(load.stop)
    began = time.monotonic()
    await until(made.drained, "everything is processed, published and run", seconds)
    return await made.report(), time.monotonic() - began


def again(worker: Worker, points: str = "") -> bool:
    """Start a worker anew if it has been killed. It must not have ended in any other way."""
    if worker.ended is None:
        return False
    assert worker.ended == -signal.SIGKILL, f"{worker.name} ended by itself, exit code {worker.ended}"
    worker.start(points)
    return True


@pytest.mark.timeout(240)
async def test_killed_at_every_named_point_nothing_is_lost_or_doubled(own: Stack, tmp_path: Path, capsys: Show) -> None:
    (points, report), (deaths, suspected) = await asyncio.gather(
        at_every_point(own, tmp_path / "points"), by_one_record(own, tmp_path / "killer")
    )

    show(capsys, report, "Killed at every named point", points=len(set(points)), kills=len(points))
    show(capsys, suspected, "Killed by one record, again and again", deaths_by_it=deaths, kills_when_it_was_suspected=1)
    assert {*points, SUSPECT} == set(POINTS)
    assert report.clean, report.examples
    assert report.facts["calls retried by the executor"] > 0
    assert suspected.clean, suspected.examples


async def at_every_point(own: Stack, folder: Path) -> tuple[list[str], Report]:
    """Two workers share the points. Each life has several armed and ends at the first that it meets."""
    env = own.env()
    async with world(env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"], folder) as made:

        def bitten() -> list[str]:
            return [point for worker in made.workers for point in worker.bitten()]

        def left(share: int) -> str:
            points = [point for point in POINTS if point not in {*bitten(), SUSPECT}]
            return armed(points[share::2] or points)

        made.session = 1.0
        load = made.load(rate=150)
        a, b = made.worker(left(0)), made.worker(left(1))

        def all_bitten() -> bool:
            for share, worker in enumerate((a, b)):
                again(worker, left(share))
            return not left(0)

        await until(all_bitten, "every point has killed a worker", 150)
        for worker in a, b:
            if not again(worker):
                worker.kill()  # it may still be armed
                again(worker)
        report, _ = await settle(made, load)
        assert [await worker.stop() for worker in (a, b)] == [0, 0]
        return bitten(), report


async def by_one_record(own: Stack, folder: Path) -> tuple[int, Report]:
    """Also dies where the record is under suspicion. In the end its call has become a job, and is done."""
    env = own.env()
    async with world(env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"], folder) as made:
        made.session = 1.0
        load = made.load(rate=20)
        a, b = made.worker(armed([SUSPECT])), made.worker(armed([SUSPECT]))
        await until(made.working, "both work")
        load.mark(0, "killer")

        def suspected() -> bool:
            for worker in a, b:
                again(worker, armed([SUSPECT]))
            return bool(a.bitten() + b.bitten())

        await until(suspected, "a record that kills its worker is suspected", 90)

        async def spared() -> bool:
            for worker in a, b:
                again(worker)
            return bool(await made.value("""
                select count(*) from job_now j join event e using (event_key)
                 where convert_from(e.data, 'UTF8') like '%killer%' and j.state = 'completed'"""))

        await until(spared, "its call has become a job and is done", 90)
        report, _ = await settle(made, load)
        return len((folder / "killer").read_text().splitlines()), report


@pytest.mark.timeout(150 + 2 * SECONDS)
async def test_killed_at_random_nothing_is_lost_or_doubled(own: Stack, tmp_path: Path, capsys: Show) -> None:
    """And a worker is frozen beyond its session, all sessions of Postgres are ended in a row, Postgres is killed."""
    env = own.env()
    chance = random.Random(SEED)
    async with world(env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"], tmp_path / "random") as made:
        load = made.load(rate=250)
        a, b = made.worker(), made.worker()
        began = time.monotonic()
        await until(made.working, "all partitions are at work")
        kills = 0

        async def kill_for(seconds: float, *victims: Worker) -> None:
            nonlocal kills
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(chance.uniform(0.8, 2.5))
                victim = chance.choice(victims)
                assert victim.ended is None, f"{victim.name} ended by itself, exit code {victim.ended}"
                victim.kill()
                victim.start()
                kills += 1

        await kill_for(SECONDS * 0.25, a, b)

        a.kill()
        a.start("chunk.fenced=freeze:5")
        await until(a.bitten, "a worker is frozen inside its transaction", 20)
        frozen = await made.value("select coalesce(max(id), 0) from moved")
        await until(lambda: made.value(f"select count(distinct partition) = 4 from moved where id > {frozen}"),
                    "the other worker takes over all partitions, the frozen one's too", 60)
        a.signal(signal.SIGCONT)

        await kill_for(SECONDS * 0.2, a, b)
        for _ in range(20):  # in the second pass and in the third, too
            await made.execute("""
                select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and usename = current_user and pid <> pg_backend_pid()""")
            await asyncio.sleep(0.1)
        await kill_for(SECONDS * 0.1, a, b)
        await asyncio.to_thread(own.kill, "postgres")
        await asyncio.sleep(1.0)
        await asyncio.to_thread(own.start, "postgres")
        await kill_for(SECONDS * 0.2, a, b)
        under_fire = time.monotonic() - began
        report, seconds = await settle(made, load)

        show(capsys, report, "Killed at random", seconds_under_fire=round(under_fire), kills=kills, workers_frozen=1,
             all_sessions_ended=20, postgres_killed=1, caught_up_in_seconds=round(seconds))
        assert report.clean, report.examples
        assert [await worker.stop() for worker in (a, b)] == [0, 0]


@pytest.mark.timeout(90)
async def test_the_checker_sees_what_sabotage_does(own: Stack, tmp_path: Path, capsys: Show) -> None:
    """A checker that finds nothing wrong with these builds would prove nothing about ours."""
    env = own.env()
    place = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]

    async def no_fence() -> Report:
        """A worker frozen before its transaction wakes up when others have long gone past it."""
        async with world(*place, tmp_path / "fence", "no fence") as made:
            zombie = made.worker("chunk.received=freeze:2")
            load = made.load(rate=100, most=1200)
            await until(zombie.bitten, "the worker is frozen")
            made.worker()
            await asyncio.to_thread(load.join)
            await until(made.drained, "the other has done everything", 40)
            zombie.signal(signal.SIGCONT)
            await until(lambda: made.value("select count(*) > 0 from moved where is_now <= was"), "offsets go back")
            return await made.report()

    async def no_inbox() -> Report:
        """Events that were sent twice."""
        async with world(*place, tmp_path / "inbox", "no inbox") as made:
            load = made.load(rate=200, most=300)
            made.worker()
            await asyncio.to_thread(load.join)
            await until(made.at_the_end, "all records are read", 40)
            return await made.report()

    async def offsets_first() -> Report:
        """A worker that dies between the offset and the work."""
        async with world(*place, tmp_path / "offsets", "offsets first") as made:
            worker = made.worker("chunk.handler=kill:3")
            load = made.load(rate=200, most=300)
            await until(lambda: worker.ended is not None, "the worker is killed")
            worker.start()
            await asyncio.to_thread(load.join)
            await until(made.drained, "all records are read", 40)
            return await made.report()

    fence, inbox, offsets = await asyncio.gather(no_fence(), no_inbox(), offsets_first())

    with capsys.disabled():
        print("\nSabotage, and what the checker said")
        for name, report in {"no fence": fence, "no inbox": inbox, "offsets first": offsets}.items():
            print(f"  {name:<16}", {problem: n for problem, n in report.problems.items() if n})
    assert fence.problems["offsets moved BACK"] > 0
    assert inbox.problems["effects DUPLICATED"] > 0
    assert offsets.problems["effects LOST"] > 0
