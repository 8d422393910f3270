"""Intervention detection: who needs support, from attendance, behaviour and courses. Orders wait for the job engine."""

from __future__ import annotations

from uuid import UUID

from skillcore_streams.runtime import Job, Queue

queue = Queue("intervention-detection", concurrency=10)


class DetectRisk(Job, queue=queue, kind="student"):
    """Score one student anew."""

    student_id: UUID
