"""What we do about it: one module a group of the catalogue. `load()` registers every reaction."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Import all modules, so that `@on` has seen them."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
