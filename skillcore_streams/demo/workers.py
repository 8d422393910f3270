"""The demonstration's workers: real `faust ... worker` processes beside the stack, found again by a later command."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from skillcore_streams.config import ROOT
from skillcore_streams.stack import StackError, free_port
from skillcore_streams.stack.service import Service, wait_until

TICKS = os.sysconf("SC_CLK_TCK")

SESSION = {
    "SKILLCORE_SESSION_TIMEOUT": "2.0",  # so that the takeover is watched rather than waited for
    "SKILLCORE_HEARTBEAT_INTERVAL": "0.5",
    "SKILLCORE_REBALANCE_TIMEOUT": "5.0",
}


PATIENT_SESSION = {"SKILLCORE_SESSION_TIMEOUT": "6.0", "SKILLCORE_REBALANCE_TIMEOUT": "10.0"}
"""For the in-memory broker, which lets a new group wait for three seconds."""


class Worker(Service):
    """One event worker: `faust -A skillcore_streams worker -l info`, with an id and a port of its own.

    Args:
        name: its id.
        home: folder of its log, pid file and Faust's files.
        port: of its web views; None for a worker that only is to be found again (and stopped).
        env: the stack's SKILLCORE_* variables; they win over `SESSION`.
    """

    kind = "event worker"
    patience = 12.0

    def __init__(self, name: str, home: Path, port: int | None = None, env: Mapping[str, str] | None = None) -> None:
        super().__init__(name, home)
        self._env = dict(env or {})
        self._port = port or self._remembered_port()
        self.cpu_at_start = 0.0
        self.cpu = 0.0

    @property
    def address(self) -> str:
        """host:port of its web views."""
        return f"127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Remember the port for who asks later."""
        (self.home / "port").write_text(str(self._port))

    def argv(self) -> list[str]:
        """The command of the README, under `env`: the demo may itself run with other SKILLCORE_* settings."""
        settings = SESSION | self._env | {
            "SKILLCORE_WORKER_ID": self.name,
            "SKILLCORE_WEB_PORT": str(self._port),
            "SKILLCORE_DATADIR": str(self.home / "faust"),
            "PYTHONPATH": str(ROOT),
        }
        foreign = [f"--unset={name}" for name in os.environ if name.startswith("SKILLCORE_") and name not in settings]
        assignments = [f"{name}={value}" for name, value in settings.items()]
        worker = [sys.executable, "-m", "faust", "-A", "skillcore_streams", "worker", "-l", "info"]
        return ["env", *foreign, *assignments, *worker]

    def ready(self) -> bool:
        """It has its partitions and says so."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=2) as answer:
                return int(answer.status) == 200
        except (urllib.error.URLError, OSError):
            return False

    def measure(self) -> float:
        """Seconds of CPU it has used so far, threads included; the last known figure once it is gone."""
        pid = self.pid()
        if pid is not None:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                return self.cpu
            self.cpu = (int(fields[11]) + int(fields[12])) / TICKS
        return self.cpu

    def _remembered_port(self) -> int:
        try:
            return int((self.home / "port").read_text())
        except (FileNotFoundError, ValueError):
            return 0


class Crew:
    """The workers of one demonstration, in the folder of its stack."""

    def __init__(self, dir: Path, env: Mapping[str, str]) -> None:
        self._dir = dir / "workers"
        self._env = env
        self.workers: dict[str, Worker] = {}
        self.killed: dict[str, float] = {}

    def spawn(self, name: str) -> Worker:
        """Start a worker; it is not ready yet."""
        taken = {int(w.address.rpartition(":")[2]) for w in self.workers.values()}
        worker = self.workers[name] = Worker(name, self._dir / name, free_port(taken=taken), self._env)
        worker.spawn()
        return worker

    def kill(self, name: str) -> int:
        """kill -9, by pid. Returns the pid."""
        worker = self.workers[name]
        worker.measure()
        pid = worker.pid()
        if pid is None:
            raise StackError(f"worker {name} has ended by itself before it could be killed. {worker.last_words()}")
        worker.kill()
        self.killed[name] = time.monotonic()
        return pid

    def alive(self) -> list[Worker]:
        """Those that run."""
        return [w for w in self.workers.values() if w.pid()]

    def fallen(self) -> list[Worker]:
        """Those that ended although nobody killed them."""
        return [w for w in self.workers.values() if w.name not in self.killed and w.pid() is None]


def left_running(dir: Path) -> list[Worker]:
    """The workers of a demonstration in this folder that run."""
    homes = sorted((dir / "workers").glob("*/pid"))
    return [w for w in (Worker(pid.parent.name, pid.parent) for pid in homes) if w.pid()]


def stop_all(dir: Path, *, at_once: bool = False) -> list[str]:
    """Stop every worker that a demonstration in this folder has left running. Returns their names.

    `at_once` is kill -9: for Ctrl-C, and where the data goes too, so that nobody waits for goodbyes.
    """
    running = left_running(dir)
    for worker in running:
        worker.kill() if at_once else worker.request_stop()
    wait_until(lambda: not any(w.pid() for w in running), Worker.patience)
    for worker in running:
        worker.stop()  # by force what did not listen; and the pid file goes
    return [w.name for w in running]
