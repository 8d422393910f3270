"""A server that outlives the command which started it, and is found again by the next one.

Each service has a folder with its data, its log and a pid file. The pid file holds the pid **and** the moment the
process was born: a pid alone may belong to somebody else by the time it is read, and we never signal a stranger.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from skillcore_streams.runtime.errors import SkillCoreError

# Written by the process itself before it becomes the server: a starter that is killed in between leaves no orphan.
RECORD_AND_BECOME = 'echo $$ $(cut -d" " -f22 /proc/$$/stat) >"$0" && exec "$@"'


class StackError(SkillCoreError):
    """The local stack cannot do what was asked. The text says what to do about it."""


class Unavailable(StackError):
    """This machine lacks a program; the text names it and how to get it."""


def born(pid: int) -> int | None:
    """When the process was started, in ticks since boot; None when there is no such process, or only its zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(fields[18])


def wait_until(true: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Ask again until it is true. False when it was not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


class Service(ABC):
    """One server of the stack. Subclasses say how it is prepared, started, and known to be ready."""

    kind: str
    """What runs: in `status`, so that a stand-in is never taken for the real one."""
    user: str | None = None
    """Whom it runs as, when not as ourselves."""
    stop_signal = signal.SIGTERM
    patience = 15.0
    """Seconds it may take to stop."""
    attempts = 1
    """How often a server that ends while starting is tried."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home

    @abstractmethod
    def prepare(self) -> None:
        """Write configuration and, the first time, the data folder."""

    @abstractmethod
    def argv(self) -> list[str]:
        """The command line."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    @abstractmethod
    def address(self) -> str:
        """host:port."""

    @property
    def pidfile(self) -> Path:
        """Holds pid and birth of the running server; left behind by one that did not stop cleanly."""
        return self.home / "pid"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home / "server.log"

    def pid(self) -> int | None:
        """The running server's pid, or None."""
        try:
            pid, birth = map(int, self.pidfile.read_text().split())
        except (FileNotFoundError, ValueError):  # ValueError: an empty file, of a machine that lost power
            return None
        return pid if born(pid) == birth else None

    def state(self) -> str:
        """`running`, `stopped`, or `crashed` when it ended without being asked to."""
        if self.pid():
            return "running"
        return "crashed" if self.pidfile.exists() else "stopped"

    def spawn(self) -> None:
        """Start the server in a session of its own. Returns when its pid is on record, not when it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self.pidfile.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", RECORD_AND_BECOME, str(self.pidfile), *self.argv()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, check=True, **as_user(self.user),
            )
        if not wait_until(lambda: self.pidfile.exists() and self.pidfile.read_text().endswith("\n"), 10):
            raise StackError(f"{self.name} could not be started: nothing was written to {self.pidfile}")

    def wait_ready(self, seconds: float = 90) -> None:
        """Return when the server answers. Raises StackError with its last words when it ends before that."""
        for attempt in range(1, self.attempts + 1):
            wait_until(lambda: self.pid() is None or self.ready(), seconds)
            if self.pid() and self.ready():
                return
            if self.pid():
                raise StackError(f"{self.name} does not answer after {seconds:.0f} s; its log: {self.log}")
            if attempt < self.attempts:
                time.sleep(1)
                self.spawn()
        raise StackError(f"{self.name} ended while starting. {self.last_words()}")

    def last_words(self) -> str:
        """The end of the log, for a message to a person."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-5:] if self.log.exists() else []
        return f"The end of {self.log}:\n  " + "\n  ".join(lines or ["(empty)"])

    def signal(self, what: signal.Signals, pid: int | None = None) -> None:
        """Send a signal, if the server still runs."""
        if pid := pid or self.pid():
            with suppress(ProcessLookupError):  # ended between the look and the signal: just as well
                os.kill(pid, what)

    def request_stop(self) -> None:
        """Ask the server to end, without waiting."""
        self.signal(signal.SIGCONT)  # a frozen one cannot hear
        self.signal(self.stop_signal)

    def stop(self) -> bool:
        """End the server: by asking, then by force. False when force was needed."""
        self.request_stop()
        clean = wait_until(lambda: self.pid() is None, self.patience)
        if not clean:
            self.kill()
        self.pidfile.unlink(missing_ok=True)
        return clean

    def kill(self) -> None:
        """kill -9 of the server and its children, as when the machine loses power. Returns when all are gone."""
        if pid := self.pid():
            self.signal(signal.SIGSTOP)  # so that it makes no more children while we count them
            family = [pid, *children(pid)]
            for member in family:
                self.signal(signal.SIGKILL, member)
            if not wait_until(lambda: not any(map(born, family)), 10):
                raise StackError(f"{self.name} (pid {pid}) does not end even after SIGKILL; the machine may be stuck")

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody."""
        if pid := self.pid():
            for member in [pid, *children(pid)]:
                self.signal(signal.SIGSTOP, member)

    def thaw(self) -> None:
        """SIGCONT."""
        if pid := self.pid():
            for member in [*children(pid), pid]:
                self.signal(signal.SIGCONT, member)


def children(pid: int) -> list[int]:
    """Pids of a process' own children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Identity(TypedDict, total=False):
    """Arguments of subprocess.run."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(user: str | None) -> Identity:
    """Arguments of subprocess.run for another user; none for ourselves."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def python_module(name: str, *arguments: str) -> list[str]:
    """Command line of a stand-in server that this package brings along."""
    return [sys.executable, "-m", f"skillcore_streams.stack.{name}", *arguments]
