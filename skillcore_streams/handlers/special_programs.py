"""Special programs: IEPs and Section 504 plans, their reviews, and the services they promise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from typing import Any, Literal
from uuid import UUID

from skillcore_streams.events.interventions import InterventionAssigned
from skillcore_streams.events.special_programs import (
    IEPAmended,
    IEPCreated,
    IEPGoalAdded,
    IEPReviewScheduled,
    IEPServiceDelivered,
    Section504PlanActivated,
)
from skillcore_streams.queues.compliance_reporting import (
    SOON,
    AcknowledgeAccommodations,
    ServiceMinutes,
    Student,
    Week,
    settle_acknowledgements,
    settle_all_weeks,
    settle_weeks,
    zones_of,
)
from skillcore_streams.queues.intervention_detection import DetectRisk
from skillcore_streams.queues.notification_delivery import NORMAL, DeliverNotification
from skillcore_streams.rules.special_programs import (
    Cycle,
    Said504,
    aim_line_slope,
    annual_reviews,
    furthest,
    reviews_told_of,
    section504_reviews,
    week_of,
)
from skillcore_streams.runtime import Context, derive_id, on
from skillcore_streams.runtime.messages import Message

DEADLINES = {"annual": "annual_review", "triennial": "triennial"}
"""Kind of compliance deadline, by the type of review; an amendment's meeting has none."""

# Made or locked first, in key order: a retried call or a job may run beside a chunk, and whoever comes second must see
# what the first one did. `where false` locks a row without writing it anew.
HOLD_PROGRAMS = """
    insert into program_caseload as c (tenant_id, student_id)
    select * from unnest($1::text[], $2::uuid[])
    on conflict (tenant_id, student_id) do update set iep_id = c.iep_id where false"""

SAVE_IEP = """
    insert into ieps as i (tenant_id, student_id, iep_id, disability_category, begin_date, end_date, annual_review_due,
                           triennial_due, coordinator_id, case_manager_id, setting, services, said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict (tenant_id, student_id, iep_id) do update
       set disability_category = excluded.disability_category, begin_date = excluded.begin_date,
           end_date = excluded.end_date, annual_review_due = excluded.annual_review_due,
           triennial_due = excluded.triennial_due, coordinator_id = excluded.coordinator_id,
           case_manager_id = excluded.case_manager_id, setting = excluded.setting, services = excluded.services,
           said_at = excluded.said_at, said_by = excluded.said_by
     where (i.said_at, i.said_by) < (excluded.said_at, excluded.said_by)
    returning true"""

SAVE_CASELOAD = """
    update program_caseload c
       set iep_id = i.iep_id, coordinator_id = i.coordinator_id, case_manager_id = i.case_manager_id
      from (select iep_id, coordinator_id, case_manager_id from ieps where tenant_id = $1 and student_id = $2
             order by begin_date desc, said_at desc, iep_id desc limit 1) i
     where c.tenant_id = $1 and c.student_id = $2"""

SAVE_GOAL = """
    insert into iep_goals as g (tenant_id, student_id, goal_id, iep_id, domain, description, baseline, target,
                                measurement, start_date, target_date, aim_line_slope, interventionist_id, said_at,
                                said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
            (select case_manager_id from ieps where tenant_id = $1 and student_id = $2 and iep_id = $4), $13, $14)
    on conflict (tenant_id, student_id, goal_id) do update
       set iep_id = excluded.iep_id, domain = excluded.domain, description = excluded.description,
           baseline = excluded.baseline, target = excluded.target, measurement = excluded.measurement,
           start_date = excluded.start_date, target_date = excluded.target_date,
           aim_line_slope = excluded.aim_line_slope, interventionist_id = excluded.interventionist_id,
           said_at = excluded.said_at, said_by = excluded.said_by
     where (g.said_at, g.said_by) < (excluded.said_at, excluded.said_by)
    returning g.*"""

