"""Periods of registers."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.rules.calendar import school_year
from skillcore_streams.rules.periods import bounds_of


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_every_day_lies_in_its_month_and_in_its_school_year(day: date) -> None:
    for period in (f"{day:%Y-%m}", school_year(day)):
        first, end = bounds_of(period)
        assert first <= day < end
        assert first.day == end.day == 1


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_a_month_ends_where_the_next_begins(day: date) -> None:
    _, end = bounds_of(f"{day:%Y-%m}")
    assert bounds_of(f"{end:%Y-%m}")[0] == end
    assert end - bounds_of(f"{day:%Y-%m}")[0] <= timedelta(days=31)


@pytest.mark.parametrize("wrong", [
    "", "2022", "2022-13", "2022-00", "2022-2022", "2022-2024", "22-05", "2022-05-01", "٢٠٢٢-05",
])  # fmt: skip
def test_anything_else_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="a period is"):
        bounds_of(wrong)
