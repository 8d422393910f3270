"""`skillcore ...`: the operator's and the developer's commands. One module a group, loaded when it is used."""

from __future__ import annotations

import importlib
import sys

import click

from skillcore_streams.runtime.errors import Misconfigured, SkillCoreError

USAGE, CONFIGURATION = 64, 78

COMMANDS = {  # command: (module, what it is for); the module has a click command of the command's name
    "stack": ("stack", "Kafka, Postgres and Redis on this machine, without Docker."),
    "topics": ("topics", "Create and compare what kafka/topics.yaml declares."),
    "migrate": ("database", "Bring the database schema up to this version."),
    "send": ("send", "Write one event to its topic."),
    "import": ("importing", "Publish a district's data as events."),
    "events": ("events", "Look at stored events and what became of them."),
    "explain": ("explain", "Every item that a grade or an absence rate came from."),
    "dead-letters": ("dead_letters", "Look at what could not be processed; try it again, or discard it."),
    "queues": ("queues", "How much work stands where; pause and resume a queue."),
    "jobs": ("jobs", "Add a job; look at jobs, cancel, promote and retry them."),
    "tables": ("tables", "The live attendance table: rebuild it from Postgres, compare the two."),
    "offsets": ("offsets", "Where each partition stands; set one by hand."),
    "schemas": ("schemas", "What other systems may rely on: generate it, guard it."),
    "demo": ("demo", "A district's attendance year through the whole system."),
}


class Commands(click.Group):
    """Loads a command's module only when it is asked for: `--help` stays fast and imports no client library."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name, or None."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"skillcore_streams.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name.replace("-", "_") if name != "import" else "import_")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skillcore-streams")
def cli() -> None:
    """SkillCore Streams: background processing for school districts."""


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 64 usage, 78 configuration, topics or schema not as needed."""
    try:
        cli.main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except Misconfigured as error:
        click.echo(f"skillcore: {error}", err=True)
        sys.exit(CONFIGURATION)
    except SkillCoreError as error:
        click.echo(f"skillcore: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
