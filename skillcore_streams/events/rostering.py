"""Rostering: schools, sessions, classes, people and who belongs where (OneRoster 1.2, Ed-Fi 5.2)."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import (
    Count,
    Entity,
    Extensible,
    Many,
    Name,
    Part,
    Personal,
    Phone,
    Role,
    TimeZone,
    Version,
)
from skillcore_streams.runtime import Event, EventTime


class UserRole(Part):
    """A role in an organisation (OneRoster 1.2)."""

    role: Role
    org_id: UUID
    primary: bool


class SyncCounts(Part):
    """What a synchronisation did with one kind of entity."""

    added: Count
    updated: Count
    deleted: Count
    failed: Count


class RosteringEvent(Event, topic="skillcore.rostering.events.v1"):
    """The domain's topic; each event names its key."""


class UserCreated(RosteringEvent, key="user_id"):
    """An account exists. On rostering, like all events of a user; its handler is registered in demographics."""

    user_id: UUID
    sourced_id: Name
    roles: Many[UserRole]
    given_name: Personal[Name]
    family_name: Personal[Name]
    email: Personal[Name | None] = None
    phone: Personal[Phone | None] = None
    grades: Many[Name] | None = None
    status: Literal["active", "tobedeleted"]


class UserUpdated(RosteringEvent, key="user_id"):
    """User updated (OneRoster dateLastModified)."""

    user_id: UUID
    version: Version
    changed: Many[Name]
    email: Personal[Name | None] = None
    phone: Personal[Phone | None] = None
    given_name: Personal[Name | None] = None
    family_name: Personal[Name | None] = None
    grades: Many[Name] | None = None
    last_login_at: EventTime | None = None


class UserDeactivated(RosteringEvent, key="user_id"):
    """User deactivated (OneRoster status=tobedeleted)."""

    user_id: UUID
    reason: Personal[Literal["graduated", "withdrawn", "left", "duplicate"]]
    effective_date: date
    deactivated_by: UUID | None = None


class ClassCreated(RosteringEvent, key="class_id"):
    """Class created (OneRoster Class; Canvas course_section_created)."""

    class_id: UUID
    sourced_id: Name
    course_id: UUID
    school_id: UUID
    term_ids: Many[UUID]
    title: Personal[Name]
    class_type: Literal["homeroom", "scheduled"]
    periods: Many[Name]
    grades: Many[Name]
    teacher_ids: Many[UUID]


class ClassUpdated(RosteringEvent, key="class_id"):
    """Class updated (Canvas course_section_updated)."""

    class_id: UUID
    version: Version
    changed: Many[Name]
    title: Personal[Name | None] = None
    periods: Many[Name] | None = None
    term_ids: Many[UUID] | None = None
    grading_template_id: UUID | None = None


class ClassArchived(RosteringEvent, key="class_id"):
    """Class archived (Canvas course_completed)."""

    class_id: UUID
    school_id: UUID
    school_year: Name
    archived_at: EventTime
    archived_by: UUID


class StudentEnrolled(RosteringEvent, key="student_id"):
    """A student entered a school or a class."""

    enrollment_id: UUID
    student_id: UUID
    class_id: UUID | None = None
    school_id: UUID
    begin_date: date
    entry_type: Name | None = None
    grade_level: Name
    role: Literal["student"]


class StudentWithdrawn(RosteringEvent, key="student_id"):
    """Student withdrawn (Ed-Fi ExitWithdrawType; Canvas enrollment_state_updated)."""

    enrollment_id: UUID
    student_id: UUID
    class_id: UUID | None = None
    school_id: UUID
    end_date: date
    exit_type: Name
    receiving_school: Name | None = None
    records_requested: bool


class TeacherAssigned(RosteringEvent, key="class_id"):
    """Teacher assigned (OneRoster Enrollment role=teacher, primary)."""

    assignment_id: UUID
    teacher_id: UUID
    class_id: UUID
    role: Literal["primary", "co_teacher", "substitute", "aide"]
    begin_date: date
    end_date: date | None = None


class SchoolCreated(RosteringEvent, key="school_id"):
    """A school, district or department exists."""

    school_id: UUID
    sourced_id: Name
    parent_org_id: UUID
    name: Personal[Name]
    type: Literal["school", "district", "department"]
    timezone: TimeZone
    grade_levels: Many[Name]
    nces_id: Name | None = None


class AcademicSessionCreated(RosteringEvent, key="school_id"):
    """A school year, semester, term or grading period, with its instructional days."""

    session_id: UUID
    school_id: UUID
    type: Literal["schoolYear", "semester", "term", "gradingPeriod"]
    title: Personal[Name]
    start_date: date
    end_date: date
    parent_id: UUID | None = None
    instructional_days: Many[date] | None = None


class RosterSyncCompleted(RosteringEvent, key="sync_id"):
    """Roster sync completed (Clever Events API; Canvas sis_batch)."""

    sync_id: UUID
    source: Extensible[Literal["oneroster_csv", "oneroster_api", "clever", "classlink", "edfi", "manual"]]
    started_at: EventTime
    finished_at: EventTime
    counts: dict[Entity, SyncCounts]
    previous_total: dict[Entity, Count]


class StudentTransferred(RosteringEvent, key="student_id"):
    """Student transferred (Ed-Fi StudentSchoolAssociation (ExitWithdrawType, EntryType); Clever enrollments)."""

    transfer_id: UUID
    student_id: UUID
    from_school_id: UUID
    to_school_id: UUID | None = None
    to_tenant: Name | None = None
    effective_date: date
    grade_level: Name
    records_requested: bool
