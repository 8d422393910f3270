"""A circuit breaker: who keeps failing is left alone for a while, then asked once.

The seed's settings (opossum): a call has 5 s, half of the calls failing opens the circuit, after 30 s it is half open.
Two things are stated that opossum leaves open: at least `LEAST` calls within `WINDOW` must speak (one failure of one
call is no pattern), and half open admits one probe at a time. One breaker a provider and process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from skillcore_streams import metrics
from skillcore_streams.runtime.providers import Ambiguous, Outcome, Unavailable

log = logging.getLogger(__name__)

THRESHOLD = 0.5
LEAST = 5
"""Calls that must have ended within the window before their failures mean something."""

WINDOW = 10.0
"""Seconds that a call is remembered: opossum's rollingCountTimeout."""

RESET = 30.0
"""Seconds until an open circuit is half open."""

PROBING = 1.0
"""Seconds to wait while somebody else's probe is under way."""

State = Literal["closed", "half_open", "open"]
GAUGE = {"closed": 0, "half_open": 1, "open": 2}


class Breaker:
    """`permit()` before a call, `settle()` after it. Rejected or throttled is an answer: the provider is well."""

    def __init__(
        self, name: str, *, clock: Callable[[], float] = time.monotonic, threshold: float = THRESHOLD,
        least: int = LEAST, window: float = WINDOW, reset: float = RESET,
    ) -> None:
        self.name = name
        self._clock = clock
        self._threshold, self._least, self._window, self._reset = threshold, least, window, reset
        self._calls: deque[tuple[float, bool]] = deque()
        self._state: State = "closed"
        self._opened_at = 0.0
        self._era = 0  # a permit of an earlier state must not decide about this one
        self._probe: Permit | None = None
        metrics.circuit_breaker_state.labels(name).set(0)

    @property
    def state(self) -> State:
        """As of now: an open circuit whose time is over is half open."""
        if self._state == "open" and self._clock() >= self._opened_at + self._reset:
            self._become("half_open")
        return self._state

    def permit(self) -> Permit | None:
        """Leave for one call, or None: do something else for `retry_in()`."""
        state = self.state
        if state == "open" or (state == "half_open" and self._probe is not None):
            metrics.circuit_breaker_rejected_total.labels(self.name).inc()
            return None
        permit = Permit(self, self._era)
        if state == "half_open":
            self._probe = permit
        return permit

    def retry_in(self) -> timedelta:
        """Until the circuit is half open; a moment while a probe is under way; nothing when closed."""
        if self.state == "open":
            return timedelta(seconds=self._opened_at + self._reset - self._clock())
        return timedelta(seconds=PROBING if self._probe is not None else 0.0)

    def settle(self, permit: Permit, failed: bool | None) -> None:
        """A permit comes back; None: its call was never made, or nobody knows how it went."""
        probe, mine = self._probe is permit, permit.era == self._era
        if probe:
            self._probe = None
        if failed is None or not mine:
            return
        if probe:
            self._become("open" if failed else "closed")
            return
        now = self._clock()
        self._calls.append((now, failed))
        while self._calls[0][0] <= now - self._window:
            self._calls.popleft()
        failures = sum(bad for _, bad in self._calls)
        if len(self._calls) >= self._least and failures >= self._threshold * len(self._calls):
            self._become("open")

    def _become(self, state: State) -> None:
        log.log(logging.INFO if state == "closed" else logging.WARNING, "circuit of %s: %s", self.name, state)
        self._state = state
        self._era += 1
        self._probe = None
        self._calls.clear()
        if state == "open":
            self._opened_at = self._clock()
        metrics.circuit_breaker_state.labels(self.name).set(GAUGE[state])
        metrics.circuit_breaker_transitions_total.labels(self.name, state).inc()


class Permit:
    """Leave for one call."""

    def __init__(self, breaker: Breaker, era: int) -> None:
        self._breaker = breaker
        self.era = era
        self._spent = False

    def settle(self, outcome: Outcome) -> None:
        """How the call went."""
        self._return(isinstance(outcome, Unavailable | Ambiguous))

    def release(self) -> None:
        """The call was not made, or was interrupted: it says nothing about the provider. After `settle`, nothing."""
        self._return(None)

    def _return(self, failed: bool | None) -> None:
        if not self._spent:
            self._spent = True
            self._breaker.settle(self, failed)
