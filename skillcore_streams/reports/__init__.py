"""Which reports there are, and what each one says. To add one: a function under `@report` in a module of this folder.

    @report("report_card", "pdf", params=OfStudent)
    async def report_card(asked: OfStudent, page: Page) -> Document: ...

A report reads rows and makes a document of them; it knows no file format and writes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from skillcore_streams.runtime.context import Database
from skillcore_streams.runtime.documents import Document, Format
from skillcore_streams.runtime.errors import PermanentError


class Params(BaseModel):
    """What a report has to be told. From JSON: ids are strings there."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OfStudent(Params):
    """About one student."""

    student_id: UUID


P = TypeVar("P", bound=Params)
Writer = Callable[[P, "Page"], Awaitable[Document | None]]
"""None: what the report was asked for no longer holds."""



@dataclass(frozen=True, slots=True)
class Page:
    """What a report is written on: the rows of one tenant, and the language asked for (BCP 47)."""

    db: Database
    tenant: str
    language: str

    async def rows(self, query: str, *args: Any) -> list[Any]:
        """Rows of this tenant: `$1` is the tenant, the others follow."""
        return await self.db.fetch(query, self.tenant, *args)

    async def row(self, query: str, *args: Any) -> Any:
        """The first row, or None."""
        return await self.db.fetchrow(query, self.tenant, *args)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of report. `personal`: it tells something about students."""

    name: str
    formats: tuple[Format, ...]
    params: type[Params]
    personal: bool
    write: Writer[Any]

    def read(self, params: Mapping[str, str]) -> Params:
        """Checked parameters. Raises PermanentError that names the field, not its value."""
        try:
            return self.params.model_validate(params)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) if first["type"] != "extra_forbidden" else "a parameter"
            raise PermanentError(f"report {self.name}: {where}: {first['msg']}") from None


KINDS: dict[str, Kind] = {}


def report(
    name: str, *formats: Format, params: type[P], personal: bool = True
) -> Callable[[Writer[P]], Writer[P]]:
    """Register what a kind of report says."""

    def register(write: Writer[P]) -> Writer[P]:
        KINDS[name] = Kind(name, formats, params, personal, write)
        return write

    return register


def kind_of(name: str, format: Format) -> Kind:
    """The kind of this name. Raises PermanentError when there is none, or not in this format."""
    kind = KINDS.get(name)
    if kind is None:
        raise PermanentError("there is no report of this kind in this version")
    if format not in kind.formats:
        raise PermanentError(f"report {name} is made as {', '.join(kind.formats)}, not as {format}")
    return kind


def load() -> None:
    """Import all modules, so that `@report` has seen them."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
