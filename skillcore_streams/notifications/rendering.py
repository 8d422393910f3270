"""Texts of notices: Jinja2 in a sandbox, a folder a notice and language, a file a channel.

Undefined variables are errors, HTML is escaped, and what comes from outside has lost line breaks, control characters
and everything invisible before it is put in (rules/notifications.plain).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skillcore_streams.notifications.notices import EVERYWHERE
from skillcore_streams.rules.notifications import language_of, plain
from skillcore_streams.runtime.errors import PermanentError

FOLDER = Path(__file__).parent / "templates"
PARTS = {"email": ("subject.txt", "email.txt", "email.html"), "sms": ("sms.txt",), "push": ("push.txt",)}
LONGEST_SMS = 1600
"""Characters; Twilio refuses more (21617)."""

MOST_ITEMS = 100
"""Rows of a list in a digest."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What one channel says. Unused parts are empty."""

    subject: str = ""
    text: str = ""
    html: str | None = None


class Renderer:
    """Makes letters. One a process; a job gets it by `ctx.service(Renderer)`.

    Args:
        app_url: where links lead; each names its notification by its opaque id.
    """

    def __init__(self, app_url: str, folder: Path = FOLDER) -> None:
        self._app_url = app_url.rstrip("/")
        self._folder = folder
        self.environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            autoescape=lambda name: name is not None and name.endswith(".html"), keep_trailing_newline=False,
        )  # fmt: skip
        self._languages = cache(lambda name: frozenset(f.name for f in (folder / name).iterdir() if f.is_dir()))

    def link(self, notification_id: UUID) -> str:
        """Where the message itself can be read, after signing in."""
        return f"{self._app_url}/n/{notification_id}"

    def render(
        self, name: str, language: str | None, channel: str, facts: Mapping[str, Any], *, notification_id: UUID,
        zone: str = "UTC",
    ) -> Letter:
        """One notice in the best language there is. SMS and push are given nothing but EVERYWHERE.

        Raises PermanentError, naming notice and channel and no content, when its texts do not fit its facts.
        """
        chosen = language_of(language, self._languages(name))
        known = {key: presentable(value, zone) for key, value in facts.items()}
        known |= {"app": "SkillCore", "link": self.link(notification_id), "lang": chosen}
        if channel != "email":
            known = {key: value for key, value in known.items() if key in EVERYWHERE}
        try:
            said = {part: self.environment.get_template(f"{name}/{chosen}/{part}").render(known)
                    for part in PARTS[channel]}  # fmt: skip
        except TemplateError as error:
            what = type(error).__name__
            raise PermanentError(f"{name} ({chosen}) cannot be rendered for {channel}: {what}") from None
        if channel == "email":
            return Letter(plain(said["subject.txt"]), said["email.txt"], said["email.html"])
        text = plain(next(iter(said.values())), LONGEST_SMS)
        return Letter("SkillCore", text)

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(notice, language, part) of every text there is."""
        for path in sorted(self._folder.glob("*/*/*")):
            yield path.parts[-3], path.parts[-2], path.name


def presentable(value: Any, zone: str) -> Any:
    """A fact as a person reads it: times in the recipient's zone, names on one line, lists not endless."""
    if isinstance(value, datetime):
        return f"{value.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return plain(value, 2000)
    if isinstance(value, Mapping):
        return {plain(str(key), 100): presentable(inner, zone) for key, inner in list(value.items())[:MOST_ITEMS]}
    if isinstance(value, list | tuple):
        return [presentable(inner, zone) for inner in value[:MOST_ITEMS]]
    return value
