"""The local stack, without Docker: Apache Kafka, PostgreSQL and Redis as children of nobody in one folder.

Beside them stand-ins for what only exists elsewhere: the providers of mail, SMS, push and paging, and S3 by moto.

    with temporary() as stack:              # tests; ends with the block
        os.environ |= stack.env()

    stack = Stack(Path(".stack"))           # `skillcore stack up`; outlives the process
    stack.up()
    stack.kill("kafka"); stack.start("kafka")

The folder remembers ports and data. Commands on one folder wait for each other; several folders live side by side.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from skillcore_streams.config import ROOT
from skillcore_streams.stack import fake_s3, kafka, postgres, providers, redis, s3
from skillcore_streams.stack.service import Service, StackError, Unavailable, born

__all__ = ["DEFAULT_DIR", "KafkaChoice", "Stack", "StackError", "Status", "Unavailable", "temporary"]

KafkaKind = Literal["apache", "mock"]
KafkaChoice = Literal["auto", "apache", "mock"]
DEFAULT_DIR = (ROOT if (ROOT / "kafka" / "pom.xml").exists() else Path.cwd()) / ".stack"
OPTIONAL = {"redis": "the Redis event bus", "s3": "what archives and reports"}
"""Services that a machine may lack, and who needs them."""

PORTS = range(20_000, 32_768)  # above, a client's outgoing connection may sit on the port


@dataclass(frozen=True, slots=True)
class Status:
    """One service, as `skillcore stack status` shows it."""

    name: str
    kind: str
    state: str
    pid: int | None
    address: str


@dataclass(slots=True)
class Plan:
    """What the folder remembers between runs."""

    brokers: int
    kafka: KafkaKind
    cluster_id: str
    ports: dict[str, int]


class Stack:
    """Kafka, PostgreSQL, Redis and stand-ins for providers and S3 in one folder.

    Args:
        dir: the folder; made when it is missing.
        brokers: 1, or 3 with three copies of each topic. Default: as the folder remembers, else 1.
        kafka: `auto` takes the in-memory broker, loudly, when Java or Maven's repository is missing; `apache` fails
            instead; `mock` forces the in-memory broker.
        say: gets the progress lines.

    Services are called kafka (kafka-1 to kafka-3 when there are three), postgres, redis, providers, s3. All methods are
    synchronous and may be called while an event loop runs, at the price of blocking it.
    """

    def __init__(
        self,
        dir: Path = DEFAULT_DIR,
        *,
        brokers: Literal[1, 3] | None = None,
        kafka: KafkaChoice = "auto",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.dir = dir.absolute()
        self.download_seconds = 0.0
        self._brokers = brokers
        self._choice = kafka
        self._say = say

    def up(self, *, fresh: bool = False) -> dict[str, str]:
        """Start what does not run and wait until it answers. Returns the environment of `env()`.

        Args:
            fresh: stop everything and forget the data first.
        """
        if not Path("/proc/self/stat").exists():
            raise StackError("The local stack needs Linux. Elsewhere use Docker: docker compose up.")
        with self._locked():
            if fresh:
                self._wipe()
            plan = self._make_plan()
            self._write(plan)
            services = self._services(plan)
            running = [s for s in services if s.pid()]
            self._start([s for s in services if s not in running])
            for service in running:
                service.thaw()
                service.wait_ready()
        return self.env()

    def down(self) -> None:
        """Stop everything; the data stays."""
        if (self.dir / "stack.json").exists():
            with self._locked():
                self._stop(self._services())

    def remove(self) -> None:
        """Stop everything and delete the folder."""
        if self.dir.exists():
            with self._locked():
                self._wipe()
            shutil.rmtree(self.dir)

    def status(self) -> list[Status]:
        """All services. A state is running, stopped, or crashed: ended without being asked to."""
        plan = self._read()
        return [Status(s.name, s.kind, s.state(), s.pid(), s.address) for s in self._services(plan)] if plan else []

    def env(self) -> dict[str, str]:
        """The SKILLCORE_* variables of what has been started."""
        plan = self._read()
        if plan is None:
            raise StackError(f"There is no stack in {self.dir}. Start one: skillcore stack up")
        env = {"SKILLCORE_KAFKA": ",".join(s.address for s in self._named("kafka"))}
        env["SKILLCORE_DATABASE_URL"] = f"postgresql://skillcore@127.0.0.1:{plan.ports['postgres']}/skillcore"
        if self._named("redis")[0].pidfile.exists():
            env["SKILLCORE_REDIS_URL"] = f"redis://127.0.0.1:{plan.ports['redis']}/0"
        [stand_ins] = self._named("providers")
        if isinstance(stand_ins, providers.StandIns) and stand_ins.account.exists():
            env |= stand_ins.env()
        if self._named("s3")[0].pidfile.exists():
            env |= {"SKILLCORE_S3_URL": f"http://127.0.0.1:{plan.ports['s3']}", "SKILLCORE_S3_BUCKET": fake_s3.BUCKET,
                    "SKILLCORE_S3_ACCESS_KEY": s3.KEY, "SKILLCORE_S3_SECRET_KEY": s3.KEY}
        return env

    @property
    def kafka_kind(self) -> KafkaKind:
        """`apache`, or `mock` for the in-memory broker: what needs a real broker must not claim to have run there."""
        plan = self._read()
        return plan.kafka if plan else "apache"

    def start(self, name: str) -> None:
        """Start one service by name and wait until it answers."""
        with self._locked():
            self._start([s for s in self._named(name) if not s.pid()])

    def stop(self, name: str) -> None:
        """Stop one service cleanly."""
        with self._locked():
            self._stop(self._named(name))

    def kill(self, name: str) -> None:
        """kill -9 one service. Returns when it is gone."""
        for service in self._named(name):
            service.kill()

    def freeze(self, name: str) -> None:
        """SIGSTOP one service: connections stay open and nothing answers."""
        for service in self._named(name):
            service.freeze()

    def thaw(self, name: str) -> None:
        """Let a frozen service go on."""
        for service in self._named(name):
            service.thaw()

    # How it is done.

    def _start(self, services: list[Service]) -> None:
        """Start all, the slow ones first, then wait for all: they come up side by side."""
        started = time.monotonic()
        spawned = []
        for service in services:
            try:
                if service.state() == "crashed":
                    self._say(f"{service.name:<10} had ended without being stopped; starting it again")
                service.spawn()
                spawned.append(service)
            except Unavailable as error:
                needs = OPTIONAL.get(service.name)
                if needs is None:
                    raise
                self._say(f"{service.name:<10} ABSENT: {error} Only {needs} needs it.")
        for service in reversed(spawned):
            service.wait_ready()
            seconds = time.monotonic() - started
            self._say(f"{service.name:<10} {service.kind} answers on {service.address} after {seconds:.1f} s")

    def _stop(self, services: list[Service]) -> None:
        """Kafka first and all its brokers at once: a broker alone would wait for the others to take its partitions."""
        for group in [s for s in services if s.name.startswith("kafka")], services:
            for service in group:
                service.request_stop()
            for service in group:
                if service.pid() and not service.stop():
                    self._say(f"{service.name:<10} did not stop within {service.patience:.0f} s and was killed")
                service.pidfile.unlink(missing_ok=True)

    def _wipe(self) -> None:
        plan = self._read()
        if plan:
            services = self._services(plan)
            self._stop(services)
            for service in services:
                shutil.rmtree(service.home, ignore_errors=True)
        for entry in self.dir.iterdir():
            if entry.name == "lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _make_plan(self) -> Plan:
        """The remembered plan, with new ports where somebody else has taken ours while nothing ran."""
        plan = self._read()
        if plan is None:
            cluster_id = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
            plan = Plan(self._brokers or 1, "apache", cluster_id, {})
        if self._brokers not in (None, plan.brokers):
            raise StackError(
                f"{self.dir} holds a stack of {plan.brokers} broker(s), not {self._brokers}. "
                "Use --fresh to begin again, or another --dir."
            )
        running = any(s.pid() for s in self._services(plan)) if plan.ports else False
        stand_ins = (f"providers.{name}" for name in ("inbox", *providers.NAMES))
        brokers = (f"{n}.{part}" for n in range(1, plan.brokers + 1) for part in ("kafka", "controller"))
        for name in ("postgres", "redis", "s3", *stand_ins, *brokers):
            if name not in plan.ports or not (running or is_free(plan.ports[name])):
                plan.ports[name] = free_port(taken=set(plan.ports.values()))
        if not running:
            plan.kafka = self._kafka_kind()
        if self._choice not in ("auto", plan.kafka):
            raise StackError(f"The stack in {self.dir} runs with {plan.kafka} Kafka. First: skillcore stack down")
        return plan

    def _kafka_kind(self) -> KafkaKind:
        if self._choice == "mock":
            return "mock"
        try:
            kafka.require_java()
            self.download_seconds += kafka.require_jars(self._say)
            return "apache"
        except Unavailable as error:
            if self._choice == "apache":
                raise
            self._say(
                f"WARNING    NO APACHE KAFKA: {error}\n"
                "WARNING    Using librdkafka's in-memory broker instead: one worker only, nothing survives a restart, "
                "and tests that need the real broker are reported as not run."
            )
            return "mock"

    def _services(self, plan: Plan | None = None) -> list[Service]:
        plan = plan or self._read()
        if plan is None:
            raise StackError(f"There is no stack in {self.dir}. Start one: skillcore stack up")
        brokers: list[Service]
        if plan.kafka == "mock":
            brokers = [kafka.MockKafka("kafka", self.dir / "kafka-mock")]
        else:
            ports = {n: (plan.ports[f"{n}.kafka"], plan.ports[f"{n}.controller"]) for n in range(1, plan.brokers + 1)}
            names = {n: "kafka" if len(ports) == 1 else f"kafka-{n}" for n in ports}
            brokers = [kafka.Kafka(names[n], self.dir / f"kafka-{n}", n, ports, plan.cluster_id) for n in ports]
        return [
            *brokers,
            postgres.Postgres("postgres", postgres.home_for(self.dir), plan.ports["postgres"]),
            redis.Redis("redis", self.dir / "redis", plan.ports["redis"]),
            providers.StandIns("providers", self.dir / "providers", {
                name: plan.ports.get(f"providers.{name}", 0) for name in ("inbox", *providers.NAMES)}),
            s3.S3("s3", self.dir / "s3", plan.ports.get("s3", 0)),
        ]

    @property
    def office(self) -> str:
        """host:port of the stand-ins' inbox and switches."""
        return self._named("providers")[0].address

    def _named(self, name: str) -> list[Service]:
        """The service of that name; `kafka` means all brokers."""
        services = self._services()
        found = [s for s in services if s.name == name or s.name.rpartition("-")[0] == name]
        if not found:
            raise StackError(f"There is no service {name}; there are {', '.join(s.name for s in services)}.")
        return found

    def _read(self) -> Plan | None:
        try:
            return Plan(**json.loads((self.dir / "stack.json").read_text()))
        except FileNotFoundError:
            return None

    def _write(self, plan: Plan) -> None:
        arriving = self.dir / "stack.json.new"
        arriving.write_text(json.dumps(asdict(plan), indent=2) + "\n")
        arriving.replace(self.dir / "stack.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.dir.mkdir(parents=True, exist_ok=True)
        with (self.dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say(f"stack      another command is at work on {self.dir}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def temporary(*, brokers: Literal[1, 3] = 1, kafka: KafkaChoice = "auto") -> Iterator[Stack]:
    """A running stack in a folder of its own that ends with the block.

    A test run that is killed cannot clean up. Its folder is named after it, so the next one does.
    """
    base = Path(tempfile.gettempdir()) / f"skillcore-stacks-{os.getuid()}"
    base.mkdir(mode=0o755, exist_ok=True)
    for folder in base.iterdir():
        pid, birth, _ = folder.name.split("-")
        if born(int(pid)) != int(birth):
            with suppress(FileNotFoundError):  # another run cleans up after it too
                Stack(folder).remove()
    stack = Stack(
        base / f"{os.getpid()}-{born(os.getpid())}-{secrets.token_hex(3)}",
        brokers=brokers, kafka=kafka, say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback. No port (0) is never free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closing connections do not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return port != 0


def free_port(taken: set[int]) -> int:
    """A free port, chosen by chance so that two stacks starting at once hardly ever choose the same."""
    for port in random.sample(PORTS, len(PORTS)):
        if port not in taken and is_free(port):
            return port
    raise StackError(f"No port between {PORTS.start} and {PORTS.stop - 1} is free.")
