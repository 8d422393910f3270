"""Interventions and discipline.

* An intervention's tier is by its delivery: 1 for the whole class, 2 for a small group, 3 for one student. Its measure
  is the minutes of dosage: the association's Dosage, else MinDosage. It ends with the school year unless EndDate says.
* An incident is reported once for each student who behaved so; witnesses and victims have no event. Severity: a state
  offence is major, a school violation moderate, anything else minor. Its time is IncidentTime, else noon.
* Of several actions for one incident the gravest stands. Removal days count suspension out of school and expulsion
  (34 CFR 300.530), as long as they lasted; a suspension in school removes nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from skillcore_streams.edfi.interchange import Record, code
from skillcore_streams.edfi.people import staff_of, student_of
from skillcore_streams.edfi.reader import Reader, Reads
from skillcore_streams.events.interventions import BehaviorIncidentReported, InterventionAssigned

if TYPE_CHECKING:
    from skillcore_streams.edfi.events import Dated, Year

INTERVENTION = "StudentIntervention"
DISCIPLINE = "StudentDiscipline"

SCHEMA = """
    create table intervention (
        code text primary key, diagnosis text, tier int, begin text, end text, dosage text) without rowid;
    create table assigned (code text, student text, dosage text, primary key (code, student)) without rowid;
    create table incident (
        id text primary key, anchor text, school text, day text, at text, location text, reporter text) without rowid;
    create table offence (
        student text, incident text, anchor text, behaviour text, detail text, innocent int);
    create table action (
        id text primary key, student text, incident text, kind text, days text) without rowid;
"""

SETTLE = """
    create index incident_anchor on incident (anchor);
    update offence set incident = (select id from incident where incident.anchor = offence.anchor)
     where incident is null;
    create index offence_incident on offence (incident, student);
    create index action_incident on action (incident, student);
"""

TIERS: dict[str, Literal[1, 2, 3]] = {"Whole Class": 1, "Whole School": 1, "Small Group": 2, "Individual": 3}
SEVERITY: dict[str, Literal["major", "moderate", "minor"]] = {"State Offense": "major", "School Violation": "moderate"}

ACTIONS: tuple[tuple[str, Literal["expulsion", "oss", "iss", "conference"]], ...] = (
    ("Expulsion", "expulsion"),
    ("Out of School Suspension", "oss"),
    ("In School Suspension", "iss"),
    ("Conference", "conference"),
)
"""DisciplineDescriptor, the gravest first."""

REMOVALS = frozenset({"expulsion", "oss"})
NOON = time(12)

ASSIGNED = """
    select code, student, diagnosis, tier, begin, end, coalesce(assigned.dosage, intervention.dosage)
      from assigned join intervention using (code) order by begin, code, student"""
OFFENCES = """
    select incident.id, student, behaviour, detail, school, day, at, location, reporter,
           (select json_group_array(json_array(kind, days)) from action
             where action.incident = incident.id and action.student = offence.student)
      from offence join incident on incident.id = offence.incident
     where not innocent group by incident.id, student order by day, incident.id, student"""

READS: Reads = {
    INTERVENTION: {
        "Intervention": ("insert or replace into intervention values (?, ?, ?, ?, ?, ?)", lambda r: (
            _code(r), code(r.get("Diagnosis") or "") or "not stated", TIERS.get(code(r.get("DeliveryMethod") or ""), 2),
            str(r.date("BeginDate")), _text(r.day("EndDate")), _text(r.exact("MinDosage")),
        )),
        "StudentInterventionAssociation": ("insert or replace into assigned values (?, ?, ?)", lambda r: (
            _code(r, "InterventionReference/InterventionIdentity/"), student_of(r), _text(r.exact("Dosage")),
        )),
    },
    DISCIPLINE: {
        "DisciplineIncident": ("insert or replace into incident values (?, ?, ?, ?, ?, ?, null)", lambda r: (
            _incident(r, ""), r.anchor, r.text("SchoolReference/SchoolIdentity/SchoolId"), str(r.date("IncidentDate")),
            _text(r.time("IncidentTime")), code(r.get("IncidentLocation") or "") or None,
        )),
        "StaffDisciplineIncidentAssociation": ("update incident set reporter = ?1 where id = ?2 or anchor = ?3",
                                               lambda r: _reporter(r)),
        "StudentDisciplineIncidentBehaviorAssociation": ("insert into offence values (?, ?, ?, ?, ?, 0)", lambda r: (
            student_of(r), *_refers(r), r.code("Behavior"), r.get("BehaviorDetailedDescription"),
        )),
        "StudentDisciplineIncidentNonOffenderAssociation": ("insert into offence values (?, ?, ?, null, null, 1)",
                                                            lambda r: (student_of(r), *_refers(r))),
        "DisciplineAction": ("insert or replace into action values (?, ?, ?, ?, ?)", lambda r: _action(r)),
    },
}  # fmt: skip


def take_stock(reader: Reader) -> None:
    """What there will be, and what needed a rule."""
    reader.plan("InterventionAssigned", "from assigned join intervention using (code)")
    reader.plan("BehaviorIncidentReported", """from (select distinct incident, student from offence
        where not innocent and incident in (select id from incident))""")
    reader.remark("from assigned where code not in (select code from intervention)",
                  "students in an intervention that the file doesn't hold: left out")
    reader.remark("from assigned", "interventions without a stated goal: the minutes of dosage")
    reader.remark("from offence where innocent", "witnesses and victims of incidents: no event")
    reader.remark("from offence where incident is null or incident not in (select id from incident)",
                  "behaviours of an incident that the file doesn't hold: left out")
    reader.remark("from (select 1 from action group by incident, student having count(*) > 1)",
                  "incidents with several actions for one student: the gravest stands, removal days are added")
    reader.remark("""from action where not exists (select 1 from offence
        where offence.incident = action.incident and offence.student = action.student)""",
                  "discipline actions without their incident: left out")


def interventions(year: Year) -> Iterator[Dated]:
    """Students' interventions, on the day they begin."""
    for key, student, diagnosis, tier, begin, end, dosage in year.db.execute(ASSIGNED):
        day, intervention = date.fromisoformat(begin), year.id("intervention", key, student)
        yield day, year.said(INTERVENTION, intervention, InterventionAssigned(
            intervention_id=intervention, student_id=year.student(student), tier=tier, program=key, goal=diagnosis,
            metric="minutes of dosage", target=Decimal(dosage or 0), start_date=day,
            end_date=date.fromisoformat(end) if end else year.last_day, source="referral",
        ), year.at(day))  # fmt: skip


