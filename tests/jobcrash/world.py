"""What the crash test of jobs needs around the workers: jobs with declared outcomes, a provider, a supervisor."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from confluent_kafka import Producer

from skillcore_streams.adapters.postgres import Postgres
from skillcore_streams.runtime import jobs
from skillcore_streams.runtime.context import Order
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.messages import Meta, derive_id
from skillcore_streams.stack import free_port
from tests.crash.world import Worker, World, until
from tests.jobcrash.checker import Death, Declared, Report, check

TOPICS = """
kinds:
  jobs:
    name: skillcore.jobs.{{}}.v1
    partitions: {{production: 4, local: 4}}
    max_message_kib: 1024
  leader:
    name: "{{app}}-__assignor-__{{}}"
    partitions: {{production: 1, local: 1}}
    max_message_kib: 1024
topics:
  jobs:
    {name}: {{owner: tests}}
  leader:
    leader: {{owner: tests}}
"""

TABLES = """
    create table effect (
        id bigint generated always as identity primary key, n int not null, token uuid not null, process text not null,
        at timestamptz not null default clock_timestamp());
    create table began (
        id bigint generated always as identity primary key, n int not null, token uuid not null, process text not null,
        at timestamptz not null default clock_timestamp());
    create index on began (n);
    create table claimed (
        id bigint generated always as identity primary key, job_id uuid not null, token uuid not null,
        process text not null, spent int not null, alone boolean not null,
        at timestamptz not null default clock_timestamp());
    create function note_claims() returns trigger language plpgsql as $$ begin
        insert into claimed (job_id, token, process, spent, alone)
        select job_id, token, process, attempts, alone from fresh;
        return null;
    end $$;
    create trigger claimed after insert on lease referencing new table as fresh
        for each statement execute function note_claims();
