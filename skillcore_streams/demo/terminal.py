"""The report on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from skillcore_streams.demo.facts import School
from skillcore_streams.demo.pictures import TIERS, share
from skillcore_streams.demo.proof import Proof
from skillcore_streams.demo.told import Told, commands, difference, parked


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
    for command, purpose in commands(told):
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
            Text("ok", "green") if line.ok else Text(difference(line), "bold red"),
        )
    console.print(table)
    console.print(Text(
        f"{proof.compared:,} things compared: lost {proof.lost}, duplicated {proof.duplicated}"
        + (f", wrong {proof.wrong}" if proof.wrong else ""), "bold green" if proof.ok else "bold red",
    ))


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
    for (kind, reason), number in parked(told):
        table.add_row(str(number), Text(kind), Text(reason))
    return table
