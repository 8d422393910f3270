"""The views of the live attendance table: `/attendance/...`.

    /attendance/{tenant}                      a district's schools, a page
    /attendance/{tenant}/{school}             a school's day and the days before, a page that follows what is marked
    /attendance/{tenant}/{school}/{day}       JSON: one day (2022-03-01, or `latest`), or all that are kept (`days`)
    /attendance/{tenant}/student/{student}    JSON: the days of this year that a student was not simply present

Who owns the school's partition answers. Any other worker asks the owner, found in the assignor's map: one hop, one
second. While that is not possible the answer is 503 with Retry-After, never an old number. Names of schools, who
belongs to them and a student's schools come from Postgres when they are asked for; students have no names here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from aiohttp import ClientError, ClientTimeout, web
from yarl import URL

from skillcore_streams import attendance_page
from skillcore_streams.config import Settings
from skillcore_streams.runtime.core import utc_now
from skillcore_streams.runtime.errors import Infrastructure
from skillcore_streams.runtime.tables import absences, roll_up, since

if TYPE_CHECKING:
    from skillcore_streams.worker import Worker

UUID_ = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PATHS = re.compile(rf"/attendance/[^/]+(/(student/)?{UUID_}|/{UUID_}/(\d{{4}}-\d\d-\d\d|latest|days|{UUID_}))?/?")
"""What the allow-list opens."""

HOPPED = "X-SkillCore-Hop"
"""Set on the one question that a worker asks another: who has been asked so asks nobody else."""

HOP_TIMEOUT = 1.0
RETRY_AFTER = "1"
"""Seconds."""

FACTS_FOR = 5.0
"""Seconds that what Postgres said of a school may be old."""

CATEGORIES = ("present", "absent_excused", "absent_unexcused", "tardy", "early_departure", "partial")

SCHOOL = """
    select (select name from orgs where tenant_id = $1 and org_id = $2) as name,
           (select timezone from orgs where tenant_id = $1 and org_id = $2) as timezone"""

MEMBERS = """
    select student_id, begin_date, end_date from student_membership where tenant_id = $1 and school_id = $2"""

IS_SCHOOL_DAY = "select exists (select from school_calendar_days where tenant_id = $1 and school_id = $2 and day = $3)"

SCHOOLS = """
    select m.school_id, o.name from (select distinct school_id from student_membership where tenant_id = $1) m
      left join orgs o on o.tenant_id = $1 and o.org_id = m.school_id
     order by o.name nulls last, m.school_id"""

SCHOOLS_OF = """
    select school_id from student_membership where tenant_id = $1 and student_id = $2
     union
    select school_id from attendance_day where tenant_id = $1 and student_id = $2"""

Answer = tuple[int, dict[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def door(settings: Settings, bound_to: Callable[[], str]) -> Any:
    """A middleware: attendance is shown to the worker's own machine, or to who has the token.

    What counts is the address that the server is bound to, not where a request seems to come from: behind a proxy on
    the same machine all seem to come from there.
    """
    token = settings.web_token.get_secret_value().encode() if settings.web_token else b""

    @web.middleware
    async def with_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/attendance/") or is_loopback(bound_to()):
            return await handler(request)
        if not token:
            return web.json_response(
                {"error": "set SKILLCORE_WEB_TOKEN to show attendance beyond the worker's own machine"}, status=403
            )
        if not hmac.compare_digest(_presented(request.headers.get("Authorization", "")), token):
            return web.json_response(
                {"error": "this needs the token, as a bearer token or as the password of any user"}, status=401,
                headers={"WWW-Authenticate": 'Basic realm="SkillCore attendance", charset="UTF-8"'},
            )
        return await handler(request)

    return with_token


def is_loopback(host: str) -> bool:
    """Whether a server bound to this address is reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _presented(authorization: str) -> bytes:
    """The token of a request; browsers ask for a password and send it as Basic."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


# What is said of a school ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What Postgres knows of a school: `members` with the first and last day they belong to it."""

    name: str | None
    members: list[tuple[str, date, date | None]]
    today: date
    """In the school's time zone."""
    is_school_day: bool

    def roster(self, day: date) -> set[str]:
        """Who belongs to the school on that day."""
        return {who for who, begin, end in self.members if begin <= day and (end is None or day <= end)}


