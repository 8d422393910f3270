"""The play: a district's school year goes through Kafka, a worker is killed in the middle, garbage flies in.

In order: `prepare` the topics and the schema, `enter` two workers, send the year, meanwhile kill one and let another
join, then wait until nothing is left to be done. What was sent is written down for the proof as Kafka acknowledged it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from skillcore_streams import events as event_modules
from skillcore_streams import handlers, queues
from skillcore_streams.adapters import kafka_admin, migrations
from skillcore_streams.adapters.producing import Producer, outgoing
from skillcore_streams.config import Settings
from skillcore_streams.demo.evening import Evening, wishes
from skillcore_streams.demo.garbage import KINDS, garbage
from skillcore_streams.demo.watch import EVERY, Eyes, Look, Scene, View
from skillcore_streams.demo.workers import Crew
from skillcore_streams.edfi import District, events
from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.rostering import RosteringEvent
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.runtime.messages import EVENT_TYPES, Event, Job
from skillcore_streams.runtime.outbox import Outgoing
from skillcore_streams.runtime.registry import REGISTRY

TENANT = "grand-bend"
SEED = 7
"""What the sample lacks is made up from this seed, and labelled so."""

AGAIN = 100
"""One event in so many is sent twice."""

AHEAD = 4000
"""Records that may wait to be processed before the sender does: what is watched is a system at work, not a queue."""

KILL_AT = 0.45
"""Part of the year that is sent when a worker is killed."""

JOIN_AFTER = 1.0
"""Seconds from the kill until another worker is started."""

PATIENCE = 40.0
"""Seconds without any progress until the demonstration gives up."""

LEASE_PATIENCE = 100.0
"""The same while jobs of the killed worker are still leased to it: nobody takes them before the lease has ended."""


class DemoFailed(SkillCoreError):
    """The demonstration could not be finished. The text says what was seen and where to look."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A bad record as Kafka holds it."""

    kind: str
    said: str
    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class Played:
    """What was done, for the proof and the report. Times in seconds after the play began."""

    sent: int = 0
    again: int = 0
    injected: list[Injected] = field(default_factory=list)
    began: float = 0.0
    sent_at: float = 0.0
    killed: str = ""
    killed_at: float = 0.0
    joined_at: float = 0.0
    recovered_at: float = 0.0
    stored_at: float = 0.0
    caught_up_at: float = 0.0
    in_time: int = 0
    """Events stored when all that was sent had been."""
    stored: int = 0
    texts: int = 0
    fell_back: int = 0
    """Text messages that were sent, and those that became mails."""
    worker_cpu: dict[str, float] = field(default_factory=dict)
    fallen: list[str] = field(default_factory=list)

    @property
    def crash_to_caught_up(self) -> float:
        """Seconds from kill -9 until all that lay in Kafka at that moment, or half a second later, was processed."""
        return self.recovered_at - self.killed_at

    @property
    def events_per_second(self) -> float:
        """From the first record sent until all of them were stored; the evening's messages come after."""
        return self.in_time / self.stored_at if self.stored_at else 0.0

    @property
    def cpu_per_event(self) -> float:
        """Microseconds of the workers' CPU an event, all threads, jobs and takeover included; start-up is not."""
        return 1e6 * sum(self.worker_cpu.values()) / self.stored if self.stored else 0.0

    def as_json(self) -> dict[str, Any]:
        """For --json and for a later proof."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Played:
        """The inverse of `as_json`."""
        return cls(**body | {"injected": [Injected(**i) for i in body["injected"]]})


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is played: from which folder, how fast, how many of each kind of garbage, with how many workers."""

    folder: Path
    rate: float
    copies: int
    workers: tuple[str, ...] = ("a", "b")
    successor: str = "c"


async def prepare(env: dict[str, str]) -> Settings:
    """Topics and schema, both at once. Returns the settings of the stack."""
    settings = Settings(kafka=env["SKILLCORE_KAFKA"], database_url=SecretStr(env["SKILLCORE_DATABASE_URL"]))
    applied, _ = await asyncio.gather(
        kafka_admin.apply(settings, "local"), migrations.migrate(env["SKILLCORE_DATABASE_URL"])
    )
    if applied.problems:
        raise DemoFailed(" ".join(applied.problems))
    for package in (event_modules, queues, handlers):
        package.load()
    return settings


