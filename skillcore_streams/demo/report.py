"""The report: on the terminal, and as one HTML page that needs nothing else. It names no student."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from skillcore_streams.demo import pictures
from skillcore_streams.demo.facts import Facts, School, gather
from skillcore_streams.demo.pictures import KINDS, TIERS, share
from skillcore_streams.demo.play import Played
from skillcore_streams.demo.proof import Line, Proof
from skillcore_streams.demo.watch import Scene

__all__ = ["Told", "gather", "html", "proof_json", "show", "show_proof"]

STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, slots=True)
class Told:
    """Everything there is to tell of one demonstration."""

    scene: Scene
    played: Played
    proof: Proof
    facts: Facts
    seconds: dict[str, float]
    folder: Path
    kafka: str
    workers: list[tuple[str, str]]
    """Those alive at the end: name and host:port."""
    calendar: tuple[date, ...]
    quick: bool

    @property
    def ok(self) -> bool:
        """Every comparison is right, and no worker ended that nobody killed."""
        return self.proof.ok and not self.played.fallen

    @property
    def verdict(self) -> str:
        """The line that a script looks for."""
        wrong = f", wrong {self.proof.wrong}" if self.proof.wrong else ""
        return f"lost {self.proof.lost}, duplicated {self.proof.duplicated}{wrong}"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def as_json(self) -> dict[str, Any]:
        """The whole result."""
        played = self.played
        return {
            "ok": self.ok,
            **proof_json(self.proof),
            "sent": played.sent,
            "sent_twice": played.again,
            "garbage": len(played.injected),
            "stored": played.stored,
            "events_per_second": round(played.events_per_second),
            "cpu_us_per_event": round(played.cpu_per_event, 1),
            "crash_to_caught_up_seconds": round(played.crash_to_caught_up, 2),
            "killed": played.killed,
            "ended_by_themselves": played.fallen,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "three_in_seven_days": self.facts.three_in_seven,
            "thresholds": dict(Counter(tier for tier, _ in self.facts.reached)),
            "parked": [
                {"kind": kind, "reason": reason, "count": number} for (kind, reason), number in _parked(self)
            ],
            "kafka": self.kafka,
            "workers": dict(self.workers),
            "report": str(self.report),
        }


def proof_json(proof: Proof) -> dict[str, Any]:
    """The proof alone."""
    return {
        "lost": proof.lost,
        "duplicated": proof.duplicated,
        "wrong": proof.wrong,
        "compared": proof.compared,
        "lines": [asdict(line) | {"ok": line.ok} for line in proof.lines],
    }


def _parked(told: Told) -> list[tuple[tuple[str, str], int]]:
    """(what was thrown in, the reason in its dead letter) -> how many. A letter nobody caused is called unexpected."""
    kinds = {(i.topic, i.partition, i.offset): i.kind for i in told.played.injected}
    return sorted(Counter(
        (kinds.get((p["topic"], p["partition"], p["record_offset"]), "unexpected"), p["reason"])
        for p in told.facts.parked
    ).items())


def _commands(told: Told) -> list[tuple[str, str]]:
    """What to try next, and what it is for."""
    event = told.facts.event_id
    return [
        (f"eval $(.venv/bin/skillcore stack env --dir {_shown(told.folder)})", "point this shell at the demo's stack"),
        (f".venv/bin/skillcore events trace {event}", "follow the absence of the report"),
        (".venv/bin/skillcore events show --type AttendanceThresholdReached --limit 5", "the latest thresholds"),
        (".venv/bin/skillcore dead-letters list", "what was parked, by cause"),
        (".venv/bin/skillcore offsets show", "where each partition stands"),
        (f".venv/bin/skillcore demo --prove{_dir(told)}", "compare once more; change a row first and see it fail"),
        (f".venv/bin/skillcore demo --stop{_dir(told)}", "stop the workers and the stack"),
    ]


def _dir(told: Told) -> str:
    return "" if told.folder.name == "demo" and told.folder.parent.name == ".stack" else f" --dir {_shown(told.folder)}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


# On the terminal ------------------------------------------------------------------------------------------------------


def show(told: Told, console: Console, *, running: bool) -> None:
    """What a person sees at the end of the run."""
    played, proof = told.played, told.proof
    console.print()
    for school in told.facts.schools:
        console.print(_year_line(school))
    console.print(_thresholds(told))
    console.print(_letters(told))
    show_proof(proof, console)
    good = "bold green" if told.ok else "bold red"
    figures = Table.grid(padding=(0, 2))
    figures.add_column(justify="right", style="bold")
    figures.add_column()
    bad = len(played.injected)
    figures.add_row(f"{played.sent:,}", f"events sent, {played.again} of them twice; {bad} bad records")
    figures.add_row(f"{played.stored:,}", "events stored and handled, those that handlers published included")
    figures.add_row(f"{played.events_per_second:,.0f}", "events/s, from the first one sent to the last one stored")
    figures.add_row(f"{played.cpu_per_event:,.0f} µs", "of the workers' CPU an event")
    figures.add_row(f"{played.crash_to_caught_up:.1f} s", f"from kill -9 of worker {played.killed} to caught up")
    figures.add_row(f"{told.seconds['total']:.1f} s", "in all" + (
        f", downloads of {told.seconds['downloads']:.0f} s apart" if told.seconds["downloads"] else ""))
    for name in played.fallen:
        figures.add_row(Text(name, "bold red"), f"ended by itself; its log: {told.folder}/workers/{name}/server.log")
    verdict = Text(told.verdict, good)
    console.print(Panel(figures, title=verdict, box=box.HEAVY, border_style=good, padding=(1, 2), expand=False))
    console.print(Text(f"The report: {told.report}"), soft_wrap=True)
    if not running:
        console.print("Workers and stack are stopped; with --keep they go on running.", soft_wrap=True)
        return
    console.print("\n[bold]Where to look next[/bold]: workers and stack go on running.")
    for name, address in told.workers:
        for path in ("/health/events", "/metrics"):
            console.print(Text(f"  worker {name}  http://{address}{path}"), soft_wrap=True)
    for command, purpose in _commands(told):
        console.print(Text.assemble(("  # " + purpose, "dim"), "\n  ", (command, "cyan")), soft_wrap=True)


def show_proof(proof: Proof, console: Console) -> None:
    """The comparisons, and their sum."""
    table = Table(title="The proof, against the recount from the XML", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", overflow="fold")
    table.add_column("read from", overflow="fold")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    section = ""
    for line in proof.lines:
        if line.section != section:
            section = line.section
            table.add_row(Text(section, "bold"), "", "", "", "")
        table.add_row(
            Text("  " + line.what), Text(line.where, "dim"), f"{line.expected:,}", f"{line.found:,}",
            Text("ok", "green") if line.ok else Text(_difference(line), "bold red"),
        )
    console.print(table)
    console.print(Text(
        f"{proof.compared:,} things compared: lost {proof.lost}, duplicated {proof.duplicated}"
        + (f", wrong {proof.wrong}" if proof.wrong else ""), "bold green" if proof.ok else "bold red",
    ))


def _difference(line: Line) -> str:
    parts = [("lost", line.lost), ("duplicated", line.duplicated), ("wrong", line.wrong)]
    return ", ".join(f"{word} {count:,}" for word, count in parts if count)


def _year_line(school: School) -> Table:
    """One school: its weeks' absence as blocks, and its year in figures."""
    shares = [(w.excused + w.unexcused) / w.all if w.all else 0 for w in school.weeks]
    top = max(shares, default=0) or 1
    blocks = "".join("▁▂▃▄▅▆▇█"[min(7, int(7.99 * s / top))] for s in shares)
    days = sum(week.all for week in school.weeks)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=28)
    grid.add_column(style="red", width=44, no_wrap=True)
    grid.add_column()
    absent = school.sum("excused") + school.sum("unexcused")
    grid.add_row(Text(school.name, "bold"), blocks, f"{school.students} students, {days:,} days")
    grid.add_row("", Text("absent by week", "dim"), f"{share(school.sum('present'), days)} present, "
                 f"{share(absent, days)} absent")
    return grid


