"""`skillcore migrate`."""

from __future__ import annotations

import asyncio
import json

import click

from skillcore_streams.adapters import migrations
from skillcore_streams.cli.output import json_option
from skillcore_streams.config import load


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Apply the numbered SQL files that the database has not seen yet."""
    done = asyncio.run(migrations.migrate(load().database_url.get_secret_value()))
    if as_json:
        click.echo(json.dumps([{"version": m.version, "name": m.name} for m in done]))
    elif done:
        for m in done:
            click.echo(f"applied {m.version:03d} {m.name}")
    else:
        click.echo("The schema is up to date.")
