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
table_inputs_total = Counter(
    "table_inputs", "Words on students' days that the attendance table heard: news, repeat (no change) or unreadable.",
    ["outcome"], registry=REGISTRY,
)
table_writes_total = Counter(
    "table_writes", "Keys written to the table's changelog: one a key and chunk.", registry=REGISTRY,
)
table_rewrites_total = Counter(
    "table_rewrites", "Partitions written anew because a worker that had stood still wrote to their changelog.",
    registry=REGISTRY,
)
table_lag = Gauge(
    "table_lag", "Inputs that the attendance table has not heard yet, of this worker's partitions.",
    ["partition"], registry=REGISTRY,
)
bullmq_queue_waiting_count = Gauge(
    "bullmq_queue_waiting_count", "Jobs in line, and records of the job topic not taken in yet; <queue>-dlq: open dead "
    "letters of the queue. The same from every worker: alert on max by (queue).",
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
jobs_running = Gauge(
    "jobs_running", "Jobs running in this process: sum by (queue) over the workers.", ["queue"], registry=REGISTRY,
)
bullmq_job_count = Gauge(
    "bullmq_job_count", "Jobs by state, as BullMQ's own exporter says it. The same from every worker.",
    ["queue", "state"], registry=REGISTRY,
)
job_oldest_waiting_seconds = Gauge(
    "job_oldest_waiting_seconds", "How long the first job in line has been there. Grows: too few workers, or paused.",
    ["queue"], registry=REGISTRY,
)
queue_paused = Gauge(
    "queue_paused", "1 while somebody has paused the queue: `skillcore queues` says who.", ["queue"], registry=REGISTRY,
)
OF_BACKLOG = (
    bullmq_queue_waiting_count, bullmq_queue_active_count, bullmq_queue_completed_count, bullmq_queue_failed_count,
    bullmq_job_count, job_oldest_waiting_seconds, queue_paused,
)
bullmq_job_completed_total = Counter(
    "bullmq_job_completed", "Jobs that this process completed. BullMQ's own exporter calls it so.",
    ["queue"], registry=REGISTRY,
)
bullmq_job_failed_total = Counter(
    "bullmq_job_failed", "Jobs that spent their last attempt here and became dead letters. Failures that are retried "
    "do not count.", ["queue"], registry=REGISTRY,
)
circuit_breaker_state = Gauge(
    "circuit_breaker_state", "0 closed, 1 half open, 2 open: the provider failed half of its calls and is left alone. "
    "Open for more than 5 minutes pages somebody.", ["dependency"], registry=REGISTRY,
)
circuit_breaker_transitions_total = Counter(
    "circuit_breaker_transitions", "Changes of a breaker's state. Many in an hour: the provider is ill, not away.",
    ["dependency", "to"], registry=REGISTRY,
)
circuit_breaker_rejected_total = Counter(
    "circuit_breaker_rejected", "Calls not made because the circuit was open. Their jobs wait or take another channel.",
    ["dependency"], registry=REGISTRY,
)
circuit_breaker_fallback_total = Counter(
    "circuit_breaker_fallback", "Notifications that went by another channel because this provider's circuit was open.",
    ["dependency"], registry=REGISTRY,
)
notification_deliveries_total = Counter(
    "notification_deliveries", "What became of calls to providers here: sent, rejected, throttled, unavailable, "
    "ambiguous; and dropped: nothing to say any more, or nobody who wants to hear it.", ["channel", "status"],
    registry=REGISTRY,
)
notification_send_seconds = Histogram(
    "notification_send_seconds", "From the order of a delivery to the provider's yes.", ["channel"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 3600, 36_000), registry=REGISTRY,
)
possible_duplicate_total = Counter(
    "possible_duplicate", "Messages said again after an answer that nobody can interpret: a person may have got two.",
    ["provider"], registry=REGISTRY,
)
webhook_events_total = Counter(
    "webhook_events", "Status reports of providers: taken, repeated, unknown (no such delivery), ignored, refused.",
    ["provider", "result"], registry=REGISTRY,
)
