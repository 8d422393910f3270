"""The flood guard: bad code or a bad producer must not turn a topic into dead letters.

When at least half of the last 200 calls of a handler, or records of a partition, fail, the partition pauses: one alert,
then a probe every 30 seconds. The chunk is not committed meanwhile, so nothing is lost and nothing is dead-lettered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 200
PROBE_EVERY = 30.0
"""Seconds between two tries while the guard holds a partition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many calls (of a handler) or records (of a partition) there were, and how many of them failed."""

    name: str
    total: int
    failed: int


class Flooded(Exception):
    """Half of the recent calls fail. The chunk is rolled back and waits."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.name}: at least half of the last {WINDOW} failed")
        self.outcome = outcome


class FloodGuard:
    """Sliding windows by name, and which of them are tripped. One a worker process.

    `on=False` lets everything through to the dead letters: for the person who has looked and decided so.
    """

    def __init__(self, on: bool = True) -> None:
        self._on = on
        self._windows: dict[str, deque[tuple[int, int]]] = {}
        self.tripped: set[str] = set()

    def judge(self, outcomes: list[Outcome]) -> None:
        """Raise Flooded if with these outcomes a window tips over; a tripped name is judged by its probe alone."""
        for outcome in outcomes if self._on else ():
            if outcome.name in self.tripped:
                if outcome.total and outcome.failed * 2 >= outcome.total:
                    raise Flooded(outcome)
            elif outcome.failed:
                window = self._windows.get(outcome.name, ())
                total = outcome.total + sum(n for n, _ in window)
                failed = outcome.failed + sum(f for _, f in window)
                if total >= WINDOW and failed * 2 >= total:
                    self.tripped.add(outcome.name)
                    raise Flooded(outcome)

    def note(self, outcomes: list[Outcome]) -> None:
        """Remember what was committed; a tripped name that passed its probe starts afresh."""
        for outcome in outcomes:
            if outcome.name in self.tripped:
                self.tripped.discard(outcome.name)
                self._windows.pop(outcome.name, None)
            window = self._windows.setdefault(outcome.name, deque())
            window.append((outcome.total, outcome.failed))
            held = sum(n for n, _ in window)
            while len(window) > 1 and held - window[0][0] >= WINDOW:
                held -= window.popleft()[0]
