"""Interventions: support given to students, its progress, and the risks that ask for it."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import Count, Many, Name, Personal, Text
from skillcore_streams.runtime import Event, EventTime, Exact

Effectiveness = Literal["effective", "somewhat_effective", "not_effective", "unknown"]
"""InterventionEffectivenessRatingDescriptor of Ed-Fi 5.2, shortened."""


class InterventionsEvent(Event, topic="skillcore.interventions.events.v1", key="student_id"):
    """Keyed by student."""

    student_id: UUID


class InterventionAssigned(InterventionsEvent):
    """Intervention assigned (Ed-Fi Intervention (InterventionClass, DeliveryMethod, Dosage))."""

    intervention_id: UUID
    tier: Literal[1, 2, 3]
    program: Name
    goal: Personal[Text]
    metric: Name
    baseline: Exact | None = None
    target: Exact
    start_date: date
    end_date: date
    interventionist_id: UUID | None = None
    source: Literal["iep_goal", "detection", "referral"]
    reason: Personal[Text | None] = None
    strategies: Many[Name] | None = None


class InterventionProgressRecorded(InterventionsEvent):
    """Intervention progress recorded (Ed-Fi StudentInterventionAssociation (DiagnosticStatement, Dosage))."""

    data_point_id: UUID
    intervention_id: UUID
    value: Exact
    observed_on: date
    minutes: Count | None = None
    fidelity: Literal["full", "partial", "none"] | None = None


class InterventionCompleted(InterventionsEvent):
    """Intervention completed (Ed-Fi InterventionEffectivenessRatingDescriptor)."""

    intervention_id: UUID
    outcome: Literal["met", "partially_met", "not_met", "discontinued"]
    effectiveness: Effectiveness | None = None
    completed_on: date
    notes_ref: Personal[Name | None] = None


class StudentRiskDetected(InterventionsEvent):
    """Student risk detected (ABC early-warning (attendance, behavior, course))."""

    risk_id: UUID
    school_id: UUID
    window_end: date
    score: Personal[Count]
    attendance_pts: Count
    behavior_pts: Count
    course_pts: Count
    reasons: Many[Name]
    recommended_tier: Literal[1, 2, 3]
    model_version: Name


class BehaviorIncidentReported(InterventionsEvent):
    """Behavior incident reported (Ed-Fi DisciplineIncident / DisciplineAction (IEPPlacementMeetingIndicator))."""

    incident_id: UUID
    school_id: UUID
    occurred_at: EventTime
    behavior: Personal[Text]
    severity: Literal["minor", "moderate", "major"]
    location: Personal[Name | None] = None
    action: Literal["none", "conference", "iss", "oss", "expulsion"] | None = None
    removal_days: Exact | None = None
    reported_by: UUID
