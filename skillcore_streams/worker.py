"""The composition root: settings, adapters, core, and Faust's agents, tasks and pages. The only module that knows all.

`faust -A skillcore_streams worker -l info` finds `app` here.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn
from uuid import uuid4

import mode.loop
from aiokafka.errors import KafkaError
from faust.types import TP

from skillcore_streams import api, attendance_views, config, events, handlers, metrics, queues, web
from skillcore_streams.adapters import kafka_admin, migrations
from skillcore_streams.adapters.kafka import PATIENCE, HardenedApp, group_problem
from skillcore_streams.adapters.kafka_admin import KafkaAway
from skillcore_streams.adapters.postgres import Bell, Postgres
from skillcore_streams.adapters.producing import Producer
from skillcore_streams.adapters.providers import Http, connect
from skillcore_streams.adapters.s3 import S3Store
from skillcore_streams.notifications.rendering import Renderer
from skillcore_streams.rendering.pool import RenderPool
from skillcore_streams.runtime import failpoints, health, progress
from skillcore_streams.runtime.chunk import Chunk, deliver
from skillcore_streams.runtime.core import Core, utc_now
from skillcore_streams.runtime.documents import DocumentRenderer
from skillcore_streams.runtime.errors import Infrastructure, Misconfigured
from skillcore_streams.runtime.flood import FloodGuard
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.jobs.runner import Runner, runnable
from skillcore_streams.runtime.messages import EVENT_TYPES, QUEUES
from skillcore_streams.runtime.objects import ObjectStore
from skillcore_streams.runtime.outbox import Publisher
from skillcore_streams.runtime.providers import Providers
from skillcore_streams.runtime.registry import REGISTRY
from skillcore_streams.runtime.tables import BY_SCHOOL
from skillcore_streams.tables import AttendanceTable
from skillcore_streams.webhooks import Webhooks

log = logging.getLogger("skillcore.worker")

STANDSTILL = 60.0
"""Seconds that the event loop may stand still: a function computes, or waits without `await`. Then the process ends."""

CRASHED, CONFIGURATION = 1, 78
"""Exit codes: restart me; change something first."""


def refuse(problem: str, code: int = CONFIGURATION) -> NoReturn:
    """End the process with one sentence. `os._exit`: Faust would turn it into a traceback and exit code 1."""
    print(f"skillcore: {problem}", file=sys.__stderr__, flush=True)
    logging.shutdown()
    os._exit(code)


NEED_STORE = frozenset({"report-generation", "data-archival"})
"""Queues whose jobs keep files: they wait while no bucket is configured, rather than fail one by one."""


def open_store(settings: config.Settings) -> S3Store | None:
    """The bucket of reports and archives, or None when none is configured."""
    if settings.s3_bucket is None:
        return None
    access, secret = settings.s3_access_key, settings.s3_secret_key
    return S3Store(
        settings.s3_bucket, url=settings.s3_url, region=settings.s3_region, encryption=settings.s3_encryption,
        kms_key=settings.s3_kms_key, access_key=access.get_secret_value() if access else None,
        secret_key=secret.get_secret_value() if secret else None,
    )


def without_store() -> list[str]:
    """The queues of a worker that has no store."""
    log.info("no SKILLCORE_S3_BUCKET: jobs of %s wait for a worker that has one", ", ".join(sorted(NEED_STORE)))
    return sorted(runnable(REGISTRY) - NEED_STORE)


class Worker(HardenedApp):
    """The Faust app: where partitions begin, which problems end the process, what runs beside the agents."""

    settings: config.Settings
    postgres: Postgres
    outgoing: Producer
    core: Core
    publisher: Publisher
    runner: Runner
    reaper: Reaper
    attendance: AttendanceTable | None = None
    """The live table; None without the role `tables`."""
    webhooks: Webhooks
    api: api.Api

    def wire(self, settings: config.Settings) -> None:
        """Build everything that outlives a partition. Nothing connects yet."""
        self.settings = settings
        self.event_topics = frozenset(cls.__topic__ for cls in EVENT_TYPES.values())
        self.job_topics = frozenset(queue.topic for queue in QUEUES.values() if not queue.internal)
        self.bulk_topics = self.event_topics | self.job_topics
        self.buffer_bytes = settings.buffer_bytes
        self.refused: dict[TP, str] = {}
        self._schema_checked = False
        self._running: set[asyncio.Task[None]] = set()
        self.born = utc_now()
        self.process = f"{settings.worker_id}#{uuid4().hex[:8]}"
        self.has_beaten = False
        self._partitions = 0
        self.snapshot = health.Snapshot()
        self.snapshot_at = 0.0
        self._ends: dict[TP, int] = {}
        self._apart: dict[TP, tuple[int, int]] = {}
        self._useful_at = time.monotonic()
        self.postgres = Postgres(
            settings.database_url.get_secret_value(), size=settings.pool_size, name=settings.worker_id
        )
        self.outgoing = Producer(settings.kafka)
        self.publisher = Publisher(self.postgres.transaction, self.outgoing.send, settings.worker_id)
        dsn = settings.database_url.get_secret_value()
        self.job_postgres = Postgres(dsn, size=settings.pool_size, name=f"{settings.worker_id} jobs")
        self.claiming = Postgres(dsn, size=2, name=f"{settings.worker_id} claims", synchronous_commit="off")
        self.http = Http()
        self.webhooks = Webhooks(settings, self.postgres.transaction, self.publisher.wake, utc_now)
        self.files = open_store(settings)
        self.renderer = RenderPool(settings.render_processes)
        services: dict[type, object] = {
            Providers: connect(settings, self.http), Renderer: Renderer(settings.app_url),
            DocumentRenderer: self.renderer,
        }
        if self.files is not None:
            services[ObjectStore] = self.files
        self.runner = Runner(
            self.job_postgres.transaction, REGISTRY, utc_now, self.process, self.publisher.wake,
            hurried=self.claiming.statement, single=self.job_postgres.statement,
            queues=None if self.files else without_store(), services=services,
        )
        self.bell = Bell(dsn, self.claiming.statement, name=f"{settings.worker_id} bell")
        self.reaper = Reaper(self.job_postgres.transaction, utc_now, self.process)
        self.looking = Postgres(dsn, size=2, name=f"{settings.worker_id} api")
        self.api = api.Api(
            self.looking.transaction, utc_now, token=settings.api_token, lag=self.lag,
            legacy_tenant=settings.legacy_tenant, wake=self.runner.wake,
        )
        self.core = Core(
            transaction=self.postgres.transaction,
            postgres_back=self.postgres.back_again,
            worker_id=settings.worker_id,
            legacy_tenant=settings.legacy_tenant,
            job_topics=self.job_topics,
            flood=FloodGuard(settings.flood_guard),
            reseek=lambda topic, partition: self.consumer.reseek(TP(topic, partition)),
            published=self.publisher.wake,
            enqueued=self.enqueued,
        )

    # Start and end ------------------------------------------------------------------------------------------------

    async def on_first_start(self) -> None:
        """Before anything connects: what is not as needed ends the process with a sentence and exit code 78."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.conf.web_bind, self.conf.web_port))
            except OSError as error:
                refuse(
                    f"port {self.conf.web_port} on {self.conf.web_bind} is not to be had ({error.strerror}). "
                    "Choose another with SKILLCORE_WEB_PORT or --web-port."
                )
        try:
            problems = await kafka_admin.check(self.settings)
        except Misconfigured as error:
            problems = [str(error)]
        except KafkaAway as error:
            refuse(str(error), code=CRASHED)
        if problems:
            refuse(" ".join(problems))
        try:
            await self._check_schema()
        except Infrastructure as error:
            log.warning("starting without Postgres, nothing is processed until it answers: %s", error)
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()

    async def _check_schema(self) -> None:
        if not self._schema_checked:
            async with self.postgres.transaction() as db:
                problem = await migrations.behind(db)
            if problem:
                refuse(problem)
            self._schema_checked = True

    async def on_stop(self) -> None:
        """SIGTERM: no further job begins, what runs has its grace, while the consumer leaves its group."""
        await asyncio.gather(self.runner.stop(), super().on_stop())

    async def on_shutdown(self) -> None:
        """Consumer and jobs have stopped: let the outbox finish, say goodbye, then close."""
        await self.publisher.stop()
        await self.outgoing.__aexit__(None, None, None)
        await self.http.close()
        await self.renderer.close()
        if self.files is not None:
            await self.files.close()
        with suppress(Infrastructure):
            async with self.postgres.transaction() as db:
                await db.execute(health.GONE, self.settings.worker_id)
        for postgres in (self.postgres, self.job_postgres, self.claiming, self.looking):
            await postgres.close()
        await super().on_shutdown()

    def enqueued(self, queues: Sequence[str]) -> None:
        """Jobs of these queues were committed: look now, here and elsewhere."""
        self.runner.wake(queues)
        self.bell.ring(queues)

    # Partitions ---------------------------------------------------------------------------------------------------

    def chunk_limit(self, tp: TP) -> int:
        """As many records as take about 0.2 s in this partition."""
        return self.core.pace.limit(f"{tp.topic}-{tp.partition}")

    def abandon(self) -> None:
        """The partitions are leaving us: what still runs rolls back."""
        for task in self._running:
            task.cancel()

    async def run(self, chunk: Chunk, work: Callable[[Chunk], Coroutine[Any, Any, None]]) -> None:
        """Deliver one chunk, in a task of its own so that a revocation can roll it back without ending the agent."""
        if not chunk.is_current():
            return
        task = asyncio.create_task(work(chunk), name=chunk.lane)
        self._running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: the delivery itself failed, it comes again", chunk.lane, exc_info=error)
            await asyncio.sleep(1.0)
            self.core.reseek(chunk.topic, chunk.partition)

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
        except (Infrastructure, KafkaAway, KafkaError, TimeoutError) as error:
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

    # Health -------------------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """A heartbeat row every two seconds, to the very end and whatever else is slow or away: without it others would
        take our jobs for lost. A process whose event loop stands still ends itself."""
        while True:
            faulthandler.dump_traceback_later(STANDSTILL, exit=True, file=2)
            with suppress(Infrastructure):
                async with self.claiming.transaction() as db:
                    await health.beat(
                        db, self.settings.worker_id, self.process, self.settings.app_id,
                        ",".join(sorted(self.settings.roles)), self.born, self._partitions,
                    )
                self.has_beaten = True
            await asyncio.sleep(2.0)

    async def observe(self) -> None:
        """Every two seconds: the gauges, the figures of the health views."""
        mine = {TP(*tp) for tp in self.consumer.assignment() if tp[0] in self.bulk_topics}
        self._partitions = len(mine)
        async with self.postgres.transaction() as db:
            self.snapshot = await health.take(db, utc_now())
        self.snapshot_at = time.monotonic()
        self._ends = await self._end_offsets()
        self._follow_postgres(mine)
        metrics.partition_lag.clear()
        for tp in mine:
            metrics.partition_lag.labels(tp.topic, tp.partition).set(self._lag(tp))
        health.show(self.snapshot.backlog, self.lag)
        metrics.event_lag_seconds.set(self.lag_seconds())
        metrics.partitions_refused.set(len(self.refused))

    def _follow_postgres(self, mine: set[TP]) -> None:
        """Ask Postgres again where a partition begins, when it and Kafka, or it and we, disagree.

        The fence says so with the next chunk; a partition to which nobody writes has no next chunk.
        """
        apart = {}
        for tp in mine:
            standing, done = self.snapshot.standing.get((tp.topic, tp.partition), 0), self.consumer.done(tp)
            if self._ends.get(tp, 0) < standing:
                self.consumer.reseek(tp)  # the topic was recreated under us: it will be refused, with a sentence
            elif done is not None and done != standing:
                if self._apart.get(tp) == (standing, done):  # nothing moves: somebody set the offset
                    self.consumer.reseek(tp)
                apart[tp] = (standing, done)
        self._apart = apart

    async def _end_offsets(self) -> dict[TP, int]:
        known = list(self.snapshot.standing)
        if "events" in self.settings.roles:
            async with asyncio.timeout(10):
                return dict(await self.consumer.highwaters(*(TP(*tp) for tp in known))) if known else {}
        # A client that subscribes to none of these topics would wait for their metadata for ever.
        return {TP(*tp): end for tp, (_, end) in (await kafka_admin.bounds(self.settings.kafka, known)).items()}

    async def watch(self) -> None:
        """Every second: are we of use to the group? If not for a minute, end, so that somebody restarts us."""
        if self._problem() is None:
            self._useful_at = time.monotonic()
        elif time.monotonic() - self._useful_at > PATIENCE:
            await self.crash(RuntimeError(f"of no use to its consumer group for {PATIENCE:.0f} s: {self._problem()}"))

    def _problem(self) -> str | None:
        problem = group_problem(self)
        if problem is not None and problem != "rebalancing":
            return problem
        stuck = self.consumer.oldest_flight()
        if stuck > PATIENCE and self.postgres.available and not self.core.paused:
            return f"a chunk has not been finished for {stuck:.0f} s"
        return None

    def not_alive(self) -> list[str]:
        """Why this process should be restarted."""
        age = time.monotonic() - self._useful_at
        return [f"{self._problem()} (for {age:.0f} s)"] if age > PATIENCE / 2 else []

    def not_ready(self) -> list[str]:
        """Why this worker processes nothing, or not everything, at this moment."""
        problems = self.not_alive()
        if self.should_stop:
            problems.append("stopping")
        if not problems and (problem := group_problem(self)) is not None:
            problems.append(problem)
        if not problems and self.attendance is not None and (wait := self.attendance.problem()) is not None:
            problems.append(wait)
        if not self.postgres.available or not self._schema_checked:
            problems.append("Postgres is away")
        problems += [f"{tp.topic} partition {tp.partition} is refused: {why}" for tp, why in self.refused.items()]
        problems += [f"{lane} is paused: {why}" for lane, why in self.core.paused.items()]
        return problems

    def _lag(self, tp: TP) -> int:
        return max(0, self._ends.get(tp, 0) - self.snapshot.standing.get((tp.topic, tp.partition), 0))

    def lag(self, topic: str) -> int:
        """Records of a topic that nobody has processed yet."""
        return sum(self._lag(tp) for tp in self._ends if tp.topic == topic)

    def lag_seconds(self) -> float:
        """How far behind this worker's slowest partition is: age of the last record it finished, 0.0 without a lag."""
        now = time.time()
        behind = [
            now - stamp / 1000 for (topic, partition), stamp in self.core.finished.items()
            if self._lag(TP(topic, partition)) > 0
        ]
        return max(behind, default=0.0)


