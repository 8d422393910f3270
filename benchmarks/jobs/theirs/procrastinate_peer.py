"""procrastinate, told by one JSON object what to do; answers in lines. See ../peers.py."""

import asyncio
import json
import logging
import sys
import time

import procrastinate
import uvloop
from told import Count, put_all, say, told_to_end

TOLD = json.loads(sys.argv[1])
RETRY = procrastinate.RetryStrategy(max_attempts=5, wait=0)
UNFINISHED = "select count(*) as jobs from procrastinate_jobs where status in ('todo', 'doing')"

logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=TOLD["dsn"], min_size=4, max_size=20))
count: Count


@app.task(queue="bench", name="noop", retry=RETRY)
async def noop(n, at, text):
    count.called(at)


@app.task(queue="bench", name="row", retry=RETRY)
async def row(n, at, text):
    count.called()
    await app.connector.execute_query_async("insert into bench_row (n, text) values (%(n)s, %(text)s)", n=n, text=text)


@app.task(queue="bench", name="io", retry=RETRY)
async def io(n, at, text):
    count.called()
    await asyncio.sleep(0.01)


@app.task(queue="bench", name="flaky", retry=RETRY, pass_context=True)
async def flaky(context, n, at, text):
    if n % 10 == 0 and context.job.attempts == 0:
        raise ValueError("fails once")
    count.called()


async def add():
    task, text, levels = app.tasks[TOLD["kind"]], "x" * TOLD["bytes"], TOLD.get("priorities", 0)

    async def put(numbers):
        if len(numbers) == 1 and not levels:
            await task.defer_async(n=numbers[0], at=time.time(), text=text)
            return
        for level in range(levels or 1):
            some = [{"n": n, "at": time.time(), "text": text} for n in numbers if n % (levels or 1) == level]
            await task.configure(priority=-level).batch_defer_async(*some)  # the higher number goes first

    await put_all(TOLD, put)


async def work():
    queues = ["bench"] if TOLD["do"] == "work" else [f"bench-{n}" for n in range(8)]
    worker = asyncio.create_task(app.run_worker_async(
        queues=queues, concurrency=50, install_signal_handlers=False, update_heartbeat_interval=10))
    say("ready")
    if TOLD["do"] == "work":
        await count.all.wait()
        while not TOLD.get("leave") and (await app.connector.execute_query_one_async(UNFINISHED))["jobs"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        say("done", marks=count.marks, latencies=count.latencies)
    await told_to_end()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def main():
    global count
    count = Count(TOLD)
    async with app.open_async():
        if TOLD["do"] == "schema":
            await app.schema_manager.apply_schema_async()
            return
        await (add() if TOLD["do"] == "add" else work())
        if TOLD["do"] == "add":
            await told_to_end()


uvloop.run(main())
