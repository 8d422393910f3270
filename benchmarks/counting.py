"""A Faust app that only counts: `python -m benchmarks.counting stock|hardened`, told by BENCH_* what and how many.

Prints one line of JSON when it has seen all: seconds and CPU seconds from the first record to the last.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import faust
import mode.loop

from skillcore_streams.adapters.kafka import HardenedApp

KIND, TOTAL = sys.argv[1], int(os.environ["BENCH_TOTAL"])


class Hardened(HardenedApp):
    """Chunks of the topic, from its beginning."""

    bulk_topics = frozenset({os.environ["BENCH_TOPIC"]})


mode.loop.use("uvloop")
app = (Hardened if KIND == "hardened" else faust.App)(
    os.environ["BENCH_GROUP"],
    broker=f"kafka://{os.environ['SKILLCORE_KAFKA']}",
    topic_disable_leader=True,
    topic_allow_declare=False,
    web_enabled=False,
    datadir=f"/tmp/{os.environ['BENCH_GROUP']}",
    cython_optimizations=True,
)
topic = app.topic(
    os.environ["BENCH_TOPIC"], value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw"
)
seen = 0
first: tuple[float, float] | None = None


@app.agent(topic)
async def count(stream: Any) -> None:
    """Nothing but counting: what is measured is the way here."""
    global seen, first
    async for value in stream:
        if first is None:
            first = time.monotonic(), time.process_time()
        seen += len(value.records) if KIND == "hardened" else 1
        if seen >= TOTAL:
            print(json.dumps({"seconds": time.monotonic() - first[0], "cpu": time.process_time() - first[1]}),
                  file=sys.__stdout__, flush=True)
            os._exit(0)


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "error", "--without-web"]
    app.main()
