"""The proof of what the district has promised: IEPs, 504 plans, their deadlines, and the minutes of their services."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from uuid import UUID

from skillcore_streams.demo.compare import MADE_UP, Case, Line, compare
from skillcore_streams.demo.recount import derived_id, occurrences, student_id
from skillcore_streams.demo.recount_plans import (
    YEAR,
    iep_deadlines,
    iep_id,
    ieps,
    plans_504,
    service_weeks,
    shortfalls,
)

WHERE = "topics, unique ids"
DEADLINES = """
    select kind, student_id, opened_on, due_date, completed_on from compliance_deadlines
     where kind = $1"""
WEEKS = "select student_id, week, delivered, credited, mandated from service_minutes_weekly"
SHORT = """
    select student_id, detail::date from student_alerts where kind = 'service_shortfall' and resolved_at is null"""


def sent(case: Case) -> Iterable[Line]:
    """The plans and incidents of the files are in Kafka, also those to which made-up services were added."""
    section, log = "in Kafka", case.log
    both = [*log.said("IEPCreated"), *log.said("IEPCreated", MADE_UP)]
    plans = ieps(case.folder)
    yield compare(section, "IEPCreated, with their dates", WHERE, [
        (iep_id(case.tenant, i), i.begin, i.end, i.reviewed + YEAR, i.evaluation_due)
        for i in plans
    ], [
        (UUID(said["iep_id"]), *(date.fromisoformat(said[name])
                                 for name in ("begin_date", "end_date", "annual_review_due", "triennial_due")))
        for said in both
    ])
    yield compare(section, "service mandates of the files, minutes", WHERE, [
        (student_id(case.tenant, i.student), round(60 * i.hours)) for i in plans if i.hours is not None
    ], [
        (UUID(said["student_id"]), sum(s["minutes_per_week"] for s in said["services"]))
        for said in log.said("IEPCreated") if said["services"]
    ])
    for name, interchange, record in (
        ("Section504PlanActivated", "StudentProgram", "StudentSection504ProgramAssociation"),
        ("EnglishLearnerStatusChanged", "StudentProgram", "StudentLanguageInstructionProgramAssociation"),
        ("MealEligibilityChanged", "StudentProgram", "StudentSchoolFoodServiceProgramAssociation"),
        ("InterventionAssigned", "StudentIntervention", "StudentInterventionAssociation"),
        ("BehaviorIncidentReported", "StudentDiscipline", "StudentDisciplineIncidentBehaviorAssociation"),
    ):
        yield compare(section, name, WHERE, range(occurrences(case.folder, interchange, record)),
                      range(len(set(log.ids(name)))))


async def effects(case: Case) -> Iterable[Line]:
    """What the handlers have made of it, and of what is made up."""
    section, rows, log = "plans and services", case.rows, case.log
    made_up = {name: log.said(name, MADE_UP) for name in ("IEPGoalAdded", "IEPAmended", "IEPServiceDelivered")}
    created = [*log.said("IEPCreated"), *log.said("IEPCreated", MADE_UP)]
    weeks = service_weeks(created, made_up["IEPServiceDelivered"])
    deadlines = [*iep_deadlines(case.folder, case.tenant, made_up["IEPAmended"]), *plans_504(case.folder, case.tenant)]
    lines = [compare(section, "IEPs", "ieps", [(iep_id(case.tenant, i), i.begin, i.end) for i in ieps(case.folder)],
                     await rows("select iep_id, begin_date, end_date from ieps"))]  # fmt: skip
    for kind, what in (("annual_review", "annual reviews: opened, due, completed"), ("triennial", "reevaluations"),
                       ("504_review", "reviews of Section 504 plans")):
        lines.append(compare(section, what, "compliance_deadlines", [d for d in deadlines if d.kind == kind],
                             await rows(DEADLINES, kind)))
    return [
        *lines,
        compare(section, "goals, made up", "iep_goals", [(UUID(g["goal_id"]),) for g in made_up["IEPGoalAdded"]],
                await rows("select goal_id from iep_goals")),
        compare(section, "an intervention for each goal, published", "event",
                {str(derived_id(g["goal_id"])) for g in made_up["IEPGoalAdded"]},
                {i for i, source in await case.stored("InterventionAssigned", "intervention_id", "source")
                 if source == "iep_goal"}),
        compare(section, "amendments, made up", "iep_versions",
                [(UUID(a["iep_id"]), a["version"]) for a in made_up["IEPAmended"]],
                await rows("select iep_id, version from iep_versions")),
        compare(section, "sessions of services, made up", "service_logs",
                [(UUID(s["service_log_id"]), s["minutes"]) for s in made_up["IEPServiceDelivered"]],
                await rows("select service_log_id, minutes from service_logs")),
        compare(section, "weeks: given, counted, mandated minutes", "service_minutes_weekly", weeks, await rows(WEEKS)),
        compare(section, "alerts that stand: two short weeks", "student_alerts", shortfalls(weeks), await rows(SHORT)),
    ]
