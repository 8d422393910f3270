"""What a worker shows: Faust's web server, with an allow-list in front of it.

`/health` and `/health/events` answer as the seed's did. `/livez` asks only whether this process is of use to its group,
never whether a dependency is well; `/readyz` asks both. Everything else, Faust's own pages included, is closed: they
show table data and topology to whoever asks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web
from faust.web import View
from prometheus_client import PLATFORM_COLLECTOR, PROCESS_COLLECTOR, generate_latest

from skillcore_streams import attendance_views, metrics
from skillcore_streams.runtime.messages import EVENT_TYPES
from skillcore_streams.webhooks import LARGEST, Reply

if TYPE_CHECKING:
    from skillcore_streams.worker import Worker

OPEN = frozenset({"/health", "/health/events", "/livez", "/readyz", "/metrics"})
POSTED = frozenset({"/webhooks/twilio", "/webhooks/sendgrid"})
"""What providers write to; each report is signed."""

DEAD_LETTERS_ALERT = 50
LAG_ALERT = 300.0
"""Seconds. The seed's alert thresholds."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR):
    metrics.REGISTRY.register(collector)


@web.middleware
async def allow_list(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is not listed does not exist; what is listed can only be read."""
    if request.path in POSTED:
        if request.method != "POST":
            return web.json_response({"error": "only POST"}, status=405)
        return await handler(request)
    if request.path.startswith("/api/"):  # api.py says what may be read and who may act
        if request.method not in ("GET", "HEAD", "POST"):
            return web.json_response({"error": "only GET and POST"}, status=405)
    elif request.path.rstrip("/") not in OPEN and not attendance_views.PATHS.fullmatch(request.path):
        return web.json_response({"error": "not found"}, status=404)
    elif request.method not in ("GET", "HEAD"):
        return web.json_response({"error": "only GET"}, status=405)
    response = await handler(request)
    response.headers["Cache-Control"] = "no-store"
    return response


def add_pages(app: Worker) -> None:
    """Register the views."""
    attendance_views.add_pages(app)

    @app.page("/health")
    async def health(view: Any, request: Any) -> Any:
        return view.json({"status": "ok", "handlersRegistered": len(app.core.registry.events())})

    @app.page("/health/events")
    async def health_events(view: Any, request: Any) -> Any:
        body = events_body(app)
        return view.json(body, status=503 if body["status"] == "unhealthy" else 200)

    @app.page("/livez")
    async def livez(view: Any, request: Any) -> Any:
        problems = app.not_alive()
        return view.json(
            {"status": "dead" if problems else "ok", "problems": problems}, status=503 if problems else 200
        )

    @app.page("/readyz")
    async def readyz(view: Any, request: Any) -> Any:
        problems = app.not_ready()
        return view.json(
            {"status": "not ready" if problems else "ok", "problems": problems}, status=503 if problems else 200
        )

    @app.page("/metrics")
    async def metrics_page(view: Any, request: Any) -> Any:
        return view.bytes(
            generate_latest(metrics.REGISTRY), content_type="text/plain; version=0.0.4", status=200
        )

    async def twilio(request: web.Request, body: bytes) -> Reply:
        return await app.webhooks.twilio(str(request.rel_url), body, request.headers.get("X-Twilio-Signature"))

    async def sendgrid(request: web.Request, body: bytes) -> Reply:
        signature, timestamp = (request.headers.get(f"X-Twilio-Email-Event-Webhook-{name}")
                                for name in ("Signature", "Timestamp"))  # fmt: skip
        return await app.webhooks.sendgrid(body, signature, timestamp)

    for receive in (twilio, sendgrid):
        app.page(f"/webhooks/{receive.__name__}")(_posted(receive))

    @app.page("/api/{path:.*}", name="api")
    class Console(View):  # type: ignore[misc]
        """What operators see and do, by api.py."""

        async def get(self, request: Any, path: str) -> Any:
            return await app.api.answer(request)

        async def post(self, request: Any, path: str) -> Any:
            return await app.api.answer(request)


def _posted(receive: Callable[[web.Request, bytes], Awaitable[Reply]]) -> Any:
    """A view that only takes POST: Faust makes such a one of a class, never of a function."""

    async def post(view: Any, request: web.Request) -> Any:
        body = await _body(request)
        reply = Reply(413, {"error": "too large"}) if body is None else await receive(request, body)
        return view.json(reply.body, status=reply.status)

    return type(receive.__name__, (View,), {"post": post})


async def _body(request: web.Request) -> bytes | None:
    """The bytes as they were sent: signatures are over these. None: more than we read."""
    body = await request.content.read(LARGEST + 1) if request.body_exists else b""
    while len(body) <= LARGEST and (more := await request.content.read(LARGEST + 1 - len(body))):
        body += more
    return None if len(body) > LARGEST else body


def events_body(app: Worker) -> dict[str, Any]:
    """The seed's body. `domain-events` is all domain topics together; each topic follows with its own figures."""
    snapshot = app.snapshot
    topics = sorted({cls.__topic__ for cls in EVENT_TYPES.values()})
    lags = {topic: app.lag(topic) for topic in topics}
    stale = snapshot.at is None or time.monotonic() - app.snapshot_at > 15
    degraded = (
        snapshot.dead_letters > DEAD_LETTERS_ALERT
        or app.lag_seconds() > LAG_ALERT
        or bool(app.core.paused)
        or bool(app.refused)
    )
    return {
        "status": "unhealthy" if stale or not app.postgres.available else "degraded" if degraded else "healthy",
        "streams": {
            "domain-events": _stream(sum(lags.values()), snapshot.workers, snapshot.newest_event),
            **{topic: _stream(lag, snapshot.workers, None) for topic, lag in lags.items()},
        },
        "dlq": {"messageCount": snapshot.dead_letters, "oldestMessage": _time(snapshot.oldest_dead_letter)},
        "handlersRegistered": len(app.core.registry.events()),
        "paused": dict(app.core.paused),
        "refused": {f"{tp.topic}-{tp.partition}": why for tp, why in app.refused.items()},
        "asOf": _time(snapshot.at),
    }


def _stream(lag: int, consumers: int, newest: datetime | None) -> dict[str, Any]:
    group = {"name": metrics.GROUP, "consumers": consumers, "pending": lag, "lag": lag}
    body: dict[str, Any] = {"pending": lag, "consumerGroups": [group]}
    if newest is not None:
        body["lastEventTimestamp"] = _time(newest)
    return body


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
