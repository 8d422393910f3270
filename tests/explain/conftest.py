"""The labs of tests/handlers serve explanations as well."""

from tests.handlers.conftest import concurrent_lab, lab, migrated_dsn

__all__ = ["concurrent_lab", "lab", "migrated_dsn"]
