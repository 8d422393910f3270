"""PDF by Typst: tagged, PDF/UA-1 (ISO 14289-1), for 28 CFR 35 subpart H (ADA Title II); in fonts of the package.

Data reaches the template as JSON and is never read as markup. Typst refuses what would not be accessible: a missing
title, a skipped heading, a character that no font shows; of the last, a box stands for it.
"""

from __future__ import annotations

import json
import re
import struct
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from unicodedata import category

import typst

from skillcore_streams.runtime.documents import Document, Rendered
from skillcore_streams.runtime.errors import PermanentError

HERE = Path(str(files("skillcore_streams.rendering")))
FONTS = HERE / "fonts"
TEMPLATE = HERE / "report.typ"

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for characters that no font here shows."""

WORDS = {
    "en": {"page": "Page", "of": "of", "none": "No entries."},
    "es": {"page": "Página", "of": "de", "none": "Sin registros."},
}
"""What the page itself says, by language; English where there is none."""

PAGES = re.compile(rb"<xmpTPg:NPages>(\d+)</xmpTPg:NPages>")


def render(document: Document) -> Rendered:
    """The document as PDF. Raises PermanentError when Typst refuses it, without what its message quotes of the text."""
    language = document.language.split("-")[0].lower()
    data = _shown(document.model_dump(mode="json"))
    data |= {"language": language, "words": WORDS.get(language, WORDS["en"])}
    try:
        body = _compiler().compile(format="pdf", pdf_standards=["ua-1"], sys_inputs={"document": json.dumps(data)})
    except typst.TypstError as error:
        what = re.sub(r"[\"`].*[\"`]", "...", str(error.message), flags=re.DOTALL)
        raise PermanentError(f"Typst refuses the document: {what[:200]}") from None
    assert isinstance(body, bytes)
    found = PAGES.search(body)
    return Rendered(body, int(found[1]) if found else None)


def _shown(value: Any) -> Any:
    """The same with what cannot be shown replaced, in all texts."""
    if isinstance(value, str):
        return "".join(UNKNOWN if lost else "".join(chars) for lost, chars in groupby(value, _is_lost))
    if isinstance(value, dict):
        return {key: _shown(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return value


def _is_lost(char: str) -> bool:
    """No glyph of ours shows it, or PDF/UA forbids it."""
    return char not in "\n\u200c\u200d" and (char not in coverage() or category(char) == "Cc")


@cache
def _compiler() -> typst.Compiler:
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[FONTS])
    return typst.Compiler(TEMPLATE, root=HERE, font_paths=fonts, ignore_system_fonts=True)


@cache
def coverage() -> frozenset[str]:
    """Every character that one of our fonts shows."""
    return frozenset(chr(code) for path in FONTS.glob("*.ttf") for code in _codes(path.read_bytes()))


def _codes(font: bytes) -> set[int]:
    """Code points of a TrueType font, from its `cmap` table: formats 4 and 12 of the OpenType specification."""
    (count,) = struct.unpack_from(">H", font, 4)
    tables = {font[at : at + 4]: struct.unpack_from(">L", font, at + 8)[0] for at in range(12, 12 + 16 * count, 16)}
    cmap = tables[b"cmap"]
    (subtables,) = struct.unpack_from(">H", font, cmap + 2)
    codes: set[int] = set()
    for n in range(subtables):
        at = cmap + struct.unpack_from(">L", font, cmap + 8 + 8 * n)[0]
        (form,) = struct.unpack_from(">H", font, at)
        if form == 12:
            (groups,) = struct.unpack_from(">L", font, at + 12)
            for first, last, _ in struct.iter_unpack(">LLL", font[at + 16 : at + 16 + 12 * groups]):
                codes.update(range(first, last + 1))
        elif form == 4:
            (size,) = struct.unpack_from(">H", font, at + 6)
            ends = struct.unpack_from(f">{size // 2}H", font, at + 14)
            starts = struct.unpack_from(f">{size // 2}H", font, at + 16 + size)
            for first, last in zip(starts, ends, strict=True):
                codes.update(range(first, last + 1))
    return codes - {0xFFFF}
