"""One test per override of adapters/kafka.py: stock Faust shows the defect, ours does not. On the real broker."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path

import faust
import pytest

from skillcore_streams.adapters.kafka import HardenedApp
from tests.transport.conftest import Side, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def numbers(n: int) -> list[bytes]:
    return [b"%d" % i for i in range(n)]


def test_a_record_in_flight_is_never_committed_past(stock: Side, ours: Side) -> None:
    """faust #606: Consumer._new_offset."""
    for side in stock, ours:
        side.topic()
        side.produce([b"hang", *numbers(5)])
    first = {side: side.worker(concurrency=2, hangs=True) for side in (stock, ours)}
    for worker in first.values():
        until(lambda w=worker: len(w.values()) == 5, "all but the hanging record are done")
    until(lambda: stock.committed() == 6, "stock commits past the record in flight")
    for _ in range(3):
        n = len(first[ours].lines("commit"))
        first[ours].signal(signal.SIGHUP)
        until(lambda n=n: len(first[ours].lines("commit")) > n, "ours has committed what it can")
    assert ours.committed() == 0

    for side, worker in first.items():
        worker.kill()
        side.produce([b"last"])
    second = {side: side.worker() for side in (stock, ours)}
    for worker in second.values():
        until(lambda w=worker: "last" in w.values(), "the next worker is done with everything")

    assert second[stock].values() == ["last"], "lost"
    assert second[ours].values() == ["hang", "0", "1", "2", "3", "4", "last"]


def test_a_rebalance_replays_nothing_that_was_acked(stock: Side, ours: Side) -> None:
    """faust #502: Consumer.wait_empty commits what upstream has just forgotten."""
    for side in stock, ours:
        side.topic(partitions=2)
        side.produce(numbers(10), partition=0)
        side.produce(numbers(10), partition=1)
    first = {side: side.worker(commit_interval=600.0) for side in (stock, ours)}
    for worker in first.values():
        until(lambda w=worker: len(w.values()) == 20, "all records are done")

    for side in stock, ours:
        side.worker(commit_interval=600.0)
    for side in stock, ours:
        until(lambda s=side: s.settled(2) and s.workers[1].lines("begun"), "the second worker has joined")
        for partition in (0, 1):
            side.produce([b"last"], partition)
    done = {}
    for side in stock, ours:
        until(lambda s=side: sum(w.values().count("last") for w in s.workers) == 2, "both partitions go on")
        done[side] = sum(len(w.values()) for w in side.workers)

    assert done[stock] == 42, "every record twice, but for the last two"
    assert done[ours] == 22


def test_a_worker_with_nothing_to_poll_stays_in_its_group(stock: Side, ours: Side) -> None:
    """aiokafka #1154, robinhood #517: ConsumerThread._guard counts as a poll."""
    for side in stock, ours:
        side.topic(partitions=1)
        for _ in range(2):  # one owns the partition, the other has nothing to do
            side.worker(max_poll_interval=2.0)
    until(lambda: ours.settled(2), "both of ours are members")
    until(lambda: stock.settled(2), "both of stock are members")
    until(lambda: stock.members() == 1, "the spare worker of stock leaves the group")
    assert ours.settled(2)

    for side in stock, ours:
        side.produce([b"who"])
    for side in stock, ours:
        owner = until(lambda s=side: next((w for w in s.workers if w.values() == ["who"]), None), "the owner is known")
        owner.kill()
        side.produce([b"spare"])
    until(lambda: any("spare" in w.values() for w in ours.workers), "our spare takes over")
    until(lambda: stock.members() == 0, "the broker gives up stock's killed owner")

    assert sorted(w.alive for w in stock.workers) == [False, True], "the spare of stock is alive and nobody's member"
    assert not any("spare" in w.values() for w in stock.workers)


def test_a_worker_that_its_group_refused_comes_in_when_it_can(stock: Side, ours: Side) -> None:
    """faust #175: ConsumerThread._guard clears the coordinator's error. A rolling change of assignor does this."""
    for side in stock, ours:
        side.topic()
        side.produce([b"0"])
    strangers = [side.stranger() for side in (stock, ours)]
    for side in stock, ours:
        side.worker()
    until(lambda: ours.workers[0].said("InconsistentGroupProtocol"), "ours says that it was refused")
    until(lambda: stock.workers[0].said("InconsistentGroupProtocol"), "stock says that it was refused")

    for stranger in strangers:
        stranger.close()
    until(lambda: ours.workers[0].values() == ["0"], "ours works")

    assert stock.workers[0].alive
    assert stock.state() == "EMPTY", "nobody is in the group, and the worker of stock will never try again"
    assert stock.workers[0].values() == []


