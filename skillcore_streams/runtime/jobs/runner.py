"""One process of the job engine: claims what it has room for, has it run, and keeps watch.

A claim is a start, so nothing is claimed ahead; only jobs so quick that the claim would take longer wait in a row, for
a moment. Each queue has a loop that waits for room and for a ring; one look at all queues, twice a second or when the
next delayed job is due, rings where work waits.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from typing import Any
from uuid import UUID, uuid4

from skillcore_streams import metrics
from skillcore_streams.runtime import failures
from skillcore_streams.runtime.context import Clock
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.jobs import lines
from skillcore_streams.runtime.jobs.lines import Claim
from skillcore_streams.runtime.jobs.orders import CALLS
from skillcore_streams.runtime.jobs.work import AT_ONCE, Running, Transaction, Work, count_completed
from skillcore_streams.runtime.messages import QUEUES, Job, Queue
from skillcore_streams.runtime.registry import Registry

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks at the queues when nobody rings."""

GRACE = 20.0
"""Seconds that a stopping process waits for what it runs."""

ALONE_AFTER = 10.0
"""Seconds that a suspect waits for its neighbours to finish. Those that take longer go back to the front."""

TURN = 0.05
"""Seconds after which jobs behind quick ones, of which one is not, go back to the front."""

CANCELLING = 5.0
"""Seconds that a cancelled run has to hand its jobs back."""

UNANSWERED = 15.0
"""Seconds that a claim may still take effect after its connection was lost: more than Postgres lets a statement run."""

ANY_SUSPECT = "select exists (select from suspect where queue = any($1::text[]))"
LOG = "insert into job_log (job_id, at, line) select * from unnest($1::uuid[], $2::timestamptz[], $3::text[])"
PROGRESS = """
    insert into job_progress (job_id, progress) select * from unnest($1::uuid[], $2::jsonb[])
    on conflict (job_id) do update set progress = excluded.progress, at = clock_timestamp()"""


def runnable(registry: Registry) -> set[str]:
    """Queues with a job that has a function, and that of failed calls."""
    return {CALLS} | {h.message.__queue__.name for h in registry.jobs() if issubclass(h.message, Job)}


