"""The importer's rules, each on a village; what is wrong with a source is said without quoting it."""

import gzip
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from skillcore_streams.edfi import District, EdFiError, events
from skillcore_streams.events.attendance import AttendanceMarked
from skillcore_streams.events.rostering import StudentEnrolled, UserCreated
from tests.edfi.village import Marked, village, write

DAYS = ("2021-08-23", "2021-08-24", "2021-08-25")


def imported(folder: Path, kind: type, tenant: str = "t") -> list:
    with District(folder) as district:
        return [event for event in events(district, tenant) if isinstance(event, kind)]


def test_a_student_without_marks_is_the_districts_and_not_enrolled(tmp_path):
    village(tmp_path, [Marked("1", DAYS[0], "Tardy")])
    assert [e.begin_date.isoformat() for e in imported(tmp_path, StudentEnrolled)] == ["2021-08-23"]
    assert len({e.roles[0].org_id for e in imported(tmp_path, UserCreated)}) == 2


def test_minutes_and_arrival_travel(tmp_path):
    village(tmp_path, [Marked("1", DAYS[0], "Tardy", minutes="25", arrival="09:35:00")])
    tardy = imported(tmp_path, AttendanceMarked)[0]
    assert (tardy.category, tardy.minutes_missed, str(tardy.arrival_time)) == ("tardy", 25, "09:35:00")


@pytest.mark.parametrize(
    ("duration", "category"), [("1", "absent_unexcused"), ("0.5", "absent_unexcused"), ("0.33", "partial")]
)
def test_an_absence_is_half_a_day_or_more(tmp_path, duration, category):
    village(tmp_path, [Marked("1", DAYS[0], "Unexcused Absence", duration=duration)])
    assert imported(tmp_path, AttendanceMarked)[0].category == category


def test_of_two_marks_the_gravest_is_the_later(tmp_path):
    grave = ["Present", "Early departure", "Tardy", "Partial", "Unexcused Absence", "Excused Absence"]
    village(tmp_path, [Marked("1", DAYS[0], category) for category in grave])
    marks = [m for m in imported(tmp_path, AttendanceMarked) if str(m.date) == DAYS[0]]
    assert [m.code for m in sorted(marks, key=lambda m: m.marked_at)] == grave
    assert max(m.marked_at for m in marks) - min(m.marked_at for m in marks) < timedelta(minutes=1)


def test_off_the_calendar_nobody_else_was_present(tmp_path):
    village(tmp_path, [Marked("1", "2021-08-22", "Tardy"), Marked("2", DAYS[0], "Tardy")])
    sunday = [m for m in imported(tmp_path, AttendanceMarked) if str(m.date) == "2021-08-22"]
    assert [m.category for m in sunday] == ["tardy"]


def test_a_repeated_record_is_one_mark_and_strange_ones_are_counted(tmp_path):
    village(
        tmp_path,
        [
            *[Marked("1", DAYS[0], "Tardy")] * 2,
            Marked("1", DAYS[1], "Asleep"),
            Marked("1", DAYS[1], "Tardy", school="99"),
            Marked("9", DAYS[1], "Tardy"),
        ],
    )
    with District(tmp_path) as district:
        assert (district.report.recorded, district.report.planned["AttendanceMarked"]) == (2, 2 * 3)
        assert len(district.report.remarks) == 6
        assert district.report.events == len(list(events(district, "t")))


