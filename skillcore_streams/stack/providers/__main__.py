"""`python -m skillcore_streams.stack.providers FOLDER inbox=PORT sendgrid=PORT ...`: run until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from skillcore_streams.stack.providers.server import Office


async def main(folder: Path, ports: dict[str, int]) -> None:
    """All five sites in one loop. What was received is forgotten at the end."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with Office.at(folder, ports):
        await ended.wait()


if __name__ == "__main__":
    pairs = (argument.partition("=") for argument in sys.argv[2:])
    asyncio.run(main(Path(sys.argv[1]), {name: int(port) for name, _, port in pairs}))
