"""What the table must say, worked out from Postgres' rows alone. Shares no code with the product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

ROWS = "select tenant_id, school_id, student_id, day, category from attendance_day"

Sets = dict[str, set[Any]]


def of_table(state: Mapping[str, Any], tenant: str = "") -> Sets:
    """What the table says: kept days, who has which category on them, which days students were not present."""
    days, marks, away = set(), set(), set()
    for key, value in state.items():
        parts = key.split("/")
        if not value or len(parts) == 1 or (tenant and parts[0] != tenant):  # "!owner" is nobody's
            continue
        if len(parts) == 2:
            days |= {(*parts, day) for day in value["days"]}
        elif len(parts[2]) == 10:
            if parts[2] in state["/".join(parts[:2])]["days"]:
                marks |= {(*parts, student, c) for student, (c, _) in value.items() if c is not None}
        else:
            away |= {(*parts, day, c) for day, (c, _) in value.items() if c not in (None, "present")}
    return {"days": days, "marks": marks, "away": away}


def of_postgres(rows: Iterable[Mapping[str, Any]], table: Mapping[str, Any]) -> Sets:
    """The same from rows. Of the table only the days that it keeps are taken: a day may have lost all its marks to
    another school, and still takes one of fourteen places."""
    by_school: dict[tuple[str, str], list[tuple[date, str, str]]] = {}
    for row in rows:
        at = row["tenant_id"], str(row["school_id"])
        by_school.setdefault(at, []).append((row["day"], str(row["student_id"]), row["category"]))
    days, marks, away = set(), set(), set()
    for at, found in by_school.items():
        kept = table.get("/".join(at), {"days": []})["days"]
        ours = {day.isoformat() for day, _, _ in found}
        newest = sorted(ours | set(kept))[-14:]
        days |= {(*at, day) for day in newest}
        years = {date.fromisoformat(day).year - (day[5:7] < "07") for day in newest}
        for day, student, category in found:
            if day.isoformat() in newest:
                marks.add((*at, day.isoformat(), student, category))
            if category != "present" and (len(newest) < 14 or day.year - (day.month < 7) >= min(years)):
                away.add((*at, student, day.isoformat(), category))
    return {"days": days, "marks": marks, "away": away}


def difference(table: Sets, truth: Sets) -> dict[str, Any]:
    """What is missing and what is too much, with three examples each; empty when they are equal."""
    found = {}
    for name in truth:
        for what, some in ("missing", truth[name] - table[name]), ("extra", table[name] - truth[name]):
            if some:
                found[f"{name} {what}"] = (len(some), sorted(some)[:3])
    return found
