"""What the table becomes, against brute force: any order, any chunks, any repeats."""

from __future__ import annotations

import json
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillcore_streams.rules.calendar import school_year
from skillcore_streams.runtime import tables
from skillcore_streams.runtime.tables import DAYS, OWNER, Input, Owners, absences, apply, read, roll_up, since

EAST, WEST = "t/east", "t/west"
FIRST = date(2021, 6, 24)
"""A week before a school year ends."""

Word = tuple[str, str, str, str | None, int, bool]
"""School, student, day, category, version, first."""


def day(n: int) -> str:
    return (FIRST + timedelta(days=n)).isoformat()


def words(marks: list[tuple[int, int, str, str]]) -> list[Word]:
    """What Postgres would say of these marks, written one after another: (student, day, category, school)."""
    said: list[Word] = []
    where: dict[tuple[int, int], str] = {}
    for version, (student, n, category, school) in enumerate(marks, 100):
        before = where.get((student, n))
        said.append((school, f"s{student}", day(n), category, version, before is None))
        if before not in (None, school):
            said.append((before or "", f"s{student}", day(n), None, version, False))
        where[student, n] = school
    return said


def play(state: dict[str, Any], said: list[Word]) -> None:
    """One chunk, as the worker applies it."""
    for key, value in apply(state, [Input(school, 0, [tuple(word)]) for school, *word in said]).values.items():
        assert value != state.get(key), f"{key} is written though nothing has changed"
        if value is None:
            del state[key]
        else:
            state[key] = json.loads(json.dumps(value))


def seen(state: dict[str, Any]) -> dict[str, Any]:
    """What the table says, without versions and what only guards against late words."""
    shown = {}
    for key, value in state.items():
        if tables.is_day(key):
            shown[key] = {student: category for student, (category, _) in value.items() if category is not None}
        elif key.count("/") == 2:
            shown[key] = absences(value)
        else:
            shown[key] = value["days"]
    return {key: value for key, value in shown.items() if value}


def brute_force(said: list[Word]) -> dict[str, Any]:
    """The same, from all words at once: the newest of each student's day at each school."""
    newest: dict[tuple[str, str, str], tuple[int, str | None]] = {}
    for school, student, when, category, version, _ in said:
        newest[school, student, when] = max(newest.get((school, student, when), (0, None)), (version, category))
    shown: dict[str, Any] = {}
    for school in {w[0] for w in said}:
        days = sorted({w[2] for w in said if w[0] == school})[-DAYS:]
        years = {school_year(date.fromisoformat(d)) for d in days}
        shown[school] = days
        for (at, student, when), (_, category) in sorted(newest.items()):
            if at != school or category is None:
                continue
            if when in days:
                shown.setdefault(f"{school}/{when}", {})[student] = category
            this_year = len(days) < DAYS or school_year(date.fromisoformat(when)) >= min(years)
            if category != "present" and this_year:
                shown.setdefault(f"{school}/{student}", {})[when] = category
    return shown


MARKS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 22),
        st.sampled_from(["present", "present", "absent_excused", "absent_unexcused", "tardy"]),
        st.sampled_from([EAST, EAST, EAST, WEST]),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(MARKS, st.randoms(use_true_random=False))
