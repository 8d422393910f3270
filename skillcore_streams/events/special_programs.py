"""Special programs: IEPs and Section 504 plans (34 CFR 300.320-324, 104.33)."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from skillcore_streams.events.fields import Count, Integer, Many, Name, Part, Personal, Text, Version
from skillcore_streams.runtime import Event, EventTime, Exact


class Service(Part):
    """A special education service and its weekly mandate."""

    type: Name
    minutes_per_week: Count


class Accommodation(Part):
    """What is done differently for the student, and where."""

    code: Name
    description: Personal[Text]
    settings: Name | None = None


class SpecialProgramsEvent(Event, topic="skillcore.special-programs.events.v1", key="student_id"):
    """Keyed by student, so a plan's amendments keep their order."""

    student_id: UUID


class IEPCreated(SpecialProgramsEvent):
    """IEP created (Ed-Fi StudentSpecialEducationProgramAssociation (IEPBeginDate, IEPEndDate, IEPReviewDate,
    LastEvaluationDate, Disability, SpecialEducationSetting))."""

    iep_id: UUID
    program_type: Literal["IEP"]
    disability_category: Personal[Name]
    begin_date: date
    end_date: date
    annual_review_due: date
    triennial_due: date
    coordinator_id: UUID
    case_manager_id: UUID | None = None
    setting: Name | None = None
    services: Many[Service]


class IEPGoalAdded(SpecialProgramsEvent):
    """IEP goal added (Ed-Fi Intervention/StudentInterventionAssociation)."""

    iep_id: UUID
    goal_id: UUID
    domain: Literal["academic", "behavior", "communication", "motor", "transition"]
    description: Personal[Text]
    baseline: Exact | None = None
    target: Exact
    measurement: Name
    target_date: date


class IEPReviewScheduled(SpecialProgramsEvent):
    """IEP review scheduled (34 CFR 300)."""

    iep_id: UUID
    review_type: Literal["annual", "triennial", "amendment"]
    due_date: date
    scheduled_for: AwareDatetime | None = None
    days_remaining: Integer
    stage: Literal["90", "60", "30", "14", "overdue"]
    team_member_ids: Many[UUID]
    guardian_ids: Many[UUID]


class IEPAmended(SpecialProgramsEvent):
    """IEP amended (34 CFR 300)."""

    iep_id: UUID
    version: Version
    changed_sections: Many[Name]
    reason: Personal[Text]
    effective_date: date
    amended_by: UUID
    accommodations: Personal[Many[Name] | None] = None
    review_completed_on: date | None = None


class IEPServiceDelivered(SpecialProgramsEvent):
    """IEP service delivered (Ed-Fi SpecialEducationProgramService / ServiceProvider)."""

    service_log_id: UUID
    iep_id: UUID
    service_type: Name
    provider_id: UUID
    started_at: EventTime
    minutes: Count
    delivery: Literal["individual", "group", "teletherapy"]
    missed_reason: Name | None = None


class Section504PlanActivated(SpecialProgramsEvent):
    """Section504 plan activated (Ed-Fi StudentSection504ProgramAssociation (AccommodationPlan,
    Section504MeetingDate))."""

    plan_id: UUID
    begin_date: date
    review_due: date
    impairment: Personal[Name | None] = None
    accommodations: Personal[Many[Accommodation]]
    coordinator_id: UUID
    review_completed_on: date | None = None
