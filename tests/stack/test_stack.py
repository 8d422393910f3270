"""The local stack, for real: every test starts servers and looks at processes, ports and data."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from skillcore_streams.adapters.kafka_admin import apply
from skillcore_streams.adapters.providers import Http, connect
from skillcore_streams.adapters.s3 import S3Store
from skillcore_streams.config import Settings
from skillcore_streams.runtime import providers
from skillcore_streams.stack import Stack, StackError, Unavailable, temporary
from skillcore_streams.stack.postgres import home_for
from skillcore_streams.stack.service import born, wait_until

SKILLCORE = [str(Path(sys.executable).with_name("skillcore"))]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may walk to, which pytest's own tmp_path is not."""
    with tempfile.TemporaryDirectory(prefix="skillcore-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Stack(Path(name) / "stack").remove()


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    """One stack for the tests that leave it running as they found it."""
    with temporary(kafka="apache") as stack:
        yield stack


@pytest.fixture
def poor_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a shell and little else: no Java, no Redis."""
    programs = folder / "bin"
    programs.mkdir()
    for program in ("sh", "cut", "setsid"):
        (programs / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(programs))


def processes_in(folder: Path) -> list[int]:
    """Living processes that work in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def pids(stack: Stack) -> dict[str, int | None]:
    return {service.name: service.pid for service in stack.status()}


def states(stack: Stack) -> dict[str, str]:
    return {service.name: service.state for service in stack.status()}


async def test_everything_answers_where_env_says(shared: Stack) -> None:
    env = shared.env()

    db = await asyncpg.connect(env["SKILLCORE_DATABASE_URL"])
    assert await db.fetchval("SELECT current_user || '@' || current_database()") == "skillcore@skillcore"
    assert await db.fetchval("SHOW fsync") == "on"
    await db.execute("CREATE DATABASE made_by_a_test")  # as the fixtures of other tests do
    await db.execute("DROP DATABASE made_by_a_test")
    await db.close()
    redis = Redis.from_url(env["SKILLCORE_REDIS_URL"])
    assert await redis.ping()
    await redis.aclose()
    assert "Apache Kafka" in shared.status()[0].kind


def test_a_second_up_changes_nothing(shared: Stack) -> None:
    before, env = pids(shared), shared.env()

    assert Stack(shared.dir).up() == env

    assert pids(shared) == before
    assert None not in before.values()


def test_ports_lie_below_those_of_outgoing_connections(shared: Stack) -> None:
    ports = [int(service.address.rpartition(":")[2]) for service in shared.status()]

    assert all(20_000 <= port < 32_768 for port in ports)
    assert all(service.address.startswith("127.0.0.1:") for service in shared.status())


@pytest.mark.parametrize("name", ["kafka", "postgres", "redis", "providers", "s3"])
def test_up_brings_back_only_what_was_killed(shared: Stack, name: str) -> None:
    before = pids(shared)

    shared.kill(name)
    assert states(shared)[name] == "crashed"
    env = shared.env()
    shared.up()

    after = pids(shared)
    assert shared.env() == env
    assert [n for n in after if after[n] != before[n]] == [name]


def test_postgres_comes_back_when_only_its_first_process_was_killed(shared: Stack) -> None:
    """Its children hold the shared memory a moment longer, so the first try may fail."""
    pid = pids(shared)["postgres"]
    assert pid

    os.kill(pid, 9)
    assert wait_until(lambda: born(pid) is None, 5)
    shared.start("postgres")

    assert states(shared)["postgres"] == "running"


async def test_a_frozen_postgres_answers_again_when_thawed(shared: Stack) -> None:
    dsn = shared.env()["SKILLCORE_DATABASE_URL"]

    shared.freeze("postgres")
    with pytest.raises(TimeoutError):
        await asyncpg.connect(dsn, timeout=0.3)
    shared.thaw("postgres")

    db = await asyncpg.connect(dsn, timeout=5)
    await db.close()


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(shared: Stack) -> None:
    """After a restart of the machine, a pid file may name any process."""
    stranger = subprocess.Popen(["sleep", "60"])
    shared.stop("redis")
    (shared.dir / "redis" / "pid").write_text(f"{stranger.pid} 12345\n")

    assert states(shared)["redis"] == "crashed"
    shared.stop("redis")
    shared.kill("redis")

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    shared.up()


def test_an_unknown_service_is_named_with_those_there_are(shared: Stack) -> None:
    with pytest.raises(StackError, match="no service zookeeper; there are kafka, postgres, redis, providers, s3"):
        shared.kill("zookeeper")


def test_another_number_of_brokers_needs_fresh(shared: Stack) -> None:
    with pytest.raises(StackError, match="Use --fresh"):
        Stack(shared.dir, brokers=3).up()


def test_who_wants_another_kind_of_kafka_must_stop_first(shared: Stack) -> None:
    with pytest.raises(StackError, match="runs with apache Kafka"):
        Stack(shared.dir, kafka="mock").up()


def test_a_port_that_somebody_took_while_nothing_ran_is_replaced(folder: Path) -> None:
    stack = Stack(folder / "stack", kafka="mock")
    before = stack.up()
    stack.down()
    with socket.create_server(("127.0.0.1", int(before["SKILLCORE_DATABASE_URL"].split(":")[2].split("/")[0]))):
        after = stack.up()

    assert before["SKILLCORE_DATABASE_URL"] != after["SKILLCORE_DATABASE_URL"]
    assert before["SKILLCORE_REDIS_URL"] == after["SKILLCORE_REDIS_URL"]
    assert set(states(stack).values()) == {"running"}


def test_a_server_that_cannot_start_says_its_last_words(folder: Path) -> None:
    stack = Stack(folder / "stack", kafka="mock")
    stack.up()
    stack.stop("redis")
    (folder / "stack" / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")

    with pytest.raises(StackError, match=r"redis ended while starting\. The end of .*server\.log:(.|\n)*manifest"):
        stack.start("redis")


async def test_data_survives_down_and_is_gone_with_fresh(folder: Path) -> None:
    stack = Stack(folder / "stack", kafka="mock")
    env = stack.up()
    db = await asyncpg.connect(env["SKILLCORE_DATABASE_URL"])
    await db.execute("CREATE TABLE kept AS SELECT 1")
    await db.close()
    redis = Redis.from_url(env["SKILLCORE_REDIS_URL"])
    await redis.set("kept", "1")
    await redis.aclose()

    stack.down()
    assert set(states(stack).values()) == {"stopped"}
    assert processes_in(folder) == []
    stack.up()

    assert stack.env() | {"SKILLCORE_KAFKA": ""} == env | {"SKILLCORE_KAFKA": ""}  # the in-memory broker moves
    db = await asyncpg.connect(env["SKILLCORE_DATABASE_URL"])
    assert await db.fetchval("SELECT to_regclass('kept') IS NOT NULL")
    await db.close()
    redis = Redis.from_url(env["SKILLCORE_REDIS_URL"])
    assert await redis.get("kept") == b"1"
    await redis.aclose()

    env = stack.up(fresh=True)

    db = await asyncpg.connect(env["SKILLCORE_DATABASE_URL"])
    assert await db.fetchval("SELECT to_regclass('kept') IS NULL")
    await db.close()


def test_an_up_that_is_killed_leaves_nothing_that_down_does_not_find(folder: Path) -> None:
    stack = Stack(folder / "stack")
    command = subprocess.Popen([*SKILLCORE, "stack", "up", "--dir", stack.dir], stdout=subprocess.DEVNULL)
    assert wait_until((stack.dir / "kafka-1" / "pid").exists, 20)
    command.kill()
    command.wait()
    assert wait_until(lambda: processes_in(stack.dir / "kafka-1") != [], 5)

    stack.down()

    # initdb may have been cut short, and ends by itself when its output has no reader
    assert wait_until(lambda: processes_in(folder) == [], 10)
    stack.up()
    assert set(states(stack).values()) == {"running"}


def test_two_ups_at_once_start_one_of_each(folder: Path) -> None:
    stack = Stack(folder / "stack")
    command = [*SKILLCORE, "stack", "up", "--kafka", "mock", "--dir", stack.dir]

    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting for it" in text for text in said) == 1
    assert len([s for text in said for s in text.splitlines() if "answers on" in s]) == len(stack.status())


def test_the_next_run_clears_away_what_a_killed_run_left(folder: Path) -> None:
    """A test run that is killed with -9 can clean up nothing itself."""
    program = (
        "from skillcore_streams.stack import temporary\nimport time\n"
        "with temporary(kafka='mock') as stack: print(stack.dir); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-uc", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert run.stdout
    left = Path(run.stdout.readline().strip())
    run.kill()
    run.communicate()
    assert processes_in(left) != []

    with temporary(kafka="mock"):
        pass

    assert processes_in(left) == []
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root's PostgreSQL runs as another user")
def test_below_a_closed_folder_postgres_lives_elsewhere(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    stack = Stack(closed / "stack", kafka="mock")

    stack.up()

    assert states(stack)["postgres"] == "running"
    home = home_for(stack.dir)
    assert home.is_relative_to("/var/tmp")
    stack.remove()
    assert not home.exists()


@pytest.mark.usefixtures("poor_path")
async def test_without_java_the_in_memory_broker_takes_its_place_loudly(folder: Path) -> None:
    said: list[str] = []
    stack = Stack(folder / "stack", say=said.append)

    env = stack.up()

    assert stack.kafka_kind == "mock"
    assert any("NO APACHE KAFKA: Java is not installed" in line for line in said)
    assert "not Apache Kafka" in stack.status()[0].kind
    producer = AIOKafkaProducer(bootstrap_servers=env["SKILLCORE_KAFKA"], acks="all")
    await producer.start()
    await producer.send_and_wait("anything", b"carried")
    await producer.stop()
    consumer = AIOKafkaConsumer("anything", bootstrap_servers=env["SKILLCORE_KAFKA"], auto_offset_reset="earliest")
    await consumer.start()
    assert (await consumer.getone()).value == b"carried"
    await consumer.stop()


@pytest.mark.usefixtures("poor_path")
def test_what_needs_the_real_broker_is_reported_as_not_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent.parent / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text("def test_it(kafka): raise AssertionError('not here')\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("SKILLCORE_")}

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", tmp_path],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=env,
    )  # fmt: skip

    assert "NOT RUN: needs Apache Kafka" in run.stdout
    assert "1 skipped" in run.stdout


@pytest.mark.usefixtures("poor_path")
def test_who_insists_on_apache_is_told_what_is_missing(folder: Path) -> None:
    with pytest.raises(Unavailable, match="Java is not installed"):
        Stack(folder / "stack", kafka="apache").up()


async def test_three_brokers_survive_the_loss_of_one(folder: Path) -> None:
    stack = Stack(folder / "stack", brokers=3, kafka="apache")
    env = stack.up()
    applied = await apply(Settings(kafka=env["SKILLCORE_KAFKA"]), "production")
    assert applied.problems == []
    producer = AIOKafkaProducer(bootstrap_servers=env["SKILLCORE_KAFKA"], acks="all")
    await producer.start()
    await producer.send_and_wait("skillcore.chat.events.v1", b"before")

    stack.kill("kafka-2")
    for n in range(12):  # some of these partitions were led by the one that is gone
        await producer.send_and_wait("skillcore.chat.events.v1", b"after", partition=n)

    await producer.stop()
    assert states(stack)["kafka-2"] == "crashed"
    stack.start("kafka-2")
    assert states(stack)["kafka-2"] == "running"
    began = time.monotonic()
    stack.down()
    assert time.monotonic() - began < 15


def test_the_commands_speak_json_and_shell(folder: Path) -> None:
    def skillcore(*words: str, code: int = 0) -> str:
        command = [*SKILLCORE, *words, "--dir", folder / "stack"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stderr
        return run.stdout

    skillcore("stack", "status", code=1)
    up = json.loads(skillcore("stack", "up", "--kafka", "mock", "--json"))
    assert up["kafka"] == "mock"
    assert json.loads(skillcore("stack", "env", "--json")) == up["env"]
    shell = ["sh", "-c", 'eval "$0"; echo $SKILLCORE_KAFKA', skillcore("stack", "env")]
    assert subprocess.check_output(shell, text=True).strip() == up["env"]["SKILLCORE_KAFKA"]
    assert {s["state"] for s in json.loads(skillcore("stack", "status", "--json"))} == {"running"}
    assert "stopped in" in skillcore("stack", "down")
    skillcore("stack", "down")


async def test_the_providers_of_the_stack_are_stand_ins_and_say_so(shared: Stack) -> None:
    """Env makes a worker talk to them; the inbox shows what came; a switch makes one fail as real ones do."""
    kinds = {service.name: service.kind for service in shared.status()}
    settings = Settings(**{name.removeprefix("SKILLCORE_").lower(): value for name, value in shared.env().items()})
    http = Http()
    line = connect(settings, http).email
    assert line is not None
    inbox = f"http://{next(s.address for s in shared.status() if s.name == 'providers')}"

    first = await line.sender.send(providers.Mail("ada@lake.example", "Hello <you>", "text", None, UUID(int=1)))
    async with aiohttp.ClientSession() as session:
        page = await (await session.get(inbox)).text()
        await session.post(f"{inbox}/switch/sendgrid", json={"mode": "unavailable", "times": 1})
        second = await line.sender.send(providers.Mail("ada@lake.example", "Hello", "text", None, UUID(int=2)))
        wrong = await session.post(f"{inbox}/switch/sendgrid", json={"mode": "teapot"})
    third = await line.sender.send(providers.Mail("ada@lake.example", "Hello", "text", None, UUID(int=3)))
    await http.close()

    assert "not the real ones" in kinds["providers"]
    assert "not S3" in kinds["s3"]
    assert isinstance(first, providers.Sent)
    assert second == providers.Unavailable("503")
    assert isinstance(third, providers.Sent)
    assert wrong.status == 400
    assert "ada@lake.example" in page
    assert "Hello &lt;you&gt;" in page


async def test_the_stack_s_s3_has_the_bucket_that_a_worker_keeps_files_in(shared: Stack) -> None:
    env = shared.env()
    store = S3Store(
        env["SKILLCORE_S3_BUCKET"], url=env["SKILLCORE_S3_URL"], access_key=env["SKILLCORE_S3_ACCESS_KEY"],
        secret_key=env["SKILLCORE_S3_SECRET_KEY"],
    )
    try:
        assert await store.read(await store.put("a", b"bytes", "text/plain")) == b"bytes"
    finally:
        await store.close()


def test_env_names_only_settings_that_exist(shared: Stack) -> None:
    """A worker refuses to start with a SKILLCORE_ name it does not know."""
    assert {name.removeprefix("SKILLCORE_").lower() for name in shared.env()} <= set(Settings.model_fields)
