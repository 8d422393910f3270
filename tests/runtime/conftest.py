"""An empty core database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from skillcore_streams.adapters.migrations import migrate
from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.runtime.core import Core
from skillcore_streams.runtime.registry import Registry
from tests.runtime.lab import Lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def core_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A database of its own, migrated."""
    name = f"core_{uuid4().hex[:8]}"
    server = await asyncpg.connect(postgres_dsn)
    await server.execute(f"create database {name}")
    dsn = postgres_dsn.rsplit("/", 1)[0] + "/" + name
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "create table effect (id bigint generated always as identity, handler text, event_key uuid, n int)"
    )
    await connection.close()
    yield dsn
    await server.execute(f"drop database {name}")  # not by force: that needs the right to end autovacuum
    await server.close()


@pytest.fixture
async def lab(core_dsn: str) -> AsyncIterator[Lab]:
    """An empty core database and a core on it. Time stands still; sleeping is noted and costs nothing."""
    postgres = Postgres(core_dsn, name="tests")
    async with postgres.transaction() as db:
        for table in (
            "progress", "inbox", "outbox", "outbox_lease", "dead_letter", "effect", "job", "job_seen", "level", "ready",
            "later", "lease", "suspect", "finished", "attempt", "hold", "dedup", "job_log", "job_progress",
            "job_result", "dead_letter_notice", "operator_action", "queue",
        ):
            await db.execute(f"delete from {table}")
        await db.execute("update backlog set counted_at = '-infinity', took = 0, figures = '{}'")
        await db.execute("alter table event disable trigger user")
        await db.execute("delete from event")
        await db.execute("alter table event enable trigger user")
    registry = Registry()
    core = Core(transaction=postgres.transaction, postgres_back=postgres.back_again, worker_id="w1", registry=registry)
    made = Lab(core, postgres, registry)
    core.clock = lambda: made.now
    core.reseek = lambda topic, partition: made.reseeks.append((topic, partition))

    async def sleep(seconds: float) -> None:
        made.slept.append(seconds)

    core.sleep = sleep
    await made.begin()
    yield made
    await postgres.close()


