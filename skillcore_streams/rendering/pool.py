"""Rendering in processes of their own: a report that takes too long or too much memory harms nobody but itself."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from contextlib import suppress

from skillcore_streams.runtime.documents import Document, DocumentRenderer, Format, Rendered, RenderFailed
from skillcore_streams.runtime.errors import PermanentError

MEMORY = 4 << 30
"""Bytes of address space of a process; what it really uses is a small part of that."""

LIFE = 200
"""Files that a process makes before another takes its place."""


class RenderPool(DocumentRenderer):
    """A few processes, started when they are needed.

    Args:
        size: processes at most. A job that finds all at work waits.
    """

    def __init__(self, size: int = 2, memory: int = MEMORY, life: int = LIFE) -> None:
        self._memory = memory
        self._life = life
        self._places: asyncio.LifoQueue[_Child | None] = asyncio.LifoQueue()
        self._size = size
        for _ in range(size):
            self._places.put_nowait(None)

    async def render(self, document: Document, format: Format) -> Rendered:
        """See DocumentRenderer. A process that dies, or whose job is cancelled, is replaced by the next one."""
        child = await self._places.get()
        try:
            if child is not None and child.files >= self._life:
                old, child = child, None
                await old.end()
            child = child or await _Child.start(self._memory)
            return await child.ask(document, format)
        except PermanentError:
            raise
        except BaseException:
            if child is not None:
                dead, child = child, None
                await asyncio.shield(dead.end())
            raise
        finally:
            self._places.put_nowait(child)

    async def close(self) -> None:
        """End all processes, once each has finished what it does."""
        for _ in range(self._size):
            child = await self._places.get()
            if child is not None:
                await child.end()


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.files = 0
        self._process = process

    @classmethod
    async def start(cls, memory: int) -> _Child:
        return cls(await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skillcore_streams.rendering", str(memory),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        ))  # fmt: skip

    async def ask(self, document: Document, format: Format) -> Rendered:
        """One file. Raises RenderFailed when the process dies over it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = json.dumps({"format": format, "document": document.model_dump(mode="json")}).encode()
        self.files += 1
        try:
            stdin.write(struct.pack(">L", len(request)) + request)
            await stdin.drain()
            (size,) = struct.unpack(">L", await stdout.readexactly(4))
            answer = json.loads(await stdout.readexactly(size))
            body = await stdout.readexactly(answer["size"])
        except (asyncio.IncompleteReadError, OSError):
            code = await self._process.wait()
            raise RenderFailed(f"the rendering process died (exit code {code})") from None
        if "refused" in answer:
            raise PermanentError(answer["refused"])
        if "failed" in answer:
            raise RenderFailed(f"rendering failed: {answer['failed']}")
        return Rendered(body, answer["pages"])

    async def end(self) -> None:
        """Kill it, whatever it does, and wait until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
