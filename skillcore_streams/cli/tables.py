"""`skillcore tables rebuild|check`: the live attendance table from Postgres, and whether the two agree."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from uuid import UUID

import click
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from skillcore_streams.adapters.kafka_admin import KafkaAway
from skillcore_streams.adapters.postgres import Connection, Postgres
from skillcore_streams.adapters.producing import Producer
from skillcore_streams.cli.output import ask, json_option, show
from skillcore_streams.config import Settings, load
from skillcore_streams.runtime import outbox
from skillcore_streams.runtime.context import Input
from skillcore_streams.runtime.errors import SkillCoreError
from skillcore_streams.runtime.outbox import Publisher
from skillcore_streams.runtime.tables import BY_SCHOOL, DAYS, WRITER, Owners, Value, absences, is_day, since

PAGE = 2000
"""Words in a record of a rebuild: about 200 KB."""

SCHOOLS = """
    select tenant_id, school_id from attendance_day
     where ($1::text is null or tenant_id = $1) and ($2::uuid is null or school_id = $2)
     group by tenant_id, school_id order by tenant_id, school_id"""

# Nobody writes days while we read them: all that is committed is older than the floor, all that comes is newer.
STAND_STILL = "lock table attendance_day in share mode"

FLOOR = """
    select greatest((extract(epoch from clock_timestamp()) * 1000000)::bigint, max(written) + 1)
      from attendance_day where tenant_id = $1 and school_id = $2"""

CONTENT = f"""
    with days as (
        select day from attendance_day where tenant_id = $1 and school_id = $2
         group by day order by day desc limit {DAYS}
    ), oldest as (select min(day) as day, count(*) as days from days)
    select a.student_id, a.day, a.category from attendance_day a cross join oldest o
     where a.tenant_id = $1 and a.school_id = $2
       and (a.day >= o.day
            or a.category <> 'present' and (o.days < {DAYS} or school_year(a.day) >= school_year(o.day)))
     order by a.day, a.student_id"""  # noqa: S608 - our own number

TRUTH = """
    select student_id, day, category from attendance_day
     where tenant_id = $1 and school_id = $2
       and ($3::date is null or day >= $3 or category <> 'present' and day >= $4)"""

NOTE = "insert into operator_action (actor, action, target, reason) values ($1, 'tables rebuild', $2, $3)"


@click.group()
def tables() -> None:
    """The live attendance table: rebuild it from Postgres, compare the two."""


@tables.command()
@click.option("--tenant", help="Only this district.")
@click.option("--school", type=click.UUID, help="Only this school.")
@click.option("--reason", default="", help="Kept with your name.")
@json_option
def rebuild(tenant: str | None, school: UUID | None, reason: str, as_json: bool) -> None:
    """Say everything anew, a school at a time. Workers go on meanwhile; marks of a school wait some milliseconds."""
    done = asyncio.run(_rebuild(load(), tenant, school, reason))
    if not as_json:
        click.echo(f"{len(done)} schools, {sum(d['words'] for d in done):,} words sent to the table.")
    else:
        click.echo(json.dumps(done))


@tables.command()
@click.option("--tenant", help="Only this district.")
@json_option
def check(tenant: str | None, as_json: bool) -> None:
    """Compare the table's changelog with Postgres. Exit code 1 when they differ; marks on their way do that, too."""
    table = asyncio.run(_changelog(load()))
    findings = ask(lambda db: _compare(db, table, tenant))
    show([asdict(f) for f in findings], as_json, "No school has marks.")
    if any(f.differs for f in findings):
        click.echo("They differ. If they still do when nothing is on its way: skillcore tables rebuild", err=True)
        sys.exit(1)


async def _rebuild(settings: Settings, tenant: str | None, school: UUID | None, reason: str) -> list[dict[str, Any]]:
    postgres = Postgres(settings.database_url.get_secret_value(), size=2, name="skillcore command")
    done = []
    try:
        async with Producer(settings.kafka) as producer:
            publisher = Publisher(postgres.transaction, producer.send, f"tables rebuild {getpass.getuser()}")
            async with postgres.transaction() as db:
                schools = [(r["tenant_id"], r["school_id"]) for r in await db.fetch(SCHOOLS, tenant, school)]
                await db.execute(NOTE, getpass.getuser(), tenant or "all", reason)
            for of, one in schools:
                lane = f"tables-rebuild-{of}/{one}"
                async with postgres.transaction() as db:
                    words = await say_anew(db, of, one, lane)
                await publisher.publish(lane)
                done.append({"tenant": of, "school": str(one), "words": words})
    finally:
        await postgres.close()
    return done


