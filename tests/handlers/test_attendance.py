"""Attendance: who was where, from many marks that arrive as they like; who must be told, once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.attendance import AttendanceThresholdReached, StudentAbsent
from skillcore_streams.handlers.attendance import (
    aggregate_attendance,
    correct_attendance,
    follow_up_threshold,
    notify_of_absence,
)
from skillcore_streams.queues.attendance_aggregation import SOON, SchoolDay
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.queues.report_generation import AttendanceLetter
from skillcore_streams.runtime import Event, NotYet, derive_id
from skillcore_streams.testing import NOW, TENANT, Done, HandlerLab, given
from tests.handlers.village import (
    DAYS,
    OTHER_SCHOOL,
    SATURDAY,
    SCHOOL,
    STUDENT,
    YEAR,
    class_mark,
    correction,
    enrolment,
    mark,
    ready,
    session,
    weekdays,
    year_to_date,
)


async def category(lab: HandlerLab, day: date = DAYS[0]) -> str | None:
    found: str | None = await lab.value("select category from attendance_day where day = $1", day)
    return found


async def thresholds(lab: HandlerLab) -> dict[str, tuple[Any, ...]]:
    """Those that stand: (days enrolled, days absent, as of)."""
    rows = await lab.rows("select * from attendance_threshold where retracted_at is null")
    return {r["threshold"]: (r["days_enrolled"], r["days_absent"], r["as_of"]) for r in rows}


async def cases(lab: HandlerLab) -> list[tuple[int, int, int]]:
    """Truancy cases: numbers of first and last day in DAYS, and how many days."""
    rows = await lab.rows("select first_day, last_day, days from truancy_cases order by first_day")
    return [(DAYS.index(r["first_day"]), DAYS.index(r["last_day"]), r["days"]) for r in rows]


async def standing_notices(lab: HandlerLab) -> list[date]:
    rows = await lab.rows("select day from absence_notices where retracted_at is null order by day")
    return [row["day"] for row in rows]


def absences(done: Done) -> list[tuple[date, int]]:
    return [(e.date, e.consecutive_days) for e in done.published if isinstance(e, StudentAbsent)]


def reached(done: Done) -> list[str]:
    return [e.threshold for e in done.published if isinstance(e, AttendanceThresholdReached)]


async def deliver(lab: HandlerLab, *events: Event) -> None:
    """With all that follows."""
    await lab.deliver(events)
    await lab.settle()


# The last word on a day -----------------------------------------------------------------------------------------------


async def test_a_newer_mark_replaces_an_older_one(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [mark(0, "present", hour=8)])

    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=9, arrival_time=NOW.time(), minutes_missed=12)])

    [row] = await lab.rows("select category, code, minutes_missed, arrival_time, said_at from attendance_day")
    assert (row["category"], row["code"]) == ("tardy", "tardy")
    assert (row["minutes_missed"], row["arrival_time"]) == (12, NOW.time())
    assert row["said_at"].hour == 9


async def test_an_older_mark_changes_nothing(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [mark(0, "tardy", hour=9)])
    before = await lab.rows("select * from attendance_day")

    done = await lab.run(aggregate_attendance, [mark(0, "absent_unexcused", hour=8)])

    assert await lab.rows("select * from attendance_day") == before
    assert done.published == []


async def test_of_two_marks_of_one_moment_the_greater_event_key_stays_whichever_comes_first(lab: HandlerLab) -> None:
    two = sorted([mark(0, "present"), mark(0, "tardy")], key=lambda e: e.meta.key)
    for order in (two, two[::-1]):
        for event in order:
            await lab.run(aggregate_attendance, [event])

        assert await category(lab) == two[1].category
        await lab.execute("delete from attendance_day")


async def test_of_several_marks_of_a_day_in_one_chunk_the_newest_counts(lab: HandlerLab) -> None:
    marks = [mark(0, "absent_excused", hour=10), mark(0, "present", hour=11), mark(0, "tardy", hour=9)]

    await lab.run(aggregate_attendance, marks)

    assert await category(lab) == "present"


async def test_a_repeated_call_changes_nothing_and_tells_nobody_again(lab: HandlerLab) -> None:
    await ready(lab)
    marks = [mark(n) for n in range(22)]
    await lab.run(aggregate_attendance, marks)
    before = await lab.rows("select * from attendance_day"), await year_to_date(lab), await thresholds(lab)

    done = await lab.run(aggregate_attendance, marks)

    assert (await lab.rows("select * from attendance_day"), await year_to_date(lab), await thresholds(lab)) == before
    assert done.published == []


# Classes --------------------------------------------------------------------------------------------------------------


async def test_half_of_the_scheduled_minutes_missed_is_an_absence(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [class_mark(period) for period in (1, 2, 3)])
    assert await category(lab) == "partial"

    await lab.run(aggregate_attendance, [class_mark(4)])

    [row] = await lab.rows("select category, code, attendance_id, school_id from attendance_day")
    assert row == {"category": "absent_unexcused", "code": "derived", "attendance_id": None, "school_id": SCHOOL}
    assert await lab.value("select count(*) from attendance_section") == 4


async def test_the_bell_schedule_of_the_school_says_how_long_classes_are(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.execute("update bell_schedule set minutes = 300 where period = '1'")  # 600 in all

    await lab.run(aggregate_attendance, [class_mark(1)])

    assert await category(lab) == "absent_unexcused"


async def test_the_school_s_own_mark_overrides_its_classes_before_and_after(lab: HandlerLab) -> None:
    classes = [class_mark(period, hour=12) for period in range(1, 8)]

    await lab.run(aggregate_attendance, classes)
    await lab.run(aggregate_attendance, [mark(0, "present", hour=8)])
    await lab.run(aggregate_attendance, [class_mark(1, category="tardy", hour=13)])

    assert await category(lab) == "present"


async def test_each_class_keeps_its_own_newest_mark(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [class_mark(1, category="tardy", hour=10), class_mark(2, category="partial")])

    await lab.run(aggregate_attendance, [class_mark(1, hour=9), class_mark(2, category="present", hour=11)])

    rows = await lab.rows("select period, category from attendance_section order by period")
    assert [(r["period"], r["category"]) for r in rows] == [("1", "tardy"), ("2", "present")]
    assert await category(lab) == "tardy"


# Corrections ----------------------------------------------------------------------------------------------------------


async def test_a_correction_replaces_the_mark_and_is_on_record(lab: HandlerLab) -> None:
    wrong = mark(0, "tardy", minutes_missed=9)
    await lab.run(aggregate_attendance, [wrong])

    await lab.run(correct_attendance, correction(wrong, "present"))

    [row] = await lab.rows("select category, minutes_missed, said_at from attendance_day")
    assert (row["category"], row["minutes_missed"], row["said_at"].hour) == ("present", None, 15)
    [audit] = await lab.rows("select old_code, new_code, new_category, reason from attendance_audit")
    assert audit == {
        "old_code": "tardy", "new_code": "present", "new_category": "present", "reason": "a note from home",
    }


async def test_a_mark_made_after_the_correction_stands(lab: HandlerLab) -> None:
    wrong = mark(0, "absent_unexcused", hour=9)
    await lab.run(aggregate_attendance, [wrong, mark(0, "tardy", hour=16)])

    await lab.run(correct_attendance, correction(wrong, "present", hour=15))

    assert await category(lab) == "tardy"


async def test_an_older_correction_that_comes_late_changes_nothing_but_the_record(lab: HandlerLab) -> None:
    wrong = mark(0, "absent_unexcused")
    await lab.run(aggregate_attendance, [wrong])
    await lab.run(correct_attendance, correction(wrong, "present", hour=16))

    await lab.run(correct_attendance, correction(wrong, "tardy", hour=15))

    assert await category(lab) == "present"
    assert await lab.value("select count(*) from attendance_audit") == 2


async def test_a_corrected_class_changes_the_day_that_was_derived_from_it(lab: HandlerLab) -> None:
    classes = [class_mark(period) for period in (1, 2, 3, 4)]
    await lab.run(aggregate_attendance, classes)

    await lab.run(correct_attendance, correction(classes[0], "present"))

    assert await category(lab) == "partial"
    assert await lab.value("select category from attendance_section where period = '1'") == "present"


async def test_a_correction_before_its_mark_waits_for_it(lab: HandlerLab) -> None:
    wrong = mark(0)
    with pytest.raises(NotYet, match="attendance mark"):
        await lab.run(correct_attendance, correction(wrong, "present"))
    assert await lab.value("select count(*) from attendance_audit") == 0

    await lab.deliver([correction(wrong, "present")])
    await lab.deliver([wrong])
    await lab.run_jobs()

    assert await category(lab) == "present"


async def test_a_correction_of_a_class_does_not_hit_the_school_s_day_while_its_mark_is_missing(lab: HandlerLab) -> None:
    await lab.run(aggregate_attendance, [mark(0, "present")])

    with pytest.raises(NotYet):
        await lab.run(correct_attendance, correction(class_mark(1), "absent_excused"))

    assert await category(lab) == "present"


@pytest.mark.parametrize("make", [mark, lambda day, category, hour: class_mark(1, day, category, hour=hour)])
async def test_a_mark_that_another_has_replaced_can_still_be_corrected(lab: HandlerLab, make: Any) -> None:
    first, second = make(0, "absent_unexcused", hour=9), make(0, "tardy", hour=10)
    await lab.run(aggregate_attendance, [first])
    await lab.run(aggregate_attendance, [second])

    await lab.run(correct_attendance, correction(first, "present", hour=15))

    assert await category(lab) == "present"


async def test_a_correction_counts_the_day_in_its_own_school_and_in_the_one_it_was_in(lab: HandlerLab) -> None:
    wrong = mark(0, "present", school=OTHER_SCHOOL)
    await deliver(lab, wrong)

    await deliver(lab, correction(wrong, "present", school_id=SCHOOL))

    rows = await lab.rows("select school_id, present from school_attendance_daily order by school_id")
    assert [(r["school_id"], r["present"]) for r in rows] == [(SCHOOL, 1), (OTHER_SCHOOL, 0)]


# The rate -------------------------------------------------------------------------------------------------------------


async def test_the_rate_is_days_absent_by_school_days_since_enrolment(lab: HandlerLab) -> None:
    await ready(lab, begin=DAYS[2])

    await lab.run(aggregate_attendance, [mark(3), mark(5, "absent_excused"), mark(9, "tardy"), mark(11, "partial")])

    assert await year_to_date(lab) == (10, 2, "0.20000", DAYS[11])


async def test_days_off_the_calendar_are_kept_and_count_for_nothing(lab: HandlerLab) -> None:
    await ready(lab)

    done = await lab.run(aggregate_attendance, [mark(4, "present"), mark(SATURDAY)])

    assert await category(lab, SATURDAY) == "absent_unexcused"
    assert await year_to_date(lab) == (5, 0, "0.00000", DAYS[4])
    assert absences(done) == [(SATURDAY, 1)]


async def test_days_before_the_enrolment_count_for_nothing(lab: HandlerLab) -> None:
    await ready(lab, begin=DAYS[5])

    await lab.run(aggregate_attendance, [mark(4), mark(5), mark(6, "present")])

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[6])


async def test_a_mark_of_a_school_where_the_student_is_unknown_does_not_stop_the_rate(lab: HandlerLab) -> None:
    await ready(lab)

    await lab.run(aggregate_attendance, [mark(4, "present")])
    await lab.run(aggregate_attendance, [mark(9, "present", school=OTHER_SCHOOL)])
    await lab.run(aggregate_attendance, [mark(3)])

    assert await year_to_date(lab) == (5, 1, "0.20000", DAYS[4])


async def test_marks_that_come_before_the_enrolment_are_counted_when_it_comes(lab: HandlerLab) -> None:
    await deliver(lab, session(), mark(0), mark(1, "present"))
    assert await year_to_date(lab) == (None, None, None, None)

    await deliver(lab, enrolment())

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


async def test_an_enrolment_of_an_earlier_school_year_counts_in_the_marked_one(lab: HandlerLab) -> None:
    await deliver(lab, session(), mark(0), mark(1, "present"))

    await deliver(lab, enrolment(date(2021, 6, 15)))

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


@pytest.mark.parametrize("newer_first", [True, False])
async def test_an_enrolment_that_moves_to_a_later_year_leaves_no_rate_in_the_earlier(
    lab: HandlerLab, newer_first: bool
) -> None:
    june = weekdays(5, date(2021, 6, 7))
    await deliver(lab, session([*june, *DAYS]), mark(june[1]), mark(0), mark(1, "present"))
    older = given(enrolment(june[0], enrollment_id=UUID(int=9)), at=NOW - timedelta(days=1))
    newer = given(enrolment(DAYS[0], enrollment_id=UUID(int=9)), at=NOW)

    for event in (newer, older) if newer_first else (older, newer):
        await deliver(lab, event)

    assert await year_to_date(lab, year="2020-2021") == (None, None, None, None)
    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


async def test_marks_that_come_before_the_calendar_are_counted_when_it_comes(lab: HandlerLab) -> None:
    await deliver(lab, enrolment(), mark(0), mark(1, "present"))

    await deliver(lab, session())

    assert await year_to_date(lab) == (2, 1, "0.50000", DAYS[1])


# Thresholds -----------------------------------------------------------------------------------------------------------


async def test_nothing_is_reached_before_the_twentieth_day(lab: HandlerLab) -> None:
    await ready(lab)

    done = await lab.run(aggregate_attendance, [mark(n, "absent_excused") for n in range(19)])

    assert reached(done) == []
    assert await thresholds(lab) == {}


async def test_on_the_twentieth_day_what_was_missed_since_the_first_counts(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.run(aggregate_attendance, [mark(3, "absent_excused"), mark(4)])

    done = await lab.run(aggregate_attendance, [mark(19, "present")])

    [five, ten] = [e for e in done.published if isinstance(e, AttendanceThresholdReached)]
    assert (five.threshold, ten.threshold) == ("at_risk_5", "chronic_10")
    assert (ten.days_enrolled, ten.days_absent, str(ten.rate), ten.as_of) == (20, 2, "0.10000", DAYS[19])
    assert ten.meta.id == str(derive_id(TENANT, STUDENT, YEAR, "chronic_10"))
    assert (await lab.rows("select tier, since from chronic_absence_status")) == [
        {"tier": "chronic_10", "since": DAYS[19]}
    ]


async def test_a_threshold_is_published_once_however_the_rate_goes_on(lab: HandlerLab) -> None:
    await ready(lab)
    published: list[str] = []

    for n in range(60):
        done = await lab.run(aggregate_attendance, [mark(n, "absent_excused" if n % 8 == 0 else "present")])
        published += reached(done)

    assert published == ["at_risk_5", "chronic_10"]
    assert await thresholds(lab) == {"at_risk_5": (20, 3, DAYS[19]), "chronic_10": (20, 3, DAYS[19])}


async def test_a_correction_takes_back_what_is_no_longer_reached_and_the_status_falls(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(1)
    await deliver(lab, mark(0), wrong, mark(19, "present"))

    await deliver(lab, correction(wrong, "present"))

    assert await thresholds(lab) == {"at_risk_5": (20, 1, DAYS[19])}
    assert await lab.value("select retracted_at from attendance_threshold where threshold = 'chronic_10'") == NOW
    assert await lab.value("select tier from chronic_absence_status") == "at_risk_5"
    assert await year_to_date(lab) == (20, 1, "0.05000", DAYS[19])


async def test_with_the_last_threshold_the_status_goes(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(1)
    await deliver(lab, wrong, mark(19, "present"))

    await deliver(lab, correction(wrong, "present"))

    assert await lab.rows("select * from chronic_absence_status") == []


async def test_what_is_reached_again_stands_again_and_is_not_published_again(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(1)
    await deliver(lab, wrong, mark(19, "present"))
    await deliver(lab, correction(wrong, "present", hour=15))

    done = await lab.run(correct_attendance, correction(wrong, "absent_excused", hour=16))

    assert reached(done) == []
    assert (await thresholds(lab)).keys() == {"at_risk_5"}
    assert await lab.value("select tier from chronic_absence_status") == "at_risk_5"


async def test_an_earlier_day_found_absent_moves_the_day_on_which_it_was_reached(lab: HandlerLab) -> None:
    await ready(lab)
    await deliver(lab, mark(18, "present"), mark(29), mark(30), mark(31, "present"))
    assert await thresholds(lab) == {"at_risk_5": (31, 2, DAYS[30])}

    await deliver(lab, mark(2, "absent_excused"))

    assert (await thresholds(lab))["at_risk_5"] == (20, 1, DAYS[19])


async def test_an_earlier_begin_of_the_enrolment_changes_the_days_of_a_threshold_too(lab: HandlerLab) -> None:
    await ready(lab, begin=DAYS[5])
    await deliver(lab, *(mark(n) for n in range(25, 30)))
    assert (await thresholds(lab))["chronic_10"] == (23, 3, DAYS[27])

    await deliver(lab, enrolment(DAYS[4], id="earlier"))

    assert (await thresholds(lab))["chronic_10"] == (24, 3, DAYS[27])


# What follows a threshold ---------------------------------------------------------------------------------------------


async def test_a_reached_threshold_is_an_alert_a_letter_a_notice_and_a_look_at_the_student(lab: HandlerLab) -> None:
    await ready(lab)
    done = await lab.run(aggregate_attendance, [mark(0), mark(1), mark(19, "present")])
    [_, chronic] = [e for e in done.published if isinstance(e, AttendanceThresholdReached)]

    followed = await lab.run(follow_up_threshold, chronic)

    [alert] = await lab.rows("select alert_id, kind, severity, detail, resolved_at from student_alerts")
    assert (alert["kind"], alert["severity"], alert["detail"]) == (
        "attendance_threshold", "high", f"{YEAR} chronic_10",
    )
    assert [type(job) for job in followed.enqueued] == [DetectRisk, AttendanceLetter, DeliverNotification]
    [look], [letter], [notice] = map(followed.orders_of, (DetectRisk, AttendanceLetter, DeliverNotification))
    assert (look.delay, look.coalesce is None) == (SOON, False)
    assert letter.job == AttendanceLetter(student_id=STUDENT, school_year=YEAR, threshold="chronic_10")
    assert isinstance(notice.job, DeliverNotification)
    assert (notice.job.recipient_role, notice.job.template) == ("staff_of", "attendance.threshold")
    assert notice.priority == NORMAL


async def test_the_same_threshold_again_orders_nothing_new(lab: HandlerLab) -> None:
    await ready(lab)
    done = await lab.run(aggregate_attendance, [mark(0), mark(19, "present")])
    [event] = [e for e in done.published if isinstance(e, AttendanceThresholdReached)]
    another = AttendanceThresholdReached(**event.model_dump())

    first = await lab.run(follow_up_threshold, given(another))
    second = await lab.run(follow_up_threshold, given(another))

    for job in (AttendanceLetter, DeliverNotification):
        assert [o.id for o in first.orders_of(job)] == [o.id for o in second.orders_of(job)]
    assert first.orders_of(DetectRisk)[0].coalesce == second.orders_of(DetectRisk)[0].coalesce
    assert await lab.value("select count(*) from student_alerts") == 1


async def test_an_alert_stands_as_long_as_its_threshold_does(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(0)
    done = await lab.run(aggregate_attendance, [wrong, mark(19, "present")])
    await lab.run(correct_attendance, correction(wrong, "present", hour=15))

    [event] = [e for e in done.published if isinstance(e, AttendanceThresholdReached)]
    await lab.run(follow_up_threshold, event)
    assert await lab.value("select resolved_at from student_alerts") == NOW
    assert await lab.rows("select * from chronic_absence_status") == []

    await lab.run(correct_attendance, correction(wrong, "absent_unexcused", hour=16))
    assert await lab.value("select resolved_at from student_alerts") is None


# StudentAbsent --------------------------------------------------------------------------------------------------------


async def test_an_unexcused_day_is_told_once(lab: HandlerLab) -> None:
    first = await lab.run(aggregate_attendance, [mark(0, hour=9)])
    again = await lab.run(aggregate_attendance, [mark(0, hour=10)])

    [event] = first.published
    assert isinstance(event, StudentAbsent)
    assert (event.date, event.school_id, event.excused, event.meta.tenant) == (DAYS[0], SCHOOL, False, TENANT)
    assert event.meta.id == str(derive_id(TENANT, STUDENT, DAYS[0], "absent"))
    assert again.published == []


@pytest.mark.parametrize("category", ["present", "absent_excused", "tardy", "partial", "early_departure"])
async def test_other_days_are_not_told(lab: HandlerLab, category: Any) -> None:
    done = await lab.run(aggregate_attendance, [mark(0, category)])

    assert done.published == []


async def test_a_chunk_whose_last_mark_of_the_day_is_an_older_present_one_still_tells(lab: HandlerLab) -> None:
    done = await lab.run(aggregate_attendance, [mark(0, hour=10), mark(0, "present", hour=9)])

    assert absences(done) == [(DAYS[0], 1)]


async def test_classes_that_make_a_day_absent_tell_it(lab: HandlerLab) -> None:
    done = await lab.run(aggregate_attendance, [class_mark(period) for period in range(1, 5)])

    assert absences(done) == [(DAYS[0], 1)]


async def test_a_correction_to_unexcused_tells_it(lab: HandlerLab) -> None:
    wrong = mark(0, "absent_excused")
    await lab.run(aggregate_attendance, [wrong])

    done = await lab.run(correct_attendance, correction(wrong, "absent_unexcused"))

    assert absences(done) == [(DAYS[0], 1)]


async def test_consecutive_days_are_school_days_across_a_weekend(lab: HandlerLab) -> None:
    await ready(lab)

    done = await lab.run(aggregate_attendance, [mark(n) for n in (3, 4, 5, 7)])

    assert absences(done) == [(DAYS[3], 1), (DAYS[4], 2), (DAYS[5], 3), (DAYS[7], 1)]


async def test_two_school_years_in_one_chunk_are_not_one_run(lab: HandlerLab) -> None:
    july = [date(2022, 7, 4), date(2022, 7, 5), date(2022, 7, 6)]
    lab.now = datetime(2022, 7, 10, tzinfo=UTC)
    await lab.deliver([session(), session(july, title="summer")])

    done = await lab.run(aggregate_attendance, [mark(0), mark(1), mark(july[2])])

    assert absences(done) == [(DAYS[0], 1), (DAYS[1], 2), (july[2], 1)]


# Notices and truancy --------------------------------------------------------------------------------------------------


async def absent(lab: HandlerLab, *days: int) -> list[StudentAbsent]:
    done = await lab.run(aggregate_attendance, [mark(n) for n in days])
    return [e for e in done.published if isinstance(e, StudentAbsent)]


async def test_the_family_is_told_after_the_grace_for_corrections(lab: HandlerLab) -> None:
    await ready(lab)
    [event] = await absent(lab, 0)

    done = await lab.run(notify_of_absence, event)

    [order] = done.orders
    assert isinstance(order.job, DeliverNotification)
    assert (order.job.recipient_role, order.job.template, order.job.recipient_id) == (
        "guardians_of", "attendance.absent", STUDENT,
    )
    assert (order.delay, order.priority) == (timedelta(minutes=10), NORMAL)
    assert await standing_notices(lab) == [DAYS[0]]


async def test_a_second_event_of_the_same_day_tells_nobody_again(lab: HandlerLab) -> None:
    await ready(lab)
    [event] = await absent(lab, 0)
    another = StudentAbsent(**event.model_dump())

    first, second = [await lab.run(notify_of_absence, given(another)) for _ in range(2)]

    assert [o.id for o in first.orders] == [o.id for o in second.orders]
    assert await lab.value("select count(*) from absence_notices") == 1


async def test_a_family_is_told_whether_or_not_the_school_has_sent_a_calendar(lab: HandlerLab) -> None:
    [event] = await absent(lab, 0)

    done = await lab.run(notify_of_absence, event)

    assert len(done.orders) == 1
    assert await standing_notices(lab) == [DAYS[0]]
    assert await lab.value("select count(*) from truancy_cases") == 0


async def test_a_correction_takes_the_notice_back_and_another_gives_it_again(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(0)
    await deliver(lab, wrong)

    await deliver(lab, correction(wrong, "present", hour=15))
    assert await standing_notices(lab) == []
    assert await lab.value("select retracted_at from absence_notices") == NOW

    await deliver(lab, correction(wrong, "absent_unexcused", hour=16))
    assert await standing_notices(lab) == [DAYS[0]]


async def test_a_newer_mark_takes_the_notice_back_too(lab: HandlerLab) -> None:
    await ready(lab)
    await deliver(lab, mark(0, hour=9))

    await deliver(lab, mark(0, "tardy", hour=11))

    assert await standing_notices(lab) == []


async def test_a_notice_of_a_day_that_was_corrected_before_it_arrived_does_not_stand(lab: HandlerLab) -> None:
    await ready(lab)
    wrong = mark(0)
    done = await lab.run(aggregate_attendance, [wrong])
    await lab.run(correct_attendance, correction(wrong, "present"))

    await lab.run(notify_of_absence, [e for e in done.published if isinstance(e, StudentAbsent)])

    assert await standing_notices(lab) == []


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ([0, 1], []),  # two days are no case
        ([0, 1, 2], [(0, 2, 3)]),  # three are
        ([3, 4, 5], [(3, 5, 3)]),  # Thursday, Friday, Monday
        ([0, 1, 3, 4], []),  # a day in between
        ([0, 1, 2, 4, 5, 6, 7], [(0, 2, 3), (4, 7, 4)]),  # two runs are two cases
    ],
)
async def test_three_unexcused_school_days_in_a_row_are_a_case(
    lab: HandlerLab, days: list[int], found: list[tuple[int, int, int]]
) -> None:
    await ready(lab)

    await deliver(lab, *(mark(n) for n in days), mark(30, "absent_excused"), mark(31, "absent_excused"))

    assert await cases(lab) == found


async def test_the_day_between_two_cases_makes_them_one_and_its_correction_two_again(lab: HandlerLab) -> None:
    await ready(lab)
    await deliver(lab, *(mark(n) for n in (0, 1, 2, 4, 5, 6)))
    assert await cases(lab) == [(0, 2, 3), (4, 6, 3)]
    between = mark(3)

    await deliver(lab, between)
    assert await cases(lab) == [(0, 6, 7)]

    await deliver(lab, correction(between, "absent_excused"))
    assert await cases(lab) == [(0, 2, 3), (4, 6, 3)]


async def test_a_calendar_that_comes_in_parts_makes_a_run_whole(lab: HandlerLab) -> None:
    await ready(lab, days=DAYS[:2])
    await deliver(lab, *(mark(n) for n in (0, 1, 2)))
    assert await cases(lab) == []

    await deliver(lab, session(DAYS[2:10], title="second"))

    assert await cases(lab) == [(0, 2, 3)]


async def test_a_holiday_added_to_the_calendar_closes_the_gap_of_a_run(lab: HandlerLab) -> None:
    await ready(lab)
    await deliver(lab, *(mark(n) for n in (0, 1, 3)))
    assert await cases(lab) == []

    await deliver(lab, session([d for d in DAYS if d != DAYS[2]], said=NOW))

    assert await cases(lab) == [(0, 3, 3)]


# The school's day -----------------------------------------------------------------------------------------------------


async def test_each_school_and_day_of_a_chunk_is_counted_once_soon(lab: HandlerLab) -> None:
    marks = [mark(day, "present", student=UUID(int=n)) for day in (0, 1) for n in range(1, 40)]

    done = await lab.run(aggregate_attendance, [*marks, mark(0, "present", student=UUID(int=50), school=OTHER_SCHOOL)])

    orders = done.orders_of(SchoolDay)
    assert {(o.job.school_id, o.job.day) for o in orders if isinstance(o.job, SchoolDay)} == {
        (SCHOOL, DAYS[0]), (SCHOOL, DAYS[1]), (OTHER_SCHOOL, DAYS[0]),
    }
    assert len(orders) == 3
    assert all(o.delay == SOON and o.coalesce for o in orders)


async def test_a_day_that_moves_to_another_school_is_counted_in_both(lab: HandlerLab) -> None:
    await deliver(lab, mark(0, "present", hour=9))

    await deliver(lab, mark(0, "present", hour=10, school=OTHER_SCHOOL))

    rows = await lab.rows("select school_id, present from school_attendance_daily order by school_id")
    assert [(r["school_id"], r["present"]) for r in rows] == [(SCHOOL, 0), (OTHER_SCHOOL, 1)]
