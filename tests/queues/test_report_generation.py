"""Reports: what they say, that they are made once, and what becomes of them when something breaks on the way."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from uuid import UUID

import openpyxl
import pypdf
import pytest

from skillcore_streams.events.resources import ReportGenerated
from skillcore_streams.queues.report_generation import (
    AttendanceLetter,
    GenerateReport,
    attendance_letter,
    generate_report,
    of_the_old_system,
)
from skillcore_streams.reports import KINDS, words
from skillcore_streams.runtime import NotYet, PermanentError, failpoints
from skillcore_streams.runtime.documents import DocumentRenderer, RenderFailed
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.objects import ObjectStore, StoreError
from skillcore_streams.testing import NOW, TENANT, HandlerLab, MemoryStore, given
from tests.handlers.plans import BEGIN, a_plan, goal, iep
from tests.handlers.test_demographics import guardian, user
from tests.handlers.village import (
    CLASS,
    OTHER_SCHOOL,
    STUDENT,
    TEACHER,
    YEAR,
    assignment,
    correction,
    enrolment,
    grade,
    mark,
    ready,
    school_class,
    teacher,
)
from tests.queues.archiving import put_in_line

REPORT = UUID(int=4000)
REQUESTER = UUID(int=4001)
LETTER = AttendanceLetter(student_id=STUDENT, school_year=YEAR, threshold="chronic_10")


def order(kind: str = "report_card", form: str = "pdf", id: UUID = REPORT, **params: object) -> GenerateReport:
    """An order by REQUESTER, about STUDENT unless it says otherwise."""
    said = {name: str(value) for name, value in params.items()} or {"student_id": str(STUDENT)}
    return given(GenerateReport(report_id=id, kind=kind, format=form, params=said, requested_by=REQUESTER))  # type: ignore[arg-type]


def files(lab: HandlerLab) -> MemoryStore:
    store = lab.services[ObjectStore]
    assert isinstance(store, MemoryStore)
    return store


def file_of(lab: HandlerLab, prefix: str = "") -> bytes:
    """The one file whose key begins so."""
    [body] = [body for key, body in files(lab).objects.items() if key.startswith(prefix)]
    return body


def text_of(lab: HandlerLab) -> str:
    pages = pypdf.PdfReader(io.BytesIO(file_of(lab))).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


async def a_student(lab: HandlerLab, name: str = "José", family: str = "Núñez", **more: Any) -> None:
    """With a school, a calendar, and 22 marked days of which 3 were missed."""
    await ready(lab)
    person = user("student", id=STUDENT, given_name=name, family_name=family, sourced_id="S-1001", **more)
    marks = [mark(n, "absent_excused" if n in (3, 4, 15) else "present") for n in range(22)]
    await lab.deliver([person, *marks])
    await lab.run_jobs()
    files(lab).objects.clear()
    await lab.execute("delete from reports")


async def a_class(lab: HandlerLab) -> None:
    """With a teacher, two students and two assignments."""
    other = UUID(int=2)
    await lab.deliver([
        school_class(title="Algebra 7"), teacher(), user("teacher", id=TEACHER, given_name="Ada", family_name="King"),
        user("student", id=other, given_name="=cmd()", family_name="-Zoe"),
        enrolment(class_id=CLASS), enrolment(student=other, class_id=CLASS), assignment(0), assignment(1),
        grade(0, 9), grade(1, 7), grade(0, 2, student=other),
    ])
    await lab.run_jobs()
    files(lab).objects.clear()
    await lab.execute("delete from reports")


# What they say --------------------------------------------------------------------------------------------------------


async def test_a_letter_tells_the_family_what_was_missed(lab: HandlerLab) -> None:
    await a_student(lab)

    done = await lab.run(attendance_letter, LETTER)

    said = text_of(lab)
    assert "Dear family of José Núñez," in said
    assert "was absent on 3 of 20 school days, 15.00 percent." in said
    assert "10 percent of school days or more is chronically absent" in said
    [event] = done.published
    assert isinstance(event, ReportGenerated)
    assert (event.kind, event.format, event.pages, event.contains_pii) == ("attendance_letter", "pdf", 1, True)


async def test_a_letter_is_written_in_the_language_of_the_guardian_called_first(lab: HandlerLab) -> None:
    await a_student(lab)
    first, second, blocked = UUID(int=301), UUID(int=302), UUID(int=303)
    await lab.deliver([
        guardian(1, STUDENT, id=second, language="en", emergency_order=2),
        guardian(1, STUDENT, id=first, language="es-MX", emergency_order=1),
        guardian(1, STUDENT, id=blocked, language="fr", emergency_order=0, custody="restricted"),
    ])

    await lab.run(attendance_letter, LETTER)

    assert "Estimada familia de José Núñez:" in text_of(lab)


async def test_a_letter_about_what_a_correction_took_back_is_not_written(lab: HandlerLab) -> None:
    await a_student(lab)
    wrong = [mark(n, "absent_excused") for n in (3, 4, 15)]
    await lab.deliver([correction(m, "present") for m in wrong])
    await lab.run_jobs()

    done = await lab.run(attendance_letter, LETTER)

    assert done.published == []
    assert files(lab).objects == {}
    assert "no longer holds" in lab.notes[-1]


async def test_a_letter_waits_for_the_student_s_name(lab: HandlerLab) -> None:
    await ready(lab)
    await lab.deliver([mark(n, "absent_excused") for n in range(22)])

    with pytest.raises(NotYet, match="a student's name"):
        await lab.run(attendance_letter, LETTER)


async def test_every_threshold_reached_has_its_letter_written_once(lab: HandlerLab) -> None:
    await a_student(lab)

    await lab.settle()
    await lab.run(attendance_letter, LETTER)

    reached = await lab.value("select count(*) from attendance_threshold where retracted_at is null")
    assert reached == len(files(lab).objects) == await lab.value("select count(*) from reports") == 2


def test_every_sentence_of_a_letter_is_there_in_every_language() -> None:
    assert {frozenset(said) for said in words.LETTER.values()} == {frozenset(words.LETTER["en"])}
    assert words.language_of("es-419", words.LETTER) == "es"
    assert words.language_of("tlh", words.LETTER) == "en"


async def test_a_report_card_has_all_classes_and_the_years_of_attendance(lab: HandlerLab) -> None:
    await a_student(lab)
    await a_class(lab)

    await lab.run(generate_report, order())

    said = text_of(lab)
    parts = ("Report card", "José Núñez", "S-1001", "Lakeside", "Algebra 7", "King, Ada", "80.00 %", "B", YEAR, "22")
    for part in parts:
        assert part in said, part


async def test_an_intervention_summary_says_why_a_team_should_look(lab: HandlerLab) -> None:
    await a_student(lab)
    await lab.settle()
    await a_class(lab)

    await lab.run(generate_report, order("intervention_summary"))

    said = text_of(lab)
    for part in ("Early warning", "Points by area", "Attendance 2", "Absent on 13.6 % of 22 enrolled days"):
        assert part in said, part


async def test_a_record_packet_shows_the_parts_of_the_record_that_are_kept_here(lab: HandlerLab) -> None:
    await a_student(lab)
    await a_class(lab)
    await lab.deliver([iep(), goal(), *a_plan()])
    await lab.run_jobs()
    files(lab).objects.clear()

    await lab.run(generate_report, order("student_record_packet"))

    said = text_of(lab)
    for part in ("Enrollment", "2021-09-09", "absent excused", "Algebra 7", "IEP", "Section 504", "words a minute",
                 "annual review", BEGIN.isoformat()):
        assert part in said, part


async def test_a_gradebook_lists_students_by_family_name_in_csv_and_excel(lab: HandlerLab) -> None:
    await a_student(lab)
    await a_class(lab)

    await lab.run(generate_report, order("final_gradebook", "csv", class_id=CLASS))
    rows = list(csv.reader(io.StringIO(file_of(lab).decode("utf-8-sig"), newline="")))
    files(lab).objects.clear()
    await lab.run(generate_report, order("final_gradebook", "xlsx", UUID(int=4002), class_id=CLASS))
    book = openpyxl.load_workbook(io.BytesIO(file_of(lab)))

    assert [row[0] for row in rows] == ["Student", "'-Zoe, =cmd()", "Núñez, José"]
    assert rows[2][1:4] == ["80.00", "80.00", "B"]
    assert [tuple(cell.value for cell in row)[:4] for row in book["Scores"].iter_rows(min_row=2)] == [
        ("-Zoe, =cmd()", 20, 10, "F"), ("Núñez, José", 80, 80, "B"),
    ]


async def test_a_tenant_s_report_holds_nothing_of_another(lab: HandlerLab) -> None:
    await a_student(lab)
    elsewhere = given(order(), tenant="elsewhere")

    with pytest.raises(NotYet):
        await lab.run(generate_report, elsewhere)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"attendance_letter"}))
async def test_every_kind_in_every_format_is_the_same_bytes_for_the_same_rows(lab: HandlerLab, kind: str) -> None:
    await a_student(lab)
    await a_class(lab)
    params: dict[str, object] = {}
    if "class_id" in KINDS[kind].params.model_fields:
        params = {"class_id": CLASS}
    elif "period" in KINDS[kind].params.model_fields:
        params = {"period": YEAR}
        await lab.execute(
            "insert into compliance_register values ($1, $2, $3, $4, 0, '{}')", TENANT, kind, YEAR, UUID(int=0)
        )

    for n, form in enumerate(KINDS[kind].formats):
        for twice in range(2):
            await lab.run(generate_report, order(kind, form, UUID(int=5000 + 10 * n + twice), **params))

    rows = await lab.rows("select format, count(*) as files, count(distinct sha256) as texts from reports group by 1")
    assert {row["format"]: (row["files"], row["texts"]) for row in rows} == dict.fromkeys(KINDS[kind].formats, (2, 1))


# What becomes of them -------------------------------------------------------------------------------------------------


async def test_a_report_is_a_file_a_row_an_event_and_a_result(lab: HandlerLab) -> None:
    await a_student(lab)

    await put_in_line(lab, order())
    await lab.settle()

    [row] = await lab.rows("select * from reports where report_id = $1", REPORT)
    body = file_of(lab, f"reports/{TENANT}/report_card/{REPORT}-")
    assert (row["size"], row["student_id"], row["requested_by"]) == (len(body), STUDENT, REQUESTER)
    assert (row["expires_at"] - NOW).days > 0
    [artifact] = await lab.rows("select storage_key, sha256 from report_artifacts where report_id = $1", REPORT)
    assert artifact == {"storage_key": row["object_key"], "sha256": row["sha256"]}
    result = await lab.value("select result from job_result r join job j on j.id = r.job_id where kind = 'report'")
    assert json.loads(result)["storage_key"] == row["object_key"]
    [access] = await lab.rows(
        "select student_id, actor_id, purpose from ferpa_access_log where actor_id = $1", REQUESTER
    )
    assert access == {"student_id": STUDENT, "actor_id": REQUESTER, "purpose": "report"}
    assert await lab.value("select count(*) from job where payload::jsonb->>'template' = 'report.ready'") == 1


async def test_the_same_order_again_makes_no_second_file_and_says_the_same(lab: HandlerLab) -> None:
    await a_student(lab)
    first = await lab.run(generate_report, order())
    await lab.deliver([mark(30, "absent_excused")])  # other rows now: what was printed stays printed

    again = await lab.run(generate_report, order())

    assert [e.model_dump() for e in again.published] == [e.model_dump() for e in first.published]
    assert [e.meta.key for e in again.published] == [e.meta.key for e in first.published]
    assert len(files(lab).objects) == 1


async def test_an_id_that_another_report_has_is_refused(lab: HandlerLab) -> None:
    await a_student(lab)
    await lab.run(generate_report, order())

    with pytest.raises(PermanentError, match="another report has this report_id"):
        await lab.run(generate_report, order("intervention_summary"))


@pytest.mark.parametrize("point", ["report.rendered", "report.stored", "report.noted"])
async def test_a_report_that_dies_on_the_way_is_made_once_in_the_end(lab: HandlerLab, point: str) -> None:
    await a_student(lab)
    failpoints.arm(f"{point}=fail")
    try:
        with pytest.raises(Infrastructure):
            await lab.run(generate_report, order())
    finally:
        failpoints.arm("")

    done = await lab.run(generate_report, order())

    assert len(done.published) == 1
    assert len(files(lab).objects) == 1
    assert await lab.value("select count(*) from reports") == 1


async def test_a_store_that_is_away_costs_an_attempt_and_no_more(lab: HandlerLab) -> None:
    await a_student(lab)
    files(lab).failing = 1
    with pytest.raises(StoreError):
        await lab.run(generate_report, order())

    assert len((await lab.run(generate_report, order())).published) == 1


async def test_a_job_whose_rendering_process_dies_fails_like_any_other_and_is_tried_again(lab: HandlerLab) -> None:
    await a_student(lab)
    real = lab.services[DocumentRenderer]
    assert isinstance(real, DocumentRenderer)

    class DiesOnce(DocumentRenderer):
        deaths = 1

        async def render(self, document: Any, format: Any) -> Any:
            if self.deaths:
                self.deaths -= 1
                raise RenderFailed("the rendering process died (exit code -9)")
            return await real.render(document, format)

    lab.services[DocumentRenderer] = DiesOnce()
    await put_in_line(lab, order())
    for _ in range(2):
        with pytest.raises(AssertionError, match="the rendering process died"):
            await lab.run_jobs()

    assert await lab.value("select count(*) from reports where report_id = $1", REPORT) == 1
    assert await lab.value("select state from job_now where kind = 'report'") == "completed"


@pytest.mark.parametrize(("wrong", "reason"), [
    (order("horoscope"), "there is no report of this kind"),
    (order("attendance_letter", "csv"), "is made as pdf, not as csv"),
    (order("report_card", class_id=CLASS), "student_id: Field required"),
    (order("report_card", student_id="sam"), "student_id: Input should be a valid UUID"),
    (order("report_card", student_id=STUDENT, also="x"), "a parameter: Extra inputs are not permitted"),
    (order("service_minutes", period="last year"), "a period is a month"),
    (order("service_minutes", period="2022-05"), "has not been drawn up"),
])  # fmt: skip
async def test_an_order_that_cannot_be_carried_out_is_a_dead_letter_that_says_why(
    lab: HandlerLab, wrong: GenerateReport, reason: str
) -> None:
    with pytest.raises(PermanentError, match=reason) as error:
        await lab.run(generate_report, wrong)

    assert "sam" not in str(error.value)


HOSTILE = ["'); DROP TABLE reports;--", "{{7*7}}", "#{7*7}", "=HYPERLINK(\"http://x\")", "<script>x</script>",
           "\u202egnp", "../../etc/passwd", "👩\u200d👧", "e" + "\u0301" * 300, "\u200b\u200b", "$x$ *b* _i_ @a"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_makes_a_report_like_any_other(lab: HandlerLab, name: str) -> None:
    await a_student(lab, name=name)

    done = await lab.run(generate_report, order())

    [event] = done.published
    assert isinstance(event, ReportGenerated)
    assert event.storage_key.startswith(f"reports/{TENANT}/report_card/{REPORT}-")


@pytest.mark.parametrize("tenant", ["../../etc", "C:\\", "\u202exfdp", "a b/c"])
async def test_a_hostile_tenant_stays_in_its_folder(lab: HandlerLab, tenant: str) -> None:
    await lab.execute("insert into classes values ($1, $2, 0, 'x', $2, $3, '{}', 'Algebra', 'scheduled', '{}', '{}')",
                      tenant, CLASS, OTHER_SCHOOL)  # fmt: skip

    await lab.run(generate_report, given(order("final_gradebook", "csv", class_id=CLASS), tenant=tenant))

    [key] = files(lab).objects
    assert key.split("/")[0] == "reports"
    assert len(key.split("/")) == 4
    assert ".." not in key
    assert key.isascii()


def test_a_bullmq_job_named_after_a_kind_is_an_order() -> None:
    data = {"reportId": str(REPORT), "format": "pdf", "params": {"student_id": "x"}, "requestedBy": str(REQUESTER)}

    made = of_the_old_system("report_card", data)

    assert made == GenerateReport(
        report_id=REPORT, kind="report_card", format="pdf", params={"student_id": "x"}, requested_by=REQUESTER
    )
    assert of_the_old_system("horoscope", data) is None
