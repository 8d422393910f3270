"""`skillcore import edfi` and `skillcore send`, as a user runs them."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from skillcore_streams.cli.importing import import_
from skillcore_streams.cli.send import send
from skillcore_streams.edfi import EdFiError
from tests.edfi.village import Marked, village

MARK = {
    "attendance_id": str(UUID(int=1)),
    "student_id": str(UUID(int=2)),
    "school_id": str(UUID(int=3)),
    "date": "2022-01-03",
    "code": "P",
    "category": "present",
    "marked_by": str(UUID(int=4)),
    "marked_at": "2022-01-03T15:00:00Z",
}


class Recorder:
    """Stands for the producer: remembers what it was given."""

    sent: list

    def __init__(self, bootstrap: str) -> None:
        Recorder.sent = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def send(self, records) -> None:
        Recorder.sent.extend(records)


@pytest.fixture(autouse=True)
def _no_kafka(monkeypatch, tmp_path):
    for command in ("importing", "send"):
        monkeypatch.setattr(f"skillcore_streams.cli.{command}.Producer", Recorder)

    async def topic_ids(kafka: str, topics: list[str]) -> dict[str, UUID]:
        return {topic: UUID(int=n) for n, topic in enumerate(topics)}

    monkeypatch.setattr("skillcore_streams.cli.importing.topic_ids", topic_ids)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def sent(*arguments: str) -> Result:
    return CliRunner().invoke(send, [*arguments, "--tenant", "lakeside"])


def test_import_prints_counts_and_what_had_no_place(tmp_path):
    village(tmp_path, [Marked("1", "2021-08-23", "Tardy")])
    result = CliRunner().invoke(import_, ["edfi", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "14 events in" in result.stdout
    assert "2  students whose school no attendance names" in result.stdout


def test_what_is_left_out_and_what_is_missing_is_told(tmp_path):
    village(tmp_path, [Marked("1", "Lovelace", "Tardy")])
    result = CliRunner().invoke(import_, ["edfi", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Left out, because they are not as Ed-Fi has them: 1 records." in result.stdout
    assert "StudentSchoolAttendance.xml, record 1: AttendanceEvent/EventDate is not a date" in result.stdout
    assert "Not in the folder: StaffAssociation, Contact," in result.stdout
    assert "Lovelace" not in result.stdout


def test_tenants_multiply_the_district(tmp_path):
    village(tmp_path, [Marked("1", "2021-08-23", "Tardy")])
    result = CliRunner().invoke(import_, ["edfi", str(tmp_path), "--tenants", "3", "--rate", "1000", "--json"])
    outcome = json.loads(result.stdout)
    assert outcome["tenants"] == ["grand-bend", "grand-bend-2", "grand-bend-3"]
    assert outcome["published"]["AttendanceMarked"] == 9
    assert len({dict(record.headers)["ce_id"] for record in Recorder.sent}) == 3 * 14


def test_a_source_that_cannot_be_read_is_the_sentence(tmp_path):
    assert isinstance(CliRunner().invoke(import_, ["edfi", str(tmp_path)]).exception, EdFiError)


def test_send_writes_one_event(tmp_path: Path):
    (tmp_path / "mark.json").write_text(json.dumps(MARK))
    result = sent("AttendanceMarked", "--data", f"@{tmp_path / 'mark.json'}", "--id", "7", "--json")
    assert json.loads(result.stdout)["topic"] == "skillcore.attendance.events.v1"
    (record,) = Recorder.sent
    assert dict(record.headers)["ce_id"] == b"7"
    assert record.key == MARK["student_id"].encode()


def test_send_names_field_and_fault_but_no_value():
    result = sent("AttendanceMarked", "--data", json.dumps(MARK | {"category": "Lovelace", "nickname": "Ada"}))
    assert result.exit_code == 2
    assert "category: Input should be 'present'" in result.output
    assert "nickname: Extra inputs are not permitted" in result.output
    assert "Lovelace" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Nothing", "--data", "{}"], "there is no event Nothing. Known events:"),
        (["AttendanceMarked", "--data", "{"], "data: Invalid JSON"),
        (["AttendanceMarked", "--data", "@/nowhere"], "/nowhere cannot be read: No such file or directory."),
    ],
)
def test_send_refuses_in_a_sentence(arguments, said):
    result = sent(*arguments)
    assert result.exit_code == 2  # main() turns usage errors into 64
    assert said in result.output
