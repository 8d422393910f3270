"""A running system for the examples, and what they need of npm and Maven. What a machine lacks is said: NOT RUN."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from skillcore_streams.config import ROOT
from skillcore_streams.stack.kafka import VERSION, cache, require_java
from skillcore_streams.stack.service import Unavailable
from tests.commands.conftest import machine, worker

__all__ = ["machine", "worker"]

OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|Could not transfer artifact")


@pytest.fixture(scope="session")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/node with its packages installed from the committed lock, beside a copy of schemas/."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("NOT RUN: Node and npm are not installed")
    root = tmp_path_factory.mktemp("node")
    shutil.copytree(ROOT / "examples", root / "examples", ignore=shutil.ignore_patterns("node_modules", "libs", "*.js"))
    shutil.copytree(ROOT / "schemas", root / "schemas")
    project = root / "examples" / "node"
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=170)
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip("NOT RUN: the npm registry cannot be reached")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="session")
def built(node_project: Path) -> Path:
    """The same, with consume.ts compiled as its README says."""
    done = subprocess.run(["npm", "run", "build"], cwd=node_project, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout
    return node_project


@pytest.fixture(scope="session")
def kafka_tools() -> Path:
    """Kafka's command line tools as jars, fetched by Maven once for all runs of this user."""
    try:
        require_java()
    except Unavailable as error:
        pytest.skip(f"NOT RUN: {error}")
    libs = cache().parent / f"kafka-tools-{VERSION}"
    if libs.is_dir():
        return libs
    if shutil.which("mvn") is None:
        pytest.skip("NOT RUN: Maven, which fetches Kafka's command line tools, is not installed")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent) as folder:
        fetched = Path(folder) / "libs"
        pom = ROOT / "examples" / "kafka-cli" / "pom.xml"
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170)
        if done.returncode and OFFLINE.search(done.stdout):
            pytest.skip("NOT RUN: Maven's repository cannot be reached")
        assert done.returncode == 0, done.stdout
        fetched.rename(libs)
    return libs