async def consume(stream: Any) -> None:
    """The agent of all event topics, and that of all job topics: asking for the next chunk acks this one."""
    async for chunk in stream:
        await app.run(chunk, partial(deliver, core=app.core))


async def roll_up(stream: Any) -> None:
    """The agent of the attendance table's inputs, likewise."""
    assert app.attendance is not None
    async for chunk in stream:
        await app.run(chunk, app.attendance.take)


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
    """The job engine, once this worker is known to live: without its heartbeat others would take its jobs for lost."""
    if app.has_beaten:
        await app.runner.serve()


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
        web_host=settings.web_name,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_application_options={
            "middlewares": [web.allow_list, attendance_views.door(settings, lambda: app.conf.web_bind)]
        },
    )
    worker.wire(settings)
    web.add_pages(worker)
    for role, topics in (("events", worker.event_topics), ("jobs", worker.job_topics)):
        if role in settings.roles:
            topic = worker.topic(*sorted(topics), value_type=bytes, value_serializer="raw",
                                 key_type=bytes, key_serializer="raw")
            worker.agent(topic, name=role, isolated_partitions=True)(consume)
    if "tables" in settings.roles:
        worker.table_topics = frozenset({BY_SCHOOL})
        worker.attendance = AttendanceTable(worker, worker.outgoing.send)
        topic = worker.topic(BY_SCHOOL, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")
        worker.agent(topic, name="tables", isolated_partitions=True)(roll_up)
        worker.task(lambda: forever(worker.attendance.settle, 2.0))
    if "jobs" in settings.roles:
        worker.task(lambda: forever(run_jobs, 0.1))
        worker.task(lambda: forever(lambda: worker.bell.listen(worker.runner.wake), 1.0))
        worker.task(lambda: forever(worker.reaper.reap, 2.0))
        worker.task(lambda: forever(worker.reaper.prune_all, 2.0))
        worker.task(lambda: forever(worker.reaper.tell, 2.0))
    worker.task(worker.beat)
    worker.task(lambda: forever(worker.observe, 2.0))
    worker.task(lambda: forever(worker.watch, 1.0))
    if "outbox" in settings.roles:
        worker.task(lambda: forever(worker.publisher.sweep, 1.0))
    return worker


mode.loop.use("uvloop")  # a fifth less CPU an event, here and in the consumer's thread
try:
    app = create_app(config.load())
except Misconfigured as error:
    refuse(str(error))
