"""How the commands read the database and print: tables for people, `--json` for programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from skillcore_streams.adapters.postgres import Connection, Postgres
from skillcore_streams.config import load

T = TypeVar("T")

WIDE = 240
"""Columns of a table that goes into a file or a pipe: nothing is folded that somebody may search for."""

json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def ask(question: Callable[[Connection], Awaitable[T]]) -> T:
    """Run one question in one transaction on the configured database."""

    async def run() -> T:
        postgres = Postgres(load().database_url.get_secret_value(), size=2, name="skillcore command")
        try:
            async with postgres.transaction() as db:
                return await question(db)
        finally:
            await postgres.close()

    return asyncio.run(run())


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows as a table that uses the width there is, or as JSON."""
    if as_json:
        click.echo(json.dumps([dict(r) for r in rows], default=str, indent=2))
    elif not rows:
        click.echo(empty)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in rows[0]:
            table.add_column(name.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(plain(v) for v in row.values()))
        console = Console()
        Console(width=None if console.is_terminal else WIDE).print(table)


def plain(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
