"""All suites, one after another on one real stack, and a last line that adds them up.

A suite that ran fewer tests than its floor fails the whole, and so does a run without the real broker: green means it
ran. Single tests that this machine cannot run are listed at the end with their reasons.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SUITES = {  # folder: tests it must at least have run; fast ones first
    "rules": 90,
    "events": 150,
    "contracts": 960,
    "runtime": 250,
    "adapters": 120,
    "rendering": 40,
    "edfi": 140,
    "handlers": 280,
    "queues": 280,
    "explain": 20,
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


def main() -> int:
    """Run the suites named on the command line, or all. Returns the exit code."""
    from skillcore_streams.stack import temporary

    wanted = sys.argv[1:] or list(SUITES)
    unlisted = sorted({path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} - set(SUITES))
    if unlisted:
        print(f"tests/{unlisted[0]} is not listed in scripts/run_tests.py: it would never run in CI")
        return 1

    passed = failed = 0
    problems: list[str] = []
    not_run: list[str] = []
    began = time.monotonic()
    with temporary() as stack:
        environment = os.environ | stack.env() | {"PYTHONDONTWRITEBYTECODE": "1"}
        if stack.kafka_kind != "apache":
            problems.append("the real Kafka could not be started: what needs it is NOT RUN")
        for suite in wanted:
            started = time.monotonic()
            print(f"\n=== {suite}", flush=True)
            run = subprocess.Popen(
                [sys.executable, "-m", "pytest", f"tests/{suite}", "-q", "--durations=3"],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            said = ""
            assert run.stdout is not None
            for line in run.stdout:
                print(line, end="", flush=True)
                said += line
            run.wait()
            found = re.findall(r"(\d+) (passed|failed|errors?|skipped)", said[-400:])
            counts = {what: int(n) for n, what in found}
            bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
            passed += counts.get("passed", 0)
            failed += bad
            if run.returncode != 0 or bad:
                problems.append(f"{suite}: exit code {run.returncode}, {bad} failed")
            not_run += [f"{suite}: {line}" for line in said.splitlines() if line.startswith("SKIPPED")]
            if suite in SUITES and counts.get("passed", 0) < SUITES[suite]:
                problems.append(f"{suite}: {counts.get('passed', 0)} tests passed, at least {SUITES[suite]} must run")
            print(f"=== {suite}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    for line in not_run:
        print(f"NOT RUN    {line}")
    for problem in problems:
        print(f"NOT GREEN  {problem}")
    print(f"{passed} passed, {failed + (1 if problems and not failed else 0)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
