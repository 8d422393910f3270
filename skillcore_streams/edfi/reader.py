"""From interchange files into the district's temporary database, one pass a file, and the report of what that met."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skillcore_streams.edfi.interchange import BadRecord, Reading, Record, holds, records

Row = Callable[[Record], tuple[object, ...] | None]
"""The values of a record's row, or None for a record that has none. Raises BadRecord."""

Reads = Mapping[str, Mapping[str, tuple[str, Row]]]
"""Interchange -> kind of record -> the statement that inserts it, and what of the record it inserts."""

NAMED = 100
"""So many bad records are named by file and number; beyond that they are only counted."""


@dataclass(slots=True)
class Report:
    """How much the source holds, and, by reason, what of it has no place in the events or needed a rule.

    Attributes:
        planned: how many events of each type one tenant gets.
        recorded: attendance marks in the source; the others complete the days.
        remarks: reason -> how many records a rule was needed for, or had no place.
        bad: file, number and element of the first bad records.
        bad_records: how many were left out because they are not as the standard has them.
        missing: interchanges that the folder doesn't have, and that need not be there.
    """

    planned: Counter[str] = field(default_factory=Counter)
    recorded: int = 0
    remarks: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    bad_records: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many events one tenant gets."""
        return self.planned.total()

    def remark(self, count: int, reason: str) -> None:
        """Note that `count` records were treated by a rule; nothing when there are none."""
        if count:
            self.remarks[reason] = self.remarks.get(reason, 0) + count

    def refuse(self, error: BadRecord) -> None:
        """Note a record that is left out."""
        self.bad_records += 1
        if len(self.bad) < NAMED:
            self.bad.append(str(error))


class Reader:
    """Reads the interchanges of a folder into a database. What it can't read is in the report."""

    def __init__(self, folder: Path, db: sqlite3.Connection, report: Report, reading: Reading) -> None:
        self.db = db
        self.report = report
        self._folder = folder
        self._reading = reading

    def read_all(self, reads: Sequence[Reads]) -> None:
        """Read every interchange that somebody wants, each once, where the folder has it."""
        wanted: dict[str, dict[str, tuple[str, Row]]] = {}
        for of_subject in reads:
            for interchange, kinds in of_subject.items():
                wanted.setdefault(interchange, {}).update(kinds)
        for interchange, kinds in wanted.items():
            if holds(self._folder, interchange):
                self.read(interchange, kinds)
            else:
                self.report.missing.append(interchange)

    def read(self, interchange: str, kinds: Mapping[str, tuple[str, Row]]) -> None:
        """Insert the records of these kinds, each by its own statement. Raises EdFiError for a file that is broken."""
        for record in records(self._folder, interchange, *kinds, reading=self._reading):
            insert, row = kinds[record.kind]
            try:
                values = row(record)
            except BadRecord as error:
                self.report.refuse(error)
                continue
            if values is not None:
                self.db.execute(insert, values)

    def count(self, what: str) -> int:
        """How many rows `select count(*)` finds: `what` begins with `from`."""
        found: int = self.db.execute(f"select count(*) {what}").fetchone()[0]
        return found

    def remark(self, what: str, reason: str) -> None:
        """Note the rows that `what` finds (see `count`) as treated by a rule."""
        self.report.remark(self.count(what), reason)

    def plan(self, event: str, what: str) -> None:
        """One event of this type for each row that `what` finds (see `count`)."""
        self.report.planned[event] += self.count(what)
