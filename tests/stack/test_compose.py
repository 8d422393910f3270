"""docker-compose.yml and Dockerfile: what can be known without an engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from skillcore_streams.config import ROOT, Settings

COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]


def test_workers_can_be_scaled() -> None:
    worker = SERVICES["event-worker"]

    assert "container_name" not in worker
    assert worker["ports"] == ["127.0.0.1::6066"]  # the engine chooses a free port of the host for each


@pytest.mark.parametrize("service", ["topics", "migrate", "event-worker"])
def test_every_setting_of_a_container_exists(service: str) -> None:
    names = {f"SKILLCORE_{field.upper()}" for field in Settings.model_fields}

    assert set(SERVICES[service]["environment"]) <= names


def test_the_broker_is_the_one_of_the_local_stack() -> None:
    version = SERVICES["kafka"]["image"].partition(":")[2]

    assert f"<version>{version}</version>" in (ROOT / "kafka" / "pom.xml").read_text()


def test_docker_compose_accepts_the_file() -> None:
    command = compose()

    run = subprocess.run([*command, "-f", COMPOSE, "config", "--quiet"], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")


def compose() -> list[str]:
    """Docker's plugin, or the older program."""
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("NOT RUN: neither docker compose nor docker-compose is installed")


def test_the_image_does_not_run_as_root() -> None:
    lines = Path(ROOT / "Dockerfile").read_text().splitlines()

    assert "USER skillcore" in lines
    assert any("/livez" in line for line in lines)
