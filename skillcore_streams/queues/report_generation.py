"""Report generation: PDF and spreadsheet files. Orders wait here for the job engine."""

from __future__ import annotations

from uuid import UUID

from skillcore_streams.runtime import Job, Queue

queue = Queue("report-generation", concurrency=10)


class AttendanceLetter(Job, queue=queue, kind="attendance_letter"):
    """The letter home when an absence rate reached a threshold."""

    student_id: UUID
    school_year: str
    threshold: str
