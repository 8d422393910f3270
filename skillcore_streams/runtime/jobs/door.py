"""The door of the job topics: a Kafka record becomes an order, or is parked with a reason.

Two forms, one result. CloudEvents 1.0 in binary mode: `ce_type` is `com.skillcore.jobs.<queue>.<kind>.v1`, `ce_id` the
job's id, the value its payload, `ce_jobopts` BullMQ's options as JSON. And BullMQ's own form, the JSON object
`{"name": ..., "data": ..., "opts": ...}`, whose names of the old system are translated by the queue's module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from skillcore_streams.runtime.context import LONGEST_DELAY, LOWEST_PRIORITY, MOST_ATTEMPTS, Deduplicate, Order
from skillcore_streams.runtime.envelope import (
    CONTENT_TYPE,
    MAX_VALUE,
    Parked,
    Record,
    Refused,
    attributes_of,
    holds_nul,
    meta_of,
    or_parked,
    origin_of,
)
from skillcore_streams.runtime.messages import JOB_TYPES, QUEUES, TRANSLATORS, Job, Meta, Queue, derive_id

PREFIX = "com.skillcore.jobs."

Milliseconds = Annotated[float, Field(ge=0, le=LONGEST_DELAY.total_seconds() * 1000)]


class _Options(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class BackoffOption(_Options):
    """BullMQ's backoff: `{type, delay, jitter}`; a bare number is a fixed delay. Milliseconds."""

    type: Literal["fixed", "exponential"] = "exponential"
    delay: Milliseconds = 0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0


class Deduplication(_Options):
    """BullMQ's deduplication: simple, throttle (ttl), debounce (ttl, extend, replace and a delay)."""

    id: Annotated[str, Field(min_length=1, max_length=512)]
    ttl: Milliseconds | None = None
    extend: bool = False
    replace: bool = False


class JobOptions(_Options):
    """BullMQ's job options with its meaning and units, and three of ours: timeout and expiresAt, tenant.

    What only concerns its own storage (removeOnComplete, removeOnFail, lifo ...) is the queue's setting here: ignored.
    """

    job_id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] | None = None
    backoff: Milliseconds | BackoffOption | None = None
    delay: Milliseconds = 0
    priority: Annotated[int, Field(ge=0, le=LOWEST_PRIORITY)] = 0
    deduplication: Deduplication | None = None
    timeout: Annotated[float, Field(gt=0, le=86_400_000)] | None = None
    expires_at: Annotated[datetime, Field(strict=False)] | None = None

    def stored(self) -> dict[str, Any] | None:
        """What the engine has to know when the job runs."""
        kept: dict[str, Any] = {}
        if self.backoff is not None:
            said = self.backoff
            kept["backoff"] = said.model_dump() if isinstance(said, BackoffOption) else said
        if self.timeout is not None:
            kept["timeout"] = self.timeout / 1000
        return kept or None


def decode(
    record: Record, topic: str, partition: int, *, now: datetime, legacy_tenant: str | None = None
) -> Order | Parked:
    """Turn a record of a job topic into an order, or say why not. Never raises."""
    return or_parked(
        record, lambda: _decode(record, topic, partition, now, legacy_tenant), "invalid job", "unreadable job")


def _decode(record: Record, topic: str, partition: int, now: datetime, legacy_tenant: str | None) -> Order:
    queue = next((q for q in QUEUES.values() if q.topic == topic), None)
    if queue is None:
        raise Refused("no queue of this version reads this topic")
    if record.value is None:
        raise Refused("no value (a tombstone): jobs are cancelled by id, not deleted")
    if len(record.value) > MAX_VALUE:
        raise Refused(f"value of {len(record.value)} bytes, at most {MAX_VALUE} are read")
    attributes, _ = attributes_of(record.headers)
    if "type" in attributes:
        head, _, version = attributes["type"].removeprefix(PREFIX).rpartition(".")
        said, _, kind = head.partition(".")
        if not attributes["type"].startswith(PREFIX) or said != queue.name or version != "v1":
            raise Refused(f"ce_type must be {PREFIX}{queue.name}.<kind>.v1 on this topic")
        options = JobOptions.model_validate_json(attributes.pop("jobopts", "{}"))
        meta = meta_of(attributes, now)
        return order(queue, kind, _object(record.value), options, meta, offset=record.offset)
    return _bullmq(record, topic, partition, queue, attributes, legacy_tenant, now)


