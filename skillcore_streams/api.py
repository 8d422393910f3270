"""`/api/`: what `skillcore queues`, `jobs` and `dead-letters` say and do, as JSON, for the console.

Reading is open to whoever reaches the port, like the other views: payloads are masked. Acting needs a token that is
configured (SKILLCORE_API_TOKEN), an actor (X-Actor) and a reason, and is kept like the commands' acts. Bytes in full
are for the command line alone. Every answer is an object; what goes wrong is `{"error": "a sentence"}`.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import SecretStr

from skillcore_streams.runtime import redrive
from skillcore_streams.runtime.acts import Act, By, Misused, Unknown, resolve
from skillcore_streams.runtime.context import Clock
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.jobs import backlog, operator
from skillcore_streams.runtime.messages import QUEUES

log = logging.getLogger(__name__)

BODY = 64 << 10
"""Bytes of a body at most: a reason."""

Answer = tuple[int, dict[str, Any]]
dumps = partial(json.dumps, default=str)


class Refused(Exception):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Api:
    """Answers requests below /api/. Holds no state: each request is one transaction."""

    def __init__(
        self, transaction: Callable[[], AbstractAsyncContextManager[Any]], clock: Clock, *,
        token: SecretStr | None = None, lag: Callable[[str], int] = lambda topic: 0, legacy_tenant: str | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """
        Args:
            token: what acting needs; None: nobody acts by this door.
            lag: records of a job topic that are not taken in yet.
            wake: called after an act that may have put jobs in line.
        """
        self._transaction = transaction
        self._clock = clock
        self._token = token
        self._lag = lag
        self._legacy_tenant = legacy_tenant
        self._wake = wake

    async def answer(self, request: web.Request) -> web.Response:
        """The response, whatever happens."""
        try:
            status, body = await self._answer(request)
        except Refused as refusal:
            status, body = refusal.status, {"error": str(refusal)}
        except Misused as error:
            status, body = 400, {"error": str(error)}
        except Unknown as error:
            status, body = 404, {"error": str(error)}
        except Infrastructure:
            status, body = 503, {"error": "Postgres is away or busy; try again"}
        except Exception:
            log.exception("%s /api could not be answered", request.method)
            status, body = 500, {"error": "this is a defect of ours; the worker's log has it"}
        response = web.json_response(body, status=status, dumps=dumps)
        if status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="skillcore"'
        return response

    async def _answer(self, request: web.Request) -> Answer:
        path = request.path.rstrip("/").removeprefix("/api")
        acting = request.method == "POST"
        routes = ACTS if acting else VIEWS
        for pattern, function in routes.items():
            if found := re.fullmatch(pattern, path):
                by = await self._who(request) if acting else None
                async with self._transaction() as db:
                    answer: Answer = await function(self, db, by or request.query, *found.groups())
                if acting:
                    self._wake()
                return answer
        if any(re.fullmatch(pattern, path) for pattern in (*VIEWS, *ACTS)):
            raise Refused(405, "only GET" if acting else "only POST")
        raise Refused(404, "not found")

    async def _who(self, request: web.Request) -> By:
        """Who acts and why, once it is clear that they may."""
        if self._token is None:
            raise Refused(405, "read only: no SKILLCORE_API_TOKEN is configured")
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        expected = self._token.get_secret_value().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(said.strip().encode(errors="replace"), expected):
            raise Refused(401, "this needs Authorization: Bearer and the configured token")
        actor = request.headers.get("X-Actor", "").strip()
        if not actor or len(actor) > 200 or not actor.isprintable():
            raise Refused(400, "X-Actor must name who acts")
        raw = await request.content.read(BODY + 1)
        try:
            body = json.loads(raw) if len(raw) <= BODY else None
        except (ValueError, RecursionError):
            body = None
        reason = body.get("reason") if isinstance(body, dict) else None
        if not isinstance(reason, str) or not reason.strip() or "\0" in reason:
            raise Refused(400, 'the body must be {"reason": "..."}: why this is right')
        return By(actor, reason.strip())

    # Seen ---------------------------------------------------------------------------------------------------------

    async def queues(self, db: Any, query: Mapping[str, str]) -> Answer:
        """All queues."""
        _known(query)
        figures = await backlog.shared(db)
        rows = [operator.described(s) | {"intake": self._intake(s.queue)} for s in figures.queues]
        return 200, {"queues": rows, "as_of": figures.at}

    async def queue(self, db: Any, query: Mapping[str, str], name: str) -> Answer:
        """One queue; or as <queue>-dlq, its dead letters by cause."""
        _known(query)
        figures = await backlog.shared(db)
        own = operator.own_name(name)
        if own not in {s.queue for s in figures.queues}:
            raise Unknown(f"there is no queue {own}; known: {', '.join(sorted(QUEUES))}")
        if own != name:
            causes = await redrive.groups(db, redrive.Wanted(queue=own))
            return 200, {"queue": name, "waiting": figures.of(own).failed, "causes": causes, "as_of": figures.at}
        return 200, operator.described(figures.of(name)) | {"intake": self._intake(name), "as_of": figures.at}

    def _intake(self, name: str) -> int:
        queue = QUEUES.get(name)
        return 0 if queue is None or queue.internal else self._lag(queue.topic)

    async def jobs(self, db: Any, query: Mapping[str, str]) -> Answer:
        """A page of jobs."""
        said = _known(query, "queue", "kind", "state", "tenant", "since", "limit", "after")
        queue = said.get("queue")
        state = "failed" if queue is not None and queue.endswith("-dlq") else None
        wanted = operator.Wanted(
            queue, said.get("kind"), said.get("state", state), said.get("tenant"), _moment(said.get("since"))
        )
        rows, more = await operator.find(db, wanted, _limit(said), said.get("after"))
        return 200, {"jobs": rows, "next": more}

    async def job(self, db: Any, query: Mapping[str, str], id: str) -> Answer:
        """One job's page."""
        _known(query)
        return 200, await operator.show(db, await resolve(db, "job", id))

    async def logs(self, db: Any, query: Mapping[str, str], id: str) -> Answer:
        """What a job's function noted."""
        said = _known(query, "limit")
        return 200, {"logs": await operator.logs(db, await resolve(db, "job", id), _limit(said))}

    async def letters(self, db: Any, query: Mapping[str, str]) -> Answer:
        """A page of dead letters, the newest first."""
        said = _known(query, *FILTERS, "limit", "after")
        rows, more = await redrive.each(db, _letters(said), _limit(said), said.get("after"))
        return 200, {"dead_letters": rows, "next": more}

    async def causes(self, db: Any, query: Mapping[str, str]) -> Answer:
        """Dead letters by cause."""
        said = _known(query, *FILTERS, "limit")
        return 200, {"causes": await redrive.groups(db, _letters(said), _limit(said))}

    async def letter(self, db: Any, query: Mapping[str, str], id: str) -> Answer:
        """One dead letter, masked."""
        _known(query)
        return 200, await redrive.show(db, await resolve(db, "dead letter", id))

    # Done ---------------------------------------------------------------------------------------------------------

    async def pause(self, db: Any, by: By, name: str) -> Answer:
        """Pause a queue."""
        return _acted(name, await operator.pause(db, name, by))

    async def resume(self, db: Any, by: By, name: str) -> Answer:
        """Resume a queue."""
        return _acted(name, await operator.resume(db, name, by))

    async def cancel(self, db: Any, by: By, id: str) -> Answer:
        """Cancel a job."""
        job = await resolve(db, "job", id)
        return _acted(job, await operator.cancel(db, job, by))

    async def promote(self, db: Any, by: By, id: str) -> Answer:
        """Promote a job."""
        job = await resolve(db, "job", id)
        return _acted(job, await operator.promote(db, job, by))

    async def retry_job(self, db: Any, by: By, id: str) -> Answer:
        """Retry a failed job."""
        job = await resolve(db, "job", id)
        return _acted(job, await operator.retry(db, job, by, self._clock()))

    async def retry_letter(self, db: Any, by: By, id: str) -> Answer:
        """Try a dead letter again."""
        letter = await resolve(db, "dead letter", id)
        [act] = await redrive.retry(db, [letter], by, now=self._clock(), legacy_tenant=self._legacy_tenant)
        return _acted(letter, act)

    async def discard(self, db: Any, by: By, id: str) -> Answer:
        """Discard a dead letter."""
        letter = await resolve(db, "dead letter", id)
        [act] = await redrive.discard(db, [letter], by)
        return _acted(letter, act)


