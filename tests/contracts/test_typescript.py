"""events.d.ts compiles under --strict, tells events apart, and refuses what is no event; events.js says the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from skillcore_streams import contracts
from skillcore_streams.contracts.promises import Promise
from skillcore_streams.contracts.typescript import constants, declarations

EVENTS = {p.title: p for p in contracts.promises_now().values() if p.is_event}

USES = """\
import { EVENTS, type AnyEvent, type AttendanceMarked, type Envelope, type EventData, type EventHeaders, type EventName,
  type RosterSyncCompleted } from "../../schemas/events.js";

export function told(event: AnyEvent): string {
  switch (event.type) {
    case "com.skillcore.attendance.StudentAbsent.v1":
      return event.data.date;
    case EVENTS.GradeUpdated.type: {
      const score: string | null | undefined = event.data.score;
      return score ?? "";
    }
    default:
      return event.tenantid;
  }
}

export const mark: AttendanceMarked = {
  student_id: "a", attendance_id: "b", school_id: "c", date: "2025-10-06", code: "AU", category: "absent_unexcused",
  marked_by: "d", marked_at: "2025-10-06T14:05:00Z", class_id: null,
};
export const headers: EventHeaders<"AttendanceMarked"> = {
  ce_specversion: "1.0", ce_id: "1", ce_source: "/s", ce_type: EVENTS.AttendanceMarked.type,
  ce_time: "2025-10-06T14:05:00Z", ce_tenantid: "oak", "content-type": "application/json",
};
export function keyOf<N extends EventName>(name: N, data: EventData[N]): unknown {
  return (data as unknown as Record<string, unknown>)[EVENTS[name].key];
}
export const key: "student_id" = EVENTS.AttendanceMarked.key;
export const topics: readonly string[] = Object.values(EVENTS).map((event) => event.topic);
export function source(sync: RosterSyncCompleted): string {
  return sync.source === "edfi" ? "Ed-Fi" : sync.source; // more values may come
}
export function id(event: Envelope<"UserCreated">): string {
  return event.data.roles.map((role) => role.org_id).join();
}
"""

WRONG = {  # a line that must not compile, and what tsc says of it
    'export const a: AttendanceMarked = { ...mark, category: "late" };': "not assignable to type",
    "export const b: AttendanceMarked = { ...mark, minutes_missed: '15' };": "not assignable to type",
    "export const c: AttendanceMarked = { student_id: 'a' };": "is missing the following properties",
    "export const d: AttendanceMarked = { ...mark, homeroom: 'x' };": "may only specify known properties",
    "mark.code = 'P';": "read-only property",
    "export const e: EventHeaders<'GradeUpdated'> = headers;": "not assignable to type",
    "export const f = EVENTS.Nobody;": "does not exist",
    "export const g: EventData['GradeUpdated']['points_possible'] = 8.5;": "not assignable to type",
}


@pytest.fixture(scope="session")
def said(node_project: Path) -> list[str]:
    """What tsc says of both files, in one run: it takes its time."""
    (node_project / "uses.ts").write_text(USES)
    (node_project / "wrong.ts").write_text(USES + "\n".join(WRONG) + "\n")
    command = [
        "node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--noUncheckedIndexedAccess",
        "--exactOptionalPropertyTypes", "--target", "ES2022", "--module", "NodeNext", "uses.ts", "wrong.ts",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=node_project, capture_output=True, text=True, timeout=170)
    return done.stdout.splitlines()


def test_the_types_compile_and_tell_events_apart(said: list[str]) -> None:
    assert [line for line in said if not line.startswith(("wrong.ts", " "))] == []


def test_what_is_no_event_does_not_compile(said: list[str]) -> None:
    first = USES.count("\n") + 1
    for line, (text, complaint) in enumerate(WRONG.items(), first):
        heard = [answer for answer in said if answer.startswith(f"wrong.ts({line},")]
        assert any(complaint in answer for answer in heard), f"{text}: {heard}"
    assert len([answer for answer in said if answer.startswith("wrong.ts")]) == len(WRONG)


def test_the_examples_compile(built: Path) -> None:
    assert (built / "consume.js").exists()


@pytest.mark.parametrize("module", ["import { EVENTS } from", "import all, { EVENTS } from"])
def test_the_constants_are_what_the_types_say(node_project: Path, module: str) -> None:
    script = "console.log(JSON.stringify(EVENTS), Object.isFrozen(EVENTS.GradeUpdated))"
    command = ["node", "--input-type=module", "-e", f"{module} '../../schemas/events.js'; {script}"]
    done = subprocess.run(command, cwd=node_project, capture_output=True, text=True, timeout=60, check=True)
    text, frozen = done.stdout.rsplit(maxsplit=1)

    assert json.loads(text) == {name: dict(p.route) for name, p in EVENTS.items()}
    assert frozen == "true"


def test_a_second_version_has_a_name_of_its_own() -> None:
    first = EVENTS["StudentAbsent"]
    route = {**first.route, "type": "com.skillcore.attendance.StudentAbsent.v2"}
    second = Promise("StudentAbsent.v2", route, first.schema)
    both = {p.name: p for p in (first, second)}

    assert "export interface StudentAbsentV2 {" in declarations(both)
    assert "StudentAbsentV2: Object.freeze(" in constants(both)


def test_every_event_and_part_is_declared_once() -> None:
    text = contracts.generate()["events.d.ts"]

    for name in EVENTS:
        assert text.count(f"export interface {name} {{") == 1
    for part in ("GradeCategory", "UserRole", "Accommodation"):
        assert text.count(f"export interface {part} {{") == 1
