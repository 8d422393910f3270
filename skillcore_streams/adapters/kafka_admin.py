"""Topics: what kafka/topics.yaml declares, what the broker has, and the difference in sentences.

Nothing here alters a topic that exists. More partitions would move keys to other partitions and break their order, and
a shorter retention loses data: both are decisions of a person, who is told what to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import UUID

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from skillcore_streams.config import ROLES, Settings
from skillcore_streams.runtime.errors import Misconfigured, SkillCoreError

Profile = Literal["local", "production"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
DAY_MS = 24 * 60 * 60 * 1000


class KafkaAway(SkillCoreError):
    """No broker answers."""


# What is declared.


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be. `replicas` is the wish; a small local cluster gives what it can."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    owner: str


class Kind(BaseModel):
    """What topics of a kind have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    partitions: dict[Profile, int]
    retention_days: int | None = None
    max_message_kib: int = 1088  # 1 MiB of value, and room for key, headers and batch
    cleanup: Literal["delete", "compact"] = "delete"
    dead_letters: bool = False

    def topic(self, name: str, owner: str, profile: Profile, app_id: str, brokers: int) -> Topic:
        """The topic of this kind for one row of the file."""
        replicas = 3 if profile == "production" else min(3, brokers)
        config = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_kib << 10),
            "min.insync.replicas": "2" if replicas == 3 else "1",
        }
        if self.cleanup == "compact":
            # Only closed segments are compacted, and whoever recovers a table reads all that is not.
            config |= {"segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "0.1"}
        if self.retention_days:
            config["retention.ms"] = str(self.retention_days * DAY_MS)
        return Topic(self.name.format(name, app=app_id), self.partitions[profile], replicas, config, owner)


class Row(BaseModel):
    """A row: who answers for the topic, and where it differs from its kind."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    owner: str
    role: str | None = None
    """Only workers that have this role need it; None: all."""
    partitions: dict[Profile, int] | None = None
    retention_days: int | None = None
    max_message_kib: int | None = None


class Declaration(BaseModel):
    """kafka/topics.yaml."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kinds: dict[str, Kind]
    topics: dict[str, dict[str, Row]]

    @classmethod
    def read(cls, path: Path) -> Declaration:
        """Raises Misconfigured, with the place in the file, when it is not as it should be."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise Misconfigured(f"{path} cannot be read: {error}") from error
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise Misconfigured(f"{path} is wrong at {problems}") from None

    def topics_for(
        self, profile: Profile, *, app_id: str = "skillcore", brokers: int = 3, roles: Set[str] = ROLES
    ) -> list[Topic]:
        """All topics that a worker of these roles needs, dead letters right behind the topic they belong to."""
        found = []
        for kind_name, rows in self.topics.items():
            if kind_name not in self.kinds:
                raise Misconfigured(f"topics.yaml: there is no kind {kind_name}, only {', '.join(self.kinds)}")
            for name, row in rows.items():
                if row.role is not None and row.role not in roles:
                    continue
                own = row.model_dump(exclude={"owner", "role"}, exclude_none=True)
                kind = self.kinds[kind_name].model_copy(update=own)
                topic = kind.topic(name, row.owner, profile, app_id, brokers)
                found.append(topic)
                if kind.dead_letters:
                    found.append(self.kinds["dead_letters"].topic(topic.name, row.owner, profile, app_id, brokers))
        return found


# What the broker has.


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it. `id` tells a topic from a later one of the same name."""

    id: UUID
    partitions: int
    replicas: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The topics that were asked for and exist, and how many brokers live.

    `mock` is librdkafka's in-memory broker, known by a controller that is none of its brokers. It has no CreateTopics,
    makes topics when they are asked for, and all of them with four partitions and no configuration.
    """

    brokers: int
    topics: Mapping[str, Found]
    mock: bool


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises KafkaAway when no broker answers, or stops answering."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        await client.start()
        yield client
    except (KafkaError, TimeoutError) as error:
        raise KafkaAway(
            f"Kafka does not answer at {bootstrap} ({type(error).__name__}). Check SKILLCORE_KAFKA; "
            "for a local stack: skillcore stack up, then eval $(skillcore stack env)."
        ) from error
    finally:
        await client.close()


async def look(client: AIOKafkaAdminClient, names: Iterable[str], *, create: bool = False) -> Cluster:
    """Ask one broker for these topics. `create` lets the in-memory broker make them, as it has no other way."""
    names = list(names)
    answer = await client._send_request(_TopicMetadata(names, create))
    existing = [(name, UUID(bytes=raw), parts) for error, name, raw, _, parts, *_ in answer.topics if not error]
    if not answer.brokers:
        raise NodeNotReadyError("the broker that answered knows of no living broker, not even itself")
    mock = answer.controller_id not in {node for node, *_ in answer.brokers}
    config = {} if mock else await _configuration(client, [name for name, *_ in existing])
    return Cluster(
        brokers=len(answer.brokers),
        topics={
            # replicas are the fifth field of a partition; the partition that has fewest of them counts
            name: Found(topic_id, len(parts), min((len(part[4]) for part in parts), default=0), config.get(name, {}))
            for name, topic_id, parts in existing
        },
        mock=mock,
    )


async def topic_ids(bootstrap: str, topics: Iterable[str]) -> dict[str, UUID]:
    """Ids of the topics that exist: a topic that was deleted and made again has another one."""
    async with admin(bootstrap) as client:
        return {name: found.id for name, found in (await look(client, topics)).topics.items()}


async def _configuration(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in await client.describe_configs(resources)
        for _, _, _, name, entries in answer.resources
    }


# The difference, and how to make it go away.


def problems(wanted: Iterable[Topic], cluster: Cluster, bootstrap: str, profile: Profile = "local") -> list[str]:
    """What is missing or differs, as sentences with the command that helps."""
    wanted = list(wanted)
    missing = [topic.name for topic in wanted if topic.name not in cluster.topics]
    found = []
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        found.append(f"Missing: {some}. Create them: skillcore topics apply --profile {profile}")
    for topic in wanted:
        if topic.name in cluster.topics and not cluster.mock:
            found += _differences(topic, cluster.topics[topic.name], bootstrap)
    return found


def _differences(topic: Topic, found: Found, bootstrap: str) -> Iterable[str]:
    if found.partitions < topic.partitions:
        yield (
            f"{topic.name} has {found.partitions} partitions, topics.yaml says {topic.partitions}. More partitions "
            "move keys and break their order: let the topic run empty, then kafka-topics.sh "
            f"--bootstrap-server {bootstrap} --alter --topic {topic.name} --partitions {topic.partitions}"
        )
    if found.partitions > topic.partitions:
        yield (
            f"{topic.name} has {found.partitions} partitions, topics.yaml says {topic.partitions}. A topic cannot lose "
            "partitions: correct topics.yaml."
        )
    if found.replicas != topic.replicas:
        yield (
            f"{topic.name} has {found.replicas} replicas, not {topic.replicas}. Change them with "
            f"kafka-reassign-partitions.sh --bootstrap-server {bootstrap}"
        )
    for name, value in topic.config.items():
        if found.config.get(name) != value:
            yield (
                f"{topic.name} has {name}={found.config.get(name)}, topics.yaml says {value}. Run kafka-configs.sh "
                f"--bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {topic.name} "
                f"--add-config {name}={value}"
            )


async def check(settings: Settings, profile: Profile | None = None) -> list[str]:
    """What keeps a worker from starting, as sentences; empty when all is as declared.

    A worker is not told for which profile it runs. Then the one that fits best is taken for the one that was meant.
    Raises KafkaAway.
    """
    declaration = Declaration.read(settings.topics_file)
    async with admin(settings.kafka) as client:
        asked = declaration.topics_for("local", app_id=settings.app_id, roles=settings.roles)
        cluster = await look(client, [topic.name for topic in asked])
    return min(
        (
            problems(
                declaration.topics_for(
                    candidate, app_id=settings.app_id, brokers=cluster.brokers, roles=settings.roles
                ),
                cluster, settings.kafka, candidate,
            )
            for candidate in ([profile] if profile else PROFILES)
        ),
        key=len,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, and what it found and left alone."""

    created: list[str]
    unchanged: int
    problems: list[str]


async def apply(settings: Settings, profile: Profile) -> Applied:
    """Create what is missing, in one request; compare what exists. Raises KafkaAway."""
    declaration = Declaration.read(settings.topics_file)
    async with admin(settings.kafka) as client:
        app_id, roles = settings.app_id, settings.roles
        names = [topic.name for topic in declaration.topics_for(profile, app_id=app_id, roles=roles)]
        before = await look(client, names)
        wanted = declaration.topics_for(profile, app_id=app_id, brokers=before.brokers, roles=roles)
        missing = [topic for topic in wanted if topic.name not in before.topics]
        created, refusals = await _create(client, missing, mock=before.mock)
        after = await _settled(client, names, unless=refusals.keys())
    accepted = [topic for topic in wanted if topic.name not in refusals]
    return Applied(
        created=created,
        unchanged=len(names) - len(created) - len(refusals),
        problems=[*refusals.values(), *problems(accepted, after, settings.kafka, profile)],
    )


async def _create(
    client: AIOKafkaAdminClient, topics: list[Topic], *, mock: bool
) -> tuple[list[str], dict[str, str]]:
    """What was created, and the broker's refusals by topic. In neither: somebody else was faster, just as well."""
    if not topics:
        return [], {}
    if mock:
        await look(client, [t.name for t in topics], create=True)
        return [t.name for t in topics], {}
    answer = await client.create_topics(
        [NewTopic(t.name, t.partitions, t.replicas, topic_configs=dict(t.config)) for t in topics]
    )
    refusals = {
        name: f"{name} was refused by the broker: {message or for_code(code).__name__}"
        for name, code, message in answer.topic_errors
        if code not in (0, TopicAlreadyExistsError.errno)
    }
    return [name for name, code, _ in answer.topic_errors if code == 0], refusals


async def _settled(client: AIOKafkaAdminClient, names: list[str], unless: Iterable[str]) -> Cluster:
    """What the controller has created, a broker learns a moment later."""
    expected = set(names) - set(unless)
    for _ in range(50):
        cluster = await look(client, names)
        if expected <= cluster.topics.keys():
            break
        await asyncio.sleep(0.1)
    return cluster


# Metadata version 12, the first that every broker of today speaks and that tells topic ids; aiokafka ends at version 5.


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_TEXT, _TAGS = CompactString("utf-8"), ("tags", TaggedFields)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        ("topics", CompactArray(
            ("error_code", Int16), ("name", _TEXT), ("topic_id", _Uuid), ("is_internal", Boolean),
            ("partitions", CompactArray(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", CompactArray(Int32)), ("isr", CompactArray(Int32)), ("offline", CompactArray(Int32)),
                _TAGS,
            )),
            ("authorized_operations", Int32), _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        _TAGS,
    )


class _TopicMetadata(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: list[str], create: bool) -> None:
        self._topics = topics
        self._create = create

    def build(self, struct: Any) -> Any:
        nameless = UUID(int=0).bytes
        return struct([(nameless, name, {}) for name in self._topics], self._create, False, {})


async def bounds(bootstrap: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
    """(earliest offset, end offset) of the partitions that exist. Raises KafkaAway."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        await consumer.start()
        # All metadata at once: the client knows no topic yet and would ask for each by itself.
        cluster = await consumer._client.fetch_all_metadata()
        known = [TopicPartition(t, p) for t, p in partitions if p in (cluster.partitions_for_topic(t) or ())]
        if not known:
            return {}
        earliest, end = await consumer.beginning_offsets(known), await consumer.end_offsets(known)
    except (KafkaError, TimeoutError) as error:
        reason = type(error).__name__
        raise KafkaAway(f"Kafka does not answer at {bootstrap} ({reason}). Check SKILLCORE_KAFKA.") from error
    finally:
        await consumer.stop()
    return {(tp.topic, tp.partition): (earliest[tp], end[tp]) for tp in known}