def test_a_worker_outside_its_group_for_too_long_ends(stock: Side, ours: Side) -> None:
    """ConsumerThread._guard: a session below the broker's minimum is refused for ever."""
    for side in stock, ours:
        side.topic()
        side.worker(session=0.5, patience=3.0)

    ended = until(lambda: ours.workers[0].process.poll(), "ours ends")

    assert ended == 1, "crashed: restart me"
    assert ours.workers[0].said("outside its consumer group for 3 s")
    assert stock.workers[0].alive
    assert stock.members() == 0


def test_a_commit_steps_over_all_offset_gaps_at_once(stock: Side, ours: Side) -> None:
    """Consumer._new_offset: transaction markers take offsets that are never delivered."""
    for side in stock, ours:
        side.topic()
        side.produce(numbers(8), transactional=True)  # 0, 2, 4, ... 14
        side.worker(commit_interval=600.0)

    commits = {}
    for side in stock, ours:
        worker = side.workers[0]
        until(lambda w=worker: w.offsets() == list(range(0, 16, 2)), "all records are done")
        while side.committed() < 15:
            n = len(worker.lines("commit"))
            worker.signal(signal.SIGHUP)
            until(lambda w=worker, n=n: len(w.lines("commit")) > n, "one commit is over")
        commits[side] = len(worker.lines("commit"))

    assert commits[ours] == 1
    assert commits[stock] >= 7, "one gap a commit"


async def test_the_producer_is_idempotent_and_waits_for_all_replicas(kafka: str) -> None:
    """Producer._settings_extra, as the settings reach AIOKafkaProducer and the broker."""
    numbered = {}
    for cls in faust.App, HardenedApp:
        producer = cls(f"producer-of-{cls.__name__}", broker=f"kafka://{kafka}", store="memory://").producer._new_producer()
        await producer.start()
        manager = producer._txn_manager
        numbered[cls] = manager is not None and manager.has_pid()
        assert producer._sender._acks == -1
        await producer.stop()

    assert numbered == {faust.App: False, HardenedApp: True}


def test_a_revocation_waits_only_so_long_for_what_is_in_flight(stock: Side, ours: Side) -> None:
    """Consumer.wait_empty: upstream waits without end while the whole group stands still."""
    for side in stock, ours:
        side.topic(partitions=2)
        side.produce([b"hang"])
        side.worker(hangs=True, revocation=0.5, bulk=side is ours)
    for side in stock, ours:
        until(lambda s=side: s.workers[0].values("start") == ["hang"], "a record is in flight")

    for side in stock, ours:
        side.worker(revocation=0.5, bulk=side is ours)
    until(lambda: stock.state() == "PREPARING_REBALANCING", "the second worker of stock asks to come in")
    until(lambda: ours.settled(2), "the second worker of ours is in")
    for side in stock, ours:
        side.produce([b"after"], partition=1)
    until(lambda: {"hang", "after"} <= {v for w in ours.workers for v in w.values()}, "ours goes on, both partitions")

    assert ours.workers[0].lines("rolled back") == [[True]]
    assert stock.state() == "PREPARING_REBALANCING", "stock still stands"
    assert [w.values() for w in stock.workers] == [[], []]


def test_a_refused_commit_ends_no_worker_and_is_made_up_for(stock: Side, ours: Side) -> None:
    """ConsumerThread._commit and Consumer._commit_offsets: upstream any error of a commit is fatal."""
    for side in stock, ours:
        side.topic()
        side.produce(numbers(5))
        side.worker(refused_commits=1)

    until(lambda: not stock.workers[0].alive, "the worker of stock ends")
    until(lambda: ours.committed() == 5, "ours commits again, without any new record")

    assert stock.workers[0].said("OffsetMetadataTooLarge")
    assert ours.workers[0].alive
    assert ours.workers[0].said("offsets not committed")
    assert ours.workers[0].values() == ["0", "1", "2", "3", "4"], "each once"


