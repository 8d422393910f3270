"""Any sequence of events, repeats and conflicts, cut into chunks anyhow and delivered again anyhow: effects once."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skillcore_streams.runtime.chunk import deliver
from tests.runtime.lab import Lab, chunk, note, record

said = st.tuples(st.integers(0, 6), st.integers(0, 1))
"""An event's id, and which of two bodies it comes with."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(said, min_size=1, max_size=30), st.sets(st.integers(1, 29)), st.sets(st.integers(0, 30)))
async def test_each_id_takes_effect_once_with_the_body_that_came_first(
    lab: Lab, sequence: list[tuple[int, int]], cuts: set[int], again: set[int]
) -> None:
    if lab.registry.get("tests.note") is None:
        lab.handler(note)
    run, start = uuid4().hex, await lab.next_offset()
    student = UUID(int=start + 1)
    records = [
        record(start + at, student, id=f"{run}-{name}", n=body) for at, (name, body) in enumerate(sequence)
    ]
    edges = [0, *sorted(c for c in cuts if c < len(records)), len(records)]

    for number, (left, right) in enumerate(pairwise(edges)):
        part = chunk(records[left:right])
        await deliver(part, lab.core)
        if number in again:
            await deliver(part, lab.core)  # refused by the fence

    first: dict[int, int] = {}
    conflicts = 0
    for name, body in sequence:
        conflicts += first.setdefault(name, body) != body
    rows = await lab.rows(
        "select e.id, f.n from effect f join event e using (event_key) where e.id like $1 || '%'", run
    )
    assert sorted((r["id"], r["n"]) for r in rows) == sorted((f"{run}-{name}", n) for name, n in first.items())
    parked = "select count(*) from dead_letter where kind = 'conflict' and record_offset >= $1"
    assert await lab.value(parked, start) == conflicts
    assert await lab.next_offset() == start + len(records)
