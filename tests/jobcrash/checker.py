"""The independent count. It shares no code with the product: plain SQL on its tables and the lab's, and the ledger.

The lab's own tables: `effect` (rows that jobs wrote in the transaction that ends them), `began` (functions called,
noted at once), `claimed` (every lease there ever was, by a trigger, with Postgres' clock).

A start is a claim. Of a job that was lost with its worker the engine may only say WorkerLost when nothing else was
claimed beside it; what died there is in `deaths`. A worker that killed itself by a killer may be held against nobody
but a killer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import asyncpg

KILLERS = {"killer", "block"}
"""Modes that end their process."""

RETRIED = {"flaky", "hang", "deaf", "drop"}
"""Modes that fail k times, then succeed."""

ERRORS = {
    "flaky": ("ValueError",), "poison": ("ValueError",), "fatal": ("PermanentError",),
    "hang": ("TimeoutError", "Overdue"), "deaf": ("TimeoutError", "Overdue", "HandlerAborted"),
    "drop": ("ServerDisconnectedError", "ClientOSError"),
}
"""How their failures are called."""

SLACK = 0.5
"""Seconds between the two statements that put a failed start back in line and note it, on a slow machine."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What is to become of a job."""

    n: int
    mode: str
    k: int = 0
    attempts: int = 4
    delay: float = 0.0
    """Seconds after its insertion before which it must not start."""
    source: str = "insert"
    """record, insert, or spread: ordered by another job."""
    tenant: str = "oak"
    acts: tuple[tuple[int, str, int, int], ...] = ()

    @property
    def outcome(self) -> str:
        """completed, failed or expired."""
        if self.mode in ("poison", "fatal", "killer", "block"):
            return "failed"
        return "expired" if self.mode == "expired" else "completed"

    @property
    def effects(self) -> int:
        """Rows in `effect`."""
        return int(self.outcome == "completed" and self.mode not in ("call", "drop"))


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended, or stood still for longer than it may."""

    process: str
    at: float
    """Unix time."""
    cause: str
    """killer: one of the jobs did it. Everything else was the test."""


@dataclass
class Report:
    """What was found. `problems` counts what must not be."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Any]] = field(default_factory=dict)
    retried_after: list[float] = field(default_factory=list)
    """Seconds from a worker's death to the next start of each job that it had, where the other one lived on."""

    @property
    def clean(self) -> bool:
        return not any(self.problems.values())

    def note(self, name: str, found: Iterable[Any]) -> None:
        all_of_it = list(found)
        self.problems[name] = len(all_of_it)
        if all_of_it:
            self.examples[name] = sorted(all_of_it, key=str)[:5]

    def percentile(self, share: float) -> float:
        times = sorted(self.retried_after) or [0.0]
        return times[min(len(times) - 1, int(len(times) * share))]

    def table(self, title: str) -> str:
        rows = [*self.facts.items(), ("", ""), *self.problems.items()]
        lines = [f"  {name:<40}{count!s:>10}" for name, count in rows]
        examples = [f"  {name}: for example {some}" for name, some in self.examples.items()]
        return "\n".join([f"\n{title}", "  " + "-" * 50, *lines, *examples])


@dataclass(frozen=True, slots=True)
class Claim:
    token: Any
    process: str
    spent: int
    alone: bool
    at: datetime


