"""Bad inputs 72 to 80 of RELIABILITY.md, section 5: events that can be read and should not be believed.

What is done about 76, addresses that are more than one, is in tests/queues/test_notification_delivery.py.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from skillcore_streams.events.chat import ChatAttachmentUploaded
from skillcore_streams.events.rostering import UserCreated, UserDeactivated, UserRole
from skillcore_streams.runtime import Event
from skillcore_streams.runtime.chunk import Chunk, deliver
from skillcore_streams.runtime.envelope import encode
from skillcore_streams.testing import TENANT, HandlerLab, given
from tests.handlers.village import (
    CLASS,
    DAYS,
    FIRST,
    SCHOOL,
    STUDENT,
    assignment,
    class_grade,
    enrolment,
    grade,
    mark,
    ready,
    school,
    school_class,
    session,
    year_to_date,
)

OTHER = "elm"

TABLES = """
    select c.relname as name from pg_attribute a join pg_class c on c.oid = a.attrelid
     where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and not c.relispartition
       and c.relnamespace = 'public'::regnamespace and c.relname not in ('event', 'job', 'dead_letter') order by 1"""

INJECTIONS = [
    "'); DROP TABLE users; --", "Robert\\'; delete from grades where '1'='1", "${jndi:ldap://127.0.0.1/a}", "{{7*7}}",
    "{% for x in ().__class__.__base__.__subclasses__() %}", '=HYPERLINK("http://127.0.0.1")', "@SUM(1+1)*cmd|' /C'",
    "<script>alert(1)</script>", "$1::text", "%s %(x)s {0}", "a\r\nBcc: all@example.org", "\u202egnp.exe",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "e" + "\u0301" * 60,
    "../../etc/passwd", "\\x00\\", "NULL", "__class__",
]


async def everything(lab: HandlerLab, tenant: str) -> dict[str, list[Any]]:
    """All rows of a tenant."""
    found = {}
    for row in await lab.rows(TABLES):
        name = row["name"]
        rows = await lab.rows(f"select t::text as row from {name} t where tenant_id = $1 order by 1", tenant)
        found[name] = [r["row"] for r in rows]
    return found


async def graded(lab: HandlerLab) -> None:
    """A student with a school, a class and an assignment."""
    await ready(lab)
    await lab.deliver([school_class(), enrolment(class_id=CLASS), assignment(0)])
    await lab.settle()


async def letters(lab: HandlerLab) -> list[str]:
    return [r["reason"] for r in await lab.rows("select reason from dead_letter order by first_at")]


async def take(lab: HandlerLab, *events: Event) -> None:
    """Deliver, and let failed calls run their course: unlike the lab's own ways, without a complaint."""
    for event in events:
        topic, key, headers, value = encode(event)
        start = await lab._offset(topic)
        lab._offsets[topic] = start + 1
        one = lab._as_record(key, value, headers, start)
        await deliver(Chunk(topic, 0, start, start + 1, [one]), lab.core)
    for _ in range(6):
        await lab.execute("update later set run_at = clock_timestamp() where run_at > clock_timestamp()")
        await lab._runner.run_due()


async def test_72_another_tenant_that_names_our_student_school_and_class_changes_nothing_of_ours(
    lab: HandlerLab
) -> None:
    await graded(lab)
    await lab.deliver([mark(0), grade(0, 8)])
    await lab.settle()
    before = await everything(lab, TENANT)

    await take(lab, mark(0, "present", tenant=OTHER), grade(0, 1, tenant=OTHER), enrolment(DAYS[3], tenant=OTHER),
               mark(1, "absent_unexcused", tenant=OTHER, hour=11), school(tenant=OTHER, name="stolen"))

    assert await everything(lab, TENANT) == before
    assert (await everything(lab, OTHER))["orgs"]


async def test_73_what_is_said_of_a_student_who_has_left_is_kept_and_harms_nobody(lab: HandlerLab) -> None:
    await graded(lab)
    gone = UserDeactivated(user_id=STUDENT, reason="withdrawn", effective_date=DAYS[2])
    await lab.deliver([given(gone)])
    await lab.deliver([mark(5), grade(0, 8)])
    await lab.settle()

    assert (await year_to_date(lab))[1] is not None
    assert (await class_grade(lab))[0] == "80.00"
    assert await letters(lab) == []


async def test_73_what_is_said_of_a_student_nobody_knows_waits_or_is_kept_and_keeps_nobody_waiting(
    lab: HandlerLab
) -> None:
    await graded(lab)
    stranger = UUID(int=666)

    await take(lab, mark(0, student=stranger), grade(0, 8, student=stranger), mark(0), grade(0, 9))

    assert (await class_grade(lab))[0] == "90.00"
    assert await letters(lab) == []


