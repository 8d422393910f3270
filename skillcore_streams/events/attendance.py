"""Attendance: the marks of a school's day, and what follows from them."""

from __future__ import annotations

from datetime import date, time
from typing import Literal
from uuid import UUID

from skillcore_streams.events.fields import Count, Many, Name, Personal, Text
from skillcore_streams.runtime import Event, EventTime, Exact

Category = Literal["present", "absent_excused", "absent_unexcused", "tardy", "early_departure", "partial"]
"""AttendanceEventCategoryDescriptor of Ed-Fi 5.2, without its two words for present."""


class AttendanceEvent(Event, topic="skillcore.attendance.events.v1", key="student_id"):
    """Keyed by student, so a correction never overtakes the mark it corrects."""

    student_id: UUID


class AttendanceMarked(AttendanceEvent):
    """Somebody was marked present, absent or late, for a day or for one class of it."""

    attendance_id: UUID
    school_id: UUID
    class_id: UUID | None = None
    period: Name | None = None
    date: date
    code: Name
    category: Category
    minutes_missed: Count | None = None
    arrival_time: time | None = None
    marked_by: UUID
    marked_at: EventTime


class AttendanceCorrected(AttendanceEvent):
    """A mark was wrong and has been replaced."""

    attendance_id: UUID
    school_id: UUID
    date: date
    old_code: Name
    new_code: Name
    new_category: Category
    reason: Personal[Text]
    corrected_by: UUID
    corrected_at: EventTime


class StudentAbsent(AttendanceEvent):
    """A student is absent for the day without an excuse; guardians are to be told."""

    school_id: UUID
    date: date
    excused: bool
    periods: Many[Name] | None = None
    consecutive_days: Count
    guardian_ids: Many[UUID]


class AttendanceThresholdReached(AttendanceEvent):
    """A student's absence rate reached 5, 10 or 20 % of the enrolled school days (EDFacts FS195)."""

    school_id: UUID
    school_year: Name
    threshold: Literal["at_risk_5", "chronic_10", "severe_20"]
    days_enrolled: Count
    days_absent: Exact
    rate: Exact
    as_of: date
