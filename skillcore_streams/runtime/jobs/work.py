"""One start of a job, from its claim to its end.

A function of Postgres alone runs inside the transaction that ends the job, several quick ones of a kind together: if
one of them fails, each goes again in a transaction of its own, and the failure is that job's. A function that talks to
the world runs outside; what it published and enqueued, and the job's end, are one transaction afterwards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from skillcore_streams import metrics
from skillcore_streams.runtime import dead_letters, failures
from skillcore_streams.runtime.context import Clock, S
from skillcore_streams.runtime.errors import Infrastructure, PermanentError
from skillcore_streams.runtime.failpoints import failpoint
from skillcore_streams.runtime.jobs import lines
from skillcore_streams.runtime.jobs.lines import Claim
from skillcore_streams.runtime.jobs.orders import CALLS, note_attempts
from skillcore_streams.runtime.messages import EVENT_TYPES, JOB_TYPES, Backoff, Message, Meta, Queue
from skillcore_streams.runtime.registry import Handler, Registry
from skillcore_streams.runtime.transaction import Tx

log = logging.getLogger(__name__)

TOGETHER = 50
"""Jobs of one kind in one transaction, at most."""

AIM = 0.1
"""Seconds such a transaction should take."""

AT_ONCE = 100
"""Quick jobs that are claimed at once."""

QUICK = 0.0003
"""Seconds below which a job outside a transaction is quick."""

MAX_RESULT = 64 << 10
"""Characters of a result that are kept; a larger one is an object for the archive, not for a row."""

INTERRUPTIONS = 5
"""So often one process lets a job go again because Postgres or the way to it failed. After that the job is at fault:
its statement takes too long, or it ends its own connection."""

THE_EVENT = "select * from event where event_key = $1 order by seq limit 1"
SHARE_RUN = "select pg_advisory_xact_lock(hashtextextended(k, 0)) from unnest($1::text[]) k order by k"
RESULT = "insert into job_result (job_id, result) values ($1, $2) on conflict (job_id) do update set result = $2"
END_FAILED = "delete from lease where job_id = $1 and token = $2 returning 1"

Transaction = Callable[[], AbstractAsyncContextManager[Any]]


class Overdue(Exception):
    """A job ran longer than it may and could not be cancelled."""


class LeaseLost(Exception):
    """While it ran, the job was given to somebody else: nothing of this run may stay."""


@dataclass(slots=True)
class Running:
    """One start of a job, as its function and an operator know it."""

    claim: Claim
    work: Work
    task: asyncio.Task[Any] | None = None
    began: float = math.inf
    """When its function began (monotonic seconds): not while it waits for a connection or for its neighbours."""
    cancelled: bool = False
    """An operator has asked for its end."""
    given_up: bool = False
    """It ran too long and would not be cancelled, or shares a transaction with one that did: it is somebody else's."""

    @property
    def job_id(self) -> UUID:
        """The job's id."""
        return self.claim.id

    @property
    def attempt(self) -> int:
        """Which start this is, 1 being the first."""
        return self.claim.attempt

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A short transaction of its own."""
        return self.work.transaction()

    def progress(self, value: object) -> None:
        """Written within a second; the newest counts. Raises ValueError for what JSON or Postgres cannot hold."""
        self.work.progress[self.claim.id] = storable(value)

    def note(self, line: str) -> None:
        """Written within a second."""
        self.work.log_lines.append((self.claim.id, self.work.clock(), printable(line)[:1000]))

    def service(self, kind: type[S]) -> S:
        """Raises LookupError when the process was started without it."""
        found = self.work.services.get(kind)
        if not isinstance(found, kind):
            raise LookupError(f"this process has no {kind.__name__}")
        return found


@dataclass(slots=True)
class Work:
    """What a process has for running jobs, and what it has to write about them."""

    transaction: Transaction
    hurried: Transaction
    registry: Registry
    clock: Clock
    process: str
    queues: Mapping[str, Queue]
    published: Callable[[str], None]
    enqueued: Callable[[Sequence[str]], None]
    roll: Callable[[], float]
    ended: Callable[[Sequence[Claim]], None]
    """Told of jobs that are done and left no rows: they are ended together."""
    services: Mapping[type, object] = field(default_factory=dict)
    """What jobs may ask for by class (`ctx.service`): providers, stores."""
    log_lines: list[tuple[UUID, datetime, str]] = field(default_factory=list)
    progress: dict[UUID, str] = field(default_factory=dict)
    interrupted: Counter[UUID] = field(default_factory=Counter)
    """Jobs that Postgres interrupted here, and how often in a row."""
    unreturned: list[tuple[Claim, float | None]] = field(default_factory=list)
    """What could not be handed back because Postgres was away."""
    together: dict[str, int] = field(default_factory=dict)
    """Handler -> how many of its jobs share a transaction now."""
    paces: dict[str, float] = field(default_factory=dict)
    """Handler that runs outside a transaction -> seconds that its jobs take, smoothed."""
    quick: set[str] = field(default_factory=set)
    """Queues whose jobs were all quick, last time."""

    def handler(self, claim: Claim) -> Handler | None:
        """Who does this job, or None when no function of this version does."""
        if claim.queue == CALLS:
            return self.registry.get(claim.kind)
        cls = JOB_TYPES.get((claim.queue, claim.kind))
        found = self.registry.of(cls) if cls is not None else []
        return found[0] if found else None

    def places(self, claims: Sequence[Claim]) -> list[deque[list[Claim]]]:
        """Who runs beside whom, and behind whom. Inside a transaction quick jobs of one function run as one group.
        Outside, those that hardly take longer than starting a task run one behind another in one place."""
        places: list[deque[list[Claim]]] = []
        rows: dict[str, deque[list[Claim]]] = {}
        for handler, group in self._groups(claims):
            if handler is None or handler.transaction or self.paces.get(handler.id, QUICK) >= QUICK:
                places.append(deque([group]))
            elif handler.id in rows:
                rows[handler.id].append(group)
            else:
                places.append(rows.setdefault(handler.id, deque([group])))
        if claims:
            quick = sum(map(len, rows.values())) == len(claims)
            (self.quick.add if quick else self.quick.discard)(claims[0].queue)
        return places

    def is_slow(self, claim: Claim) -> None:
        """What was taken for quick is not."""
        self.quick.discard(claim.queue)
        if (handler := self.handler(claim)) is not None:
            self.paces[handler.id] = 100 * QUICK

    def _groups(self, claims: Sequence[Claim]) -> list[tuple[Handler | None, list[Claim]]]:
        """Each with its handler: None for what has expired, or has none in this version."""
        groups: dict[object, list[tuple[Handler | None, list[Claim]]]] = {}
        for claim in claims:
            handler = None if claim.expired else self.handler(claim)
            together = handler is not None and (handler.transaction or handler.batch) and not self._apart(claim)
            size = self.together.get(handler.id, 1) if handler is not None and together else 1
            mine = groups.setdefault(handler.id if handler is not None and together else claim.id, [(handler, [])])
            if len(mine[-1][1]) >= size:
                mine.append((handler, []))
            mine[-1][1].append(claim)
        return [group for some in groups.values() for group in some]

    def _apart(self, claim: Claim) -> bool:
        """Whether it must share neither limit nor fate with others."""
        return "timeout" in claim.options or self.interrupted[claim.id] > 0

    async def run(self, runs: Sequence[Running]) -> str:
        """Run a group to its end. Returns what became of it, for the metrics; raises Infrastructure."""
        claims = [run.claim for run in runs]
        if claims[0].expired:
            async with self.transaction() as db:
                await lines.finish(db, claims, "expired", self.process)
            return "expired"
        handler = self.handler(claims[0])
        if handler is None:
            what = "handler of this call" if claims[0].queue == CALLS else "function for this kind of job"
            for claim in claims:
                await self.failed(claim, PermanentError(f"there is no {what} in this version"))
            return "failed"
        began = time.monotonic()
        try:
            await (self._inside if handler.transaction else self._outside)(handler, runs)
        except Infrastructure:
            raise
        except Exception as error:
            if any(run.given_up for run in runs):
                return "done elsewhere"
            if len(runs) > 1:
                self.together[handler.id] = 1
                said = [await self.run([run]) for run in runs]
                return "failed" if "failed" in said else "completed"
            if isinstance(error, LeaseLost):
                log.info("%s job %s was done elsewhere meanwhile", claims[0].queue, claims[0].id)
                return "done elsewhere"
            await self.failed(claims[0], error)
            return "failed"
        for claim in claims if self.interrupted else ():
            self.interrupted.pop(claim.id, None)
        self._pace(handler, len(runs), time.monotonic() - began)
        return "completed"

    def _pace(self, handler: Handler, count: int, took: float) -> None:
        if not handler.transaction:
            self.paces[handler.id] = 0.2 * took + 0.8 * self.paces.get(handler.id, took)
        size = self.together.get(handler.id, 1)
        if took < AIM / 2 and count >= size:
            self.together[handler.id] = min(TOGETHER, size * 2)
        elif took > AIM * 2:
            self.together[handler.id] = max(1, size // 2)

    async def _inside(self, handler: Handler, runs: Sequence[Running]) -> None:
        """Effects and end of the jobs in one transaction. Raises LeaseLost when one is no longer ours."""
        claims = [run.claim for run in runs]
        lanes = set()
        async with self.transaction() as db:
            tx = Tx(db, self.clock, "")
            if keys := sorted({c.coalesce for c in claims if c.coalesce}):
                await db.execute(SHARE_RUN, keys)  # one run of a key at a time
            messages = await self._load(db, claims)
            each = [(run, [message]) for run, message in zip(runs, messages, strict=True)]
            batches = [(runs[0], messages)] if handler.batch else each
            for run, some in batches:
                if run.given_up:
                    raise LeaseLost
                tx.lane = _lane(run.claim)
                mark = len(tx.effects.leaving)
                with _at_work(runs if handler.batch else [run]):
                    result = await tx.call(handler, some, limit=self._limit(claims), run=run)
                await self._keep(db, run, result)
                if len(tx.effects.leaving) > mark:
                    lanes.add(tx.lane)
            await tx.flush(self.process)
            await failpoint("job.ran")
            if len(await lines.finish(db, claims, "completed", self.process)) < len(claims):
                raise LeaseLost
        await failpoint("job.committed")
        count_completed(claims)
        self._after(tx, lanes)

    async def _outside(self, handler: Handler, runs: Sequence[Running]) -> None:
        """The function first, with no transaction open; then what it caused, and the end, in one."""
        claims = [run.claim for run in runs]
        tx = Tx(None, self.clock, _lane(claims[0]))
        with _at_work(runs):
            result = await tx.call(handler, [_message(c) for c in claims], limit=self._limit(claims), run=runs[0])
        await failpoint("job.ran")
        plain = result is None and not (tx.effects.leaving or tx.effects.orders)
        if plain and not any(c.held or c.dedup for c in claims):
            self.ended(claims)
            return
        async with self.transaction() as db:
            tx.db = db
            if len(await lines.finish(db, claims, "completed", self.process)) < len(claims):
                raise LeaseLost
            await self._keep(db, runs[0], result)
            await tx.flush(self.process)
        await failpoint("job.committed")
        count_completed(claims)
        self._after(tx, {tx.lane} if tx.effects.leaving else set())

    def _limit(self, claims: Sequence[Claim]) -> float:
        return max(c.timeout(self.queues[c.queue]) for c in claims)

    async def _keep(self, db: Any, run: Running, result: object) -> None:
        if result is None:
            return
        try:
            text = storable(result)
        except ValueError:  # what was done is done: it must not be done again for the sake of its report
            run.note("its result was not kept: Postgres cannot hold it as JSON")
            return
        if len(text) > MAX_RESULT:
            run.note(f"its result of {len(text)} characters was not kept")
            return
        await db.execute(RESULT, run.claim.id, text)

    def _after(self, tx: Tx, lanes: set[str]) -> None:
        for lane in lanes:
            self.published(lane)
        if tx.effects.orders:
            self.enqueued(sorted({order.queue for order in tx.effects.orders}))

    # When it did not go well --------------------------------------------------------------------------------------

    async def failed(self, claim: Claim, error: BaseException) -> None:
        """A start has failed: back in line later, or a dead letter. Nothing when the job is no longer ours."""
        outcome = failures.decide(
            error, claim.attempt, now=self.clock(), first_at=claim.created_at, attempts=claim.attempts,
            backoff=backoff_of(claim, self.queues), roll=self.roll(),
        )
        log.info(
            "%s %s, attempt %d: %s -> %s", claim.queue, claim.kind, claim.attempt, failures.describe(error),
            type(outcome).__name__,
        )
        async with self.transaction() as db:
            await settle(db, claim, error, outcome, self.process)
            await failpoint("job.buried" if isinstance(outcome, failures.Dead) else "job.failed")

    async def give_up(self, runs: Sequence[Running]) -> None:
        """One of these, or all in one call, ran longer than it may and will not be cancelled. Whoever is to blame is
        charged; those who only share its transaction go to others. Raises Infrastructure or TimeoutError."""
        blamed = [run for run in runs if run.began < math.inf]
        if len(blamed) > 1 and (handler := self.handler(blamed[0].claim)) is not None:
            self.together[handler.id] = 1
            blamed = []  # alone, each will show what it does
        if others := [run for run in runs if run not in blamed]:
            for run in others:
                run.given_up = True
            await self.hand_back([run.claim for run in others], None)
        for run in blamed:
            async with asyncio.timeout(5):
                await self.failed(run.claim, Overdue("it ran longer than it may, and could not be cancelled"))
            run.given_up = True

    async def interrupted_by(self, error: Infrastructure, claims: Sequence[Claim]) -> None:
        """Nobody's fault, so no attempt is spent, until it happens to one job again and again."""
        if len(self.interrupted) > 10_000:  # most of them have long ended elsewhere
            self.interrupted.clear()
        self.interrupted.update(claim.id for claim in claims)
        if len(claims) == 1 and self.interrupted[claims[0].id] > INTERRUPTIONS:
            with suppress(Infrastructure):
                await self.failed(claims[0], error)
                return
        await self.hand_back(claims, 1.0)

    async def hand_back(self, claims: Sequence[Claim], wait: float | None) -> None:
        """Nobody's fault: another try, without spending an attempt; as soon as Postgres can be told."""
        try:
            async with asyncio.timeout(5), self.hurried() as db:  # functions may hold all other connections
                await lines.release(db, [(claim, wait, claim.spent) for claim in claims])
                await failpoint("job.released")
        except (Infrastructure, TimeoutError):
            log.warning("%d jobs of %s stay leased until Postgres answers", len(claims), claims[0].queue)
            self.unreturned += [(claim, wait) for claim in claims]

    async def hand_back_again(self) -> None:
        """What could not be handed back at its time. Raises Infrastructure when it still can't be."""
        if self.unreturned:
            some = list(self.unreturned)
            async with self.hurried() as db:
                await lines.release(db, [(claim, wait, claim.spent) for claim, wait in some])
            del self.unreturned[: len(some)]

    async def end_cancelled(self, runs: Sequence[Running]) -> None:
        """An operator cancelled some of these: those end, their neighbours in the transaction go again."""
        asked = [run.claim for run in runs if run.cancelled]
        others = [run.claim for run in runs if not run.cancelled]
        async with self.transaction() as db:
            await lines.finish(db, asked, "cancelled", self.process)
            if others:
                await lines.release(db, [(claim, None, claim.spent) for claim in others])

    # Messages -----------------------------------------------------------------------------------------------------

    async def _load(self, db: Any, claims: Sequence[Claim]) -> list[Message]:
        """The typed messages of these jobs; of failed calls, their events from the event store."""
        return [await _event(db, c) if c.queue == CALLS else _message(c) for c in claims]


