"""The pages of the live attendance table, as HTML: no assets from elsewhere, a table for every picture, no students."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

STYLE = Path(__file__).with_suffix(".css").read_text()
SCRIPT = Path(__file__).with_suffix(".js").read_text()

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; "
        f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

COLUMNS = (
    ("present", "Present"), ("absent_unexcused", "Unexcused"), ("absent_excused", "Excused"), ("tardy", "Tardy"),
    ("other", "Part of day"), ("unmarked", "Not marked"),
)
STACK = (("absent_unexcused", "unexcused"), ("absent_excused", "excused"), ("tardy", "tardy"))

WIDTH, HEIGHT, TOP, BOTTOM = 900, 230, 24, 40


def school(tenant: str, body: Mapping[str, Any] | None, sorry: str | None) -> str:
    """A school's latest day and the days before. Without a body: why there is nothing to show at this moment."""
    if body is None:
        return _document(tenant, "Attendance", _sorry(sorry or "nothing can be shown at this moment"))
    name = body["name"] or f"School {body['school'][:8]}"
    days = [{**d, "other": d["early_departure"] + d["partial"]} for d in body["days"]]
    if not days:
        return _document(tenant, name, _sorry("Nothing has been marked yet."))
    latest = days[-1]
    today = body["today"] == latest["day"]
    return _document(tenant, name, f"""
<div data-live="day">
<p class="day">{"Today, " if today else "The last day with marks: "}<time datetime="{latest["day"]}">{
    _long(latest["day"])}</time></p>
{_tiles(latest)}
</div>
<section aria-labelledby="before" data-live="days">
<h2 id="before">Absent and tardy, the last {len(days)} days with marks</h2>
{_chart(days)}
{_table(days)}
</section>""")


def district(tenant: str, schools: Sequence[Mapping[str, Any]]) -> str:
    """The latest day of each school of a district."""
    if not schools:
        return _document(tenant, "Attendance by school", _sorry("No school is known here, or none can be asked now."))
    rows = "".join(
        f'<tr><th scope="row"><a href="/attendance/{quote(tenant, safe="")}/{s["school"]}">'
        f'{escape(s["name"] or "School " + s["school"][:8])}</a></th>{_cells(s["latest"])}</tr>'
        for s in schools
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("School", "Day", *(h for _, h in COLUMNS)))
    return _document(tenant, "Attendance by school", f"""
<div class="scroll" role="region" aria-label="Schools" tabindex="0" data-live="schools"><table>
<caption>The latest day with marks of each school</caption>
<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>""")


def _cells(latest: Mapping[str, Any] | None) -> str:
    if latest is None:
        return "<td>–</td>" * (len(COLUMNS) + 1)
    day = {**latest, "other": latest["early_departure"] + latest["partial"]}
    return f"<td>{_short(day['day'])}</td>" + "".join(f"<td>{_number(day[key])}</td>" for key, _ in COLUMNS)


def _tiles(day: Mapping[str, Any]) -> str:
    def tile(kind: str, title: str, number: int | None, small: str) -> str:
        return (f'<div class="{kind}"><dt>{title}</dt><dd class="big">{_number(number)}</dd>'
                f'<dd class="small">{small}</dd></div>')

    of = day["roster"] or 0
    here = f"{day['present'] / of:.0%} of {of:,}" if of else ""
    part = f"{day['other']:,} more for part of the day" if day["other"] else ""
    absent = f"{day['absent_unexcused']:,} unexcused, {day['absent_excused']:,} excused"
    missing = "everybody is marked" if day["unmarked"] == 0 else f"{day['marked']:,} are, of {of:,}"
    return '<dl class="tiles">' + "".join((
        tile("present", "Present", day["present"], here),
        tile("absent", "Absent", day["absent"], absent),
        tile("tardy", "Tardy", day["tardy"], part),
        tile("unmarked", "Not marked yet", day["unmarked"], missing),
    )) + "</dl>"


def _chart(days: Sequence[Mapping[str, Any]]) -> str:
    """Stacked bars. The table below says the same, so the picture is left out for who can't see it."""
    highest = max(max(sum(d[key] for key, _ in STACK) for d in days), 1)
    step = WIDTH / len(days)
    bars = []
    for n, day in enumerate(days):
        left, width, y = n * step + step * 0.18, step * 0.64, float(HEIGHT - BOTTOM)
        for key, kind in STACK:
            height = day[key] / highest * (HEIGHT - TOP - BOTTOM)
            y -= height
            if day[key]:
                bars.append(f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" '
                            f'height="{height:.1f}"/>')
        middle, total = left + width / 2, sum(day[key] for key, _ in STACK)
        now = "now" if n == len(days) - 1 else ""
        bars.append(f'<text class="total" text-anchor="middle" x="{middle:.1f}" y="{y - 6:.1f}">{total}</text>')
        for line, text in enumerate(_short(day["day"]).split(" ", 1)):
            bars.append(f'<text class="{now}" text-anchor="middle" x="{middle:.1f}" '
                        f'y="{HEIGHT - BOTTOM + 17 + 16 * line}">{text}</text>')
    floor = HEIGHT - BOTTOM
    return f"""<figure>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">
<line x1="0" x2="{WIDTH}" y1="{floor}" y2="{floor}"/>{"".join(bars)}</svg>
<figcaption><span class="away">The same numbers follow in a table.</span>
<ul class="legend"><li class="unexcused">Absent, unexcused</li><li class="excused">Absent, excused</li>
<li class="tardy">Tardy</li></ul></figcaption></figure>"""


def _table(days: Sequence[Mapping[str, Any]]) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Day", *(h for _, h in COLUMNS)))
    rows = "".join(
        f'<tr{_now(n)}><th scope="row"><time datetime="{day["day"]}">{_short(day["day"])}</time></th>'
        + "".join(f"<td>{_number(day[key])}</td>" for key, _ in COLUMNS) + "</tr>"
        for n, day in enumerate(reversed(days))
    )
    return f"""<div class="scroll" role="region" aria-label="Days" tabindex="0"><table>
<caption>Students by day, newest first. Unexcused and excused are absences.</caption>
<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _now(n: int) -> str:
    return ' class="now"' if n == 0 else ""


def _sorry(why: str) -> str:
    return f'<p class="sorry" data-live="day">{escape(why)}</p>'


def _document(tenant: str, title: str, content: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>{escape(title)} - attendance</title><style>{STYLE}</style>
<noscript><meta http-equiv="refresh" content="10"></noscript></head>
<body><a class="skip" href="#main">To the numbers</a>
<header><p class="over"><a href="/attendance/{quote(tenant, safe="")}">{escape(tenant)}</a></p>
<p class="live" data-state=""><span role="status"><span class="dot"></span><span id="state">As it was when this page
was opened</span></span><button type="button" hidden>Pause updates</button></p></header>
<main id="main"><h1>{escape(title)}</h1>{content}</main>
<footer>From the live attendance table. Each student counts once a day, with the newest mark.</footer>
<script>{SCRIPT}</script></body></html>"""


def _number(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def _long(day: str) -> str:
    when = date.fromisoformat(day)
    return f"{when:%A}, {when:%B} {when.day}, {when.year}"


def _short(day: str) -> str:
    when = date.fromisoformat(day)
    return f"{when:%a} {when:%b} {when.day}"