async def say_anew(db: Connection, tenant: str, school: UUID, lane: str) -> int:
    """A school's inputs from its rows, into the outbox: first the floor, then all that the table shall hold."""
    await db.execute(STAND_STILL)
    floor = await db.fetchval(FLOOR, tenant, school)
    rows = await db.fetch(CONTENT, tenant, school)
    words = [[str(r["student_id"]), r["day"].isoformat(), r["category"], floor, True] for r in rows]
    bodies = [{"floor": floor}, *({"changes": words[n : n + PAGE]} for n in range(0, len(words), PAGE))]
    key = f"{tenant}/{school}".encode()
    await outbox.write(db, [
        Input(lane, (BY_SCHOOL, key, {}, json.dumps(body, separators=(",", ":")).encode())) for body in bodies
    ])
    return len(words)


# Comparing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """A school: how much the table holds of it, and how many student-days differ from Postgres."""

    tenant: str
    school: str
    days: int
    marks: int
    absences: int
    missing: int
    stale: int
    extra: int

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return bool(self.missing or self.stale or self.extra)


async def _changelog(settings: Settings) -> dict[str, Value]:
    """The table as a worker would recover it."""
    topic = f"{settings.app_id}-attendance-changelog"
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, request_timeout_ms=15_000)
    state: dict[str, Value] = {}
    owners = Owners()
    try:
        await consumer.start()
        cluster = await consumer._client.fetch_all_metadata()
        tps = [TopicPartition(topic, p) for p in sorted(cluster.partitions_for_topic(topic) or ())]
        if not tps:
            raise SkillCoreError(f"Kafka has no topic {topic}. Create it: skillcore topics apply")
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    key, value = json.loads(record.key), json.loads(record.value) if record.value else {}
                    token = dict(record.headers).get(WRITER, b"").decode() or None
                    if owners.counts(record.partition, record.offset, key, value, token):
                        state[key] = value
    except (KafkaError, TimeoutError) as error:
        raise KafkaAway(
            f"Kafka does not answer at {settings.kafka} ({type(error).__name__}). Check SKILLCORE_KAFKA."
        ) from error
    finally:
        await consumer.stop()
    return {key: value for key, value in state.items() if value}


async def _compare(db: Connection, table: dict[str, Value], tenant: str | None) -> list[Finding]:
    schools = {f"{r['tenant_id']}/{r['school_id']}" for r in await db.fetch(SCHOOLS, tenant, None)}
    known = {key for key, value in table.items() if "days" in value}
    wanted = sorted(schools | {k for k in known if tenant is None or k.rpartition("/")[0] == tenant})
    return [await _compare_school(db, table, school) for school in wanted]


async def _compare_school(db: Connection, table: dict[str, Value], school: str) -> Finding:
    of, _, one = school.rpartition("/")
    kept: list[str] = table.get(school, {}).get("days", [])
    oldest = kept[0] if len(kept) == DAYS else ""
    rows = await db.fetch(
        TRUTH, of, UUID(one), date.fromisoformat(oldest) if oldest else None,
        date.fromisoformat(since(kept)) if oldest else None,
    )
    true_marks = {(str(r["student_id"]), r["day"].isoformat()): r["category"] for r in rows}
    marks = {
        (student, day): category
        for day in kept for student, (category, _) in table.get(f"{school}/{day}", {}).items() if category is not None
    }
    gone = {
        (key.rpartition("/")[2], day): category
        for key in _below(table, school) if not is_day(key)
        for day, category in absences(table[key]).items() if day >= since(kept)
    }
    pairs = [
        ({k: c for k, c in true_marks.items() if k[1] >= oldest}, marks),
        ({k: c for k, c in true_marks.items() if c != "present"}, gone),
    ]
    return Finding(
        of, one, len(kept), len(marks), len(gone),
        missing=sum(len(truth.keys() - ours.keys()) for truth, ours in pairs),
        stale=sum(truth[k] != ours[k] for truth, ours in pairs for k in truth.keys() & ours.keys()),
        extra=sum(len(ours.keys() - truth.keys()) for truth, ours in pairs),
    )


def _below(table: dict[str, Value], school: str) -> Iterator[str]:
    return (key for key in table if key.startswith(f"{school}/"))
