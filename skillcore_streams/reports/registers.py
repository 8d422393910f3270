"""Registers and reports that the law asks for, as they were drawn up in compliance_register.

To add one: a Register with its statement. The statement gets the tenant ($1), the period's first day ($2) and the first
day after ($3), and the school ($4, null for all); each of its columns is one of the report's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

from skillcore_streams.reports import Page, Params, people, report
from skillcore_streams.rules.periods import bounds_of
from skillcore_streams.runtime.documents import Column, Document, Paragraph, Section, table
from skillcore_streams.runtime.errors import PermanentError

EVERY_SCHOOL = UUID(int=0)

# The students of a school are its members in the period. A disclosure or an access is of the moment it happened.
OF_SCHOOL = """
    ($4::uuid is null or exists (select from student_membership m
                                  where m.tenant_id = $1 and m.student_id = x.student_id and m.school_id = $4
                                    and m.begin_date < $3 and coalesce(m.end_date >= $2, true)))"""

DISCLOSURES = f"""
    select (x.disclosed_at at time zone 'UTC')::date as day, u.family_name || ', ' || u.given_name as student,
           x.recipient_party, replace(x.recipient_type, '_', ' ') as recipient_type, x.legitimate_interest,
           array_to_string(x.records, ', ') as records, x.exception_cite,
           array_to_string(x.further_parties, ', ') as further_parties
      from ferpa_disclosures x
      left join user_profiles u on u.tenant_id = x.tenant_id and u.user_id = x.student_id
     where x.tenant_id = $1 and x.disclosed_at >= $2::date and x.disclosed_at < $3::date and {OF_SCHOOL}
     order by x.disclosed_at, x.disclosure_id"""  # noqa: S608 - our own text

ACCESSES = f"""
    select x.actor_role, x.record_type, coalesce(x.purpose, 'not given') as purpose, count(*) as accesses,
           count(distinct x.actor_id) as people, count(distinct x.student_id) as students
      from ferpa_access_log x
     where x.tenant_id = $1 and x.accessed_at >= $2::date and x.accessed_at < $3::date and {OF_SCHOOL}
     group by 1, 2, 3 order by 1, 2, 3"""  # noqa: S608 - our own text

# Due in the period and not replaced by another plan before it was due. On time: completed on the day at the latest.
TIMELINESS = f"""
    select replace(x.kind, '_', ' ') as kind, count(*) as due,
           count(*) filter (where x.completed_on <= x.due_date) as on_time,
           count(*) filter (where x.completed_on > x.due_date) as late,
           count(*) filter (where x.completed_on is null) as open,
           round(100.0 * count(*) filter (where x.completed_on <= x.due_date) / count(*), 2) as percent_on_time,
           coalesce(max(x.completed_on - x.due_date) filter (where x.completed_on > x.due_date), 0) as longest_delay
      from compliance_deadlines x
     where x.tenant_id = $1 and x.due_date >= $2 and x.due_date < $3
       and (x.closed_on is null or x.completed_on is not null) and {OF_SCHOOL}
     group by 1 order by 1"""  # noqa: S608 - our own text

MINUTES = f"""
    select o.name as school, count(distinct x.student_id) as students, count(*) as weeks,
           sum(x.delivered)::bigint as delivered, sum(x.credited)::bigint as credited,
           coalesce(sum(x.mandated), 0)::bigint as mandated,
           round(100.0 * sum(x.credited) filter (where x.mandated > 0)
                 / nullif(sum(x.mandated), 0), 2) as percent_credited,
           count(*) filter (where x.mandated > 0 and x.credited * 100 < x.mandated * 80) as short_weeks
      from service_minutes_weekly x
      left join lateral (select m.school_id from student_membership m
                          where m.tenant_id = x.tenant_id and m.student_id = x.student_id
                          order by m.begin_date desc, m.school_id limit 1) m on true
      left join orgs o on o.tenant_id = x.tenant_id and o.org_id = m.school_id
     where x.tenant_id = $1 and x.week >= $2 and x.week < $3 and {OF_SCHOOL}
     group by m.school_id, o.name order by o.name nulls last, m.school_id"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Register:
    """What a register is called, where it comes from, and how its columns are shown. `names`: it names students."""

    title: str
    source: str
    query: str
    columns: Sequence[tuple[str, Column]]
    names: bool = False


