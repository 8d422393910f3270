"""What follows a dead letter: the log, one alert a cause, an archive; each without waiting for the other."""

from __future__ import annotations

import gzip
import json
import logging
from base64 import b64decode
from typing import Any

import pytest

from skillcore_streams.queues import dead_letters as module
from skillcore_streams.queues.dead_letters import DeadLettered, TellOperations, queue
from skillcore_streams.runtime.jobs.reaper import Reaper
from skillcore_streams.runtime.objects import ObjectStore
from skillcore_streams.runtime.providers import Page, Unavailable
from skillcore_streams.testing import HandlerLab, MemoryStore

LETTER = """
    insert into dead_letter (id, tenant_id, kind, queue, job_id, fingerprint, reason, first_at, last_at, topic,
                             partition, record_offset, key, headers, value)
    values (gen_random_uuid(), $1, $2, $3, gen_random_uuid(), $4, $5, now(), now() - interval '1 min', 't', 0, 1, 'k',
            '[]', $6) returning id"""


def told_of(lab: HandlerLab) -> list[Page]:
    """What PagerDuty has got."""
    return lab.providers.pages.said


def store_of(lab: HandlerLab) -> MemoryStore:
    store = lab.services[ObjectStore]
    assert isinstance(store, MemoryStore)
    return store


async def archived(lab: HandlerLab) -> list[dict[str, Any]]:
    """The lines of all objects."""
    store = store_of(lab)
    whole = b"".join([gzip.decompress(await store.get(key)) for key in await store.keys("dead-letters/")])
    return [json.loads(line) for line in whole.splitlines()]


async def letters(lab: HandlerLab, count: int, *, of: str | None = "report-generation", value: bytes = b"\xff",
                  fingerprint: str = "f1") -> None:  # fmt: skip
    for n in range(count):
        await lab.value(LETTER, f"t{n % 3}", "job" if of else "record", of, fingerprint, "the printer burns", value)


async def told(lab: HandlerLab) -> None:
    """As the reaper orders it, and all that follows."""
    await Reaper(lab.transaction, lambda: lab.now, "w1").tell()


async def test_a_flood_is_one_alert_with_what_the_seed_s_worker_told(lab: HandlerLab) -> None:
    await letters(lab, 60)
    await told(lab)
    await lab.run_jobs()

    [alert] = told_of(lab)
    assert alert.summary == (
        "60 dead letters of report-generation: the printer burns. skillcore dead-letters list --fingerprint f1"
    )
    assert (alert.severity, alert.dedup_key, alert.source) == ("critical", "dead-letters/f1", "report-generation")


async def test_a_few_are_an_error(lab: HandlerLab) -> None:
    await letters(lab, 1)
    await told(lab)
    await lab.run_jobs()

    assert told_of(lab)[0].severity == "error"


async def test_letters_are_archived_whole_in_parts(
    lab: HandlerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    monkeypatch.setattr(module, "PART", 4000)
    await letters(lab, 10, value=b"\xfe" * 900)
    await told(lab)
    await lab.run_jobs()

    keys = await store_of(lab).keys("dead-letters/")
    lines = await archived(lab)
    assert len(keys) > 2
    assert len(lines) == 10
    assert {b64decode(line["value"]) for line in lines} == {b"\xfe" * 900}
    assert all(key.endswith(".jsonl.gz") for key in keys)
    ids = {str(r["id"]) for r in await lab.rows("select id from dead_letter")}
    assert {line["id"] for line in lines} == ids


async def test_an_archive_out_of_reach_does_not_silence_the_alert(lab: HandlerLab) -> None:
    store_of(lab).failing = 100
    await letters(lab, 1)
    await told(lab)
    with pytest.raises(AssertionError, match="archive_letters"):
        await lab.run_jobs()

    assert len(told_of(lab)) == 1


async def test_an_alert_that_cannot_be_given_is_no_reason_for_another_alert(lab: HandlerLab) -> None:
    lab.providers.pages.answers = [Unavailable("503")] * 5
    await letters(lab, 1)
    await told(lab)
    for _ in range(5):
        with pytest.raises(AssertionError, match="tell_operations"):
            await lab.run_jobs()
    assert await lab.value("select count(*) from dead_letter where queue = 'dead-letters'") == 1
    await lab.execute("update dead_letter set last_at = now() - interval '1 min' where notice is null")
    await lab.execute("delete from attempt")
    await told(lab)
    await lab.run_jobs()

    assert len(told_of(lab)) == 5  # the tries
    notes = [r["line"] for r in await lab.rows("select line from job_log order by at")]
    assert "they are of this very queue: no alert about an alert that could not be given" in notes


async def test_what_is_not_configured_is_said_in_the_job_s_log(
    lab: HandlerLab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.services.pop(ObjectStore)
    await letters(lab, 1)
    await told(lab)
    with caplog.at_level(logging.ERROR):
        await lab.run_jobs()

    notes = [r["line"] for r in await lab.rows("select line from job_log")]
    assert "not archived: no store is configured" in notes
    assert "1 dead letters of report-generation: the printer burns" in caplog.text


async def test_a_parked_record_is_told_of_by_its_topic(lab: HandlerLab) -> None:
    await letters(lab, 2, of=None)
    await told(lab)
    await lab.run_jobs()

    assert told_of(lab)[0].source == "t"


def test_the_queue_is_internal_and_its_first_job_is_what_the_reaper_orders() -> None:
    from skillcore_streams.runtime.jobs.reaper import NOTICE

    assert queue.internal
    assert (queue.name, DeadLettered.__kind__) == NOTICE
    assert TellOperations.__queue__ is queue