class Runner:
    """Claims and runs the jobs of its queues. `serve()` is its life in a worker, `run_due()` one round of it."""

    def __init__(
        self,
        transaction: Transaction,
        registry: Registry,
        clock: Clock,
        process: str,
        published: Callable[[str], None] = lambda lane: None,
        *,
        hurried: Transaction | None = None,
        single: Transaction | None = None,
        queues: Sequence[str] | None = None,
        roll: Callable[[], float] = random.random,
        services: Mapping[type, object] | None = None,
    ) -> None:
        """
        Args:
            hurried: statements, each a transaction, whose loss in a crash of Postgres harms nothing (claims); default:
                `transaction`.
            single: durable statements, each a transaction (ends of jobs that left no rows); default: `transaction`.
            queues: names; default: every queue with a job that has a function, and the failed calls.
            roll: random numbers in [0, 1) for the jitter.
            services: what jobs may ask for by class (`ctx.service`): providers, stores.
        """
        self.process = process
        self._transaction = transaction
        self._hurried = hurried or transaction
        self._single = single or transaction
        if CALLS not in QUEUES:
            Queue(CALLS, backoff=failures.DEFAULT, internal=True)
        self.queues = {name: QUEUES[name] for name in sorted(runnable(registry) if queues is None else set(queues))}
        self.running: dict[UUID, Running] = {}
        self.stopping = False
        self._work = Work(
            transaction, self._hurried, registry, clock, process, self.queues, published, self.wake, roll,
            self._end_soon, {} if services is None else services,
        )
        self._room = {name: queue.concurrency for name, queue in self.queues.items()}
        self._places: dict[asyncio.Task[None], tuple[str, int]] = {}
        """Task -> queue, and how much of its room it takes up."""
        self._waiting = dict.fromkeys(self.queues, 0)
        """Claimed jobs of a queue that wait behind quick ones in their place."""
        self._rings = {name: asyncio.Event() for name in self.queues}
        self._freed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._gauges = {name: metrics.jobs_running.labels(name) for name in self.queues}
        self._duration = cache(metrics.bullmq_processing_duration_seconds.labels)
        self._done: list[Claim] = []
        self._some_done = asyncio.Event()
        self._unanswered: dict[UUID, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # From outside -------------------------------------------------------------------------------------------------

    def wake(self, queues: Sequence[str] | None = None) -> None:
        """Something was inserted: look now rather than at the next poll."""
        for name in self.queues if queues is None else queues:
            if name in self._rings:
                self._rings[name].set()

    async def run_due(self) -> int:
        """Claim and run all that is due, to its end. Returns how many jobs were started."""
        started = 0
        await self._declare()
        while (suspect := await self._claim_suspect()) is not None:
            await self._run_all([suspect])
            started += 1
        async with self._hurried() as db:
            busy = [self.queues[row["name"]] for row in await db.fetch(lines.WITH_WORK, list(self.queues))]
        for queue in busy:
            async with self._hurried() as db:
                await lines.promote(db, queue.name, all_of_it=True)
            while claims := await self._claim(queue, queue.concurrency):
                started += len(claims)
                await self._run_all(claims)
        await self._write_notes()
        return started

    async def serve(self) -> None:
        """Run until cancelled: a loop a queue, and those that look, end, and watch."""
        await self._declare()
        async with asyncio.TaskGroup() as group:
            for queue in self.queues.values():
                group.create_task(self._attend(queue), name=f"queue {queue.name}")
            group.create_task(self._look(), name="queues: look")
            group.create_task(self._end_together(), name="queues: end")
            group.create_task(self._watch(), name="queues: watch")
            group.create_task(self._clear_suspects(), name="queues: suspects")

    async def stop(self, grace: float = GRACE) -> None:
        """Claim nothing more; finish what can be finished in time; hand back the rest without spending an attempt."""
        self.stopping = True
        self._open.clear()
        await self._empty(grace)
        with suppress(Infrastructure):
            await self._end_done()
            await self._write_notes()
            async with self._transaction() as db:
                await lines.release_all(db, self.process)  # what was claimed in the moment of stopping

    async def _empty(self, grace: float) -> bool:
        """Wait for what runs; after `grace` seconds hand back the rest. True when nothing runs any more."""
        if busy := self._busy():
            _, late = await asyncio.wait(busy, timeout=grace)
            for task in late:
                task.cancel()  # hands its jobs back
            if late:
                await asyncio.wait(late, timeout=CANCELLING)
        return not self._busy()

    def _busy(self) -> set[asyncio.Task[None]]:
        """What runs and may still end: a function that was given up has its task, but no place."""
        return set(self._places)

    # Loops --------------------------------------------------------------------------------------------------------

    async def _attend(self, queue: Queue) -> None:
        """One queue: as soon as there is room and somebody rang, claim."""
        ring = self._rings[queue.name]
        while not self.stopping:
            await ring.wait()
            await self._open.wait()
            want = self._want(queue)
            if want <= 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            ring.clear()
            try:
                claims = await self._claim(queue, want)
            except Infrastructure as error:
                log.warning("%s: nothing is claimed, Postgres is away: %s", queue.name, error)
                await asyncio.sleep(POLL)
                continue
            if claims and not self._open.is_set():  # closed meanwhile: nothing begins beside a suspect
                await self._put_back(queue.name, claims)
            elif claims:
                if len(claims) == want:
                    ring.set()  # there may be more
                await self._begin(queue, claims)

    def _want(self, queue: Queue) -> int:
        """How many jobs to claim: what there is room for; of quick ones as many as are worth a journey, whose place
        is behind others. The next ones travel while the last half of them runs."""
        room = self._room[queue.name]
        if room > 0 and queue.name in self._work.quick:
            return AT_ONCE if self._waiting[queue.name] < AT_ONCE // 2 else 0
        return room

    async def _begin(self, queue: Queue, claims: Sequence[Claim]) -> None:
        beyond = []
        for place in self._work.places(claims):
            if self._room[queue.name] > 0:
                self._start(place)
            else:
                beyond += [claim for group in place for claim in group]
        await self._put_back(queue.name, beyond)  # they were taken for quick ones

    async def _put_back(self, queue: str, claims: Sequence[Claim]) -> None:
        """To the front of the line, and ring: somebody may have room."""
        if claims:
            await self._work.hand_back(claims, None)
            self._rings[queue].set()

    def _start(self, place: deque[list[Claim]]) -> asyncio.Task[None]:
        """A place of its queue: groups that run one behind another."""
        queue = place[0][0].queue
        task = asyncio.create_task(self._occupy(queue, place), name=f"jobs of {queue}")
        self._places[task] = queue, (size := len(place[0]))
        self._room[queue] -= size
        self._waiting[queue] += len(place) - 1
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, queue))
        return task

    def _ended(self, queue: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a run of %s failed itself; its lease will run out", queue, exc_info=error)

    def _free(self, task: asyncio.Task[None]) -> None:
        if task not in self._places:
            return
        queue, size = self._places.pop(task)
        self._room[queue] += size
        self._freed.set()
        if self.queues[queue].max_running is not None:
            self._rings[queue].set()

    async def _occupy(self, queue: str, place: deque[list[Claim]]) -> None:
        timer = None
        if len(place) > 1:
            timer = asyncio.get_running_loop().call_later(TURN, self._too_slow, queue, place)
        try:
            await self._guarded(place.popleft())
            while place:
                self._waiting[queue] -= 1
                if self._waiting[queue] == AT_ONCE // 2 - 1:
                    self._freed.set()
                await self._guarded(place.popleft())
        except BaseException:
            await self._let_go(queue, place)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _too_slow(self, queue: str, place: deque[list[Claim]]) -> None:
        """One in front takes its time after all: those behind it go to whoever has room."""
        if place:
            self._work.is_slow(place[0][0])
            task = asyncio.create_task(self._let_go(queue, place), name=f"hand back jobs of {queue}")
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, queue))

    async def _let_go(self, queue: str, place: deque[list[Claim]]) -> None:
        claims = [claim for group in place for claim in group]
        self._waiting[queue] -= len(place)
        place.clear()
        self._freed.set()
        await self._put_back(queue, claims)

    async def _look(self) -> None:
        """Put in line what has come due, ring where work waits. Sleeps until the next delayed job, at most POLL."""
        all_at = 0.0
        while not self.stopping:
            pause, all_of_it = POLL, time.monotonic() >= all_at
            try:
                async with self._hurried() as db:
                    for row in await db.fetch(lines.LOOK, list(self.queues)):
                        if row["promote"] or all_of_it:
                            promoted = await lines.promote(db, row["name"], all_of_it=all_of_it)
                            await failpoint("job.promoted")
                        else:
                            promoted = 0
                            pause = min(pause, max(0.001, POLL if row["next_in"] is None else row["next_in"]))
                        if row["due"] or promoted:
                            self._rings[row["name"]].set()
                if all_of_it:
                    all_at = time.monotonic() + 60.0
            except Infrastructure as error:
                log.warning("the queues cannot be looked at: %s", error)
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        """Once a second: what was cancelled, what will not end, logs and progress."""
        while not self.stopping:
            await asyncio.sleep(1.0)
            with suppress(Infrastructure):
                await self._work.hand_back_again()
                await self._release_unanswered()
                if self.running:
                    async with self._hurried() as db:
                        asked = [row["job_id"] for row in await db.fetch(lines.CANCELLED, self.process)]
                    for job_id in asked:
                        self._cancel(job_id)
                    await self._give_up()
                await self._write_notes()

    def _cancel(self, job_id: UUID) -> None:
        run = self.running.get(job_id)
        if run is not None and run.task is not None and not run.cancelled:
            run.cancelled = True
            run.task.cancel()

    async def _give_up(self) -> None:
        """A function that will not be cancelled keeps its task, but neither its place nor its jobs."""
        for run in list(self.running.values()):
            late = time.monotonic() - run.began - run.claim.timeout(self.queues[run.claim.queue])
            if run.task is None or run.given_up or late < lines.LEASE_MARGIN.total_seconds():
                continue
            if run.task in self._places:
                self._free(run.task)
                log.critical("%s job %s neither ends nor can be cancelled; others go on", run.claim.queue, run.job_id)
            with suppress(TimeoutError):  # then in the next second
                await self._work.give_up([r for r in self.running.values() if r.task is run.task])

    async def _clear_suspects(self) -> None:
        """Once a second: is there a job that was running when its worker was lost?"""
        while not self.stopping:
            await asyncio.sleep(1.0)
            with suppress(Infrastructure):
                async with self._hurried() as db:
                    suspected = await db.fetchval(ANY_SUSPECT, list(self.queues))
                if suspected:
                    await self._try_alone()

    async def _try_alone(self) -> None:
        """All suspects there are, one at a time with nothing beside it: if the process dies, it is known to be the one.

        It is claimed when this process is empty, not before: a neighbour that kills the process must not be its fault.
        """
        self._open.clear()
        try:
            if not await self._empty(ALONE_AFTER):
                return
            await self._end_done()
            while not self.stopping and (suspect := await self._claim_suspect()) is not None:
                log.warning("%s job %s ran when its worker was lost: it is tried alone", suspect.queue, suspect.id)
                await failpoint("job.alone")
                task = self._start(deque([[suspect]]))
                while task in self._busy():
                    await asyncio.wait({task}, timeout=1.0)
        finally:
            if not self.stopping:
                self._open.set()

    async def _end_together(self) -> None:
        """Ends of jobs that left no rows are committed together."""
        while not self.stopping:
            await self._some_done.wait()
            self._some_done.clear()
            try:
                await self._end_done()
            except Infrastructure as error:
                log.warning("ends of jobs wait for Postgres: %s", error)
                await asyncio.sleep(POLL)
                self._some_done.set()

    # Steps --------------------------------------------------------------------------------------------------------

    async def _declare(self) -> None:
        async with self._hurried() as db:
            await lines.declare(db, list(self.queues))

    async def _claim(self, queue: Queue, want: int) -> list[Claim]:
        async with self._claiming() as (db, token):
            claims = await lines.claim(db, queue, want, self.process, token)
        if claims:
            await failpoint("job.claimed")
        return claims

    async def _claim_suspect(self) -> Claim | None:
        async with self._claiming() as (db, token):
            return await lines.claim_suspect(db, self.queues, self.process, token)

    @asynccontextmanager
    async def _claiming(self) -> AsyncIterator[tuple[Any, UUID]]:
        token = uuid4()
        try:
            async with self._hurried() as db:
                yield db, token
        except Infrastructure:
            self._unanswered[token] = time.monotonic()
            raise

    async def _release_unanswered(self) -> None:
        """A claim whose answer got lost may have taken effect: Postgres knows of those jobs, and nobody runs them."""
        if not self._unanswered:
            return
        asked = time.monotonic()
        async with self._transaction() as db:
            released = await lines.release_unanswered(db, list(self._unanswered))
        if released:
            log.warning("%d jobs go back in line: the answer to their claim was lost with its connection", released)
            self.wake()
        self._unanswered = {token: at for token, at in self._unanswered.items() if asked < at + UNANSWERED}

    async def _run_all(self, claims: Sequence[Claim]) -> None:
        await asyncio.gather(*(self._start(place) for place in self._work.places(claims)))
        await self._end_done()

    async def _guarded(self, group: Sequence[Claim]) -> None:
        """Run a group to its end, whatever happens. Cancelled: by an operator, or because the process stops."""
        task = asyncio.current_task()
        runs = [Running(claim, self._work, task) for claim in group]
        for run in runs:
            self.running[run.claim.id] = run
        running = self._gauges[group[0].queue]
        running.inc(len(group))
        began, status = time.monotonic(), "interrupted"
        try:
            status = await self._work.run(runs)
        except Infrastructure as error:
            log.warning("%s: %d jobs interrupted: %s", group[0].queue, len(group), error)
            await self._work.interrupted_by(error, group)
        except asyncio.CancelledError:
            if not any(run.cancelled for run in runs):
                await self._work.hand_back(group, None)
                raise
            status = "cancelled"
            assert task is not None
            while task.uncancel():
                pass
            await self._work.end_cancelled(runs)
        finally:
            took = (time.monotonic() - began) / len(runs)
            running.dec(len(group))
            duration = self._duration(group[0].queue, status)
            for claim in group:
                self.running.pop(claim.id, None)
                duration.observe(took)

    def _end_soon(self, claims: Sequence[Claim]) -> None:
        self._done.extend(claims)
        self._some_done.set()

    async def _end_done(self) -> None:
        done, self._done = self._done, []
        if not done:
            return
        try:
            async with self._single() as db:
                await lines.finish(db, done, "completed", self.process)
                await failpoint("job.ended")
        except BaseException:
            self._done = done + self._done  # their leases hold until it is said, or until somebody else runs them
            raise
        count_completed(done)

    async def _write_notes(self) -> None:
        said, self._work.log_lines = self._work.log_lines, []
        progress, self._work.progress = self._work.progress, {}
        if not (said or progress):
            return
        async with self._hurried() as db:
            if said:
                await db.execute(LOG, [i for i, _, _ in said], [at for _, at, _ in said], [line for _, _, line in said])
            if progress:
                await db.execute(PROGRESS, list(progress), list(progress.values()))
