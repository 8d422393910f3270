"""Pictures for the report: inline SVG, readable in light and dark, each with a title and a description in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import count, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skillcore_streams.demo.facts import School
    from skillcore_streams.demo.watch import Look

WIDTH = 960
_ids = count(1)

KINDS = (("unexcused", "absent, unexcused"), ("excused", "absent, excused"), ("tardy", "tardy"),
         ("other", "part of the day"))
TIERS = (("at_risk_5", "5 %, at risk", 5), ("chronic_10", "10 %, chronic", 10), ("severe_20", "20 %, severe", 20))


def svg(height: float, title: str, told: str, parts: Iterable[str], width: int = WIDTH) -> str:
    """A picture with what a screen reader says about it."""
    n = next(_ids)
    return (
        f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-labelledby="t{n} d{n}">'
        f'<title id="t{n}">{escape(title)}</title><desc id="d{n}">{escape(told)}</desc>{"".join(parts)}</svg>'
    )


def run(looks: Sequence[Look], marks: Sequence[tuple[float, str]]) -> str:
    """Events a second and lag over the run, with what happened."""
    left, right, top, speed, gap, behind = 64, 16, 16 + 18 * len(marks), 150, 34, 90
    end = max(looks[-1].at, 1.0)
    width = WIDTH - left - right

    def x(at: float) -> float:
        return left + width * max(0.0, at) / end

    rates = [
        (a.at, b.at, (b.events - a.events) / (b.at - a.at))
        for a, b in pairwise(looks) if b.at > a.at
    ]
    fastest = nice(max((rate for *_, rate in rates), default=1))
    lags = [(look.at, sum(look.lag.values())) for look in looks]
    deepest = nice(max(lag for _, lag in lags) or 1)
    floor, lower = top + speed, top + speed + gap + behind
    parts = [
        *grid(left, left + width, top, floor, fastest, "events/s"),
        *grid(left, left + width, floor + gap, lower, deepest, "lag"),
    ]
    for a, b, rate in rates:
        high = speed * rate / fastest
        wide = max(1.0, x(b) - x(a) - 1)
        parts.append(bar("good", x(a) + 0.5, floor - high, wide, high, f"{b:.1f} s: {rate:,.0f} events a second"))
    points = " ".join(f"{x(at):.1f},{lower - behind * lag / deepest:.1f}" for at, lag in lags)
    parts.append(f'<polygon class="lag" points="{x(lags[0][0]):.1f},{lower} {points} {x(lags[-1][0]):.1f},{lower}"/>')
    for row, (at, what) in enumerate(marks):
        y = 16 + 18 * row
        beyond = x(at) > WIDTH * 0.6
        parts.append(f'<line class="mark" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y - 8}" y2="{lower}"/>')
        parts.append(
            f'<text class="markword" x="{x(at) + (-6 if beyond else 6):.1f}" y="{y + 2}" '
            f'text-anchor="{"end" if beyond else "start"}">{at:.1f} s {escape(what)}</text>'
        )
    step = next(s for s in (1, 2, 5, 10, 20, 60) if end / s <= 14)
    parts += [
        f'<text class="tick" x="{x(second):.1f}" y="{lower + 18}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(end) + 1, step)
    ]
    told = (
        f"At most {max((r for *_, r in rates), default=0):,.0f} events a second were stored; the lag was at most "
        f"{max(lag for _, lag in lags):,} records. " + "; ".join(f"{what} after {at:.1f} s" for at, what in marks) + "."
    )
    return svg(lower + 26, "Events stored a second, and the lag, during the run", told, parts)


def weeks(school: School, most: float) -> str:
    """A school's year, a bar a week: shares of student-days that were not a plain day of presence."""
    left, right, top, high = 64, 16, 10, 120
    floor = top + high
    width = WIDTH - left - right
    slot = width / max(1, len(school.weeks))
    parts = list(grid(left, left + width, top, floor, most, "", "%"))
    month = None
    for n, week in enumerate(school.weeks):
        at, base = left + slot * n, float(floor)
        label = f"week of {week.begins:%-d %B %Y}: {share(week.present, week.all)} present"
        for kind, words in KINDS:
            number = getattr(week, kind)
            if number:
                label += f", {number} {words}"
        bars = []
        for kind, _ in KINDS:
            size = high * 100 * getattr(week, kind) / week.all / most if week.all else 0
            base -= size
            if size:
                bars.append(bar(kind, at + 1, base, slot - 2, size))
        hover = bar("hover", at, top, slot, high)
        parts.append(f"<g><title>{escape(label)}</title>{hover}{''.join(bars)}</g>")
        if week.begins.month != month:
            month = week.begins.month
            if n == 0 or n < len(school.weeks) - 1:
                parts.append(f'<text class="tick" x="{at + 1:.1f}" y="{floor + 18}">{week.begins:%b}</text>')
    days = sum(week.all for week in school.weeks)
    told = (
        f"{days:,} student-days in {len(school.weeks)} weeks: {share(school.sum('present'), days)} present, "
        + ", ".join(f"{share(school.sum(kind), days)} {words}" for kind, words in KINDS) + "."
    )
    return svg(floor + 26, f"{school.name}: absence and tardiness by week", told, parts)