async def settle(
    db: Any, claim: Claim, error: BaseException, outcome: failures.Retry | failures.Wait | failures.Dead, process: str
) -> None:
    """Carry out what was decided of a failed start, if the claim still stands."""
    if isinstance(outcome, failures.Wait):
        await lines.release(db, [(claim, outcome.wait.total_seconds(), claim.spent)])
    elif isinstance(outcome, failures.Retry):
        if await lines.release(db, [(claim, outcome.wait.total_seconds(), claim.attempt)]):
            await note_attempts(db, [(claim.id, claim.attempt, error)], process)
    elif await db.fetchval(END_FAILED, claim.id, claim.token) is not None:
        await note_attempts(db, [(claim.id, claim.attempt, error)], process)
        await dead_letters.bury(db, claim.id, error, outcome.reason, process)
        if claim.held or claim.dedup:
            await db.execute(lines.LET_GO, [claim.id])


def count_completed(claims: Sequence[Claim]) -> None:
    """For the metrics, after the commit."""
    for queue, count in Counter(claim.queue for claim in claims).items():
        metrics.bullmq_job_completed_total.labels(queue).inc(count)


def backoff_of(claim: Claim, queues: Mapping[str, Queue]) -> Backoff | None:
    """The job's own backoff (BullMQ's option: milliseconds, or type, delay and jitter), else its queue's."""
    said = claim.options.get("backoff")
    if said is None:
        return queues[claim.queue].backoff if claim.queue in queues else None
    if isinstance(said, int | float):
        return Backoff(timedelta(milliseconds=said), "fixed")
    return Backoff(timedelta(milliseconds=said["delay"]), said["type"], said["jitter"])


