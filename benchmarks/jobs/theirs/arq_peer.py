"""arq, told by one JSON object what to do; answers in lines. See ../peers.py."""

import asyncio
import json
import logging
import sys
import time

import arq
import uvloop
from arq.connections import RedisSettings
from told import Count, put_all, say, told_to_end

TOLD = json.loads(sys.argv[1])
REDIS = RedisSettings(port=TOLD["port"])
POLL = 0.01
"""Seconds; arq looks every half second unless told otherwise, and could not take part with that."""

count: Count


async def noop(ctx, n, at, text):
    count.called(at)


async def io(ctx, n, at, text):
    count.called()
    await asyncio.sleep(0.01)


async def flaky(ctx, n, at, text):
    if n % 10 == 0 and ctx["job_try"] == 1:
        raise arq.Retry(defer=0)
    count.called()


async def add():
    redis, text = await arq.create_pool(REDIS, default_queue_name="bench"), "x" * TOLD["bytes"]

    async def put(numbers):  # it has no bulk call: many at once is the next best
        await asyncio.gather(*(redis.enqueue_job(TOLD["kind"], n, time.time(), text) for n in numbers))

    await put_all(TOLD, put)


async def work():
    queues = ["bench"] if TOLD["do"] == "work" else [f"bench-{n}" for n in range(8)]
    workers = [
        arq.Worker(functions=[noop, io, flaky], redis_settings=REDIS, queue_name=name, max_jobs=50, poll_delay=POLL,
                   keep_result=60, max_tries=5, handle_signals=False)
        for name in queues
    ]
    running = [asyncio.create_task(worker.async_run()) for worker in workers]
    await asyncio.sleep(0.2)
    say("ready")
    if TOLD["do"] == "work":
        await count.all.wait()
        while await workers[0].pool.zcard("bench"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        say("done", marks=count.marks, latencies=count.latencies)
    await told_to_end()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def main():
    global count
    count = Count(TOLD)
    await (add() if TOLD["do"] == "add" else work())
    if TOLD["do"] == "add":
        await told_to_end()


logging.disable(logging.CRITICAL)
uvloop.run(main())
