"""The live attendance table: what a school's days and its students' absences are, whatever order one hears of them in.

Pure functions; Faust keeps the table, tables.py brings the two together. Three kinds of keys, all of a school in one
partition:

    tenant/school             {"days": the newest 14 with marks, "floor": version}
    tenant/school/2022-03-01  {student: [category, version]}      of each of those days
    tenant/school/student     {day: [category, version]}          days that are not simply present, this year's

Every word on a student's day has a version that grows with each commit (`attendance_day.written`), and the newest
stays: repeats and late words change nothing. A category of null says that the day has moved to another school. A first
word of `present` is not kept with the student: nothing older can come after it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BY_SCHOOL = "skillcore.internal.attendance-by-school.v1"
"""Where the inputs come from; key: tenant/school."""

OWNER = "!owner"
"""Key of the record with which a worker takes a partition of the changelog."""

WRITER = "writer"
"""Header of all it writes there afterwards."""

DAYS = 14
"""Days that a school keeps: its newest ones with marks, whatever the clock says. A mark with a mistaken date takes one
place, not all of them; a district's year can be played at any time."""

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """What changed at a school. `floor`: forget what is older than this version first (a rebuild begins)."""

    school: str
    floor: int
    changes: list[tuple[str, str, str | None, int, bool]]
    """Student, day, category (None: moved to another school), version, whether nothing older exists."""


def read(key: bytes | None, value: bytes | None) -> Input:
    """A record of the topic. Raises ValueError for what is none."""
    try:
        body = json.loads(value or b"")
        changes = [
            (str(student), str(day), category, int(version), bool(first))
            for student, day, category, version, first in body.get("changes", ())
        ]
        return Input((key or b"").decode(), int(body.get("floor", 0)), changes)
    except (ValueError, TypeError, AttributeError) as error:  # whose words may quote what they could not read
        raise ValueError(f"not an input of the attendance table: {type(error).__name__}") from None


class Owners:
    """Whose records of a changelog count.

    A worker that stood still in the middle of a write finishes it when it wakes up, after its successor has gone on. So
    a writer first says where it expects its own word to stand, `{"at": offset, "token": ...}`, which is true only if
    nobody has written meanwhile; from there on only records that carry its token count.
    """

    def __init__(self) -> None:
        self._owners: dict[int, list[tuple[int, str]]] = {}

    def counts(self, partition: int, offset: int, key: str, value: Value | None, token: str | None) -> bool:
        """Whether the table should take this record, or it is somebody's who had lost the partition, or an owner's."""
        owners = self._owners.setdefault(partition, [])
        if key == OWNER:
            if value and value["at"] == offset and not (owners and owners[-1][0] >= offset):
                owners.append((offset, value["token"]))
            return False
        for since_then, owner in reversed(owners):  # what is read again is judged as before
            if since_then < offset:
                return token == owner
        return True


@dataclass(slots=True)
class Applied:
    """The keys to be written, each once whatever the number of inputs (None: delete), and how many words were news."""

    values: dict[str, Value | None]
    news: int
    repeats: int


def apply(state: Mapping[str, Value], inputs: Iterable[Input]) -> Applied:
    """What the inputs make of the table. `state` is only read: it changes when the changelog has the new values."""
    draft = _Draft(state)
    for given in inputs:
        if given.floor:
            draft.begin_anew(given.school, given.floor)
        for change in given.changes:
            draft.hear(given.school, *change)
    return Applied(draft.values, draft.news, draft.repeats)


class _Draft:
    """The table with what is about to be written."""

    def __init__(self, state: Mapping[str, Value]) -> None:
        self.values: dict[str, Value | None] = {}
        self.news = self.repeats = 0
        self._state = state

    def get(self, key: str) -> Value:
        found = self.values[key] if key in self.values else self._state.get(key)
        return found or {}

    def hear(self, school: str, student: str, day: str, category: str | None, version: int, first: bool) -> None:
        """One word on one student's day."""
        about = self.get(school)
        if version < about.get("floor", 0):
            self.repeats += 1
            return
        days = self._keep(school, about, day)
        news = day in days and self._newest(f"{school}/{day}", student, category, version)
        told = not (first and category == "present") or day in self.get(f"{school}/{student}")
        if day >= since(days) and told:
            news = self._newest(f"{school}/{student}", day, category, version) or news
        self.news += news
        self.repeats += not news

    def begin_anew(self, school: str, floor: int) -> None:
        """Forget everything older than the floor, now and whenever it comes again."""
        if floor <= self.get(school).get("floor", 0):
            return
        days = []
        for key in self._keys(school):
            value = {name: entry for name, entry in self.get(key).items() if entry[1] >= floor}
            self._replace(key, value)
            if value and is_day(key):
                days.append(key[-10:])
        self.values[school] = {"days": sorted(days), "floor": floor}

    def _keep(self, school: str, about: Value, day: str) -> list[str]:
        """The school's days once it has heard of this one."""
        before: list[str] = about.get("days", [])
        if day in before or (len(before) == DAYS and day < before[0]):
            return before
        days = sorted([*before, day])
        oldest, days = days[:-DAYS], days[-DAYS:]
        self.values[school] = {"days": days, "floor": about.get("floor", 0)}
        for gone in oldest:
            self._replace(f"{school}/{gone}", {})
        if since(days) != since(before):  # once a year
            for key in self._keys(school):
                if not is_day(key):
                    self._replace(key, {d: e for d, e in self.get(key).items() if d >= since(days)})
        return days

    def _newest(self, key: str, name: str, category: str | None, version: int) -> bool:
        value = self.get(key)
        if name in value and value[name][1] >= version:
            return False
        if self.values.get(key) is None:
            value = self.values[key] = dict(value)
        value[name] = [category, version]
        return True

    def _replace(self, key: str, value: Value) -> None:
        if value:
            if value != self.get(key):
                self.values[key] = value
        elif key in self._state:
            self.values[key] = None
        else:
            self.values.pop(key, None)

    def _keys(self, school: str) -> Iterator[str]:
        """Of the school's days and students. All keys are looked at: it happens once a year, or at a rebuild."""
        mine = f"{school}/"
        yield from sorted({key for key in (*self._state, *self.values) if key.startswith(mine)})


def is_day(key: str) -> bool:
    """Whether a key below a school's is a day's, not a student's."""
    return len(key.rpartition("/")[2]) == 10


def since(days: list[str]) -> str:
    """From which day on absences are kept: the first of July before the oldest of 14 days; all while they are fewer."""
    if len(days) < DAYS:
        return ""
    year, month = int(days[0][:4]), days[0][5:7]
    return f"{year if month >= '07' else year - 1}-07-01"


# What the table says --------------------------------------------------------------------------------------------------


def roll_up(day: Mapping[str, Any]) -> Counter[str]:
    """How many students of a day have which category."""
    return Counter(category for category, _ in day.values() if category is not None)


def absences(student: Value) -> dict[str, str]:
    """A student's days that were not present, oldest first, with their categories."""
    return {day: category for day, (category, _) in sorted(student.items()) if category not in (None, "present")}
