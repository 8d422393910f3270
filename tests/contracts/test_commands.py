"""`skillcore schemas build` and `check` as they are run: files, sentences, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skillcore_streams import contracts
from skillcore_streams.cli.schemas import schemas
from skillcore_streams.runtime.errors import Misconfigured

FILES = contracts.generate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of schemas/ to play with. What the code says does not change meanwhile, so it is generated once."""
    monkeypatch.setattr(contracts, "generate", lambda folder: FILES)
    return Path(shutil.copytree(contracts.FOLDER, tmp_path / "schemas"))


def run(command: str, folder: Path, *options: str) -> Result:
    return CliRunner().invoke(schemas, [command, "--dir", str(folder), *options])


def relock(folder: Path, name: str, **changes: object) -> None:
    """Let the released contract of an event say something else."""
    content = json.loads((folder / contracts.LOCK).read_text())
    content[name]["schema"]["properties"].update(changes)
    (folder / contracts.LOCK).write_text(json.dumps(content))


def test_check_is_content_with_what_is_committed(folder: Path) -> None:
    done = run("check", folder)

    assert done.exit_code == 0
    assert "up to date and compatible" in done.output


def test_build_writes_nothing_where_nothing_has_changed(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    assert "no files changed" in run("build", folder).output
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("path", ["events/AttendanceMarked.v1.json", "asyncapi.yaml", "events.d.ts", "handlers.md"])
def test_check_names_a_file_that_is_out_of_date_and_build_repairs_it(folder: Path, path: str) -> None:
    good = (folder / path).read_bytes()
    (folder / path).write_text("edited by hand\n")

    said = run("check", folder)
    built = run("build", folder)

    assert said.exit_code == 1
    assert path in said.output
    assert "skillcore schemas build" in said.output
    assert "1 file changed" in built.output
    assert (folder / path).read_bytes() == good
    assert run("check", folder).exit_code == 0


def test_the_schema_of_an_event_that_is_no_more_is_a_left_over(folder: Path) -> None:
    left = folder / "events" / "Nobody.v1.json"
    left.write_text("{}")

    assert "Nobody.v1.json" in run("check", folder).output
    run("build", folder)
    assert not left.exists()


def test_check_refuses_a_breaking_change_with_a_sentence_and_exit_code_1(folder: Path) -> None:
    relock(folder, "AttendanceMarked.v1", homeroom={"type": "string"})

    done = run("check", folder)

    assert done.exit_code == 1
    assert done.output.startswith("AttendanceMarked.v1, field homeroom: is gone")


def test_release_moves_the_lock_forward_when_nothing_breaks(folder: Path) -> None:
    content = json.loads((folder / contracts.LOCK).read_text())
    del content["AttendanceMarked.v1"]
    (folder / contracts.LOCK).write_text(json.dumps(content))
    assert json.loads(run("check", folder, "--json").output) == {
        "stale": [], "refused": [], "unreleased": ["AttendanceMarked.v1"],
    }

    done = run("build", folder, "--release")

    assert done.exit_code == 0
    assert (folder / contracts.LOCK).read_bytes() == (contracts.FOLDER / contracts.LOCK).read_bytes()


def test_release_refuses_to_break_what_is_released_and_leaves_the_lock(folder: Path) -> None:
    relock(folder, "AttendanceMarked.v1", homeroom={"type": "string"})
    before = (folder / contracts.LOCK).read_bytes()

    done = run("build", folder, "--release", "--json")

    assert done.exit_code == 1
    assert "homeroom" in json.loads(done.output)["refused"][0]
    assert (folder / contracts.LOCK).read_bytes() == before


def test_the_first_release_needs_no_lock_and_check_does(folder: Path) -> None:
    (folder / contracts.LOCK).unlink()

    missing = run("check", folder).exception
    assert isinstance(missing, Misconfigured)
    assert "skillcore schemas build --release" in str(missing)
    assert run("build", folder, "--release").exit_code == 0
    assert run("check", folder).exit_code == 0


def test_a_broken_lock_is_a_sentence_and_no_traceback(folder: Path) -> None:
    for text in ("{", "[]", '{"AttendanceMarked.v1": {}}'):
        (folder / contracts.LOCK).write_text(text)
        assert isinstance(run("check", folder).exception, Misconfigured), text


def test_a_folder_without_a_catalogue_is_a_sentence(tmp_path: Path) -> None:
    error = run("build", tmp_path).exception

    assert isinstance(error, Misconfigured)
    assert "catalog.json" in str(error)
