"""`skillcore offsets show|set`: where each partition stands in Postgres and in Kafka."""

from __future__ import annotations

import asyncio
import getpass
import json
from typing import Any

import click

from skillcore_streams.adapters import kafka_admin
from skillcore_streams.adapters.postgres import Connection
from skillcore_streams.cli.output import ask, json_option, show
from skillcore_streams.config import load
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.runtime.progress import Standing, disagreement

PROGRESS = "select * from progress order by topic, partition"

SET = """
    insert into progress (topic, partition, next_offset, topic_id) values ($1, $2, $3, $4)
    on conflict (topic, partition) do update
       set next_offset = $3, topic_id = $4, claims_since_progress = 0, suspect = null, suspect_deaths = 0,
           owner = 'operator', updated_at = clock_timestamp()"""

NOTE = """
    insert into operator_action (actor, action, target, reason, detail)
    values ($1, 'offsets set', $2, $3, $4)"""


@click.group()
def offsets() -> None:
    """Where each partition stands; set one by hand."""


@offsets.command("show")
@click.option("--all", "everything", is_flag=True, help="Partitions that were never read, too.")
@json_option
def show_offsets(everything: bool, as_json: bool) -> None:
    """Postgres' next offset beside what Kafka holds, and whether they agree."""
    rows = asyncio.run(_compare(ask(lambda db: db.fetch(PROGRESS))))
    show(
        [r for r in rows if everything or r["next"] or r["end"] or r["problem"]], as_json,
        "No partition has been read yet.",
    )


@offsets.command("set")
@click.argument("topic")
@click.argument("partition", type=int)
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--reason", required=True, help="Kept with your name: why this is right.")
@json_option
def set_offset(topic: str, partition: int, offset: int, reason: str, as_json: bool) -> None:
    """Move a partition. Earlier: events come again and vanish in the inbox (45 days). Later: events are skipped."""
    ids = asyncio.run(kafka_admin.topic_ids(load().kafka, [topic]))
    if topic not in ids:
        raise SkillCoreError(f"Kafka has no topic {topic}")

    async def move(db: Connection) -> int | None:
        was: int | None = await db.fetchval(
            "select next_offset from progress where topic = $1 and partition = $2 for update", topic, partition
        )
        await db.execute(SET, topic, partition, offset, ids[topic])
        await db.execute(
            NOTE, getpass.getuser(), f"{topic}-{partition}", reason, json.dumps({"from": was, "to": offset})
        )
        return was

    was = ask(move)
    if as_json:
        click.echo(json.dumps({"topic": topic, "partition": partition, "from": was, "to": offset}))
    else:
        click.echo(f"{topic} partition {partition}: {was} -> {offset}. Its worker goes there within seconds.")


async def _compare(rows: list[Any]) -> list[dict[str, Any]]:
    bounds = await kafka_admin.bounds(load().kafka, [(r["topic"], r["partition"]) for r in rows])
    ids = await kafka_admin.topic_ids(load().kafka, sorted({r["topic"] for r in rows}))
    out = []
    for r in rows:
        earliest, end = bounds.get((r["topic"], r["partition"]), (None, None))
        problem = (
            "Kafka has no such partition"
            if earliest is None or end is None
            else disagreement(Standing(r["next_offset"], r["topic_id"]), earliest, end, ids.get(r["topic"]))
        )
        out.append({
            "topic": r["topic"], "partition": r["partition"], "earliest": earliest, "next": r["next_offset"],
            "end": end, "lag": None if end is None else max(0, end - r["next_offset"]), "owner": r["owner"],
            "updated": r["updated_at"], "problem": problem,
        })
    return out
