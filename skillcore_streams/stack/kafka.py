"""Apache Kafka in KRaft mode from Maven's jars, and librdkafka's in-memory broker where there is no Java.

Flags and properties are measured choices (ready in 1.4 s instead of 4.5, 155 MiB instead of 201): a small heap, the
serial collector, the first compiler tier only, and an AppCDS archive which the first clean stop writes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from skillcore_streams.config import ROOT
from skillcore_streams.stack.service import Service, Unavailable, python_module

VERSION = "4.4.0"
JAVA_NEEDED = 17
JVM = ("-Xms96m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-Xlog:disable")
MAX_MESSAGE = (1 << 20) + (64 << 10)  # a value of 1 MiB, and room for its key, headers and batch

LOG4J = """\
rootLogger.level=warn
rootLogger.appenderRefs=out
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n%ex
"""


def cache() -> Path:
    """Where jars and the AppCDS archive are kept for all stacks of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "skillcore-streams" / f"kafka-{VERSION}"


def java() -> Path:
    """The Java on PATH. Raises Unavailable when there is none."""
    found = shutil.which("java")
    if not found:
        raise Unavailable("Java is not installed. Install openjdk-17-jre-headless, or run scripts/setup.sh.")
    return Path(found).resolve()


def require_java() -> None:
    """Raises Unavailable when there is no Java, or only an old one."""
    said = subprocess.run([java(), "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if not version or int(version[1]) < JAVA_NEEDED:
        raise Unavailable(
            f"Java {JAVA_NEEDED} is needed, {java()} is {version[1] if version else 'unknown'}. "
            "Install openjdk-17-jre-headless, or run scripts/setup.sh."
        )


def require_jars(say: Callable[[str], None]) -> float:
    """Have Maven resolve Kafka's jars from kafka/pom.xml, the first time. Returns how long that took.

    Raises Unavailable when Maven is not there or cannot reach its repository.
    """
    libs = cache() / "libs"
    if libs.is_dir():
        return 0.0
    maven = shutil.which("mvn")
    if not maven:
        raise Unavailable("Maven fetches Kafka's jars and is not installed. Install maven, or run scripts/setup.sh.")
    pom = ROOT / "kafka" / "pom.xml"
    pom = pom if pom.exists() else Path(__file__).parent.parent / "_kafka" / "pom.xml"
    say(f"kafka      fetching Apache Kafka {VERSION} with Maven, once")
    started = time.monotonic()
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        fetched = Path(folder) / "libs"
        run = subprocess.run(
            [maven, "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if run.returncode or not (fetched / f"kafka_2.13-{VERSION}.jar").exists():
            said = re.search(r"ERROR\S*\s+(.+?)( -> \[Help|$)", run.stdout, re.MULTILINE)
            raise Unavailable(f"Maven could not fetch Kafka's jars: {said[1][:300] if said else 'no reason given'}.")
        if not libs.exists():  # another stack may have been faster
            fetched.rename(libs)
    size, took = sum(jar.stat().st_size for jar in libs.iterdir()), time.monotonic() - started
    say(f"kafka      downloaded {size >> 20} MiB of jars in {took:.1f} s")
    return took


class Kafka(Service):
    """One node of Apache Kafka, broker and controller in one."""

    kind = f"Apache Kafka {VERSION}"
    patience = 30.0  # three brokers, stopped together, take six seconds on an idle machine

    def __init__(
        self, name: str, home: Path, node: int, ports: Mapping[int, tuple[int, int]], cluster_id: str
    ) -> None:
        super().__init__(name, home)
        self.node = node
        self.ports = ports
        self.cluster_id = cluster_id

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.ports[self.node][0]}"

    def properties(self) -> dict[str, object]:
        """server.properties. Three brokers keep three copies and survive the loss of one; one broker keeps one."""
        port, controller = self.ports[self.node]
        copies, safe = (3, 2) if len(self.ports) >= 3 else (1, 1)
        coordinators = 4 if copies == 3 else 1
        return {
            "process.roles": "broker,controller",
            "node.id": self.node,
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{c}" for n, (_, c) in self.ports.items()),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.home / "data",
            "auto.create.topics.enable": "false",  # a misspelt topic is an error, not a new topic
            "message.max.bytes": MAX_MESSAGE * 2,  # the topics' own limit decides
            "num.partitions": 1,
            "default.replication.factor": copies,
            "min.insync.replicas": safe,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": coordinators,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": safe,
            "transaction.state.log.num.partitions": coordinators,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": safe,
            "share.coordinator.state.topic.num.partitions": 1,
            # A killed broker may come back only when the controller has given up on its former life, by default after
            # nine seconds. A shorter time makes restarts and fail-over quick.
            "broker.session.timeout.ms": 3000 if copies == 3 else 1500,
            "broker.heartbeat.interval.ms": 1000 if copies == 3 else 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,  # tests kill workers and do not want to wait six seconds
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            "log.segment.bytes": 64 << 20,
        }

    def prepare(self) -> None:
        """Configuration, and what `kafka-storage format` would write: that saves one start of the JVM."""
        data = self.home / "data"
        data.mkdir(exist_ok=True)
        (self.home / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in self.properties().items()))
        (self.home / "log4j2.properties").write_text(LOG4J)
        if not (data / "meta.properties").exists():
            (data / "meta.properties").write_text(f"version=1\ncluster.id={self.cluster_id}\nnode.id={self.node}\n")
        archive = self.archive()
        known = archive.exists()
        classes = f"-XX:SharedArchiveFile={archive}" if known else f"-XX:ArchiveClassesAtExit={self._own_archive}"
        classpath = ":".join(map(str, sorted((cache() / "libs").glob("*.jar"))))  # the archive needs one order
        log4j = f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"
        (self.home / "java.args").write_text("\n".join([*JVM, classes, log4j, f'-cp "{classpath}"', "kafka.Kafka"]))

    def argv(self) -> list[str]:
        """Short, by an argument file: `ps` shows whose broker this is instead of 60 jars."""
        return [str(java()), f"@{self.home / 'java.args'}", str(self.home / "server.properties")]

    def ready(self) -> bool:
        """The broker names itself among the living: then it serves clients."""
        return self.node in living_brokers(self.ports[self.node][0])

    def stop(self) -> bool:
        """Also keeps the archive of loaded classes that the first run writes when it ends: later starts take half."""
        clean = super().stop()
        if clean and self._own_archive.exists() and not self.archive().exists():
            archive = self.archive()
            arriving = archive.with_suffix(f".{os.getpid()}")
            shutil.copy(self._own_archive, arriving)
            arriving.replace(archive)
        self._own_archive.unlink(missing_ok=True)
        return clean

    @property
    def _own_archive(self) -> Path:
        return self.home / "classes.jsa"

    @staticmethod
    def archive() -> Path:
        """The AppCDS archive, which belongs to one build of Java."""
        program = java()
        identity = f"{program}{program.stat().st_mtime_ns}{program.stat().st_size}"
        return cache() / f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.jsa"


class MockKafka(Service):
    """librdkafka's in-memory broker: what is left when Java or Maven's repository is missing. Forgets all on stop."""

    kind = "librdkafka's in-memory broker (not Apache Kafka)"

    @property
    def address(self) -> str:
        """It chooses its port itself and says which."""
        return self._where.read_text().strip() if self._where.exists() else ""

    @property
    def _where(self) -> Path:
        return self.home / "address"

    def prepare(self) -> None:
        """Forget the last address. Raises Unavailable without confluent-kafka."""
        self._where.unlink(missing_ok=True)
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            raise Unavailable(
                "There is no Kafka: neither Java with Maven's jars, nor confluent-kafka for the in-memory broker. "
                "Run scripts/setup.sh."
            ) from None

    def argv(self) -> list[str]:
        """A child of this package."""
        return python_module("mock_kafka", str(self._where))

    def ready(self) -> bool:
        """The address is known and answers."""
        return bool(self.address) and bool(living_brokers(int(self.address.rpartition(":")[2])))


def living_brokers(port: int) -> set[int]:
    """Ids of the brokers that the one at `port` knows to be alive; empty when it does not answer.

    One Metadata request (version 4, no topics) by hand: the stack must work from synchronous code, inside a running
    event loop, and before any client library is installed.
    """
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as broker, broker.makefile("rb") as answer:
            broker.sendall(struct.pack(">i", len(request)) + request)
            answer.read(4 + 4 + 4)  # size, correlation id, throttle time

            def number(form: str) -> int:
                return int(struct.unpack(form, answer.read(struct.calcsize(form)))[0])

            nodes = set()
            for _ in range(number(">i")):
                nodes.add(number(">i"))
                answer.read(number(">h"))  # host
                number(">i")  # port
                answer.read(max(number(">h"), 0))  # rack, or null
            return nodes
    except (OSError, struct.error):
        return set()