def _acted(about: UUID | str, act: Act) -> Answer:
    return 200 if act.done else 409, {"id": about, "done": act.done, "said": act.said}


FILTERS = ("status", "fingerprint", "tenant", "kind", "queue", "handler", "topic", "since", "until")


def _letters(said: Mapping[str, str]) -> redrive.Wanted:
    texts = {name: said[name] for name in FILTERS if name in said and name not in ("since", "until")}
    return redrive.Wanted(**texts, since=_moment(said.get("since")), until=_moment(said.get("until")))


def _known(query: Mapping[str, str], *names: str) -> dict[str, str]:
    """The parameters, each once and known: a filter that is misspelt must not show everything."""
    if strange := sorted(set(query) - set(names)):
        raise Misused(f"unknown parameter {strange[0][:40]!r}; known: {', '.join(names) or 'none'}")
    if any("\0" in value for value in query.values()):
        raise Misused("a parameter holds a NUL character")
    return dict(query)


def _limit(said: Mapping[str, str]) -> int:
    text = said.get("limit", "50")
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= operator.MOST:
        raise Misused(f"limit is a number from 1 to {operator.MOST}")
    return int(text)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        said = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query is a space
    except ValueError:
        raise Misused("a time is written as 2026-03-02T15:00:00Z") from None
    return said if said.tzinfo else said.replace(tzinfo=UTC)


VIEWS: dict[str, Callable[..., Awaitable[Answer]]] = {
    r"/queues": Api.queues,
    r"/queues/([^/]+)": Api.queue,
    r"/jobs": Api.jobs,
    r"/jobs/([^/]+)": Api.job,
    r"/jobs/([^/]+)/logs": Api.logs,
    r"/dead-letters": Api.letters,
    r"/dead-letters/causes": Api.causes,
    r"/dead-letters/([^/]+)": Api.letter,
}
ACTS: dict[str, Callable[..., Awaitable[Answer]]] = {
    r"/queues/([^/]+)/pause": Api.pause,
    r"/queues/([^/]+)/resume": Api.resume,
    r"/jobs/([^/]+)/cancel": Api.cancel,
    r"/jobs/([^/]+)/promote": Api.promote,
    r"/jobs/([^/]+)/retry": Api.retry_job,
    r"/dead-letters/([^/]+)/retry": Api.retry_letter,
    r"/dead-letters/([^/]+)/discard": Api.discard,
}
