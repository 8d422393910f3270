"""School years and their names."""

from __future__ import annotations

from datetime import date

FIRST_MONTH = 7
"""A year begins on 1 July, whatever its first day of instruction; the SQL function school_year() says the same."""


def school_year(day: date) -> str:
    """The year a day belongs to, "2021-2022"."""
    begins = day.year if day.month >= FIRST_MONTH else day.year - 1
    return f"{begins}-{begins + 1}"
