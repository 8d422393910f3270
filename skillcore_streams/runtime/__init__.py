"""How a message travels. Contributors need only these words; the machinery begins in chunk.py."""

from skillcore_streams.runtime.context import Context, Deduplicate
from skillcore_streams.runtime.errors import NotYet, PermanentError, Snooze
from skillcore_streams.runtime.messages import Backoff, Event, EventTime, Exact, Job, Meta, Queue, Rate, derive_id
from skillcore_streams.runtime.registry import on

__all__ = [
    "Backoff", "Context", "Deduplicate", "Event", "EventTime", "Exact", "Job", "Meta", "NotYet", "PermanentError",
    "Queue", "Rate", "Snooze", "derive_id", "on",
]
