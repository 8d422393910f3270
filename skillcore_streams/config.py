"""Every setting, read from `SKILLCORE_*` once. `skillcore stack env` prints what the local stack needs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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

    public_url: str | None = Field(None, description="where providers reach our /webhooks/; unset: no status callbacks")
    app_url: str = Field("https://app.skillcore.example", description="where links in messages lead")
    mail_from: str | None = Field(None, description="sender of e-mail, an address verified at SendGrid")
    mail_from_name: str = Field("SkillCore", description="its display name")
    sendgrid_url: str = Field("https://api.sendgrid.com", description="another host for tests and the local stack")
    sendgrid_api_key: SecretStr | None = Field(None, description="unset: there is no e-mail")
    sendgrid_webhook_key: str | None = Field(
        None, description="public key of the signed Event Webhook, as SendGrid shows it; unset: webhooks are refused"
    )
    twilio_url: str = Field("https://api.twilio.com")
    twilio_account_sid: str | None = Field(None, description="unset: there is no SMS")
    twilio_auth_token: SecretStr | None = Field(None, description="also the key of its webhooks' signatures")
    twilio_from: str | None = Field(None, description="a number (E.164) or a Messaging Service (MG...)")
    fcm_url: str = Field("https://fcm.googleapis.com")
    fcm_service_account: Path | None = Field(None, description="JSON file of a service account; unset: no push")
    pagerduty_url: str = Field("https://events.pagerduty.com")
    pagerduty_routing_key: SecretStr | None = Field(None, description="integration key; unset: nobody is paged")

    s3_bucket: str | None = Field(None, description="where reports and archives go; unset: their jobs wait")
    s3_url: str | None = Field(None, description="another end point than AWS's; the local stack's moto")
    s3_region: str = Field("us-east-1")
    s3_access_key: SecretStr | None = Field(None, description="unset: as the environment of an AWS client says")
    s3_secret_key: SecretStr | None = Field(None)
    s3_encryption: Literal["AES256", "aws:kms"] | None = Field(
        None, description="encryption at rest that is asked for; unset: as the bucket says"
    )
    s3_kms_key: str | None = Field(None, description="key id of aws:kms; unset: the account's own")

    render_processes: int = Field(2, ge=1, le=16, description="processes of a worker that make reports")

    web_host: str = Field("127.0.0.1", description="address the web views listen on")
    web_port: int = Field(6066, ge=1, le=65535)
    api_token: SecretStr | None = Field(
        None, min_length=16, description="whoever has it may act by /api/ (cancel, retry, pause ...); unset: read only"
    )
    web_token: SecretStr | None = Field(
        None, description="what /attendance asks for when web_host is not this machine's own; the same for all workers"
    )
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
    def web_name(self) -> str:
        """The host by which other workers reach this one's views."""
        return socket.gethostname() if self.web_host in ("0.0.0.0", "::") else self.web_host  # noqa: S104 - compared

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
