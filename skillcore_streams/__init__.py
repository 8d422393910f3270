"""SkillCore Streams: background processing for school districts, a Faust application on Apache Kafka.

`faust -A skillcore_streams worker` looks for the attribute `app`. It is made on first use, so that importing events,
handlers or rules imports no Faust, Kafka or Postgres client.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from skillcore_streams.worker import app as app


def __getattr__(name: str) -> Any:
    if name == "app":
        from skillcore_streams.worker import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
