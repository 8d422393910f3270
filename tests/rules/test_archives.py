"""Parts and manifests: what goes in comes out, in the same bytes every time; what is broken is refused."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules import archives
from skillcore_streams.rules.archives import Manifest, Part, read_manifest, read_part, write_part

JSON = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans(), max_size=4)
MANIFEST = Manifest("a", "t", "audit", "audit_table", ["x", "y"], None, "2022-01-01", 3, [Part("k", "s", 10, 3)])


def read_or_refused(body: bytes) -> list[str] | None:
    """The lines, or None."""
    try:
        return read_part(body)
    except ValueError:
        return None


@given(st.lists(JSON))
def test_a_part_holds_its_rows_in_the_same_bytes_every_time(rows: list[dict[str, object]]) -> None:
    lines = [json.dumps(row) for row in rows]

    assert write_part(lines) == write_part(lines)
    assert read_part(write_part(lines)) == lines
    assert gzip.decompress(write_part(lines)).decode() == "".join(line + "\n" for line in lines)


@given(st.binary())
def test_bytes_that_are_no_part_are_refused(body: bytes) -> None:
    assert read_or_refused(body) in (None, [])


@given(st.data())
def test_a_part_with_a_byte_changed_is_refused_or_says_the_same(data: st.DataObject) -> None:
    lines = ['{"a": 1}', '{"a": 2}'] * 20
    body = bytearray(write_part(lines))
    at = data.draw(st.integers(10, len(body) - 9))
    body[at] ^= data.draw(st.integers(1, 255))

    assert read_or_refused(bytes(body)) in (None, lines)


def test_a_part_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST", 1000)
    with pytest.raises(ValueError, match="fill the memory"):
        read_part(write_part(["x" * 600] * 2))


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert read_manifest(MANIFEST.to_bytes()) == MANIFEST
    assert json.loads(MANIFEST.to_bytes())["parts"][0] == {"key": "k", "rows": 3, "sha256": "s", "size": 10}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"format": 1}', b'{"format": 2}', b"\xff"])
def test_what_is_no_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own or ours
        read_manifest(body)
