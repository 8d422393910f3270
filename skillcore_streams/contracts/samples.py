"""An example of each payload, made from its schema: the same every time, and one story (a morning in October).

A new field needs a line in VALUES when its text must have a form, or when the type's own example would mislead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skillcore_streams.runtime.messages import derive_id

VALUES: dict[str, Any] = {  # by Class.field, or by field; None leaves it out; what is not here is made from the type
    "AcademicSessionCreated.end_date": "2026-05-29", "AcademicSessionCreated.start_date": "2025-08-18",
    "AcademicSessionCreated.title": "2025-2026", "Accommodation.code": "extended_time",
    "Accommodation.description": "Half as much time again on tests.", "Accommodation.settings": "tests",
    "AnnouncementPublished.roles": "parent", "AnnouncementPublished.scope": "school",
    "AnnouncementPublished.title": "Picture day is on Friday", "AssignmentCreated.title": "Fractions, page 12",
    "AssignmentUpdated.changed": "points_possible", "AttendanceCorrected.new_category": "absent_excused",
    "AttendanceCorrected.reason": "The bus was late.", "AttendanceMarked.category": "tardy",
    "AttendanceMarked.class_id": None, "AttendanceMarked.period": None,
    "AttendanceThresholdReached.threshold": "chronic_10",
    "ChatAttachmentUploaded.storage_key": "chat/2025/10/fractions.pdf", "ChatMemberJoined.role": "student",
    "ChatMessageDeleted.reason": "Sent to the wrong room.", "ChatMessageSent.mentions": None,
    "ChatMessageSent.reply_to": None, "ChatMessageSent.sender_role": "teacher", "ChatRoomCreated.kind": "class",
    "ChatRoomCreated.name": "Algebra 1, period 2", "ClassCreated.title": "Algebra 1",
    "ClassUpdated.changed": "title", "ClassUpdated.title": "Algebra 1",
    "ConferenceScheduled.ends_at": "2025-10-06T14:35:00Z", "DemographicsUpdated.changed": "birth_date",
    "ArchiveRows.entity": "attendance_audit", "ArchiveRows.cutoff": "2018-07-01", "ArchiveRows.school_id": None,
    "DrawUpRegister.name": "iep_timeliness", "DrawUpRegister.period": "2025-09", "DrawUpRegister.formats": "pdf",
    "DrawUpRegister.locale": "en", "GenerateReport.kind": "report_card", "GenerateReport.locale": "en",
    "GenerateReport.student_id": "3bb7c1a3-26a8-5ad4-9b7a-7de5e4f2b0c1",
    "EmailBounced.reason": "550 mailbox unavailable", "EmergencyAlertIssued.kind": "weather",
    "EnglishLearnerStatusChanged.new_status": "reclassified", "EnglishLearnerStatusChanged.old_status": "el",
    "GradeCategory.name": "Homework", "GradeUpdated.old_points_possible": None,
    "GradeUpdated.reason": "The second try counts.", "IEPAmended.accommodations": "extended_time",
    "IEPAmended.reason": "The student needs more time on tests.", "IEPCreated.begin_date": "2025-10-06",
    "IEPCreated.end_date": "2026-10-05",
    "IEPGoalAdded.description": "Reads 90 words a minute of a grade-level text.",
    "IEPGoalAdded.measurement": "words a minute", "IEPReviewScheduled.due_date": "2025-10-20",
    "IEPReviewScheduled.stage": "14", "IEPServiceDelivered.missed_reason": None,
    "InterventionAssigned.baseline": "0.84", "InterventionAssigned.end_date": "2025-12-19",
    "InterventionAssigned.metric": "attendance_rate", "InterventionAssigned.reason": "Four absences in ten days.",
    "InterventionAssigned.source": "detection", "InterventionAssigned.target": "0.95",
    "InterventionAssigned.tier": 2, "MessageSent.attachments": None, "PushNotificationSent.channel": "push",
    "QuietHours.end": "07:00:00", "QuietHours.start": "21:00:00",
    "RecordsRequested.requester_type": "receiving_school", "ReportGenerated.kind": "attendance_letter",
    "RosterSyncCompleted.finished_at": "2025-10-06T14:06:10Z", "SMSDelivered.channel": "sms",
    "SchoolCreated.grade_levels": "07", "SchoolCreated.name": "Oak Middle School", "SchoolCreated.type": "school",
    "Service.type": "speech", "StandardScoreRecorded.score": "3", "StudentAbsent.periods": None,
    "StudentRecordAccessed.actor_role": "teacher", "StudentRecordDisclosed.further_parties": None,
    "StudentRecordDisclosed.recipient_type": "other_school", "StudentRiskDetected.score": 62,
    "StudentTransferred.to_tenant": None, "StudentWithdrawn.end_date": "2025-10-06",
    "TeacherAssigned.end_date": None, "UserRole.role": "student", "UserUpdated.changed": "email",
    "annual_review_due": "2026-10-05", "app": "library", "arrival_time": "08:15:00", "assessment": "WIDA ACCESS",
    "attendance_pts": 30, "barcode": "TB-00417", "baseline": "55", "begin_date": "2025-08-18",
    "behavior": "Left class without leave.", "behavior_pts": 12, "birth_date": "2012-04-17",
    "body_ref": "bodies/2025/10/06/7d1c", "bucket": "skillcore-archive", "calc_version": 7, "candidate_count": 120,
    "carrier_status": "delivered", "category": "tardy", "changed_sections": "accommodations", "city": "Lakeview",
    "client_msg_id": "a-17", "code": "T", "condition": "good", "consecutive_days": 2, "country_of_birth": "US",
    "course_code": "MATH-A1", "course_pts": 20, "credits_attempted": "1.0", "credits_earned": "1.0",
    "current_score": "88.4", "cutoff_date": "2018-07-01", "days_absent": "4", "days_enrolled": 40,
    "days_overdue": 3, "days_remaining": 14, "deleted": 0, "disability_category": "specific_learning_disability",
    "drop_highest": 0, "due_back": "2026-05-29", "due_date": "2025-10-20", "email": "p.featherstone@example.org",
    "emoji": "👍", "entity": "attendance", "entry_type": "transfer", "error_code": "21610",
    "evidence_ref": "consents/2025/10/06/31ab", "exception_cite": "34 CFR 99.31(a)(2)", "exit_type": "moved",
    "expires_at": "2026-10-06T14:05:00Z", "failed": 0, "family_name": "Featherstone", "filename": "fractions.pdf",
    "final_score": "84.0", "further_parties": "state education agency", "given_name": "Penelope",
    "goal": "No unexcused absence in four weeks.", "grade_level": "07", "grade_levels": "07", "grades": "07",
    "home_language": "es", "impairment": "asthma", "instructional_days": "2025-10-06", "interpreter_language": "es",
    "kind": "class", "language": "en-US", "last_login_at": "2025-10-05T18:20:00Z",
    "legitimate_interest": "The student moves to this school.", "letter": "B+", "line1": "12 Harbor Street",
    "location": "Room 204", "manifest_key": "attendance/2018/manifest.json",
    "message": "School starts two hours late.", "metric": "attendance_rate", "mime": "application/pdf",
    "minutes": 30, "minutes_missed": 15, "minutes_per_week": 60, "model_version": "2025.1", "name": "Homework",
    "nces_id": "120345600789", "new_code": "AE", "note": "This is aimed at one student.",
    "notes_ref": "notes/2025/10/06/90f2", "old_code": "AU", "old_current_score": "87.9", "old_letter": "B",
    "old_points_possible": "10", "old_score": "7", "pages": 2, "percent": "88.4", "period": "2", "periods": "2",
    "phone": "+13125550142", "points_possible": "10", "postal_code": "60613", "price": "0.0079",
    "proficiency_level": "4.8", "program": "Check & Connect", "provider": "example-provider",
    "provider_message_id": "msg-5f2a", "purpose": "parent conference", "rate": "0.1", "rating": 4, "reason": "left",
    "reasons": "4 absences in 10 days", "receiving_school": "Harbor Middle School",
    "recipient_party": "Harbor Middle School", "record_types": "grades", "records": "grades",
    "relationship": "mother", "removal_days": "0", "requester": "Harbor Middle School",
    "review_completed_on": "2025-10-06", "review_due": "2026-08-18", "row_count": 48210, "scale_max": "4",
    "scheduled_for": "2025-10-17T20:00:00Z", "school_year": "2025-2026", "score": "8.5", "seconds": 310,
    "service_type": "speech", "setting": "general_education",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "size": 48213,
    "source_ip_hash": "b2f5ff47", "sourced_id": "sis-1042", "standard_id": "CCSS.MATH.7.NS.A.1", "state": "IL",
    "storage_key": "reports/2025/10/06/letter.pdf", "storage_keys": "attendance/2018/part-0001.jsonl.gz",
    "strategies": "morning check-in", "subject": "Thursday's field trip", "subject_key": "attendance.absent",
    "target": "90", "target_date": "2026-05-29", "template": "attendance.absent", "threshold": "chronic_10",
    "timezone": "America/Chicago", "to_hash": "b2f5ff47", "triennial_due": "2028-10-05", "tz": "America/Chicago",
    "value": "0.92", "weight": "40",
}  # fmt: skip

FORMATS: dict[str, Any] = {
    "date": "2025-10-06", "date-time": "2025-10-06T14:05:00Z", "time-local": "08:15:00", "decimal": "1",
}  # fmt: skip
KEYS = {
    "params": "student_id", "counts": "users", "previous_total": "users", "categories": "attendance", "race": "white",
}  # fmt: skip
"""Of maps: a key that may be there."""


def sample(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A payload that fits `schema`; optional fields are filled in, save those the story leaves out."""
    made: dict[str, Any] = _object(schema, schema.get("$defs", {}))
    return made


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    title = schema["title"]
    made = {name: _value(part, title, name, defs) for name, part in schema["properties"].items()}
    return {name: value for name, value in made.items() if value is not None}


def _value(schema: Mapping[str, Any], title: str, name: str, defs: Mapping[str, Any]) -> Any:
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
        return _object(schema, defs)
    given = VALUES.get(f"{title}.{name}", VALUES.get(name, _MADE))
    match schema:
        case _ if given is None:
            return None
        case {"type": "array", "items": items}:
            return [_value(items, title, name, defs)]
        case {"const": only}:
            return only
        case {"enum": [first, *_] as allowed}:
            return given if given in allowed else first
        case {"type": "object", "additionalProperties": True}:
            return given if isinstance(given, dict) else {}
        case {"type": "object", "additionalProperties": inner}:
            key = schema.get("propertyNames", {}).get("enum", [KEYS.get(name, name)])[0]
            return {key: _value({} if inner is True else inner, title, key, defs)}
        case {"format": "uuid"}:
            return str(derive_id("example", name.removesuffix("s")))
        case {"format": form}:
            return given if isinstance(given, str) else FORMATS[form]
        case {"type": "integer"}:
            return given if isinstance(given, int) else 1
        case {"type": "boolean"}:
            return name in ("published", "posted", "primary", "verified", "email", "white", "attendance")
        case _:
            return given if isinstance(given, str) else name.replace("_", " ")


_MADE = object()
