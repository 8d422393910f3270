"""A session that Postgres ends is nobody's fault: no handler is charged with it, and no record is parked for it."""

from __future__ import annotations

import asyncpg
import pytest

from skillcore_streams.adapters import postgres as adapter
from skillcore_streams.adapters.postgres import Connection, Postgres, infrastructure
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.stack import Stack
from tests.crash.world import until

pytestmark = pytest.mark.postgres


async def end_session_of(db: Connection, dsn: str) -> None:
    pid = await db.fetchval("select pg_backend_pid()")
    other = await asyncpg.connect(dsn)
    await other.execute("select pg_terminate_backend($1)", pid)
    await other.close()
    await until(lambda: db._raw._con is None, "the pool has noticed")


@pytest.mark.parametrize("verb", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_the_next_statement_of_a_lost_session_is_infrastructure(own: Stack, verb: str) -> None:
    dsn = own.env()["SKILLCORE_DATABASE_URL"]
    postgres = Postgres(dsn, name="lost")

    with pytest.raises(Infrastructure):  # noqa: PT012 - what is tested is the block
        async with postgres.transaction() as db:
            await end_session_of(db, dsn)
            await getattr(db, verb)("select 1")

    async with postgres.transaction() as db:
        assert await db.fetchval("select 1") == 1
    await postgres.close()


async def test_a_commit_on_a_lost_session_is_infrastructure(own: Stack) -> None:
    dsn = own.env()["SKILLCORE_DATABASE_URL"]
    postgres = Postgres(dsn, name="lost")

    with pytest.raises(Infrastructure):
        async with postgres.transaction() as db:
            await end_session_of(db, dsn)

    await postgres.close()


def test_a_protocol_error_of_the_client_is_infrastructure() -> None:
    """asyncpg's answer to a session that ends between two messages."""
    assert isinstance(infrastructure(asyncpg.InternalClientError("unexpected message")), Infrastructure)
    assert isinstance(infrastructure(TimeoutError()), Infrastructure)


async def test_a_worker_frozen_in_the_middle_of_a_statement_does_not_keep_its_locks(
    own: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = own.env()["SKILLCORE_DATABASE_URL"]
    monkeypatch.setattr(adapter, "END_HALF_SAID", adapter.END_HALF_SAID.replace("'5 s'", "'0.1 s'"))
    frozen = await asyncpg.connect(dsn, server_settings={"idle_in_transaction_session_timeout": "200"})
    watcher = await asyncpg.connect(dsn)
    half_said = "select state = 'active' and wait_event = 'ClientRead' from pg_stat_activity where pid = $1"
    pid = frozen.get_server_pid()
    await frozen.execute("begin; select pg_advisory_xact_lock(42)")
    await frozen.prepare("select 1")  # Parse, Describe, and nothing more: what SIGSTOP may leave behind
    await until(lambda: watcher.fetchval(half_said, pid), "the session is in the middle of a statement")
    assert not await watcher.fetchval("select pg_try_advisory_lock(42)")

    postgres = Postgres(dsn, name="next owner")

    async def free() -> bool:
        await postgres.back_again()  # as after each lock_timeout
        return bool(await watcher.fetchval("select pg_try_advisory_lock(42)"))

    await until(free, "the lock is free")
    await postgres.close()
    await watcher.close()
    frozen.terminate()
