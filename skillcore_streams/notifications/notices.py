"""Every notice there is, one entry each; its texts are in templates/<name>/<language>/.

An entry says where the notice's facts stand. They are read when it is sent, not when it is ordered: a look-up that
finds no row means that what was to be said no longer holds, and then nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

EVERYWHERE = frozenset({"app", "link", "school"})
"""Variables of every channel. SMS and push get no others: what tells something of a student is an education record
(34 CFR 99.3), and a lock screen is anybody's to read."""

DAYS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Notice:
    """How one kind of notice is handled.

    Args:
        name: as the orders name it; the folder of its texts.
        category: what people opt out of.
        facts: variables of e-mail text, columns of the look-up; None of a notice whose variables come with its order.
        lookup: SQL. $1 is the tenant; what follows is named by `by`. Column `about` is the student it tells of: who
            may not hear of this student is asked for every recipient.
        channels: in order; the first usable one is taken, the next when it fails.
        staff: roles that "staff of" means here.
        lives: how long after its order it is worth sending.
        on_doubt: nobody knows whether it arrived: say it again, or stop for a person?
        mandatory: the law wants it said; an opt-out of the category does not count.
        emergency: every channel at once, at any hour.
    """

    name: str
    category: str
    facts: frozenset[str]
    lookup: str | None = None
    by: tuple[Literal["subject", "notification", "recipient"], ...] = ("subject",)
    channels: tuple[str, ...] = ("email", "push", "sms")
    staff: frozenset[str] = frozenset({"teacher"})
    lives: timedelta = 3 * DAYS
    on_doubt: Literal["resend", "stop"] = "resend"
    mandatory: bool = False
    emergency: bool = False


def _of_student(table: str, where: str, columns: str = "", joins: str = "") -> str:
    """A look-up of one row about a student, with the student's given name and school."""
    return f"""
    select x.student_id as about, coalesce(s.given_name, '') as student, coalesce(o.name, '') as school{columns}
      from {table} x
      left join user_profiles s on s.tenant_id = x.tenant_id and s.user_id = x.student_id
      left join lateral (select m.school_id from student_membership m
                          where m.tenant_id = x.tenant_id and m.student_id = x.student_id
                          order by m.begin_date desc, m.school_id limit 1) at on true
      left join orgs o on o.tenant_id = x.tenant_id and o.org_id = at.school_id{joins}
     where x.tenant_id = $1 and {where}"""  # noqa: S608 - our own constants


CLASS = ", coalesce(c.title, '') as class_title"


def _class(on: str) -> str:
    return f"\n      left join classes c on c.tenant_id = x.tenant_id and c.class_id = {on}"


_ALERT = _of_student(
    "student_alerts", "x.alert_id = $2 and x.resolved_at is null", CLASS, _class("x.detail::uuid")
)
_REVIEW = _of_student(
    "reminder_log", """x.event_key = $2
       and not exists (select from compliance_deadlines d
                        where d.tenant_id = x.tenant_id and d.student_id = x.student_id and d.subject_id = x.iep_id
                          and d.kind = case x.review_type when 'annual' then 'annual_review' else x.review_type end
                          and d.due_date = x.due_date and d.closed_on is not null)""",
    ", x.due_date, x.days_remaining, x.review_type, x.scheduled_for",
)


def _acknowledge(plan: str) -> str:
    return _of_student(
        "accommodation_acks", f"x.plan = '{plan}' and x.plan_id = $2 and x.teacher_id = $3 "
        "and x.acknowledged_at is null and x.withdrawn_at is null order by x.requested_at desc limit 1",
    )


def _notice(name: str, category: str, *facts: str, **more: object) -> Notice:
    return Notice(name, category, frozenset(facts) | {"school"}, **more)  # type: ignore[arg-type]


OFFICE = frozenset({"counselor", "principal"})

