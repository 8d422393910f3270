"""Compliance: who saw which record, disclosures, consents, requests, deadlines (34 CFR 99 and 300)."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from skillcore_streams.events.fields import Count, Entity, Integer, Many, Name, Personal, Role, Text
from skillcore_streams.runtime import Event, EventTime


class ComplianceEvent(Event, topic="skillcore.compliance.events.v1"):
    """The domain's topic; each event names its key."""


class StudentRecordAccessed(ComplianceEvent, key="student_id"):
    """Student record accessed (34 CFR 300)."""

    access_id: UUID
    student_id: UUID
    actor_id: UUID
    actor_role: Role
    record_type: Literal["grades", "attendance", "iep", "504", "health", "discipline", "demographics"]
    purpose: Name | None = None
    source_ip_hash: Personal[Name | None] = None
    accessed_at: EventTime


class StudentRecordDisclosed(ComplianceEvent, key="student_id"):
    """Student record disclosed (34 CFR 99)."""

    disclosure_id: UUID
    student_id: UUID
    recipient_party: Personal[Name]
    recipient_type: Literal[
        "parent", "school_official", "consented", "directory", "subpoena_99_31_a9", "other_school", "audit",
        "health_safety", "research", "other",
    ]
    legitimate_interest: Personal[Text]
    records: Many[Name]
    exception_cite: Name | None = None
    further_parties: Many[Name] | None = None
    disclosed_by: UUID
    disclosed_at: EventTime


class ConsentRecorded(ComplianceEvent, key="student_id"):
    """Consent recorded (34 CFR 99)."""

    consent_id: UUID
    student_id: UUID
    guardian_id: UUID | None = None
    scope: Literal["directory_info", "media", "third_party", "medicaid", "sms"]
    decision: Literal["granted", "revoked"]
    effective_at: EventTime
    expires_at: AwareDatetime | None = None
    evidence_ref: Personal[Name]


class RecordsRequested(ComplianceEvent, key="student_id"):
    """Records requested (34 CFR 99)."""

    request_id: UUID
    student_id: UUID
    requester: Personal[Name]
    requester_type: Literal["parent", "eligible_student", "receiving_school", "agency"]
    record_types: Many[Name]
    received_at: EventTime


class RetentionPolicyTriggered(ComplianceEvent, key="policy_id"):
    """Retention policy triggered (34 CFR 300)."""

    run_id: UUID
    policy_id: UUID
    entity: Entity
    cutoff_date: date
    school_id: UUID
    candidate_count: Count
    dry_run: bool


class ComplianceDeadlineMissed(ComplianceEvent, key="student_id"):
    """Compliance deadline missed (Published by daily schedule compliance-sweep)."""

    deadline_id: UUID
    student_id: UUID
    kind: Literal[
        "annual_review", "triennial", "initial_eval", "504_review", "el_notice", "manifestation",
        "records_request",
    ]
    due_date: date
    days_overdue: Integer
    owner_id: UUID
