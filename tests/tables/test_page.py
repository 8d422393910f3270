"""The pages without a server: escaping, contrast, what a person without eyes or mouse needs; and who may see them."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from skillcore_streams import attendance_page
from skillcore_streams.attendance_views import PATHS, door, is_loopback
from skillcore_streams.config import Settings

DAY = {
    "day": "2022-03-01", "present": 1234, "absent": 5, "absent_excused": 2, "absent_unexcused": 3, "tardy": 7,
    "early_departure": 1, "partial": 1, "marked": 1248, "roster": 1300, "unmarked": 52,
}
BODY = {"school": "0" * 36, "name": "Lake & <Side>", "today": "2022-03-01", "days": [{**DAY, "day": "2022-02-28"}, DAY]}
VOID = {"meta", "link", "rect", "line", "br"}


class Outline(HTMLParser):
    """Every element that was opened and closed, and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.seen if name == tag]


@pytest.mark.parametrize("page", [
    attendance_page.school("oak", BODY, None),
    attendance_page.school("oak", {**BODY, "name": None, "days": []}, None),
    attendance_page.school("oak", None, "<moving>"),
    attendance_page.district("oak", [{"school": "0" * 36, "name": None, "latest": None},
                                     {"school": "1" * 36, "name": "x", "latest": DAY}]),
    attendance_page.district("oak", []),
])
def test_every_page_is_whole_and_can_be_heard(page: str) -> None:
    outline = Outline(page)

    assert outline.open == []
    assert outline.of("html") == [{"lang": "en"}]
    assert len(outline.of("h1")) == 1
    assert outline.of("main") == [{"id": "main"}]
    assert outline.of("a")[0]["href"] == "#main"
    assert all(th["scope"] in ("col", "row") for th in outline.of("th"))
    assert len(outline.of("table")) == len(outline.of("caption"))
    assert all(svg["aria-hidden"] == "true" for svg in outline.of("svg")) or outline.of("table")
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "<moving>" not in page


def test_a_page_says_what_was_marked() -> None:
    page = attendance_page.school("oak", BODY, None)

    assert "Lake &amp; &lt;Side&gt;" in page
    assert "Today, " in page
    assert "1,234" in page
    assert "3 unexcused, 2 excused" in page
    assert "2 more for part of the day" in page


def test_without_postgres_nobody_is_said_to_be_unmarked() -> None:
    page = attendance_page.school("oak", {**BODY, "days": [{**DAY, "roster": None, "unmarked": None}]}, None)

    assert re.search(r"Not marked yet</dt><dd class=\"big\">–<", page)


def test_the_policy_lets_only_our_script_run() -> None:
    digest = base64.b64encode(hashlib.sha256(attendance_page.SCRIPT.encode()).digest()).decode()
    page = attendance_page.school("oak", BODY, None)

    assert f"script-src 'sha256-{digest}'" in attendance_page.HEADERS["Content-Security-Policy"]
    assert page.count("<script") == 1
    assert f"<script>{attendance_page.SCRIPT}</script>" in page
    assert " on" + "click=" not in page


def themes() -> list[dict[str, str]]:
    """The colours by name: light, and dark."""
    blocks = re.findall(r":root \{(.*?)\}", attendance_page.STYLE, re.DOTALL)
    light, dark = ({m[0]: m[1] for m in re.findall(r"--(\w+): (#\w{6})", block)} for block in blocks)
    return [light, light | dark]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_words_and_bars_have_contrast_enough(theme: dict[str, str]) -> None:
    """WCAG AA: 4.5 for text, 3 for what is not text."""
    for ground in "paper", "card":
        for text in "ink", "dim", "accent":
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        for bar in "unexcused", "excused", "tardy", "other", "present":
            assert contrast(theme[bar], theme[ground]) >= 3, (bar, ground)


# Who may see them -----------------------------------------------------------------------------------------------------


async def answer(bound: str, token: str | None, path: str = "/attendance/oak", **headers: str) -> Any:
    async def shown(request: web.Request) -> web.Response:
        return web.Response(text="numbers")

    settings = Settings(web_token=None if token is None else SecretStr(token))
    app = web.Application(middlewares=[door(settings, lambda: bound)])
    app.router.add_get("/{path:.*}", shown)
    async with TestClient(TestServer(app)) as client:
        response = await client.get(path, headers=headers)
        return response.status, response.headers.get("WWW-Authenticate")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(("bound", "token", "authorization", "status"), [
    ("127.0.0.1", None, "", 200),
    ("::1", "secret", "", 200),
    ("localhost", None, "", 200),
    ("0.0.0.0", None, "", 403),
    ("0.0.0.0", None, "Bearer ", 403),
    ("10.0.0.7", "", "Bearer ", 403),
    ("0.0.0.0", "secret", "", 401),
    ("0.0.0.0", "secret", "Bearer Secret", 401),
    ("0.0.0.0", "secret", "secret", 401),
    ("0.0.0.0", "secret", "Bearer secret", 200),
    ("worker-1", "secret", basic("principal", "secret"), 200),
    ("0.0.0.0", "secret", basic("secret", ""), 401),
    ("0.0.0.0", "secret", "Basic not base64!", 401),
])
async def test_who_is_let_in(bound: str, token: str | None, authorization: str, status: int) -> None:
    got, challenge = await answer(bound, token, **({"Authorization": authorization} if authorization else {}))

    assert got == status
    assert (challenge is not None) == (status == 401)


async def test_health_needs_no_token() -> None:
    assert (await answer("0.0.0.0", "secret", path="/health"))[0] == 200


@pytest.mark.parametrize(("host", "yes"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
    ("192.168.1.4", False), ("worker", False), ("", False),
])
def test_loopback_is_this_machine_only(host: str, yes: bool) -> None:
    assert is_loopback(host) is yes


@pytest.mark.parametrize("path", [
    "/attendance", "/attendance/", "/attendance/oak/../router", "/attendance/oak/students", "/attendance//x/latest",
    "/table/x", "/attendance/oak/00000000-0000-0000-0000-000000000000/latest/x",
])
def test_the_door_opens_no_other_path(path: str) -> None:
    assert PATHS.fullmatch(path) is None
