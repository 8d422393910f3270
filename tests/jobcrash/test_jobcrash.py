"""Two workers, 10,000 jobs with declared outcomes, everything that can go wrong, and then everything is counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from skillcore_streams.runtime import failpoints
from skillcore_streams.stack import Stack
from tests.crash.world import Worker, until
from tests.jobcrash.checker import Death, Declared, Report
from tests.jobcrash.world import DROPPED, KILLERS, Jobs, declare, world

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

JOBS = int(os.environ.get("JOBCRASH_JOBS", "10000"))
SECONDS = float(os.environ.get("JOBCRASH_SECONDS", "10"))
"""How long workers are killed at random, about. Longer runs are for a quiet afternoon."""

SEED = int(os.environ.get("CRASH_SEED", "7"))

POINTS = [point for point in failpoints.POINTS if point.startswith(("job.", "reap."))]

PROMISED = 15.0
"""Seconds from a crash to the retry, at most. Of a machine on which a worker needs longer than QUICK to start, the time
is allowed to grow as much."""
QUICK = 6.0

Show = pytest.CaptureFixture[str]


class Feeder:
    """Puts the jobs in while faults happen, a hundredth of what is left each second: fast or slow, no phase is idle."""

    def __init__(self, made: Jobs, jobs: Sequence[Declared]) -> None:
        self.made, self.jobs = made, jobs
        self._put = 0
        self._steadily = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        while self._put < len(self.jobs):
            await asyncio.shield(self._some(max(4, (len(self.jobs) - self._put) // 400)))
            await asyncio.sleep(0.25)

    async def all_at_once(self) -> None:
        """The rest."""
        self._steadily.cancel()
        await asyncio.gather(self._steadily, return_exceptions=True)
        while self._put < len(self.jobs):
            await self._some(500)

    async def _some(self, count: int) -> None:
        some = self.jobs[self._put : self._put + count]
        self._put += len(some)
        await self.made.put(some)


@pytest.mark.timeout(1200 + 2 * SECONDS)
async def test_jobs_survive_whatever_happens_to_their_workers(own: Stack, tmp_path: Path, capsys: Show) -> None:
    env = own.env()
    chance = random.Random(SEED)
    async with world(env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"], tmp_path / "jobs") as made:
        feeder = Feeder(made, declare(JOBS, chance))
        began = time.monotonic()
        took: dict[str, int] = {}

        def phase(name: str) -> None:
            took[name] = round(time.monotonic() - began - sum(took.values()))

        bitten = await at_every_point(made)
        start = await made.starting_takes()
        phase("seconds at every point")
        for worker in made.workers:
            await crash_and_retry(made, worker)
        await zombies(made)
        phase("seconds of crashes and zombies")
        stopping = [await stopped_and_started(made, worker, 30 * max(1, start / QUICK)) for worker in made.workers]
        phase("seconds of deploys")
        kills = await kill_at_random(made, chance)
        phase("seconds of random kills")
        await without_postgres(made, own)
        phase("seconds about Postgres")
        await without_broker(made, own, feeder)
        phase("seconds about the broker")
        await until(made.drained, "every job has ended", 150 * max(1, start / QUICK))
        phase("seconds to settle")
        report = await made.count()
        report.facts = {**took, "points that killed": len(set(bitten)), "random kills": kills,
                        "longest SIGTERM to exit (s)": f"{max(stopping):.1f}",
                        "a worker starts in (s)": f"{start:.1f}"} | report.facts
        with capsys.disabled():
            print(report.table("Jobs under fire"))

        assert set(bitten) == set(POINTS)
        assert report.clean, report.examples
        allowed = PROMISED * max(1.0, start / QUICK)
        assert report.percentile(0.99) < allowed, f"p99 from crash to retry {report.percentile(0.99):.1f} s"
        assert_it_has_bitten(report, made)
        made.leaving |= set(made.workers)
        # A function that is deaf to its cancellation may still stand in its process: the grace of 20 s is its, too.
        assert [await worker.stop(40) for worker in made.workers] == [0, 0]


def assert_it_has_bitten(report: Report, made: Jobs) -> None:
    """A quiet afternoon proves nothing. What is asked for is what the phases make sure of: more is chance."""
    modes = {d.mode for d in made.ledger}
    assert len(made.ledger) == JOBS
    assert {"killer", "deaf", "hang", "poison", "fatal", "flaky", "snooze", "late", "expired", "drop", "call"} <= modes
    causes = [death.cause for death in made.deaths]
    assert causes.count("killer") >= 2 * KILLERS  # once more if one began beside others: nobody is charged then
    assert causes.count("the test") >= len(POINTS) + 4
    assert causes.count("frozen") == 2
    assert report.facts["  alone, under suspicion"] > 20
    assert report.facts["answers dropped"] == DROPPED
    assert report.facts["  crashes charged to killers"] == 2 * KILLERS
    assert len(report.retried_after) > 5  # of two killed and one frozen, each with two in its hands, and one with one


async def at_every_point(made: Jobs) -> list[str]:
    """Two workers share the points. Each life has several armed and ends at the first that it meets."""

    def bitten() -> list[str]:
        return [point for worker in made.workers for point in worker.bitten()]

    def left() -> list[str]:
        return [point for point in POINTS if point not in bitten()]

    def arming(worker: Worker) -> str:
        return points(0 if worker is made.workers[0] else 1)

    def points(share: int) -> str:
        some = left()[share::2] or left()
        return ",".join(f"{point}=kill:{2 if point in ('job.claimed', 'job.ran', 'job.committed') else 1}"
                        for point in some)

    made.arming = arming
    for share in 0, 1:
        made.worker(points(share))
    disturbed = time.monotonic()

    async def all_bitten() -> bool:
        nonlocal disturbed
        if "job.released" in left() and time.monotonic() > disturbed + 4:
            await made.end_sessions()  # what is interrupted is handed back
            disturbed = time.monotonic()
        return not left()

    await until(all_bitten, "every point has killed a worker", 240)
    found = bitten()
    made.arming = lambda worker: ""
    for worker in made.workers:
        await until(lambda w=worker: made.kill(w), "a worker that may still be armed is replaced", 60)
    await until(lambda: all(w.ended is None for w in made.workers), "both live")
    return found


async def crash_and_retry(made: Jobs, worker: Worker) -> None:
    """kill -9 in the middle of work, while the other lives: the product's own times, and nothing in their way."""
    for each in made.workers:
        await working(made, each)
    await until(lambda: frozen_at_work(made, worker), f"{worker.name} has two leases", 60)
    alias = made.alias(worker)
    worker.signal(signal.SIGKILL)
    await taken_over(made, alias)


