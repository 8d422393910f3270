"""Looking on: what Postgres and Kafka say twice a second, shown as a live page on a terminal or as plain lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

EVERY = 0.5
"""Seconds between two looks."""

SAY_EVERY = 2.0
"""Seconds between two lines where there is no terminal."""

STANDING = "select topic, partition, next_offset, owner from progress"
STORED = "select type, count(*) as events from event group by type"
WAITING = """
    select (select count(*) from dead_letter) as letters,
           (select count(*) from outbox where published_at is null) as outbox"""
HOLDING = "select id, partitions from worker"
JOBS = """
    select queue, kind, state, count(*) as jobs
      from (select job_id, 'running' as state from lease union all select job_id, 'waiting' from ready
            union all select job_id, 'waiting' from suspect
            union all select job_id, case when run_at < now() + interval '1 minute' then 'delayed' else 'put off' end
                        from later) live
      join job on job.id = live.job_id group by 1, 2, 3"""

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the system, `at` seconds after the play began."""

    at: float
    ends: dict[Place, int]
    next: dict[Place, int]
    owners: dict[Place, str]
    stored: dict[str, int]
    letters: int
    outbox: int
    jobs: dict[tuple[str, str, str], int]

    @property
    def events(self) -> int:
        """Events stored, so handled: both are one transaction."""
        return sum(self.stored.values())

    @property
    def running(self) -> int:
        """Jobs that somebody has claimed and not finished."""
        return sum(count for (_, _, state), count in self.jobs.items() if state == "running")

    @property
    def lag(self) -> dict[str, int]:
        """Records by topic that nobody has processed yet."""
        found: Counter[str] = Counter()
        for (topic, partition), end in self.ends.items():
            found[topic] += max(0, end - self.next.get((topic, partition), 0))
        return dict(found)

    def passed(self, ends: dict[Place, int]) -> bool:
        """Whether everything that lay in Kafka up to `ends` has been processed."""
        return all(self.next.get(place, 0) >= end for place, end in ends.items())


class Eyes:
    """Connections of its own to Postgres and Kafka: it sees what anybody could see, and nothing of the workers' own."""

    def __init__(self, kafka: str, dsn: str, topics: Collection[str]) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
        self._dsn = dsn
        self._topics = sorted(topics)
        self._places: list[TopicPartition] = []
        self.began = time.monotonic()

    async def __aenter__(self) -> Self:
        self._db: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(self._dsn)
        await self._consumer.start()
        metadata = await self._consumer._client.fetch_all_metadata()
        self._places = [TopicPartition(t, p) for t in self._topics for p in metadata.partitions_for_topic(t) or ()]
        self._consumer.assign(self._places)
        self._consumer.pause(*self._places)  # only the ends are asked for
        await self._consumer._client.force_metadata_update()  # for all at once; else it asks topic by topic, 0.1 s each
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()
        await self._db.close()

    async def holding(self) -> dict[str, int]:
        """How many partitions each worker says it has, by its last heartbeat."""
        return {r["id"]: r["partitions"] for r in await self._db.fetch(HOLDING)}

    async def look(self) -> Look:
        """Look once. The offsets of Kafka first: what Postgres says afterwards can only be more."""
        ends = await self._consumer.end_offsets(self._places)
        at = time.monotonic() - self.began
        standing = await self._db.fetch(STANDING)
        waiting = await self._db.fetchrow(WAITING)
        assert waiting is not None
        return Look(
            at=at,
            ends={(tp.topic, tp.partition): end for tp, end in ends.items()},
            next={(r["topic"], r["partition"]): r["next_offset"] for r in standing},
            owners={(r["topic"], r["partition"]): r["owner"] for r in standing if r["owner"]},
            stored={r["type"]: r["events"] for r in await self._db.fetch(STORED)},
            letters=waiting["letters"],
            outbox=waiting["outbox"],
            jobs={(r["queue"], r["kind"], r["state"]): r["jobs"] for r in await self._db.fetch(JOBS)},
        )


@dataclass(slots=True)
class Scene:
    """What there is to see at this moment. The play writes it, a view shows it."""

    planned: int = 0
    sent: int = 0
    again: int = 0
    garbage: int = 0
    now: str = "starting"
    looks: list[Look] = field(default_factory=list)
    happened: list[tuple[float, str]] = field(default_factory=list)
    workers: dict[str, str] = field(default_factory=dict)
    handlers: dict[str, list[str]] = field(default_factory=dict)
    """Event type -> ids of its handlers."""
    runnable: frozenset[tuple[str, str]] = frozenset()
    """(queue, kind) of the jobs that must have come to an end, but for what is put off for minutes or weeks."""

    def rate(self, seconds: float = 2.0) -> float:
        """Events stored a second, of the last seconds."""
        if len(self.looks) < 2:
            return 0.0
        last = self.looks[-1]
        first = next(look for look in self.looks if look.at >= last.at - seconds or look is last)
        return (last.events - first.events) / (last.at - first.at) if last.at > first.at else 0.0

    def jobs_left(self, look: Look) -> int:
        """Jobs that will run and have not yet."""
        return sum(
            count for (queue, kind, state), count in look.jobs.items()
            if state in ("waiting", "delayed", "running")
            and (queue == "handler-calls" or (queue, kind) in self.runnable)
        )


