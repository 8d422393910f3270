"""Numbered SQL files, applied once each, in order, each in a transaction. The worker never migrates: it only asks."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from skillcore_streams.runtime.errors import Misconfigured

FOLDER = Path(__file__).resolve().parent.parent / "migrations"
LOCK = 0x5C1115  # any number, the same for all: one migration at a time

TABLE = """
    create table if not exists schema_version (
        version    int         primary key,
        name       text        not null,
        checksum   text        not null,
        applied_at timestamptz not null default clock_timestamp()
    )"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `<version>_<name>.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of the text: an applied file must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """All of them, by version."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d+)_(\w+)\.sql", path.name)
        if match is None:
            raise Misconfigured(f"{path.name} is not <number>_<name>.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text()))
    return sorted(found, key=lambda m: m.version)


async def migrate(dsn: str, folder: Path = FOLDER) -> list[Migration]:
    """Apply what is missing. Returns what was applied. Raises Misconfigured when an applied file has changed."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        raise Misconfigured(
            f"no database to migrate: {type(error).__name__}. Is SKILLCORE_DATABASE_URL right?"
        ) from None
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK)
        await connection.execute(TABLE)
        applied = {r["version"]: r["checksum"] for r in await connection.fetch("select * from schema_version")}
        done = []
        for migration in migrations(folder):
            if migration.version in applied:
                if applied[migration.version] != migration.checksum:
                    raise Misconfigured(
                        f"migration {migration.version} ({migration.name}) was applied in another form. "
                        "Write a new migration instead of changing an old one."
                    )
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into schema_version (version, name, checksum) values ($1, $2, $3)",
                    migration.version, migration.name, migration.checksum,
                )
            done.append(migration)
        await connection.execute("select add_event_partitions(12)")
        return done
    finally:
        await connection.close()


async def behind(db: Any, folder: Path = FOLDER) -> str | None:
    """What this code needs and the database lacks, as a sentence; None when the schema is as new or newer."""
    needed = max(m.version for m in migrations(folder))
    if await db.fetchval("select to_regclass('schema_version')") is None:
        return "the database has no schema. Run: skillcore migrate"
    has = await db.fetchval("select max(version) from schema_version") or 0
    if has < needed:
        return f"the database schema is version {has}, this worker needs {needed}. Run: skillcore migrate"
    return None
