"""`skillcore stack`: Kafka, Postgres, Redis, and stand-ins for providers and S3, on this machine without Docker."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from skillcore_streams.stack import DEFAULT_DIR, KafkaChoice, Stack

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; progress goes to stderr.")


def folder(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --dir, which every command takes."""
    return click.option(
        "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIR,
        show_default=".stack/", help="Folder of the stack; several may run side by side.",
    )(command)  # fmt: skip


@click.group()
def stack() -> None:
    """Kafka, Postgres, Redis, and stand-ins for providers and S3, on this machine without Docker."""


@stack.command()
@folder
@click.option("--fresh", is_flag=True, help="Forget all data first.")
@click.option("--brokers", type=click.Choice(["1", "3"]), help="3: topics in three copies. Default: as before, else 1.")
@click.option(
    "--kafka", type=click.Choice(["auto", "apache", "mock"]), default="auto", show_default=True,
    help="auto: the in-memory broker when Java or Maven is missing; apache: fail instead; mock: always in-memory.",
)  # fmt: skip
@as_json
def up(folder: Path, fresh: bool, brokers: str | None, kafka: KafkaChoice, as_json: bool) -> None:
    """Start what does not run yet, and wait until it answers. The data of the last run is still there."""
    count: dict[str | None, Literal[1, 3] | None] = {"1": 1, "3": 3}
    started = time.monotonic()
    stack = Stack(folder, brokers=count.get(brokers), kafka=kafka, say=lambda line: click.echo(line, err=as_json))
    env = stack.up(fresh=fresh)
    seconds = time.monotonic() - started - stack.download_seconds
    if as_json:
        facts = {"kafka": stack.kafka_kind, "seconds": round(seconds, 2), "downloads": round(stack.download_seconds, 2)}
        click.echo(json.dumps({**facts, "env": env, "services": [asdict(s) for s in stack.status()]}))
    else:
        apart = f", downloads of {stack.download_seconds:.1f} s apart" if stack.download_seconds else ""
        click.echo(f"stack      ready in {seconds:.1f} s{apart}. In your shell: eval $(skillcore stack env)")


@stack.command()
@folder
@as_json
def down(folder: Path, as_json: bool) -> None:
    """Stop everything. The data stays for the next `up`."""
    started = time.monotonic()
    Stack(folder, say=lambda line: click.echo(line, err=as_json)).down()
    seconds = time.monotonic() - started
    click.echo(json.dumps({"seconds": round(seconds, 2)}) if as_json else f"stack      stopped in {seconds:.1f} s")


@stack.command()
@folder
@as_json
def status(folder: Path, as_json: bool) -> None:
    """What runs, where, and whether it is the real thing. Exit code 1 unless everything runs."""
    services = Stack(folder).status()
    if as_json:
        click.echo(json.dumps([asdict(service) for service in services]))
    elif not services:
        click.echo(f"There is no stack in {folder}. Start one: skillcore stack up")
    else:
        for s in services:
            click.echo(f"{s.name:<10} {s.state:<8} {s.address:<16} {f'pid {s.pid}' if s.pid else '':<12} {s.kind}")
    if not services or any(service.state != "running" for service in services):
        sys.exit(1)


@stack.command()
@folder
@as_json
def env(folder: Path, as_json: bool) -> None:
    """Print the SKILLCORE_* variables: eval $(skillcore stack env)."""
    variables = Stack(folder).env()
    if as_json:
        click.echo(json.dumps(variables))
    else:
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
