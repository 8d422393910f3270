"""Redis from the machine, else fakeredis' server. Only the old event bus needs it."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

from skillcore_streams.stack.service import Service, Unavailable, python_module


class Redis(Service):
    """One Redis on loopback whose data survives a restart."""

    def __init__(self, name: str, home: Path, port: int) -> None:
        super().__init__(name, home)
        self.port = port
        self.program = shutil.which("redis-server")
        stand_in = "fakeredis (not Redis)" if importlib.util.find_spec("fakeredis") else "Redis (not installed)"
        self.kind = "Redis" if self.program else stand_in

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Raises Unavailable when there is neither redis-server nor fakeredis."""
        if not self.program and not importlib.util.find_spec("fakeredis"):
            raise Unavailable("Redis is not installed. Install redis-server (apt), or run scripts/setup.sh.")

    def argv(self) -> list[str]:
        """Everything on the command line: there is no configuration file to differ from it."""
        if not self.program:
            return python_module("fake_redis", str(self.port))
        return [
            self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.home),
            "--save", "", "--appendonly", "yes",
        ]  # fmt: skip

    def ready(self) -> bool:
        """PONG, not LOADING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as server:
                server.sendall(b"*1\r\n$4\r\nPING\r\n")
                return server.recv(16).startswith(b"+PONG")
        except OSError:
            return False
