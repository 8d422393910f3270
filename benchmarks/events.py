"""The way of an event, step by step, beside stock Faust: the same topic read again by each, in turns.

| case | what a worker does with each event |
|---|---|
| stock Faust | counts it (an agent of raw bytes) |
| hardened transport | counts it, in chunks |
| spine, stored | decodes, validates, fences, inbox and event store in Postgres; the type has no handler |
| spine, attendance | the same, and the attendance handler's effects: days, rates, thresholds, absences, jobs |

Machines are noisy: compare ratios and CPU per event of one run. CPU is the worker's, without Postgres'.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg

from skillcore_streams.adapters import kafka_admin, migrations
from skillcore_streams.adapters.producing import Producer, outgoing
from skillcore_streams.cli.importing import publish
from skillcore_streams.config import Settings
from skillcore_streams.edfi import District
from skillcore_streams.events.resources import ResourceAccessed
from skillcore_streams.runtime.messages import Meta, derive_id
from skillcore_streams.stack import temporary

ROOT = Path(__file__).resolve().parent.parent
TENANTS, ROUNDS = 3, 3
ATTENDANCE, RESOURCES = "skillcore.attendance.events.v1", "skillcore.resources.events.v1"
Figures = tuple[float, float]


def counting(kind: str, kafka: str, total: int) -> Figures:
    """(events/s, CPU us an event) of a Faust app that counts."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.counting", kind], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {
            "SKILLCORE_KAFKA": kafka, "BENCH_TOPIC": ATTENDANCE, "BENCH_TOTAL": str(total),
            "BENCH_GROUP": f"bench-{uuid4().hex[:8]}",
        },
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return total / said["seconds"], said["cpu"] / total * 1e6


async def spine(topic: str, kafka: str, dsn: str, total: int) -> Figures:
    """The same of a real worker on an empty database, until Postgres stands at the topic's end."""
    name = f"bench_{uuid4().hex[:8]}"
    server = await asyncpg.connect(dsn)
    await server.execute(f"create database {name}")
    own = dsn.rsplit("/", 1)[0] + "/" + name
    await migrations.migrate(own)
    database = await asyncpg.connect(own)
    # The other topics are taken as read: each case has its own work only.
    rows = await kafka_admin.bounds(kafka, [(t, p) for t in (ATTENDANCE, RESOURCES) for p in range(4)])
    await database.executemany(
        "insert into progress (topic, partition, next_offset) values ($1, $2, $3)",
        [(t, p, 0 if t == topic else end) for (t, p), (_, end) in rows.items()],
    )
    target = sum(end for (t, _), (_, end) in rows.items() if t == topic)
    worker = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [Path(sys.executable).parent / "faust", "-A", "skillcore_streams", "worker", "-l", "error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {
            "SKILLCORE_KAFKA": kafka, "SKILLCORE_DATABASE_URL": own, "SKILLCORE_WEB_PORT": "16066",
            "SKILLCORE_DATADIR": f"/tmp/{name}", "SKILLCORE_SESSION_TIMEOUT": "2",
        },
    )
    began = used = 0.0
    try:
        while True:
            at = await database.fetchval("select sum(next_offset)::bigint from progress where topic = $1", topic)
            if at and not began:
                began, used = time.monotonic(), cpu(worker.pid)
                first = at
            if at >= target:
                seconds, work = time.monotonic() - began, cpu(worker.pid) - used
                return (target - first) / seconds, work / (target - first) * 1e6
            await asyncio.sleep(0.02)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        await database.close()
        await server.execute(f"drop database {name} with (force)")
        await server.close()


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def fill(kafka: str) -> int:
    """A district's year for some tenants, and as many events of a type without a handler. Returns how many marks."""
    with District(ROOT / "data" / "grand-bend") as district:
        counts = await publish(kafka, district, [f"bench-{n}" for n in range(TENANTS)])
    marks = sum(n for kind, n in counts.items() if "AttendanceMarked" in str(kind))
    now = datetime.now(UTC)
    records = []
    for n in range(marks):
        event = ResourceAccessed(
            access_id=uuid4(), resource_id=uuid4(), user_id=uuid4(), accessed_at=now, action="view", seconds=n
        )
        key = derive_id("bench", "/bench", n)
        event.with_meta(Meta(tenant="bench", id=str(n), source="/bench", time=now, key=key, correlation_id=str(key)))
        records.append(outgoing(event))
    async with Producer(kafka) as producer:
        for start in range(0, len(records), 5000):
            await producer.send(records[start : start + 5000])
    return marks


async def main() -> None:
    """Fill the topics, then each case in turn, several rounds."""
    figures: dict[str, list[Figures]] = {}
    with temporary() as stack:
        env = stack.env()
        kafka, dsn = env["SKILLCORE_KAFKA"], env["SKILLCORE_DATABASE_URL"]
        await kafka_admin.apply(Settings(kafka=kafka), "local")
        marks = await fill(kafka)
        print(f"{marks:,} events a case, {ROUNDS} rounds in turns, {os.cpu_count()} cores", flush=True)
        for number in range(ROUNDS):
            for case, run in {
                "stock Faust": lambda: asyncio.to_thread(counting, "stock", kafka, marks),
                "hardened transport": lambda: asyncio.to_thread(counting, "hardened", kafka, marks),
                "spine, stored": lambda: spine(RESOURCES, kafka, dsn, marks),
                "spine, attendance": lambda: spine(ATTENDANCE, kafka, dsn, marks),
            }.items():
                rate, used = await run()
                figures.setdefault(case, []).append((rate, used))
                print(f"  round {number + 1}  {case:<20} {rate:>9,.0f}/s  {used:6.1f} us", flush=True)
    stock = statistics.median(used for _, used in figures["stock Faust"])
    print(f"\n{'case':<20} {'events/s (median, range)':>32} {'CPU us/event':>14} {'beside stock':>14}")
    for case, got in figures.items():
        rates, used = sorted(r for r, _ in got), statistics.median(u for _, u in got)
        shown = f"{statistics.median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f})"
        print(f"{case:<20} {shown:>32} {used:>14.1f} {stock / used:>13.1f}x")


