"""S3 by moto's server. Objects live in its memory: they end with it."""

from __future__ import annotations

import importlib.util
import urllib.request
from pathlib import Path

from skillcore_streams.stack.fake_s3 import BUCKET
from skillcore_streams.stack.service import Service, Unavailable, python_module

KEY = "local"
"""Access key and secret: moto asks for some, and takes any."""


class S3(Service):
    """One moto server on loopback."""

    kind = "moto (not S3)"

    def __init__(self, name: str, home: Path, port: int) -> None:
        super().__init__(name, home)
        self.port = port

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Raises Unavailable when moto or flask is not installed."""
        if not all(map(importlib.util.find_spec, ("moto", "flask", "flask_cors"))):
            raise Unavailable("moto[s3], flask and flask-cors are not installed. Run scripts/setup.sh.")

    def argv(self) -> list[str]:
        """One port, no files."""
        return python_module("fake_s3", str(self.port))

    def ready(self) -> bool:
        """It has its bucket."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/{BUCKET}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
