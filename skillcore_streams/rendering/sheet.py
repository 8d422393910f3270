"""Excel by XlsxWriter: a sheet a table, texts as texts. No formula is ever written, no text becomes a link."""

from __future__ import annotations

import io
from datetime import date, datetime
from typing import Any

import xlsxwriter

from skillcore_streams.rendering.text import is_number
from skillcore_streams.runtime.documents import Column, Document, Facts, Paragraph

LONGEST_NAME = 31
"""Characters of a sheet's name in Excel."""

LONGEST_CELL = 32_767
BORN = datetime(2000, 1, 1)
"""For all of them: the same rows make the same bytes."""


def render(document: Document) -> bytes:
    """Facts and texts on the first sheet, then a sheet a table."""
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_properties({"title": document.title, "author": document.organisation, "created": BORN})
        formats = {
            "title": book.add_format({"bold": True, "font_size": 14}),
            "head": book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"}),
            "name": book.add_format({"bold": True, "valign": "top"}),
            "text": book.add_format({"text_wrap": True, "valign": "top"}),
            "number": book.add_format({"valign": "top"}),
            "percent": book.add_format({"num_format": "0.00\\%", "valign": "top"}),
            "date": book.add_format({"num_format": "yyyy-mm-dd", "valign": "top"}),
        }
        taken: set[str] = set()
        _summary(document, book.add_worksheet(_name("Summary", taken)), formats)
        for table in document.tables():
            sheet = book.add_worksheet(_name(table.caption, taken))
            for n, column in enumerate(table.columns):
                sheet.set_column(n, n, 10 + 8 * column.width)
                sheet.write_string(0, n, column.title, formats["head"])
            for y, row in enumerate(table.rows, start=1):
                for x, (text, column) in enumerate(zip(row, table.columns, strict=True)):
                    _write(sheet, y, x, text, column, formats)
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, max(1, len(table.rows)), len(table.columns) - 1)
    return out.getvalue()


def _summary(document: Document, sheet: Any, formats: dict[str, Any]) -> None:
    sheet.set_column(0, 0, 28)
    sheet.set_column(1, 1, 60)
    lines: list[tuple[str, str | None, str]] = [(document.title, None, "title")]
    lines += [(text, None, "name") for text in (document.organisation, document.subtitle) if text]
    for section in document.sections:
        if section.heading:
            lines.append((section.heading, None, "name"))
        for block in section.blocks:
            if isinstance(block, Facts):
                lines += [(name, value, "name") for name, value in block.pairs]
            elif isinstance(block, Paragraph):
                lines.append((block.text, None, "number"))
    for y, (first, second, style) in enumerate(lines):
        sheet.write_string(y, 0, first[:LONGEST_CELL], formats[style])
        if second is not None:
            sheet.write_string(y, 1, second[:LONGEST_CELL], formats["text"])


def _write(sheet: Any, y: int, x: int, text: str | None, column: Column, formats: dict[str, Any]) -> None:
    if text is None:
        return
    if column.kind in ("number", "percent") and is_number(text):
        sheet.write_number(y, x, float(text), formats[column.kind])
    elif column.kind == "date" and (day := _date(text)) is not None:
        sheet.write_datetime(y, x, day, formats["date"])
    else:
        sheet.write_string(y, x, text[:LONGEST_CELL], formats["text"])


def _date(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year >= 1900 else None  # before Excel's first day


def _name(caption: str, taken: set[str]) -> str:
    """A sheet's name: Excel refuses some characters, long ones, and the same one twice whatever its case."""
    base = "".join(" " if c in "[]:*?/\\" else c for c in caption).strip(" '") or "Table"
    name, n = base[:LONGEST_NAME].strip(" '"), 1
    while name.lower() in taken or name.lower() == "history":
        n += 1
        name = f"{base[: LONGEST_NAME - 5].strip()} ({n})"
    taken.add(name.lower())
    return name
