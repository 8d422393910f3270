"""`skillcore topics`: create and compare what kafka/topics.yaml declares."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict

import click

from skillcore_streams import config
from skillcore_streams.adapters import kafka_admin
from skillcore_streams.cli import CONFIGURATION
from skillcore_streams.cli.output import json_option

SHOWN = 10  # a whole cluster of the other profile differs in a hundred ways



@click.group()
def topics() -> None:
    """Create and compare what kafka/topics.yaml declares."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # an unreachable broker is said once, in a sentence


@topics.command()
@click.option("--profile", type=click.Choice(kafka_admin.PROFILES), default="local", show_default=True)
@json_option
def apply(profile: kafka_admin.Profile, as_json: bool) -> None:
    """Create missing topics. Topics that exist are compared, never altered. Exit code 78 when some differ."""
    done = asyncio.run(kafka_admin.apply(config.load(), profile))
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        for name in done.created:
            click.echo(f"created {name}")
        click.echo(f"{len(done.created)} topics created, {done.unchanged} existed, {len(done.problems)} problems")
    _report(done.problems, quiet=as_json)


@topics.command()
@click.option("--profile", type=click.Choice(kafka_admin.PROFILES), help="Default: the one that fits best.")
@json_option
def check(profile: kafka_admin.Profile | None, as_json: bool) -> None:
    """Compare the broker with kafka/topics.yaml. Exit code 78 when a topic is missing or differs."""
    problems = asyncio.run(kafka_admin.check(config.load(), profile))
    if as_json:
        click.echo(json.dumps({"problems": problems}))
    elif not problems:
        click.echo("All topics are as declared.")
    _report(problems, quiet=as_json)


def _report(problems: list[str], *, quiet: bool) -> None:
    if problems and not quiet:
        shown = problems[:SHOWN]
        more = [f"... and {len(problems) - SHOWN} more, all of them with --json"] if len(problems) > SHOWN else []
        click.echo("\n".join([*shown, *more]), err=True)
    if problems:
        sys.exit(CONFIGURATION)
