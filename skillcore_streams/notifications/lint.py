"""What the texts of notices must not do, and how HTML mail must be built. `problems()` is run by the tests.

Education records stay out of SMS, push and subject lines: neither a variable that carries one nor a word that gives it
away may stand there. HTML is readable by a screen reader: 28 CFR 35.200 (WCAG 2.1 AA).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from jinja2 import TemplateError, meta, nodes

from skillcore_streams.notifications.notices import EVERYWHERE, NOTICES
from skillcore_streams.notifications.rendering import FOLDER, PARTS, Renderer

PUBLIC = ("sms.txt", "push.txt", "subject.txt")
TELLING = {
    "en": r"absen|tard|grade|fail|iep\b|504|disab|suspen|disciplin|behavio|missing|score|custody|medic|health|learner",
    "es": r"ausen|falt|califica|reprob|iep\b|504|discap|suspen|disciplin|conduct|puntua|custodi|medic|salud",
}  # fmt: skip
"""Words that say something of a student, whoever the student is."""

ALLOWED_NODES = (nodes.Output, nodes.TemplateData, nodes.Name, nodes.Template)
"""Public texts put in variables and do nothing else: no filters, no conditions."""


def problems(renderer: Renderer | None = None) -> list[str]:
    """Every fault of every text, one sentence each."""
    renderer = renderer or Renderer("https://lint.invalid")
    files = list(renderer.files())
    found = [f"{name}: there is no such notice" for name in sorted({name for name, _, _ in files} - set(NOTICES))]
    for notice in NOTICES.values():
        languages = {language for name, language, _ in files if name == notice.name}
        if "en" not in languages:
            found.append(f"{notice.name}: no English texts")
        for language in sorted(languages):
            there = {part for name, said, part in files if (name, said) == (notice.name, language)}
            wanted = {part for channel in notice.channels for part in PARTS[channel]}
            found += [f"{notice.name}/{language}: {part} is missing" for part in sorted(wanted - there)]
    for name, language, part in files:
        if name in NOTICES:
            found += [f"{name}/{language}/{part}: {what}" for what in _faults(renderer, name, language, part)]
    return found


def _faults(renderer: Renderer, name: str, language: str, part: str) -> Iterator[str]:
    facts = NOTICES[name].facts
    try:
        source, _, _ = renderer.environment.loader.get_source(  # type: ignore[union-attr]
            renderer.environment, f"{name}/{language}/{part}")
        tree = renderer.environment.parse(source)
    except TemplateError as error:
        yield f"is no template: {type(error).__name__}"
        return
    variables = meta.find_undeclared_variables(tree)
    if part in PUBLIC:
        for variable in sorted(variables - EVERYWHERE):
            yield f"variable {variable} may only stand in an e-mail's text"
        if any(not isinstance(node, ALLOWED_NODES) for node in tree.find_all(nodes.Node)):
            yield "only text and plain variables may stand here"
        if told := re.search(TELLING.get(language.split("-")[0], TELLING["en"]), _words(source), re.IGNORECASE):
            yield f"the word {told[0]!r} tells something of a student"
    else:
        for variable in sorted(variables - EVERYWHERE - facts - {"lang"}):
            yield f"variable {variable} is none of the notice's facts"
    if "|safe" in source.replace(" ", "") or "autoescape" in source:
        yield "escaping is not to be turned off"
    if part == "email.html":
        sample = {fact: [] if fact in ("grades", "missed") else "X" for fact in facts}
        known = sample | {"app": "SkillCore", "link": "https://lint.invalid/n/1", "lang": language}
        yield from _inaccessible(renderer.environment.get_template(f"{name}/{language}/{part}").render(known), language)


def _words(source: str) -> str:
    return re.sub(r"\{\{.*?\}\}", " ", source)


class _Outline(HTMLParser):
    """Notes what a screen reader depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.lang: str | None = None
        self.headings: list[int] = []
        self.faults: list[str] = []
        self.titled = self.main = False
        self._reading: list[str] = []
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "html":
            self.lang = said.get("lang")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not said.get("alt"):
            self.faults.append("an image without alternative text")
        if tag == "table" and said.get("role") != "presentation":
            self.faults.append("a table for layout must have role=presentation")
        if tag in ("script", "form", "iframe", "object") or any(name.startswith("on") for name in said):
            self.faults.append(f"{tag} has no place in a mail")
        self.main = self.main or tag == "main" or said.get("role") == "main"
        if tag in ("a", "title"):
            self._reading.append(tag)
            self._text = ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if self._reading and self._reading[-1] == tag:
            self._reading.pop()
            if tag == "title":
                self.titled = bool(self._text.strip())
            elif not self._text.strip():
                self.faults.append("a link without text")


def _inaccessible(rendered: str, language: str) -> Iterator[str]:
    outline = _Outline()
    outline.feed(rendered)
    if outline.lang != language:
        yield "<html lang> is not its language"  # WCAG 3.1.1
    if not outline.titled:
        yield "no title"  # 2.4.2
    if not outline.main:
        yield "no main landmark"
    if outline.headings[:1] != [1] or outline.headings.count(1) != 1:
        yield "not exactly one h1, first"
    if any(after > before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False)):
        yield "a heading level is skipped"
    yield from outline.faults
    colours = re.findall(r"color:\s*(#[0-9a-fA-F]{6})[^}\"]*?background:\s*(#[0-9a-fA-F]{6})", rendered)
    for ink, paper in colours:
        if contrast(ink, paper) < 4.5:
            yield f"{ink} on {paper} has a contrast below 4.5"  # 1.4.3


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours, #rrggbb."""

    def luminance(colour: str) -> float:
        parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
        r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


__all__ = ["FOLDER", "contrast", "problems"]
