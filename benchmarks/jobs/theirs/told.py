"""What the Python peers have in common: lines to whom measures, and a count of calls."""

import asyncio
import json
import math
import sys
import time


def say(word, **more):
    """One line to whom measures."""
    print(json.dumps({"word": word} | more), flush=True)


async def told_to_end():
    """Our work is done, or is not wanted any longer."""
    await asyncio.to_thread(sys.stdin.read)


class Count:
    """Calls of the function: the first one begins the measurement, some are marked, the last one is waited for."""

    def __init__(self, told):
        self.count = told.get("count", 0)
        self.every = math.ceil(self.count / 5) or 1
        self.calls, self.marks = 0, []
        self.latencies = [] if told.get("latency") else None
        self.all = asyncio.Event()

    def called(self, at=0.0):
        """A job has begun that was enqueued `at` (Unix time)."""
        if self.latencies is not None:
            self.latencies.append((time.time() - at) * 1000)
        if not self.calls:
            say("began")
        self.calls += 1
        if self.calls % self.every == 0:
            self.marks.append(time.monotonic())
        if self.calls == self.count:
            self.all.set()


async def put_all(told, put):
    """Call `put` with lists of numbers: one after another, in chunks, or at a rate whoever is served."""
    say("began")
    if told.get("rate"):
        began, running = time.monotonic(), set()
        for n in range(told["count"]):
            await asyncio.sleep(max(0.0, began + n / told["rate"] - time.monotonic()))
            running.add(asyncio.create_task(put([n])))
        await asyncio.gather(*running)
    else:
        for first in range(0, told["count"], told["chunk"]):
            await put(list(range(first, min(first + told["chunk"], told["count"]))))
    say("done")
