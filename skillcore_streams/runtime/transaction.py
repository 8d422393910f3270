"""One transaction of the runtime: a connection, and what its calls want to happen when it commits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from skillcore_streams.runtime import jobs, outbox
from skillcore_streams.runtime.context import Clock, Context, Database, Effects, Run
from skillcore_streams.runtime.envelope import Parked
from skillcore_streams.runtime.errors import SavepointsSpent
from skillcore_streams.runtime.flood import Outcome
from skillcore_streams.runtime.jobs import FailedCall
from skillcore_streams.runtime.messages import Event, Message
from skillcore_streams.runtime.registry import Handler

SAVEPOINTS = 48
"""A transaction bisects failing calls with at most this many; Postgres slows down beyond 64 subtransactions."""

CALL_LIMIT = 2.0
"""Seconds for one call. Longer work is a job; chunks must be short, or rebalances stop the group."""

BATCH_LIMIT = 5.0
"""Seconds for one call with a list of events."""


class HandlerAborted(Exception):
    """A handler tried to end the process or swallowed a cancellation. Treated like any other failure of it."""


class Tx:
    """Collects effects in memory; `flush` writes them, once, as rows of the same transaction."""

    def __init__(self, db: Any, clock: Clock, lane: str) -> None:
        self.db: Database = db
        self.clock = clock
        self.lane = lane
        self.effects = Effects.none()
        self.failed: list[FailedCall] = []
        self.parked: list[Parked] = []
        self.outcomes: list[Outcome] = []
        self.held: set[str] = set()
        self.taken: set[str] = set()
        self.offsets: dict[UUID, int] = {}
        self.repeats = 0
        self.newest: datetime | None = None
        self._connection = db
        self._savepoints = 0

    async def call(
        self, handler: Handler, messages: Sequence[Message], limit: float | None = None, run: Run | None = None
    ) -> Any:
        """Run a handler on this transaction: once with the list, or once a message, as its signature says.

        Whatever it does wrong arrives as an ordinary exception. Returns what the last call returned.
        """
        if handler.batch:
            return await self._one_call(handler, messages, list(messages), limit or BATCH_LIMIT, run)
        result = None
        for message in messages:
            result = await self._one_call(handler, [message], message, limit or CALL_LIMIT, run)
        return result

    async def _one_call(
        self, handler: Handler, messages: Sequence[Message], argument: object, limit: float, run: Run | None
    ) -> Any:
        db = self.db if handler.transaction else None
        ctx = Context(handler, messages, db=db, clock=self.clock, effects=self.effects, lane=self.lane, run=run)
        process = os.getpid()
        try:
            async with asyncio.timeout(limit):
                return await handler.function(argument, ctx)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # we are being stopped, not the handler
            raise HandlerAborted("the handler raised CancelledError") from None
        except Exception:
            raise
        except BaseException as error:  # SystemExit, KeyboardInterrupt, GeneratorExit and whatever it thought of
            raise HandlerAborted(f"the handler raised {type(error).__name__}") from None
        finally:
            if os.getpid() != process:
                os._exit(0)  # the handler forked: a second copy of us must not touch our connections

    def fail(self, handler: Handler, event: Event, error: BaseException | None) -> None:
        """Remember a call that becomes a job."""
        self.failed.append(FailedCall(handler, event, error, self.offsets.get(event.meta.key, 0)))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undoes rows and collected effects when its body raises. Deferred constraints are checked at its end, so that
        nothing can fail only at COMMIT and belong to nobody."""
        if self._savepoints >= SAVEPOINTS:
            raise SavepointsSpent(f"more than {SAVEPOINTS} savepoints in one transaction")
        self._savepoints += 1
        mark = self.effects.mark()
        try:
            async with self._connection.savepoint():
                yield
        except BaseException:
            self.effects.undo(mark)
            raise

    async def flush(self, worker: str) -> None:
        """Write outbox, jobs, failed calls and dead letters: few statements, whatever was collected."""
        if leaving := self.effects.leaving:
            await outbox.write(self.db, leaving)
        if self.effects.orders:
            await jobs.insert(self.db, self.effects.orders)
        if self.failed:
            await jobs.insert_calls(self.db, self.failed, worker, self.clock())
