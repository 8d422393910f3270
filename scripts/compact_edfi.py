"""Derive data/grand-bend from the full sample: the same Ed-Fi interchanges, holding what the importer reads.

    python scripts/compact_edfi.py /path/to/the/full/sample data/grand-bend

Records and elements named below are kept, everything else goes, and so does the white space. The result is the same
bytes each time: gzip is told no time and no file name.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

EDFI = "http://ed-fi.org/5.2.0"

KEEP = {  # interchange: record: the record's children that stay, with all they hold, or only what follows the slash
    "EducationOrganization": {
        "LocalEducationAgency": [
            "NameOfInstitution", "EducationOrganizationCategory", "LocalEducationAgencyId",
            "LocalEducationAgencyCategory",
        ],
        "School": [
            "NameOfInstitution", "EducationOrganizationCategory", "SchoolId", "GradeLevel",
            "LocalEducationAgencyReference",
        ],
        "Course": ["CourseCode", "CourseTitle", "EducationOrganizationReference"],
    },
    "EducationOrgCalendar": {
        "Session": [
            "SessionName", "SchoolYear", "BeginDate", "EndDate", "Term", "TotalInstructionalDays", "SchoolReference",
            "GradingPeriodReference",
        ],
        "GradingPeriod": [
            "SchoolReference", "GradingPeriod", "GradingPeriodName", "PeriodSequence", "SchoolYear", "BeginDate",
            "EndDate", "TotalInstructionalDays",
        ],
    },
    "Student": {"Student": ["StudentUniqueId", "Name/FirstName", "Name/LastSurname", "BirthData/BirthDate"]},
    "StudentSchoolAttendance": {
        "StudentSchoolAttendanceEvent": [
            "AttendanceEvent/EventDate", "AttendanceEvent/AttendanceEventCategory", "AttendanceEvent/EventDuration",
            "StudentReference", "SchoolReference", "SessionReference", "SchoolAttendanceDuration", "ArrivalTime",
        ],
    },
    "StaffAssociation": {
        "Staff": [
            "StaffUniqueId", "Name/FirstName", "Name/LastSurname", "ElectronicMail/ElectronicMailAddress",
        ],
        "StaffEducationOrganizationAssignmentAssociation": [
            "StaffReference", "EducationOrganizationReference", "StaffClassification", "BeginDate",
        ],
        "StaffSectionAssociation": ["StaffReference", "SectionReference", "ClassroomPosition", "BeginDate", "EndDate"],
    },
    "Contact": {
        "Contact": [
            "ContactUniqueId", "Name/FirstName", "Name/LastSurname", "Telephone/TelephoneNumber",
            "Telephone/TelephoneNumberType",
        ],
        "StudentContactAssociation": [
            "StudentReference", "ContactReference", "Relation", "PrimaryContactStatus", "EmergencyContactStatus",
        ],
    },
    "MasterSchedule": {
        "Section": ["SectionIdentifier", "CourseOfferingReference", "ClassPeriodReference", "SectionName"],
    },
    "StudentGradebook": {
        "GradebookEntry": [
            "GradebookEntryIdentifier", "Namespace", "SectionReference", "DateAssigned", "Title", "DueDate",
        ],
        "StudentGradebookEntry": [
            "GradebookEntryReference", "StudentReference", "NumericGradeEarned", "SubmissionStatus",
            "AssignmentLateStatus",
        ],
    },
    "StudentProgram": {
        "StudentSpecialEducationProgramAssociation": [
            "StudentReference", "BeginDate", "SpecialEducationSetting", "SpecialEducationHoursPerWeek",
            "LastEvaluationDate", "IEPReviewDate", "IEPBeginDate", "Disability", "SpecialEducationExitDate", "EndDate",
            "IEPEndDate", "SpecialEducationProgramService",
        ],
        "StudentSection504ProgramAssociation": [
            "StudentReference", "BeginDate", "Section504Disability", "Section504MeetingDate",
        ],
        "StudentLanguageInstructionProgramAssociation": ["StudentReference", "BeginDate"],
        "StudentSchoolFoodServiceProgramAssociation": [
            "StudentReference", "BeginDate", "SchoolFoodServiceProgramService",
        ],
        **{
            f"Student{name}ProgramAssociation": ["StudentReference", "ProgramReference", "BeginDate", "EndDate"]
            for name in ("", "MigrantEducation", "CTE", "Homeless", "NeglectedOrDelinquent", "TitleIPartA")
        },
    },
    "StudentIntervention": {
        "Intervention": [
            "InterventionIdentificationCode", "Diagnosis", "DeliveryMethod", "BeginDate", "MinDosage",
            "EducationOrganizationReference",
        ],
        "StudentInterventionAssociation": ["StudentReference", "InterventionReference", "Dosage"],
    },
    "StudentDiscipline": {
        "DisciplineIncident": [
            "IncidentIdentifier", "IncidentDate", "IncidentTime", "IncidentLocation", "SchoolReference",
        ],
        "StaffDisciplineIncidentAssociation": [
            "StaffReference", "DisciplineIncidentReference", "DisciplineIncidentParticipationCode",
        ],
        "StudentDisciplineIncidentBehaviorAssociation": [
            "StudentReference", "DisciplineIncidentReference", "Behavior", "BehaviorDetailedDescription",
        ],
        "StudentDisciplineIncidentNonOffenderAssociation": [
            "StudentReference", "DisciplineIncidentReference", "DisciplineIncidentParticipationCode",
        ],
        "DisciplineAction": [
            "DisciplineActionIdentifier", "Discipline", "DisciplineDate", "DisciplineActionLength",
            "ActualDisciplineActionLength", "StudentReference", "StudentDisciplineIncidentBehaviorAssociationReference",
        ],
    },
    "StudentSectionAttendance-Tardy": {
        "StudentSectionAttendanceEvent": [
            "AttendanceEvent/EventDate", "AttendanceEvent/AttendanceEventCategory", "StudentReference",
            "SectionReference", "SectionAttendanceDuration", "ArrivalTime",
        ],
    },
}  # fmt: skip


def compact(source: Path, target: Path) -> None:
    """Write one interchange in its compact form."""
    root = ElementTree.fromstring(gzip.decompress(source.read_bytes()))  # noqa: S314  (the Ed-Fi Alliance's own files)
    keep = KEEP[target.name.partition(".")[0]]
    for record in list(root):
        if (paths := keep.get(name(record))) is None:
            root.remove(record)
        else:
            prune(record, paths)
    root.attrib.clear()
    for element in root.iter():
        element.tail = None
        element.text = (element.text or "").strip() or None
    ElementTree.register_namespace("", EDFI)
    text = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    with target.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text)


def prune(record: Element, paths: list[str]) -> None:
    """Remove the children that are not named, and theirs where a path goes deeper."""
    deeper: dict[str, set[str]] = {}
    for path in paths:
        child, _, grandchild = path.partition("/")
        deeper.setdefault(child, set()).update({grandchild} - {""})
    for child in list(record):
        if name(child) not in deeper:
            record.remove(child)
        elif wanted := deeper[name(child)]:
            for grandchild in [g for g in child if name(g) not in wanted]:
                child.remove(grandchild)


def name(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.removeprefix(f"{{{EDFI}}}")


if __name__ == "__main__":
    full, small = map(Path, sys.argv[1:3])
    for interchange in KEEP:
        compact(full / f"{interchange}.xml.gz", small / f"{interchange}.xml.gz")
    shutil.copyfile(full / "calendar.csv", small / "calendar.csv")
