"""A worker with nothing but the attendance table: `stock` as one would write it with Faust, `ours` as the product does.

`python -m tests.tables.lab worker --without-web -l warn`, with $LAB: {"kind", "broker", "group", "topic", "log"}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import faust

from skillcore_streams import tables
from skillcore_streams.adapters.kafka import HardenedApp
from skillcore_streams.adapters.producing import Producer
from skillcore_streams.runtime.tables import apply, read

LAB: dict[str, Any] = json.loads(os.environ["LAB"])
tables.BY_SCHOOL = LAB["topic"]


def say(*words: Any) -> None:
    with open(LAB["log"], "a") as log:
        log.write(json.dumps(words) + "\n")


class Ours(HardenedApp):
    table_topics = frozenset({LAB["topic"]})


app = (Ours if LAB["kind"] == "ours" else faust.App)(
    LAB["group"], broker=f"kafka://{LAB['broker']}", store="memory://", datadir=LAB["log"] + ".data",
    topic_allow_declare=False, topic_disable_leader=True, topic_partitions=4, table_standby_replicas=0,
    broker_session_timeout=2.0, broker_heartbeat_interval=0.5, broker_commit_interval=0.2,
    broker_max_poll_interval=1000.0, consumer_max_fetch_size=262_144, stream_wait_empty=True,
    cython_optimizations=True,
)
topic = app.topic(LAB["topic"], value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")

if LAB["kind"] == "ours":
    ours = tables.AttendanceTable(app, Producer(LAB["broker"], timeout=5.0).send)
    store = ours._table

    @app.agent(topic, isolated_partitions=True)
    async def roll_up(stream: Any) -> None:
        async for chunk in stream:
            say("took", chunk.start, chunk.end)
            await ours.take(chunk)
            say("done", chunk.start, chunk.end)
else:
    store = app.Table("attendance", default=dict)

    @app.agent(topic)
    async def roll_up(stream: Any) -> None:
        async for event in stream.events():
            for key, value in apply(store.data, [read(event.key, event.value)]).values.items():
                if value is None:
                    store.pop(key, None)
                else:
                    store[key] = value
            say("done", event.message.offset, event.message.offset + 1)


@app.task
async def ready() -> None:
    say("ready", len(store.data))


if __name__ == "__main__":
    sys.argv[0] = "lab"
    app.main()
