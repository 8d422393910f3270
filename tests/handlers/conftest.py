"""Two fixtures are all that tests of handlers need; copy them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from skillcore_streams.testing import HandlerLab, committed, migrated, rolled_back


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A migrated database, once a run."""
    async with migrated(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
async def lab(migrated_dsn: str) -> AsyncIterator[HandlerLab]:
    """The runtime on a database where nothing has happened yet; what a test does is rolled back."""
    async with rolled_back(migrated_dsn) as made:
        yield made


@pytest.fixture
async def concurrent_lab(migrated_dsn: str) -> AsyncIterator[HandlerLab]:
    """The same with several connections, on a copy of the database."""
    async with committed(migrated_dsn) as made:
        yield made
