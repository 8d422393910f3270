"""Demographics: what a district must know of a student and the family."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import Count, Language, Many, Name, Personal, Phone, Version
from skillcore_streams.runtime import Event, Exact

EnglishLearnerStatus = Literal["non_el", "el", "reclassified", "monitored"]
Sex = Literal["female", "male", "unspecified"]


class DemographicsEvent(Event, topic="skillcore.demographics.events.v1"):
    """The domain's topic; each event names its key."""


class DemographicsUpdated(DemographicsEvent, key="student_id"):
    """Demographics updated (OneRoster Demographics; Ed-Fi StudentEducationOrganizationAssociation)."""

    student_id: UUID
    version: Version
    changed: Many[Name]
    birth_date: Personal[date | None] = None
    sex: Personal[Sex | None] = None
    race: Personal[dict[Name, bool] | None] = None
    hispanic_latino: Personal[bool | None] = None
    country_of_birth: Personal[Name | None] = None
    effective_date: date


class EnglishLearnerStatusChanged(DemographicsEvent, key="student_id"):
    """English learner status changed (Ed-Fi LimitedEnglishProficiencyDescriptor, LanguageUse)."""

    student_id: UUID
    old_status: EnglishLearnerStatus
    new_status: EnglishLearnerStatus
    proficiency_level: Personal[Exact | None] = None
    assessment: Personal[Name | None] = None
    home_language: Personal[Language]
    effective_date: date


class MealEligibilityChanged(DemographicsEvent, key="student_id"):
    """Meal eligibility changed (Ed-Fi SchoolFoodServiceProgramService; Title I)."""

    student_id: UUID
    school_year: Name
    eligibility: Personal[Literal["free", "reduced", "paid"]]
    basis: Personal[Literal["application", "direct_certification", "cep"]]
    effective_date: date


class AddressChanged(DemographicsEvent, key="student_id"):
    """Address changed (Ed-Fi Address, ResidencyStatus)."""

    student_id: UUID
    address_id: UUID
    line1: Personal[Name]
    city: Personal[Name]
    state: Name
    postal_code: Personal[Name]
    valid_from: date
    verified: bool
    residency: Literal["in_district", "out_of_district", "unknown"]


class GuardianContactUpdated(DemographicsEvent, key="guardian_id"):
    """Guardian contact updated (Ed-Fi Contact/StudentContactAssociation; OneRoster role guardian/parent)."""

    guardian_id: UUID
    student_ids: Many[UUID]
    version: Version
    email: Personal[Name | None] = None
    phone: Personal[Phone | None] = None
    relationship: Name
    custody: Personal[Literal["full", "joint", "none", "restricted"]]
    emergency_order: Count | None = None
    language: Language | None = None
