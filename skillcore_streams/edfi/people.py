"""Staff, and the contacts of students.

* A staff member has one role for each assignment (StaffClassification and organisation), the earliest first; who has
  none is an aide of the district: the role with the least rights.
* A contact is a user (role parent for a mother or father, else guardian or relative) and, with students, a guardian.
* A telephone is the first there is of Mobile, Home, Work, Emergency, Other and Unlisted; a fax reaches nobody. Ten
  digits are a number of the United States (+1).
* Ed-Fi knows no custody: it is `full`, because a school gives full rights to either parent unless a court order says
  otherwise (34 CFR 99.4), and `restricted` where ContactRestrictions says something.
* Contacts' addresses have no event: AddressChanged is a student's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from skillcore_streams.edfi.interchange import Record, code
from skillcore_streams.edfi.reader import Reader, Reads
from skillcore_streams.events.demographics import GuardianContactUpdated
from skillcore_streams.events.fields import Role
from skillcore_streams.events.rostering import UserCreated, UserRole
from skillcore_streams.runtime.messages import Event

if TYPE_CHECKING:
    from skillcore_streams.edfi.events import Year

STAFF = "StaffAssociation"
CONTACT = "Contact"

SCHEMA = """
    create table staff (id text primary key, given text not null, family text not null, email text) without rowid;
    create table post (
        staff text, org text, class text, begin text, primary key (staff, begin, org, class)) without rowid;
    create table contact (
        id text primary key, anchor text, given text not null, family text not null, phone text) without rowid;
    create table link (
        student text, contact text, anchor text, relation text, emergency int, restricted int);
"""

SETTLE = """
    create index contact_anchor on contact (anchor);
    update link set contact = (select id from contact where contact.anchor = link.anchor) where contact is null;
    create index link_contact on link (contact, student);
    create index post_org on post (org, class, staff);
