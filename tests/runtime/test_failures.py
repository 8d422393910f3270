"""What becomes of a failed call: a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from skillcore_streams.runtime import NotYet, PermanentError, Snooze
from skillcore_streams.runtime.failures import Dead, Retry, Wait, decide, describe, fingerprint
from tests.runtime.lab import NOW

S = timedelta(seconds=1)
BUG = ValueError("Penelope")

TABLE = [  # error, attempt, waited so far, outcome
    (BUG, 1, 0 * S, Retry(1 * S)),  # BullMQ: after the n-th failure 2^(n-1) seconds
    (BUG, 2, 1 * S, Retry(2 * S)),
    (BUG, 3, 3 * S, Retry(4 * S)),
    (BUG, 4, 7 * S, Retry(8 * S)),
    (PermanentError("no"), 1, 0 * S, Dead("PermanentError: no")),  # trying again cannot help
    (Snooze(90 * S), 5, 0 * S, Wait(90 * S)),  # even at the last attempt: it spends none
    (NotYet("x"), 1, 0 * S, Wait(5 * S)),  # short at first
    (NotYet("x"), 1, 60 * S, Wait(60 * S)),  # as long again as it has waited
    (NotYet("x"), 1, 7200 * S, Wait(600 * S)),  # but not longer than ten minutes
    (NotYet("x"), 1, 86_400 * S, Dead("NotYet: waiting for x, given up after 24 hours")),
]


@pytest.mark.parametrize(("error", "attempt", "waited", "outcome"), TABLE)
def test_the_outcome(error: Exception, attempt: int, waited: timedelta, outcome: object) -> None:
    assert decide(error, attempt, now=NOW, first_at=NOW - waited) == outcome


def test_the_fifth_failure_is_the_last() -> None:
    assert isinstance(decide(BUG, 5, now=NOW, first_at=NOW), Dead)


def test_a_description_never_quotes_what_an_error_choked_on() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any will do
        int("Penelope")

    assert "Penelope" not in describe(caught.value)
    assert "test_failures.py" in describe(caught.value)


def test_one_cause_has_one_fingerprint() -> None:
    def fail(what: str) -> str:
        try:
            int(what)
        except ValueError as error:
            return fingerprint(error)
        raise AssertionError

    assert fail("a") == fail("b")
    assert fail("a") != fingerprint(KeyError())
