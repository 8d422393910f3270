"""`skillcore schemas`: what other systems may rely on, generated from the classes, and guarded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from skillcore_streams import contracts
from skillcore_streams.cli.output import json_option

folder_option = click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=contracts.FOLDER,
    show_default="schemas/", help="Folder of the generated files and of schemas.lock.",
)  # fmt: skip


@click.group()
def schemas() -> None:
    """The contract: JSON Schemas, AsyncAPI, TypeScript, and what may change of them."""


@schemas.command()
@folder_option
@click.option("--release", is_flag=True, help="Also move schemas.lock forward, unless that breaks what it holds.")
@json_option
def build(folder: Path, release: bool, as_json: bool) -> None:
    """Generate schemas/ from the event, job and handler modules."""
    promises = contracts.promises_now()
    first = release and not (folder / contracts.LOCK).exists()
    refusals = contracts.breaks(contracts.locked(folder), promises) if release and not first else []
    changed = contracts.build(folder)
    if release and not refusals:
        contracts.release(folder, promises)
    if as_json:
        click.echo(json.dumps({"changed": changed, "refused": refusals}, indent=2))
    else:
        click.echo(f"schemas    {len(changed) or 'no'} file{'' if len(changed) == 1 else 's'} changed in {folder}")
        for sentence in refusals:
            click.echo(f"refused    {sentence}", err=True)
        if release and not refusals:
            click.echo(f"schemas    {contracts.LOCK} holds {len(promises)} events and jobs")
    sys.exit(1 if refusals else 0)


@schemas.command()
@folder_option
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Are the generated files up to date, and does nothing break what schemas.lock has released?

    Exit code 1 if not, with a sentence for each reason.
    """
    stale = contracts.stale(folder)
    promises = contracts.promises_now()
    released = contracts.locked(folder)
    refusals = contracts.breaks(released, promises)
    if as_json:
        new = sorted(promises.keys() - released.keys())
        click.echo(json.dumps({"stale": stale, "refused": refusals, "unreleased": new}, indent=2))
    else:
        if stale:
            more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
            click.echo(f"{folder / stale[0]}{more} is not what the code says: run skillcore schemas build.", err=True)
        for sentence in refusals:
            click.echo(sentence, err=True)
        if not stale and not refusals:
            click.echo(f"schemas    {len(promises)} events and jobs, up to date and compatible with {contracts.LOCK}")
    sys.exit(1 if stale or refusals else 0)
