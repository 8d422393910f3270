"""Topics on a real broker: created in one request, compared, never altered."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import yaml
from aiokafka.admin import NewTopic

from skillcore_streams.adapters.kafka_admin import (
    Cluster,
    Declaration,
    Found,
    KafkaAway,
    Topic,
    admin,
    apply,
    check,
    look,
    problems,
    topic_ids,
)
from skillcore_streams.config import ROOT, Settings
from skillcore_streams.runtime.errors import Misconfigured
from skillcore_streams.stack import temporary

DECLARED = Declaration.read(ROOT / "kafka" / "topics.yaml")


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """The real file with names of its own, so that each test finds an empty broker."""
    mark = uuid4().hex[:8]
    declared = yaml.safe_load((ROOT / "kafka" / "topics.yaml").read_text())
    for kind in declared["kinds"].values():
        kind["name"] = kind["name"].replace("skillcore.", f"test-{mark}.").replace("{app}", f"test-{mark}")
    own = tmp_path / "topics.yaml"
    own.write_text(yaml.safe_dump(declared))
    return Settings(kafka=kafka, topics_file=own)


def names(settings: Settings) -> list[str]:
    return [topic.name for topic in Declaration.read(settings.topics_file).topics_for("local")]


def test_only_workers_with_a_table_need_its_changelog() -> None:
    needed = {
        role: {topic.name for topic in DECLARED.topics_for("local", app_id=f"skillcore-{role}", roles={role})}
        for role in ("events", "tables")
    }

    assert "skillcore-tables-attendance-changelog" in needed["tables"]
    assert not any("changelog" in name for name in needed["events"])


async def test_apply_creates_everything_and_check_agrees(settings: Settings) -> None:
    (missing,) = await check(settings)
    assert missing.startswith("Missing: ")
    assert "skillcore topics apply" in missing

    done = await apply(settings, "local")

    assert (len(done.created), done.unchanged, done.problems) == (39, 0, [])
    assert await check(settings) == []


async def test_a_second_apply_creates_nothing(settings: Settings) -> None:
    await apply(settings, "local")

    done = await apply(settings, "local")

    assert (done.created, done.unchanged, done.problems) == ([], 39, [])


async def test_what_exists_and_differs_is_said_and_left_alone(settings: Settings) -> None:
    chat, dead = (n for n in names(settings) if ".chat." in n)
    async with admin(settings.kafka) as client:
        await client.create_topics([NewTopic(chat, 2, 1, topic_configs={"retention.ms": "1000"}), NewTopic(dead, 3, 1)])

    done = await apply(settings, "local")

    assert len(done.created) == 37
    said = "\n".join(done.problems)
    assert f"{chat} has 2 partitions, topics.yaml says 4" in said
    assert f"--alter --topic {chat} --partitions 4" in said
    assert f"{chat} has retention.ms=1000, topics.yaml says 604800000. Run kafka-configs.sh" in said
    assert f"{dead} has 3 partitions, topics.yaml says 1. A topic cannot lose partitions" in said
    async with admin(settings.kafka) as client:
        assert (await look(client, [chat])).topics[chat].partitions == 2


async def test_production_needs_three_brokers_and_says_so(settings: Settings) -> None:
    done = await apply(settings, "production")

    assert done.created == []
    assert len(done.problems) == 39
    assert "replication factor" in done.problems[0].lower()


async def test_a_topic_made_again_has_another_id(settings: Settings) -> None:
    await apply(settings, "local")
    name = names(settings)[0]
    before = await topic_ids(settings.kafka, [name, "never-made"])
    async with admin(settings.kafka) as client:
        await client.delete_topics([name])
        for _ in range(100):  # the controller is done, the brokers learn a moment later
            if not (await look(client, [name])).topics:
                break
            await asyncio.sleep(0.05)
    await apply(settings, "local")

    after = await topic_ids(settings.kafka, [name])

    assert before.keys() == after.keys() == {name}
    assert before[name] != after[name]
    assert UUID(int=0) not in (before[name], after[name])


async def test_nobody_there_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")

    with pytest.raises(KafkaAway, match=r"Kafka does not answer at 127.0.0.1:1 .* skillcore stack up"):
        await check(Settings(kafka="127.0.0.1:1"))


async def test_the_in_memory_broker_makes_topics_its_own_way() -> None:
    with temporary(kafka="mock") as stack:
        settings = Settings(kafka=stack.env()["SKILLCORE_KAFKA"])
        assert "Missing" in (await check(settings))[0]

        done = await apply(settings, "local")

        assert (len(done.created), done.problems) == (39, [])
        assert await check(settings) == []


def test_the_catalogue_is_declared() -> None:
    topics = {t.name: t for t in DECLARED.topics_for("production")}

    domains = [n for n in topics if n.endswith(".events.v1")]
    jobs = [n for n in topics if n.startswith("skillcore.jobs.") and n.endswith(".v1")]
    assert (len(domains), len(jobs)) == (11, 7)
    assert {topics[n].partitions for n in domains} == {12}
    assert {n for n in jobs if topics[n].partitions != 6} == {"skillcore.jobs.notification-delivery.v1"}
    assert all(topics[f"{n}.dlq"].partitions == 1 for n in domains + jobs)
    assert {t.replicas for t in topics.values()} == {3}
    assert topics[domains[0]].config["retention.ms"] == str(7 * 86_400_000)
    assert {t.partitions for t in DECLARED.topics_for("local", brokers=1) if not t.name.endswith(".dlq")} == {1, 4}


def test_a_worker_of_selected_roles_elects_a_leader_of_its_own() -> None:
    topics = [t.name for t in DECLARED.topics_for("local", app_id="skillcore-jobs")]

    assert topics[-1] == "skillcore-jobs-__assignor-__leader"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kinds: [", "cannot be read"),
        ("kinds: {}\ntopics: {events: {chat: {owner: x}}}", "there is no kind events"),
        ("kinds: {}\ntopics: {events: {chat: {}}}", r"topics\.events\.chat\.owner: Field required"),
        ("kinds: {}\ntopics: {events: {chat: {owner: x, partition: 3}}}", r"chat\.partition: Extra inputs"),
    ],
)
def test_a_wrong_file_is_wrong_at_a_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(text)

    with pytest.raises(Misconfigured, match=said):
        Declaration.read(file).topics_for("local")


def test_a_difference_names_the_command() -> None:
    topic = Topic("t", 4, 1, {"cleanup.policy": "delete"}, "us")
    cluster = Cluster(1, {"t": Found(uuid4(), 4, 1, {"cleanup.policy": "compact"})}, mock=False)

    (said,) = problems([topic], cluster, "b:1")

    assert said == (
        "t has cleanup.policy=compact, topics.yaml says delete. Run kafka-configs.sh --bootstrap-server b:1 --alter "
        "--entity-type topics --entity-name t --add-config cleanup.policy=delete"
    )
