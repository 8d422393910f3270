"""Every setting, read from `SKILLCORE_*` once. `skillcore stack env` prints what the local stack needs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from skillcore_streams.runtime.errors import Misconfigured

PREFIX = "SKILLCORE_"
ROLES = frozenset({"events", "jobs", "tables", "schedules", "bridge", "outbox"})
ROOT = Path(__file__).resolve().parent.parent


def _topics_file() -> Path:
    """kafka/topics.yaml of the checkout, or the copy that a wheel carries."""
    checkout = ROOT / "kafka" / "topics.yaml"
    return checkout if checkout.exists() else Path(__file__).parent / "_kafka" / "topics.yaml"


class Settings(BaseSettings):
    """The worker's and the commands' configuration. Times in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    kafka: str = Field("127.0.0.1:9092", description="bootstrap servers, host:port separated by commas")
    database_url: SecretStr = Field(
        SecretStr("postgresql://skillcore@127.0.0.1:5432/skillcore"), description="Postgres, the truth"
    )
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="the old event bus")
    topics_file: Path = Field(default_factory=_topics_file, description="declared topics; default kafka/topics.yaml")

    roles: Annotated[frozenset[str], NoDecode] = Field(
        ROLES, description="what this worker does: events,jobs,tables,schedules,bridge,outbox; default all"
    )
    worker_id: str = Field(
        default_factory=lambda: os.environ.get("HOSTNAME") or f"{socket.gethostname()}-{os.getpid()}",
        description="name in health, leases and dead letters",
    )
    legacy_tenant: str | None = Field(None, description="tenant of legacy records, which name none; unset: parked")

    web_host: str = Field("127.0.0.1", description="address the web views listen on")
    web_port: int = Field(6066, ge=1, le=65535)
    datadir: Path = Field(Path(".skillcore"), description="where Faust keeps its files; one folder a worker")

    pool_size: int = Field(4, ge=2, le=32, description="Postgres connections of a worker")
    session_timeout: float = Field(10.0, ge=1.0, description="broker declares a silent worker dead after this")
    heartbeat_interval: float = Field(1.0, gt=0)
    rebalance_timeout: float = Field(30.0, gt=0)
    buffer_bytes: int = Field(64 << 20, description="records buffered by a worker before partitions pause")
    flood_guard: bool = Field(True, description="pause a partition when half of its calls fail; off: dead-letter them")
    failpoints: str = Field("", description="named crash points for fault tests: point=action[:nth]; empty: off")

    @field_validator("roles", mode="before")
    @classmethod
    def _split_roles(cls, value: Any) -> Any:
        return frozenset(filter(None, (r.strip() for r in value.split(",")))) if isinstance(value, str) else value

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, value: frozenset[str]) -> frozenset[str]:
        unknown = value - ROLES
        if unknown or not value:
            named = ", ".join(sorted(unknown)) or "(none)"
            raise ValueError(f"unknown role {named}; known: {', '.join(sorted(ROLES))}")
        return value

    @property
    def app_id(self) -> str:
        """Faust's app id and Kafka's group: a worker of selected roles has its own, so it rebalances alone."""
        return "skillcore" if self.roles == ROLES else "skillcore-" + "-".join(sorted(self.roles))


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises Misconfigured, naming the variable, for a bad value or an unknown SKILLCORE_ name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise Misconfigured(
            f"unknown setting {', '.join(unknown)}. Known settings: {', '.join(sorted(known))}. "
            "Correct the name or unset it."
        )
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise Misconfigured(f"bad setting: {problems}") from None
