"""Files that outlive rows: reports and archives, in a store that speaks S3 or behaves like one.

Nothing is ever overwritten. An object's key ends with a part of its content's SHA-256 where content may differ, so that
a job that comes again finds its own object, and never somebody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote

from skillcore_streams.runtime.errors import SkillCoreError

LONGEST_KEY = 1024
"""Bytes of a key in S3."""

LONGEST_PART = 200
"""Bytes of one part of a key; a longer one is replaced by its SHA-256."""


class StoreError(SkillCoreError):
    """The store did not do what was asked; trying again may help. Its text names operation and code, no key."""


class Taken(StoreError):
    """Another content stands under this key. Nothing was overwritten."""


class Missing(StoreError):
    """There is no such object."""


class Damaged(StoreError):
    """What was read is not what was written: size or checksum differ."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store knows it. `sha256`: 64 hex digits of its content."""

    key: str
    size: int
    sha256: str


class ObjectStore:
    """What jobs see of the store: `ctx.service(ObjectStore)`. adapters/s3.py speaks S3, testing.py's is in memory."""

    bucket: str

    async def put(self, key: str, body: bytes, media_type: str) -> Stored:
        """Write an object, with its checksum, once: the same content again changes nothing.

        Raises Taken when other content stands there, StoreError when the store cannot be used.
        """
        raise NotImplementedError

    async def head(self, key: str) -> Stored | None:
        """What stands under this key, or None."""
        raise NotImplementedError

    async def get(self, key: str) -> bytes:
        """An object's content. Raises Missing."""
        raise NotImplementedError

    async def keys(self, prefix: str) -> Sequence[str]:
        """All keys that begin with this, in order."""
        raise NotImplementedError

    async def link(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """An address under which whoever has it may read the object for that long, saved under that name."""
        raise NotImplementedError

    async def read(self, expected: Stored) -> bytes:
        """The content, once it is sure that it is what was written. Raises Missing, Damaged."""
        body = await self.get(expected.key)
        if len(body) != expected.size or digest(body) != expected.sha256:
            raise Damaged("an object is not what was written: its size or SHA-256 differs")
        return body


def digest(body: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return sha256(body).hexdigest()


def object_key(*parts: object) -> str:
    """A key of these parts, each percent-encoded: whatever a name holds, it stays one level and leaves none.

    Raises ValueError for an empty part, and when all together are too long.
    """
    key = "/".join(map(_part, map(str, parts)))
    if len(key) > LONGEST_KEY:
        raise ValueError("an object's key would be too long")
    return key


def _part(text: str) -> str:
    if not text:
        raise ValueError("a part of an object's key is empty")
    safe = quote(text.encode("utf-8", "surrogatepass"), safe="")
    if safe.startswith(".") or ".." in safe:
        safe = safe.replace(".", "%2E")  # "." and ".." are folders to some tools
    return safe if len(safe) <= LONGEST_PART else digest(text.encode("utf-8", "surrogatepass"))