class Play:
    """One performance. `perform()` returns when everything that was sent has been dealt with."""

    def __init__(self, plan: Plan, settings: Settings, crew: Crew, scene: Scene, view: View, office: str) -> None:
        self._plan = plan
        self._kafka = settings.kafka
        self._dsn = settings.database_url.get_secret_value()
        self._crew = crew
        self._scene = scene
        self._view = view
        self._chance = random.Random(20210823)  # noqa: S311 - the same play each time
        self._began = 0.0
        self._evening = Evening(self._dsn, office, self._happened)
        self._guardians: list[GuardianContactUpdated] = []
        self.played = Played()
        scene.handlers = {
            name: [handler.id for handler in REGISTRY.of(cls)] for name, cls in EVENT_TYPES.items() if REGISTRY.of(cls)
        }
        scene.runnable = frozenset(
            (h.message.__queue__.name, h.message.__kind__) for h in REGISTRY.jobs() if issubclass(h.message, Job)
        )

    async def perform(self) -> Played:
        """Everything in order. Raises DemoFailed when nothing moves any more."""
        plan, scene = self._plan, self._scene
        scene.now = f"workers {' and '.join(plan.workers)} start: faust -A skillcore_streams worker -l info"
        for name in plan.workers:
            self._crew.spawn(name)
        with District(plan.folder, seed=SEED) as district:
            scene.planned = district.report.events
            topics = {cls.__topic__ for cls in EVENT_TYPES.values()}
            async with Eyes(self._kafka, self._dsn, topics) as eyes:
                await self._enter(plan.workers)
                await self._shared_out(eyes)
                eyes.began = self._began = time.monotonic()
                self.played.began = time.time()
                try:
                    async with asyncio.TaskGroup() as tasks:
                        publishing = tasks.create_task(self._publish(district))
                        await self._watch(eyes, publishing, tasks)
                except BaseExceptionGroup as group:
                    raise group.exceptions[0] from None
        return self.played

    # What goes in ---------------------------------------------------------------------------------------------------

    async def _publish(self, district: District) -> None:
        """The roster, then the year by its days, at the plan's rate or slower; now and then twice, or garbage."""
        everything = chain(self._noting_guardians(events(district, TENANT)), wishes(self._guardians, SEED))
        page_size = max(1, int(self._plan.rate / 10))
        later: dict[int, list[Outgoing]] = {}
        last_page = (self._scene.planned - 1) // page_size
        due = self._injections()
        began = time.monotonic()
        async with (
            Producer(self._kafka) as producer,
            AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", max_request_size=2 << 20) as thrower,
        ):
            for number, page in enumerate(_pages(everything, page_size)):
                records = [outgoing(event) for event in page]
                twice = [r for r in records if self._chance.randrange(AGAIN) == 0]
                for record in twice:
                    later.setdefault(min(last_page, number + self._chance.randint(0, 20)), []).append(record)
                repeats = later.pop(number, [])
                await producer.send(records + repeats)
                self._note(page[-1], len(records), len(repeats))
                mark = next((r for r in reversed(records) if _type(r).endswith(".AttendanceMarked.v1")), None)
                while mark is not None and due and self._scene.sent >= due[0][0] * self._scene.planned:
                    await self._throw(thrower, due.pop(0)[1], mark)
                ahead = began + self._scene.sent / self._plan.rate - time.monotonic()
                await asyncio.sleep(max(0.0, ahead))
                while self._scene.looks and sum(self._scene.looks[-1].lag.values()) > AHEAD:  # noqa: ASYNC110
                    await asyncio.sleep(EVERY / 2)
        self.played.sent, self.played.again = self._scene.sent, self._scene.again
        self.played.sent_at = time.monotonic() - began
        self._happened("everything is sent and acknowledged")

    def _noting_guardians(self, year: Iterator[Event]) -> Iterator[Event]:
        for event in year:
            if isinstance(event, GuardianContactUpdated):
                self._guardians.append(event)
            yield event

    def _note(self, last: Event, sent: int, again: int) -> None:
        self._scene.sent += sent
        self._scene.again += again
        roster = isinstance(last, RosteringEvent | GuardianContactUpdated)
        day = f"the school day {last.meta.time:%Y-%m-%d}"
        self._scene.now = "the roster: schools, sessions, people, classes" if roster else day

    def _injections(self) -> list[tuple[float, int]]:
        """When which kind of garbage is thrown: all kinds, spread over the middle of the year."""
        kinds = list(range(KINDS)) * self._plan.copies
        self._chance.shuffle(kinds)
        return [(0.15 + 0.75 * n / len(kinds), kind) for n, kind in enumerate(kinds)]

    async def _throw(self, thrower: AIOKafkaProducer, kind: int, mark: Outgoing) -> None:
        bad = next(islice(garbage(mark), kind, None))
        at = await thrower.send_and_wait(bad.topic, bad.value, bad.key, headers=bad.headers)
        self.played.injected.append(Injected(bad.kind, bad.said, at.topic, at.partition, at.offset))
        self._scene.garbage += 1

    # What is watched ------------------------------------------------------------------------------------------------

    async def _watch(self, eyes: Eyes, publishing: asyncio.Task[None], tasks: asyncio.TaskGroup) -> None:
        """Look twice a second until nothing is left; start what has its time."""
        moved_at, before = time.monotonic(), None
        joining: asyncio.Task[None] | None = None
        evening: asyncio.Task[None] | None = None
        while True:
            look = await eyes.look()
            self._scene.looks.append(look)
            self._see_workers()
            if not self.played.killed and self._scene.sent >= KILL_AT * self._scene.planned and _at_work(look):
                self._kill(look)
                joining = tasks.create_task(self._join())
            self._see_recovery(look)
            self.played.stored = look.events
            if publishing.done() and not self.played.stored_at and not any(look.lag.values()):
                self.played.stored_at, self.played.in_time = look.at, look.events
            finished = publishing.done() and joining is not None and joining.done()
            if finished and self.played.recovered_at and self._nothing_left(look):
                if evening is None:
                    evening = tasks.create_task(self._evening.passes())
                elif evening.done():
                    break
            if publishing.done():
                self._scene.now = self._catching_up(look) if evening is None else "the evening: families are told"
            self._view.show(self._scene)
            now = (look.next, look.outbox, look.jobs, self._scene.sent)
            if now != before:
                moved_at, before = time.monotonic(), now
            elif time.monotonic() - moved_at > (LEASE_PATIENCE if look.running else PATIENCE):
                raise DemoFailed(self._stuck(look))
            await asyncio.sleep(EVERY)
        await self._evening.ends()
        self.played.texts, self.played.fell_back = self._evening.texts, self._evening.fell_back
        self.played.caught_up_at = look.at
        self.played.fallen = [worker.name for worker in self._crew.fallen()]
        self._see_workers()
        self._happened("nothing is left: lag 0, outbox empty, jobs done")
        self._scene.now = "comparing with the recount from the XML"
        self._view.show(self._scene)

    def _see_workers(self) -> None:
        fallen = {worker.name for worker in self._crew.fallen()}
        for name, worker in self._crew.workers.items():
            self.played.worker_cpu[name] = worker.measure() - worker.cpu_at_start
            if name in self._crew.killed:
                self._scene.workers[name] = "killed"
            elif name in fallen:
                self._scene.workers[name] = "ended"
            elif self._scene.workers.get(name) != "starting":
                self._scene.workers[name] = f"alive on {worker.address}"

    def _see_recovery(self, look: Look) -> None:
        """Recovered: everything that lay in Kafka at the first look after the kill has been processed."""
        if self.played.recovered_at or not self.played.killed:
            return
        left = next((seen for seen in self._scene.looks if seen.at >= self.played.killed_at), None)
        if left is not None and look.passed(left.ends):
            self.played.recovered_at = look.at
            self._happened(f"caught up {self.played.crash_to_caught_up:.1f} s after the kill -9")

    def _catching_up(self, look: Look) -> str:
        lag, jobs = sum(look.lag.values()), self._scene.jobs_left(look)
        if not lag and not look.outbox and jobs == look.running:
            return f"jobs that run, or whose worker was killed and whose leases must end first: {jobs}"
        return f"catching up: lag {lag:,}, {look.outbox:,} in the outbox, {jobs:,} jobs"

    def _nothing_left(self, look: Look) -> bool:
        return not any(look.lag.values()) and not look.outbox and not self._scene.jobs_left(look)

    def _stuck(self, look: Look) -> str:
        logs = ", ".join(str(worker.log) for worker in self._crew.workers.values())
        behind = [f"{topic}-{partition} stands at {look.next.get((topic, partition), 0)} of {end}"
                  for (topic, partition), end in look.ends.items() if end > look.next.get((topic, partition), 0)]
        calls = [f"{count} calls of {kind} have failed ({state})"
                 for (queue, kind, state), count in look.jobs.items() if queue == "handler-calls"]
        return (
            f"Nothing has moved for {PATIENCE:.0f} s: {'; '.join([*behind, *calls]) or 'nobody is behind'}; outbox "
            f"{look.outbox}, jobs to be run {self._scene.jobs_left(look)}. The workers' logs: {logs}"
        )

    # The workers ----------------------------------------------------------------------------------------------------

    async def _enter(self, names: tuple[str, ...]) -> None:
        """Wait until these workers have their partitions."""
        for name in names:
            self._scene.workers[name] = "starting"
        self._view.show(self._scene)
        for name in names:
            worker = self._crew.workers[name]
            await asyncio.to_thread(worker.wait_ready, 60)
            worker.cpu_at_start = worker.measure()
            self._scene.workers[name] = f"alive on {worker.address}"
            self._view.show(self._scene)

    async def _shared_out(self, eyes: Eyes) -> None:
        """Wait until every worker has partitions: ready is who has joined, even when nothing was left for it yet."""
        for _ in range(300):
            holding = await eyes.holding()
            if all(holding.get(name) for name in self._plan.workers):
                return
            await asyncio.sleep(0.1)
        raise DemoFailed(f"After 30 s the partitions are not shared out: {holding}. A log: "
                         f"{self._crew.workers[self._plan.workers[0]].log}")

    def _kill(self, look: Look) -> None:
        """The worker that has most of the busiest topic's partitions; one without any would not be missed."""
        mine = _at_work(look)
        alive = [worker.name for worker in self._crew.alive()]
        victim = max(alive, key=lambda name: (mine.count(name), name == self._plan.workers[0]))
        pid = self._crew.kill(victim)
        self.played.killed = victim
        self.played.killed_at = self._crew.killed[victim] - self._began
        self._happened(f"kill -9 of worker {victim} (pid {pid}), which had {mine.count(victim)} of {len(mine)} "
                       "attendance partitions")

    async def _join(self) -> None:
        await asyncio.sleep(JOIN_AFTER)
        self._crew.spawn(self._plan.successor)
        self._happened(f"worker {self._plan.successor} is started")
        await self._enter((self._plan.successor,))
        self.played.joined_at = time.monotonic() - self._began
        self._happened(f"worker {self._plan.successor} has joined")

    def _happened(self, what: str) -> None:
        at = time.monotonic() - self._began
        self._scene.happened.append((at, what))
        self._view.say(f"{at:5.1f} s  {what}")


def _at_work(look: Look) -> list[str]:
    """The owners of the attendance partitions in which work has begun."""
    return [owner for (topic, _), owner in look.owners.items() if ".attendance." in topic]


def _pages(everything: Iterator[Event], size: int) -> Iterator[list[Event]]:
    while page := list(islice(everything, size)):
        yield page


def _type(record: Outgoing) -> str:
    return dict(record.headers)["ce_type"].decode()
