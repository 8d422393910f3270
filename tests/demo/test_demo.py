"""The demonstration as a person without a terminal runs it: in its short form, with its kill -9 and its garbage.

One run serves all tests; it is left running so that rows can be tampered with, because a proof that cannot fail proves
nothing.
"""

from __future__ import annotations

import ast
import asyncio
import gzip
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from click.testing import CliRunner

from skillcore_streams import events
from skillcore_streams.cli.demo import demo
from skillcore_streams.demo import proof
from skillcore_streams.demo.garbage import KINDS, garbage
from skillcore_streams.demo.proof import compare
from skillcore_streams.runtime.envelope import Parked, decode
from skillcore_streams.runtime.outbox import Outgoing
from skillcore_streams.stack import Stack

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from skillcore_streams.cli import main; main()", "demo"]


def processes(folder: Path) -> list[str]:
    """Command lines and environments that name the folder: the servers have it in the one, the workers in the other."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(folder).encode() in said:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@dataclass
class Run:
    folder: Path
    code: int
    outcome: dict[str, Any]
    said: str

    def prove(self) -> tuple[int, dict[str, Any]]:
        again = subprocess.run(
            [*COMMAND, "--prove", "--json", "--dir", str(self.folder)],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        assert again.stdout, again.stderr
        return again.returncode, json.loads(again.stdout)

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            db = await asyncpg.connect(Stack(self.folder).env()["SKILLCORE_DATABASE_URL"])
            try:
                for statement in statements:
                    await db.execute(statement)
            finally:
                await db.close()

        asyncio.run(run())


@pytest.fixture(scope="module")
def performance(tmp_path_factory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("demo") / "stack"
    try:
        run = subprocess.run(
            [*COMMAND, "--quick", "--keep", "--json", "--dir", str(folder)],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=270,
        )
        assert run.stdout, run.stderr
        outcome = json.loads(run.stdout)
        if outcome["kafka"] == "mock":
            pytest.skip("NOT RUN: needs Apache Kafka, and this machine has only librdkafka's in-memory broker")
        yield Run(folder, run.returncode, outcome, run.stderr)
    finally:
        subprocess.run([*COMMAND, "--stop", "--dir", str(folder)], cwd=ROOT, check=False, capture_output=True)
        left = processes(folder)
        if folder.exists():
            Stack(folder).remove()
        assert not left


def test_nothing_is_lost_or_doubled(performance):
    outcome = performance.outcome

    assert performance.code == 0, performance.said
    assert (outcome["lost"], outcome["duplicated"], outcome["wrong"]) == (0, 0, 0)
    assert all(line["ok"] for line in outcome["lines"])
    assert outcome["compared"] > 20_000
    assert "kill -9 of worker" in performance.said
    assert outcome["garbage"] == KINDS
    assert sum(letter["count"] for letter in outcome["parked"]) == KINDS
    assert outcome["sent_twice"] > 50
    assert 0 < outcome["crash_to_caught_up_seconds"] < 60  # seconds; a few on a machine that does nothing else


def test_effects_of_every_kind_were_expected(performance):
    sections = ("who is there", "attendance", "grades", "plans and services", "messages")
    effects = [line for line in performance.outcome["lines"] if line["section"] in sections]

    assert {line["section"] for line in effects} == set(sections)
    for line in effects:
        assert line["expected"] > 0, f"a proof over no rows proves nothing: {line['what']}"
    for table in ("attendance_day", "school_attendance_daily", "student_attendance_ytd", "attendance_threshold",
                  "absence_notices", "truancy_cases", "user_profiles", "enrollments", "guardian_students", "classes",
                  "class_staff", "grades", "student_class_grades", "ieps", "compliance_deadlines", "service_logs",
                  "service_minutes_weekly", "iep_goals", "student_alerts"):
        assert any(line["where"] == table for line in effects)


def test_while_twilio_is_down_text_messages_become_mails(performance):
    assert "Twilio is down" in performance.said
    assert performance.outcome["text_messages"] > 0
    assert performance.outcome["text_messages_that_became_mails"] > 0


class Page(HTMLParser):
    """What a reader without eyes or network meets: headings, titles of pictures, addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for seen, attrs in self.seen if seen == tag]


def test_the_report_stands_alone_and_can_be_heard(performance):
    page = Page((performance.folder / "report.html").read_text())

    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    pictures = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert len(pictures) >= 9
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in pictures)
    assert not page.all("script") + page.all("link") + page.all("img")
    assert all(a["href"].startswith(("#", "http://127.0.0.1:")) for a in page.all("a"))


