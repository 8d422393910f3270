"""Postgres by asyncpg: the pool, short transactions, and one class for everything that is nobody's fault."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from skillcore_streams.runtime.errors import Infrastructure

log = logging.getLogger(__name__)
T = TypeVar("T")

CLIENT_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that asyncpg raises. InternalClientError: the session ended where the protocol did not expect it. OSError
has TimeoutError among its kin."""

INFRASTRUCTURE = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available in lock_timeout
    "57014",  # statement_timeout; a handler's own limit is shorter
    "57P01", "57P02", "57P03", "57P04", "57P05",  # shutdown, crash, starting up, database dropped, idle session
    "25P03",  # idle in transaction: this worker was frozen
})
CLASSES = ("08", "53", "58")
"""Connection exceptions, insufficient resources (disk full, too many connections), system errors."""

SESSION = {
    "statement_timeout": "10s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",  # a frozen worker must not hold its row locks longer
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    "jit": "off",
}


def infrastructure(error: BaseException) -> Infrastructure | None:
    """What a driver's error means to the runtime: Infrastructure, or None when it is the statement's own fault."""
    if isinstance(error, Infrastructure):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in INFRASTRUCTURE or state[:2] in CLASSES:
            return Infrastructure(f"Postgres: {type(error).__name__} ({state})")
        return None
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.exceptions.DataError):
        closed = ("closed", "released", "terminated", "connection")
        return Infrastructure("Postgres: connection lost") if any(w in str(error) for w in closed) else None
    if isinstance(error, OSError | asyncpg.InternalClientError):  # ConnectionError and its kin
        return Infrastructure(f"Postgres: {type(error).__name__}")
    return None


END_HALF_SAID = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
     where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
       and state = 'active' and wait_event = 'ClientRead' and query !~* '^\\s*copy'
       and state_change < clock_timestamp() - interval '5 s'"""
"""Ends sessions of ours whose client fell silent between two messages of one statement: a worker frozen there. To
Postgres it is neither idle in transaction nor executing, so no timeout applies, and its locks would stay for good."""


class _Raw(asyncpg.Connection):
    """asyncpg's connection without the reset query after each use: we leave nothing behind in a session."""

    def get_reset_query(self) -> str:
        return ""


