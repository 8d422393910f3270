"""`skillcore import`: a district's data, published as events."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from skillcore_streams import config
from skillcore_streams import events as event_modules
from skillcore_streams.adapters.kafka_admin import topic_ids
from skillcore_streams.adapters.producing import Producer, outgoing
from skillcore_streams.cli.output import json_option, show
from skillcore_streams.edfi import District, Report, events
from skillcore_streams.edfi.journal import Journal, Standing, about, usual_place
from skillcore_streams.runtime.messages import EVENT_TYPES, Event

PAGE = 500
"""Events sent and acknowledged together: all that is in memory of a district, whatever its size."""

SAY_EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""

Moved = Callable[[int], None]


@click.group("import")
def import_() -> None:
    """Publish a district's data as events."""


@import_.command("edfi")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--tenant", default="grand-bend", show_default=True, help="whose data this is")
@click.option("--tenants", default=1, type=click.IntRange(1), help="so many copies of the district: NAME, NAME-2, ...")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="events a second, at most")
@click.option("--timezone", default="America/Chicago", show_default=True, help="the schools' zone: Ed-Fi names none")
@click.option("--synthetic", "seed", metavar="SEED", type=click.IntRange(0), help="make up what the files lack: more "
              "classes, graded work, IEP goals and services; their source is /import/synthetic/seed-SEED")
@click.option("--journal", "place", type=click.Path(dir_okay=False, path_type=Path), help="where it is kept what Kafka "
              "has acknowledged [default: by folder and tenants, in ~/.local/state/skillcore/imports]")
@click.option("--restart", is_flag=True, help="begin at the beginning, whatever the journal says")
@json_option
def edfi(folder: Path, tenant: str, tenants: int, rate: float | None, timezone: str, seed: int | None,
         place: Path | None, restart: bool, as_json: bool) -> None:  # fmt: skip
    """Import Ed-Fi 5.2 interchange XML: who is in a district, what it promises whom, and the year by its days.

    DIR holds EducationOrganization, EducationOrgCalendar, Student and StudentSchoolAttendance (.xml or .xml.gz) and
    calendar.csv, the instructional days; and, as far as there are any, StaffAssociation, Contact, MasterSchedule,
    StudentGradebook, StudentProgram, StudentIntervention, StudentDiscipline, StudentSectionAttendance-Tardy.

    A record that is not as the standard has it is left out and named by file and number; a file that is broken ends
    the import before anything is sent. Importing again changes nothing; an import that was killed goes on.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it has to say, Undelivered says in a sentence
    kafka = config.load().kafka
    names = [tenant, *(f"{tenant}-{n}" for n in range(2, tenants + 1))]
    with _progress() as progress, District(folder, timezone, seed=seed, reading=progress.reading) as district:
        journal = Journal(place or usual_place(folder, names), _about(kafka, folder, names, timezone, seed))
        if restart:
            journal.finish()
        progress.planned(district.report.events * len(names))
        started = time.monotonic()
        published = asyncio.run(publish(kafka, district, names, rate=rate, moved=progress.moved, journal=journal))
        seconds = time.monotonic() - started
    report = district.report
    if as_json:
        outcome = {
            "tenants": names, "published": published, "remarks": report.remarks, "missing": report.missing,
            "bad_records": report.bad_records, "bad": report.bad, "seconds": round(seconds, 3),
        }  # fmt: skip
        click.echo(json.dumps(outcome))
    else:
        _tell(published, report, names, seconds)


async def publish(
    kafka: str,
    district: District,
    tenants: list[str],
    *,
    rate: float | None = None,
    moved: Moved = lambda count: None,
    journal: Journal | None = None,
) -> dict[str, int]:
    """Publish the district once for each tenant. Returns how many events of each type Kafka has acknowledged.

    Args:
        kafka: bootstrap servers.
        district: read before; the files are not read again.
        tenants: who they are for; ids differ between tenants.
        rate: events a second, at most.
        moved: told after each page how many events were in it, and of those acknowledged by an earlier, killed import.
        journal: where to go on, and where it is noted how far this one has come; deleted at the end.
    """
    everything, standing = _going_on(district, tenants, journal)
    published, before = Counter(standing.published if standing else ()), standing.count if standing else 0
    moved(before)
    started = asyncio.get_running_loop().time()
    async with Producer(kafka) as producer:
        for page in _pages(everything, PAGE if rate is None else min(PAGE, max(1, int(rate / 10)))):
            await producer.send([outgoing(event) for event in page])
            published.update(type(event).__name__ for event in page)
            if journal is not None:
                journal.note(Standing(published.total(), page[-1].meta.key, published), datetime.now(UTC))
            moved(len(page))
            if rate is not None:
                due = started + (published.total() - before) / rate
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    if journal is not None:
        journal.finish()
    return dict(published)


def _going_on(
    district: District, tenants: list[str], journal: Journal | None
) -> tuple[Iterator[Event], Standing | None]:
    """The events still to be sent, and what an earlier import has got acknowledged, where its journal is believed."""

    def everything() -> Iterator[Event]:
        return (event for tenant in tenants for event in events(district, tenant))

    standing = journal.standing(datetime.now(UTC)) if journal is not None else None
    if standing is not None:
        rest = everything()
        last = next(islice(rest, standing.count - 1, None), None)
        if last is not None and last.meta.key == standing.last:
            return rest, standing
    return everything(), None


def _about(kafka: str, folder: Path, tenants: list[str], zone: str, seed: int | None) -> str:
    event_modules.load()
    topics = asyncio.run(topic_ids(kafka, sorted({cls.__topic__ for cls in EVENT_TYPES.values()})))
    return about(folder, {"tenants": tenants, "zone": zone, "seed": seed}, topics)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Events a second, of the last seconds."""
        return Text(f"{task.speed or 0:,.0f} events/s")