@pytest.mark.parametrize(("score", "stands"), [
    ("-5", "-50.00"), ("101", "1010.00"), ("0", "0.00"), ("0.000001", "0.00"),
])
async def test_74_a_score_below_nothing_or_above_all_is_the_teacher_s_to_give(
    lab: HandlerLab, score: str, stands: str
) -> None:
    await graded(lab)
    await lab.deliver([grade(0, score)])
    await lab.settle()

    assert (await class_grade(lab))[0] == stands


@pytest.mark.parametrize("score", ["1e400", "-1e400", "1e-400", "9" * 2000, "1e200000", "0.0000001", "1000000000"])
async def test_74_a_score_that_no_gradebook_has_is_dead_lettered_and_the_next_one_counts(
    lab: HandlerLab, score: str
) -> None:
    await graded(lab)
    await take(lab, grade(0, score), grade(0, 7, hour=13))

    assert (await class_grade(lab))[0] == "70.00"
    assert all(score not in reason for reason in await letters(lab))
    assert len(await letters(lab)) >= 1


@pytest.mark.parametrize("points", ["-10", "1e400"])
async def test_74_an_assignment_of_impossible_points_is_dead_lettered_and_the_class_goes_on(
    lab: HandlerLab, points: str
) -> None:
    await graded(lab)
    await take(lab, assignment(1, points), grade(0, 7))

    assert (await class_grade(lab))[0] == "70.00"
    assert len(await letters(lab)) == 1


@pytest.mark.parametrize("text", INJECTIONS)
async def test_75_79_text_is_stored_as_it_was_said_and_never_means_anything(lab: HandlerLab, text: str) -> None:
    await ready(lab)
    user = UserCreated(
        user_id=UUID(int=7), sourced_id=text, roles=[UserRole(role="teacher", org_id=SCHOOL, primary=True)],
        given_name=text, family_name=text, email=text, status="active",
    )
    await lab.deliver([given(user), school(UUID(int=101), name=text), school_class(title=text),
                       session(title=text), enrolment(class_id=CLASS), assignment(0, title=text),
                       mark(0, "absent_unexcused", id=text)])
    await lab.settle()

    [row] = await lab.rows("select * from user_profiles where user_id = $1", UUID(int=7))
    assert {row["sourced_id"], row["given_name"], row["family_name"]} == {text}
    assert await lab.value("select name from orgs where org_id = $1", UUID(int=101)) == text
    assert await lab.value("select title from classes where class_id = $1", CLASS) == text
    assert await lab.value("select title from assignments where class_id = $1", CLASS) == text
    assert await lab.value("select count(*) from academic_sessions where title = $1", text) == 1
    assert (await year_to_date(lab))[1] is not None
    assert await letters(lab) == []


NAMES = [
    "../../etc/passwd", "..\\..\\boot.ini", "C:\\", "/dev/null", "CON", "a\u202egnp.exe", ".", "..", "-rf", "~root",
    "a\nb",
]
PLACES = [
    "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL",
    "https://example.org/?next=http://127.0.0.1", "//127.0.0.1/x", "javascript:alert(1)",
]


@pytest.mark.parametrize(("filename", "place"), [*((name, "k") for name in NAMES), *(("k", place) for place in PLACES)])
async def test_77_78_a_file_name_is_text_and_nobody_goes_to_a_place_that_an_event_names(
    lab: HandlerLab, filename: str, place: str
) -> None:
    uploaded = ChatAttachmentUploaded(
        room_id=UUID(int=900), attachment_id=UUID(int=901), message_id=UUID(int=902), uploader_id=STUDENT,
        filename=filename, mime="text/plain", size=1, sha256="0" * 64, storage_key=place,
    )
    await lab.deliver([given(uploaded)])
    await lab.settle()

    kept = json.loads(await lab.value("select data from event where type = $1", uploaded.__type__))
    assert (kept["filename"], kept["storage_key"]) == (filename, place)
    assert await lab.value("select count(*) from job") == 0
    assert await lab.value("select count(*) from outbox") == 0
    assert await letters(lab) == []


async def test_80_an_organisation_that_is_its_own_parent_and_two_that_are_each_other_s_are_stored(
    lab: HandlerLab
) -> None:
    a, b = UUID(int=101), UUID(int=102)
    of_itself = session(title="of itself")
    await lab.deliver([
        school(parent_org_id=SCHOOL), school(a, parent_org_id=b, type="district"),
        school(b, parent_org_id=a, type="district"),
        session(title="of itself", parent_id=of_itself.session_id), session(), enrolment(),
        mark(0), mark(1), mark(2),
    ])
    await lab.settle()

    assert await lab.value("select count(*) from orgs where parent_org_id = org_id") == 1
    assert await lab.value("select count(*) from academic_sessions where parent_id = session_id") == 1
    assert (await year_to_date(lab))[:2] == (3, Decimal(3))
    assert await letters(lab) == []
    assert DAYS[0] == FIRST
