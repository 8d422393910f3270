"""Documents as files: PDF by Typst, Excel by XlsxWriter, CSV. Pure functions here; pool.py runs them elsewhere."""

from __future__ import annotations

from skillcore_streams.rendering import pdf, sheet, text
from skillcore_streams.runtime.documents import Document, Format, Rendered


def render(document: Document, format: Format) -> Rendered:
    """Make the file. Raises PermanentError when the document has no such form."""
    match format:
        case "pdf":
            return pdf.render(document)
        case "xlsx":
            return Rendered(sheet.render(document))
        case "csv":
            return Rendered(text.render(document))
