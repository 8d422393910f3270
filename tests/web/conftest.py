"""The same system as the commands' tests."""

from tests.commands.conftest import machine, worker

__all__ = ["machine", "worker"]
