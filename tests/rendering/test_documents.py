"""What a name may do to a report: nothing. And what values of rows look like."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from skillcore_streams.runtime.documents import INVISIBLE, LONGEST_CELL, MARKS, cell, facts, plain


@given(st.text(max_size=3000))
def test_a_plain_text_has_no_controls_overrides_or_towers_and_an_end(text: str) -> None:
    shown = plain(text)

    assert len(shown) <= LONGEST_CELL
    assert not INVISIBLE & set(shown)
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in shown)
    marks = "".join("m" if unicodedata.category(c) in ("Mn", "Me") else " " for c in shown)
    assert max(map(len, marks.split(" "))) <= MARKS


@given(st.text())
def test_what_is_plain_stays(text: str) -> None:
    assert plain(plain(text)) == plain(text)


def test_names_of_the_world_stay_as_they_are() -> None:
    for name in ("José Ñuñez", "中文名", "محمد", "अनन्या", "Nguyễn Thị Hồng", "O’Brien-Smith", "김민준", "ዮሐንስ", "שרה"):
        assert plain(name) == name


def test_a_megabyte_of_marks_and_an_override_of_direction_are_cut() -> None:
    assert plain("e" + "\u0301" * 1_000_000) == "e" + "\u0301" * MARKS
    assert plain("\u202egpj.exe") == "gpj.exe"
    assert plain("a\u200bb\r\nc\x00d") == "ab \nc d"


def test_values_are_texts_that_say_what_they_are() -> None:
    day, later = date(2022, 5, 1), datetime(2022, 5, 1, 23, tzinfo=UTC)
    values = [None, True, day, later, Decimal("1E+2"), Decimal("0.10"), 7, "x"]

    assert list(map(cell, values)) == [None, "yes", "2022-05-01", "2022-05-01", "100", "0.10", "7", "x"]


def test_facts_are_named_by_their_words() -> None:
    assert facts(days_enrolled=20, since=None).pairs == (("Days enrolled", "20"), ("Since", "not known"))