class View(Protocol):
    """Shows a scene."""

    def show(self, scene: Scene) -> None:
        """The scene has changed."""

    def say(self, line: str) -> None:
        """Something happened that is worth a line of its own."""


class PlainView(AbstractContextManager["PlainView"]):
    """Lines for a log: one for everything that happens, one every two seconds."""

    def __init__(self) -> None:
        self._said = 0.0

    def __exit__(self, *error: object) -> None: ...

    def show(self, scene: Scene) -> None:
        """One line, if the last one is old enough."""
        if not scene.looks or time.monotonic() - self._said < SAY_EVERY:
            return
        self._said = time.monotonic()
        look = scene.looks[-1]
        workers = " ".join(f"{name}:{state.partition(' ')[0]}" for name, state in scene.workers.items())
        self.say(
            f"{look.at:5.1f} s  sent {scene.sent:,} of {scene.planned:,}, stored {look.events:,}, "
            f"{scene.rate():,.0f} events/s, lag {sum(look.lag.values()):,}, outbox {look.outbox:,}, "
            f"jobs {scene.jobs_left(look):,}, dead letters {look.letters}, workers {workers} | {scene.now}"
        )

    def say(self, line: str) -> None:
        """To stderr: stdout is for the outcome."""
        print(line, file=sys.stderr, flush=True)


class LiveView(AbstractContextManager["LiveView"]):
    """A page on the terminal that changes in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Above the page while it is there."""
        self._console.print(Text(line), highlight=False)

    def show(self, scene: Scene) -> None:
        """Draw it again."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(page(scene), refresh=True)


def page(scene: Scene) -> RenderableType:
    """The whole page."""
    look = scene.looks[-1] if scene.looks else None
    parts: list[RenderableType] = [_bars(scene, look)]
    if look:
        parts += [Text(), _figures(scene, look), Text(), _handlers(scene, look)]
    parts += [Text(), _story(scene)]
    at = f"{look.at:.0f} s" if look else ""
    return Panel(Group(*parts), title="A school year through SkillCore Streams", subtitle=at, width=100, padding=(1, 2))


def _bars(scene: Scene, look: Look | None) -> Table:
    stored = look.events if look else 0
    # What handlers publish is stored too, and nobody knows in advance how much that will be.
    total = max(scene.planned, scene.sent, stored, 1)
    table = Table.grid(padding=(0, 2))
    table.add_column(width=6)
    table.add_column(width=60)
    table.add_column(justify="right")
    table.add_row("sent", Bar(total, 0, scene.sent, width=60, color="cyan"), f"{scene.sent:,} of {scene.planned:,}")
    table.add_row("stored", Bar(total, 0, stored, width=60, color="green"), f"{stored:,}")
    return table


def _figures(scene: Scene, look: Look) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_row("events/s", Text.assemble((f"{scene.rate():>6,.0f}", "bold"), "  ", (_spark(scene), "green")))
    lag = ", ".join(f"{topic.split('.')[1]} {behind:,}" for topic, behind in look.lag.items() if behind)
    table.add_row("lag", Text(lag or "none", "yellow" if lag else ""))
    table.add_row("sent twice", f"{scene.again:,}")
    table.add_row("garbage", Text(f"{scene.garbage} thrown in, {look.letters} in the dead letters"))
    table.add_row("outbox", f"{look.outbox:,} to be written to Kafka, {scene.jobs_left(look):,} jobs to be run")
    colours = {"killed": "bold red", "starting": "yellow", "ended": "bold red"}
    table.add_row("workers", Text("   ").join(
        Text(f"{name} {state}", colours.get(state, "green")) for name, state in scene.workers.items()
    ))
    return table


def _handlers(scene: Scene, look: Look) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", width=8)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(style="dim", no_wrap=True)
    for type_, count in sorted(look.stored.items(), key=lambda item: -item[1]):
        name = type_.split(".")[-2]
        for handler in scene.handlers.get(type_) or ["stored; no handler yet"]:
            table.add_row(f"{count:,}", handler, name)
    return table


def _story(scene: Scene) -> RenderableType:
    lines = [Text(f"{at:5.1f} s  {what}", "dim") for at, what in scene.happened[-6:]]
    return Group(*lines, Text(f"         {scene.now}", "bold"))


def _spark(scene: Scene, width: int = 50) -> str:
    """Events a second between the last looks, as blocks."""
    looks = scene.looks[-width - 1 :]
    rates = [(b.events - a.events) / (b.at - a.at) for a, b in pairwise(looks) if b.at > a.at]
    top = max(rates, default=0.0) or 1.0
    return "".join(" ▁▂▃▄▅▆▇█"[min(8, int(8.99 * rate / top))] for rate in rates)