def _thresholds(told: Told) -> Table:
    table = Table(title="Students past a threshold of absence", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("school")
    for _, words, _ in TIERS:
        table.add_column(words, justify="right")
    for school in told.facts.schools:
        table.add_row(school.name, *(str(school.reached[tier]) for tier, *_ in TIERS))
    table.add_row(Text("all", "bold"), *(
        Text(str(sum(found == tier for found, _ in told.facts.reached)), "bold") for tier, *_ in TIERS
    ))
    table.caption = f"{told.facts.three_in_seven} students were absent three times or more within seven days."
    table.caption_justify = "left"
    return table


def _letters(told: Told) -> Table:
    table = Table(title="Parked, and why", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("thrown in")
    table.add_column("the dead letter says", overflow="fold")
    for (kind, reason), number in _parked(told):
        table.add_row(str(number), Text(kind), Text(reason))
    return table


# As a page ------------------------------------------------------------------------------------------------------------


def html(told: Told) -> str:
    """The whole page."""
    title = "A school year through SkillCore Streams"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE.read_text()}</style>
</head>
<body>
<a class="skip" href="#proof">To the proof</a>
<header>
<p class="over">SkillCore Streams, a demonstration on {_broker(told)} and PostgreSQL</p>
<h1>{"Nothing lost, nothing doubled" if told.ok else "Not as it should be"}</h1>
<p class="lead">{_lead(told)}</p>
{_tiles(told)}
</header>
<main>
{_section("run", "What happened", _run(told))}
{_section("year", "The year at each school", _year(told))}
{_section("thresholds", "Students past the thresholds", _past(told))}
{_section("life", "The life of one absence", _life(told))}
{_section("parked", "What was parked, and why", _parked_table(told))}
{_section("proof", "The proof", _proof(told))}
{_section("how", "How it ran", _how(told))}
{_section("next", "Where to look next", _next(told))}
</main>
<footer><p>Grand Bend ISD is the Ed-Fi Alliance’s sample district: invented people, real structure. Data © Ed-Fi
Alliance, LLC and contributors, Apache License 2.0. This page names no student; ids are cut to eight characters.</p>
</footer>
</body>
</html>
"""


def _broker(told: Told) -> str:
    return "Apache Kafka" if told.kafka == "apache" else "librdkafka’s in-memory broker"


def _section(id: str, heading: str, content: str) -> str:
    return f'<section id="{id}" aria-labelledby="{id}-h"><h2 id="{id}-h">{escape(heading)}</h2>\n{content}</section>'


def _lead(told: Told) -> str:
    played = told.played
    days = len(told.calendar)
    return (
        f"{days} school days of three schools went through Kafka as {played.sent:,} events. In the middle a "
        f"worker was killed "
        f"with <code>kill -9</code>, {played.again} events came twice and {len(played.injected)} records were "
        f"garbage. Then "
        f"every effect was compared with a recount from the XML: <strong>{told.verdict}</strong>."
    )


def _tiles(told: Told) -> str:
    played = told.played
    tiles = [
        (f"{told.proof.lost}", "lost"),
        (f"{told.proof.duplicated}", "duplicated"),
        (f"{played.stored:,}", "events stored and handled"),
        (f"{played.events_per_second:,.0f}/s", "events, end to end"),
        (f"{played.crash_to_caught_up:.1f} s", "from kill -9 to caught up"),
        (f"{played.cpu_per_event:,.0f} µs", "worker CPU an event"),
    ]
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{escape(words)}</dt><dd>{escape(figure)}</dd></div>" for figure, words in tiles
    ) + "</dl>"


def _run(told: Told) -> str:
    played = told.played
    marks = [
        (played.killed_at, f"kill -9 of worker {played.killed}"),
        (played.joined_at, "another worker has joined"),
        (played.recovered_at, "caught up with the crash"),
        (played.sent_at, "everything is sent"),
        (played.caught_up_at, "nothing is left"),
    ]
    return (
        "<p>Events stored in each half second, and below it the records that nobody had processed yet. Session "
        "timeout is "
        "2 s here, so that the group notices the death sooner than in production (10 s). Postgres, not the "
        "group, says where "
        "each partition goes on.</p>"
        f"<figure>{pictures.run(told.scene.looks, sorted(marks))}</figure>"
    )


def _year(told: Told) -> str:
    shares = [
        100 * (w.all - w.present) / w.all for s in told.facts.schools for w in s.weeks if w.all
    ]
    most = pictures.nice(max(shares, default=1))
    box_of = '<svg viewBox="0 0 12 12" aria-hidden="true"><rect class="{}" width="12" height="12"/></svg>'
    legend = "".join(f"<li>{box_of.format(kind)}{words}</li>" for kind, words in (("present", "present"), *KINDS))
    parts = [
        "<p>Each bar is a week: the share of student-days that were not simply present. The thin bar above is "
        "the whole "
        f'year at full length.</p><ul class="legend">{legend}</ul>'
    ]
    for school in told.facts.schools:
        days = sum(week.all for week in school.weeks)
        parts.append(
            f"<h3>{escape(school.name)}</h3><p class='sub'>{school.students} students with marks, {days:,} "
            f"student-days, {share(school.sum('present'), days)} present</p>"
            f"<figure>{pictures.whole(school)}{pictures.weeks(school, most)}</figure>"
        )
    rows = [
        [escape(s.name), *(f"{s.sum(kind):,}" for kind in ("present", "unexcused", "excused", "tardy", "other")),
         share(s.sum("present"), sum(w.all for w in s.weeks))]
        for s in told.facts.schools
    ]
    parts.append(_table("Student-days of the year, instructional days only",
                        ["School", "Present", "Unexcused", "Excused", "Tardy", "Part", "Present"], rows, numbers=6))
    return "".join(parts)


def _past(told: Told) -> str:
    facts, calendar = told.facts, told.calendar
    students = sum(facts.days_absent.values())
    rows = [[escape(s.name), *(str(s.reached[tier]) for tier, *_ in TIERS)] for s in facts.schools]
    rows.append(["<strong>All</strong>", *(
        f"<strong>{sum(found == tier for found, _ in facts.reached)}</strong>" for tier, *_ in TIERS)])
    return (
        "<p>A rate is days absent, excused or not, of the instructional days since enrolment, looked at from the "
        "20th such "
        "day on. Early in the year a few days weigh much, so more students have once reached a threshold than "
        "end the year "
        f"beyond it.</p><div "
        f"class='pair'><figure>{pictures.reached(facts.reached, calendar[0], calendar[-1], students)}"
        "<figcaption>Students who had reached each threshold</figcaption></figure>"
        f"<figure>{pictures.histogram(facts.days_absent, len(calendar))}"
        "<figcaption>Students by days missed at the end</figcaption></figure></div>"
        + _table("Thresholds reached", ["School", *(words for _, words, _ in TIERS)], rows, numbers=3)
        + f"<p><strong>{facts.three_in_seven} students</strong> were absent three times or more within seven days.</p>"
    )


def _life(told: Told) -> str:
    steps = told.facts.life
    if not steps:
        return "<p>No absence was traced.</p>"
    first = next((step.at for step in steps if step.at is not None), None)
    items = []
    for step in steps:
        after = "" if step.at is None or first is None else f"{(step.at - first).total_seconds() * 1000:+,.0f} ms"
        what, where = escape(step.what), escape(step.where)
        items.append(f"<li><span class='when'>{after}</span><span>{what}</span><code>{where}</code></li>")
    return (
        "<p>One absence, from the district’s file to the notice. Times count from the transaction that stored "
        "the mark.</p>"
        f"<ol class='life'>{''.join(items)}</ol>"
    )


def _parked_table(told: Told) -> str:
    rows = [[str(number), escape(kind), escape(reason)] for (kind, reason), number in _parked(told)]
    return (
        f"<p>{len(told.played.injected)} bad records of {len({i.kind for i in told.played.injected})} kinds were "
        f"thrown in. "
        "None stopped a partition, none was dropped: each lies in the dead letters with its original bytes, key, "
        "headers and "
        "place, and a reason that quotes nothing of it.</p>"
        + _table("Dead letters by cause", ["Letters", "Thrown in", "Reason given"], rows, numbers=0)
    )


def _proof(told: Told) -> str:
    proof = told.proof
    sections: dict[str, list[Line]] = {}
    for line in proof.lines:
        sections.setdefault(line.section, []).append(line)
    body = []
    for section, lines in sections.items():
        body.append(f"<tbody><tr><th colspan='7' scope='rowgroup'>{escape(section)}</th></tr>")
        for line in lines:
            verdict = f"<span class='{'ok' if line.ok else 'bad'}'>{escape(_difference(line) or 'ok')}</span>"
            body.append(
                f"<tr><td>{escape(line.what)}</td><td class='dim'>{escape(line.where)}</td>"
                f"<td class='n'>{line.expected:,}</td><td class='n'>{line.found:,}</td><td "
                f"class='n'>{line.lost}</td><td class='n'>{line.duplicated}</td>"
                f"<td>{verdict}</td></tr>"
            )
        body.append("</tbody>")
    return (
        "<p>The expectation is computed from the XML by a script that shares no code with the product. Topics "
        "are read from "
        "their first record and tables by plain SQL. Lost is what is missing, duplicated what is there too "
        "often; both are "
        "counted, row by row.</p><div class='scroll' tabindex='0' role='region' aria-label='The comparisons'><table>"
        f"<caption>{proof.compared:,} things compared: {told.verdict}</caption><thead><tr><th scope='col'>What</th>"
        "<th scope='col'>Read from</th><th scope='col' class='n'>Expected</th><th scope='col' class='n'>Found</th>"
        "<th scope='col' class='n'>Lost</th><th scope='col' class='n'>Duplicated</th><th scope='col'>Verdict</th>"
        "</tr></thead>"
        f"{''.join(body)}</table></div>"
    )


def _how(told: Told) -> str:
    seconds = [[escape(name), f"{value:.1f} s"] for name, value in told.seconds.items()]
    alive = dict(told.workers)
    states = dict.fromkeys(told.played.worker_cpu, "ended") | dict.fromkeys(alive, "alive")
    states[told.played.killed] = "killed"
    workers = [
        [escape(name), states[name], f"{cpu:.1f} s"]
        for name, cpu in told.played.worker_cpu.items()
    ]
    jobs = [[escape(j["queue"]), escape(j["kind"]), escape(j["state"]), f"{j['jobs']:,}"] for j in told.facts.jobs]
    machine = (
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, PostgreSQL {told.facts.postgres}, "
        f"{_broker(told)}. Kafka, Postgres, the workers and the sender share them."
    )
    return (
        f"<p>{escape(machine)}</p><div class='pair'>"
        + _table("Time", ["Part", "Seconds"], seconds, numbers=1)
        + _table("Workers’ CPU since they were ready", ["Worker", "State", "CPU"], workers, numbers=1)
        + "</div>"
        + _table("Jobs; those without a runner wait for the job engine", ["Queue", "Kind", "State", "Jobs"], jobs, 1)
    )


def _next(told: Told) -> str:
    pages = "".join(
        f"<li>Worker {escape(name)}: " + ", ".join(
            f'<a href="http://{address}{path}">{path}</a>' for path in ("/health/events", "/readyz", "/metrics")
        ) + "</li>" for name, address in told.workers
    )
    commands = "\n".join(f"<span># {escape(purpose)}</span>\n{escape(command)}" for command, purpose in _commands(told))
    return f"<p>While the demonstration is left running:</p><ul>{pages}</ul><pre>{commands}</pre>"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """A table whose last `numbers` columns are figures."""
    def kind(n: int) -> str:
        return " class='n'" if n >= len(heads) - numbers else ""

    head = "".join(f"<th scope='col'{kind(n)}>{escape(text)}</th>" for n, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(n)}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )

