"""Who takes part: how each is installed, which servers it uses, how its processes are started and measured.

A process is told what to do by one JSON object (its last argument) and answers in lines of JSON: `ready` when it waits
for jobs, `began` at its first job, `done` after its last. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import redis

from skillcore_streams.adapters.migrations import migrate
from skillcore_streams.stack import free_port, temporary
from skillcore_streams.stack.redis import Redis
from skillcore_streams.stack.service import children

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
THEIRS = HERE / "theirs"
PATIENCE = 900.0
"""Seconds that one step of one process may take."""

ROW = """
    create table bench_row (
        id bigserial primary key, n int not null, text text not null, at timestamptz not null default now())"""
DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


class NotRun(Exception):
    """A peer cannot be had on this machine; the text says why."""


@dataclass(slots=True)
class Figure:
    """What one run has shown. Times in seconds, CPU in us a job, latencies in ms."""

    rate: float = 0.0
    client: float = 0.0
    server: float = 0.0
    steps: list[float] = field(default_factory=list)
    """Rate of each fifth of the run."""
    latencies: list[float] = field(default_factory=list)


def cpu(pids: Sequence[int]) -> float:
    """CPU seconds so far of these processes, their children, and the children that have ended."""
    total = 0
    for pid in [p for root in pids for p in (root, *children(root))]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile, and counts with its parent from now on
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


class Peer:
    """One queue: its processes, and a clean slate for each run."""

    def __init__(
        self, name: str, family: str, command: Sequence[str | Path], cwd: Path, servers: Sequence[int], *, dsn: str,
        template: str, port: int = 0,
    ) -> None:
        self.name = name
        self.family = family
        self.servers = servers
        self._command = [*DIE_WITH_US, *map(str, command)]
        self._cwd = cwd
        self._dsn = dsn
        self._template = template
        self._port = port
        self.database = f"bench_{re.sub('[^a-z]', '_', name.lower())}"

    @property
    def dsn(self) -> str:
        """Its database, a new one after `fresh`."""
        return other_database(self._dsn, self.database)

    def fresh(self) -> None:
        """Forget all jobs."""
        asyncio.run(copy_database(self._dsn, self._template, self.database))
        if self._port:
            with redis.Redis(port=self._port, socket_timeout=120) as client:
                client.flushall()

    @contextmanager
    def process(self, **told: object) -> Iterator[Process]:
        """One of its processes, at work while the block lasts."""
        told |= {"dsn": self.dsn, "port": self._port}
        process = Process([*self._command, json.dumps(told)], self._cwd, self.servers)
        try:
            yield process
        finally:
            process.end()

    def add(self, **told: Any) -> Figure:
        """Enqueue jobs."""
        with self.process(do="add", **told) as process:
            return process.measure(told["count"])

    def work(self, **told: Any) -> Figure:
        """Run the jobs that wait."""
        with self.process(do="work", **told) as process:
            return process.measure(told["count"])


class Process:
    """A process of a peer that answers in lines."""

    def __init__(self, command: Sequence[str], cwd: Path, servers: Sequence[int]) -> None:
        self._servers = servers
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        self._popen = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._complaints, text=True,
        )

    def hear(self, word: str) -> dict[str, Any]:
        """Wait for this word, past others."""
        assert self._popen.stdout is not None
        alarm = threading.Timer(PATIENCE, self._popen.kill)
        alarm.start()
        try:
            for line in self._popen.stdout:
                if line.startswith("{") and (said := json.loads(line))["word"] == word:
                    return dict(said)
        finally:
            alarm.cancel()
        self._complaints.seek(0)
        raise RuntimeError(f"{self._popen.args} never said {word}: {self._complaints.read()[-2000:]}")

    def used(self) -> tuple[float, float]:
        """CPU seconds so far: its own, its servers'."""
        return cpu([self._popen.pid]), cpu(self._servers)

    def measure(self, count: int) -> Figure:
        """From its first job to its last."""
        self.hear("began")
        began, (client, server) = time.monotonic(), self.used()
        said = self.hear("done")
        seconds, (client_then, server_then) = time.monotonic() - began, self.used()
        marks, every = said.get("marks") or [], -(-count // 5)
        return Figure(
            rate=count / seconds,
            client=(client_then - client) / count * 1e6,
            server=(server_then - server) / count * 1e6,
            steps=[every / (b - a) for a, b in itertools.pairwise(marks) if b > a],
            latencies=sorted(said.get("latencies") or []),
        )

    def end(self) -> None:
        """Its standard input ends; so does it."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()
        self._complaints.close()


class BenchRedis(Redis):
    """A Redis that says when it writes to disk: once a second, or before each answer."""

    def __init__(self, fsync: str, home: Path) -> None:
        super().__init__(f"redis-{fsync}", home, free_port(set()))
        if not self.program:
            raise NotRun("there is no redis-server")
        self._fsync = fsync

    def argv(self) -> list[str]:
        """As the stack's, ended with us."""
        return [*DIE_WITH_US, *super().argv(), "--appendfsync", self._fsync]


@contextmanager
def taking_part(say: Any = print) -> Iterator[tuple[list[Peer], dict[str, str], dict[str, str]]]:
    """Everybody, on servers of their own: (peers, name -> why it is not run, name -> version)."""
    missing: dict[str, str] = {}
    with temporary(kafka="mock") as stack, tempfile.TemporaryDirectory(prefix="skillcore-bench-") as folder:
        dsn = stack.env()["SKILLCORE_DATABASE_URL"]
        [postgres] = [s.pid for s in stack.status() if s.name == "postgres" and s.pid]
        asyncio.run(templates(dsn))
        peers = [Peer(
            "ours", "ours", [sys.executable, "-m", "benchmarks.jobs.ours"], ROOT, [postgres], dsn=dsn,
            template="bench_t_ours",
        )]  # fmt: skip
        versions = {"PostgreSQL": asyncio.run(version(dsn)), "Python": sys.version.split()[0]}
        running: list[BenchRedis] = []
        try:
            for fsync in ("everysec", "always"):
                name = f"BullMQ {fsync}"
                try:
                    home = installed_node(say)
                    server = BenchRedis(fsync, Path(folder) / fsync)
                    server.spawn()
                    running.append(server)
                    server.wait_ready()
                except NotRun as why:
                    missing[name] = str(why)
                    continue
                peers.append(Peer(
                    name, "bullmq", ["node", "bull.mjs"], home, [server.pid() or 0, postgres], dsn=dsn,
                    template="bench_t_plain", port=server.port,
                ))  # fmt: skip
                versions |= node_versions(home, server.port)
            try:
                python = installed_python(say)
            except NotRun as why:
                missing |= {"procrastinate": str(why), "arq": str(why)}
            else:
                procrastinate = Peer(
                    "procrastinate", "procrastinate", [python, "procrastinate_peer.py"], THEIRS, [postgres], dsn=dsn,
                    template="bench_t_procrastinate",
                )  # fmt: skip
                peers.append(procrastinate)
                schema(python, other_database(dsn, "bench_t_procrastinate"))
                if running:
                    peers.append(Peer(
                        "arq", "arq", [python, "arq_peer.py"], THEIRS, [running[0].pid() or 0], dsn=dsn,
                        template="bench_t_plain", port=running[0].port,
                    ))  # fmt: skip
                else:
                    missing["arq"] = "there is no redis-server"
                for line in (THEIRS / "requirements.txt").read_text().splitlines():
                    name, _, number = line.partition("==")
                    if name in ("procrastinate", "arq"):
                        versions[name] = number
            yield peers, missing, versions
        finally:
            for server in running:
                server.stop()


# Installing -------------------------------------------------------------------------------------------------------


def cache(*files: str) -> Path:
    """A folder that is made anew when these files change."""
    digest = hashlib.sha256(b"".join((THEIRS / name).read_bytes() for name in files)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"skillcore-bench-cache-{os.getuid()}" / f"{files[0]}-{digest}"


def installed_node(say: Any) -> Path:
    """A folder with BullMQ and its driver. Raises NotRun."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotRun("Node and npm are not installed")
    home = cache("package.json", "package-lock.json")
    if not (home / "done").exists():
        say("installing BullMQ from the committed lock", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(THEIRS / name, home)
        command(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], home)
        (home / "done").touch()
    shutil.copy(THEIRS / "bull.mjs", home)
    return home


def installed_python(say: Any) -> Path:
    """A Python that has procrastinate and arq. Raises NotRun."""
    home = cache("requirements.txt")
    python = home / "venv" / "bin" / "python"
    if not (home / "done").exists():
        say("installing procrastinate and arq", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        command([sys.executable, "-m", "venv", "venv"], home)
        command([str(python), "-m", "pip", "install", "-q", "-r", str(THEIRS / "requirements.txt")], home)
        (home / "done").touch()
    return python


def command(words: list[str], cwd: Path) -> None:
    """Raises NotRun with its last words."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300)
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()][-1:]
        raise NotRun(f"{words[0]} failed: {''.join(last)[:200]}")


# Databases --------------------------------------------------------------------------------------------------------


async def templates(dsn: str) -> None:
    """What a clean slate is copied from: our schema, procrastinate's (still to come), and none."""
    server = await asyncpg.connect(dsn)
    for name in ("bench_t_ours", "bench_t_procrastinate", "bench_t_plain"):
        await server.execute(f"create database {name}")
        if name == "bench_t_ours":
            await migrate(other_database(dsn, name))
        own = await asyncpg.connect(other_database(dsn, name))
        await own.execute(ROW)
        await own.close()
    await server.close()


def schema(python: Path, dsn: str) -> None:
    """procrastinate's tables."""
    told = json.dumps({"do": "schema", "dsn": dsn})
    subprocess.run([python, "procrastinate_peer.py", told], cwd=THEIRS, check=True, timeout=60)


async def copy_database(dsn: str, template: str, name: str) -> None:
    """Make it anew."""
    server = await asyncpg.connect(dsn)
    for patience in range(50, -1, -1):  # not by force: that needs a right over autovacuum, which may be in there
        try:
            await server.execute(f"drop database if exists {name}")
            break
        except asyncpg.ObjectInUseError:
            if not patience:
                raise
            await asyncio.sleep(0.2)
    await server.execute(f"create database {name} template {template}")
    await server.close()


async def version(dsn: str) -> str:
    """Postgres' version."""
    server = await asyncpg.connect(dsn)
    said = str(await server.fetchval("show server_version"))
    await server.close()
    return said.split()[0]


def node_versions(home: Path, port: int) -> dict[str, str]:
    """Of Node, BullMQ and Redis."""
    with redis.Redis(port=port) as client:
        server = str(client.info("server")["redis_version"])
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    bull = json.loads((home / "node_modules" / "bullmq" / "package.json").read_text())["version"]
    return {"BullMQ": bull, "Node": node.lstrip("v"), "Redis": server}


def other_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()
