"""`python -m skillcore_streams.stack.fake_redis PORT`: fakeredis behind a port, for machines without redis-server."""

import signal
import sys
from importlib import import_module


def main(port: int) -> None:
    """Run until SIGTERM. Everything is forgotten then."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fakeredis = import_module("fakeredis")  # by name: it is optional, and mypy need not have it
    fakeredis.TcpFakeServer(("127.0.0.1", port), server_type="redis").serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