"""

ROLES: dict[str, Role] = {  # StaffClassificationDescriptor -> OneRoster 1.2
    "Teacher": "teacher",
    "Substitute Teacher": "teacher",
    "Principal": "principal",
    "Assistant Principal": "principal",
    "School Administrator": "siteAdministrator",
    "LEA System Administrator": "systemAdministrator",
    "LEA Administrator": "districtAdministrator",
    "Superintendent": "districtAdministrator",
    "Assistant Superintendent": "districtAdministrator",
    "Counselor": "counselor",
    "School Counselor": "counselor",
}
KIN: dict[str, Role] = {"mother": "parent", "father": "parent", "parent": "parent", "guardian": "guardian"}

PHONES = ("Mobile", "Home", "Work", "Emergency 1", "Emergency 2", "Other", "Unlisted")
"""TelephoneNumberTypeDescriptor, the best first."""

STAFF_ROWS = """
    select id, given, family, email, (select json_group_array(json_array(class, org)) from post where staff = staff.id)
      from staff order by id"""

CONTACT_ROWS = """
    select id, given, family, phone, json_group_array(json_array(student, relation, emergency, restricted))
           filter (where student is not null)
      from contact left join link on link.contact = contact.id group by id order by id"""


READS: Reads = {
    STAFF: {
        "Staff": ("insert or replace into staff values (?, ?, ?, ?)", lambda r: (
            r.text("StaffUniqueId"), r.text("Name/FirstName"), r.text("Name/LastSurname"),
            r.get("ElectronicMail/ElectronicMailAddress"),
        )),
        "StaffEducationOrganizationAssignmentAssociation": (
            "insert or ignore into post values (?, ?, ?, ?)", lambda r: (
                staff_of(r),
                r.text("EducationOrganizationReference/EducationOrganizationIdentity/EducationOrganizationId"),
                r.code("StaffClassification"), str(r.date("BeginDate")),
            )),
    },
    CONTACT: {
        "Contact": ("insert or replace into contact values (?, ?, ?, ?, ?)", lambda r: (
            r.text("ContactUniqueId"), r.anchor, r.text("Name/FirstName"), r.text("Name/LastSurname"), phone(r),
        )),
        "StudentContactAssociation": ("insert into link values (?, ?, ?, ?, ?, ?)", lambda r: _link(r)),
    },
}  # fmt: skip


def take_stock(reader: Reader) -> None:
    """What there will be, and what needed a rule."""
    reader.plan("UserCreated", "from staff")
    reader.plan("UserCreated", "from contact")
    reader.plan("GuardianContactUpdated", "from (select distinct contact from link join contact on contact = id)")
    reader.remark("from staff where id not in (select staff from post)",
                  "staff without an assignment: district's aides")
    reader.remark("from contact where id not in (select contact from link where contact is not null)",
                  "contacts without a student: users, no guardians")
    reader.remark("from link where contact is null or contact not in (select id from contact)",
                  "links to a contact that the file doesn't hold: left out")
    reader.remark("from contact where phone is null", "contacts without a telephone that somebody answers")
    reader.remark("from link where restricted", "links with ContactRestrictions: custody 'restricted'")


def roster(year: Year) -> Iterator[Event]:
    """Staff as users; contacts as users and as guardians."""
    for key, given, family, email, posts in year.db.execute(STAFF_ROWS):
        held = [(ROLES.get(kind, "aide"), org) for kind, org in json.loads(posts)]
        user = year.staff(key)
        yield year.said(STAFF, user, UserCreated(
            user_id=user, sourced_id=key, given_name=given, family_name=family, email=email, status="active",
            roles=[UserRole(role=role, org_id=year.org(org), primary=n == 0) for n, (role, org) in enumerate(
                dict.fromkeys(held or [("aide", year.district.district.id)]))],
        ))  # fmt: skip
    for key, given, family, telephone, links in year.db.execute(CONTACT_ROWS):
        students = sorted(json.loads(links or "[]"))
        relation = students[0][1].lower() if students else "other"
        user = year.id("contact", key)
        yield year.said(CONTACT, user, UserCreated(
            user_id=user, sourced_id=key, given_name=given, family_name=family, status="active",
            roles=[UserRole(role=KIN.get(relation, "relative"), org_id=year.org(year.district.district.id),
                            primary=True)],
        ))  # fmt: skip
        if students:
            yield year.said(CONTACT, year.id("guardian", key), GuardianContactUpdated(
                guardian_id=user, version=1, phone=telephone, relationship=relation,
                student_ids=[year.student(student) for student in dict.fromkeys(s[0] for s in students)],
                custody="restricted" if any(s[3] for s in students) else "full",
                emergency_order=min((s[2] for s in students if s[2]), default=None),
            ))  # fmt: skip


def staff_of(record: Record, path: str = "StaffReference") -> str:
    """StaffUniqueId of a reference."""
    return record.text(f"{path}/StaffIdentity/StaffUniqueId")


def student_of(record: Record) -> str:
    """StudentUniqueId of a record's StudentReference."""
    return record.text("StudentReference/StudentIdentity/StudentUniqueId")


def phone(record: Record) -> str | None:
    """The best telephone in E.164, or None."""
    best: dict[str, str] = {}
    for telephone in record.children("Telephone"):
        digits = re.sub(r"\D", "", telephone.get("TelephoneNumber") or "")
        if len(digits) == 10 or (len(digits) == 11 and digits[0] == "1"):
            best.setdefault(code(telephone.get("TelephoneNumberType") or ""), f"+1{digits[-10:]}")
    return next((best[kind] for kind in PHONES if kind in best), None)


def _link(record: Record) -> tuple[object, ...]:
    """`emergency` is the order in which to call: ContactPriority, else 1 for the primary contact, 2 for others."""
    order = record.count("ContactPriority") or (1 if record.flag("PrimaryContactStatus") else 2)
    return (
        student_of(record),
        record.get("ContactReference/ContactIdentity/ContactUniqueId"),
        next(iter(record.references("ContactReference")), None),
        code(record.get("Relation") or "Other"),
        order if record.flag("EmergencyContactStatus") else None,
        record.get("ContactRestrictions") is not None,
    )