NOTICES = {notice.name: notice for notice in (
    _notice(
        "attendance.absent", "attendance", "student", "day", channels=("sms", "push", "email"), lives=DAYS,
        lookup=_of_student("absence_notices", "x.event_key = $2 and x.retracted_at is null", ", x.day"),
    ),
    _notice(
        "attendance.threshold", "attendance", "student", "school_year", "threshold", staff=OFFICE, by=("notification",),
        lookup=_of_student(
            "student_alerts", "x.alert_id = $2 and x.resolved_at is null",
            ", split_part(x.detail, ' ', 1) as school_year, split_part(x.detail, ' ', 2) as threshold"),
    ),
    _notice("grading.failing_grade", "grades", "student", "class_title", lookup=_ALERT, staff=frozenset({"counselor"})),
    _notice("grading.grade_drop", "grades", "student", "class_title", lookup=_ALERT, staff=frozenset({"counselor"})),
    _notice(
        "grading.late_change", "grades", "student", "class_title", staff=frozenset({"principal"}),
        lookup=_of_student("grade_audit", "x.event_key = $2", CLASS, _class("x.class_id")),
    ),
    _notice(
        "grading.assignment_due", "grades", "title", "due_at", "class_title", channels=("push", "email"), lives=DAYS,
        by=("subject", "recipient"), lookup="""
    select null::uuid as about, x.title, x.due_at, coalesce(c.title, '') as class_title, coalesce(o.name, '') as school
      from assignments x
      left join classes c on c.tenant_id = x.tenant_id and c.class_id = x.class_id
      left join orgs o on o.tenant_id = x.tenant_id and o.org_id = c.school_id
     where x.tenant_id = $1 and x.assignment_id = $2 and x.deleted_at is null and x.published
       and ($3::uuid is null or not exists (
            select from student_assignments w where w.tenant_id = $1 and w.class_id = x.class_id and w.student_id = $3
               and w.assignment_id = $2 and w.status <> 'assigned'))""",
    ),
    _notice(
        "grading.period_closes", "grades", "title", "end_date", lookup="""
    select null::uuid as about, x.title, x.end_date, coalesce(o.name, '') as school
      from academic_sessions x left join orgs o on o.tenant_id = x.tenant_id and o.org_id = x.school_id
     where x.tenant_id = $1 and x.session_id = $2""",
    ),
    _notice(
        "roster.student_enrolled", "roster", "student", "class_title", "begin_date", lookup=_of_student(
            "enrollments", "x.enrollment_id = $2 and x.end_date is null", CLASS + ", x.begin_date",
            _class("x.class_id")),
    ),
    _notice(
        "roster.teacher_assigned", "roster", "class_title", "begin_date", lookup="""
    select null::uuid as about, coalesce(c.title, '') as class_title, x.begin_date, coalesce(o.name, '') as school
      from class_staff x
      left join classes c on c.tenant_id = x.tenant_id and c.class_id = x.class_id
      left join orgs o on o.tenant_id = x.tenant_id and o.org_id = c.school_id
     where x.tenant_id = $1 and x.assignment_id = $2""",
    ),
    _notice(
        "user.welcome", "account", "name", lives=14 * DAYS, on_doubt="stop", lookup="""
    select null::uuid as about, x.given_name as name, coalesce((
               select o.name from jsonb_array_elements(x.roles) r
                 join orgs o on o.tenant_id = x.tenant_id and o.org_id = (r->>'org_id')::uuid limit 1), '') as school
      from user_profiles x where x.tenant_id = $1 and x.user_id = $2 and x.deactivated_on is null""",
    ),
    _notice(
        "guardian.verify_contact", "account", mandatory=True, channels=("email", "sms"), lookup="""
    select null::uuid as about, '' as school from guardians x
     where x.tenant_id = $1 and x.guardian_id = $2
       and exists (select from contact_points c where c.tenant_id = $1 and c.owner = 'guardian' and c.owner_id = $2
                      and not c.verified)""",
    ),
    _notice(
        "iep.created", "programs", "student", "begin_date",
        lookup=_of_student("ieps", "x.iep_id = $2", ", x.begin_date"),
    ),
    _notice("iep.review_due", "programs", "student", "due_date", "days_remaining", "review_type", lookup=_REVIEW),
    _notice(
        "iep.meeting_notice", "programs", "student", "due_date", "scheduled_for", "review_type", lookup=_REVIEW,
        mandatory=True, lives=14 * DAYS,  # 34 CFR 300.322(a)(1): early enough that parents can take part
    ),
    _notice(
        "iep.acknowledge", "programs", "student", lookup=_acknowledge("iep"), by=("subject", "recipient"),
        mandatory=True,
    ),
    _notice(
        "section504.acknowledge", "programs", "student", lookup=_acknowledge("504"), by=("subject", "recipient"),
        mandatory=True,
    ),
    _notice(
        "section504.activated", "programs", "student", "begin_date",
        lookup=_of_student("section504_plans", "x.plan_id = $2", ", x.begin_date"),
    ),
    _notice(
        "report.ready", "reports", "kind", "expires", channels=("email", "push"), lives=14 * DAYS, lookup="""
    select null::uuid as about, replace(x.kind, '_', ' ') as kind, x.expires_at::date as expires, '' as school
      from report_artifacts x where x.tenant_id = $1 and x.report_id = $2""",
    ),
    # The old system's, whose facts come with the order.
    _notice("digest.grades", "grades", "student", "day", "grades", channels=("email",)),
    _notice("student.inactive", "account", "student", "last_login", "missed"),
    _notice("message.plain", "messages", "subject", "message", channels=("email",)),
)}  # fmt: skip
