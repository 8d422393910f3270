"""What a report says, before it is a file: facts, paragraphs, tables. Every format is made from the same document.

All cells are texts; their column's kind tells a spreadsheet what they are. Whatever a name holds, `plain` makes it
harmless here, once; what is particular to a format (formulas, markup) is that renderer's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from skillcore_streams.runtime.errors import SkillCoreError

Format = Literal["pdf", "xlsx", "csv"]
Kind = Literal["text", "number", "percent", "date"]
"""What the texts of a column are."""

MEDIA_TYPES: Mapping[Format, str] = {
    "pdf": "application/pdf",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}

LONGEST_CELL = 1000
"""Characters of a cell. A longer one is a mistake or an attack, and no page has room for it."""

LONGEST_TEXT = 20_000
"""Characters of a paragraph."""

MARKS = 4
"""Combining marks on one letter that are kept: more than any language needs, fewer than stack up over a page."""

INVISIBLE = frozenset("\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
                      "\u2066\u2067\u2068\u2069")
"""Soft hyphens, zero widths and overrides of direction: what makes a text look like another one. The joiners that
Arabic and Indic scripts are written with (U+200C, U+200D) stay."""


class RenderFailed(SkillCoreError):
    """The document could not be made into a file this time: the process died, or took too much. Another try may do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Part):
    """One column. `width`: its share of the page, compared with the others'."""

    title: str
    kind: Kind = "text"
    width: float = Field(1.0, gt=0)


class Table(_Part):
    """Rows of cells, one text a column; None is an empty cell."""

    type: Literal["table"] = "table"
    caption: str
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: tuple[tuple[str | None, ...], ...]


class Facts(_Part):
    """Names and values, one a line."""

    type: Literal["facts"] = "facts"
    pairs: tuple[tuple[str, str], ...]


class Paragraph(_Part):
    """Running text."""

    type: Literal["paragraph"] = "paragraph"
    text: str


Block = Annotated[Table | Facts | Paragraph, Field(discriminator="type")]


class Section(_Part):
    """Blocks under a heading; without one they follow the title."""

    heading: str | None = None
    blocks: tuple[Block, ...]


class Document(_Part):
    """A whole report. `language`: BCP 47, also of the words that every page has. `wide`: the page lies on its side."""

    title: str = Field(min_length=1)
    organisation: str
    language: str = "en"
    subtitle: str | None = None
    wide: bool = False
    sections: tuple[Section, ...]

    def tables(self) -> list[Table]:
        """All tables, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file. `pages`: of a PDF."""

    body: bytes
    pages: int | None = None


class DocumentRenderer:
    """What jobs see of rendering: `ctx.service(DocumentRenderer)`. rendering/pool.py does it in other processes."""

    async def render(self, document: Document, format: Format) -> Rendered:
        """Make the file: the same bytes for the same document.

        Raises PermanentError when the document cannot be made into this format, RenderFailed when the attempt failed.
        """
        raise NotImplementedError


def plain(text: str, longest: int = LONGEST_CELL) -> str:
    """Text as a person may see it: no control characters, no tricks of direction, no towers of marks, not endless."""
    kept: list[str] = []
    marks = 0
    for char in text[: longest * 4]:
        category = unicodedata.category(char)
        if char in INVISIBLE or category in ("Cs", "Co", "Cn"):
            continue
        if category == "Cc":
            char = "\n" if char == "\n" else " "
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks <= MARKS:
            kept.append(char)
    shown = "".join(kept).strip()
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def cell(value: object) -> str | None:
    """A value of a row as a cell: dates in ISO 8601, decimals in full, yes or no."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return plain(str(value))


def columns(*texts: str, **others: Kind) -> tuple[Column, ...]:
    """Wide columns of text by title, then narrower ones by title and kind; a title's underscores are spaces."""
    return (
        *(Column(title=title, width=2) for title in texts),
        *(Column(title=title.replace("_", " ").capitalize(), kind=kind) for title, kind in others.items()),
    )


def table(caption: str, heads: Iterable[Column], rows: Iterable[Iterable[object]]) -> Table:
    """A table of values of rows."""
    cells = tuple(tuple(cell(value) for value in row) for row in rows)
    return Table(caption=plain(caption), columns=tuple(heads), rows=cells)


def facts(**pairs: object) -> Facts:
    """Names and values; a name's underscores are spaces, a value of None is not known."""
    named = ((name.replace("_", " ").capitalize(), value) for name, value in pairs.items())
    return Facts(pairs=tuple((name, cell(value) or "not known") for name, value in named))