def incidents(year: Year) -> Iterator[Dated]:
    """Behaviour, on the day it happened."""
    for key, student, behaviour, detail, school, on, at, location, reporter, actions in year.db.execute(OFFENCES):
        day, incident = date.fromisoformat(on), year.id("incident", key, student)
        taken = [(dict(ACTIONS).get(kind), Decimal(days or 0)) for kind, days in json.loads(actions)]
        removed = sum((days for kind, days in taken if kind in REMOVALS), Decimal(0))
        happened = year.at(day, time.fromisoformat(at) if at else NOON)
        yield day, year.said(DISCIPLINE, incident, BehaviorIncidentReported(
            incident_id=incident, student_id=year.student(student), school_id=year.org(school), occurred_at=happened,
            behavior=detail or behaviour, severity=SEVERITY.get(behaviour, "minor"), location=location,
            action=next((kind for _, kind in ACTIONS if kind in dict(taken)), None), removal_days=removed or None,
            reported_by=year.staff(reporter),
        ), happened)  # fmt: skip


def _code(record: Record, path: str = "") -> str:
    return record.text(f"{path}InterventionIdentificationCode")


def _incident(record: Record, path: str) -> str:
    """The natural key: school and identifier."""
    school = record.text(f"{path}SchoolReference/SchoolIdentity/SchoolId")
    return f"{school}/{record.text(f'{path}IncidentIdentifier')}"


def _refers(record: Record, path: str = "") -> tuple[str | None, str | None]:
    """The natural key of the incident that a record refers to, or the anchor that stands for it."""
    reference = f"{path}DisciplineIncidentReference"
    identity = f"{reference}/DisciplineIncidentIdentity/"
    if record.get(f"{identity}IncidentIdentifier"):
        return _incident(record, identity), None
    return None, next(iter(record.references(reference)), None)


def _reporter(record: Record) -> tuple[object, ...] | None:
    if code(record.get("DisciplineIncidentParticipationCode") or "") != "Reporter":
        return None
    return staff_of(record), *_refers(record)


def _action(record: Record) -> tuple[object, ...]:
    incident = ("StudentDisciplineIncidentBehaviorAssociationReference/"
                "StudentDisciplineIncidentBehaviorAssociationIdentity/")
    days = record.exact("ActualDisciplineActionLength")
    return (
        f"{record.text('DisciplineActionIdentifier')}/{student_of(record)}/{record.date('DisciplineDate')}",
        student_of(record), _refers(record, incident)[0],
        record.code("Discipline"), _text(record.exact("DisciplineActionLength") if days is None else days),
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)
