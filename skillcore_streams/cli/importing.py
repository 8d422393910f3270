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
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from skillcore_streams import config
from skillcore_streams.adapters.producing import Producer, outgoing
from skillcore_streams.cli.output import json_option, show
from skillcore_streams.edfi import District, Report, events
from skillcore_streams.runtime.messages import Event

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
@json_option
def edfi(folder: Path, tenant: str, tenants: int, rate: float | None, timezone: str, as_json: bool) -> None:
    """Import Ed-Fi 5.2 interchange XML: schools, sessions, students, enrolments, and the year's attendance by date.

    DIR holds EducationOrganization, EducationOrgCalendar, Student and StudentSchoolAttendance (.xml or .xml.gz) and
    calendar.csv, the instructional days. Importing again changes nothing.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it has to say, Undelivered says in a sentence
    kafka = config.load().kafka
    names = [tenant, *(f"{tenant}-{n}" for n in range(2, tenants + 1))]
    with District(folder, timezone) as district:
        started = time.monotonic()
        with _progress(district.report, names) as moved:
            published = asyncio.run(publish(kafka, district, names, rate=rate, moved=moved))
        seconds = time.monotonic() - started
        if as_json:
            outcome = {"tenants": names, "published": published, "remarks": district.report.remarks}
            click.echo(json.dumps(outcome | {"seconds": round(seconds, 3)}))
        else:
            _tell(published, district.report, names, seconds)


async def publish(
    kafka: str, district: District, tenants: list[str], *, rate: float | None = None, moved: Moved = lambda count: None
) -> dict[str, int]:
    """Publish the district once for each tenant. Returns how many events of each type Kafka has acknowledged.

    Args:
        kafka: bootstrap servers.
        district: read before; the files are not read again.
        tenants: who they are for; ids differ between tenants.
        rate: events a second, at most.
        moved: told after each page how many events were in it.
    """
    published: Counter[str] = Counter()
    started = asyncio.get_running_loop().time()
    everything = (event for tenant in tenants for event in events(district, tenant))
    async with Producer(kafka) as producer:
        for page in _pages(everything, PAGE if rate is None else min(PAGE, max(1, int(rate / 10)))):
            await producer.send([outgoing(event) for event in page])
            published.update(type(event).__name__ for event in page)
            moved(len(page))
            if rate is not None:
                due = started + published.total() / rate
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    return dict(published)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Events a second, of the last seconds."""
        return Text(f"{task.speed or 0:,.0f} events/s")


def _pages(all_events: Iterator[Event], size: int) -> Iterator[list[Event]]:
    while page := list(islice(all_events, size)):
        yield page


@contextmanager
def _progress(report: Report, tenants: list[str]) -> Iterator[Moved]:
    """A bar on a terminal; elsewhere a line every few seconds. On stderr: stdout is for the outcome."""
    total = report.events * len(tenants)
    if sys.stderr.isatty():
        columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
        with Progress(TextColumn("publishing"), *columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total)
            yield lambda count: bar.advance(task, count)
        return

    done, said = 0, time.monotonic()

    def say(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= SAY_EVERY:
            said = time.monotonic()
            click.echo(f"published {done:,} of {total:,} events", err=True)

    yield say


def _tell(published: dict[str, int], report: Report, tenants: list[str], seconds: float) -> None:
    count = sum(published.values())
    click.echo(f"Published for {tenants[0]}{f' to {tenants[-1]}' if tenants[1:] else ''}:")
    show([{"event": name, "count": f"{number:>10,}"} for name, number in published.items()], False, "nothing")
    click.echo(f"{count:,} events in {seconds:.1f} s ({count / seconds:,.0f} a second), all acknowledged.")
    if report.remarks:
        click.echo("Where a rule was needed, or a field has no source (counts per tenant):")
        for reason, number in report.remarks.items():
            click.echo(f"  {number:>6,}  {reason}")