def test_a_file_may_be_gzipped(tmp_path):
    village(tmp_path, [Marked("1", DAYS[0], "Tardy")])
    plain = imported(tmp_path, AttendanceMarked)
    for path in list(tmp_path.glob("*.xml")):
        path.with_suffix(".xml.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert imported(tmp_path, AttendanceMarked) == plain


def broken(tmp_path: Path, **files: str | bytes) -> str:
    village(tmp_path, [Marked("1", DAYS[0], "Tardy")])
    for name, content in files.items():
        (tmp_path / f"{name}.xml").unlink()
        path = tmp_path / f"{name}.xml{'.gz' if isinstance(content, bytes) else ''}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EdFiError) as caught:
        District(tmp_path)
    assert "Lovelace" not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


STUDENTS = '<InterchangeStudent xmlns="http://ed-fi.org/5.2.0"><Student>{}</Student></InterchangeStudent>'


def test_malformed_xml_is_a_sentence(tmp_path):
    said = broken(tmp_path, Student=STUDENTS.format("<Name>\n<LastSurname>Lovelace</Name>"))
    assert said.startswith("Student.xml is not well-formed XML (line 2, column 23: mismatched tag).")


def test_an_empty_file_is_a_sentence(tmp_path):
    assert "not well-formed XML (line 1, column 0: no element found)" in broken(tmp_path, Student="")


def test_a_record_that_lacks_something_is_left_out_and_named(tmp_path):
    village(tmp_path, [Marked("1", DAYS[0], "Tardy")])
    good = "<StudentUniqueId>1</StudentUniqueId><Name><FirstName>A</FirstName><LastSurname>B</LastSurname></Name>"
    bad = "<Name><LastSurname>Lovelace</LastSurname></Name>"
    (tmp_path / "Student.xml").write_text(STUDENTS.format(f"{bad}</Student><Student>{good}"))

    with District(tmp_path) as district:
        assert district.report.bad == ["Student.xml, record 1 has no StudentUniqueId, which Ed-Fi requires."]
        assert district.report.bad_records == 1
        assert len([e for e in events(district, "t") if isinstance(e, UserCreated)]) == 1


def test_another_standard_is_refused(tmp_path):
    said = broken(tmp_path, Student=STUDENTS.format("").replace("5.2.0", "3.3.0"))
    assert said == "Student.xml is not an interchange of Ed-Fi 5.2 (namespace http://ed-fi.org/5.2.0)."


def test_a_cut_off_archive_is_a_sentence(tmp_path):
    whole = gzip.compress(STUDENTS.format("<StudentUniqueId>1</StudentUniqueId>" * 999).encode())
    assert "damaged or cut off" in broken(tmp_path, Student=whole[: len(whole) // 2])


def test_what_is_no_archive_is_a_sentence(tmp_path):
    assert "damaged or cut off" in broken(tmp_path, Student=b"Lovelace")


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        (Marked("1", "Lovelace", "Tardy"), "AttendanceEvent/EventDate is not a date (YYYY-MM-DD)."),
        (Marked("1", DAYS[0], "Tardy", arrival="Lovelace"), "ArrivalTime is not a time (HH:MM:SS)."),
        (Marked("1", DAYS[0], "Tardy", minutes="Lovelace"), "SchoolAttendanceDuration is not a number."),
        (Marked("1", DAYS[0], "Tardy", minutes="NaN"), "SchoolAttendanceDuration is not a number."),
        (Marked("1", DAYS[0], "Tardy", minutes="-5"), "SchoolAttendanceDuration is out of range."),
        (Marked("1", DAYS[0], "Tardy", duration="Infinity"), "AttendanceEvent/EventDuration is not a number."),
        (Marked("Lovelace" * 99, DAYS[0], "Tardy"), "StudentUniqueId is longer than 512 characters."),
    ],
)
def test_a_value_that_is_none_costs_its_record_and_is_not_quoted(tmp_path, mark, said):
    village(tmp_path, [mark, Marked("2", DAYS[0], "Tardy")])

    with District(tmp_path) as district:
        (told,) = district.report.bad
        assert told.startswith("StudentSchoolAttendance.xml, record 1: ")
        assert told.endswith(said)
        assert "Lovelace" not in told
        assert district.report.recorded == 1


def test_only_the_first_bad_records_are_named_but_all_are_counted(tmp_path):
    village(tmp_path, [Marked("1", "never", "Tardy")] * 250)

    with District(tmp_path) as district:
        assert (len(district.report.bad), district.report.bad_records) == (100, 250)


def test_what_is_not_in_the_folder_is_said(tmp_path):
    village(tmp_path, [])

    with District(tmp_path) as district:
        assert district.report.missing == [
            "StaffAssociation", "Contact", "MasterSchedule", "StudentGradebook", "StudentSectionAttendance-Tardy",
            "StudentProgram", "StudentIntervention", "StudentDiscipline",
        ]  # fmt: skip


def test_reading_says_how_far_it_is(tmp_path):
    village(tmp_path, [Marked("1", DAYS[0], "Tardy")] * 2000)
    said: dict[str, list[tuple[int, int]]] = {}

    with District(tmp_path, reading=lambda file, done, size: said.setdefault(file, []).append((done, size))):
        size = (tmp_path / "StudentSchoolAttendance.xml").stat().st_size
        steps = said["StudentSchoolAttendance.xml"]
        assert len(steps) == 5  # 500, 1,000, 1,500, 2,000 records, and the end
        assert steps == sorted(steps)
        assert steps[-1] == (size, size)


def test_a_missing_file_is_named(tmp_path):
    village(tmp_path, [])
    (tmp_path / "Student.xml").unlink()
    with pytest.raises(EdFiError, match=r"holds neither Student\.xml nor Student\.xml\.gz"):
        District(tmp_path)


@pytest.mark.parametrize("content", ["", "date\n", "day\n2021-08-23\n", "date\n23.8.2021\n"])
def test_a_calendar_without_days(tmp_path, content):
    village(tmp_path, [])
    (tmp_path / "calendar.csv").write_text(content)
    with pytest.raises(EdFiError, match=r"calendar\.csv"):
        District(tmp_path)


def test_two_districts_are_one_too_many(tmp_path):
    village(tmp_path, [])
    one = "<LocalEducationAgency><LocalEducationAgencyId>{0}</LocalEducationAgencyId>"
    one += "<NameOfInstitution>{0}</NameOfInstitution></LocalEducationAgency>"
    write(tmp_path, "EducationOrganization", one.format(1) + one.format(2))
    with pytest.raises(EdFiError, match="names 2 districts"):
        District(tmp_path)


def test_a_zone_that_is_none(tmp_path):
    with pytest.raises(EdFiError, match="not a time zone"):
        District(tmp_path, zone="Texas")


MEASURE = """
import resource, sys
from pathlib import Path
from skillcore_streams.edfi import District, events
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
with District(Path(sys.argv[1])) as district:
    count = sum(1 for _ in events(district, "t"))
print(count, peak() - before)
"""


@pytest.mark.parametrize("students", [400, 1600])
def test_memory_does_not_grow_with_the_district(tmp_path, students):
    """20,000 and 80,000 marks, 9 and 38 MB of XML, with the same eight megabytes. (Of 2**20, peak of the process.)"""
    days = [f"2021-{month:02}-{day:02}" for month in (9, 10) for day in range(1, 26)]
    ids = [str(n) for n in range(students)]
    village(tmp_path, (Marked(s, day, "Tardy", minutes="5") for s in ids for day in days), students=ids, days=days)
    assert (tmp_path / "StudentSchoolAttendance.xml").stat().st_size > students * 22_000

    run = subprocess.run([sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True)

    count, megabytes = map(int, run.stdout.split())
    assert count == 3 + 4 + 2 * students + 50 * students
    assert megabytes <= 8
