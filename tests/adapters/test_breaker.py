"""The breaker, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from skillcore_streams import metrics
from skillcore_streams.adapters.breaker import GAUGE, LEAST, RESET, WINDOW, Breaker
from skillcore_streams.runtime.providers import Ambiguous, Outcome, Rejected, Sent, Throttled, Unavailable

GOOD, BAD = Sent("1"), Unavailable("503")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def calls(breaker: Breaker, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        permit = breaker.permit()
        assert permit is not None
        permit.settle(outcome)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("tests", clock=clock)


@pytest.mark.parametrize(("outcomes", "state"), [
    ([BAD] * (LEAST - 1), "closed"),              # too few to mean something
    ([BAD] * LEAST, "open"),
    ([GOOD, GOOD, BAD, BAD, BAD], "open"),        # 60 %
    ([GOOD, BAD, GOOD, BAD, GOOD], "closed"),     # 40 %
    ([GOOD, BAD, GOOD, BAD, GOOD, BAD], "open"),  # 50 % is enough
    ([Ambiguous("timeout")] * LEAST, "open"),
    ([Rejected("400")] * 20, "closed"),           # an answer: the provider is well
    ([Throttled(timedelta(seconds=9))] * 20, "closed"),
])
def test_half_of_at_least_five_calls_failing_opens_it(breaker: Breaker, outcomes: list[Outcome], state: str) -> None:
    calls(breaker, outcomes)

    assert breaker.state == state
    assert (breaker.permit() is None) == (state == "open")


def test_failures_of_long_ago_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    calls(breaker, [BAD] * (LEAST - 1))
    clock.now += WINDOW
    calls(breaker, [BAD])

    assert breaker.state == "closed"


def test_after_thirty_seconds_one_probe_is_let_through_and_no_other(breaker: Breaker, clock: Clock) -> None:
    calls(breaker, [BAD] * LEAST)
    assert breaker.retry_in() == timedelta(seconds=RESET)
    clock.now += RESET - 0.1
    assert breaker.permit() is None
    clock.now += 0.1

    probe, *others = [breaker.permit() for _ in range(10)]

    assert probe is not None
    assert others == [None] * 9
    assert breaker.state == "half_open"


@pytest.mark.parametrize(("outcome", "state"), [
    (GOOD, "closed"), (Rejected("400"), "closed"), (BAD, "open"), (Ambiguous("timeout"), "open"),
])
def test_the_probe_decides(breaker: Breaker, clock: Clock, outcome: Outcome, state: str) -> None:
    calls(breaker, [BAD] * LEAST)
    clock.now += RESET
    calls(breaker, [outcome])

    assert breaker.state == state
    assert breaker.retry_in() == timedelta(seconds=RESET if state == "open" else 0)


def test_a_probe_that_was_never_made_leaves_its_place_to_another(breaker: Breaker, clock: Clock) -> None:
    calls(breaker, [BAD] * LEAST)
    clock.now += RESET
    permit = breaker.permit()
    assert permit is not None
    permit.release()

    assert breaker.permit() is not None


def test_a_late_failure_of_before_does_not_end_the_probe(breaker: Breaker, clock: Clock) -> None:
    late = breaker.permit()
    calls(breaker, [BAD] * LEAST)
    clock.now += RESET
    probe = breaker.permit()
    assert late is not None
    assert probe is not None
    late.settle(BAD)
    assert breaker.state == "half_open"
    probe.settle(GOOD)

    assert breaker.state == "closed"


def test_a_permit_counts_once(breaker: Breaker) -> None:
    permit = breaker.permit()
    assert permit is not None
    for _ in range(LEAST):
        permit.settle(BAD)
        permit.release()

    assert breaker.state == "closed"


def test_state_changes_and_refusals_are_metrics(clock: Clock) -> None:
    breaker = Breaker("measured", clock=clock)
    calls(breaker, [BAD] * LEAST)
    breaker.permit()

    assert metrics.circuit_breaker_state.labels("measured")._value.get() == GAUGE["open"]
    assert metrics.circuit_breaker_transitions_total.labels("measured", "open")._value.get() == 1
    assert metrics.circuit_breaker_rejected_total.labels("measured")._value.get() == 1


@for_all(st.lists(st.one_of(st.booleans(), st.floats(0.1, 40))))
def test_never_two_probes_and_never_a_call_while_open(script: list[bool | float]) -> None:
    clock = Clock()
    breaker = Breaker("any", clock=clock)
    out = []
    for step in script:
        if isinstance(step, bool):
            state = breaker.state
            permit = breaker.permit()
            assert state != "open" or permit is None
            if permit is not None:
                out.append((state, permit))
            if len(out) > 3:
                _, settled = out.pop(0)
                settled.settle(GOOD if step else BAD)
        else:
            clock.now += step
        assert sum(state == "half_open" and permit is breaker._probe for state, permit in out) <= 1
