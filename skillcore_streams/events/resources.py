"""Resources: textbooks, devices, digital material, and the files that the system makes."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from skillcore_streams.events.fields import Count, Entity, Many, Name
from skillcore_streams.runtime import Event, EventTime


class ResourcesEvent(Event, topic="skillcore.resources.events.v1"):
    """The domain's topic; each event names its key."""


class ResourceAssigned(ResourcesEvent, key="resource_id"):
    """Resource assigned (OneRoster 1)."""

    resource_assignment_id: UUID
    resource_id: UUID
    kind: Literal["textbook", "device", "digital"]
    assignee_id: UUID
    class_id: UUID | None = None
    due_back: date | None = None
    condition: Name | None = None
    barcode: Name | None = None


class ResourceAccessed(ResourcesEvent, key="resource_id"):
    """Resource accessed (Canvas asset_accessed; Caliper ToolUseEvent)."""

    access_id: UUID
    resource_id: UUID
    user_id: UUID
    class_id: UUID | None = None
    seconds: Count | None = None
    app: Name | None = None
    accessed_at: EventTime
    action: Literal["view", "download", "rating"]
    rating: Count | None = None


class ReportGenerated(ResourcesEvent, key="report_id"):
    """Report generated (Published by jobs)."""

    report_id: UUID
    job_id: UUID
    kind: Name
    format: Literal["pdf", "xlsx", "csv"]
    requested_by: UUID
    storage_key: Name
    sha256: Name
    size: Count
    pages: Count | None = None
    contains_pii: bool
    expires_at: AwareDatetime


class ArchiveCompleted(ResourcesEvent, key="archive_id"):
    """Archive completed (Published by jobs)."""

    archive_id: UUID
    entity: Entity
    cutoff_date: date
    bucket: Name
    storage_keys: Many[Name]
    row_count: Count
    sha256: Name
    manifest_key: Name
    verified: bool
