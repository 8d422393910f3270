"""What happened: one module a domain, only classes. `load()` makes every type known to the door."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Import all modules, so that their events are known."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