def test_the_report_tells_of_the_whole_year_and_what_of_it_is_made_up(performance):
    report = (performance.folder / "report.html").read_text()

    for heading in ("Grades", "What must be reviewed, and by when", "The minutes that were promised"):
        assert f">{heading}</h2>" in report
    assert "The items come to the stored grade." in report
    assert "The days come to the stored rate." in report
    assert "68 IEPs are open" in report
    assert report.count("class='madeup'") >= 5
    assert "was made up from seed 7" in report


def test_the_report_names_no_student(performance):
    report = (performance.folder / "report.html").read_text() + json.dumps(performance.outcome)
    source = gzip.decompress((ROOT / "data/grand-bend/Student.xml.gz").read_bytes()).decode()
    names = re.findall(r"<FirstName>([^<]+)</FirstName><LastSurname>([^<]+)<", source)

    assert len(names) == 960
    assert not [name for name in names if " ".join(name) in report]
    assert not [n for n in re.findall(r"<StudentUniqueId>(\d+)<", source) if re.search(rf"\b{n}\b", report)]


def test_the_proof_finds_a_row_that_is_missing(performance):
    performance.sql("create table saved as select * from attendance_day limit 1",
                    "delete from attendance_day using saved where attendance_day.said_by = saved.said_by")
    try:
        code, found = performance.prove()
    finally:
        performance.sql("insert into attendance_day select * from saved", "drop table saved")

    assert code == 1
    assert (found["lost"], found["duplicated"], found["wrong"]) == (1, 0, 0)
    assert [line["where"] for line in found["lines"] if not line["ok"]] == ["attendance_day"]


@pytest.mark.parametrize(
    ("table", "change", "back"),
    [
        ("student_class_grades", "current_score = t.current_score + 0.0001", "current_score = v.current_score"),
        ("service_minutes_weekly", "credited = t.credited - 1", "credited = v.credited"),
        ("compliance_deadlines", "due_date = t.due_date + 1", "due_date = v.due_date"),
        ("guardian_students", "current = false", "current = v.current"),
    ],
)
def test_the_proof_finds_a_number_that_was_changed(performance, table, change, back):
    keys = {"student_class_grades": "class_id, student_id", "service_minutes_weekly": "student_id, week",
            "compliance_deadlines": "student_id, kind, subject_id, opened_on",
            "guardian_students": "guardian_id, student_id"}[table]  # fmt: skip
    where = "current_score is not null" if table == "student_class_grades" else "true"
    same = " and ".join(f"t.{key} = v.{key}" for key in keys.split(", "))
    performance.sql(f"create table saved as select * from {table} where {where} limit 1")
    try:
        performance.sql(f"update {table} t set {change} from saved v where {same}")
        code, found = performance.prove()
    finally:
        performance.sql(f"update {table} t set {back} from saved v where {same}", "drop table saved")

    assert code == 1
    assert [line["where"] for line in found["lines"] if not line["ok"]] == [table]


def test_the_proof_finds_a_row_that_is_there_twice(performance):
    performance.sql("alter table absence_notices drop constraint absence_notices_pkey",
                    "insert into absence_notices select * from absence_notices limit 1")
    try:
        code, found = performance.prove()
    finally:
        performance.sql("""delete from absence_notices a using absence_notices b
                            where a.ctid > b.ctid and a.event_key = b.event_key""",
                        "alter table absence_notices add primary key (tenant_id, student_id, day)")

    assert code == 1
    assert (found["lost"], found["duplicated"], found["wrong"]) == (0, 1, 0)


def test_the_proof_finds_a_row_that_says_something_else(performance):
    performance.sql("create table saved as select * from school_attendance_daily limit 1",
                    "update school_attendance_daily s set present = s.present + 1 from saved v "
                    "where (s.school_id, s.day) = (v.school_id, v.day)")
    try:
        code, found = performance.prove()
    finally:
        performance.sql("update school_attendance_daily s set present = v.present from saved v "
                        "where (s.school_id, s.day) = (v.school_id, v.day)", "drop table saved")

    assert code == 1
    assert (found["lost"], found["wrong"]) == (1, 1)


