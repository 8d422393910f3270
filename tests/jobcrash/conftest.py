"""A stack of its own: this folder kills Postgres and the broker, and must not do that to others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skillcore_streams.stack import Stack, temporary


@pytest.fixture(scope="package")
def own() -> Iterator[Stack]:
    with temporary() as stack:
        if stack.kafka_kind == "mock":
            pytest.skip("NOT RUN: needs Apache Kafka, and this machine has only librdkafka's in-memory broker")
        yield stack