async def check(
    dsn: str, ledger: Sequence[Declared], deaths: Sequence[Death], calls: Sequence[int],
    outages: Sequence[tuple[float, float]] = (),
) -> Report:
    """Count everything.

    Args:
        calls: numbers of the jobs for which the provider was called, one entry a call.
        outages: when nobody could have retried anything (Unix times); no times are taken then.
    """
    db = await asyncpg.connect(dsn)
    try:
        rows = await db.fetch("""
            select id, (payload::jsonb ->> 'n')::int as n, created_at, max_attempts from job order by created_at""")
        claims: dict[Any, list[Claim]] = defaultdict(list)
        for r in await db.fetch("select * from claimed order by id"):
            claims[r["job_id"]].append(
                Claim(r["token"], r["process"].partition("#")[0], r["spent"], r["alone"], r["at"]))
        attempts: dict[Any, list[tuple[int, str, datetime]]] = defaultdict(list)
        for r in await db.fetch("select job_id, n, error, failed_at from attempt order by job_id, n"):
            attempts[r["job_id"]].append((r["n"], r["error"], r["failed_at"]))
        ends = [(r["id"], r["outcome"]) for r in await db.fetch("select unnest(ids) as id, outcome from finished")]
        dead = Counter(r["job_id"] for r in await db.fetch("select job_id from dead_letter where status = 'open'"))
        effects = await db.fetch("select n, token from effect")
        began = await db.fetch("select distinct n, token from began")
        left = {name: await db.fetchval(f"select count(*) from {name}")
                for name in ("ready", "later", "lease", "suspect", "hold")}
    finally:
        await db.close()

    report = Report()
    declared = {d.n: d for d in ledger}
    number = {r["id"]: r["n"] for r in rows}
    ids = {r["n"]: r["id"] for r in rows}
    created = {r["n"]: r["created_at"] for r in rows}

    report.note("jobs LOST: never inserted", declared.keys() - ids.keys())
    report.note("jobs inserted twice, or not declared",
                [n for n, times in Counter(number.values()).items() if times > 1 or n not in declared])
    report.note("left in " + ", ".join(left), [f"{name}: {n}" for name, n in left.items() if n])

    # How they ended.
    ended: dict[int, list[str]] = defaultdict(list)
    for job_id, outcome in ends:
        ended[number[job_id]].append(outcome)
    for job_id, times in dead.items():
        ended[number.get(job_id, -1)] += ["failed"] * times
    report.note("did not end as declared, once",
                [(n, declared[n].mode, ended[n]) for n in ids.keys() & declared.keys()
                 if ended[n] != [declared[n].outcome]])

    # Effects.
    counted = Counter(r["n"] for r in effects)
    report.note("effects LOST", [n for n, d in declared.items() if counted[n] < d.effects])
    report.note("effects DUPLICATED", [n for n, times in counted.items() if times > 1])
    report.note("PHANTOM effects", [n for n in counted if n not in declared or not declared[n].effects])
    last = {number[job_id]: some[-1].token for job_id, some in claims.items()}
    report.note("effects of a claim that was void", [r["n"] for r in effects if last.get(r["n"]) != r["token"]])

    # Starts.
    accounted = _accounted(claims, deaths)
    report.note("attempts not as declared", [
        (n, d.mode, d.k, [f"{i}: {error}" for i, error, _ in attempts[ids[n]]])
        for n, d in declared.items() if n in ids and not as_declared(d, [(i, e) for i, e, _ in attempts[ids[n]]])])
    report.note("INNOCENTS charged for a crash", [
        (n, declared[n].mode, i) for job_id, some in attempts.items() for i, error, _ in some
        for n in [number[job_id]] if error.startswith("WorkerLost") and declared[n].mode not in KILLERS
        and (job_id, i) not in accounted])
    starts = Counter(r["n"] for r in began)
    report.note("killers started too often",
                [(n, starts[n]) for n, d in declared.items() if d.mode in KILLERS and starts[n] > d.attempts])
    report.note("killers that never began", [n for n, d in declared.items() if d.mode in KILLERS and not starts[n]])
    report.note("expired jobs that began", [n for n, d in declared.items() if d.mode == "expired" and starts[n]])
    report.note("snoozed not as declared", [(n, starts[n]) for n, d in declared.items()
                                            if d.mode == "snooze" and starts[n] < d.k + 1])

    # Times.
    report.note("started BEFORE their time", [
        n for job_id, some in claims.items() for n in [number[job_id]]
        if n in declared and (some[0].at - created[n]).total_seconds() < declared[n].delay])
    report.note("retried before their time", [
        (number[job_id], i) for job_id, some in attempts.items() for i, error, failed_at in some
        for again in claims[job_id] if again.spent == i and error.startswith(("ValueError", "ServerDisconnected"))
        and (again.at - failed_at).total_seconds() < 0.3 * 2 ** (i - 1) - SLACK])
    report.retried_after = _retried_after(claims, deaths, outages)

    # The provider.
    called = Counter(calls)
    asked = [d for d in ledger if d.mode in ("call", "drop")]
    # A worker that was frozen before its request went out finds that its time is up: an attempt without a call.
    dropped = Counter(number[job_id] for job_id, some in attempts.items()
                      for _, error, _ in some if error.startswith("ServerDisconnected"))
    report.note("provider never called", [d.n for d in asked if called[d.n] < dropped[d.n] + 1])
    report.note("provider called without a start", [d.n for d in asked if called[d.n] > starts[d.n]])

    report.facts |= {
        "jobs": len(rows), **{f"  by {source}": n for source, n in Counter(d.source for d in ledger).items()},
        "starts": sum(map(len, claims.values())),
        "  alone, under suspicion": sum(c.alone for some in claims.values() for c in some),
        "effects": len(effects), "completed": sum(o == "completed" for _, o in ends),
        "expired": sum(o == "expired" for _, o in ends), "dead letters": sum(dead.values()),
        "failures noted": sum(map(len, attempts.values())),
        "  crashes charged to killers": sum(
            error.startswith("WorkerLost") for j, some in attempts.items() for _, error, _ in some
            if number[j] in declared and declared[number[j]].mode == "killer"),
        "  crashes charged to what the test killed": sum(
            error.startswith("WorkerLost") for j, some in attempts.items() for _, error, _ in some
            if number[j] in declared and declared[number[j]].mode != "killer"),
        "provider called": len(calls), "  again after a crash": sum(called[d.n] - d.k - 1 for d in asked),
        "answers dropped": sum(d.k for d in asked),
        "deaths": len(deaths), **{f"  by {cause}": n for cause, n in Counter(d.cause for d in deaths).items()},
        "jobs lost while the other worker lived": len(report.retried_after),
        "crash to retry, p50 / p99 / most (s)":
            f"{report.percentile(0.5):.1f} / {report.percentile(0.99):.1f} / {report.percentile(1):.1f}",
    }
    return report


