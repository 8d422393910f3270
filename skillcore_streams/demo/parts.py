"""What the sections of the HTML report are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MADE_UP = "<span class='madeup'>synthetic</span>"
"""Stands beside everything that rests on what was made up."""


def section(id: str, heading: str, content: str) -> str:
    """A part of the page, with a heading that its address leads to."""
    return f'<section id="{id}" aria-labelledby="{id}-h"><h2 id="{id}-h">{escape(heading)}</h2>\n{content}</section>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """A table whose last `numbers` columns are figures. Cells are HTML."""

    def kind(n: int) -> str:
        return " class='n'" if n >= len(heads) - numbers else ""

    head = "".join(f"<th scope='col'{kind(n)}>{escape(text)}</th>" for n, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(n)}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def legend(kinds: Iterable[tuple[str, str]]) -> str:
    """What the colours of a picture mean: (class, words)."""
    box = '<svg viewBox="0 0 12 12" aria-hidden="true"><rect class="{}" width="12" height="12"/></svg>'
    return '<ul class="legend">' + "".join(f"<li>{box.format(kind)}{words}</li>" for kind, words in kinds) + "</ul>"


def hidden(summary: str, content: str) -> str:
    """Details that open on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