# Goals that came before their IEP, or whose IEP has another case manager now.
HAND_OVER_GOALS = """
    update iep_goals set interventionist_id = $4
     where tenant_id = $1 and student_id = $2 and iep_id = $3 and interventionist_id is distinct from $4
    returning *"""

LOG_REMINDER = """
    insert into reminder_log (tenant_id, student_id, iep_id, review_type, due_date, stage, days_remaining,
                              scheduled_for, event_key)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict do nothing
    returning true"""

SAVE_VERSION = """
    insert into iep_versions as v (tenant_id, student_id, iep_id, version, effective_date, review_completed_on,
                                   snapshot, said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id, student_id, iep_id, version) do update
       set effective_date = excluded.effective_date, review_completed_on = excluded.review_completed_on,
           snapshot = excluded.snapshot, said_at = excluded.said_at, said_by = excluded.said_by
     where (v.said_at, v.said_by) < (excluded.said_at, excluded.said_by)
    returning true"""

IS_AMENDED = "select 1 from iep_versions where tenant_id = $1 and student_id = $2 limit 1"

SAVE_ACTIVATION = """
    insert into section504_versions (tenant_id, student_id, plan_id, said_at, said_by, begin_date, review_due,
                                     review_completed_on)
    values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict do nothing
    returning true"""

SAVE_PLAN = """
    insert into section504_plans as p (tenant_id, student_id, plan_id, begin_date, review_due, impairment,
                                       coordinator_id, said_at, said_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant_id, student_id, plan_id) do update
       set begin_date = excluded.begin_date, review_due = excluded.review_due, impairment = excluded.impairment,
           coordinator_id = excluded.coordinator_id, said_at = excluded.said_at, said_by = excluded.said_by
     where (p.said_at, p.said_by) < (excluded.said_at, excluded.said_by)
    returning true"""

FORGET_ACCOMMODATIONS = "delete from accommodations where tenant_id = $1 and student_id = $2 and plan_id = $3"

SAVE_ACCOMMODATIONS = """
    insert into accommodations (tenant_id, student_id, plan_id, n, code, description, settings)
    select $1, $2, $3, t.n, t.code, t.description, t.settings
      from unnest($4::text[], $5::text[], $6::text[]) with ordinality as t (code, description, settings, n)"""

LOGGED_BEFORE = """
    select l.tenant_id, l.student_id, l.service_log_id, l.started_at
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as t (tenant_id, student_id, service_log_id)
      join service_logs l using (tenant_id, student_id, service_log_id)"""

SAVE_LOGS = """
    insert into service_logs as l (tenant_id, student_id, service_log_id, iep_id, service_type, provider_id, started_at,
                                   minutes, delivery, missed_reason, said_at, said_by)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::timestamptz[],
                         $8::int[], $9::text[], $10::text[], $11::timestamptz[], $12::uuid[])
    on conflict (tenant_id, student_id, service_log_id) do update
       set iep_id = excluded.iep_id, service_type = excluded.service_type, provider_id = excluded.provider_id,
           started_at = excluded.started_at, minutes = excluded.minutes, delivery = excluded.delivery,
           missed_reason = excluded.missed_reason, said_at = excluded.said_at, said_by = excluded.said_by
     where (l.said_at, l.said_by) < (excluded.said_at, excluded.said_by)"""