def as_declared(d: Declared, rows: Sequence[tuple[int, str]]) -> bool:
    """Whether these noted failures are what was declared. A crash of the test's making may take the place of one, or
    come in addition; whether it may be held against the job is another question."""
    numbers = [n for n, _ in rows]
    if numbers != list(range(1, len(rows) + 1)):
        return False
    crashes = [n for n, error in rows if error.startswith("WorkerLost")]
    own = [n for n in numbers if n not in crashes]
    if not all(error.startswith(ERRORS.get(d.mode, ())) for n, error in rows if n in own):
        return False
    if d.mode in KILLERS:  # its first crash, in company, is not noted but counts
        return not own and len(crashes) == d.attempts - 1
    if d.mode == "poison":
        return len(rows) == d.attempts or (len(rows) == d.attempts - 1 and rows[-1][0] in crashes)
    if d.mode == "fatal":
        return own == numbers[-1:] and len(own) == 1
    if d.mode in RETRIED:
        return len(own) + sum(n <= d.k for n in crashes) == d.k
    return not own


def _accounted(claims: dict[Any, list[Claim]], deaths: Sequence[Death]) -> set[tuple[Any, int]]:
    """(job, attempt) that were alone in a process when the test ended it: one a death, the last to begin."""
    found = set()
    for death in deaths:
        alone = [(claim.at, str(job_id), job_id, claim.spent + 1) for job_id, some in claims.items() for claim in some
                 if claim.alone and claim.process == death.process and claim.at.timestamp() <= death.at]
        if alone and death.cause != "killer":
            found.add(max(alone)[2:])
    return found


def _retried_after(
    claims: dict[Any, list[Claim]], deaths: Sequence[Death], outages: Sequence[tuple[float, float]]
) -> list[float]:
    """Only of crashes between which and the retry nothing else went wrong: what the engine takes by itself."""
    died: dict[str, list[float]] = defaultdict(list)
    for death in deaths:
        died[death.process].append(death.at)
    working: dict[str, float] = {}
    for claim in (claim for some in claims.values() for claim in some):
        working[claim.process] = min(claim.at.timestamp(), working.get(claim.process, claim.at.timestamp()))
    times = []
    for some in claims.values():
        for lost, again in pairwise(some):
            start, end = lost.at.timestamp(), again.at.timestamp()
            at = min((t for t in died[lost.process] if start <= t <= end), default=None)
            if at is None or again.process == lost.process or again.spent > lost.spent + lost.alone:
                continue
            disturbed = any(at < d.at < end for d in deaths) or any(
                begin < end and at < until for begin, until in outages)
            if not disturbed and working[again.process] < at:
                times.append(end - at)
    return times
