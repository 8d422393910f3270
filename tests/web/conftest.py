"""The same system as the commands' tests; the labs of tests/handlers for what needs no worker."""

from tests.commands.conftest import machine, worker
from tests.handlers.conftest import lab, migrated_dsn

__all__ = ["lab", "machine", "migrated_dsn", "worker"]