@on(IEPCreated, name="CoordinatorNotificationHandler")
async def create_iep(event: IEPCreated, ctx: Context) -> None:
    """The plan, who answers for it, and by when it must be looked at again; its services are the weeks' mandate."""
    tenant, student = ctx.tenant, event.student_id
    await hold_programs(ctx, [(tenant, student)])
    saved = await ctx.db.fetchval(
        SAVE_IEP, tenant, student, event.iep_id, event.disability_category, event.begin_date, event.end_date,
        event.annual_review_due, event.triennial_due, event.coordinator_id, event.case_manager_id, event.setting,
        json.dumps([service.model_dump() for service in event.services]), event.meta.time, event.meta.key,
    )
    if not saved:
        return  # a newer word on this IEP is known
    await ctx.db.execute(SAVE_CASELOAD, tenant, student)
    await settle_iep_deadlines(ctx, student)
    await settle_all_weeks(ctx, [student])
    for goal in await ctx.db.fetch(HAND_OVER_GOALS, tenant, student, event.iep_id, event.case_manager_id):
        ctx.publish(intervention(goal))
    if await ctx.db.fetchval(IS_AMENDED, tenant, student):
        await ask_teachers(ctx, student)  # for how long an amendment is to be known depends on its IEP and the next one
    for recipient in sorted({event.coordinator_id, event.case_manager_id or event.coordinator_id}):
        _notify(ctx, "iep.created", recipient, subject=event.iep_id, occasion=(event.iep_id,))


@on(IEPGoalAdded, name="IEPInterventionHandler")
async def add_goal(event: IEPGoalAdded, ctx: Context) -> None:
    """Keep the goal with its aim line, which begins on the day of the event, and assign the intervention it asks for.

    While the IEP is not known, nobody is named to carry it out: the IEP names its case manager when it comes.
    """
    tenant, student = ctx.tenant, event.student_id
    start = min(event.meta.time.date(), event.target_date)
    await hold_programs(ctx, [(tenant, student)])
    goal = await ctx.db.fetchrow(
        SAVE_GOAL, tenant, student, event.goal_id, event.iep_id, event.domain, event.description, event.baseline,
        event.target, event.measurement, start, event.target_date,
        aim_line_slope(event.baseline, event.target, start, event.target_date), event.meta.time, event.meta.key,
    )
    if goal is None:
        return
    ctx.publish(intervention(goal))
    ctx.enqueue(DetectRisk(student_id=student), debounce=SOON)


@on(IEPReviewScheduled, name="IEPReviewReminderHandler")
async def remind_of_review(event: IEPReviewScheduled, ctx: Context) -> None:
    """Each stage of a review is told once: to the team, and to the guardians as notice of the meeting.

    34 CFR 300.322(a)(1): parents are told early enough to have an opportunity to attend.
    """
    tenant, student = ctx.tenant, event.student_id
    await hold_programs(ctx, [(tenant, student)])
    new = await ctx.db.fetchval(
        LOG_REMINDER, tenant, student, event.iep_id, event.review_type, event.due_date, event.stage,
        event.days_remaining, event.scheduled_for, event.meta.key,
    )
    if not new:
        return
    await settle_iep_deadlines(ctx, student)
    occasion = event.iep_id, event.review_type, event.due_date, event.stage
    for member in sorted(set(event.team_member_ids)):
        _notify(ctx, "iep.review_due", member, subject=event.meta.key, occasion=occasion)
    for guardian in sorted(set(event.guardian_ids)):
        _notify(ctx, "iep.meeting_notice", guardian, "guardian", subject=event.meta.key, occasion=occasion)


@on(IEPAmended, name="IEPAmendmentHandler")
async def amend_iep(event: IEPAmended, ctx: Context) -> None:
    """A version of the IEP: its deadlines follow from all versions, and the student's teachers must acknowledge it."""
    tenant, student = ctx.tenant, event.student_id
    await hold_programs(ctx, [(tenant, student)])
    saved = await ctx.db.fetchval(
        SAVE_VERSION, tenant, student, event.iep_id, event.version, event.effective_date, event.review_completed_on,
        event.model_dump_json(), event.meta.time, event.meta.key,
    )
    if saved:
        await settle_iep_deadlines(ctx, student)
        await ask_teachers(ctx, student)


