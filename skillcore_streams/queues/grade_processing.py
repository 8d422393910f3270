"""Grade processing: class grades recomputed from their scores. Orders wait here for the job engine."""

from __future__ import annotations

from uuid import UUID

from skillcore_streams.runtime import Job, Queue

queue = Queue("grade-processing", concurrency=10)


class OpenWork(Job, queue=queue, kind="open_work"):
    """Give a student who joined a class its open assignments."""

    class_id: UUID
    student_id: UUID
