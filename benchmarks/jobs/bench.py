"""What is measured, in which order, and the report.

Everybody gets the same payload (about 300 bytes of JSON) and the same concurrency (50). Peers take turns in each round
of each case, so that a noisy minute hits all of them; figures are medians with their range. A run begins at its first
job and ends when the last one is completed. CPU is user and system time of the client process and of its servers.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from benchmarks.jobs.peers import ROOT, Figure, Peer, taking_part

BYTES = 250
"""Of text in a payload; with its other fields it has about 300."""

CHUNK = 500
ROUNDS = 3
HELD = 200_000
"""Jobs that go by while a snapshot is held open."""

IDLE_SECONDS = 20.0
REPORT = ROOT / "benchmarks" / "RESULTS-jobs.md"

Counts = dict[str, int]
"""Family of peers -> jobs a run: as many as take it some seconds. Who is missing does not take part."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the report."""

    title: str
    counts: Counts
    run: Callable[[Peer, int], Figure]
    unit: str = "jobs/s"
    only: tuple[str, ...] = ()
    """Names, when not all of a family take part."""
    least: int = 200
    """Jobs in quick mode, at least."""


def enqueue(chunk: int) -> Callable[[Peer, int], Figure]:
    """Only the insertion is measured."""
    return lambda peer, count: peer.add(kind="noop", count=count, chunk=chunk, bytes=BYTES)


def drain(kind: str, **told: int) -> Callable[[Peer, int], Figure]:
    """Insert, then measure the work."""

    def run(peer: Peer, count: int) -> Figure:
        peer.add(kind=kind, count=count, chunk=CHUNK, bytes=BYTES, **told)
        return peer.work(kind=kind, count=count)

    return run


def backlog(first: int) -> Callable[[Peer, int], Figure]:
    """So many wait, the first of them are measured."""

    def run(peer: Peer, count: int) -> Figure:
        peer.add(kind="noop", count=count, chunk=CHUNK, bytes=BYTES)
        return peer.work(kind="noop", count=min(first, count), leave=count > first)

    return run


def latency(rate: int) -> Callable[[Peer, int], Figure]:
    """From just before the enqueueing call to the beginning of the function, in another process."""

    def run(peer: Peer, count: int) -> Figure:
        with peer.process(do="work", kind="noop", count=count, latency=True) as worker:
            worker.hear("ready")
            time.sleep(1.0)  # its first look at the queue
            with peer.process(do="add", kind="noop", count=count, chunk=1, rate=rate, bytes=BYTES) as adder:
                figure = worker.measure(count)
                adder.hear("done")
        return figure

    return run


def idle(peer: Peer, count: int) -> Figure:
    """A worker of eight queues without work: hundredths of a core, of itself and of its servers."""
    with peer.process(do="idle", kind="noop", count=0) as worker:
        worker.hear("ready")
        time.sleep(3.0)
        began, (client, server) = time.monotonic(), worker.used()
        time.sleep(min(IDLE_SECONDS, count))
        seconds, (client_then, server_then) = time.monotonic() - began, worker.used()
    mine, theirs = (client_then - client) / seconds * 100, (server_then - server) / seconds * 100
    return Figure(rate=mine + theirs, steps=[mine, theirs])


def snapshot(peer: Peer, count: int) -> Figure:
    """Rates before, during and after so many jobs while another session holds a snapshot: [before, ..., after]."""
    step = count // 4
    rates, total = [], Figure()
    for held in (False, *[True] * 5):
        if held and len(rates) == 1:
            holder = hold(peer.dsn)
            next(holder)
        peer.add(kind="noop", count=step, chunk=CHUNK, bytes=BYTES)
        total = peer.work(kind="noop", count=step)
        rates.append(total.rate)
    holder.close()
    return Figure(rate=rates[-1], client=total.client, server=total.server, steps=rates)


