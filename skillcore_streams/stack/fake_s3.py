"""`python -m skillcore_streams.stack.fake_s3 PORT`: S3 by moto behind a port."""

import signal
import sys
import threading
import urllib.request
from importlib import import_module

BUCKET = "skillcore"
"""There from the beginning, for reports and archives."""


def main(port: int) -> None:
    """Run until SIGTERM. Everything is forgotten then."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = import_module("moto.server").ThreadedMotoServer("127.0.0.1", port, verbose=False)  # by name: optional
    server.start()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")).close()
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