@on(IEPServiceDelivered, name="IEPServiceMinutesHandler")
async def log_services(events: list[IEPServiceDelivered], ctx: Context) -> None:
    """Keep what was delivered; recompute the weeks it touched. A session that was missed delivers nothing."""
    by_time = sorted(events, key=lambda e: (e.meta.time, e.meta.key))
    rows = [e for _, e in sorted({(e.meta.tenant, e.student_id, e.service_log_id): e for e in by_time}.items())]
    causes: dict[Student, IEPServiceDelivered] = {(e.meta.tenant, e.student_id): e for e in rows}
    await hold_programs(ctx, causes)
    zones = await zones_of(ctx, causes)
    ids = [e.meta.tenant for e in rows], [e.student_id for e in rows], [e.service_log_id for e in rows]
    weeks: dict[Week, Message | None] = {}
    for before in await ctx.db.fetch(LOGGED_BEFORE, *ids):  # an entry that is corrected may leave its week
        student = before["tenant_id"], before["student_id"]
        weeks[*student, week_of(before["started_at"], zones[student])] = causes[student]
    await ctx.db.execute(
        SAVE_LOGS, *ids,
        [e.iep_id for e in rows], [e.service_type for e in rows], [e.provider_id for e in rows],
        [e.started_at for e in rows], [e.minutes for e in rows], [e.delivery for e in rows],
        [e.missed_reason for e in rows], [e.meta.time for e in rows], [e.meta.key for e in rows],
    )
    for event in rows:
        student = event.meta.tenant, event.student_id
        weeks[*student, week_of(event.started_at, zones[student])] = event
    await settle_weeks(ctx, weeks, zones)
    for (_, student_id), event in causes.items():
        ctx.enqueue(ServiceMinutes(student_id=student_id), cause=event, debounce=SOON)


@on(Section504PlanActivated, name="Section504PlanHandler")
async def activate_plan(event: Section504PlanActivated, ctx: Context) -> None:
    """The plan as it was said last, its reviews from all that was said, and teachers who must acknowledge it."""
    tenant, student, said_at, key = ctx.tenant, event.student_id, event.meta.time, event.meta.key
    plan = tenant, student, event.plan_id
    await hold_programs(ctx, [(tenant, student)])
    new = await ctx.db.fetchval(
        SAVE_ACTIVATION, *plan, said_at, key, event.begin_date, event.review_due, event.review_completed_on
    )
    if not new:
        return
    stands = await ctx.db.fetchval(
        SAVE_PLAN, *plan, event.begin_date, event.review_due, event.impairment, event.coordinator_id, said_at, key
    )
    await settle_504_deadlines(ctx, student)
    if not stands:
        return
    await ctx.db.execute(FORGET_ACCOMMODATIONS, *plan)
    await ctx.db.execute(
        SAVE_ACCOMMODATIONS, *plan, [a.code for a in event.accommodations],
        [a.description for a in event.accommodations], [a.settings for a in event.accommodations],
    )
    await ask_teachers(ctx, student)
    _notify(ctx, "section504.activated", event.coordinator_id, subject=event.plan_id, occasion=(event.plan_id, key))


# The steps they share -------------------------------------------------------------------------------------------------


async def hold_programs(ctx: Context, students: Iterable[Student]) -> None:
    """Lock the students' programs until COMMIT, before anything of them is read or written."""
    asked = sorted(set(students))
    await ctx.db.execute(HOLD_PROGRAMS, [tenant for tenant, _ in asked], [student for _, student in asked])


async def ask_teachers(ctx: Context, student: UUID) -> None:
    """Teachers we know of are asked at once. The job asks those whose assignment is being written at this moment."""
    await settle_acknowledgements(ctx, [student])
    ctx.enqueue(AcknowledgeAccommodations(student_id=student), debounce=SOON)


def intervention(goal: Any) -> InterventionAssigned:
    """What an IEP's goal asks for, from a row of iep_goals: support of the highest tier until the goal's date."""
    return InterventionAssigned(
        intervention_id=derive_id(goal["goal_id"]), student_id=goal["student_id"], tier=3,
        program=f"IEP goal, {goal['domain']}", goal=goal["description"], metric=goal["measurement"],
        baseline=goal["baseline"], target=goal["target"], start_date=goal["start_date"], end_date=goal["target_date"],
        interventionist_id=goal["interventionist_id"], source="iep_goal",
    )