def _column(title: str, width: float = 1, number: bool = False) -> Column:
    return Column(title=title, width=width, kind="number" if number else "text")


REGISTERS: Mapping[str, Register] = {
    "disclosure_register": Register(
        "Register of disclosures",
        "34 CFR 99.32: parties who have received information from education records, and their legitimate interests.",
        DISCLOSURES,
        (
            ("day", Column(title="Day", kind="date")), ("student", _column("Student", 1.6)),
            ("recipient_party", _column("Party", 1.6)), ("recipient_type", _column("Kind of party")),
            ("legitimate_interest", _column("Legitimate interest", 2)), ("records", _column("Records", 1.6)),
            ("exception_cite", _column("Exception")), ("further_parties", _column("Further parties", 1.4)),
        ),
        names=True,
    ),
    "access_summary": Register(
        "Summary of access",
        "34 CFR 300.614: who obtained access to education records, and for which purpose. The record itself names "
        "person, student and date of each.",
        ACCESSES,
        (
            ("actor_role", _column("Role", 1.5)), ("record_type", _column("Record", 1.3)),
            ("purpose", _column("Purpose", 2)), ("accesses", _column("Accesses", number=True)),
            ("people", _column("People", number=True)), ("students", _column("Students", number=True)),
        ),
    ),
    "iep_timeliness": Register(
        "Timeliness of reviews",
        "34 CFR 300.324(b)(1): reviewed not less than annually; 300.303(b)(2): reevaluated at least once every 3 "
        "years. Counted are the reviews due in the period, unless another plan took the place of theirs.",
        TIMELINESS,
        (
            ("kind", _column("Kind", 1.6)), ("due", _column("Due", number=True)),
            ("on_time", _column("On time", number=True)), ("late", _column("Late", number=True)),
            ("open", _column("Not completed", number=True)),
            ("percent_on_time", Column(title="On time", kind="percent", width=1.2)),
            ("longest_delay", _column("Longest delay, days", 1.2, number=True)),
        ),
    ),
    "service_minutes": Register(
        "Service minutes",
        "34 CFR 300.323(c)(2): services are made available in accordance with the IEP. Minutes beyond a service's own "
        "mandate are not credited; a week below 80 percent of its mandate is short.",
        MINUTES,
        (
            ("school", _column("School", 2)), ("students", _column("Students", number=True)),
            ("weeks", _column("Weeks", number=True)), ("delivered", _column("Delivered, min", 1.1, number=True)),
            ("credited", _column("Credited, min", 1.1, number=True)),
            ("mandated", _column("Mandated, min", 1.1, number=True)),
            ("percent_credited", Column(title="Credited", kind="percent", width=1.1)),
            ("short_weeks", _column("Short weeks", number=True)),
        ),
    ),
}

DRAWN_UP = """
    select facts from compliance_register
     where tenant_id = $1 and kind = $2 and period = $3 and school_id = $4 and n > 0 order by n"""

IS_DRAWN_UP = """
    select 1 from compliance_register
     where tenant_id = $1 and kind = $2 and period = $3 and school_id = $4 and n = 0"""


def _is_period(period: str) -> str:
    bounds_of(period)
    return period


class OfPeriod(Params):
    """About a month or a school year, of one school or of all."""

    period: Annotated[str, AfterValidator(_is_period)]
    school_id: UUID | None = None


async def _draw(name: str, asked: OfPeriod, page: Page) -> Document:
    register = REGISTERS[name]
    which = (name, asked.period, asked.school_id or EVERY_SCHOOL)
    if await page.row(IS_DRAWN_UP, *which) is None:
        raise PermanentError("this register has not been drawn up for this period; order it of compliance-reporting")
    rows = [json.loads(row["facts"], parse_float=Decimal) for row in await page.rows(DRAWN_UP, *which)]
    heads = [column for _, column in register.columns]
    return Document(
        title=register.title, organisation=await people.organisation(page, asked.school_id),
        subtitle=f"{asked.period}, {'this school' if asked.school_id else 'all schools'}", wide=True,
        sections=(Section(blocks=(
            Paragraph(text=register.source),
            table(register.title, heads, [[row[name] for name, _ in register.columns] for row in rows]),
        )),),
    )  # fmt: skip


for _name, _register in REGISTERS.items():
    report(_name, "pdf", "xlsx", "csv", params=OfPeriod, personal=_register.names)(partial(_draw, _name))
