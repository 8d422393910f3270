"""Data archival: old rows leave for cold storage, verified before they are deleted. Orders wait for the job engine."""

from skillcore_streams.runtime import Queue

queue = Queue("data-archival", concurrency=10)