def test_any_order_any_chunks_and_repeats_end_as_brute_force_does(
    marks: list[tuple[int, int, str, str]], rnd: Random
) -> None:
    said = words(marks)
    heard = said + rnd.sample(said, len(said) // 3)
    rnd.shuffle(heard)
    state: dict[str, Any] = {}

    while heard:
        n = rnd.randint(1, 30)
        play(state, heard[:n])
        heard = heard[n:]

    assert seen(state) == brute_force(said)


@settings(max_examples=50, deadline=None)
@given(MARKS, st.randoms(use_true_random=False))
def test_hearing_everything_again_writes_nothing(marks: list[tuple[int, int, str, str]], rnd: Random) -> None:
    said = words(marks)
    state: dict[str, Any] = {}
    play(state, said)
    rnd.shuffle(said)

    again = apply(state, [Input(school, 0, [tuple(word)]) for school, *word in said])

    assert (again.values, again.news) == ({}, 0)
    assert again.repeats == len(said)


def test_what_is_applied_leaves_the_table_as_it_was_until_it_is_written() -> None:
    state: dict[str, Any] = {}
    play(state, words([(1, 0, "tardy", EAST)]))
    before = json.dumps(state)

    apply(state, [Input(EAST, 0, [("s1", day(0), "present", 999, False), ("s2", day(0), "tardy", 999, True)])])

    assert json.dumps(state) == before


def test_one_write_a_key_and_chunk() -> None:
    said = words([(student, 0, "absent_excused", EAST) for student in range(200)])

    done = apply({}, [Input(school, 0, [tuple(word)]) for school, *word in said])

    assert len(done.values) == 1 + 1 + 200  # the school, its day, each student
    assert done.news == 200


def test_a_mistaken_date_takes_one_place_of_fourteen() -> None:
    state: dict[str, Any] = {}
    play(state, words([(1, n, "present", EAST) for n in range(DAYS)]))

    play(state, [(EAST, "s1", "2099-01-01", "present", 999, True)])

    assert state[EAST]["days"] == [*(day(n) for n in range(1, DAYS)), "2099-01-01"]
    assert f"{EAST}/{day(0)}" not in state


def test_absences_of_last_year_go_when_all_fourteen_days_are_in_the_new_one() -> None:
    state: dict[str, Any] = {}
    play(state, words([(1, 0, "absent_excused", EAST), (2, 8, "tardy", EAST)]))
    assert absences(state[f"{EAST}/s1"]) == {day(0): "absent_excused"}

    play(state, [(EAST, "s3", day(n), "present", 900 + n, True) for n in range(7, 7 + DAYS)])

    assert f"{EAST}/s1" not in state
    assert absences(state[f"{EAST}/s2"]) == {day(8): "tardy"}


def test_a_present_that_replaced_an_absence_guards_against_the_absence_coming_late() -> None:
    state: dict[str, Any] = {}
    play(state, [(EAST, "s1", day(0), "present", 6, False)])

    play(state, [(EAST, "s1", day(0), "absent_unexcused", 5, True)])

    assert roll_up(state[f"{EAST}/{day(0)}"]) == {"present": 1}
    assert absences(state[f"{EAST}/s1"]) == {}


def test_a_day_that_moved_to_another_school_is_counted_there_only() -> None:
    state: dict[str, Any] = {}

    play(state, words([(1, 0, "tardy", EAST), (1, 0, "tardy", WEST)]))

    assert roll_up(state[f"{EAST}/{day(0)}"]) == {}
    assert roll_up(state[f"{WEST}/{day(0)}"]) == {"tardy": 1}
    assert absences(state[f"{EAST}/s1"]) == {}


def test_a_rebuild_forgets_what_is_older_and_keeps_what_came_after_it() -> None:
    state: dict[str, Any] = {}
    play(state, words([(1, 0, "tardy", EAST), (2, 0, "absent_excused", EAST), (3, 1, "present", EAST)]))
    later = Input(EAST, 0, [("s2", day(0), "present", 600, False)])
    begin = Input(EAST, 500, [])
    content = Input(EAST, 0, [("s1", day(0), "absent_excused", 500, True), ("s2", day(0), "tardy", 500, True)])
    stale = Input(EAST, 0, [("s3", day(1), "tardy", 499, False)])

    for given_input in later, begin, content, stale, begin:
        for key, value in apply(state, [given_input]).values.items():
            state.pop(key, None)
            if value is not None:
                state[key] = value

    assert seen(state) == {
        EAST: [day(0)],
        f"{EAST}/{day(0)}": {"s1": "absent_excused", "s2": "present"},
        f"{EAST}/s1": {day(0): "absent_excused"},
    }


@pytest.mark.parametrize("value", [
    None, b"", b"{", b"[]", b"7", b"null", b'{"changes":[[1,2]]}', b'{"changes":7}', b'{"floor":"x"}', b"\xff",
    b'{"changes":[["s","2021-01-01","tardy","x",true]]}',
])
def test_what_is_no_input_is_refused_in_a_sentence(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"^not an input of the attendance table: \w+$"):
        read(b"t/east", value)


def test_an_input_is_read_as_postgres_writes_it() -> None:
    value = b'{"changes":[["s1", "2021-09-06", "tardy", 1636000000000000, true], ["s2", "2021-09-06", null, 7, false]]}'

    assert read(b"t/east", value) == Input("t/east", 0, [
        ("s1", "2021-09-06", "tardy", 1636000000000000, True), ("s2", "2021-09-06", None, 7, False),
    ])


@pytest.mark.parametrize(("oldest", "kept"), [
    ("2021-07-01", "2021-07-01"), ("2021-12-31", "2021-07-01"), ("2022-06-30", "2021-07-01"),
])
def test_absences_are_kept_from_the_first_of_july(oldest: str, kept: str) -> None:
    first = date.fromisoformat(oldest)
    days = [(first + timedelta(days=n)).isoformat() for n in range(DAYS)]

    assert since(days) == kept
    assert since(days[1:]) == ""


def test_only_the_owner_s_records_count() -> None:
    owners = Owners()
    log: list[tuple[str, Any, str | None, bool]] = [
        ("a", {"v": 0}, None, True),  # before anybody said that it owns the partition
        (OWNER, {"at": 1, "token": "one"}, None, False),
        ("a", {"v": 1}, "one", True),
        (OWNER, {"at": 3, "token": "two"}, None, False),
        ("a", {"v": 2}, "two", True),
        ("a", {"v": 1}, "one", False),  # it stood still, and finishes its write
        (OWNER, {"at": 3, "token": "three"}, None, False),  # it had not even begun
        ("a", {"v": 1}, "three", False),
        ("a", {"v": 3}, "two", True),
    ]

    for start in 0, 0, 2, 5:  # a rebalance reads again from somewhere
        for offset, (key, value, token, counts) in list(enumerate(log))[start:]:
            assert owners.counts(0, offset, key, value, token) is counts, offset
    assert owners.counts(1, 9, "a", {"v": 1}, "one"), "another partition"
