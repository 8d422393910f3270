"""Compliance reporting: registers and reports the law asks for. Orders wait here for the job engine."""

from __future__ import annotations

from uuid import UUID

from skillcore_streams.runtime import Job, Queue

queue = Queue("compliance-reporting", concurrency=10)


class AcknowledgeAccommodations(Job, queue=queue, kind="accommodation_acks"):
    """Ask a student's current teachers to acknowledge the accommodations of the plan, if there is one."""

    student_id: UUID