class Connection:
    """A transaction as the runtime and handlers see it: asyncpg's verbs, with its errors translated."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        return await self._do(self._raw.fetch, query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """The first row or None."""
        return await self._do(self._raw.fetchrow, query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row or None."""
        return await self._do(self._raw.fetchval, query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement; returns its status."""
        return await self._do(self._raw.execute, query, *args)

    @staticmethod
    async def _do(method: Callable[..., Awaitable[T]], *args: Any) -> T:
        try:
            return await method(*args)  # a lost connection may raise before there is anything to await
        except CLIENT_ERRORS as error:
            translated = infrastructure(error)
            if translated is None:
                raise
            raise translated from error

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A subtransaction whose deferred constraints are checked at its end."""
        await self.execute("savepoint s")
        try:
            yield
            await self.execute("set constraints all immediate")
        except Infrastructure:
            raise  # the whole transaction is going away
        except BaseException:
            await self.execute("rollback to savepoint s")
            await self.execute("release savepoint s")
            raise
        await self.execute("set constraints all deferred")
        await self.execute("release savepoint s")


class Postgres:
    """A small pool with a semaphore before BEGIN, and one prober while the server is away."""

    def __init__(self, dsn: str, *, size: int = 4, name: str = "skillcore", **settings: str) -> None:
        """`settings`: of its sessions, beside SESSION; `synchronous_commit="off"` for what may be lost in a crash."""
        self._settings = SESSION | {"application_name": name} | settings
        self._dsn = dsn
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._closing = False
        self._prober: asyncio.Task[None] | None = None
        self._back = asyncio.Event()
        self._back.set()

    @property
    def available(self) -> bool:
        """False from the first sign of trouble until a probe succeeded."""
        return self._back.is_set()

    async def close(self) -> None:
        """Close all connections, waiting a moment for those in use."""
        self._closing = True
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=3.0)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._pool.terminate()
                await asyncio.sleep(0)  # transports close in the loop's next turn
            self._pool = None

    async def _get_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is not None and self._pool.is_closing() and not self._closing:
            self._pool = None  # a function that got hold of it has closed it
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    try:
                        self._pool = await asyncpg.create_pool(
                            self._dsn,
                            min_size=1,
                            max_size=self._size,
                            timeout=5.0,
                            connection_class=_Raw,
                            max_inactive_connection_lifetime=300.0,
                            server_settings=self._settings,
                        )
                    except CLIENT_ERRORS as error:
                        raise infrastructure(error) or Infrastructure(
                            f"Postgres refused us: {type(error).__name__}"
                        ) from error
        return self._pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """BEGIN, the body, COMMIT; ROLLBACK when the body raises. Waits its turn for one of the few connections.

        Raises Infrastructure for anything that is the server's or the network's doing, COMMIT's lost answer included:
        whether it took effect is then to be read from the rows.
        """
        pool = await self._get_pool()
        raw = await self._acquire(pool)
        try:
            connection = Connection(raw)
            await connection.execute("begin")
            try:
                yield connection
            except BaseException as error:
                await self._rollback(raw, error)
                raise
            await connection.execute("commit")
        finally:
            await self._release(pool, raw)

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection without BEGIN and COMMIT: each statement is a transaction, one round trip instead of three.

        Raises as `transaction()` does.
        """
        pool = await self._get_pool()
        raw = await self._acquire(pool)
        try:
            yield Connection(raw)
        finally:
            await self._release(pool, raw)

    async def _acquire(self, pool: Any) -> Any:
        try:
            if pool.get_idle_size():
                return await pool.acquire()  # at once: a timeout would cost a task
            return await pool.acquire(timeout=15.0)
        except CLIENT_ERRORS as error:
            raise infrastructure(error) or Infrastructure("Postgres: no connection to be had") from error

    async def _rollback(self, raw: Any, error: BaseException) -> None:
        try:
            await asyncio.shield(raw.execute("rollback", timeout=5.0))
        except BaseException as second:
            self._drop(raw)  # the server rolls back what it is no longer connected to
            if isinstance(second, asyncio.CancelledError) and not isinstance(error, asyncio.CancelledError):
                raise

    async def _release(self, pool: Any, raw: Any) -> None:
        try:
            await pool.release(raw, timeout=5.0)
        except CLIENT_ERRORS:
            self._drop(raw)

    @staticmethod
    def _drop(raw: Any) -> None:
        """Close a connection without a word. One that the server ended has left the pool by itself."""
        with suppress(asyncpg.InterfaceError):
            raw.terminate()

    async def back_again(self) -> None:
        """Return when the server answers. Many may wait; one probes, every 0.5 to 10 s, jittered."""
        if self._prober is None or self._prober.done():
            self._back.clear()
            self._prober = asyncio.create_task(self._probe(), name="postgres prober")
        await self._back.wait()

    async def _probe(self) -> None:
        pause = 0.05
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            try:
                async with self.transaction() as db:
                    if ended := await db.fetchval(END_HALF_SAID):
                        log.warning("%d sessions of frozen workers were ended: their locks held up others", ended)
            except Infrastructure as error:
                if pause >= 0.5:
                    log.warning("Postgres is away, trying again: %s", error)
                pause = min(max(0.5, pause * 2), 10.0)
            else:
                self._back.set()
                return


class Bell:
    """Tells other processes that jobs were inserted, so that they need not wait for their next look. May be missed.

    NOTIFY makes commits wait for one another, so it never travels with the rows: what is rung within 1 ms goes in one
    commit of its own, which nobody waits for.
    """

    CHANNEL = "skillcore_jobs"
    TOGETHER = 0.001

    def __init__(self, dsn: str, transaction: Callable[[], Any], *, name: str = "skillcore") -> None:
        self._dsn = dsn
        self._name = name
        self._transaction = transaction
        self._said: set[str] = set()
        self._ringing: asyncio.Task[None] | None = None

    def ring(self, queues: Iterable[str]) -> None:
        """Jobs of these queues wait."""
        self._said.update(queues)
        if self._said and (self._ringing is None or self._ringing.done()):
            self._ringing = asyncio.create_task(self._ring(), name="bell")

    async def _ring(self) -> None:
        while self._said:
            said, self._said = " ".join(sorted(self._said)), set()
            with suppress(Infrastructure):
                async with self._transaction() as db:
                    await db.execute("select pg_notify($1, $2)", self.CHANNEL, said)
            await asyncio.sleep(self.TOGETHER)

    async def listen(self, heard: Callable[[list[str]], None]) -> None:
        """Call `heard` with the names of queues, until cancelled; a lost connection is made anew."""
        while True:
            gone = asyncio.Event()
            try:
                raw = await asyncpg.connect(self._dsn, timeout=5.0, server_settings={"application_name": self._name})
            except CLIENT_ERRORS:
                await asyncio.sleep(2.0)
                continue
            try:
                raw.add_termination_listener(lambda connection, gone=gone: gone.set())
                await raw.add_listener(self.CHANNEL, lambda c, pid, channel, payload: heard(payload.split()))
                await gone.wait()
            except CLIENT_ERRORS:
                await asyncio.sleep(1.0)
            finally:
                raw.terminate()
