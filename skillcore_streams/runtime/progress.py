"""Table `progress`: where each partition stands. The fence that makes one worker at a time its owner."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.errors import Fenced

CAREFUL_AFTER = 3
"""Claims of a partition without a commit, after which its records are tried one by one."""

DEFER_AFTER = 3
"""Deaths on one suspect, after which its calls become jobs without being tried here."""

PARK_AFTER = 6
"""Deaths on one suspect, after which even decoding it is not tried."""

FENCE = """
    update progress
       set next_offset = $4, owner = $5, claims_since_progress = 0, suspect = null, suspect_deaths = 0,
           updated_at = clock_timestamp()
     where topic = $1 and partition = $2 and next_offset = $3
    returning 1"""

CLAIM = """
    update progress set claims_since_progress = claims_since_progress + 1, owner = $4, updated_at = clock_timestamp()
     where topic = $1 and partition = $2 and next_offset = $3
    returning claims_since_progress"""

SUSPECT = """
    update progress
       set suspect = $3, suspect_deaths = case when suspect = $3 then suspect_deaths + 1 else 1 end
     where topic = $1 and partition = $2 and next_offset = $3
    returning suspect_deaths"""

SURVIVED = """
    update progress
       set claims_since_progress = greatest(claims_since_progress - 1, 0),
           suspect_deaths = greatest(suspect_deaths - 1, 0)
     where topic = $1 and partition = $2 and owner = $3"""

READ = """
    select topic, partition, next_offset, topic_id
      from progress join unnest($1::text[], $2::int[]) as wanted (topic, partition) using (topic, partition)"""

BEGIN_AT = """
    insert into progress (topic, partition, next_offset, topic_id)
    select * from unnest($1::text[], $2::int[], $3::bigint[], $4::uuid[])
    on conflict do nothing"""


async def fence(db: Database, topic: str, partition: int, start: int, end: int, owner: str) -> None:
    """Move the partition from `start` to `end`. Raises Fenced when it does not stand at `start`.

    The row stays locked until COMMIT: a second owner waits here and is then refused.
    """
    if await db.fetchval(FENCE, topic, partition, start, end, owner) is None:
        raise Fenced


async def claim(db: Database, topic: str, partition: int, start: int, owner: str) -> int:
    """Record that we begin to work on this partition. Returns claims since the last commit, this one included."""
    claims: int | None = await db.fetchval(CLAIM, topic, partition, start, owner)
    if claims is None:
        raise Fenced
    return claims


async def suspect(db: Database, topic: str, partition: int, offset: int) -> int:
    """Note the one record that is about to be tried. Returns how often it has been tried, this time included."""
    deaths: int | None = await db.fetchval(SUSPECT, topic, partition, offset)
    if deaths is None:
        raise Fenced
    return deaths


async def survived(db: Database, topic: str, partition: int, owner: str) -> None:
    """The partition was taken from us in the middle of a chunk: nobody died, nothing is to be suspected."""
    await db.execute(SURVIVED, topic, partition, owner)


@dataclass(frozen=True, slots=True)
class Standing:
    """What Postgres knows of a partition."""

    next_offset: int
    topic_id: UUID | None


async def read(db: Database, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], Standing]:
    """Where the partitions stand; those never seen are missing."""
    rows = await db.fetch(READ, [t for t, _ in partitions], [p for _, p in partitions])
    return {(r["topic"], r["partition"]): Standing(r["next_offset"], r["topic_id"]) for r in rows}


async def begin(db: Database, starts: list[tuple[str, int, int, UUID | None]]) -> None:
    """Enter partitions never seen before: (topic, partition, first offset, topic id)."""
    topics, partitions, offsets, ids = ([s[i] for s in starts] for i in range(4))
    await db.execute(BEGIN_AT, topics, partitions, offsets, ids)


def disagreement(at: Standing, earliest: int, end: int, topic_id: UUID | None) -> str | None:
    """Why a partition must not be read as it stands, for the person who decides; None when all is well.

    Never a silent reset: starting over could repeat what the inbox has forgotten, starting late would lose events.
    """
    remedy = "Find out why, then: skillcore offsets set TOPIC PARTITION OFFSET --reason '...'"
    if at.topic_id is not None and topic_id is not None and at.topic_id != topic_id:
        return f"the topic was deleted and created anew since Postgres last moved it. {remedy}"
    if at.next_offset < earliest:
        return (
            f"Postgres stands at {at.next_offset}, Kafka only keeps records from {earliest} on: "
            f"{earliest - at.next_offset} were deleted before they were processed. {remedy}"
        )
    if at.next_offset > end:
        return (
            f"Postgres stands at {at.next_offset}, past Kafka's end {end}: one of them is a restored backup. {remedy}"
        )
    return None
