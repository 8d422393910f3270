"""The labs of tests/handlers serve jobs as well."""

from collections.abc import AsyncIterator

import pytest

from skillcore_streams.testing import HandlerLab
from tests.handlers.conftest import concurrent_lab, lab, migrated_dsn
from tests.queues.notify import Desk, desk_of

__all__ = ["concurrent_lab", "lab", "migrated_dsn"]


@pytest.fixture
async def desk(lab: HandlerLab) -> AsyncIterator[Desk]:
    """A village with families, and providers that answer as they are told."""
    async with desk_of(lab) as made:
        yield made
