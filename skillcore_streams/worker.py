"""The composition root: settings, adapters, core, and Faust's agents, tasks and pages. The only module that knows all.

`faust -A skillcore_streams worker -l info` finds `app` here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from faust.types import TP

from skillcore_streams import config, events, handlers, queues
from skillcore_streams.adapters import kafka_admin, migrations
from skillcore_streams.adapters.kafka import HardenedApp
from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.adapters.producing import Producer
from skillcore_streams.runtime import failpoints, progress
from skillcore_streams.runtime.chunk import Chunk, deliver
from skillcore_streams.runtime.core import Core, utc_now
from skillcore_streams.runtime.errors import Infrastructure, Misconfigured
from skillcore_streams.runtime.jobs import Executor
from skillcore_streams.runtime.messages import EVENT_TYPES
from skillcore_streams.runtime.outbox import Publisher
from skillcore_streams.runtime.registry import REGISTRY

log = logging.getLogger("skillcore.worker")

CONFIGURATION = 78


def refuse(problem: str) -> NoReturn:
    """End the process with exit code 78 and one sentence. `os._exit`: Faust would turn it into a traceback."""
    print(f"skillcore: {problem}", file=sys.stderr, flush=True)
    logging.shutdown()
    os._exit(CONFIGURATION)


class Worker(HardenedApp):
    """The Faust app: where partitions begin, which problems end the process, what runs beside the agents."""

    settings: config.Settings
    postgres: Postgres
    outgoing: Producer
    core: Core
    publisher: Publisher
    executor: Executor

    def wire(self, settings: config.Settings) -> None:
        """Build everything that outlives a partition. Nothing connects yet."""
        self.settings = settings
        self.bulk_topics = frozenset(cls.__topic__ for cls in EVENT_TYPES.values())
        self.buffer_bytes = settings.buffer_bytes
        self.refused: dict[TP, str] = {}
        self._topic_ids: dict[str, Any] = {}
        self._schema_checked = False
        self._running: set[asyncio.Task[None]] = set()
        self.postgres = Postgres(
            settings.database_url.get_secret_value(), size=settings.pool_size, name=settings.worker_id
        )
        self.outgoing = Producer(settings.kafka)
        self.publisher = Publisher(self.postgres.transaction, self.outgoing.send, settings.worker_id)
        self.executor = Executor(
            self.postgres.transaction, REGISTRY, utc_now, settings.worker_id, self.publisher.wake
        )
        self.core = Core(
            transaction=self.postgres.transaction,
            postgres_back=self.postgres.back_again,
            worker_id=settings.worker_id,
            legacy_tenant=settings.legacy_tenant,
            reseek=lambda chunk: self.consumer.reseek(TP(chunk.topic, chunk.partition)),
            published=self.publisher.wake,
            enqueued=self.executor.wake,
        )

    # Start and end ------------------------------------------------------------------------------------------------

    async def on_first_start(self) -> None:
        """Before anything connects: what is not as needed ends the process with a sentence and exit code 78."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.conf.web_bind, self.conf.web_port))
            except OSError as error:
                refuse(f"port {self.conf.web_port} on {self.conf.web_bind} is taken or closed to us ({error.strerror}). "
                       "Choose another with SKILLCORE_WEB_PORT or --web-port.")
        try:
            problems = await kafka_admin.check(self.settings)
        except Misconfigured as error:
            problems = [str(error)]
        if problems:
            refuse(" ".join(problems))
        try:
            await self._check_schema()
        except Infrastructure as error:
            log.warning("starting without Postgres, nothing is processed until it answers: %s", error)
        await super().on_first_start()

    async def _check_schema(self) -> None:
        if not self._schema_checked:
            async with self.postgres.transaction() as db:
                problem = await migrations.behind(db)
            if problem:
                refuse(problem)
            self._schema_checked = True

    async def on_shutdown(self) -> None:
        """The consumer has stopped: let the outbox finish, then close."""
        await self.publisher.stop()
        await self.outgoing.__aexit__(None, None, None)
        await self.postgres.close()
        await super().on_shutdown()

    # Partitions ---------------------------------------------------------------------------------------------------

    def chunk_limit(self, tp: TP) -> int:
        """As many records as take about 0.2 s in this partition."""
        return self.core.pace.limit(f"{tp.topic}-{tp.partition}")

    def abandon(self) -> None:
        """The partitions are leaving us: what still runs rolls back."""
        for task in self._running:
            task.cancel()

    async def run(self, chunk: Chunk) -> None:
        """Deliver one chunk, in a task of its own so that a revocation can roll it back without ending the agent."""
        if not chunk.is_current():
            return
        task = asyncio.create_task(deliver(chunk, self.core), name=chunk.lane)
        self._running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: the delivery itself failed, it comes again", chunk.lane, exc_info=error)
            await asyncio.sleep(1.0)
            self.core.reseek(chunk)

    async def next_offsets(self, tps: set[TP]) -> dict[TP, int]:
        """Where partitions begin: Postgres says. Those that cannot begin are missing, and say why in `refused`."""
        if not tps:
            return {}
        try:
            await self._check_schema()
            earliest = await self.consumer.earliest_offsets(*tps)
            end = await self.consumer.highwaters(*tps)
            ids = await kafka_admin.topic_ids(self.settings.kafka, sorted({tp.topic for tp in tps}))
            async with self.postgres.transaction() as db:
                standing = await progress.read(db, [(tp.topic, tp.partition) for tp in tps])
                new = [tp for tp in tps if (tp.topic, tp.partition) not in standing]
                if new:
                    await progress.begin(db, [(tp.topic, tp.partition, earliest[tp], ids.get(tp.topic)) for tp in new])
                    standing |= await progress.read(db, [(tp.topic, tp.partition) for tp in new])
        except Infrastructure as error:
            log.warning("offsets cannot be read, %d partitions wait: %s", len(tps), error)
            return {}
        starts = {}
        for tp in tps:
            at = standing[tp.topic, tp.partition]
            problem = progress.disagreement(at, earliest[tp], end[tp], ids.get(tp.topic))
            if problem is None:
                starts[tp] = at.next_offset
                self.refused.pop(tp, None)
            elif self.refused.get(tp) != problem:
                self.refused[tp] = problem
                log.critical("%s partition %d is refused: %s", tp.topic, tp.partition, problem)
        return starts