def _notify(
    ctx: Context, template: str, recipient: UUID, role: Literal["user", "guardian"] = "user", *, subject: UUID,
    occasion: tuple[object, ...],
) -> None:
    """One person hears of one occasion once."""
    ctx.enqueue(
        DeliverNotification(
            notification_id=derive_id(ctx.tenant, template, *occasion, recipient), recipient_id=recipient,
            recipient_role=role, template=template, subject_id=subject,
        ),
        priority=NORMAL,
        unique=":".join(map(str, (template, *occasion, recipient))),
    )


# Deadlines, derived from all that was said ----------------------------------------------------------------------------

IEPS = """
    select iep_id, begin_date, annual_review_due, triennial_due, coalesce(case_manager_id, coordinator_id) as owner_id
      from ieps where tenant_id = $1 and student_id = $2
     order by begin_date, said_at, iep_id"""

COMPLETED = """
    select iep_id, review_completed_on from iep_versions
     where tenant_id = $1 and student_id = $2 and review_completed_on is not null"""

TOLD = "select iep_id, review_type, due_date, stage from reminder_log where tenant_id = $1 and student_id = $2"

PLANS = """
    select plan_id, begin_date, coordinator_id from section504_plans where tenant_id = $1 and student_id = $2
     order by begin_date, said_at, plan_id"""

ACTIVATIONS = """
    select plan_id, begin_date, review_due, review_completed_on from section504_versions
     where tenant_id = $1 and student_id = $2
     order by said_at, said_by"""

# A row that nothing speaks of any more: a begin that was corrected, a review that was not held after all.
FORGET_DEADLINES = """
    delete from compliance_deadlines d
     where tenant_id = $1 and student_id = $2 and kind = any($3::text[])
       and not exists (select from unnest($4::text[], $5::uuid[], $6::date[]) as t (kind, subject_id, opened_on)
                        where (t.kind, t.subject_id, t.opened_on) = (d.kind, d.subject_id, d.opened_on))"""

