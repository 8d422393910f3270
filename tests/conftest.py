"""What every test may ask for: one real stack a run. Domain fixtures are in skillcore_streams/testing.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from skillcore_streams.stack import temporary


@pytest.fixture(scope="session")
def stack() -> Iterator[dict[str, str]]:
    """SKILLCORE_* of a running stack: the one the environment names, else one of our own that ends with the run."""
    given = {name: value for name, value in os.environ.items() if name.startswith("SKILLCORE_")}
    if {"SKILLCORE_KAFKA", "SKILLCORE_DATABASE_URL"} <= given.keys():
        yield given
        return
    with temporary() as own:
        yield own.env() | {"KAFKA_KIND": own.kafka_kind}


@pytest.fixture(scope="session")
def kafka(stack: dict[str, str]) -> str:
    """Bootstrap servers of a real Apache Kafka. On the in-memory broker the test is reported as not run."""
    if stack.get("KAFKA_KIND") == "mock":
        pytest.skip("NOT RUN: needs Apache Kafka, and this machine has only librdkafka's in-memory broker")
    return stack["SKILLCORE_KAFKA"]


@pytest.fixture(scope="session")
def postgres_dsn(stack: dict[str, str]) -> str:
    """The stack's Postgres: role skillcore, which may create databases."""
    return stack["SKILLCORE_DATABASE_URL"]
