"""The product as a user runs it: commands and workers as processes, on a database of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

BIN = Path(sys.executable).parent


API_TOKEN = "token of the tests' console"


class Machine:
    """Environment of one district's system: Kafka of the stack, a database of its own."""

    def __init__(self, kafka: str, dsn: str, folder: Path) -> None:
        self.kafka, self.dsn, self.folder = kafka, dsn, folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SKILLCORE_")} | {
            "SKILLCORE_KAFKA": kafka,
            "SKILLCORE_DATABASE_URL": dsn,
            "SKILLCORE_DATADIR": str(folder),
            "SKILLCORE_SESSION_TIMEOUT": "2",
            "SKILLCORE_HEARTBEAT_INTERVAL": "0.5",
        }

    def run(self, *args: str, code: int = 0, **env: str) -> str:
        """`skillcore ...`, to its end. Returns what it said; asserts the exit code and that it said no traceback."""
        done = subprocess.run(
            [BIN / "skillcore", *args], env=self.env | env, capture_output=True, text=True, timeout=60
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said

    def json(self, *args: str) -> Any:
        """`skillcore ... --json`, parsed."""
        return json.loads(self.run(*args, "--json"))

    def worker_ends(self, **env: str) -> tuple[int, str]:
        """A worker that should refuse to start: exit code and what it said."""
        port = str(free_port())
        done = subprocess.run(
            [BIN / "faust", "-A", "skillcore_streams", "worker", "-l", "warn"],
            env=self.env | {"SKILLCORE_WEB_PORT": port} | env, capture_output=True, text=True, timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def worker(self, **env: str) -> Iterator[RunningWorker]:
        """A worker that runs until the block ends."""
        running = RunningWorker(self, env)
        try:
            yield running
        finally:
            running.stop()


class RunningWorker:
    """`faust -A skillcore_streams worker -l info`, and its views."""

    def __init__(self, machine: Machine, env: dict[str, str]) -> None:
        self.port = free_port()
        self.log = machine.folder / f"worker-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [BIN / "faust", "-A", "skillcore_streams", "worker", "-l", "info"],
                env=machine.env | {"SKILLCORE_WEB_PORT": str(self.port), "SKILLCORE_WORKER_ID": f"w{self.port}"} | env,
                stdout=log, stderr=log, start_new_session=True,
            )

    def get(self, path: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, str]:
        """Status and body of a view; (0, "") while nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> None:
        """Wait until it processes."""
        until(lambda: self.get("/readyz")[0] == 200 and "asOf" in self.get("/health/events")[1], 40, self.said)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        return self.process.returncode


STUDENT = "11111111-1111-4111-8111-111111111111"


def user(family_name: str = "Featherstone") -> str:
    """Payload of a UserCreated."""
    return json.dumps({
        "user_id": STUDENT, "sourced_id": "s1", "roles": [], "given_name": "Penelope", "family_name": family_name,
        "status": "active",
    })


def absence() -> str:
    """Payload of an AttendanceMarked that calls for more."""
    return json.dumps({
        "attendance_id": STUDENT, "student_id": STUDENT, "school_id": STUDENT, "date": "2026-03-02", "code": "AU",
        "category": "absent_unexcused", "marked_by": STUDENT, "marked_at": "2026-03-02T15:00:00Z",
    })


def until(condition: Callable[[], object], seconds: float, explain: Callable[[], str] = str) -> None:
    """Wait for a condition, or fail with an explanation."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s. {explain()}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def new_database(dsn: str) -> str:
    """An empty database beside the given one."""
    name = f"commands_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"create database {name}")
    await connection.close()
    return dsn.rsplit("/", 1)[0] + "/" + name