def count(day: str, marks: Mapping[str, Any], facts: Facts | None) -> dict[str, Any]:
    """A day in numbers; `unmarked` and `roster` are None while Postgres can't be asked."""
    by_category = roll_up(marks)
    marked = {student for student, (category, _) in marks.items() if category is not None}
    roster = None if facts is None else facts.roster(date.fromisoformat(day))
    return {
        "day": day,
        **{category: by_category[category] for category in CATEGORIES},
        "absent": by_category["absent_excused"] + by_category["absent_unexcused"],
        "marked": len(marked),
        "roster": None if roster is None else len(roster),
        "unmarked": None if roster is None else len(roster - marked),
    }


class Views:
    """Answers for what is ours, asks who owns the rest."""

    def __init__(self, app: Worker) -> None:
        self._app = app
        self._facts: dict[tuple[str, UUID], tuple[float, Facts]] = {}

    async def ask(self, tenant: str, school: UUID, what: str, hopped: bool = False) -> Answer:
        """`what` is a day, `latest`, `days`, or a student's id. From us, or from the owner."""
        table = self._app.attendance
        if table is None:
            return 404, {"error": "this worker keeps no attendance table; ask one with the role tables"}
        key = f"{tenant}/{school}"
        try:
            partition = table.partition(key)
        except LookupError as error:
            return 503, {"error": str(error)}
        if table.mine(partition):
            return await self._answer(tenant, school, what, partition)
        problem = table.problem()
        owner = table.owner(partition)
        if problem or hopped or owner is None or URL(owner) == URL(str(self._app.conf.canonical_url)):
            return 503, {"error": problem or "the school is moving to another worker"}
        return await self._hop(URL(owner) / "attendance" / tenant / str(school) / what)

    async def _hop(self, url: URL) -> Answer:
        headers = {HOPPED: "1"}
        if token := self._app.settings.web_token:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        try:
            async with self._app.http_client.get(
                url, headers=headers, timeout=ClientTimeout(total=HOP_TIMEOUT), allow_redirects=False
            ) as response:
                return response.status, await response.json()
        except (ClientError, TimeoutError, ValueError):
            return 503, {"error": "the worker that keeps this school does not answer"}

    async def _answer(self, tenant: str, school: UUID, what: str, partition: int) -> Answer:
        table = self._app.attendance
        assert table is not None
        key = f"{tenant}/{school}"
        days: list[str] = table.get(key).get("days", [])
        if len(what) == 36:
            found = absences(table.get(f"{key}/{what}"))
            return 200, {"days": {day: category for day, category in found.items() if day >= since(days)}}
        facts = await self.facts(tenant, school)
        if not days and (facts is None or facts.name is None):
            return 404, {"error": "no such school, or nothing was marked yet"}
        shown = list(days)
        if facts is not None and facts.is_school_day and facts.today.isoformat() > max(days, default=""):
            shown.append(facts.today.isoformat())  # nobody is marked yet
        body: dict[str, Any] = {
            "tenant": tenant, "school": str(school), "name": facts.name if facts else None,
            "as_of": _moment(table.heard.get(partition)), "behind": table.behind(partition),
        }
        if what == "days":
            counted = [count(day, table.get(f"{key}/{day}"), facts) for day in shown]
            return 200, body | {"today": facts.today.isoformat() if facts else None, "days": counted}
        day = shown[-1] if what == "latest" and shown else what
        if day == "latest" or (day not in shown and day < max(days, default="")):
            return 404, {"error": "no marks of that day are kept: only of the newest 14 with marks"}
        return 200, body | count(day, table.get(f"{key}/{day}"), facts)

    async def facts(self, tenant: str, school: UUID) -> Facts | None:
        """What Postgres knows of the school, at most five seconds old; None while it can't be asked."""
        cached = self._facts.get((tenant, school))
        if cached is not None and time.monotonic() - cached[0] < FACTS_FOR:
            return cached[1]
        try:
            async with asyncio.timeout(HOP_TIMEOUT / 2), self._app.postgres.transaction() as db:
                row = await db.fetchrow(SCHOOL, tenant, school)
                today = _today(row["timezone"])
                facts = Facts(
                    row["name"],
                    [(str(r["student_id"]), r["begin_date"], r["end_date"])
                     for r in await db.fetch(MEMBERS, tenant, school)],
                    today,
                    await db.fetchval(IS_SCHOOL_DAY, tenant, school, today),
                )
        except (Infrastructure, TimeoutError):
            return None
        if len(self._facts) > 1000:
            self._facts.clear()
        self._facts[tenant, school] = time.monotonic(), facts
        return facts

    async def student(self, tenant: str, student: UUID) -> Answer:
        """All schools that Postgres knows the student at, each from its owner."""
        try:
            async with asyncio.timeout(HOP_TIMEOUT / 2), self._app.postgres.transaction() as db:
                schools = [row["school_id"] for row in await db.fetch(SCHOOLS_OF, tenant, student)]
        except (Infrastructure, TimeoutError):
            return 503, {"error": "Postgres is away, it knows the student's schools"}
        if not schools:
            return 404, {"error": "no school knows this student"}
        answers = await asyncio.gather(*(self.ask(tenant, school, str(student)) for school in schools))
        failed = next((answer for answer in answers if answer[0] != 200), None)
        if failed is not None:
            return failed
        at = sorted(zip(map(str, schools), answers, strict=True))
        return 200, {
            "tenant": tenant, "student": str(student),
            "days": dict(sorted((day, c) for _, (_, body) in at for day, c in body["days"].items())),
            "schools": {school: body["days"] for school, (_, body) in at},
        }

    async def district(self, tenant: str) -> tuple[int, list[dict[str, Any]]]:
        """The latest day of each school; a school that can't be asked now has no numbers."""
        try:
            async with asyncio.timeout(HOP_TIMEOUT / 2), self._app.postgres.transaction() as db:
                schools = [(row["school_id"], row["name"]) for row in await db.fetch(SCHOOLS, tenant)]
        except (Infrastructure, TimeoutError):
            return 503, []
        answers = await asyncio.gather(*(self.ask(tenant, school, "latest") for school, _ in schools))
        return 200 if schools else 404, [
            {"school": str(school), "name": name, "latest": body if status == 200 else None}
            for (school, name), (status, body) in zip(schools, answers, strict=True)
        ]