async def consume(stream: Any) -> None:
    """The agent of all event topics, one actor a partition: asking for the next chunk acks this one."""
    async for chunk in stream:
        await app.run(chunk)


async def forever(step: Callable[[], Awaitable[object]], every: float) -> None:
    """Repeat a background step. An error in it is logged, never fatal: Faust would end the worker."""
    while not app.should_stop:
        try:
            await step()
        except Infrastructure:
            await app.postgres.back_again()
        except Exception:
            log.exception("background step %s failed, it is tried again", getattr(step, "__qualname__", step))
        await asyncio.sleep(every)


async def run_jobs() -> None:
    """Run what is due; look again at once while there is work, else when woken or after half a second."""
    if not await app.executor.run_due():
        await app.executor.wait(0.5)


def create_app(settings: config.Settings) -> Worker:
    """The Faust app with its agents, background steps and pages."""
    for package in (events, queues, handlers):
        package.load()
    failpoints.arm(settings.failpoints)
    worker = Worker(
        settings.app_id,
        broker=";".join(f"kafka://{server}" for server in settings.kafka.split(",")),
        store="memory://",
        datadir=settings.datadir / settings.worker_id,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.heartbeat_interval,
        broker_rebalance_timeout=settings.rebalance_timeout,
        broker_request_timeout=max(30.0, settings.session_timeout),
        broker_commit_interval=0.5,
        broker_commit_every=2000,
        broker_max_poll_interval=86_400.0,
        consumer_max_fetch_size=262_144,
        producer_request_timeout=30.0,
        producer_linger=0.01,
        producer_max_batch_size=262_144,
        producer_compression_type="lz4",
        stream_wait_empty=True,
        stream_buffer_maxsize=8,
        cython_optimizations=True,
        web_bind=settings.web_host,
        web_port=settings.web_port,
        web_host=settings.web_host,
        web_tables_enabled=False,
        web_router_enabled=False,
    )
    worker.wire(settings)
    if "events" in settings.roles:
        topic = worker.topic(*sorted(worker.bulk_topics), value_type=bytes, value_serializer="raw",
                             key_type=bytes, key_serializer="raw")
        worker.agent(topic, name="events", isolated_partitions=True)(consume)
    if "jobs" in settings.roles:
        worker.task(lambda: forever(run_jobs, 0.0))
        worker.task(lambda: forever(worker.executor.reap, 10.0))
    if "outbox" in settings.roles:
        worker.task(lambda: forever(worker.publisher.sweep, 1.0))
    return worker


try:
    app = create_app(config.load())
except Misconfigured as error:
    refuse(str(error))
