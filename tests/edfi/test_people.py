"""Staff and contacts: their rules, each on a village."""

from pathlib import Path

import pytest

from skillcore_streams.edfi import District, events
from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.rostering import UserCreated
from skillcore_streams.runtime.messages import derive_id
from tests.edfi.village import student, tag, village, write

NAME = tag("FirstName", "Ada") + tag("LastSurname", "Lovelace")


def contact(id: str, *phones: tuple[str, str]) -> str:
    telephones = "".join(
        tag("Telephone", TelephoneNumber=number, TelephoneNumberType=f"uri://x#{kind}") for kind, number in phones
    )
    return f'<Contact id="C_{id}">{tag("ContactUniqueId", id)}{tag("Name", NAME)}{telephones}</Contact>'


def link(to: str, of: str = "1", relation: str = "Mother", **more: str) -> str:
    reference = f'<ContactReference ref="C_{to}"/>'
    return tag("StudentContactAssociation", reference, StudentReference=student(of), Relation=f"uri://x#{relation}",
               **more)  # fmt: skip


def imported(folder: Path, kind: type, contacts: str = "", staff: str = "") -> list:
    village(folder, [])
    write(folder, "Contact", contacts)
    write(folder, "StaffAssociation", staff)
    with District(folder) as district:
        assert district.report.bad == []
        return [event for event in events(district, "t") if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("phones", "said"),
    [
        ([("Home", "(950) 342 7522"), ("Mobile", "950-978-3450")], "+19509783450"),
        ([("Unlisted", "9503427522")], "+19503427522"),
        ([("Work", "1 950 342 7522")], "+19503427522"),
        ([("Fax", "(950) 342 7522")], None),  # nobody answers
        ([("Home", "342 7522")], None),  # nobody knows where
        ([], None),
    ],
)
def test_a_guardian_has_the_best_telephone(tmp_path, phones, said):
    (guardian,) = imported(tmp_path, GuardianContactUpdated, contact("7", *phones) + link("7"))

    assert guardian.phone == said


def test_a_guardian_of_two_is_one_guardian_with_two_students(tmp_path):
    (guardian,) = imported(tmp_path, GuardianContactUpdated, contact("7") + link("7", "2") + link("7", "1"))

    assert guardian.student_ids == [derive_id("t", "student", "1"), derive_id("t", "student", "2")]


def test_custody_is_full_unless_contact_is_restricted(tmp_path):
    people = contact("7") + link("7") + contact("8") + link("8", ContactRestrictions="by court order")
    guardians = imported(tmp_path, GuardianContactUpdated, people)

    assert [guardian.custody for guardian in guardians] == ["full", "restricted"]


def test_who_is_called_first_in_an_emergency(tmp_path):
    first = contact("7") + link("7", EmergencyContactStatus="true", PrimaryContactStatus="true")
    second = contact("8") + link("8", EmergencyContactStatus="true", PrimaryContactStatus="false")
    never = contact("9") + link("9", EmergencyContactStatus="false", PrimaryContactStatus="true")
    guardians = imported(tmp_path, GuardianContactUpdated, first + second + never)

    assert [guardian.emergency_order for guardian in guardians] == [1, 2, None]


def test_a_contact_without_students_is_a_user_and_no_guardian(tmp_path):
    people = imported(tmp_path, object, contact("7"))
    user = derive_id("t", "contact", "7")

    assert [e.roles[0].role for e in people if isinstance(e, UserCreated) and e.user_id == user] == ["relative"]
    assert not [e for e in people if isinstance(e, GuardianContactUpdated)]


def test_a_parent_is_a_parent_and_an_aunt_a_relative(tmp_path):
    people = imported(tmp_path, UserCreated, contact("7") + link("7", relation="Father")
                      + contact("8") + link("8", relation="Aunt"))  # fmt: skip

    assert [p.roles[0].role for p in people if p.sourced_id in ("7", "8")] == ["parent", "relative"]


def post(staff: str, kind: str, org: str, begin: str) -> str:
    return tag(
        "StaffEducationOrganizationAssignmentAssociation",
        StaffReference=tag("StaffIdentity", StaffUniqueId=staff),
        EducationOrganizationReference=tag("EducationOrganizationIdentity", EducationOrganizationId=org),
        StaffClassification=f"uri://x#{kind}", BeginDate=begin,
    )  # fmt: skip


def test_staff_has_a_role_for_each_assignment_and_without_one_the_least(tmp_path):
    staff = "".join(tag("Staff", StaffUniqueId=name, Name=NAME) for name in ("a", "b", "c"))
    posts = (
        post("a", "Counselor", "12", "2020-08-01") + post("a", "Teacher", "11", "2019-08-01")
        + post("b", "Beekeeper", "1", "2020-08-01")
    )  # fmt: skip
    people = {u.sourced_id: u.roles for u in imported(tmp_path, UserCreated, staff=staff + posts)}

    assert [(role.role, role.primary) for role in people["a"]] == [("teacher", True), ("counselor", False)]
    assert [role.role for role in people["b"] + people["c"]] == ["aide", "aide"]


def test_a_link_to_nobody_is_counted(tmp_path):
    village(tmp_path, [])
    write(tmp_path, "Contact", contact("7") + link("7") + link("99"))

    with District(tmp_path) as district:
        assert district.report.remarks["links to a contact that the file doesn't hold: left out"] == 1
        assert district.report.planned["GuardianContactUpdated"] == 1
