"""Who is in the district, counted again from the XML: people, classes, who teaches and sits in them.

A class is named by school, year, session, course and section identifier, joined by the unit separator. Like all of
recount*.py it shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from skillcore_streams.demo.recount import blocks, derived_id, element, one

Seat = tuple[str, str]
"""StudentUniqueId and class."""


@dataclass(frozen=True, slots=True)
class Roster:
    """Ids are Ed-Fi's.

    Attributes:
        staff: StaffUniqueIds.
        contacts: ContactUniqueIds.
        guardians: contact -> the students it is a contact of; who has none is not there.
        classes: every section.
        teaching: (class, staff member), once for each association.
        seats: who sits in a class, as the gradebook or a section attendance event shows.
    """

    staff: frozenset[str]
    contacts: frozenset[str]
    guardians: dict[str, frozenset[str]]
    classes: frozenset[str]
    teaching: tuple[tuple[str, str], ...]
    seats: frozenset[Seat]


def recount_roster(folder: Path) -> Roster:
    """Count the folder's StaffAssociation, Contact, MasterSchedule, gradebook and section attendance."""
    students: dict[str, set[str]] = {}
    for block in blocks(folder, "Contact", "StudentContactAssociation"):
        contact = one(r'<ContactReference ref="PRNT_(\d+)"', block)
        students.setdefault(contact, set()).add(one(r"<StudentUniqueId>(\d+)<", block))
    return Roster(
        staff=frozenset(one(r"<StaffUniqueId>(\d+)<", b) for b in blocks(folder, "StaffAssociation", "Staff")),
        contacts=frozenset(one(r"<ContactUniqueId>(\d+)<", b) for b in blocks(folder, "Contact", "Contact")),
        guardians={contact: frozenset(theirs) for contact, theirs in students.items()},
        classes=frozenset(class_of(b) for b in blocks(folder, "MasterSchedule", "Section")),
        teaching=tuple(
            (class_of(b), one(r"<StaffUniqueId>(\d+)<", b))
            for b in blocks(folder, "StaffAssociation", "StaffSectionAssociation")
        ),
        seats=frozenset(_seats(folder)),
    )


def class_of(block: str) -> str:
    """The class that a record is, or refers to."""
    names = ("SchoolId", "SchoolYear", "SessionName", "LocalCourseCode", "SectionIdentifier")
    return "\x1f".join(element(name, block) or "" for name in names)


def class_id(tenant: str, key: str) -> UUID:
    """class_id of a class."""
    return derived_id(tenant, "class", key)


def staff_id(tenant: str, staff: str) -> UUID:
    """user_id of a StaffUniqueId."""
    return derived_id(tenant, "staff", staff)


def contact_id(tenant: str, contact: str) -> UUID:
    """user_id and guardian_id of a ContactUniqueId."""
    return derived_id(tenant, "contact", contact)


def _seats(folder: Path) -> Iterator[Seat]:
    section = {one(r"<GradebookEntryIdentifier>(\d+)<", b): class_of(b)
               for b in blocks(folder, "StudentGradebook", "GradebookEntry")}  # fmt: skip
    for block in blocks(folder, "StudentGradebook", "StudentGradebookEntry"):
        yield one(r"<StudentUniqueId>(\d+)<", block), section[one(r"<GradebookEntryIdentifier>(\d+)<", block)]
    for block in blocks(folder, "StudentSectionAttendance-Tardy", "StudentSectionAttendanceEvent"):
        yield one(r"<StudentUniqueId>(\d+)<", block), class_of(block)
