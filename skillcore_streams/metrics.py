"""Every metric with what to conclude from it. The seed's names are kept to the letter; labels never carry a person."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

GROUP = "event-workers"
"""The consumer group as the seed names it, in metrics and in /health/events."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

event_worker_count = Gauge(
    "event_worker_count", "Workers alive by their heartbeat rows. The same from every worker: use max, not sum.",
    ["group"], registry=REGISTRY,
)
event_processing_duration_seconds = Histogram(
    "event_processing_duration_seconds", "One call of a handler: one event, or the list of its events of a chunk.",
    ["group", "handler", "event_type"], buckets=_SECONDS, registry=REGISTRY,
)
event_handler_errors_total = Counter(
    "event_handler_errors", "Failed handler calls by class of error. A rise with one handler is that handler's bug.",
    ["group", "handler", "error_class"], registry=REGISTRY,
)
dlq_message_count = Gauge(
    "dlq_message_count", "Open dead letters by topic (records, calls) or queue (jobs). More than 50 pages somebody.",
    ["source"], registry=REGISTRY,
)
events_total = Counter(
    "events", "Events stored and handled, by topic. Its rate is the throughput of this worker.",
    ["topic"], registry=REGISTRY,
)
inbox_duplicates_total = Counter(
    "inbox_duplicates", "Events that had been here before and took no second effect. Normal after a resend or a crash.",
    ["topic"], registry=REGISTRY,
)
records_parked_total = Counter(
    "records_parked", "Records put into the dead letters because they could not be read.", ["topic"], registry=REGISTRY,
)
chunk_seconds = Histogram(
    "chunk_seconds", "One chunk transaction. Much above 0.2 s: Postgres is slow or a handler is.",
    ["topic"], buckets=_SECONDS, registry=REGISTRY,
)
chunk_retries_total = Counter(
    "chunk_retries", "Chunk transactions that had to be repeated, by reason.", ["reason"], registry=REGISTRY,
)
event_end_to_end_seconds = Histogram(
    "event_end_to_end_seconds", "From an event's ce_time to its commit, for the newest of a chunk. Replays count long.",
    ["topic"], buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600), registry=REGISTRY,
)
handler_calls_waiting = Gauge(
    "handler_calls_waiting", "Failed calls that will be tried again (failed), wait for a row (not_yet) or for an "
    "earlier call of their key (hold).", ["reason"], registry=REGISTRY,
)
partition_lag = Gauge(
    "partition_lag", "End offset minus our next_offset, of the partitions of this worker.",
    ["topic", "partition"], registry=REGISTRY,
)
event_lag_seconds = Gauge(
    "event_lag_seconds", "Age of the oldest record waiting in this worker's partitions. Over 300 pages somebody.",
    registry=REGISTRY,
)
outbox_oldest_seconds = Gauge(
    "outbox_oldest_seconds", "Age of the oldest event not yet written to Kafka. Seconds: Kafka is away.",
    registry=REGISTRY,
)
flood_guard_paused = Gauge(
    "flood_guard_paused", "1 while a partition waits because half of a handler's calls fail. Fix the handler.",
    ["topic", "partition"], registry=REGISTRY,
)
partitions_refused = Gauge(
    "partitions_refused", "Partitions whose offsets Postgres and Kafka disagree about; `skillcore offsets show`.",
    registry=REGISTRY,
)
bullmq_queue_waiting_count = Gauge(
    "bullmq_queue_waiting_count", "Jobs waiting. The same from every worker: alert on max by (queue).",
    ["queue"], registry=REGISTRY,
)
bullmq_queue_active_count = Gauge(
    "bullmq_queue_active_count", "Jobs running.", ["queue"], registry=REGISTRY,
)
bullmq_queue_completed_count = Gauge(
    "bullmq_queue_completed_count", "Finished jobs that are still kept.", ["queue"], registry=REGISTRY,
)
bullmq_queue_failed_count = Gauge(
    "bullmq_queue_failed_count", "Failed jobs that are still kept.", ["queue"], registry=REGISTRY,
)
bullmq_processing_duration_seconds = Histogram(
    "bullmq_processing_duration_seconds", "One run of a job. A histogram: _sum and _count replace the seed's sample.",
    ["queue", "status"], buckets=(0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 600), registry=REGISTRY,
)