def hold(dsn: str) -> Iterator[None]:
    """A session that has looked at the tables once and has not ended its transaction: an open report, a pg_dump."""
    with asyncio.Runner() as runner:
        session = runner.run(asyncpg.connect(dsn))
        try:
            runner.run(session.execute("set idle_in_transaction_session_timeout = 0"))
            runner.run(session.execute("begin isolation level repeatable read; select from ready"))
            yield
        finally:
            runner.run(session.close())


def counts(ours: int = 0, bullmq: int = 0, procrastinate: int = 0, arq: int = 0) -> Counts:
    """Without those that do not take part."""
    said = {"ours": ours, "bullmq": bullmq, "procrastinate": procrastinate, "arq": arq}
    return {family: count for family, count in said.items() if count}


EVERYSEC = ("ours", "BullMQ everysec")
CASES: dict[str, Case] = {
    "enqueue-one": Case("enqueue, one after another", counts(3000, 6000, 1000, 3000), enqueue(1)),
    "enqueue-bulk": Case("enqueue, chunks of 500", counts(100_000, 40_000, 10_000, 5000), enqueue(CHUNK)),
    "noop": Case("process, no-op", counts(100_000, 30_000, 1000, 2000), drain("noop"), least=1000),
    "row": Case("process, one Postgres row each", counts(40_000, 10_000, 1000), drain("row")),
    "priorities": Case("no-op, 10 priorities", counts(50_000, 20_000, 1000), drain("noop", priorities=10)),
    "tenants": Case("no-op, 200 tenants, fair share", counts(50_000), drain("noop", tenants=200)),
    "flaky": Case("no-op, 10 % fail once", counts(50_000, 20_000, 1000, 2000), drain("flaky")),
    "io": Case("10 ms of I/O each", counts(20_000, 15_000, 1000, 2000), drain("io")),
    "latency-200": Case("latency at 200/s", counts(2000, 2000, 2000, 2000), latency(200), unit="ms p50 / p99"),
    "latency-1000": Case("latency at 1,000/s", counts(10_000, 10_000), latency(1000), unit="ms p50 / p99"),
    "backlog-10k": Case("no-op, 10,000 waiting", counts(10_000, 10_000), backlog(50_000), only=EVERYSEC),
    "backlog-1m": Case(
        "no-op, first 50,000 of 1,000,000", counts(1_000_000, 1_000_000), backlog(50_000), only=EVERYSEC),
    "snapshot": Case("no-op after 200,000 under a held snapshot", counts(HELD), snapshot, least=20_000),
    "idle": Case(
        "idle, 8 queues", counts(20, 20, 20, 20), idle, unit="% of a core", least=5,
        only=(*EVERYSEC, "procrastinate", "arq")),
}  # fmt: skip

LONG = {"backlog-1m": 1, "snapshot": 2, "idle": 2}
"""Cases of fewer rounds than the others."""


@dataclass(slots=True)
class Results:
    """All figures of a run, and what they were taken on."""

    quick: bool
    names: list[str]
    missing: dict[str, str]
    versions: dict[str, str]
    figures: dict[str, dict[str, list[Figure]]] = field(default_factory=dict)
    broken: dict[tuple[str, str], str] = field(default_factory=dict)


def main(cases: Sequence[str], *, quick: bool) -> None:
    """Run the cases, print as they come, then the tables; in full mode they are written to RESULTS-jobs.md."""
    began, stolen = time.monotonic(), steal()
    with taking_part() as (peers, missing, versions):
        results = Results(quick, [p.name for p in peers], missing, versions)
        for name, why in missing.items():
            print(f"NOT RUN  {name}: {why}", flush=True)
        for name in cases:
            case = CASES[name]
            rounds = 1 if quick else LONG.get(name, ROUNDS)
            print(f"{case.title} ({case.unit})", flush=True)
            for number in range(rounds):
                for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                    if peer.family in case.counts and (not case.only or peer.name in case.only):
                        one(results, name, case, peer, number)
    gone = time.monotonic() - began
    took = f"{gone / 60:.0f} minutes; stolen by other machines: {(steal() - stolen) / gone / (os.cpu_count() or 1):.1%}"
    text = report(results, took)
    print("\n" + text)
    if not quick and set(cases) == set(CASES):
        REPORT.write_text(text)


