"""S3 by aiobotocore: checksums both ways, no overwriting, parts for what is large.

A single PUT carries its SHA-256, which the store checks and keeps. S3 knows no SHA-256 of a whole object that came in
parts, so it is kept as metadata beside the parts' own checksums; whoever must be sure reads the object back.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import quote

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from skillcore_streams.runtime.objects import Missing, ObjectStore, Stored, StoreError, Taken, digest

PART_SIZE = 8 << 20
"""Bytes of a part, and of the largest object that is sent whole. S3's smallest part is 5 MiB."""

CONCURRENCY = 3
"""Parts under way at once."""

SHA256 = "sha256"
"""Name of the metadata that holds the whole object's checksum."""

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
OCCUPIED = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})

Encryption = Literal["AES256", "aws:kms"]


class S3Store(ObjectStore):
    """One bucket. Connects when it is first used.

    Args:
        url: another end point than AWS's.
        encryption: how the store is to encrypt at rest; None: as the bucket says.
        kms_key: of `aws:kms`; None: the account's own.
    """

    def __init__(
        self,
        bucket: str,
        *,
        url: str | None = None,
        region: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
        encryption: Encryption | None = None,
        kms_key: str | None = None,
        part_size: int = PART_SIZE,
    ) -> None:
        self.bucket = bucket
        self._part_size = part_size
        self._how = {
            "endpoint_url": url,
            "region_name": region,
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "config": AioConfig(
                connect_timeout=5,
                read_timeout=30,
                signature_version="s3v4",
                retries={"mode": "standard", "max_attempts": 3},
                s3={"addressing_style": "path" if url else "auto"},
            ),
        }
        self._at_rest: dict[str, str] = {"ServerSideEncryption": encryption} if encryption else {}
        if kms_key is not None:
            self._at_rest["SSEKMSKeyId"] = kms_key
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    async def close(self) -> None:
        """Close what is open."""
        await self._open.aclose()
        self._client = None

    async def put(self, key: str, body: bytes, media_type: str) -> Stored:
        """Write an object once. See ObjectStore."""
        stored = Stored(key, len(body), digest(body))
        try:
            if len(body) <= self._part_size:
                async with self._asking("put") as s3:
                    await s3.put_object(
                        Bucket=self.bucket, Key=key, Body=body, ContentType=media_type, IfNoneMatch="*",
                        ChecksumSHA256=_base64(body), Metadata={SHA256: stored.sha256}, **self._at_rest,
                    )
            else:
                await self._put_in_parts(stored, body, media_type)
        except Taken:
            if await self.head(key) != stored:
                raise
        return stored

    async def _put_in_parts(self, stored: Stored, body: bytes, media_type: str) -> None:
        target = {"Bucket": self.bucket, "Key": stored.key}
        async with self._asking("begin an upload") as s3:
            upload = await s3.create_multipart_upload(
                **target, ContentType=media_type, ChecksumAlgorithm="SHA256", Metadata={SHA256: stored.sha256},
                **self._at_rest,
            )
        target["UploadId"] = upload["UploadId"]
        turn = asyncio.Semaphore(CONCURRENCY)

        async def send(n: int, part: bytes) -> dict[str, Any]:
            async with turn, self._asking("put a part") as s3:
                said = await s3.upload_part(**target, PartNumber=n, Body=part, ChecksumSHA256=_base64(part))
                return {"PartNumber": n, "ETag": said["ETag"], "ChecksumSHA256": _base64(part)}

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(send(n, body[at : at + self._part_size]))
                    for n, at in enumerate(range(0, len(body), self._part_size), start=1)
                ]
            async with self._asking("end an upload") as s3:
                await s3.complete_multipart_upload(
                    **target, IfNoneMatch="*", MultipartUpload={"Parts": [task.result() for task in tasks]}
                )
        except BaseException as error:
            async with asyncio.timeout(10), self._asking("drop an upload") as s3:
                await s3.abort_multipart_upload(**target)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise

    async def head(self, key: str) -> Stored | None:
        """Size and checksum as the store has them: its own of an object that came whole, else what was noted."""
        try:
            async with self._asking("look") as s3:
                said = await s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except Missing:
            return None
        checked = said.get("ChecksumSHA256", "")
        noted = said["Metadata"].get(SHA256, "")
        in_parts = "-" in said["ETag"]  # its checksum is one of the parts' checksums
        known = noted if in_parts or not checked else b64decode(checked).hex()
        return Stored(key, said["ContentLength"], known)

    async def get(self, key: str) -> bytes:
        """An object's content. See ObjectStore."""
        async with self._asking("read") as s3:
            said = await s3.get_object(Bucket=self.bucket, Key=key)
            async with said["Body"] as stream:
                content: bytes = await stream.read()
                return content

    async def keys(self, prefix: str) -> Sequence[str]:
        """All keys that begin with this, in order."""
        async with self._asking("list") as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return sorted([item["Key"] async for page in pages for item in page.get("Contents", ())])

    async def link(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """A presigned GET. See ObjectStore."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-") else "_" for c in file_name) or "file"
        shown = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
        async with self._asking("sign") as s3:
            address: str = await s3.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket, "Key": key, "ResponseContentDisposition": shown},
                ExpiresIn=int(lifetime.total_seconds()),
            )
            return address

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[Any]:
        """The client, with its errors translated: their texts quote keys and hosts."""
        try:
            yield await self._connected()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in ABSENT:
                raise Missing(f"S3: no such object to {what}") from None
            if code in OCCUPIED:
                raise Taken("S3: the key is taken") from None
            raise StoreError(f"S3 answered {code} when asked to {what}") from None
        except (BotoCoreError, OSError) as error:
            raise StoreError(f"S3 could not be asked to {what}: {type(error).__name__}") from None

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._open.enter_async_context(_session().create_client("s3", **self._how))
        return self._client


@cache
def _session() -> Any:
    """One for all: it reads S3's whole description, once."""
    return get_session()


def _base64(body: bytes) -> str:
    return b64encode(sha256(body).digest()).decode()
