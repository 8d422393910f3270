"""CSV (RFC 4180), safe to open in a spreadsheet: what would be a formula there gets an apostrophe before it (OWASP)."""

from __future__ import annotations

import csv
import io

from skillcore_streams.runtime.documents import Column, Document
from skillcore_streams.runtime.errors import PermanentError

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with; the wide forms do too where spreadsheets are set to an Asian language."""


def render(document: Document) -> bytes:
    """The document's one table, in UTF-8 with the mark by which Excel knows it. Raises PermanentError for others."""
    tables = document.tables()
    if len(tables) != 1:
        raise PermanentError(f"a CSV holds one table, this report has {len(tables)}")
    [table] = tables
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow([safe(column.title) for column in table.columns])
    writer.writerows(
        [_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows
    )
    return out.getvalue().encode("utf-8-sig")


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(FORMULA) else text


def _cell(text: str | None, column: Column) -> str:
    if text is None:
        return ""
    return text if column.kind == "number" and is_number(text) else safe(text)


def is_number(text: str) -> bool:
    """Digits, perhaps a minus before and a point between them: nothing that could be more than a number."""
    return text.removeprefix("-").replace(".", "", 1).isdecimal() and text.isascii()
