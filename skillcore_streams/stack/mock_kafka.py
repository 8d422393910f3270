"""`python -m skillcore_streams.stack.mock_kafka FILE`: keep an in-memory broker alive, its address in FILE."""

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer


def main(where: Path) -> None:
    """Run until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keeper = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})  # the cluster lives as long as this
    broker = next(iter(keeper.list_topics(timeout=10).brokers.values()))
    arriving = where.with_suffix(".new")
    arriving.write_text(f"{broker.host}:{broker.port}\n")
    arriving.replace(where)  # so that nobody reads half an address
    while True:
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
