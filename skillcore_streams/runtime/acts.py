"""What people do by hand: who, why, on what; one row of `operator_action` each, in the transaction of the act."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.errors import SkillCoreError

NOTE = """
    insert into operator_action (actor, action, target, reason, detail)
    select $1, $2, t, $4, $5 from unnest($3::text[]) with ordinality u (t, n) order by n"""

NAMED = {  # the table's name cannot be a parameter
    "job": "select id from job where id between $1 and $2 limit 2",
    "dead letter": "select id from dead_letter where id between $1 and $2 limit 2",
}


class Misused(SkillCoreError):
    """What was asked makes no sense as it is said."""


class Unknown(SkillCoreError):
    """There is nothing of this name."""


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Act:
    """What came of it: a sentence, and whether things are now as wished."""

    done: bool
    said: str


async def note(db: Database, by: By, action: str, targets: Sequence[object], **detail: object) -> None:
    """Keep who did what, and why."""
    if not by.actor.strip() or not by.reason.strip():
        raise Misused("who does this and why is kept: name an actor and a reason")
    said = json.dumps(detail, default=str)
    await db.execute(NOTE, by.actor, action, [str(target) for target in targets], by.reason, said)


async def resolve(db: Database, what: Literal["job", "dead letter"], name: str) -> UUID:
    """The id that begins so. Raises Unknown when there is none or more than one, Misused when it is no id."""
    digits = name.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{4,32}", digits):
        raise Misused(f"the id of a {what} is a UUID or its first 4 digits or more")
    found = await db.fetch(NAMED[what], UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    if len(found) != 1:
        raise Unknown(f"{'more than one' if found else 'no'} {what} has an id that begins with {name}")
    return UUID(str(found[0]["id"]))
