"""A session that Postgres ends is nobody's fault: no handler is charged with it, and no record is parked for it."""

from __future__ import annotations

import asyncpg
import pytest

from skillcore_streams.adapters.postgres import Connection, Postgres
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
