"""IEPs, 504 plans, English learners and meals: their rules, each on a village."""

from datetime import date
from pathlib import Path

import pytest

from skillcore_streams.edfi import District, events
from skillcore_streams.edfi.programs import in_three_years, mandate
from skillcore_streams.events.demographics import EnglishLearnerStatusChanged, MealEligibilityChanged
from skillcore_streams.events.special_programs import IEPCreated, Section504PlanActivated
from skillcore_streams.runtime.messages import derive_id
from tests.edfi.test_people import post
from tests.edfi.village import Marked, staff, student, tag, village, write

PROGRAM = tag("ProgramIdentity", ProgramType="uri://x#Bilingual")


def association(kind: str, of: str = "1", **more: str) -> str:
    given = {"BeginDate": "2021-08-30", "ProgramReference": PROGRAM, "StudentReference": student(of)} | more
    return tag(f"Student{kind}ProgramAssociation", **given)


def iep(of: str = "1", **more: str) -> str:
    given = {"IEPBeginDate": "2021-09-01", "IEPReviewDate": "2021-08-27", "LastEvaluationDate": "2020-02-29"} | more
    return association("SpecialEducation", of, **given)


def imported(folder: Path, kind: type, programs: str, people: str = "") -> list:
    village(folder, [Marked("1", "2021-08-23", "Tardy")])
    write(folder, "StudentProgram", programs)
    write(folder, "StaffAssociation", people)
    with District(folder) as district:
        assert district.report.bad == []
        found = [event for event in events(district, "t") if isinstance(event, kind)]
        assert district.report.planned[kind.__name__] == len(found)
        return found


def test_reviews_are_due_in_a_year_and_evaluations_in_three(tmp_path):
    (plan,) = imported(tmp_path, IEPCreated, iep())

    assert (plan.annual_review_due, plan.triennial_due) == (date(2022, 8, 27), date(2023, 2, 28))
    assert plan.end_date == plan.annual_review_due


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({"SpecialEducationExitDate": "2021-10-01"}, date(2021, 10, 1)),
        ({"EndDate": "2021-12-17"}, date(2022, 8, 27)),
        ({"IEPEndDate": "2021-09-30"}, date(2022, 8, 27)),
    ],
)
def test_only_an_exit_date_closes_an_iep(tmp_path, more, end):
    assert [plan.end_date for plan in imported(tmp_path, IEPCreated, iep(**more))] == [end]


def test_without_its_dates_an_iep_counts_from_its_beginning(tmp_path):
    bare = association("SpecialEducation")
    (plan,) = imported(tmp_path, IEPCreated, bare)

    assert (plan.begin_date, plan.annual_review_due) == (date(2021, 8, 30), date(2022, 8, 30))


def test_the_principal_coordinates_else_the_superintendent_else_the_importer(tmp_path):
    people = post("p", "Principal", "11", "2020-08-01") + post("s", "Superintendent", "1", "2020-08-01")
    with_staff = imported(tmp_path, IEPCreated, iep("1") + iep("2"), people)
    without = imported(tmp_path, IEPCreated, iep("1"))

    assert [plan.coordinator_id for plan in with_staff] == [derive_id("t", "staff", "p"), derive_id("t", "staff", "s")]
    assert [plan.coordinator_id for plan in without] == [derive_id("t", "user", "edfi-import")]


def test_hours_are_shared_among_the_services_and_without_hours_there_is_no_mandate(tmp_path):
    provider = tag("ServiceProvider", StaffReference=staff("s7"))
    service = tag("SpecialEducationProgramService", provider, SpecialEducationProgramService="uri://x#Speech")
    given = tag("StudentSpecialEducationProgramAssociation", service, StudentReference=student("1"),
                BeginDate="2021-08-30", SpecialEducationHoursPerWeek="2.50")  # fmt: skip
    first, second = imported(tmp_path, IEPCreated, given + iep("2"))

    assert [(s.type, s.minutes_per_week) for s in first.services] == [("Speech", 150)]
    assert first.case_manager_id == derive_id("t", "staff", "s7")
    assert (second.services, second.case_manager_id) == ([], None)


def test_a_mandate_is_shared_to_the_minute():
    assert [s.minutes_per_week for s in mandate(["a", "b", "c"], 100)] == [34, 33, 33]
    assert [s.type for s in mandate([], 60)] == ["Special Education"]


def test_a_week_has_no_more_hours_than_it_has(tmp_path):
    village(tmp_path, [])
    write(tmp_path, "StudentProgram", iep(SpecialEducationHoursPerWeek="169"))
    with District(tmp_path) as district:
        assert district.report.bad == [
            "StudentProgram.xml, record 1: SpecialEducationHoursPerWeek is more than a week has, or less than nothing."
        ]


def test_three_years_after_a_leap_day_is_the_28th():
    assert in_three_years(date(2020, 2, 29)) == date(2023, 2, 28)
    assert in_three_years(date(2021, 8, 23)) == date(2024, 8, 23)


def test_a_504_plan_is_reviewed_a_year_after_its_meeting(tmp_path):
    plans = association("Section504", Section504MeetingDate="2021-08-20") + association("Section504", "2")

    assert [plan.review_due for plan in imported(tmp_path, Section504PlanActivated, plans)] == [
        date(2022, 8, 20), date(2022, 8, 30),
    ]  # fmt: skip


def test_english_as_a_second_language_is_an_english_learner_and_bilingual_is_not(tmp_path):
    both = association("LanguageInstruction") + association("", "2")

    (learner,) = imported(tmp_path, EnglishLearnerStatusChanged, both)

    assert (learner.new_status, learner.home_language) == ("el", "und")


@pytest.mark.parametrize(
    ("services", "eligibility"),
    [(["Reduced Price Lunch"], ["reduced"]), (["Reduced Price Lunch", "Free Breakfast"], ["free"]), ([], [])],
)
def test_meals_are_free_before_they_are_reduced(tmp_path, services, eligibility):
    name = "SchoolFoodServiceProgramService"
    meals = "".join(tag(name, tag(name, f"uri://x#{service}")) for service in services)
    given = f"<StudentSchoolFoodServiceProgramAssociation>{meals}{tag('BeginDate', '2021-08-30')}" + (
        tag("StudentReference", student()) + "</StudentSchoolFoodServiceProgramAssociation>"
    )

    assert [m.eligibility for m in imported(tmp_path, MealEligibilityChanged, given)] == eligibility