async def zombies(made: Jobs) -> None:
    """Frozen beyond its leases, then thawed: at a moment where it has claimed but not begun, and anywhere."""
    a, b = made.workers
    before = len(a.bitten())
    made.arming = lambda worker: "job.claimed=freeze:5" if worker is a else ""
    await until(lambda: made.kill(a), "a is replaced", 60)
    await until(lambda: len(a.bitten()) > before, "a is frozen with claims in its hand", 90)
    made.arming = lambda worker: ""
    await lost_and_thawed(made, a)
    await until(lambda: frozen_at_work(made, b), "b is frozen while it has leases", 60)
    await lost_and_thawed(made, b)


async def frozen_at_work(made: Jobs, worker: Worker) -> bool:
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(0.1)
    if await made.value(f"select count(*) from lease where process like '{made.alias(worker)}#%'") >= 2:
        return True
    worker.signal(signal.SIGCONT)
    await asyncio.sleep(0.2)
    return False


async def lost_and_thawed(made: Jobs, worker: Worker) -> None:
    alias = made.alias(worker)
    made.deaths.append(Death(alias, time.time(), "frozen"))
    await asyncio.sleep(1.0)
    await taken_over(made, alias)
    await asyncio.sleep(1.0)
    worker.signal(signal.SIGCONT)


async def taken_over(made: Jobs, alias: str) -> None:
    """What this life had is with the other: no longer leased, nor still to be tried alone. Who kills earlier disturbs
    the retries that are measured."""
    left = f"select (select count(*) from lease where process like '{alias}#%') + (select count(*) from suspect)"

    async def nothing_left() -> bool:
        return await made.value(left) == 0

    await until(nothing_left, f"what {alias} had has gone to the other", 90)


async def stopped_and_started(made: Jobs, worker: Worker, seconds: float) -> float:
    await working(made, worker)
    took = await made.terminate(worker, seconds)
    made.begin_again(worker)
    return took


async def working(made: Jobs, worker: Worker) -> None:
    """This life of the worker has claimed something."""
    await until(lambda: made.value(f"select count(*) from claimed where process like '{made.alias(worker)}#%'"),
                f"{worker.name} works", 60)


async def kill_at_random(made: Jobs, chance: random.Random) -> int:
    end, kills = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or kills < 4:
        await asyncio.sleep(chance.uniform(0.5, 2.5))
        victim = chance.choice(made.workers)
        if victim.ended is None:
            kills += await made.kill(victim)
    return kills


async def without_postgres(made: Jobs, own: Stack) -> None:
    for worker in made.workers:
        await working(made, worker)
    for _ in range(3):
        await made.end_sessions()
        await asyncio.sleep(0.3)
    began = time.time()
    await asyncio.to_thread(own.kill, "postgres")
    await asyncio.sleep(1.0)
    await asyncio.to_thread(own.start, "postgres")
    made.outages.append((began, time.time() + 15))


