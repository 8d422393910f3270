"""Interventions and discipline: their rules, each on a village."""

from datetime import date
from pathlib import Path

import pytest

from skillcore_streams.edfi import District, events
from skillcore_streams.events.interventions import BehaviorIncidentReported, InterventionAssigned
from tests.edfi.village import Marked, student, tag, village, write

SCHOOL = tag("SchoolIdentity", SchoolId="11")
IDENTITY = tag("DisciplineIncidentIdentity", IncidentIdentifier="1", SchoolReference=SCHOOL)


def incident(**more: str) -> str:
    fields = {"IncidentIdentifier": "1", "IncidentDate": "2021-08-24", "SchoolReference": SCHOOL} | more
    return f'<DisciplineIncident id="D1">{"".join(tag(k, v) for k, v in fields.items())}</DisciplineIncident>'


def offence(of: str = "1", behaviour: str = "State Offense") -> str:
    reference = '<DisciplineIncidentReference ref="D1"/>'
    return tag("StudentDisciplineIncidentBehaviorAssociation", reference, StudentReference=student(of),
               Behavior=f"uri://x#{behaviour}")  # fmt: skip


def action(id: str, kind: str, days: str, of: str = "1") -> str:
    association = tag("StudentDisciplineIncidentBehaviorAssociationIdentity", DisciplineIncidentReference=IDENTITY)
    return tag("DisciplineAction", DisciplineActionIdentifier=id, Discipline=f"uri://x#{kind}",
               DisciplineDate="2021-08-25", DisciplineActionLength=days, StudentReference=student(of),
               StudentDisciplineIncidentBehaviorAssociationReference=association)  # fmt: skip


def imported(folder: Path, kind: type, discipline: str = "", intervention: str = "") -> list:
    village(folder, [Marked("1", "2021-08-23", "Tardy")])
    write(folder, "StudentDiscipline", discipline)
    write(folder, "StudentIntervention", intervention)
    with District(folder) as district:
        assert district.report.bad == []
        found = [event for event in events(district, "t") if isinstance(event, kind)]
        assert district.report.planned[kind.__name__] == len(found)
        return found


@pytest.mark.parametrize(
    ("behaviour", "severity"),
    [("State Offense", "major"), ("School Violation", "moderate"), ("School Code of Conduct", "minor")],
)
def test_severity_is_by_whose_rule_was_broken(tmp_path, behaviour, severity):
    (said,) = imported(tmp_path, BehaviorIncidentReported, incident() + offence(behaviour=behaviour))

    assert said.severity == severity


def test_an_incident_of_two_students_is_two_reports(tmp_path):
    reports = imported(tmp_path, BehaviorIncidentReported, incident() + offence("1") + offence("2"))

    assert len({report.incident_id for report in reports}) == 2


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ([], (None, None)),
        ([("In School Suspension", "3")], ("iss", None)),
        ([("In School Suspension", "3"), ("Out of School Suspension", "2")], ("oss", 2)),
        ([("Out of School Suspension", "2"), ("Expulsion", "10")], ("expulsion", 12)),
        ([("Written Apology", "1")], (None, None)),
    ],
)
def test_the_gravest_action_stands_and_only_removals_count(tmp_path, actions, said):
    taken = "".join(action(str(n), kind, days) for n, (kind, days) in enumerate(actions))
    (report,) = imported(tmp_path, BehaviorIncidentReported, incident() + offence() + taken)

    assert (report.action, report.removal_days) == said


def test_another_students_action_is_not_ones_own(tmp_path):
    told = incident() + offence("1") + offence("2") + action("1", "Expulsion", "9", "2")
    reports = imported(tmp_path, BehaviorIncidentReported, told)

    assert [report.action for report in reports] == [None, "expulsion"]


def test_an_incident_without_a_time_was_at_noon(tmp_path):
    (noon,) = imported(tmp_path, BehaviorIncidentReported, incident() + offence())
    (early,) = imported(tmp_path, BehaviorIncidentReported, incident(IncidentTime="08:05:00") + offence())

    assert [report.occurred_at.isoformat() for report in (noon, early)] == [
        "2021-08-24T17:00:00+00:00", "2021-08-24T13:05:00+00:00",
    ]  # fmt: skip


@pytest.mark.parametrize(("delivery", "tier"), [("Whole Class", 1), ("Small Group", 2), ("Individual", 3)])
def test_a_tier_is_by_how_it_is_delivered_and_it_lasts_the_year(tmp_path, delivery, tier):
    told = tag("Intervention", InterventionIdentificationCode="check", DeliveryMethod=f"uri://x#{delivery}",
               BeginDate="2021-08-23", MinDosage="10")  # fmt: skip
    code = tag("InterventionIdentity", InterventionIdentificationCode="check")
    given = tag("StudentInterventionAssociation", StudentReference=student(), InterventionReference=code)

    (assigned,) = imported(tmp_path, InterventionAssigned, intervention=told + given)

    assert (assigned.tier, assigned.target, assigned.end_date) == (tier, 10, date(2021, 12, 17))
