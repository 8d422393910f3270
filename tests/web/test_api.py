"""/api/: what it shows, who may act, and that nothing of a payload comes out."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiohttp import web as aio
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import generate_latest
from pydantic import SecretStr

from skillcore_streams import metrics, web
from skillcore_streams.api import Api
from skillcore_streams.runtime import health
from skillcore_streams.runtime.chunk import deliver
from skillcore_streams.runtime.jobs import backlog
from skillcore_streams.runtime.jobs.runner import Runner
from tests.runtime.conftest import core_dsn, lab
from tests.runtime.lab import Lab, chunk, record
from tests.runtime.test_job_operator import QUEUE, Sweep, add, every_state, runner

__all__ = ["core_dsn", "lab"]

TOKEN = "a token of these tests"
ACTOR = {"Authorization": f"Bearer {TOKEN}", "X-Actor": "ann"}


async def client(lab: Lab, token: str | None) -> TestClient[Any, Any]:
    api = Api(lab.postgres.transaction, lambda: lab.now, token=None if token is None else SecretStr(token),
              lag=lambda topic: 7 if topic == QUEUE.topic else 0)  # fmt: skip
    app = aio.Application(middlewares=[web.allow_list])
    app.router.add_route("*", "/api/{path:.*}", api.answer)
    made = TestClient(TestServer(app))
    await made.start_server()
    return made


@pytest_asyncio.fixture
async def console(lab: Lab) -> AsyncIterator[TestClient[Any, Any]]:
    """The API of a worker that has a token."""
    made = await client(lab, TOKEN)
    yield made
    await made.close()


async def get(console: TestClient[Any, Any], path: str) -> tuple[int, Any]:
    answer = await console.get(f"/api/{path}")
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, await answer.json()


async def post(console: TestClient[Any, Any], path: str, reason: str = "a test", **headers: str) -> tuple[int, Any]:
    answer = await console.post(f"/api/{path}", json={"reason": reason}, headers=ACTOR | headers)
    return answer.status, await answer.json()


async def parked(lab: Lab) -> UUID:
    """A letter of a record whose payload and headers are telling."""
    bad = record(0, headers={"x-Penelope": "x"}, value=b'{"Penelope": "Featherstone", "n": "x"}')
    await deliver(chunk([bad]), lab.core)
    return await lab.value("select id from dead_letter")


async def test_queues_show_what_stands_where_with_the_records_not_taken_in_yet(
    lab: Lab, console: TestClient[Any, Any]
) -> None:
    await every_state(lab)

    status, body = await get(console, "queues")
    [row] = [q for q in body["queues"] if q["queue"] == "operated"]

    assert status == 200
    assert (row["running"], row["failed"], row["intake"], row["paused_at"]) == (1, 1, 7, None)
    assert (await get(console, "queues/operated"))[1]["concurrency"] == 5
    assert (await get(console, "queues/nothing"))[0] == 404


async def test_the_seed_s_name_of_a_queue_s_dead_letters_is_understood(
    lab: Lab, console: TestClient[Any, Any]
) -> None:
    jobs = await every_state(lab)

    _, queue = await get(console, "queues/operated-dlq")
    _, listed = await get(console, "jobs?queue=operated-dlq")
    _, letters = await get(console, "dead-letters?queue=operated-dlq")

    assert (queue["queue"], queue["waiting"]) == ("operated-dlq", 1)
    assert [j["id"] for j in listed["jobs"]] == [str(jobs["failed"])]
    assert [d["job_id"] for d in letters["dead_letters"]] == [str(jobs["failed"])]


async def test_pages_of_jobs_follow_each_other(lab: Lab, console: TestClient[Any, Any]) -> None:
    jobs = await add(lab, 5)

    _, first = await get(console, "jobs?queue=operated&limit=3")
    _, second = await get(console, f"jobs?queue=operated&limit=3&after={first['next']}")

    assert [j["id"] for j in first["jobs"] + second["jobs"]] == [str(j) for j in jobs]
    assert second["next"] is None


async def test_a_job_s_page_is_found_by_the_beginning_of_its_id(lab: Lab, console: TestClient[Any, Any]) -> None:
    [job] = await add(lab)

    status, page = await get(console, f"jobs/{str(job)[:13]}")

    assert (status, page["id"], page["state"]) == (200, str(job), "waiting")
    assert (await get(console, f"jobs/{job}/logs"))[1] == {"logs": []}
    assert (await get(console, f"jobs/{uuid4()}"))[0] == 404


async def test_no_payload_and_no_name_that_a_sender_chose_is_shown(lab: Lab, console: TestClient[Any, Any]) -> None:
    letter = await parked(lab)

    texts = [json.dumps((await get(console, path))[1]) for path in (
        "dead-letters", "dead-letters/causes", f"dead-letters/{letter}", "jobs", "queues",
    )]  # fmt: skip

    assert "1 unknown field" in texts[2]
    assert '"(unknown name)"' in texts[2]
    assert not [t for t in texts if "Penelope" in t or "Featherstone" in t]


@pytest.mark.parametrize(("path", "status"), [
    ("jobs?limit=0", 400), ("jobs?limit=501", 400), ("jobs?limit=x", 400), ("jobs?colour=red", 400),
    ("jobs?state=sleeping", 400), ("jobs?since=yesterday", 400), ("jobs?after=x", 400), ("jobs/zz", 400),
    ("jobs?queue=a%00b", 400), ("dead-letters?status=lost", 400), ("dead-letters?kind=x", 400),
    ("dead-letters?after=x", 400), ("dead-letters/' or 1=1", 400), ("dead-letters/00000000", 404), ("", 404),
    ("nothing", 404), ("jobs/a/b/c", 404), ("jobs/00000000/cancel", 405), ("queues/x/pause", 405),
])
async def test_what_makes_no_sense_is_answered_with_a_sentence(
    console: TestClient[Any, Any], path: str, status: int
) -> None:
    answer = await console.get(f"/api/{path}")

    assert answer.status == status
    assert (await answer.json())["error"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_do_not_exist(console: TestClient[Any, Any], method: str) -> None:
    assert (await console.request(method, "/api/jobs")).status == 405


async def test_without_a_configured_token_it_can_only_be_read(lab: Lab) -> None:
    [job] = await add(lab)
    reading = await client(lab, None)

    answer = await reading.post(f"/api/jobs/{job}/cancel", json={"reason": "x"}, headers=ACTOR)

    assert answer.status == 405
    assert "SKILLCORE_API_TOKEN" in (await answer.json())["error"]
    assert (await reading.get("/api/jobs")).status == 200
    await reading.close()


@pytest.mark.parametrize("headers", [
    {"Authorization": ""}, {"Authorization": TOKEN}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "},
    {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer ümlaut"},
])
async def test_nobody_acts_without_the_token(
    lab: Lab, console: TestClient[Any, Any], headers: dict[str, str]
) -> None:
    [job] = await add(lab)

    answer = await console.post(f"/api/jobs/{job}/cancel", json={"reason": "x"}, headers=ACTOR | headers)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert await lab.value("select count(*) from ready") == 1
    assert await lab.value("select count(*) from operator_action") == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"reason": ""}', b'{"reason": 5}', b"\xff", b"[" * 60_000,
                                  b'{"reason": "' + b"x" * 70_000 + b'"}', b'{"reason": "a\\u0000b"}'])  # fmt: skip
async def test_an_act_needs_a_reason(lab: Lab, console: TestClient[Any, Any], body: bytes) -> None:
    [job] = await add(lab)

    answer = await console.post(f"/api/jobs/{job}/cancel", data=body, headers=ACTOR)

    assert answer.status == 400
    assert "reason" in (await answer.json())["error"]
    assert await lab.value("select count(*) from ready") == 1


async def test_an_act_needs_an_actor(lab: Lab, console: TestClient[Any, Any]) -> None:
    [job] = await add(lab)

    assert (await post(console, f"jobs/{job}/cancel", **{"X-Actor": " "}))[0] == 400
    assert (await post(console, f"jobs/{job}/cancel", **{"X-Actor": "a" * 201}))[0] == 400


async def test_jobs_and_queues_are_acted_on_and_it_is_kept_by_whom(lab: Lab, console: TestClient[Any, Any]) -> None:
    [job] = await add(lab, delay=60_000)
    jobs = await every_state(lab)

    assert (await post(console, f"jobs/{job}/promote"))[1]["said"] == "it is due now"
    assert (await post(console, f"jobs/{job}/cancel"))[1]["done"]
    assert (await post(console, f"jobs/{jobs['failed']}/retry"))[1]["done"]
    status, again = await post(console, f"jobs/{jobs['failed']}/retry")
    assert (status, again["done"]) == (409, False)
    assert (await post(console, "queues/operated/pause"))[0] == 200
    assert await Runner(lab.postgres.transaction, lab.registry, lambda: lab.now, "w").run_due() == 0
    assert (await post(console, "queues/operated/resume"))[0] == 200
    assert (await post(console, "queues/nothing/pause"))[0] == 404
    kept = await lab.rows("select action, target, actor from operator_action where actor = 'ann' and reason = 'a test'")
    assert {"jobs promote", "jobs cancel", "dead-letters retry", "queues pause", "queues resume"} <= {
        k["action"] for k in kept
    }


async def test_a_letter_is_retried_once_or_discarded(lab: Lab, console: TestClient[Any, Any]) -> None:
    letter = await parked(lab)

    assert (await post(console, f"dead-letters/{letter}/retry"))[1]["done"]
    status, again = await post(console, f"dead-letters/{letter}/discard")

    assert status == 409
    assert "was retried already" in again["said"]
    assert await lab.value("select count(*) from outbox where topic not like '%.dlq'") == 1
    _, shown = await get(console, f"dead-letters/{letter}")
    assert [(a["actor"], a["action"]) for a in shown["acts"]] == [("ann", "dead-letters retry")]


async def test_while_postgres_is_away_it_says_so(lab: Lab) -> None:
    away = await client(lab, None)
    await lab.postgres.close()
    lab.postgres._dsn = "postgresql://x@127.0.0.1:1/x"

    answer = await away.get("/api/jobs")

    assert answer.status == 503
    assert "Postgres is away" in (await answer.json())["error"]
    await away.close()


# Metrics --------------------------------------------------------------------------------------------------------------


async def shown(lab: Lab) -> str:
    """/metrics, as of now."""
    async with lab.postgres.transaction() as db:
        health.show(await backlog.count(db), lambda topic: 7 if topic == QUEUE.topic else 0)
    return generate_latest(metrics.REGISTRY).decode()


async def test_metrics_have_the_seed_s_and_bullmq_s_names_with_the_intake_lag(lab: Lab) -> None:
    await every_state(lab)
    await add(lab, 2)
    text = await shown(lab)

    for line in (
        'bullmq_queue_waiting_count{queue="operated"} 10.0', 'bullmq_queue_active_count{queue="operated"} 1.0',
        'bullmq_queue_failed_count{queue="operated"} 1.0', 'bullmq_queue_completed_count{queue="operated"} 2.0',
        'bullmq_queue_waiting_count{queue="operated-dlq"} 1.0', 'dlq_message_count{source="operated"} 1.0',
        'bullmq_job_count{queue="operated",state="waiting"} 9.0', 'queue_paused{queue="operated"} 0.0',
        'bullmq_job_count{queue="operated",state="prioritized"} 1.0',
        'bullmq_job_count{queue="operated",state="delayed"} 2.0', 'bullmq_job_completed_total{queue="operated"}',
        'bullmq_job_failed_total{queue="operated"}',
    ):  # fmt: skip
        assert line in text, line
    assert 'job_oldest_waiting_seconds{queue="operated"}' in text


async def test_completed_and_failed_jobs_are_counted_once_each(lab: Lab) -> None:
    def total(what: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"bullmq_job_{what}_total", {"queue": "operated"}) or 0

    async def sweep(job: Sweep, ctx: Any) -> None:
        if job.floor == 1:
            raise ValueError

    completed, failed = total("completed"), total("failed")
    lab.handler(sweep, Sweep)  # type: ignore[arg-type]
    await add(lab, 3, attempts=2, backoff=0)
    while await runner(lab).run_due():
        pass

    assert (total("completed") - completed, total("failed") - failed) == (2, 1)


ALLOWED = {
    "bullmq_queue_waiting_count", "bullmq_queue_active_count", "bullmq_queue_completed_count",
    "bullmq_queue_failed_count", "event_worker_count", "dlq_message_count",  # the seed's names
    "bullmq_job_count",  # BullMQ's exporter's
}


async def test_promtool_finds_nothing_but_the_names_that_are_given(lab: Lab, promtool: str) -> None:
    text = await shown(lab)

    done = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )

    complaints = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert not [line for line in complaints if line.split()[0].rstrip(":") not in ALLOWED], complaints
