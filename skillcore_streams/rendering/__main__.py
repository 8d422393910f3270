"""`python -m skillcore_streams.rendering`: one child of the pool. A request at a time, until its standard input ends.

A message is four bytes of length and JSON. An answer's JSON is followed by as many bytes as it says.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from typing import BinaryIO

from skillcore_streams.rendering import render
from skillcore_streams.runtime.documents import Document
from skillcore_streams.runtime.errors import PermanentError


def main(memory: int, requests: BinaryIO, answers: BinaryIO) -> None:
    """Serve. `memory`: bytes of address space after which this process dies rather than its machine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which ends us
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    while len(head := requests.read(4)) == 4:
        request = json.loads(requests.read(struct.unpack(">L", head)[0]))
        body = b""
        answer: dict[str, object]
        try:
            made = render(Document.model_validate(request["document"]), request["format"])
            body, answer = made.body, {"pages": made.pages}
        except PermanentError as error:
            answer = {"refused": str(error)}
        except Exception as error:
            answer = {"failed": type(error).__name__}  # its text may quote the document
        said = json.dumps(answer | {"size": len(body)}).encode()
        answers.write(struct.pack(">L", len(said)) + said + body)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
