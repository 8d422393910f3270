"""School years, and that Python and SQL agree on them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules.calendar import school_year


@pytest.mark.parametrize(
    ("day", "year"),
    [
        (date(2021, 7, 1), "2021-2022"),  # the first day
        (date(2021, 12, 31), "2021-2022"),
        (date(2022, 1, 1), "2021-2022"),  # New Year is in the middle
        (date(2022, 6, 30), "2021-2022"),  # the last day
        (date(2022, 7, 1), "2022-2023"),
        (date(2000, 2, 29), "1999-2000"),  # a leap day, and four new digits
    ],
)
def test_a_school_year_begins_on_the_first_of_july(day: date, year: str) -> None:
    assert school_year(day) == year


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2200, 1, 1)))
def test_a_day_lies_between_the_two_years_of_its_name(day: date) -> None:
    begins, ends = map(int, school_year(day).split("-"))

    assert ends == begins + 1
    assert date(begins, 7, 1) <= day < date(ends, 7, 1)
