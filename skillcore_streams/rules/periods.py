"""Periods of registers: a month ("2022-05"), or a school year ("2021-2022"), which begins on 1 July."""

from __future__ import annotations

import re
from datetime import date

MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
YEAR = re.compile(r"([0-9]{4})-([0-9]{4})")


def bounds_of(period: str) -> tuple[date, date]:
    """First day, and the first day after. Raises ValueError for anything else than a month or a school year."""
    if month := MONTH.fullmatch(period):
        year, number = int(month[1]), int(month[2])
        return date(year, number, 1), date(year + number // 12, number % 12 + 1, 1)
    if (years := YEAR.fullmatch(period)) and int(years[2]) == int(years[1]) + 1:
        return date(int(years[1]), 7, 1), date(int(years[2]), 7, 1)
    raise ValueError("a period is a month (2022-05) or a school year (2021-2022)")
