"""A stack of its own: this folder kills Postgres and the broker, and must not do that to others."""

from tests.crash.conftest import own

__all__ = ["own"]
