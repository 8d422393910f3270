"""Ed-Fi interchange files (Data Standard 5.2, XML, plain or gzipped), one record at a time.

A file is read as a stream and each record is dropped before the next one is read, so memory does not grow with it.
What is wrong is said with the file's name, the record's number and the element's name, never with what it holds. A
record that lacks what Ed-Fi requires, or says it in another form, is a BadRecord and costs only itself; a file that is
no interchange, or whose XML ends or breaks, is an EdFiError and ends the import: nothing after that place can be read.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO, cast
from xml.etree.ElementTree import Element, ParseError, iterparse
from xml.parsers.expat import ErrorString

from skillcore_streams.runtime.errors import SkillCoreError

NAMESPACE = "{http://ed-fi.org/5.2.0}"

LONGEST = 512
"""Characters of an element: what a name in an event may hold."""

SAY_EVERY = 500
"""Records between two words on how far the reading is."""

Reading = Callable[[str, int, int], None]
"""Told now and then: the file's name, the bytes of it that are read (of the archive, where it is one), its size."""


class EdFiError(SkillCoreError):
    """The source can't be read as it is. The text says where and what to do; it quotes no data."""


class BadRecord(EdFiError):
    """One record is not as the standard has it; the next one may be. The text names file, record and element."""


class Record:
    """One record of an interchange. Paths are element names of the standard, joined by slashes."""

    def __init__(self, element: Element, place: str) -> None:
        self.kind = element.tag.removeprefix(NAMESPACE)
        self._element = element
        self.place = place

    def get(self, path: str) -> str | None:
        """The text at `path`, or None."""
        found = self._element.find(_qualified(path))
        text = (found.text or "").strip() if found is not None else ""
        if len(text) > LONGEST:
            raise BadRecord(f"{self.place}: {path} is longer than {LONGEST} characters.")
        return text or None

    def text(self, path: str) -> str:
        """The text at `path`. Raises BadRecord when there is none."""
        found = self.get(path)
        if found is None:
            raise BadRecord(f"{self.place} has no {path}, which Ed-Fi requires.")
        return found

    def all(self, path: str) -> list[str]:
        """The texts of every element at `path`."""
        return [(e.text or "").strip() for e in self._element.iterfind(_qualified(path))]

    def code(self, path: str) -> str:
        """The value of a descriptor: `Tardy` of `uri://ed-fi.org/AttendanceEventCategoryDescriptor#Tardy`."""
        return code(self.text(path))

    def day(self, path: str) -> date | None:
        """The date at `path`, or None."""
        return self.date(path) if self.get(path) else None

    def date(self, path: str) -> date:
        """The date at `path`."""
        try:
            return date.fromisoformat(self.text(path))
        except ValueError:
            raise BadRecord(f"{self.place}: {path} is not a date (YYYY-MM-DD).") from None

    def time(self, path: str) -> time | None:
        """The time of day at `path`, without a zone, or None."""
        try:
            return time.fromisoformat(found) if (found := self.get(path)) else None
        except ValueError:
            raise BadRecord(f"{self.place}: {path} is not a time (HH:MM:SS).") from None

    def exact(self, path: str) -> Decimal | None:
        """The decimal at `path`, as it is written, or None."""
        try:
            found = Decimal(text) if (text := self.get(path)) else None
        except InvalidOperation:
            found = Decimal("NaN")
        if found is not None and not found.is_finite():
            raise BadRecord(f"{self.place}: {path} is not a number.")
        return found

    def count(self, path: str) -> int | None:
        """The whole number at `path`, from 0 on, or None. A fraction is dropped."""
        found = self.exact(path)
        if found is not None and not 0 <= found < 2**31:
            raise BadRecord(f"{self.place}: {path} is out of range.")
        return None if found is None else int(found)

    def flag(self, path: str) -> bool | None:
        """The truth value at `path`, written `true`, `false`, `1` or `0` as XML Schema has it, or None."""
        found = self.get(path)
        if found not in (None, "true", "false", "1", "0"):
            raise BadRecord(f"{self.place}: {path} is neither true nor false.")
        return None if found is None else found in ("true", "1")

    def children(self, path: str) -> Iterator[Record]:
        """The elements at `path`, each read like a record: what of one element belongs together."""
        return (Record(element, self.place) for element in self._element.iterfind(_qualified(path)))

    def references(self, name: str) -> list[str]:
        """Targets of the `ref="..."` attributes of the elements `name`."""
        return [e.get("ref", "") for e in self._element.iterfind(NAMESPACE + name)]

    def wrong(self, path: str, why: str) -> BadRecord:
        """What to raise when a value makes no sense: `why` goes on from the element's name and quotes nothing."""
        return BadRecord(f"{self.place}: {path} {why}.")

    @property
    def anchor(self) -> str | None:
        """The `id` that other records of the file may refer to."""
        return self._element.get("id")


def code(descriptor: str) -> str:
    """The value of a descriptor's URI."""
    return descriptor.rpartition("#")[2]


def holds(folder: Path, interchange: str) -> bool:
    """Whether the folder has this interchange."""
    return _find(folder, interchange) is not None


def records(
    folder: Path, interchange: str, *kinds: str, reading: Reading = lambda file, done, size: None
) -> Iterator[Record]:
    """The records of these kinds in `<interchange>.xml` or `<interchange>.xml.gz`, in the order of the file.

    A record is valid until the next one is asked for. Raises EdFiError.
    """
    path = _find(folder, interchange)
    if path is None:
        raise EdFiError(f"{folder} holds neither {interchange}.xml nor {interchange}.xml.gz.")
    number = depth = 0
    root: Element | None = None
    try:
        size = path.stat().st_size
        with path.open("rb") as raw, closing(_open(raw, path)) as stream:
            # S314: expat fetches no external entity, and since 2.4 it bounds the growth of internal ones
            for event, element in iterparse(stream, events=("start", "end")):  # noqa: S314
                if event == "start":
                    if root is None:
                        root = _checked(element, path)
                    depth += 1
                    continue
                depth -= 1
                if depth == 1 and root is not None:
                    number += 1
                    record = Record(element, f"{path.name}, record {number}")
                    if record.kind in kinds:
                        yield record
                    root.clear()
                    if number % SAY_EVERY == 0:
                        reading(path.name, raw.tell(), size)
            reading(path.name, size, size)
    except ParseError as error:
        line, column = error.position
        raise EdFiError(
            f"{path.name} is not well-formed XML (line {line}, column {column}: {ErrorString(error.code)}). "
            "Export it again; nothing after this place can be read."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise EdFiError(f"{path.name} is damaged or cut off after record {number}. Copy it again.") from None
    except OSError as error:
        raise EdFiError(f"{path.name} cannot be read: {error.strerror or type(error).__name__}.") from None


def _find(folder: Path, interchange: str) -> Path | None:
    paths = (folder / f"{interchange}.xml", folder / f"{interchange}.xml.gz")
    return next((path for path in paths if path.is_file()), None)


def _open(raw: BinaryIO, path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(raw)) if path.suffix == ".gz" else raw


def _checked(root: Element, path: Path) -> Element:
    if not root.tag.startswith(f"{NAMESPACE}Interchange"):
        raise EdFiError(f"{path.name} is not an interchange of Ed-Fi 5.2 (namespace {NAMESPACE[1:-1]}).")
    return root


def _qualified(path: str) -> str:
    return "/".join(NAMESPACE + name for name in path.split("/"))
