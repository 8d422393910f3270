"""All suites on one real stack, and a last line that adds them up.

A suite that ran fewer tests than its floor fails the whole, and so does a run without the real broker: green means it
ran. Single tests that this machine cannot run are listed at the end with their reasons.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SUITES = {  # folder: tests it must at least have run
    "handlers": 280,
    "contracts": 960,
    "queues": 280,
    "edfi": 140,
    "rules": 90,
    "rendering": 40,
    "explain": 20,
    "events": 150,
    "runtime": 250,
    "adapters": 120,
    "stack": 45,
    "bullmq": 1,
    "commands": 15,
    "web": 80,
    "transport": 12,
    "tables": 95,
    "crash": 5,
    "jobcrash": 3,
    "demo": 22,
}

BESIDE = {"handlers", "contracts", "queues", "edfi", "rules", "rendering", "explain", "events"}
"""Suites that wait for their own databases and for nothing else: two run side by side, the others alone."""


@dataclass
class Run:
    """What a suite has said."""

    suite: str
    code: int
    said: str
    seconds: float

    def count(self, *words: str) -> int:
        """How many tests ended so, by the last lines of pytest."""
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped)", self.said[-400:])
        return sum(int(n) for n, what in found if what in words)


def run(suite: str, environment: dict[str, str], aloud: bool) -> Run:
    """Run one suite; aloud: line by line, as it speaks."""
    began = time.monotonic()
    print(f"\n=== {suite}" if aloud else f"=== {suite} begins", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", f"tests/{suite}", "-q", "--durations=3"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if aloud:
            print(line, end="", flush=True)
    process.wait()
    seconds = time.monotonic() - began
    print(f"{'' if aloud else said}=== {suite}: {seconds:.0f} s", flush=True)
    return Run(suite, process.returncode, said, seconds)


def main() -> int:
    """Run the suites named on the command line, or all. Returns the exit code."""
    from skillcore_streams.stack import temporary

    wanted = sys.argv[1:] or list(SUITES)
    unlisted = sorted({path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} - set(SUITES))
    if unlisted:
        print(f"tests/{unlisted[0]} is not listed in scripts/run_tests.py: it would never run in CI")
        return 1

    problems: list[str] = []
    began = time.monotonic()
    with temporary() as stack:
        environment = dict(os.environ | stack.env())
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of workers start: none should compile us again
        if stack.kafka_kind != "apache":
            problems.append("the real Kafka could not be started: what needs it is NOT RUN")
        with ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda suite: run(suite, environment, False), [s for s in wanted if s in BESIDE]))
        runs += [run(suite, environment, True) for suite in wanted if suite not in BESIDE]
    print(f"\n{time.monotonic() - began:.0f} s in all")

    for done in runs:
        bad, passed = done.count("failed", "error", "errors"), done.count("passed")
        if done.code != 0 or bad:
            problems.append(f"{done.suite}: exit code {done.code}, {bad} failed")
        if passed < SUITES.get(done.suite, 0):
            problems.append(f"{done.suite}: {passed} tests passed, at least {SUITES[done.suite]} must run")
        for line in done.said.splitlines():
            if line.startswith("SKIPPED"):
                print(f"NOT RUN    {done.suite}: {line}")
    for problem in problems:
        print(f"NOT GREEN  {problem}")
    failed = sum(done.count("failed", "error", "errors") for done in runs)
    print(f"{sum(done.count('passed') for done in runs)} passed, {failed or int(bool(problems))} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
