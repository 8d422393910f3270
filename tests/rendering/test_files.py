"""The files themselves: accessible, the same every time, and harmless whatever they hold."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import openpyxl
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillcore_streams.rendering import pdf, render
from skillcore_streams.rendering.text import FORMULA, is_number, safe
from skillcore_streams.runtime.documents import Column, Document, Format, Paragraph, Section, Table, facts, table
from skillcore_streams.runtime.errors import PermanentError

COLUMNS = (Column(title="Student", width=2), Column(title="Day", kind="date"), Column(title="Percent", kind="percent"),
           Column(title="Days", kind="number"))
FORMATS: list[Format] = ["pdf", "xlsx", "csv"]
HOSTILE = [
    "'); DROP TABLE students;--", "${jndi:ldap://x/a}", "{{7*7}}", "#{7*7}", "#panic()", "$x$", "*bold*", "= Heading",
    "=HYPERLINK(\"http://x\",\"y\")", "@SUM(A1)", "+1+1", "-1+1", "\t=1", "\r=1", "＝1+1", "<script>alert(1)</script>",
    "../../etc/passwd", "C:\\", "\u202egnp.exe", "👩\u200d👩\u200d👧", "e" + "\u0301" * 1000, "\ue000", "http://x.example",
]


def report(*rows: tuple[object, ...], **more: object) -> Document:
    fields: dict[str, object] = {"title": "Absences", "organisation": "Lakeside"}
    body = Section(heading="Days", blocks=(facts(school="Lakeside"), table("Absences by day", COLUMNS, rows)))
    return Document(**fields | {"sections": (body,)} | more)  # type: ignore[arg-type]


def of_pdf(document: Document) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(render(document, "pdf").body))


def text_of(document: Document) -> str:
    return "\n".join(page.extract_text() for page in of_pdf(document).pages)


def read_csv(document: Document) -> list[list[str]]:
    return list(csv.reader(io.StringIO(render(document, "csv").body.decode("utf-8-sig"), newline="")))


def read_sheet(document: Document, sheet: str = "Absences by day") -> list[tuple[object, ...]]:
    book = openpyxl.load_workbook(io.BytesIO(render(document, "xlsx").body))
    return [tuple(cell.value for cell in row) for row in book[sheet].iter_rows()]


SOME = report(("José 中文", "2022-05-01", Decimal("12.50"), 3), ("مريم", None, None, -1))


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_document_makes_the_same_bytes(format: Format) -> None:
    assert render(SOME, format) == render(SOME, format)


def test_a_pdf_is_tagged_named_and_says_that_it_is_pdf_ua() -> None:
    read = of_pdf(SOME)
    root = read.trailer["/Root"]

    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert read.metadata is not None
    assert read.metadata.title == "Absences"
    assert b"<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data()
    kinds = set(structure(root["/StructTreeRoot"]))
    assert {"/Title", "/H1"} & kinds
    assert {"/Table", "/TH", "/TD", "/L"} <= kinds
    assert "/CreationDate" not in read.trailer["/Info"]


def structure(node: object) -> list[str]:
    """Kinds of all elements below a node of the structure tree."""
    element = node.get_object() if hasattr(node, "get_object") else node
    if isinstance(element, list):
        return [kind for child in element for kind in structure(child)]
    if not isinstance(element, dict):
        return []
    return [str(element.get("/S", "")), *structure(element.get("/K"))]


def test_a_pdf_counts_its_pages_and_repeats_the_head_of_a_long_table() -> None:
    long = report(*((f"student {n}", "2022-05-01", n, n) for n in range(120)))
    made = render(long, "pdf")

    assert made.pages == len(pypdf.PdfReader(io.BytesIO(made.body)).pages) > 2
    assert text_of(long).count("Percent") == made.pages


def test_a_pdf_speaks_its_language() -> None:
    spanish = report(language="es-MX")

    assert of_pdf(spanish).trailer["/Root"]["/Lang"] == "es"
    assert "Página 1 de 1" in text_of(spanish)
    assert "Sin registros." in text_of(spanish)


@pytest.mark.parametrize("name", ["José Ñuñez", "Nguyễn", "中文名", "김민준", "さくら", "Владимир", "Ελένη"])
def test_a_name_is_shown_in_its_own_script(name: str) -> None:
    assert name in text_of(report((name, None, None, None)))


@pytest.mark.parametrize("name", ["محمد", "שרה", "अनन्या", "ዮሐንስ", "สมชาย", "ខ្មែរ", "Հայկ", "გიორგი", "தமிழ்", "ລາວ"])
def test_no_letter_of_these_scripts_is_unknown_to_our_fonts(name: str) -> None:
    assert set(name) <= pdf.coverage()
    assert render(report((name, None, None, None)), "pdf").pages == 1


def test_a_character_that_no_font_shows_becomes_a_box_and_the_report_is_made() -> None:
    assert "a�b" in text_of(report(("a👩b", None, None, None)))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("format", FORMATS)
def test_a_hostile_name_is_only_a_name(format: Format, name: str) -> None:
    document = report((name, None, None, None), title=f"About {name}", subtitle=name)

    assert render(document, format).body


@pytest.mark.parametrize("name", ["{{7*7}}", "#{7*7}", "#panic()", "*bold*", "= Heading", "<script>alert(1)</script>"])
def test_typst_reads_no_data_as_markup(name: str) -> None:
    assert name in text_of(report((name, None, None, None)))


@pytest.mark.parametrize("name", [n for n in HOSTILE if n.startswith(FORMULA)])
def test_a_formula_in_a_name_stays_a_text_in_csv_and_excel(name: str) -> None:
    document = report((name, None, None, None))
    [_, [first, *_]] = read_csv(document)
    [_, [value, *_]] = read_sheet(document)

    assert not first.startswith(FORMULA)
    assert value == document.tables()[0].rows[0][0]
    raw = openpyxl.load_workbook(io.BytesIO(render(document, "xlsx").body))["Absences by day"]["A2"]
    assert raw.data_type == "s"
    assert raw.hyperlink is None


@given(st.text())
def test_no_text_is_a_formula_once_it_is_safe(text: str) -> None:
    assert not safe(text).startswith(FORMULA)
    assert safe(text).removeprefix("'") == text.removeprefix("'") or safe(text) == text


@given(st.one_of(st.text(), st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: f"{d:f}")))
def test_only_a_number_is_a_number(text: str) -> None:
    if is_number(text):
        assert Decimal(text).is_finite()
        assert set(text) <= set("-0123456789.")


def test_numbers_dates_and_percentages_are_values_in_excel_and_plain_in_csv() -> None:
    document = report(("a", "2022-05-01", Decimal("12.50"), -3), ("b", "1066-10-14", None, None))

    assert [[str(v) if v is not None else None for v in row] for row in read_sheet(document)[1:]] == [
        ["a", "2022-05-01 00:00:00", "12.5", "-3"], ["b", "1066-10-14", None, None],
    ]
    assert read_csv(document)[1:] == [["a", "2022-05-01", "12.50", "-3"], ["b", "1066-10-14", "", ""]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=4))
def test_any_captions_make_sheets_that_excel_can_name(captions: list[str]) -> None:
    tables = tuple(table(caption, COLUMNS, [("a", None, None, 1)]) for caption in captions)
    document = report(sections=(Section(blocks=tables),))

    book = openpyxl.load_workbook(io.BytesIO(render(document, "xlsx").body))

    assert len(book.sheetnames) == len(captions) + 1
    assert len({name.lower() for name in book.sheetnames}) == len(captions) + 1


def test_a_csv_is_of_one_table() -> None:
    for tables in ((), (Table(caption="a", columns=COLUMNS, rows=()),) * 2):
        with pytest.raises(PermanentError, match="a CSV holds one table"):
            render(report(sections=(Section(blocks=tables),)), "csv")


def test_what_typst_refuses_is_an_error_that_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "coverage", lambda: frozenset("a👩"))  # so that the character reaches Typst

    with pytest.raises(PermanentError, match="PDF/UA-1 error") as error:
        render(report(sections=(Section(blocks=(Paragraph(text="👩"),)),)), "pdf")

    assert "👩" not in str(error.value)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300))
def test_any_text_makes_a_pdf(text: str) -> None:
    assert render(report((text, text, text, text), subtitle=text), "pdf").pages
