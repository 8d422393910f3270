"""Writing to Kafka and knowing that it is written: acknowledged by all in-sync replicas, idempotent, pipelined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from skillcore_streams.runtime.envelope import encode
from skillcore_streams.runtime.errors import Infrastructure, Misconfigured, PermanentError
from skillcore_streams.runtime.messages import Event
from skillcore_streams.runtime.outbox import Original, Outgoing

__all__ = ["Outgoing", "Producer", "Undelivered", "outgoing"]

LINGER = 5
"""Milliseconds that a batch waits for company."""

BATCH = 256 << 10
"""Bytes of a batch. Per partition one is filled while one is on its way: what memory holds of a slow broker."""

MAX_RECORD = (1 << 20) - (4 << 10)
"""Bytes of key, value and headers; the topics take 1 MiB with Kafka's own framing."""

DEAD_LETTER_ROOM = 128 << 10
"""Further bytes that topics of dead letters take: the record as it came, and why it is there."""

TIMEOUT = 30.0
"""Seconds without an acknowledgement until the caller is told."""


class Undelivered(Infrastructure):
    """Kafka has not acknowledged. Records may or may not be in the topic: send them again, the inbox drops repeats."""


def outgoing(event: Event) -> Outgoing:
    """The record of an event that has its envelope: CloudEvents 1.0, Kafka binary mode."""
    topic, key, headers, value = encode(event)
    return Outgoing(topic, key, value, [(name, text.encode()) for name, text in headers.items()])


class Producer:
    """Writes records: `async with Producer("host:9092") as producer: await producer.send(records)`.

    May be shared by any number of tasks. It survives its client: aiokafka retries for ever, can't close while it
    does, and refuses a partition for good once a batch of it has failed (the sequence numbers have a gap from then
    on). So a client that has failed is dropped, and the next `send` begins with a new one.
    """

    def __init__(self, bootstrap: str, *, timeout: float = TIMEOUT) -> None:
        self._bootstrap = bootstrap
        self._timeout = timeout
        self._client: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._topics: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop(self._client)

    async def send(self, records: Sequence[Original]) -> list[int]:
        """Write the records, in order per key, and return their offsets when every one is acknowledged.

        Raises Undelivered when Kafka is away or silent for 30 s; before anything is written, PermanentError for a
        record that is too large and Misconfigured for a topic that does not exist.
        """
        client = await self._connected()
        try:
            await self._check(client, records)
            sent = [
                await client.send(r.topic, key=r.key, value=r.value, headers=r.headers, partition=r.partition)
                for r in records
            ]
            if sent:
                await self._acknowledged(sent)
            return [future.result().offset for future in sent]
        except (KafkaError, OSError) as error:
            await self._drop(client)
            raise Undelivered(f"Kafka at {self._bootstrap} refused records ({type(error).__name__}).") from None
        except Undelivered:
            await self._drop(client)
            raise

    async def _acknowledged(self, sent: list[asyncio.Future[Any]]) -> None:
        done, silent = await asyncio.wait(sent, timeout=self._timeout)
        errors = [error for future in done if (error := future.exception())]
        if errors:
            raise errors[0]
        if silent:
            raise Undelivered(
                f"Kafka at {self._bootstrap} acknowledged {len(done)} of {len(sent)} records in {self._timeout:g} s."
            )

    async def _check(self, client: AIOKafkaProducer, records: Sequence[Original]) -> None:
        """Refuse what can never be written, at once: aiokafka would look for a missing topic until the time is up."""
        for record in records:
            limit = MAX_RECORD + (DEAD_LETTER_ROOM if record.topic.endswith(".dlq") else 0)
            if record.size > limit:
                raise PermanentError(f"a record for {record.topic} has {record.size} bytes; {limit} are possible.")
        topics = {record.topic for record in records}
        if not topics <= self._topics:
            self._topics = (await client.client.fetch_all_metadata()).topics()
        if missing := sorted(topics - self._topics):
            raise Misconfigured(
                f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}. Create it: skillcore topics apply"
            )

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id="skillcore",
                    acks="all",
                    enable_idempotence=True,
                    compression_type=None,  # kafkajs, which the users have, reads no LZ4 without a codec of its own
                    linger_ms=LINGER,
                    max_batch_size=BATCH,
                    max_request_size=(1 << 20) + DEAD_LETTER_ROOM,
                    request_timeout_ms=int(self._timeout * 1000),
                )
                try:
                    async with asyncio.timeout(self._timeout):
                        await client.start()
                except (KafkaError, OSError) as error:  # TimeoutError is an OSError
                    await _close(client)
                    raise Undelivered(
                        f"Kafka at {self._bootstrap} cannot be reached ({type(error).__name__}). "
                        "Is it running (skillcore stack status), and is SKILLCORE_KAFKA its address?"
                    ) from None
                self._client = client
            return self._client

    async def _drop(self, client: AIOKafkaProducer | None) -> None:
        if client is not None and client is self._client:
            self._client = None
            await _close(client)


async def _close(client: AIOKafkaProducer) -> None:
    """Close a client in any state, soon. Its own stop() flushes first: for ever, when Kafka is away."""
    client._closed = client._message_accumulator._closed = True
    await client.client.close()  # ends requests to a broker that is silent
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await client._sender.close()
