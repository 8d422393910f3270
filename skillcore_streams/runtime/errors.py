"""What can go wrong, in the words of the person on call.

A handler may raise anything; three classes mean something to the runtime, everything else is retried. The remaining
classes never leave the runtime.
"""

from datetime import timedelta


class SkillCoreError(Exception):
    """Base of the product's own errors. Its text is safe to log: it never quotes a payload."""


class PermanentError(SkillCoreError):
    """Raised by a handler: trying again cannot help. The call goes to the dead letters at once.

    Its text is shown to operators, so it must not carry a student's data.
    """


class Snooze(SkillCoreError):
    """Raised by a handler: call me again after `delay`. Spends no attempt."""

    def __init__(self, delay: timedelta, reason: str = "snoozed") -> None:
        super().__init__(reason)
        self.delay = delay


class NotYet(SkillCoreError):
    """Raised by a handler: a row I need has not arrived. Called again for up to 24 hours; spends no attempt.

    `what` names the kind of row, never its content: NotYet("enrollment").
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"waiting for {what}")
        self.what = what


class Infrastructure(SkillCoreError):
    """Postgres or the way to it failed (lost connection, deadlock, serialisation, lock or statement timeout, shutdown).

    Nobody's handler is at fault: the same chunk is tried again. The adapter makes these from a driver's errors, so the
    runtime knows one class and no driver.
    """


class Fenced(SkillCoreError):
    """The partition's `next_offset` in Postgres is not this chunk's start: another worker has been here."""


class SavepointsSpent(SkillCoreError):
    """More calls failed than one transaction should bisect: commit less at a time."""


class Misconfigured(SkillCoreError):
    """Configuration, topics or schema are not as needed. A worker ends with exit code 78; the text says what to run."""