def storable(value: object) -> str:
    """JSON that Postgres can hold. Raises ValueError for cycles, NaN, NUL and lone surrogates."""
    try:
        text = json.dumps(value, default=str, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, RecursionError):
        raise ValueError("not to be had as JSON") from None
    if "\\u0000" in text:
        raise ValueError("a string holds a NUL character")
    return text


def printable(line: str) -> str:
    """A line that Postgres can hold, whatever a program put into it."""
    return line.replace("\0", "�").encode(errors="replace").decode()


@contextmanager
def _at_work(runs: Sequence[Running]) -> Iterator[None]:
    """While the block lasts, the time that these take is theirs."""
    for run in runs:
        run.began = time.monotonic()
    try:
        yield
    finally:
        for run in runs:
            run.began = math.inf


def _lane(claim: Claim) -> str:
    return f"jobs-{claim.event_key or claim.id}"


def _message(claim: Claim) -> Message:
    cls = JOB_TYPES[claim.queue, claim.kind]
    try:
        message = cls.model_validate_json(claim.payload)
    except ValidationError:
        raise PermanentError("the payload does not fit this job's class") from None
    message.with_meta(Meta(
        tenant=claim.tenant, id=str(claim.id), source=f"/skillcore/jobs/{claim.queue}", time=claim.created_at,
        key=claim.id, correlation_id=claim.correlation_id, causation_id=claim.causation_id, actor_id=claim.actor_id,
    ))
    return message


async def _event(db: Any, claim: Claim) -> Message:
    stored = await db.fetchrow(THE_EVENT, claim.event_key)
    if stored is None:
        raise PermanentError("the event of this call is gone")
    message = EVENT_TYPES[stored["type"]].model_validate_json(stored["data"], extra="ignore")
    message.with_meta(Meta(
        tenant=stored["tenant_id"], id=stored["id"], source=stored["source"], time=stored["time"],
        key=stored["event_key"], correlation_id=stored["correlation_id"], causation_id=stored["causation_id"],
        actor_id=stored["actor_id"],
    ))
    return message