def _bullmq(
    record: Record, topic: str, partition: int, queue: Queue, attributes: Mapping[str, str], legacy_tenant: str | None,
    now: datetime,
) -> Order:
    body = _object(record.value or b"")
    name, data = body.get("name"), body.get("data")
    if not isinstance(name, str) or not isinstance(data, dict):
        raise Refused('neither a CloudEvent (no ce_type header) nor a BullMQ job ("name" and "data")')
    options = JobOptions.model_validate_json(json.dumps(body.get("opts") or {}))
    tenant = attributes.get("tenantid") or legacy_tenant
    if tenant is None:
        raise Refused("a BullMQ job names no tenant; send ce_tenantid or set SKILLCORE_LEGACY_TENANT")
    job_id = options.job_id or str(derive_id(topic, *origin_of(record, partition)))
    return order(queue, name, data, options, job_meta(tenant, queue, job_id, now), offset=record.offset)


def job_meta(tenant: str, queue: Queue, job_id: str, now: datetime) -> Meta:
    """The envelope of a job that came without one."""
    key = derive_id(tenant, queue.name, job_id)
    return Meta(tenant=tenant, id=job_id, source=f"/bullmq/{queue.name}", time=now, key=key, correlation_id=str(key))


def order(
    queue: Queue, kind: str, data: dict[str, Any], options: JobOptions, meta: Meta, *, offset: int | None = None
) -> Order:
    """A checked order. Raises Refused or pydantic's ValidationError.

    The same tenant, queue and id are the same job: it is inserted once.
    """
    if holds_nul(data):
        raise Refused("a string holds a NUL character, which Postgres cannot store")
    cls = JOB_TYPES.get((queue.name, kind))
    job: Job | None
    if cls is not None:
        job = cls.model_validate_json(json.dumps(data), extra="ignore")
    else:
        translate = TRANSLATORS.get(queue.name)
        job = translate(kind, data) if translate is not None else None
    if job is None:
        raise Refused("unknown kind of job for this queue; redrive it after the deploy that knows it")
    dedup = options.deduplication
    return Order(
        queue=queue.name,
        kind=job.__kind__,
        payload=job.model_dump_json(),
        job=job,
        id=derive_id(meta.tenant, queue.name, options.job_id or meta.id),
        chosen=True,
        meta=meta,
        attempts=options.attempts or queue.attempts,
        delay=timedelta(milliseconds=options.delay),
        priority=options.priority,
        options=options.stored(),
        expires_at=options.expires_at,
        deduplicate=None if dedup is None else Deduplicate(
            f"{meta.tenant}/{dedup.id}", None if dedup.ttl is None else timedelta(milliseconds=dedup.ttl),
            dedup.extend, dedup.replace,
        ),
        offset=offset,
    )  # fmt: skip


def encode(job: Job, tenant: str, *, id: str | None = None, options: Mapping[str, Any] | None = None,
           now: datetime) -> tuple[str, bytes, dict[str, str], bytes]:  # fmt: skip
    """(topic, key, headers, value) of a job record as any producer may write it."""
    job_id = id or str(uuid4())
    headers = {
        "ce_specversion": "1.0", "ce_id": job_id, "ce_type": f"{PREFIX}{job.__queue__.name}.{job.__kind__}.v1",
        "ce_source": "/skillcore/jobs", "ce_time": now.isoformat().replace("+00:00", "Z"), "ce_tenantid": tenant,
        "content-type": CONTENT_TYPE,
    }  # fmt: skip
    if options:
        headers["ce_jobopts"] = json.dumps(options)
    return job.__queue__.topic, job_id.encode(), headers, job.model_dump_json().encode()


def _object(value: bytes) -> dict[str, Any]:
    try:
        body = json.loads(value)
    except ValueError:
        raise Refused("value is not JSON") from None
    if not isinstance(body, dict):
        raise Refused("value is not a JSON object")
    return body


__all__ = ["JobOptions", "decode", "encode", "job_meta", "order"]
