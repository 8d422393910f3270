"""Files that the system made: listed, recorded as access, offered; archives checked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from skillcore_streams.events.resources import ArchiveCompleted, ReportGenerated
from skillcore_streams.handlers.resources import check_archive, offer_report
from skillcore_streams.queues.data_archival import VerifyAndDelete
from skillcore_streams.queues.notification_delivery import DeliverNotification
from skillcore_streams.runtime import derive_id
from skillcore_streams.testing import NOW, TENANT, HandlerLab, given
from tests.handlers.village import STUDENT, TEACHER

REPORT, ARCHIVE = UUID(int=4000), UUID(int=5000)


def generated(*, minutes: int = 0, tenant: str = TENANT, **more: Any) -> ReportGenerated:
    fields: dict[str, Any] = {
        "report_id": REPORT, "job_id": UUID(int=1), "kind": "report_card", "format": "pdf", "requested_by": TEACHER,
        "storage_key": "reports/a", "sha256": "ab", "size": 10, "pages": 1, "contains_pii": True,
        "expires_at": NOW + timedelta(days=90),
    }
    return given(ReportGenerated(**fields | more), at=NOW + timedelta(minutes=minutes), tenant=tenant)


def completed(*, tenant: str = TENANT, **more: Any) -> ArchiveCompleted:
    fields: dict[str, Any] = {
        "archive_id": ARCHIVE, "entity": "attendance_audit", "cutoff_date": NOW.date(), "bucket": "b",
        "storage_keys": ["a", "b"], "row_count": 2, "sha256": "ab", "manifest_key": "m", "verified": False,
    }
    return given(ArchiveCompleted(**fields | more), tenant=tenant)


async def test_a_report_is_listed_and_offered_to_who_asked_for_it(lab: HandlerLab) -> None:
    done = await lab.run(offer_report, generated())
    again = await lab.run(offer_report, generated())

    assert await lab.rows("select report_id, storage_key, pages from report_artifacts") == [
        {"report_id": REPORT, "storage_key": "reports/a", "pages": 1}
    ]
    [order] = done.orders_of(DeliverNotification)
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.recipient_id, order.job.template, order.job.subject_id) == (TEACHER, "report.ready", REPORT)
    assert [o.id for o in again.orders] == [order.id]


async def test_of_two_words_on_a_report_the_later_stays(lab: HandlerLab) -> None:
    for minutes in (5, 9, 2):
        await lab.run(offer_report, generated(minutes=minutes, storage_key=f"reports/{minutes}"))

    assert await lab.rows("select storage_key from report_artifacts") == [{"storage_key": "reports/9"}]


async def test_a_report_about_students_is_an_access_once_and_one_about_none_is_not(lab: HandlerLab) -> None:
    await lab.execute(
        "insert into reports values ($1, $2, 'x', 'pdf', '{}', 'en', $3, $4, $3, 'k', 's', 1, 1, true, now())",
        TENANT, REPORT, TEACHER, STUDENT,
    )
    await lab.run(offer_report, generated())
    await lab.run(offer_report, generated())
    await lab.run(offer_report, generated(report_id=UUID(int=4001), contains_pii=False))

    assert await lab.rows("select student_id, actor_id, purpose from ferpa_access_log") == [
        {"student_id": STUDENT, "actor_id": TEACHER, "purpose": "report"}
    ]


async def test_a_letter_that_nobody_asked_for_is_offered_to_nobody(lab: HandlerLab) -> None:
    done = await lab.run(offer_report, generated(requested_by=derive_id("system")))

    assert done.orders == []


async def test_an_archive_is_kept_as_unverified_and_checked_once(lab: HandlerLab) -> None:
    done = await lab.run(check_archive, completed())
    again = await lab.run(check_archive, completed())

    assert await lab.rows("select row_count, verified, storage_keys from archive_manifests") == [
        {"row_count": 2, "verified": False, "storage_keys": ["a", "b"]}
    ]
    assert done.enqueued == [VerifyAndDelete(archive_id=ARCHIVE)]
    assert [o.id for o in again.orders] == [o.id for o in done.orders]
