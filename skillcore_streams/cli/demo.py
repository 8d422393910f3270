"""`skillcore demo`: a district's school year through the whole system, watched and proven."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from skillcore_streams.config import ROOT
from skillcore_streams.demo import report, terminal
from skillcore_streams.demo.evening import inbox
from skillcore_streams.demo.facts import gather
from skillcore_streams.demo.play import TENANT, DemoFailed, Plan, Play, Played, prepare
from skillcore_streams.demo.proof import Bad, Proof, prove
from skillcore_streams.demo.recount import recount
from skillcore_streams.demo.short import shortened
from skillcore_streams.demo.told import Told, proof_json
from skillcore_streams.demo.watch import LiveView, PlainView, Scene
from skillcore_streams.demo.workers import PATIENT_SESSION, Crew, left_running, stop_all
from skillcore_streams.stack import DEFAULT_DIR, Stack, StackError

GRAND_BEND = ROOT / "data" / "grand-bend"
MARKER = "demo.json"
"""What makes a folder ours: its content may be thrown away. Holds what a later --prove must know."""

REPORT = "report.html"
RESULT = "result.json"
QUICK_RATE = 2000.0
"""Events a second in the short form: it must last long enough for a kill in its middle."""

LOG_WIDTH = 112
"""Columns where there is no terminal to ask."""


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIR / "demo",
              show_default=".stack/demo/", help="Folder of the stack, the logs and the report. Each run begins afresh.")
@click.option("--rate", default=3000.0, show_default=True, type=click.FloatRange(100), help="Events sent a second.")
@click.option("--quick", is_flag=True, help="The first 40 school days only; the kill -9 and the garbage stay.")
@click.option("--keep/--no-keep", default=None, help="Leave stack and workers running. Default: on a terminal.")
@click.option("--stop", is_flag=True, help="Stop what an earlier demonstration left running.")
@click.option("--prove", "again", is_flag=True, help="Repeat the proof on what an earlier demonstration left running.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON; progress goes to stderr.")
def demo(
    folder: Path, rate: float, quick: bool, keep: bool | None, stop: bool, again: bool, as_json: bool
) -> None:
    """Play a district's school year: 58,125 events, a kill -9 in the middle, garbage; then prove nothing was lost.

    Attendance, classes, grades, IEPs and services; what the sample lacks is made up from a seed and labelled so.

    Starts Apache Kafka, PostgreSQL and two workers of their own. Exit code 1 when the proof fails.
    """
    folder = folder.absolute()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is seen by the looks at the system
    if stop:
        _stop(folder)
    elif again:
        sys.exit(_prove_again(folder, as_json))
    else:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        sys.exit(_perform(folder, rate, quick, terminal if keep is None else keep, as_json))


def _perform(folder: Path, rate: float, quick: bool, keep: bool, as_json: bool) -> int:
    """From an empty folder to the report. Returns the exit code; leaves nothing running unless `keep`."""
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=LOG_WIDTH)
    view = LiveView(console) if console.is_terminal else PlainView()
    started = time.monotonic()
    with _ours(folder), _ending_cleanly(folder) as outcome:
        stack = Stack(folder, say=view.say)
        seconds: dict[str, float] = {}
        env = stack.up()
        seconds["downloads"] = stack.download_seconds
        seconds["stack"] = time.monotonic() - started - stack.download_seconds
        data = shortened(GRAND_BEND, folder / "data") if quick else GRAND_BEND
        plan = Plan(data, min(rate, QUICK_RATE), copies=1) if quick else Plan(data, rate, copies=2)
        if stack.kafka_kind == "mock":
            view.say("WARNING    the in-memory broker serves one worker: it is killed, and another takes its place")
            plan = replace(plan, workers=("a",), successor="b")
        scene = Scene()
        with view:
            played, proof = asyncio.run(_play_and_prove(stack, env, plan, scene, view, seconds))
        seconds["total"] = time.monotonic() - started - stack.download_seconds
        (folder / MARKER).write_text(json.dumps({"played": played.as_json(), "data": str(data)}))
        facts = asyncio.run(gather(env["SKILLCORE_DATABASE_URL"]))
        told = Told(
            scene=scene, played=played, proof=proof, facts=facts, seconds=seconds, folder=folder,
            kafka=stack.kafka_kind, workers=[(w.name, w.address) for w in left_running(folder)],
            calendar=recount(data).calendar, quick=quick,
        )  # fmt: skip
        (folder / REPORT).write_text(report.html(told), encoding="utf-8")
        (folder / RESULT).write_text(json.dumps(told.as_json(), indent=2, default=str))
        if as_json:
            click.echo(json.dumps(told.as_json(), indent=2, default=str))
        else:
            terminal.show(told, console, running=keep)
        outcome.keep = keep
        outcome.finished = True
    return 0 if told.ok else 1


async def _play_and_prove(
    stack: Stack, env: dict[str, str], plan: Plan, scene: Scene, view: Any, seconds: dict[str, float]
) -> tuple[Played, Proof]:
    began = time.monotonic()
    settings = await prepare(env)
    seconds["topics and schema"] = time.monotonic() - began
    crew = Crew(stack.dir, env if stack.kafka_kind == "apache" else env | PATIENT_SESSION)
    play = Play(plan, settings, crew, scene, view, stack.office)
    played = await play.perform()
    seconds["workers"] = time.monotonic() - began - seconds["topics and schema"] - played.caught_up_at
    seconds["the year"] = played.caught_up_at
    began = time.monotonic()
    proof = await _proof(stack, plan.folder, played)
    seconds["proof"] = time.monotonic() - began
    return played, proof


async def _proof(stack: Stack, data: Path, played: Played) -> Proof:
    env = stack.env()
    bad = [Bad((i.topic, i.partition, i.offset), i.said) for i in played.injected]
    kafka, database = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]
    taken = await inbox(stack.office)
    return await prove(kafka, database, data, TENANT, bad, taken, sent=played.sent, again=played.again)


def _prove_again(folder: Path, as_json: bool) -> int:
    """The comparison once more, on what runs."""
    marker = _marker(folder)
    if "played" not in marker:
        raise DemoFailed(f"No demonstration has been finished in {folder}. First: skillcore demo")
    proof = asyncio.run(_proof(Stack(folder), Path(marker["data"]), Played.from_json(marker["played"])))
    if as_json:
        click.echo(json.dumps(proof_json(proof), indent=2))
    else:
        terminal.show_proof(proof, Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH))
    return 0 if proof.ok else 1


def _stop(folder: Path) -> None:
    _marker(folder)
    stopped = stop_all(folder)
    Stack(folder, say=click.echo).down()
    workers = f" workers {', '.join(stopped)} and" if stopped else ""
    click.echo(f"demo       stopped{workers} the stack in {folder}")


def _marker(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / MARKER).read_text())
    except FileNotFoundError:
        raise StackError(f"There is no demonstration in {folder}. Start one: skillcore demo") from None
    return found


@dataclass(slots=True)
class _Outcome:
    """What `_ending_cleanly` has to do at the end."""

    keep: bool = False
    finished: bool = False


@contextmanager
def _ours(folder: Path) -> Iterator[None]:
    """The folder, empty and marked as ours, and nobody else's while we are at work."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"Another demonstration is at work in {folder}. Wait for it, or use --dir.") from None
        if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
            raise DemoFailed(f"{folder} holds something that is not a demonstration. Choose another --dir.")
        stop_all(folder, at_once=True)
        Stack(folder).remove()
        folder.mkdir()
        (folder / MARKER).write_text("{}")
        yield


@contextmanager
def _ending_cleanly(folder: Path) -> Iterator[_Outcome]:
    """However it ends, Ctrl-C and SIGTERM included: nothing of ours stays running that shall not."""
    outcome = _Outcome()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield outcome
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if not outcome.keep:
            stop_all(folder, at_once=True)
            Stack(folder).down()
        if outcome.finished and not outcome.keep:
            _clear(folder)


def _clear(folder: Path) -> None:
    """Delete the servers' data; the report, the result and the workers' logs stay."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        keep = [folder / REPORT, folder / RESULT, folder / MARKER, *(folder / "workers").glob("*/server.log")]
        for file in keep:
            target = Path(aside) / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
        Stack(folder).remove()
        shutil.copytree(aside, folder)
        folder.chmod(0o755)
