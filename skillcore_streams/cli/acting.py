"""What commands that change something have in common: who acts and why, and which exit code the answer is."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from skillcore_streams import events, handlers, queues
from skillcore_streams.runtime.acts import Act, By

F = TypeVar("F", bound=Callable[..., Any])


def actor_option(function: F) -> F:
    """`--actor`: who acts, when that is not the user of this shell."""
    return click.option("--actor", default=_user, help="Who acts; default: you, as the shell knows you.")(function)


def reason_option(function: F) -> F:
    """`--reason` and `--actor`, kept with the act."""
    return click.option("--reason", required=True, help="Kept with your name: why this is right.")(
        actor_option(function)
    )


def _user() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or getpass.getuser()


def by(actor: str, reason: str) -> By:
    """Who and why, neither of them empty."""
    if not actor.strip() or not reason.strip():
        raise click.UsageError("--actor and --reason must not be empty.")
    return By(actor.strip(), reason.strip())


def answer(act: Act, about: str, as_json: bool) -> None:
    """Say what came of it. Exit code 1 when things are not as wished."""
    if as_json:
        click.echo(json.dumps({"id": about, "done": act.done, "said": act.said}))
    else:
        click.echo(f"{about}: {act.said}")
    if not act.done:
        sys.exit(1)


def moment(text: str | None) -> datetime | None:
    """A time as people write it: 2026-03-02, 2026-03-02T15:00, with an offset or in UTC."""
    if text is None:
        return None
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text} is no time; write 2026-03-02 or 2026-03-02T15:00+01:00.") from None
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def load_vocabulary() -> None:
    """Events, jobs and queues, so that payloads can be masked and queues are known."""
    for package in (events, queues, handlers):
        package.load()
