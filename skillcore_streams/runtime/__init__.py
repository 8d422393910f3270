"""How a message travels. Contributors need only these words; the machinery begins in chunk.py."""

from skillcore_streams.runtime.context import Context
from skillcore_streams.runtime.errors import NotYet, PermanentError, Snooze
from skillcore_streams.runtime.messages import Event, EventTime, Exact, Job, Meta, Queue, derive_id
from skillcore_streams.runtime.registry import on

__all__ = [
    "Context", "Event", "EventTime", "Exact", "Job", "Meta", "NotYet", "PermanentError", "Queue", "Snooze",
    "derive_id", "on",
]
