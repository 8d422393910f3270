"""`python -m benchmarks [events | jobs | a case of jobs] [--quick]`: all when none is named.

`--quick` is for looking: jobs only, one round, small counts.

Machines are noisy: compare ratios and CPU of one run, never rates of two.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks import events
from benchmarks.jobs import bench

ALL = ("events", "jobs")


def main(words: list[str]) -> int:
    """Run what is named. Returns the exit code."""
    quick, named = "--quick" in words, [w for w in words if w != "--quick"]
    if not set(named) <= set(ALL) | set(bench.CASES):
        print(f"{__doc__}\nCases of jobs: {', '.join(bench.CASES)}", file=sys.stderr)
        return 2
    cases = [name for name in named if name in bench.CASES]
    if "events" in named or not (named or quick):
        asyncio.run(events.main())
    if "jobs" in named or cases or not named:
        bench.main(cases or list(bench.CASES), quick=quick)
    return 0


sys.exit(main(sys.argv[1:]))