"""

LEFT = """
    select (select count(*) from ready) + (select count(*) from later) + (select count(*) from lease)
         + (select count(*) from suspect) + (select count(*) from hold)"""

SABOTAGED_SQL = {
    "no token": ("finish_jobs", [(" and e.token = u.token", "")]),
    "early": ("promote_jobs", [("w.run_at <= clock_timestamp()", "w.run_at <= clock_timestamp() + interval '2 s'")]),
}
"""Builds whose functions were changed in the database: function, replacements."""


KILLERS, DROPPED = 3, 40
"""Jobs that end their process; answers that the provider drops."""


class Provider:
    """Accepts calls. Where it is told to, it then drops the answer."""

    def __init__(self) -> None:
        self.port = free_port(taken=set())
        self.calls: list[int] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/send"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/send", self._send)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body["n"])
        if body["drop"]:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": body["n"]}, status=202)


class Jobs(World):
    """One queue with its topic, one database, one provider; workers that are restarted when they are killed."""

    app = "tests.jobcrash.lab"
    roles = "jobs,outbox"
    topics, tables = TOPICS, TABLES

    def __init__(self, broker: str, server: str, folder: Path, sabotage: str, silent: int | None) -> None:
        super().__init__(broker, server, folder, sabotage)
        self.queue = self.name
        self.topic = f"skillcore.jobs.{self.queue}.v1"
        self.provider = Provider()
        self.told = {
            "queue": self.queue, "provider": self.provider.url, "slow": "0", "silent": str(silent or ""),
            "standstill": "",
        }
        self.ledger: list[Declared] = []
        self.deaths: list[Death] = []
        self.outages: list[tuple[float, float]] = []
        self.arming: Callable[[Worker], str] = lambda worker: ""
        self.ends: set[int] = set()
        """Exit codes with which a worker may end by itself, beside kill -9."""
        self.codes: list[int] = []
        """Those with which one did."""
        self.leaving: set[Worker] = set()
        """Those whose end is not the supervisor's business."""
        self._postgres = Postgres(self.dsn, name="lab")
        self._producer = Producer({
            "bootstrap.servers": broker, "linger.ms": 5, "enable.idempotence": True, "log_level": 2,
            "message.timeout.ms": 120_000,
        })
        self._acknowledged = self._sent = 0

    async def begin(self) -> None:
        await super().begin()
        await self.provider.start()
        if self.sabotage in SABOTAGED_SQL:
            function, changes = SABOTAGED_SQL[self.sabotage]
            text = await self.value(f"select pg_get_functiondef('{function}'::regproc)")
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
            await self.execute(text)

    # Jobs in ------------------------------------------------------------------------------------------------------

    async def put(self, some: Sequence[Declared]) -> None:
        """By whatever way each is to come. Those by insert are in the database afterwards."""
        self.ledger += some
        self.ledger += [Declared(n, mode, k, delay=wait / 1000, source="spread")
                        for d in some for n, mode, k, wait in d.acts]
        orders = []
        for d in some:
            if d.source == "record":
                self._record(d)
                if d.n % 100 == 50:
                    self._record(d)  # sent twice
            else:
                orders.append(self._order(d))
        while orders:
            try:
                async with self._postgres.transaction() as db:
                    await jobs.insert(db, orders)
                break
            except Infrastructure:
                await asyncio.sleep(0.2)
        self._producer.poll(0)

    def _options(self, d: Declared) -> dict[str, Any]:
        options: dict[str, Any] = {"attempts": d.attempts, "delay": d.delay * 1000}
        if d.mode in ("hang", "deaf"):
            options["timeout"] = 1000
        if d.mode == "expired":
            options["expiresAt"] = "2020-01-01T00:00:00Z"
        return options

    def _payload(self, d: Declared) -> tuple[str, dict[str, Any]]:
        if d.acts:
            return "spread", {"n": d.n, "acts": d.acts}
        mode = {"late": "plain", "expired": "expired"}.get(d.mode, d.mode)
        return ("call" if d.mode in ("call", "drop") else "act"), {"n": d.n, "mode": mode, "k": d.k}

    def _record(self, d: Declared) -> None:
        kind, body = self._payload(d)
        headers = {
            "ce_specversion": "1.0", "ce_id": f"job-{d.n}", "ce_type": f"com.skillcore.jobs.{self.queue}.{kind}.v1",
            "ce_source": "/tests", "ce_time": datetime.now(UTC).isoformat(), "ce_tenantid": d.tenant,
            "ce_jobopts": json.dumps(self._options(d)),
        }
        while True:
            try:
                self._producer.produce(
                    self.topic, json.dumps(body).encode(), str(d.n), headers=headers, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._sent += 1

    def _delivered(self, error: Any, message: Any) -> None:
        assert error is None, error
        self._acknowledged += 1

    def _order(self, d: Declared) -> Order:
        kind, body = self._payload(d)
        options = self._options(d)
        job_id = derive_id(self.queue, d.n)
        now = datetime.now(UTC)
        return Order(
            queue=self.queue, kind=kind, payload=json.dumps(body), id=job_id, chosen=True, attempts=d.attempts,
            meta=Meta(tenant=d.tenant, id=str(job_id), source="/tests", time=now, key=job_id, correlation_id="tests"),
            delay=timedelta(seconds=d.delay), options={"timeout": 1.0} if "timeout" in options else None,
            expires_at=datetime(2020, 1, 1, tzinfo=UTC) if d.mode == "expired" else None,
        )

    # Workers ------------------------------------------------------------------------------------------------------

    @staticmethod
    def alias(worker: Worker) -> str:
        """The name of this life of a worker."""
        return f"{worker.name}-{worker.lives}"

    async def supervise(self) -> None:
        """Start anew whatever was killed, and note when. Nobody may end by itself."""
        while True:
            for worker in self.workers:
                if worker.ended is not None and worker not in self.leaving:
                    allowed = {-signal.SIGKILL, *self.ends}
                    assert worker.ended in allowed, f"{worker.name} ended by itself: {worker.ended}"
                    self.codes += [worker.ended] if worker.ended in self.ends else []
                    self.died(worker)
                    worker.start(self.arming(worker))
            await asyncio.sleep(0.05)

    def died(self, worker: Worker) -> None:
        """Note who did it: a job, or the test."""
        alias, at = self.alias(worker), time.time()
        killer = self.folder / "killer"
        said = dict(line.split() for line in killer.read_text().splitlines()) if killer.exists() else {}
        if alias in said:
            self.deaths.append(Death(alias, float(said[alias]), "killer"))
        else:
            self.deaths.append(Death(alias, at, "the test"))

    async def kill(self, worker: Worker) -> bool:
        """kill -9, unless a suspect is tried there: who would be to blame could not be told. False when it was not."""
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)  # what it has sent to Postgres arrives
        with suppress(OSError):
            alone = f"select count(*) from lease where alone and process like '{self.alias(worker)}#%'"
            if await self.value(alone):
                worker.signal(signal.SIGCONT)
                return False
        worker.signal(signal.SIGKILL)
        return True

    async def terminate(self, worker: Worker, seconds: float) -> float:
        """SIGTERM in the middle of work: it ends well in time, and keeps nothing. Returns how long it took."""
        self.leaving.add(worker)
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        await until(lambda: worker.ended is not None, f"{worker.name} ends when asked to", seconds)
        assert worker.ended in (0, -signal.SIGKILL), worker.ended  # a killer may have been quicker
        if worker.ended == 0:
            mine = f"select count(*) from lease where process like '{self.alias(worker)}#%'"
            assert await self.value(mine) == 0, "it has handed back what it did not finish"
        else:
            self.died(worker)
        return time.monotonic() - began

    def begin_again(self, worker: Worker, points: str = "") -> None:
        """After terminate()."""
        worker.start(points)
        self.leaving.discard(worker)

    async def end_sessions(self) -> None:
        """All sessions of the workers, at once."""
        await self.execute("""
            select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
               and application_name <> 'lab'""")

    async def starting_takes(self) -> float:
        """Median of the seconds from a worker's start to its first claim: a measure of the machine."""
        first = json.loads(await self.value("""
            select json_object_agg(process, at)::text
              from (select split_part(process, '#', 1) as process, extract(epoch from min(at)) as at
                      from claimed group by 1) x"""))
        return sorted(at - self.spawned[process] for process, at in first.items())[len(first) // 2]

    # The end ------------------------------------------------------------------------------------------------------

    async def drained(self) -> bool:
        """All that was put in is in the database, and has ended."""
        self._producer.poll(0)
        if self._acknowledged < self._sent or await self.value(LEFT):
            return False
        here = await self.value("select count(*) from job")
        return bool(here >= len(self.ledger)) and await self.at_the_end() and not await self.value(LEFT)

    async def what_is_left(self) -> str:
        return str(await self.value("""
            select json_build_object('jobs', (select count(*) from job), 'ready', (select count(*) from ready),
                'later', (select json_agg(l) from (select * from later limit 5) l),
                'lease', (select json_agg(l) from (select * from lease limit 5) l),
                'suspect', (select count(*) from suspect),
                'workers', (select json_agg(w) from worker w), 'now', clock_timestamp())::text"""))

    async def count(self) -> Report:
        return await check(self.dsn, self.ledger, self.deaths, self.provider.calls, self.outages)


@asynccontextmanager
async def world(
    broker: str, server: str, folder: Path, sabotage: str = "", silent: int | None = None
) -> AsyncIterator[Jobs]:
    """A new world with its supervisor; its processes end with the block."""
    made = Jobs(broker, server, folder, sabotage, silent)
    await made.begin()
    supervisor = asyncio.create_task(made.supervise())
    try:
        yield made
        if supervisor.done():
            supervisor.result()
    except BaseException:
        if supervisor.done() and not supervisor.cancelled():
            print("the supervisor:", supervisor.exception())
        print(await made.what_is_left())
        print(await made.last_words())
        raise
    finally:
        supervisor.cancel()
        made.end()
        await made.provider.stop()
        await made._postgres.close()


def declare(most: int, chance: random.Random) -> list[Declared]:
    """So many jobs, a few of each difficult kind among them. Killers come first: they take their time."""
    special = [
        *[("killer", 0, 3)] * KILLERS, *[("deaf", 1, 4)] * 4, *[("hang", 1, 5)] * 20, *[("poison", 0, 3)] * 40,
        *[("fatal", 0, 4)] * 40, *[("flaky", 1, 6)] * 120, *[("flaky", 2, 6)] * 80, *[("snooze", 2, 4)] * 60,
        *[("late", 0, 4)] * 400, *[("expired", 0, 4)] * 60, *[("call", 0, 5)] * 300, *[("drop", 1, 5)] * DROPPED,
    ]
    spreads, children = 40, 50
    direct = most - spreads * (children + 1)
    modes = [*special, *[("plain", 0, 4)] * (direct - len(special))]
    chance.shuffle(modes)
    modes.sort(key=lambda m: m[0] != "killer")
    made = [
        Declared(
            n, mode, k, attempts, delay=chance.uniform(2, 6) if mode == "late" else 0.0,
            source="insert" if mode == "killer" or chance.random() < 0.4 else "record",
            tenant=chance.choice(["oak", "elm", "ash"]),
        )
        for n, (mode, k, attempts) in enumerate(modes)
    ]
    number = direct
    for _ in range(spreads):
        acts = []
        for n in range(number + 1, number + 1 + children):
            mode, k, wait = chance.choice(
                [("plain", 0, 0)] * 40 + [("flaky", 1, 0), ("poison", 0, 0), ("fatal", 0, 0), ("late", 0, 3000)])
            acts.append((n, "plain" if mode == "late" else mode, k, wait))
        made.append(Declared(number, "spread", acts=tuple(acts)))
        number += children + 1
    others = made[KILLERS:]
    chance.shuffle(others)
    return made[:KILLERS] + others
