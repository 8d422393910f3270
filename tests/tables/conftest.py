"""Handlers' labs, and a stack of its own with the product's workers: this folder kills and freezes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skillcore_streams.stack import Stack
from tests.crash.conftest import own
from tests.handlers.conftest import lab, migrated_dsn
from tests.tables.world import World

__all__ = ["lab", "migrated_dsn", "own"]


@pytest.fixture(scope="package")
def world(own: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Topics, schema, two schools a tenant. Workers come and go with the tests, the table stays."""
    made = World(own, tmp_path_factory.mktemp("tables"))
    yield made
    made.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
