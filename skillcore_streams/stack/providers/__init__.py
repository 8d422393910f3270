"""Stand-ins for SendGrid, Twilio, FCM and PagerDuty: their HTTP interfaces on loopback, with an inbox to look into.

They offer nothing that the real ones do not: no look-up by a client's id, no idempotency keys. What is theirs alone is
on a port of its own: the inbox, and switches that make a provider fail as real ones do.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from skillcore_streams.stack.service import Service, python_module

NAMES = ("sendgrid", "twilio", "fcm", "pagerduty")
ACCOUNT_SID = "ACcafe0000000000000000000000000000"
AUTH_TOKEN = "local-twilio-auth-token"  # noqa: S105 - of the stand-in; here and below
API_KEY = "SG.local"
ROUTING_KEY = "local0000000000000000000000000pd"
FROM_NUMBER = "+15005550006"
"""Twilio's own magic number that may send."""

MAIL_FROM = "school@grand-bend.example"
PROJECT = "skillcore-local"


class StandIns(Service):
    """One process, five ports: one a provider, so that one can be down, and one for inbox and switches."""

    kind = "stand-ins for SendGrid, Twilio, FCM, PagerDuty (not the real ones)"

    def __init__(self, name: str, home: Path, ports: dict[str, int]) -> None:
        super().__init__(name, home)
        self.ports = ports

    @property
    def address(self) -> str:
        """host:port of the inbox."""
        return f"127.0.0.1:{self.ports['inbox']}"

    @property
    def account(self) -> Path:
        """The service account that FCM's stand-in knows."""
        return self.home / "service-account.json"

    def prepare(self) -> None:
        """Make the keys, once: webhooks are signed by one, tokens are given for the other."""
        signing = self.home / "sendgrid-webhook.pem"
        if not signing.exists():
            signing.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*_PEM))
        token_uri = f"http://127.0.0.1:{self.ports['fcm']}/token"
        if not self.account.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*_PEM).decode()
            self.account.write_text(json.dumps({
                "type": "service_account", "project_id": PROJECT, "private_key_id": "local", "private_key": key,
                "client_email": f"local@{PROJECT}.iam.gserviceaccount.com", "token_uri": token_uri,
            }))  # fmt: skip
        account = json.loads(self.account.read_text())
        if account["token_uri"] != token_uri:  # the ports have changed
            self.account.write_text(json.dumps(account | {"token_uri": token_uri}))

    def argv(self) -> list[str]:
        """The folder holds the keys."""
        return python_module("providers", str(self.home), *(f"{name}={port}" for name, port in self.ports.items()))

    def ready(self) -> bool:
        """The inbox answers; the providers listen by then."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["inbox"]), timeout=2):
                return True
        except OSError:
            return False

    def env(self) -> dict[str, str]:
        """Settings of a worker that talks to these instead of the real ones."""
        signing = serialization.load_pem_private_key((self.home / "sendgrid-webhook.pem").read_bytes(), None)
        public = signing.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        urls = {f"SKILLCORE_{name.upper()}_URL": f"http://127.0.0.1:{self.ports[name]}" for name in NAMES}
        return urls | {
            "SKILLCORE_PUBLIC_URL": "http://127.0.0.1:6066",  # a worker's own port, when it has not chosen another
            "SKILLCORE_MAIL_FROM": MAIL_FROM, "SKILLCORE_SENDGRID_API_KEY": API_KEY,
            "SKILLCORE_SENDGRID_WEBHOOK_KEY": b64encode(public).decode(),
            "SKILLCORE_TWILIO_ACCOUNT_SID": ACCOUNT_SID, "SKILLCORE_TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "SKILLCORE_TWILIO_FROM": FROM_NUMBER, "SKILLCORE_FCM_SERVICE_ACCOUNT": str(self.account),
            "SKILLCORE_PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
        }  # fmt: skip


_PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
