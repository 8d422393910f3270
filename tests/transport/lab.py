"""A worker of the transport's tests: one small agent, on stock Faust or on HardenedApp, that writes down what it sees.

`python -m tests.transport.lab worker --without-web -l warn`, with Options as JSON in $LAB. Each line of its log is a
JSON list. What a record's value asks for is done by both kinds, so that a test compares nothing but the transport.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass, field
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from skillcore_streams.adapters import kafka
from skillcore_streams.adapters.kafka import HardenedApp
from skillcore_streams.runtime.chunk import Chunk


@dataclass
class Options:
    """How the worker is set up. Times in seconds."""

    broker: str
    topic: str
    group: str
    log: str
    datadir: str
    hardened: bool
    bulk: bool = False
    codec: str = "raw"
    concurrency: int = 1
    session: float = 2.0
    commit_interval: float = 0.2
    max_poll_interval: float = 1000.0
    patience: float = 60.0
    revocation: float = 5.0
    hangs: bool = False
    """Never finishes the first record `hang` it gets."""
    refused_commits: int = 0
    """That many commits carry more metadata than the broker takes."""
    offsets: str = ""
    """A file that holds {partition: next offset}: the store that owns the offsets."""
    chunk_limit: int = 500
    chunk_bytes: int = 1 << 20
    extra: dict[str, Any] = field(default_factory=dict)


class Lab:
    """What the agent does with records, and the log."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.app = (hardened if options.hardened else stock)(self)
        self.running: set[asyncio.Task[None]] = set()
        self.hung = False

    def say(self, *words: Any) -> None:
        fd = os.open(self.options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (json.dumps(words) + "\n").encode())
        os.close(fd)

    async def records(self, stream: Any) -> None:
        """The agent. A chunk runs in a task of its own, as the product's does, so that it can be rolled back."""
        self.say("begun", os.getpid())
        async for event in stream.events():
            if isinstance(event.value, Chunk):
                task = asyncio.create_task(self.chunk(event.value))
                self.running.add(task)
                await asyncio.wait({task})
                self.running.discard(task)
            else:
                await self.record(event.message.partition, event.message.offset, event.value)

    async def chunk(self, chunk: Chunk) -> None:
        if not chunk.is_current():
            self.say("stale", chunk.partition, chunk.start)
            return
        self.say("chunk", chunk.partition, chunk.start, chunk.end, [r.offset for r in chunk.records],
                 sum(len(r.value or b"") for r in chunk.records))
        for record in chunk.records:
            if record.value == b"refuse" and not self.hung:
                self.hung = True
                self.app.consumer.reseek(TP(chunk.topic, chunk.partition))
                return
            await self.record(chunk.partition, record.offset, record.value)

    async def record(self, partition: int, offset: int, value: Any) -> None:
        shown = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        self.say("start", partition, offset, shown)
        if shown == "hang" and self.options.hangs and not self.hung:
            self.hung = True
            await asyncio.Event().wait()
        self.say("done", partition, offset, shown)

    def abandon(self) -> None:
        for task in self.running:
            self.say("rolled back", task.cancel())

    def next_offsets(self, tps: set[TP]) -> dict[TP, int]:
        with open(self.options.offsets) as file:
            known = {int(p): n for p, n in json.load(file).items()}
        return {tp: known[tp.partition] for tp in tps if tp.partition in known}

    async def listen(self) -> None:
        """SIGHUP is one call of commit()."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._commit)
        self.say("ready", os.getpid())

    def _commit(self) -> None:
        async def commit() -> None:
            self.say("commit", await self.app.consumer.commit())

        self.committing = asyncio.create_task(commit())


def settings(options: Options) -> dict[str, Any]:
    return {
        "broker": f"kafka://{options.broker}",
        "store": "memory://",
        "datadir": options.datadir,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "broker_session_timeout": options.session,
        "broker_heartbeat_interval": options.session / 5,
        "broker_rebalance_timeout": 30.0,
        "broker_request_timeout": 15.0,
        "broker_commit_interval": options.commit_interval,
        "broker_max_poll_interval": options.max_poll_interval,
        "stream_wait_empty": True,
        "cython_optimizations": True,
        **options.extra,
    }


def stock(lab: Lab) -> faust.App:
    return faust.App(lab.options.group, **settings(lab.options))


def hardened(lab: Lab) -> HardenedApp:
    options = lab.options
    kafka.PATIENCE, kafka.REVOCATION, kafka.CHUNK_BYTES = options.patience, options.revocation, options.chunk_bytes

    class App(HardenedApp):
        bulk_topics = frozenset({options.topic} if options.bulk else ())

        def chunk_limit(self, tp: TP) -> int:
            return options.chunk_limit

        def abandon(self) -> None:
            lab.abandon()

        async def next_offsets(self, tps: set[TP]) -> dict[TP, int]:
            return lab.next_offsets(tps) if options.offsets else await super().next_offsets(tps)

    return App(options.group, **settings(options))


def refuse_commits(times: int) -> None:
    """Make the broker itself refuse the first commits: their metadata is longer than it takes."""
    commit = AIOKafkaConsumer.commit
    left = [times]

    async def too_long(self: Any, offsets: Any = None) -> None:
        if left[0] > 0:
            left[0] -= 1
            offsets = {tp: OffsetAndMetadata(at.offset, "x" * 5000) for tp, at in offsets.items()}
        await commit(self, offsets)

    AIOKafkaConsumer.commit = too_long


def main() -> None:
    lab = Lab(Options(**json.loads(os.environ["LAB"])))
    options = lab.options
    refuse_commits(options.refused_commits)
    codec = {"value_serializer": options.codec} | ({"value_type": bytes} if options.codec == "raw" else {})
    topic = lab.app.topic(options.topic, key_serializer="raw", key_type=bytes, **codec)
    isolated = {"isolated_partitions": True} if options.bulk else {"concurrency": options.concurrency}
    lab.app.agent(topic, name="records", **isolated)(lab.records)
    lab.app.task(lab.listen)
    lab.app.main()


if __name__ == "__main__":
    main()
