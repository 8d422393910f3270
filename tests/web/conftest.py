"""The same system as the commands' tests; the labs of tests/handlers for what needs no worker."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import machine, worker
from tests.handlers.conftest import lab, migrated_dsn

__all__ = ["lab", "machine", "migrated_dsn", "worker"]


@pytest.fixture
def promtool() -> str:
    """The program that lints metrics and plays alert rules; scripts/setup.sh puts it beside python."""
    found = shutil.which("promtool", path=str(Path(sys.executable).parent)) or shutil.which("promtool")
    if found is None:
        pytest.skip("NOT RUN: needs promtool (Debian package prometheus)")
    return found