def test_the_proof_finds_a_message_that_nobody_ordered_and_a_family_that_was_not_told(performance):
    performance.sql("create table saved as select * from notification_deliveries "
                    "where template = 'attendance.absent' and status in ('sent', 'delivered') limit 1",
                    "delete from notification_deliveries d using saved v where d.delivery_id = v.delivery_id")
    try:
        code, found = performance.prove()
    finally:
        performance.sql("insert into notification_deliveries select * from saved", "drop table saved")

    assert code == 1
    assert (found["lost"], found["wrong"]) == (1, 1)


def test_the_proof_finds_an_event_that_was_stored_twice(performance):
    performance.sql("insert into event select * from event where type like '%.StudentAbsent.%' limit 1")

    code, found = performance.prove()  # the last look at this database: the event store is append-only

    assert code == 1
    assert found["duplicated"] == 2  # in the store, and among what was published once each


def test_ctrl_c_leaves_no_orphan(tmp_path):
    folder = tmp_path / "stack"
    run = subprocess.Popen(
        [*COMMAND, "--quick", "--dir", str(folder)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        assert run.stdout is not None
        for line in run.stdout:
            if " sent " in line:
                break
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=70)[0]  # workers have 20 s of grace for the jobs they run

        assert run.returncode == 130, said
        assert "Traceback" not in said
        assert processes(folder) == []
    finally:
        run.kill()
        Stack(folder).remove()


def test_a_folder_that_is_not_a_demonstrations_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    result = CliRunner().invoke(demo, ["--quick", "--dir", str(tmp_path)])

    assert "holds something that is not a demonstration" in str(result.exception)
    assert (tmp_path / "thesis.txt").exists()


def test_stop_without_a_demonstration_is_a_sentence(tmp_path):
    result = CliRunner().invoke(demo, ["--stop", "--dir", str(tmp_path)])

    assert "There is no demonstration in" in str(result.exception)


@pytest.mark.parametrize(
    ("expected", "found", "differences"),
    [
        ("abc", "abc", (0, 0, 0)),
        ("abc", "ab", (1, 0, 0)),
        ("abc", "abbc", (0, 1, 0)),
        ("abc", "abcd", (0, 0, 1)),
        ("abc", "abbb", (1, 2, 0)),  # a surplus never makes up for what is missing
        ("aab", "ab", (1, 0, 0)),  # expected twice
        ("", "xx", (0, 0, 2)),
    ],
)
def test_compare_counts(expected, found, differences):
    line = compare("", "", "", expected, found)

    assert (line.lost, line.duplicated, line.wrong) == differences
    assert line.ok == (differences == (0, 0, 0))


def test_the_proof_shares_no_code_with_the_product():
    proofs = [path for path in Path(proof.__file__).parent.glob("*.py") if path.stem.startswith(("proof", "compare"))]
    allowed = ("skillcore_streams.demo.recount", "skillcore_streams.demo.compare", "skillcore_streams.demo.proof")

    assert len(proofs) == 7
    for path in proofs:
        tree = ast.parse(path.read_text())
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        own = {name for name in imported if name.startswith("skillcore")} - {"skillcore_streams.demo"}
        assert not [name for name in own if not name.startswith(allowed)], path


def test_every_kind_of_garbage_is_bad_in_its_own_way():
    events.load()
    data = {
        "student_id": str(UUID(int=1)), "attendance_id": str(UUID(int=2)), "school_id": str(UUID(int=3)),
        "marked_by": str(UUID(int=4)), "date": "2022-05-27", "code": "Present", "category": "present",
        "marked_at": "2022-05-27T14:00:00Z",
    }  # fmt: skip
    mark = Outgoing(
        "skillcore.attendance.events.v1", data["student_id"].encode(), json.dumps(data, separators=(",", ":")).encode(),
        [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"com.skillcore.attendance.AttendanceMarked.v1"),
         ("ce_source", b"/edfi/calendar.csv"), ("ce_time", b"2022-05-27T14:00:00Z"), ("ce_tenantid", b"lakeside")],
    )  # fmt: skip
    kinds = list(garbage(mark))

    assert len({bad.kind for bad in kinds}) == KINDS
    for bad in kinds:
        record = SimpleNamespace(key=bad.key, value=bad.value, headers=bad.headers, offset=0, timestamp=time.time())
        answer = decode(record, bad.topic, 0, now=datetime.now(UTC))
        if bad.said == "conflict":
            assert not isinstance(answer, Parked)  # readable; that its id is taken is the inbox's to know
        else:
            assert isinstance(answer, Parked), bad.kind
            assert bad.said in answer.reason, bad.kind