def whole(school: School) -> str:
    """The same year as one bar, at full length."""
    days = sum(week.all for week in school.weeks) or 1
    at, parts = 0.0, []
    for kind, words in (("present", "present"), *KINDS):
        size = WIDTH * school.sum(kind) / days
        said = f"{words}: {school.sum(kind):,} student-days, {share(school.sum(kind), days)}"
        parts.append(bar(kind, at, 0, size, 14, said))
        at += size
    told = f"{share(school.sum('present'), days)} of student-days present."
    return svg(14, f"{school.name}: the whole year", told, parts)


def reached(found: Sequence[tuple[str, date]], first: date, last: date, students: int) -> str:
    """How many students had reached each threshold, by day."""
    left, right, top, high, width = 40, 124, 34, 200, 470
    floor, span = top + high, max(1, (last - first).days)
    most = nice(max((sum(tier == name for tier, _ in found) for name, *_ in TIERS), default=1) or 1)

    def x(day: date) -> float:
        return left + (width - left - right) * (day - first).days / span

    parts = list(grid(left, width - right, top, floor, most, ""))
    told: list[str] = []
    ends: list[_End] = []
    for name, words, _ in TIERS:
        days = sorted(day for tier, day in found if tier == name)
        path, number = f"M{x(first):.1f},{floor}", 0
        for day in days:
            number += 1
            path += f"H{x(day):.1f}V{floor - high * number / most:.1f}"
        path += f"H{x(last):.1f}"
        parts.append(f'<path class="step {name}" d="{path}"><title>{words}: {number} students</title></path>')
        ends.append(_End(floor - high * number / most, f"{number}: {words}", name))
        told.append(f"{number} of {students} students reached {words}")
    for lower, upper in pairwise(ends):
        upper.y = max(upper.y, lower.y + 17)
    over = max(0.0, ends[-1].y - floor)
    parts += [
        f'<text class="end {end.name}" x="{width - right + 8}" y="{end.y - over + 4:.1f}">{end.words}</text>'
        for end in ends
    ]
    month = date(first.year, first.month, 1)
    while month <= last:
        if month >= first and (month.month % 2 == 1 or span < 120):
            parts.append(f'<text class="tick" x="{x(month):.1f}" y="{floor + 18}">{month:%b}</text>')
        month = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    title = "Students who had reached a threshold of absence, by day"
    return svg(floor + 26, title, "; ".join(told) + ".", parts, width)


def histogram(days_absent: dict[int, int], enrolled: int) -> str:
    """Students by the days they missed in the year."""
    left, right, top, high, width = 40, 10, 34, 200, 470
    floor = top + high
    last = max([*days_absent, int(enrolled / 10) + 1])
    most = nice(max(days_absent.values(), default=1))
    slot = (width - left - right) / (last + 1)
    parts = list(grid(left, width - right, top, floor, most, ""))
    for days in range(last + 1):
        students = days_absent.get(days, 0)
        tier = "chronic_10" if days * 10 >= enrolled else "at_risk_5" if days * 20 >= enrolled else "none"
        size = high * students / most
        at = left + slot * days + 1
        parts.append(bar(tier, at, floor - size, slot - 2, size, f"{days} days missed: {students} students"))
        if days % 5 == 0:
            parts.append(f'<text class="tick" x="{left + slot * (days + 0.5):.1f}" y="{floor + 18}" '
                         f'text-anchor="middle">{days}</text>')
    for percent in (5, 10):
        at = left + slot * (enrolled * percent / 100)
        if at < width - right:
            parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 12}" y2="{floor}"/>'
                         f'<text class="tick" x="{at:.1f}" y="{top - 16}" text-anchor="middle">{percent} %</text>')
    past = sum(students for days, students in days_absent.items() if days * 10 >= enrolled)
    told = f"{past} of {sum(days_absent.values())} students have missed at least a tenth of {enrolled} days."
    return svg(floor + 26, "Students by days missed at the end of the year", told, parts, width)


@dataclass(slots=True)
class _End:
    """What stands at the end of a line, and where: moved down when it would cover another."""

    y: float
    words: str
    name: str


def nice(value: float) -> float:
    """A round number not below the value: the top of an axis."""
    size = 1.0
    while size * 10 < value:
        size *= 10
    return next(size * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if size * step >= value)


def share(part: int, all: int) -> str:
    """A percentage with one decimal."""
    return f"{100 * part / all:.1f} %" if all else "–"


def grid(left: float, right: float, top: float, floor: float, most: float, name: str, unit: str = "") -> Iterable[str]:
    """Three lines with their values; the name of the axis above the topmost."""
    for part in (0.0, 0.5, 1.0):
        y = floor - (floor - top) * part
        value = most * part
        words = (f"{value / 1000:g}k" if value >= 1000 else f"{value:g}") + (f" {unit}" if unit else "")
        yield f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
    if name:
        yield f'<text class="tick" x="{left + 4:g}" y="{top - 5:.1f}">{name}</text>'


def bar(kind: str, x: float, y: float, width: float, height: float, said: str = "") -> str:
    """A rectangle of a kind's colour; `said` shows when it is pointed at."""
    place = f'x="{x:.1f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect class="{kind}" {place}>{f"<title>{escape(said)}</title>" if said else ""}</rect>'