def test_chunks_are_of_one_partition_in_order_without_holes_and_within_limits(stock: Side, ours: Side) -> None:
    """Consumer._drain_messages, _deliver_all, _take."""
    for side in stock, ours:
        side.topic(partitions=3)
        side.produce(numbers(40), partition=0)
        side.produce([b"x" * 400] * 10 + [b"y" * 3000] + [b"z"] * 5, partition=1)
        side.produce(numbers(12), partition=2, transactional=True)
        side.worker(bulk=side is ours, chunk_limit=7, chunk_bytes=1000)
    worker = ours.workers[0]
    for side in stock, ours:
        until(lambda s=side: len(s.workers[0].values()) == 68, "all records are done")

    chunks = worker.lines("chunk")
    for partition, offsets in (0, list(range(40))), (1, list(range(16))), (2, list(range(0, 24, 2))):
        mine = [c[1:] for c in chunks if c[0] == partition]
        assert [o for _, _, within, _ in mine for o in within] == offsets
        assert mine[0][0] == 0
        assert all(earlier[1] == later[0] for earlier, later in pairwise(mine)), "no holes"
        assert all(start <= within[0] and within[-1] < end for start, end, within, _ in mine)
        assert all(len(within) <= 7 and (size <= 1000 or len(within) == 1) for _, _, within, size in mine)
    assert max(len(within) for _, _, _, within, _ in chunks) == 7
    assert stock.workers[0].lines("chunk") == [], "stock: a record at a time"


def test_partitions_begin_where_the_store_says_and_wait_while_it_says_nothing(
    stock: Side, ours: Side, tmp_path: Path
) -> None:
    """Consumer.perform_seek, _find_astray, reseek."""
    store = tmp_path / "offsets.json"
    store.write_text(json.dumps({0: 5}))
    for side in stock, ours:
        side.topic(partitions=2)
        side.produce(numbers(8), partition=0)
        side.produce(numbers(8), partition=1)
        side.worker(bulk=side is ours, offsets=str(store))
    worker = ours.workers[0]
    until(lambda: worker.offsets() == [5, 6, 7], "partition 0 begins where the store says")
    until(lambda: len(stock.workers[0].values()) == 16, "stock begins where Kafka's committed offset is")
    assert worker.offsets(partition=1) == [], "no offset, no delivery"

    store.write_text(json.dumps({0: 6, 1: 3}))
    until(lambda: worker.offsets(partition=1) == [3, 4, 5, 6, 7], "partition 1 begins as soon as it has an offset")
    ours.produce([b"refuse", b"9"])
    until(lambda: 9 in worker.offsets(), "the partition was sought and goes on")

    assert worker.offsets() == [5, 6, 7, 6, 7, 8, 9], "again from the store's offset, with what was refused"
    assert worker.offsets(partition=1) == [3, 4, 5, 6, 7], "the other partition is not disturbed"


def test_what_cannot_be_decoded_arrives(stock: Side, ours: Side) -> None:
    """Chunks hold raw records: upstream acks and drops what its codec refuses."""
    values = [b"1", b"\xff\xfe", None, b"not json", b"2"]
    for side in stock, ours:
        side.topic()
        side.produce(values)
    stock.worker(codec="json")
    ours.worker(bulk=True)

    until(lambda: len(ours.workers[0].values()) == 5, "ours gets all five")
    until(lambda: stock.committed() == 5, "stock is past all five")

    assert ours.workers[0].values() == ["1", "\\xff\\xfe", None, "not json", "2"]
    assert "not json" not in stock.workers[0].values()
    assert len(stock.workers[0].values()) < 5


async def test_a_stock_app_on_our_settings_shares_nothing_with_ours(kafka: str) -> None:
    """The comparison is fair: stock runs Faust's transport, ours runs ours."""
    stock = faust.App("stock", broker=f"kafka://{kafka}", store="memory://")
    ours = HardenedApp("ours", broker=f"kafka://{kafka}", store="memory://")

    assert type(stock.transport).__module__ == "faust.transport.drivers.aiokafka"
    assert type(ours.transport).__module__ == "skillcore_streams.adapters.kafka"