# Which escalation was told last is the sweep's to write; a due date that has moved begins anew.
SAVE_DEADLINES = """
    insert into compliance_deadlines as d (tenant_id, student_id, kind, subject_id, opened_on, deadline_id, due_date,
                                           owner_id, stage, completed_on, closed_on)
    select $1, $2, * from unnest($3::text[], $4::uuid[], $5::date[], $6::uuid[], $7::date[], $8::uuid[], $9::text[],
                                 $10::date[], $11::date[])
    on conflict (tenant_id, student_id, kind, subject_id, opened_on) do update
       set deadline_id = excluded.deadline_id, due_date = excluded.due_date, owner_id = excluded.owner_id,
           stage = excluded.stage, completed_on = excluded.completed_on, closed_on = excluded.closed_on,
           escalation = case when d.deadline_id = excluded.deadline_id then d.escalation end
     where (d.deadline_id, d.owner_id, d.stage, d.completed_on, d.closed_on) is distinct from
           (excluded.deadline_id, excluded.owner_id, excluded.stage, excluded.completed_on, excluded.closed_on)"""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A row of compliance_deadlines, but for tenant and student."""

    kind: str
    subject_id: UUID
    cycle: Cycle
    owner_id: UUID | None
    stage: str | None = None
    replaced_on: date | None = None

    @property
    def closed_on(self) -> date | None:
        """The day it was completed, or the day a later plan took the place of this one."""
        if self.cycle.completed_on is not None or self.replaced_on is None:
            return self.cycle.completed_on
        return max(self.cycle.opened_on, self.replaced_on)


async def settle_iep_deadlines(ctx: Context, student: UUID) -> None:
    """Annual reviews and reevaluations of all the student's IEPs, from the IEPs, their amendments and the reminders.

    34 CFR 300.324(b)(1)(i) and 300.303(b)(2). A student has one IEP at a time: the one that begins next takes the place
    of the one before, whose open deadlines are closed. Of an IEP that has not arrived only what others say of it is
    known: its completed reviews, or the day a reminder names.
    """
    ieps = await ctx.db.fetch(IEPS, ctx.tenant, student)
    completed: dict[UUID, list[date]] = {}
    for row in await ctx.db.fetch(COMPLETED, ctx.tenant, student):
        completed.setdefault(row["iep_id"], []).append(row["review_completed_on"])
    told: dict[tuple[UUID, str], dict[date, list[str]]] = {}
    for row in await ctx.db.fetch(TOLD, ctx.tenant, student):
        if kind := DEADLINES.get(row["review_type"]):
            told.setdefault((row["iep_id"], kind), {}).setdefault(row["due_date"], []).append(row["stage"])

    wanted: list[Deadline] = []

    def add(kind: str, iep: UUID, cycles: Iterable[Cycle], owner: UUID | None, replaced_on: date | None) -> None:
        stages = told.get((iep, kind), {})
        wanted.extend(Deadline(kind, iep, c, owner, furthest(stages.get(c.due, ())), replaced_on) for c in cycles)

    for iep, later in zip_longest(ieps, ieps[1:]):
        key, begin, owner = iep["iep_id"], iep["begin_date"], iep["owner_id"]
        replaced_on = later["begin_date"] if later else None
        reviews = annual_reviews(begin, iep["annual_review_due"], completed.get(key, ()))
        add("annual_review", key, reviews, owner, replaced_on)
        add("triennial", key, [Cycle(begin, iep["triennial_due"])], owner, replaced_on)
    for key in (completed.keys() | {iep for iep, _ in told}) - {iep["iep_id"] for iep in ieps}:
        for kind, done in (("annual_review", completed.get(key, ())), ("triennial", ())):
            add(kind, key, reviews_told_of(done, told.get((key, kind), ())), None, None)
    await _save_deadlines(ctx, student, ["annual_review", "triennial"], wanted)


async def settle_504_deadlines(ctx: Context, student: UUID) -> None:
    """Reviews of all the student's Section 504 plans; a plan that begins later takes the place of the one before."""
    plans = await ctx.db.fetch(PLANS, ctx.tenant, student)
    said: dict[UUID, list[Said504]] = {}
    for row in await ctx.db.fetch(ACTIVATIONS, ctx.tenant, student):
        activation = Said504(row["begin_date"], row["review_due"], row["review_completed_on"])
        said.setdefault(row["plan_id"], []).append(activation)
    wanted = [
        Deadline("504_review", plan["plan_id"], cycle, plan["coordinator_id"],
                 replaced_on=later["begin_date"] if later else None)
        for plan, later in zip_longest(plans, plans[1:])
        for cycle in section504_reviews(said[plan["plan_id"]])
    ]
    await _save_deadlines(ctx, student, ["504_review"], wanted)


async def _save_deadlines(ctx: Context, student: UUID, kinds: Sequence[str], wanted: Sequence[Deadline]) -> None:
    rows = sorted(wanted, key=lambda d: (d.kind, d.subject_id, d.cycle.opened_on))
    key = [d.kind for d in rows], [d.subject_id for d in rows], [d.cycle.opened_on for d in rows]
    await ctx.db.execute(FORGET_DEADLINES, ctx.tenant, student, kinds, *key)
    await ctx.db.execute(
        SAVE_DEADLINES, ctx.tenant, student, *key,
        [derive_id(ctx.tenant, student, d.kind, d.subject_id, d.cycle.opened_on, d.cycle.due) for d in rows],
        [d.cycle.due for d in rows], [d.owner_id for d in rows], [d.stage for d in rows],
        [d.cycle.completed_on for d in rows], [d.closed_on for d in rows],
    )
