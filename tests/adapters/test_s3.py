"""One contract for object stores, run on S3 as moto speaks it and on the one in memory that other tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from skillcore_streams.adapters.s3 import S3Store
from skillcore_streams.runtime.objects import Damaged, Missing, ObjectStore, Stored, StoreError, Taken, object_key
from skillcore_streams.testing import MemoryStore

PART = 5 << 20
PLAIN = "text/plain"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Address of an S3."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@asynccontextmanager
async def bucket(moto: str) -> AsyncIterator[S3Store]:
    """An empty one."""
    store = S3Store("archive", url=moto, access_key="x", secret_key="x", encryption="AES256", part_size=PART)
    try:
        client = await store._connected()
        await client.create_bucket(Bucket="archive")
        for key in await store.keys(""):
            await client.delete_object(Bucket="archive", Key=key)
        yield store
    finally:
        await store.close()


@pytest.fixture
async def s3(moto: str) -> AsyncIterator[S3Store]:
    async with bucket(moto) as made:
        yield made


@pytest.fixture(params=["s3", "memory"])
async def store(request: pytest.FixtureRequest, moto: str) -> AsyncIterator[ObjectStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        async with bucket(moto) as made:
            yield made


@pytest.mark.parametrize("size", [0, 1, 100_000, PART, PART + 1, 2 * PART + 7])
async def test_what_was_put_is_what_is_read_whole_or_in_parts(store: ObjectStore, size: int) -> None:
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    stored = await store.put("a/b", body, PLAIN)

    assert stored == Stored("a/b", size, sha256(body).hexdigest())
    assert await store.head("a/b") == stored
    assert await store.read(stored) == body


@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_the_same_content_again_changes_nothing_and_other_content_is_refused(
    store: ObjectStore, size: int
) -> None:
    first = await store.put("a", b"x" * size, PLAIN)

    assert await store.put("a", b"x" * size, PLAIN) == first
    with pytest.raises(Taken):
        await store.put("a", b"y" * size, PLAIN)
    assert await store.read(first) == b"x" * size


async def test_what_is_not_there_is_none_or_missing(store: ObjectStore) -> None:
    assert await store.head("nothing") is None
    with pytest.raises(Missing):
        await store.get("nothing")


async def test_another_size_or_checksum_is_damage(store: ObjectStore) -> None:
    stored = await store.put("a", b"abc", PLAIN)

    with pytest.raises(Damaged):
        await store.read(Stored("a", 4, stored.sha256))
    with pytest.raises(Damaged):
        await store.read(Stored("a", 3, sha256(b"abd").hexdigest()))


async def test_keys_are_listed_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ("p/2", "p/1", "q/1", "p/%2E%2E"):
        await store.put(key, b"", PLAIN)

    assert await store.keys("p/") == ["p/%2E%2E", "p/1", "p/2"]
    assert await store.keys("nothing") == []


async def test_a_link_reads_the_object_for_a_while_under_a_harmless_name(s3: S3Store) -> None:
    await s3.put("a", b"abc", "application/pdf")

    link = await s3.link("a", timedelta(minutes=5), 'José"\r\nx: y/../card.pdf')

    async with aiohttp.ClientSession() as session, session.get(link) as answer:
        assert (answer.status, await answer.read()) == (200, b"abc")
        assert answer.headers["content-type"] == "application/pdf"
        assert "X-Amz-Expires=300" in link
        assert "x" not in answer.headers


async def test_objects_are_encrypted_at_rest_as_the_setting_says(s3: S3Store) -> None:
    await s3.put("a", b"abc", PLAIN)
    await s3.put("b", b"a" * (PART + 1), PLAIN)

    client = await s3._connected()
    for key in "ab":
        assert (await client.head_object(Bucket="archive", Key=key))["ServerSideEncryption"] == "AES256"


async def test_a_bucket_that_is_not_there_is_an_error_without_a_key_in_it(moto: str) -> None:
    store = S3Store("no-such-bucket", url=moto, access_key="x", secret_key="x")
    try:
        with pytest.raises(StoreError, match="S3 answered NoSuchBucket when asked to put"):
            await store.put("a/student", b"abc", PLAIN)
    finally:
        await store.close()


async def test_a_store_that_is_away_is_an_error_without_a_host_in_it() -> None:
    store = S3Store("archive", url="http://127.0.0.1:9", access_key="x", secret_key="x")
    try:
        with pytest.raises(StoreError) as error:
            await store.head("a/student")
        assert "127.0.0.1" not in str(error.value)
        assert "student" not in str(error.value)
    finally:
        await store.close()


async def test_an_upload_that_fails_leaves_no_parts_behind(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await s3._connected()
    whole = client.upload_part

    async def upload_part(**said: object) -> object:
        if said["PartNumber"] == 2:
            raise OSError("the network is gone")
        return await whole(**said)

    monkeypatch.setattr(client, "upload_part", upload_part)
    with pytest.raises(StoreError):
        await s3.put("a", b"x" * (3 * PART), PLAIN)

    assert await s3.head("a") is None
    assert (await client.list_multipart_uploads(Bucket="archive")).get("Uploads", []) == []


HOSTILE = ["../../etc/passwd", "C:\\", "a" * 4096, "\u202egnp.exe", "..", ".", "a/b", "\ud800", "%2E", "=HYPERLINK()"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_one_level_of_a_key(name: str) -> None:
    key = object_key("reports", name, "x.pdf")

    head, middle, tail = key.split("/")
    assert (head, tail) == ("reports", "x.pdf")
    assert middle not in ("", ".", "..")
    assert middle.isascii()
    assert len(key) <= 1024


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_different_parts_make_different_keys(one: list[str], other: list[str]) -> None:
    assert (object_key(*one) == object_key(*other)) == (one == other)


def test_an_empty_part_or_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        object_key("a", "")
    with pytest.raises(ValueError, match="too long"):
        object_key(*["a" * 200] * 6)
