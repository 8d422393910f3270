"""Names: of students, their schools, their teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from skillcore_streams.reports import Page
from skillcore_streams.runtime.documents import plain
from skillcore_streams.runtime.errors import NotYet

# The school that the student entered last.
STUDENT = """
    select u.given_name, u.family_name, u.sourced_id, o.name as school, e.grade_level, m.school_id
      from user_profiles u
      left join lateral (select school_id from student_membership x
                          where x.tenant_id = u.tenant_id and x.student_id = u.user_id
                          order by x.begin_date desc, x.school_id limit 1) m on true
      left join lateral (select grade_level from enrollments x
                          where x.tenant_id = u.tenant_id and x.student_id = u.user_id and x.school_id = m.school_id
                          order by x.begin_date desc, x.enrollment_id limit 1) e on true
      left join orgs o on o.tenant_id = u.tenant_id and o.org_id = m.school_id
     where u.tenant_id = $1 and u.user_id = $2"""

NAMES = """
    select user_id, given_name, family_name, sourced_id from user_profiles
     where tenant_id = $1 and user_id = any($2::uuid[])"""

ORG = "select name from orgs where tenant_id = $1 and org_id = $2"

DISTRICT = """
    select name from orgs where tenant_id = $1 order by (type = 'district') desc, org_id limit 1"""


@dataclass(frozen=True, slots=True)
class Student:
    """Who a report is about."""

    name: str
    number: str
    school: str
    grade_level: str
    school_id: UUID | None


async def student(page: Page, student_id: UUID) -> Student:
    """The student. Raises NotYet: their name comes from another topic than what the report is about."""
    row = await page.row(STUDENT, student_id)
    if row is None:
        raise NotYet("a student's name")
    return Student(
        name=plain(f"{row['given_name']} {row['family_name']}"), number=row["sourced_id"],
        school=plain(row["school"] or "School not known"), grade_level=row["grade_level"] or "not known",
        school_id=row["school_id"],
    )


async def names(page: Page, users: list[UUID]) -> Mapping[UUID, str]:
    """Family name, given name of each that is known."""
    rows = await page.rows(NAMES, sorted(set(users)))
    return {row["user_id"]: plain(f"{row['family_name']}, {row['given_name']}") for row in rows}


async def organisation(page: Page, school_id: UUID | None) -> str:
    """The school's name, or the district's when no school is asked for."""
    row = await page.row(ORG, school_id) if school_id is not None else await page.row(DISTRICT)
    return plain(row["name"]) if row is not None else "School not known"
