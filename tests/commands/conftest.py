"""One system for all commands and views: topics, schema, a district, one worker that has processed it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from skillcore_streams.adapters import kafka_admin
from skillcore_streams.config import Settings
from tests.commands.lab import API_TOKEN, Machine, RunningWorker, new_database, until, user

DISTRICT = Path(__file__).resolve().parents[2] / "data" / "grand-bend"


@pytest.fixture(scope="session")
def machine(kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Topics and schema as needed, nothing processed yet. The topics may hold other tests' events."""
    made = Machine(kafka, asyncio.run(new_database(postgres_dsn)), tmp_path_factory.mktemp("machine"))
    asyncio.run(kafka_admin.apply(Settings(kafka=kafka), "local"))
    made.run("migrate")
    return made


@pytest.fixture(scope="session")
def worker(machine: Machine) -> Iterator[RunningWorker]:
    """A worker that has caught up with a few events, one of them bad."""
    machine.run("send", "UserCreated", "--tenant", "oak", "--id", "user-1", "--data", user())
    with machine.worker(SKILLCORE_API_TOKEN=API_TOKEN) as running:
        running.ready()
        until(lambda: "user-1" in machine.run("events", "show", "--tenant", "oak", "--json"), 30, running.said)
        yield running