def _pages(all_events: Iterator[Event], size: int) -> Iterator[list[Event]]:
    while page := list(islice(all_events, size)):
        yield page


class _View(Protocol):
    """Shows how far the import is. On stderr: stdout is for the outcome."""

    def reading(self, file: str, done: int, size: int) -> None:
        """So many bytes of a file are read."""

    def planned(self, total: int) -> None:
        """So many events there will be."""

    def moved(self, count: int) -> None:
        """So many more are acknowledged."""


class _Bars:
    """On a terminal: a bar for the file that is read, then one for the events."""

    def __init__(self, read: Progress, sent: Progress) -> None:
        self._read, self._sent = read, sent
        self._files: dict[str, TaskID] = {}
        self._task = TaskID(0)

    def reading(self, file: str, done: int, size: int) -> None:
        """One bar a file: those that are read stay in sight."""
        if file not in self._files:
            self._files[file] = self._read.add_task(f"reading {file}", total=size)
        self._read.update(self._files[file], completed=done)

    def planned(self, total: int) -> None:
        """The files are read."""
        self._read.stop()
        self._sent.start()
        self._task = self._sent.add_task("publishing", total=total)

    def moved(self, count: int) -> None:
        """Along."""
        self._sent.advance(self._task, count)


class _Lines:
    """Elsewhere: a line every few seconds."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._said = time.monotonic()

    def reading(self, file: str, done: int, size: int) -> None:
        """In MB, as files are measured."""
        self._say(f"read {done / 1e6:,.0f} of {size / 1e6:,.0f} MB of {file}")

    def planned(self, total: int) -> None:
        """The files are read."""
        self._total = total

    def moved(self, count: int) -> None:
        """Along."""
        self._done += count
        self._say(f"published {self._done:,} of {self._total:,} events")

    def _say(self, line: str) -> None:
        if time.monotonic() - self._said >= SAY_EVERY:
            self._said = time.monotonic()
            click.echo(line, err=True)


@contextmanager
def _progress() -> Iterator[_View]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    console, said = Console(stderr=True), TextColumn("{task.description}")
    sent = Progress(said, BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn(), console=console)
    with Progress(said, BarColumn(), DownloadColumn(), console=console) as read:
        try:
            yield _Bars(read, sent)
        finally:
            sent.stop()


def _tell(published: dict[str, int], report: Report, tenants: list[str], seconds: float) -> None:
    count = sum(published.values())
    click.echo(f"Published for {tenants[0]}{f' to {tenants[-1]}' if tenants[1:] else ''}:")
    show([{"event": name, "count": f"{number:>10,}"} for name, number in published.items()], False, "nothing")
    click.echo(f"{count:,} events in {seconds:.1f} s ({count / seconds:,.0f} a second), all acknowledged.")
    if report.remarks:
        click.echo("Where a rule was needed, or something has no place or no source (counts per tenant):")
        for reason, number in report.remarks.items():
            click.echo(f"  {number:>6,}  {reason}")
    if report.missing:
        click.echo(f"Not in the folder: {', '.join(report.missing)}.")
    if report.bad_records:
        click.echo(f"Left out, because they are not as Ed-Fi has them: {report.bad_records:,} records.")
        for where in report.bad:
            click.echo(f"  {where}")
        if report.bad_records > len(report.bad):
            click.echo(f"  and {report.bad_records - len(report.bad):,} more")