def add_pages(app: Worker) -> None:
    """Register the views. The more particular path first: aiohttp takes the first that fits."""
    views = Views(app)

    def given(view: Any, answer: Answer) -> Any:
        status, body = answer
        return view.json(body, status=status, headers={"Retry-After": RETRY_AFTER} if status == 503 else {})

    def page(view: Any, status: int, text: str) -> Any:
        headers = attendance_page.HEADERS | ({"Retry-After": RETRY_AFTER} if status == 503 else {})
        return view.html(text, status=status, headers=headers)

    @app.page("/attendance/{tenant}/student/{student}")
    async def attendance_student(view: Any, request: Any, tenant: str, student: str) -> Any:
        return given(view, await views.student(tenant, UUID(student)))

    @app.page("/attendance/{tenant}/{school}/{what}")
    async def attendance_json(view: Any, request: Any, tenant: str, school: str, what: str) -> Any:
        if not is_asked_for(what):
            return given(view, (404, {"error": "there is no such day"}))
        return given(view, await views.ask(tenant, UUID(school), what.lower(), HOPPED in request.headers))

    @app.page("/attendance/{tenant}/{school}")
    async def attendance_school(view: Any, request: Any, tenant: str, school: str) -> Any:
        status, body = await views.ask(tenant, UUID(school), "days")
        return page(view, status, attendance_page.school(tenant, body if status == 200 else None, body.get("error")))

    @app.page("/attendance/{tenant}")
    async def attendance_district(view: Any, request: Any, tenant: str) -> Any:
        status, schools = await views.district(tenant)
        return page(view, status, attendance_page.district(tenant, schools))


def is_asked_for(what: str) -> bool:
    """Whether the last part of a path, which looks right, is. 2022-02-30 is not."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", what):
        try:
            date.fromisoformat(what)
        except ValueError:
            return False
    return True


def _today(zone: str | None) -> date:
    try:
        return utc_now().astimezone(ZoneInfo(zone or "UTC")).date()
    except (KeyError, ValueError, OSError):  # a zone that this machine does not know
        return utc_now().date()


def _moment(stamp: int | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