def one(results: Results, name: str, case: Case, peer: Peer, number: int) -> None:
    """One run of one peer. What breaks is reported, the others go on."""
    count = case.counts[peer.family]
    if results.quick:
        count = min(count, max(case.least, count // 10))
    peer.fresh()
    try:
        figure = case.run(peer, count)
    except RuntimeError as error:
        results.broken[name, peer.name] = str(error)
        print(f"  BROKEN   {peer.name}: {error}", flush=True)
        return
    results.figures.setdefault(name, {}).setdefault(peer.name, []).append(figure)
    print(f"  round {number + 1}  {peer.name:<16} {shown(case, [figure]):>24}  {costs([figure])}"
          f"  {' '.join(f'{s:,.0f}' for s in figure.steps) if name in ('backlog-1m', 'snapshot') else ''}", flush=True)


# Reading the figures ----------------------------------------------------------------------------------------------


def percentile(figures: Sequence[Figure], share: float) -> float:
    """Median over the rounds of a percentile, in ms."""
    return statistics.median(f.latencies[min(len(f.latencies) - 1, int(len(f.latencies) * share))] for f in figures)


def rate(figures: Sequence[Figure]) -> float:
    """Median over the rounds."""
    return statistics.median(f.rate for f in figures)


def shown(case: Case, figures: Sequence[Figure]) -> str:
    """A cell: the median, and the range when there is one."""
    if figures[0].latencies:
        return f"{percentile(figures, 0.5):.1f} / {percentile(figures, 0.99):.1f}"
    digits = 1 if "%" in case.unit else 0
    rates = sorted(f.rate for f in figures)
    middle = f"{statistics.median(rates):,.{digits}f}"
    return middle if len(rates) == 1 else f"{middle} ({rates[0]:,.{digits}f}-{rates[-1]:,.{digits}f})"


def costs(figures: Sequence[Figure]) -> str:
    """CPU us a job: client + servers."""
    client, server = statistics.median(f.client for f in figures), statistics.median(f.server for f in figures)
    return f"{client + server:,.0f} = {client:,.0f} + {server:,.0f}" if client + server else ""


def aims(results: Results) -> Iterator[tuple[str, str, bool]]:
    """(aim of issue 6, what was measured, whether it was reached), for those whose cases were run."""

    def both(name: str) -> tuple[list[Figure], list[Figure]] | None:
        got = results.figures.get(name, {})
        return (got["ours"], got["BullMQ everysec"]) if {"ours", "BullMQ everysec"} <= set(got) else None

    for name, what, times in (("noop", "no-op", 4), ("enqueue-bulk", "bulk enqueue", 4), ("row", "a Postgres row", 2)):
        if (pair := both(name)) is not None:
            ratio = rate(pair[0]) / rate(pair[1])
            yield f"{what} >= {times}x BullMQ (AOF everysec)", f"{ratio:.1f}x", ratio >= times
    if (pair := both("latency-200")) is not None:
        (p50, p99), (p50_, p99_) = ((percentile(f, 0.5), percentile(f, 0.99)) for f in pair)
        said = f"{p50:.1f} / {p99:.1f} ms, BullMQ {p50_:.1f} / {p99_:.1f} ms"
        yield "latency at 200/s: p50 / p99 no worse than BullMQ's", said, p50 <= p50_ and p99 <= p99_
        yield "latency at 200/s: p50 / p99 <= 3 / 10 ms", said, p50 <= 3 and p99 <= 10
    ours = {name: got["ours"] for name, got in results.figures.items() if "ours" in got}
    if {"backlog-10k", "backlog-1m"} <= set(ours):
        few, many = rate(ours["backlog-10k"]), rate(ours["backlog-1m"])
        yield "no fall from 10,000 to 1,000,000 waiting", f"{few:,.0f}/s -> {many:,.0f}/s", many >= few * 0.9
    if "snapshot" in ours:
        before = statistics.median(f.steps[0] for f in ours["snapshot"])
        after = statistics.median(f.steps[-1] for f in ours["snapshot"])
        yield ("at most 20 % less after 200,000 jobs under a held snapshot", f"{before:,.0f}/s -> {after:,.0f}/s",
               after >= before * 0.8)
    if "idle" in ours:
        yield "idle < 2 % of a core", f"{rate(ours['idle']):.1f} %", rate(ours["idle"]) < 2


def report(results: Results, took: str) -> str:
    """Two tables and the aims."""
    quick = " (quick: for looking only)" if results.quick else ""
    lines = [
        f"# Jobs beside their peers, {datetime.now(UTC):%Y-%m-%d}{quick}",
        "",
        f"{machine()}. " + ", ".join(f"{name} {number}" for name, number in results.versions.items()) + f". {took}.",
        "",
        "`python -m benchmarks jobs`. About 300 bytes a payload, concurrency 50, one worker process, peers in turns;",
        "medians (range). Ours commits with fsync at the enqueue and at the end of jobs; BullMQ with its Redis' AOF as",
        "named; procrastinate as Postgres does by default; arq on the Redis of `everysec`, looking every 10 ms.",
        "",
    ]  # fmt: skip
    lines += [f"NOT RUN: {name}: {why}" for name, why in results.missing.items()]
    lines += [f"BROKEN: {peer}, {name}" for name, peer in results.broken]
    beside = "BullMQ everysec" in results.names
    for title, cell in (("", shown), ("CPU us a job = client + servers", lambda case, figures: costs(figures))):
        lines += [
            *([f"## {title}", ""] if title else []),
            f"| case | {' | '.join(results.names)} |" + (" ours : BullMQ |" if beside and not title else ""),
            "|---" * (1 + len(results.names) + (beside and not title)) + "|",
        ]
        for name, got in results.figures.items():
            case = CASES[name]
            cells = [cell(case, got[peer]) if peer in got else "" for peer in results.names]
            if title and not any(cells):
                continue
            row = f"| {case.title}{'' if title or case.unit == 'jobs/s' else f', {case.unit}'} | {' | '.join(cells)} |"
            lines.append(row + (f" {ratio(case, got)} |" if beside and not title else ""))
        lines.append("")
    lines += ["## Aims", ""]
    lines += [f"* {'reached' if ok else '**MISSED**'}: {aim}: {said}" for aim, said, ok in aims(results)]
    if "snapshot" in results.figures:
        steps = ", ".join(f"{rate:,.0f}" for rate in results.figures["snapshot"]["ours"][-1].steps)
        lines += ["", f"Held snapshot, jobs/s before it, in each quarter of 200,000, and after: {steps}"]
    return "\n".join(lines) + "\n"


def ratio(case: Case, got: dict[str, list[Figure]]) -> str:
    """How many times as good as BullMQ with AOF everysec."""
    if not {"ours", "BullMQ everysec"} <= set(got):
        return ""
    ours, theirs = got["ours"], got["BullMQ everysec"]
    if ours[0].latencies:
        return " / ".join(f"{percentile(theirs, share) / percentile(ours, share):.1f}x" for share in (0.5, 0.99))
    return f"{(rate(theirs) / rate(ours) if '%' in case.unit else rate(ours) / rate(theirs)):.1f}x"


def machine() -> str:
    """What this was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line] or [platform.machine()]
    return f"{os.cpu_count()} cores, {names[0]}, Linux {platform.release().split('-')[0]}"


def steal() -> float:
    """CPU seconds that the hypervisor gave to others so far."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


__all__ = ["CASES", "main"]
