"""IEPs, 504 plans and services, counted again: from the XML, and for what is made up from the events as published.

The rules: an IEP is open without a SpecialEducationExitDate, and ends on that date, else when its review is due. The
annual review is due 365 days after IEPReviewDate, at most 365 after IEPBeginDate; a review that is completed is
followed by one 365 days later. The reevaluation is due three years after LastEvaluationDate. A 504 plan is reviewed 365
days after its meeting. A week is Monday to Sunday; what was given counts up to each service's own mandate; less than
80 % is short, and the second short week in a row an alert. A mandate holds in weeks that the IEP covers from Monday to
Friday.
Like all of recount*.py it shares no code with the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from skillcore_streams.demo.recount import blocks, derived_id, element, one, student_id

YEAR = timedelta(days=365)
WEEK = timedelta(days=7)
STAGES = (90, 60, 30)
"""Days before a review is due on which its team is reminded."""


class Iep(NamedTuple):
    """An IEP of the file. `hours` a week, None where the file has none."""

    student: str
    begin: date
    reviewed: date
    evaluated: date
    exited: date | None
    hours: float | None

    @property
    def review_due(self) -> date:
        """The day of the next annual review."""
        return min(self.reviewed, self.begin) + YEAR

    @property
    def end(self) -> date:
        """Its last day."""
        return self.exited or self.reviewed + YEAR

    @property
    def evaluation_due(self) -> date:
        """The day of the next reevaluation. No evaluation of the sample fell on a 29 February."""
        return self.evaluated.replace(year=self.evaluated.year + 3)


class Deadline(NamedTuple):
    """A row that must be there; `completed` is None for one that is open."""

    kind: str
    student_id: UUID
    opened: date
    due: date
    completed: date | None


class Week(NamedTuple):
    """A student's week of services, in minutes."""

    student_id: UUID
    monday: date
    delivered: int
    credited: int
    mandated: int | None

    @property
    def short(self) -> bool:
        """Less than 80 % of the mandate."""
        return self.mandated is not None and 5 * self.credited < 4 * self.mandated


def ieps(folder: Path) -> list[Iep]:
    """The folder's IEPs."""
    found = []
    for block in blocks(folder, "StudentProgram", "StudentSpecialEducationProgramAssociation"):
        exited, hours = element("SpecialEducationExitDate", block), element("SpecialEducationHoursPerWeek", block)
        begin, reviewed, evaluated = (
            date.fromisoformat(one(rf"<{name}>([-\d]+)<", block))
            for name in ("IEPBeginDate", "IEPReviewDate", "LastEvaluationDate")
        )
        found.append(Iep(
            one(r"<StudentUniqueId>(\d+)<", block), begin, reviewed, evaluated,
            date.fromisoformat(exited) if exited else None, float(hours) if hours else None,
        ))  # fmt: skip
    return found


def iep_id(tenant: str, iep: Iep) -> UUID:
    """iep_id of an IEP of the file."""
    return derived_id(tenant, "iep", iep.student, iep.begin)


def plans_504(folder: Path, tenant: str) -> list[Deadline]:
    """The reviews of the folder's Section 504 plans, all open."""
    return [
        Deadline("504_review", student_id(tenant, one(r"<StudentUniqueId>(\d+)<", block)),
                 date.fromisoformat(one(r"<BeginDate>([-\d]+)<", block)),
                 date.fromisoformat(one(r"<Section504MeetingDate>([-\d]+)<", block)) + YEAR, None)
        for block in blocks(folder, "StudentProgram", "StudentSection504ProgramAssociation")
    ]  # fmt: skip


def iep_deadlines(folder: Path, tenant: str, amendments: Iterable[Mapping[str, Any]]) -> Iterator[Deadline]:
    """Annual reviews and reevaluations of the folder's IEPs; reviews are completed by IEPAmended as published."""
    completed: dict[str, list[date]] = {}
    for said in amendments:
        if said["review_completed_on"]:
            completed.setdefault(said["iep_id"], []).append(date.fromisoformat(said["review_completed_on"]))
    for iep in ieps(folder):
        student, opened, due = student_id(tenant, iep.student), iep.begin, iep.review_due
        for day in sorted(completed.get(str(iep_id(tenant, iep)), ())):
            yield Deadline("annual_review", student, opened, due, day)
            opened, due = day, day + YEAR
        yield Deadline("annual_review", student, opened, due, None)
        yield Deadline("triennial", student, iep.begin, iep.evaluation_due, None)


def service_weeks(plans: Iterable[Mapping[str, Any]], sessions: Iterable[Mapping[str, Any]]) -> list[Week]:
    """The weeks in which something was logged, from IEPCreated and IEPServiceDelivered as published."""
    given: dict[tuple[str, date], Counter[str]] = {}
    for said in sessions:
        day = datetime.fromisoformat(said["started_at"]).date()  # the schools' morning: the same day in UTC
        services = given.setdefault((said["student_id"], day - timedelta(days=day.weekday())), Counter())
        services[said["service_type"]] += 0 if said["missed_reason"] else said["minutes"]
    of_student = {said["student_id"]: said for said in plans}
    weeks = []
    for (student, monday), services in given.items():
        plan = of_student[student]
        begin, end = date.fromisoformat(plan["begin_date"]), date.fromisoformat(plan["end_date"])
        mandate = Counter({s["type"]: s["minutes_per_week"] for s in plan["services"]})
        holds = begin <= monday and monday + timedelta(days=4) <= end
        credited = sum((services & mandate).values()) if holds else 0
        weeks.append(Week(UUID(student), monday, services.total(), credited, mandate.total() if holds else None))
    return weeks


def shortfalls(weeks: Iterable[Week]) -> set[tuple[UUID, date]]:
    """(student, Monday) of short weeks whose week before was short too."""
    short = {(week.student_id, week.monday) for week in weeks if week.short}
    return {(student, monday) for student, monday in short if (student, monday - WEEK) in short}
