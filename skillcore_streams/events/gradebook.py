"""Gradebook: assignments, the scores teachers give and the class grades that follow from them."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from skillcore_streams.events.fields import Count, Many, Name, Part, Personal, Text, Version
from skillcore_streams.runtime import Event, EventTime, Exact


class GradeCategory(Part):
    """A category of a grading scheme; the weights of a scheme add up to 100."""

    id: UUID
    name: Name
    weight: Exact
    drop_lowest: Count = 0
    drop_highest: Count = 0
    never_drop: Many[UUID] = Field(default_factory=list)


class GradebookEvent(Event, topic="skillcore.gradebook.events.v1"):
    """The domain's topic; each event names its key."""


class GradeUpdated(GradebookEvent, key="class_id"):
    """Grade updated (Canvas grade_change (score, old_score, points_possible, grader_id, grading_complete, muted);
    OneRoster Result)."""

    grade_id: UUID
    submission_id: UUID | None = None
    assignment_id: UUID
    class_id: UUID
    student_id: UUID
    score: Personal[Exact | None] = None
    old_score: Personal[Exact | None] = None
    points_possible: Exact
    old_points_possible: Exact | None = None
    letter: Personal[Name | None] = None
    excused: bool
    missing: bool
    late: bool
    posted: bool
    grader_id: UUID | None = None
    reason: Personal[Text | None] = None
    graded_at: EventTime


class AssignmentCreated(GradebookEvent, key="class_id"):
    """Assignment created (Canvas assignment_created; OneRoster LineItem; Ed-Fi GradebookEntry)."""

    assignment_id: UUID
    class_id: UUID
    category_id: UUID
    title: Personal[Name]
    points_possible: Exact
    due_at: AwareDatetime | None = None
    assigned_on: date
    grading_type: Literal["points", "percent", "letter", "pass_fail", "standards"]
    extra_credit: bool
    omit_from_final: bool
    published: bool


class AssignmentUpdated(GradebookEvent, key="class_id"):
    """Assignment updated (Canvas assignment_updated)."""

    assignment_id: UUID
    class_id: UUID
    version: Version
    changed: Many[Name]
    category_id: UUID | None = None
    points_possible: Exact | None = None
    due_at: AwareDatetime | None = None
    published: bool | None = None


class AssignmentDeleted(GradebookEvent, key="class_id"):
    """Assignment deleted."""

    assignment_id: UUID
    class_id: UUID
    deleted_by: UUID
    deleted_at: EventTime


class AssignmentSubmitted(GradebookEvent, key="class_id"):
    """Assignment submitted (Canvas submission_created; Ed-Fi SubmissionStatus, AssignmentLateStatus)."""

    submission_id: UUID
    assignment_id: UUID
    class_id: UUID
    student_id: UUID
    attempt: Version
    submitted_at: EventTime
    late: bool
    type: Literal["text", "upload", "url", "quiz"]


class AssignmentMissed(GradebookEvent, key="class_id"):
    """Assignment missed (Published by daily schedule missing-assignment-sweep)."""

    assignment_id: UUID
    class_id: UUID
    student_id: UUID
    due_at: AwareDatetime
    policy: Literal["zero", "ignore", "floor50"]


class GradeCategoryWeightsChanged(GradebookEvent, key="class_id"):
    """Grade category weights changed (OneRoster Category; Canvas assignment_group_updated)."""

    class_id: UUID
    scheme_version: Version
    categories: Many[GradeCategory]
    effective_from: date
    changed_by: UUID


class ClassGradeChanged(GradebookEvent, key="class_id"):
    """Class grade changed (Canvas course_grade_change (current/final, old_*))."""

    class_id: UUID
    student_id: UUID
    grading_period_id: UUID
    current_score: Personal[Exact | None] = None
    old_current_score: Personal[Exact | None] = None
    final_score: Personal[Exact | None] = None
    letter: Personal[Name | None] = None
    old_letter: Personal[Name | None] = None
    calc_version: Version


class FinalGradePosted(GradebookEvent, key="class_id"):
    """Final grade posted (Ed-Fi Grade (GradeType, LetterGradeEarned, NumericGradeEarned), GradePointAverageType)."""

    final_grade_id: UUID
    class_id: UUID
    student_id: UUID
    grading_period_id: UUID
    course_code: Name
    letter: Personal[Name]
    percent: Personal[Exact]
    credits_attempted: Exact
    credits_earned: Exact
    weighting: Literal["regular", "honors", "ap_ib"]
    posted_by: UUID
    posted_at: EventTime


class GradingPeriodClosed(GradebookEvent, key="school_id"):
    """Grading period closed (OneRoster academicSession type=gradingPeriod)."""

    grading_period_id: UUID
    school_id: UUID
    school_year: Name
    closed_by: UUID
    closed_at: EventTime


class StandardScoreRecorded(GradebookEvent, key="class_id"):
    """Standard score recorded (Canvas learning_outcome_result_created; Ed-Fi LearningStandardGrade)."""

    score_id: UUID
    student_id: UUID
    class_id: UUID
    standard_id: Name
    score: Personal[Exact]
    scale_max: Exact
    assessed_at: EventTime
    method_override: Literal["decaying", "latest", "highest", "mode", "mean"] | None = None
