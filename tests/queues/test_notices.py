"""The texts of notices: what they must not say, how their HTML is built, and that their look-ups are SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from uuid import UUID

import pytest

from skillcore_streams.notifications.lint import contrast, problems
from skillcore_streams.notifications.notices import NOTICES
from skillcore_streams.notifications.rendering import FOLDER, Renderer
from skillcore_streams.runtime import PermanentError
from skillcore_streams.testing import HandlerLab

COMING = {  # tables of issue 4's branches; the look-ups are tried as soon as they are there
    "student_assignments", "assignments", "grade_audit", "ieps", "reminder_log", "compliance_deadlines",
    "accommodation_acks", "section504_plans",
}


def test_no_text_has_a_fault() -> None:
    assert problems() == []


@pytest.mark.parametrize(("part", "text", "fault"), [
    ("sms.txt", "{{ student }} has a message", "variable student may only stand in an e-mail's text"),
    ("push.txt", "{{ day }}: message", "variable day may only stand in an e-mail's text"),
    ("subject.txt", "About {{ student }}", "variable student may only stand in an e-mail's text"),
    ("sms.txt", "Your child was absent today", "the word 'absen' tells something of a student"),
    ("subject.txt", "Failing grade", "tells something of a student"),
    ("sms.txt", "{{ link|upper }}", "only text and plain variables may stand here"),
    ("push.txt", "{% if link %}x{% endif %}", "only text and plain variables may stand here"),
    ("sms.txt", "{{ link.__class__ }}", "only text and plain variables may stand here"),
    ("sms.txt", "{{ link", "is no template"),
    ("email.txt", "{{ password }}", "variable password is none of the notice's facts"),
    ("email.html", "{{ student|safe }}", "escaping is not to be turned off"),
    ("email.html", "<html><p>hello</p></html>", "<html lang> is not its language"),
    ("email.html", "<html lang='en'><h1>a</h1><img src='x'></html>", "an image without alternative text"),
    ("email.html", "<html lang='en'><h1>a</h1><h3>b</h3></html>", "a heading level is skipped"),
    ("email.html", "<html lang='en'><h1>a</h1><a href='x'></a></html>", "a link without text"),
    ("email.html", "<html lang='en'><h1>a</h1><script>1</script></html>", "script has no place in a mail"),
    ("email.html", "<html lang='en'><p style=\"color:#aaaaaa;background:#ffffff\">x</p></html>", "contrast below 4.5"),
])
def test_a_fault_is_found(tmp_path: Path, part: str, text: str, fault: str) -> None:
    folder = copytree(FOLDER, tmp_path / "templates")
    (folder / "attendance.absent" / "en" / part).write_text(text)

    assert any(fault in found for found in problems(Renderer("https://x.example", folder)))


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "attendance.absent" / "en" / "sms.txt").unlink(),
    lambda folder: copytree(folder / "attendance.absent", folder / "no.such"),
    lambda folder: (folder / "user.welcome" / "en").rename(folder / "user.welcome" / "fr"),
])
def test_missing_and_stray_texts_are_found(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = copytree(FOLDER, tmp_path / "templates")
    spoil(folder)

    assert problems(Renderer("https://x.example", folder)) != []


def test_sms_and_push_are_not_even_given_what_they_must_not_say(tmp_path: Path) -> None:
    folder = copytree(FOLDER, tmp_path / "templates")
    (folder / "attendance.absent" / "en" / "sms.txt").write_text("{{ student }}")
    facts = {"student": "Penelope", "school": "East", "day": "2022-01-02"}

    with pytest.raises(PermanentError, match=r"cannot be rendered for sms: UndefinedError") as error:
        Renderer("https://x.example", folder).render(
            "attendance.absent", "en", "sms", facts, notification_id=UUID(int=1))
    assert "Penelope" not in str(error.value)


@pytest.mark.parametrize("text", [
    "{{ ''.__class__.__mro__ }}", "{{ student.__init__.__globals__ }}", "{{ self._TemplateReference__context }}",
    "{{ range(10**12)|list }}", "{% include '/etc/passwd' %}", "{{ student.format('x'.__class__) }}",
])
def test_the_sandbox_lets_nothing_out(tmp_path: Path, text: str) -> None:
    folder = copytree(FOLDER, tmp_path / "templates")
    (folder / "attendance.absent" / "en" / "email.txt").write_text(text)
    facts = {"student": "Penelope", "school": "East", "day": "2022-01-02"}

    try:
        letter = Renderer("https://x.example", folder).render(
            "attendance.absent", "en", "email", facts, notification_id=UUID(int=1))
    except (PermanentError, OverflowError, MemoryError):
        return
    assert not any(secret in letter.text for secret in ("root:", "class 'object'", "<module", "__builtins__"))


@pytest.mark.parametrize("name", [name for name, notice in NOTICES.items() if notice.lookup])
async def test_every_look_up_is_sql_of_this_schema_and_finds_nobody_in_another_tenant(
    lab: HandlerLab, name: str
) -> None:
    notice = NOTICES[name]
    assert notice.lookup is not None
    tables = {row["table_name"] for row in await lab.rows(
        "select table_name from information_schema.tables where table_schema = 'public'")}
    if missing := {table for table in COMING if f" {table} " in notice.lookup} - tables:
        pytest.skip(f"NOT RUN: {', '.join(sorted(missing))} arrive with the handlers that fill them")

    found = await lab.rows(notice.lookup, "nobody", *([UUID(int=1)] * len(notice.by)))

    assert found == []


def test_contrast_is_wcag_s() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
