"""What becomes of a failed call. One retry machine for events, jobs and schedules: it decides, others do."""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from skillcore_streams.runtime.errors import NotYet, PermanentError, SkillCoreError, Snooze
from skillcore_streams.runtime.messages import Backoff

ATTEMPTS = 5
"""Starts in all, the first call included."""

DEFAULT = Backoff(timedelta(seconds=1))
"""1, 2, 4, 8 s. BullMQ's exponential backoff: after the n-th failure 2^(n-1) * delay."""

PATIENCE = timedelta(hours=24)
"""How long a call may answer NotYet before it is dead-lettered."""

LONGEST_SENTENCE = 500
"""Characters of a reason that are kept."""

NOT_YET_WAIT = timedelta(seconds=5)
NOT_YET_LONGEST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again after `wait`."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Wait:
    """Call again after `wait`, and give the attempt back."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Dead:
    """No further call: to the dead letters."""

    reason: str


def decide(
    error: BaseException,
    attempt: int,
    *,
    now: datetime,
    first_at: datetime,
    attempts: int = ATTEMPTS,
    backoff: Backoff | None = None,
    roll: float = 0.0,
) -> Retry | Wait | Dead:
    """The outcome of failed attempt number `attempt` (1 is the first call). `roll`: a random number for the jitter."""
    if isinstance(error, PermanentError):
        return Dead(describe(error))
    if isinstance(error, Snooze):
        return Wait(error.delay)
    if isinstance(error, NotYet):
        waited = now - first_at
        if waited >= PATIENCE:
            return Dead(f"{describe(error)}, given up after {PATIENCE.total_seconds() / 3600:.0f} hours")
        return Wait(min(max(NOT_YET_WAIT, waited), NOT_YET_LONGEST))  # doubles: as long again as it has waited
    if attempt >= attempts:
        return Dead(describe(error))
    return Retry((backoff or DEFAULT).wait(attempt, roll, error))


def counts_as_failure(error: BaseException) -> bool:
    """Waiting for a row or asking for time is no failure: the flood guard does not count it."""
    return not isinstance(error, NotYet | Snooze)


def describe(error: BaseException) -> str:
    """A sentence without data. Only our own errors may show their text: others quote the values they choke on."""
    name = type(error).__name__
    said = f"{name}: {error}" if isinstance(error, SkillCoreError) else f"{name} in {frames(error)[-1]}"
    return said[:LONGEST_SENTENCE].replace("\0", "�").encode(errors="replace").decode()


def fingerprint(error: BaseException) -> str:
    """12 hex digits of the error's class and top frames: what has one cause has one fingerprint."""
    text = "|".join([type(error).__name__, *frames(error)[-3:]])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def frames(error: BaseException) -> list[str]:
    """File and function of each frame: all that may be told of a trace."""
    found = [f"{Path(f.filename).name}:{f.name}" for f in traceback.extract_tb(error.__traceback__)]
    return found or ["unknown place"]
