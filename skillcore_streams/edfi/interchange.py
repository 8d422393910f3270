"""Ed-Fi interchange files (Data Standard 5.2, XML, plain or gzipped), one record at a time.

A file is read as a stream and each record is dropped before the next one is read, so memory does not grow with it.
What is wrong is said with the file's name, the record's number and the element's name, never with what it holds.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import date, time
from pathlib import Path
from typing import BinaryIO, cast
from xml.etree.ElementTree import Element, ParseError, iterparse
from xml.parsers.expat import ErrorString

from skillcore_streams.runtime.errors import SkillCoreError

NAMESPACE = "{http://ed-fi.org/5.2.0}"


class EdFiError(SkillCoreError):
    """The source can't be read as it is. The text says where and what to do; it quotes no data."""


class Record:
    """One record of an interchange. Paths are element names of the standard, joined by slashes."""

    def __init__(self, element: Element, place: str) -> None:
        self.kind = element.tag.removeprefix(NAMESPACE)
        self._element = element
        self._place = place

    def get(self, path: str) -> str | None:
        """The text at `path`, or None."""
        found = self._element.find(_qualified(path))
        return (found.text or "").strip() or None if found is not None else None

    def text(self, path: str) -> str:
        """The text at `path`. Raises EdFiError when there is none."""
        found = self.get(path)
        if found is None:
            raise EdFiError(f"{self._place} has no {path}, which Ed-Fi requires.")
        return found

    def all(self, path: str) -> list[str]:
        """The texts of every element at `path`."""
        return [(e.text or "").strip() for e in self._element.iterfind(_qualified(path))]

    def code(self, path: str) -> str:
        """The value of a descriptor: `Tardy` of `uri://ed-fi.org/AttendanceEventCategoryDescriptor#Tardy`."""
        return code(self.text(path))

    def date(self, path: str) -> date:
        """The date at `path`."""
        try:
            return date.fromisoformat(self.text(path))
        except ValueError:
            raise EdFiError(f"{self._place}: {path} is not a date (YYYY-MM-DD).") from None

    def time(self, path: str) -> time | None:
        """The time of day at `path`, without a zone, or None."""
        try:
            return time.fromisoformat(found) if (found := self.get(path)) else None
        except ValueError:
            raise EdFiError(f"{self._place}: {path} is not a time (HH:MM:SS).") from None

    def number(self, path: str) -> float | None:
        """The number at `path`, or None."""
        try:
            return float(found) if (found := self.get(path)) else None
        except ValueError:
            raise EdFiError(f"{self._place}: {path} is not a number.") from None

    def references(self, name: str) -> list[str]:
        """Targets of the `ref="..."` attributes of the elements `name`."""
        return [e.get("ref", "") for e in self._element.iterfind(NAMESPACE + name)]

    @property
    def anchor(self) -> str | None:
        """The `id` that other records of the file may refer to."""
        return self._element.get("id")


def code(descriptor: str) -> str:
    """The value of a descriptor's URI."""
    return descriptor.rpartition("#")[2]


def records(folder: Path, interchange: str, *kinds: str) -> Iterator[Record]:
    """The records of these kinds in `<interchange>.xml` or `<interchange>.xml.gz`, in the order of the file.

    A record is valid until the next one is asked for. Raises EdFiError.
    """
    path = _file(folder, interchange)
    number = depth = 0
    root: Element | None = None
    try:
        with closing(_open(path)) as stream:
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


def _file(folder: Path, interchange: str) -> Path:
    for name in (f"{interchange}.xml", f"{interchange}.xml.gz"):
        if (folder / name).is_file():
            return folder / name
    raise EdFiError(f"{folder} holds neither {interchange}.xml nor {interchange}.xml.gz.")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _checked(root: Element, path: Path) -> Element:
    if not root.tag.startswith(f"{NAMESPACE}Interchange"):
        raise EdFiError(f"{path.name} is not an interchange of Ed-Fi 5.2 (namespace {NAMESPACE[1:-1]}).")
    return root


def _qualified(path: str) -> str:
    return "/".join(NAMESPACE + name for name in path.split("/"))
