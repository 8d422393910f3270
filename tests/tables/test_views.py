"""The views across two workers: who owns a school answers, the other asks it, and nobody answers for somebody else."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.commands.lab import RunningWorker
from tests.tables.test_table import running
from tests.tables.world import EAST, MONDAY, WEST, District, World, until

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(180)]

DAY = MONDAY + timedelta(days=7)
STAYED = UUID(int=0x1D)
"""A student of East without a mark on that day."""

Pair = tuple[RunningWorker, RunningWorker]


@pytest.fixture(scope="module")
def district(world: World) -> District:
    """East: ten students, one of them not marked. West: one who was marked at both schools."""
    world.end()
    made = District(world, 21, students=0)
    for n, category in enumerate(["present"] * 5 + ["absent_unexcused", "absent_excused", "tardy", "partial"]):
        made.mark(UUID(int=0x101 + 2 * n), DAY, category, EAST)
    made.mark(UUID(int=0x200), MONDAY, "tardy", EAST)
    made.mark(UUID(int=0x200), DAY, "absent_excused", WEST)
    assert made._producer.flush(20) == 0
    world.execute(
        """insert into orgs values
               ($1, $2, 'east', $2, 'East <High>', 'school', 'America/Chicago', '{09}', null, now(), $2)""",
        made.tenant, EAST,
    )
    for student in [UUID(int=0x101 + 2 * n) for n in range(9)] + [STAYED]:
        world.execute("insert into student_membership values ($1, $2, $3, $4)", made.tenant, student, EAST, MONDAY)
    return made


@pytest.fixture(scope="module")
def pair(world: World, district: District) -> Iterator[Pair]:
    with running(world) as one, running(world) as other:
        until(lambda: all('table_lag{partition="' in w.get("/metrics")[1] for w in (one, other)), "they share")
        until(world.drained, "all is heard")
        until(lambda: all(w.get("/readyz")[0] == 200 for w in (one, other)), "both have recovered what is theirs")
        yield one, other


def ask(worker: RunningWorker, path: str, **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON (or text), headers."""
    request = urllib.request.Request(f"http://127.0.0.1:{worker.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status, text, said = answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        status, text, said = error.code, error.read().decode(), error.headers
    return status, json.loads(text) if "json" in said["Content-Type"] else text, said


def test_both_workers_know_each_school_s_day(pair: Pair, district: District) -> None:
    for worker in pair:
        status, east, _ = ask(worker, f"/attendance/{district.tenant}/{EAST}/{DAY}")

        assert status == 200
        assert {k: east[k] for k in east if k not in ("as_of", "behind")} == {
            "tenant": district.tenant, "school": str(EAST), "name": "East <High>", "day": str(DAY),
            "present": 5, "absent": 2, "absent_unexcused": 1, "absent_excused": 1, "tardy": 1, "partial": 1,
            "early_departure": 0, "marked": 9, "roster": 10, "unmarked": 1,
        }
        assert ask(worker, f"/attendance/{district.tenant}/{WEST}/latest")[1]["absent_excused"] == 1


def test_one_owns_a_school_and_whoever_was_asked_by_a_worker_asks_nobody(pair: Pair, district: District) -> None:
    for school in EAST, WEST:
        path = f"/attendance/{district.tenant}/{school}/latest"
        answers = [ask(worker, path, **{"X-SkillCore-Hop": "1"}) for worker in pair]

        assert sorted(status for status, _, _ in answers) == [200, 503]
        refused = next(answer for answer in answers if answer[0] == 503)
        assert refused[2]["Retry-After"] == "1"


def test_a_student_s_days_come_from_all_schools(pair: Pair, district: District) -> None:
    for worker in pair:
        status, body, _ = ask(worker, f"/attendance/{district.tenant}/student/{UUID(int=0x200)}")

        assert status == 200
        assert body["days"] == {str(MONDAY): "tardy", str(DAY): "absent_excused"}
        assert body["schools"] == {
            str(EAST): {str(MONDAY): "tardy"}, str(WEST): {str(DAY): "absent_excused"},
        }


def test_days_that_are_kept_and_days_that_are_not(pair: Pair, district: District) -> None:
    path = f"/attendance/{district.tenant}/{EAST}"
    days = ask(pair[0], f"{path}/days")[1]["days"]

    assert [day["day"] for day in days] == [str(MONDAY), str(DAY)]
    assert ask(pair[0], f"{path}/2021-09-01")[0] == 404
    assert ask(pair[0], f"{path}/2022-02-30")[0] == 404
    later = ask(pair[0], f"{path}/{DAY + timedelta(days=1)}")[1]
    assert (later["marked"], later["unmarked"]) == (0, 10)


@pytest.mark.parametrize("path", [
    "nobody/{east}/latest", "{tenant}/student/{nobody}", "{tenant}/{nobody}/latest", "{tenant}/{nobody}/days",
    "{tenant}/{east}/today", "{tenant}/{east}/latest/more", "{tenant}/not-a-school", "{tenant}/{east}/..",
    "{tenant}/" + "-" * 36,
])
def test_what_does_not_exist_is_not_found(pair: Pair, district: District, path: str) -> None:
    asked = path.format(tenant=district.tenant, east=EAST, nobody=UUID(int=0xDEAD))

    assert ask(pair[0], f"/attendance/{asked}")[0] == 404


def test_views_can_only_be_read(pair: Pair, district: District) -> None:
    assert pair[0].get(f"/attendance/{district.tenant}/{EAST}/latest", "POST")[0] == 405


def test_a_principal_s_page_shows_numbers_and_no_student(pair: Pair, district: District) -> None:
    for worker in pair:
        status, page, headers = ask(worker, f"/attendance/{district.tenant}/{EAST}")

        assert status == 200
        assert "East &lt;High&gt;" in page
        tiles = re.findall(r'<dt>([^<]+)</dt><dd class="big">([^<]+)</dd>', page)
        assert dict(tiles) == {"Present": "5", "Absent": "2", "Tardy": "1", "Not marked yet": "1"}
        assert "Monday, January 17, 2022" in page
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        for n in range(0x100, 0x201):
            assert str(UUID(int=n)) not in page


def test_a_district_s_page_leads_to_its_schools(pair: Pair, district: District) -> None:
    status, page, _ = ask(pair[1], f"/attendance/{district.tenant}")

    assert status == 200
    assert f'<a href="/attendance/{district.tenant}/{EAST}">East &lt;High&gt;</a>' in page


def test_readiness_and_metrics_speak_of_the_table(pair: Pair) -> None:
    assert pair[0].get("/readyz")[0] == 200
    assert 'table_inputs_total{outcome="news"}' in pair[0].get("/metrics")[1]


def test_while_its_owner_is_dying_a_school_is_answered_rightly_or_not_at_all(pair: Pair, district: District) -> None:
    """The last test of this pair: one of them is killed."""
    path = f"/attendance/{district.tenant}/{EAST}/{DAY}"
    own = {worker: ask(worker, path, **{"X-SkillCore-Hop": "1"})[0] == 200 for worker in pair}
    [owner], [other] = [w for w in pair if own[w]], [w for w in pair if not own[w]]
    truth = ask(other, path)[1]["present"]
    owner.process.kill()
    owner.process.wait()
    seen: Counter[int] = Counter()
    deadline = time.monotonic() + 40

    while not (seen[503] and seen[200] > 5):
        assert time.monotonic() < deadline, seen
        status, body, headers = ask(other, path)
        seen[status] += 1
        if status == 200:
            assert body["present"] == truth
        else:
            assert (status, headers["Retry-After"]) == (503, "1"), body
        time.sleep(0.05)

    assert set(seen) == {200, 503}


def test_beyond_its_own_machine_a_worker_asks_for_the_token(world: World, district: District) -> None:
    with running(world, SKILLCORE_WEB_HOST="0.0.0.0", SKILLCORE_WEB_TOKEN="open sesame") as worker:
        path = f"/attendance/{district.tenant}/{EAST}/latest"
        until(lambda: ask(worker, path, Authorization="Bearer open sesame")[0] == 200, "it is recovered")

        assert ask(worker, path)[0] == 401
        assert ask(worker, path, Authorization="Bearer open")[0] == 401
        assert ask(worker, "/health")[0] == 200
        assert date.fromisoformat(ask(worker, path, Authorization="Bearer open sesame")[1]["day"]) == DAY