async def without_broker(made: Jobs, own: Stack, feeder: Feeder) -> None:
    for worker in made.workers:
        await working(made, worker)
    await asyncio.to_thread(own.kill, "kafka")
    await feeder.all_at_once()
    await asyncio.sleep(2.0)
    await asyncio.to_thread(own.start, "kafka")


@pytest.mark.timeout(300)
async def test_a_function_that_stands_still_or_makes_its_process_deaf_costs_a_restart_and_nothing_else(
    own: Stack, tmp_path: Path, capsys: Show
) -> None:
    """RELIABILITY.md, bad input 90. A loop that stands still is seen by its process itself, which ends."""
    env = own.env()
    place = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]

    async def stands_still() -> tuple[Report, list[int]]:
        async with world(*place, tmp_path / "still", silent=3) as made:
            made.ends = {1}
            made.told = {**made.told, "standstill": "4"}
            await made.put([Declared(n, "plain") for n in range(20)])
            await made.put([Declared(20, "block", attempts=2), *(Declared(n, "plain") for n in range(21, 40))])
            made.worker()
            await until(made.drained, "others are done, the one is a dead letter", 120)
            return await made.count(), made.codes

    async def deaf_to_sigterm() -> Report:
        async with world(*place, tmp_path / "deaf", silent=3) as made:
            await made.put([Declared(0, "sigterm"), *(Declared(n, "slow") for n in range(1, 5))])
            made.told = {**made.told, "slow": "3"}
            worker = made.worker()
            await until(lambda: made.value("select count(*) from began where n = 0"), "it is deaf", 60)
            await asyncio.sleep(0.5)
            worker.signal(signal.SIGTERM)
            await asyncio.sleep(2.0)
            assert worker.ended is None
            worker.signal(signal.SIGKILL)  # what a platform does when its patience ends
            await until(made.drained, "all are done", 90)
            return await made.count()

    (still, codes), deaf = await asyncio.gather(stands_still(), deaf_to_sigterm())

    with capsys.disabled():
        print(f"\nA function that stands still ended its process {len(codes)} times")
    assert codes == [1] * len(codes)
    assert len(codes) >= 2
    assert still.clean, still.examples
    assert deaf.clean, deaf.examples


@pytest.mark.timeout(300)
async def test_the_checker_sees_what_sabotage_does(own: Stack, tmp_path: Path, capsys: Show) -> None:
    """A checker that finds nothing wrong with these builds would prove nothing about ours."""
    env = own.env()
    place = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]

    async def zombie(sabotage: str) -> Report:
        """Frozen with claims in its hand, and thawed when another worker is at the same jobs, or has done them."""
        async with world(*place, tmp_path / sabotage.replace(" ", "-"), sabotage, silent=3) as made:
            await made.put([Declared(n, "slow") for n in range(4)])
            first = made.worker("job.claimed=freeze:1")
            await until(first.bitten, "it is frozen", 60)
            made.deaths.append(Death(made.alias(first), time.time(), "frozen"))
            made.told = {**made.told, "slow": "4"} if sabotage == "no token" else made.told
            made.worker()
            at_work = "select count(*) from began" if sabotage == "no token" else "select 4 - count(*) = 0 from effect"
            await until(lambda: made.value(at_work), "the other has what it had", 60)
            first.signal(signal.SIGCONT)
            await until(made.drained, "all are done", 90)
            await until(lambda: made.value(f"select count(*) from began where process = '{made.alias(first)}'"),
                        "the first one goes on", 30)
            await asyncio.sleep(3.0)
            return await made.count()

    async def crash_not_counted() -> Report:
        async with world(*place, tmp_path / "uncounted", "crash not counted", silent=3) as made:
            await made.put([Declared(0, "killer", attempts=1)])
            made.worker()
            await until(lambda: made.value("select count(*) > 2 from began"), "it kills without an end", 120)
            return await made.count()

    async def early() -> Report:
        async with world(*place, tmp_path / "early", "early", silent=3) as made:
            await made.put([Declared(n, "late", delay=8.0 + n / 4) for n in range(20)])
            made.worker()
            await until(made.drained, "all have run", 90)
            return await made.count()

    token, rollback, uncounted, soon = await asyncio.gather(
        zombie("no token"), zombie("no rollback"), crash_not_counted(), early())

    with capsys.disabled():
        print("\nSabotage, and what the checker said")
        said = {"no token": token, "no rollback": rollback, "crash not counted": uncounted, "promoted early": soon}
        for name, report in said.items():
            print(f"  {name:<20}", {problem: n for problem, n in report.problems.items() if n})
    assert token.problems["effects of a claim that was void"] > 0
    assert rollback.problems["effects DUPLICATED"] > 0
    assert uncounted.problems["killers started too often"] > 0
    assert soon.problems["started BEFORE their time"] > 0
