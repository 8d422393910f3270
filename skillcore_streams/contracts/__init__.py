"""The contract with everybody else: what may be written to our topics, and what they may expect to read there.

The event and job classes are the source. From them come, generated and committed under schemas/: JSON Schemas, an
AsyncAPI document, TypeScript types and a page of who reacts to what. schemas/schemas.lock is what has been released;
gate.py refuses what would break somebody who relies on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillcore_streams import events, handlers, queues
from skillcore_streams.adapters.kafka_admin import Declaration, Topic
from skillcore_streams.config import ROOT
from skillcore_streams.contracts import asyncapi, reactions, typescript
from skillcore_streams.contracts.gate import breaks
from skillcore_streams.contracts.promises import Promise, current, dumps, released
from skillcore_streams.runtime.errors import Misconfigured

FOLDER = ROOT / "schemas"
LOCK = "schemas.lock"
GENERATED = ("events/*.json", "jobs/*.json")
"""What only the generator writes: a file here that it would not write is a left-over."""

__all__ = ["FOLDER", "LOCK", "Promise", "breaks", "build", "generate", "locked", "promises_now", "release", "stale"]


def promises_now() -> dict[str, Promise]:
    """What the code promises today."""
    for package in (events, queues, handlers):  # handlers too: the page of reactions comes from their registry
        package.load()
    return current(_topics())


def _topics() -> list[Topic]:
    return Declaration.read(ROOT / "kafka" / "topics.yaml").topics_for("production")


def generate(folder: Path = FOLDER) -> dict[str, str]:
    """Path below `folder` -> text of every generated file. The same code gives the same bytes."""
    catalog = _catalog(folder)
    promises = promises_now()
    files = {promise.path: dumps(promise.schema) for promise in promises.values()}
    files["asyncapi.yaml"] = asyncapi.document(promises, _topics(), catalog)
    files["events.d.ts"] = typescript.declarations(promises)
    files["events.js"] = typescript.constants(promises)
    files["handlers.md"] = reactions.page(catalog)
    return files


def build(folder: Path = FOLDER) -> list[str]:
    """Write what has changed, remove what is left over. Returns the paths that differ from before."""
    files = generate(folder)
    changed = _differing(folder, files)
    for path in changed:
        target = folder / path
        if path in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(files[path], encoding="utf-8")
        else:
            target.unlink()
    return changed


def stale(folder: Path = FOLDER) -> list[str]:
    """Paths that `build` would write or remove."""
    return _differing(folder, generate(folder))


def locked(folder: Path = FOLDER) -> dict[str, Promise]:
    """The released contract. Raises Misconfigured when there is none, or it is not readable."""
    text = _read(folder / LOCK)
    if text is None:
        raise Misconfigured(f"there is no {folder / LOCK}. Make it with: skillcore schemas build --release")
    try:
        return released(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(
            f"{folder / LOCK} is not a released contract ({type(error).__name__}). Take it back from the history."
        ) from None


def release(folder: Path, promises: Mapping[str, Promise]) -> None:
    """Move the released contract forward to these promises. Whoever calls has asked the gate."""
    content = {name: promise.lock() for name, promise in sorted(promises.items())}
    (folder / LOCK).write_text(dumps(content), encoding="utf-8")


def _differing(folder: Path, files: Mapping[str, str]) -> list[str]:
    there = {str(path.relative_to(folder)) for pattern in GENERATED for path in folder.glob(pattern)}
    differ = {path for path, text in files.items() if _read(folder / path) != text}
    return sorted(differ | (there - files.keys()))


def _catalog(folder: Path) -> dict[str, Any]:
    text = _read(folder / "catalog.json")
    if text is None:
        raise Misconfigured(f"there is no {folder / 'catalog.json'}. Run this in a checkout, or name its schemas/.")
    catalog: dict[str, Any] = json.loads(text)
    return catalog


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
