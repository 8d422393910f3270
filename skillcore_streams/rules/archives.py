"""Archives: what a part and a manifest look like. Gzip of JSON lines, read by any tool; the same rows, the same bytes.

A line is a row as Postgres' to_jsonb writes it, which jsonb_populate_record reads back without loss.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
"""Raised when a reader of the older form could not read the new one."""

LARGEST = 1 << 30
"""Bytes that a part may become when it is read; a larger one is not ours."""


@dataclass(frozen=True, slots=True)
class Part:
    """An object of rows."""

    key: str
    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is needed to read an archive without the database it came from."""

    archive_id: str
    tenant: str
    entity: str
    table: str
    columns: Sequence[str]
    since: str | None
    cutoff: str
    rows: int
    parts: Sequence[Part]

    def to_bytes(self) -> bytes:
        """JSON for people too: sorted and indented."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=2, sort_keys=True, ensure_ascii=False).encode()


def read_manifest(body: bytes) -> Manifest:
    """Raises ValueError for what is no manifest of a form that we know."""
    try:
        said: dict[str, Any] = json.loads(body)
        if said.pop("format") != FORMAT:
            raise ValueError("a manifest of a newer form")
        parts = [Part(**part) for part in said.pop("parts")]
        return Manifest(**said, parts=parts)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a manifest") from None


def write_part(lines: Sequence[str]) -> bytes:
    """Lines of JSON, compressed. No time of day goes in, so that the same rows make the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed:
        for line in lines:
            packed.write(line.encode())
            packed.write(b"\n")
    return out.getvalue()


def read_part(body: bytes) -> list[str]:
    """The lines. Raises ValueError for what is not such a part, and for one that would fill the memory."""
    try:
        return list(_lines(body))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        raise ValueError("not a part of an archive") from None


def _lines(body: bytes) -> Iterator[str]:
    read = 0
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
        for line in packed:
            read += len(line)
            if read > LARGEST:
                raise ValueError("a part of an archive that would fill the memory")
            yield line.decode().removesuffix("\n")
