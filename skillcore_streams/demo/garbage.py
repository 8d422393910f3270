"""Records that no door should let in, one function's worth a kind, and what is expected to be said about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from skillcore_streams.runtime.outbox import Outgoing

KINDS = 16

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Garbage:
    """One bad record. `said`: words that the reason in the dead letters must hold."""

    kind: str
    said: str
    topic: str
    key: bytes | None
    headers: Headers
    value: bytes | None


def garbage(mark: Outgoing) -> Iterator[Garbage]:
    """Every kind, made from a good AttendanceMarked that Kafka has acknowledged.

    All but the conflict get an id of their own: none of them can be taken for a repeat of something good.
    """

    def bad(kind: str, said: str, value: bytes | None = mark.value, key: bytes | None = mark.key,
            drop: str = "", add: Headers | None = None, **attributes: bytes) -> Garbage:
        headers = dict(mark.headers) | {"ce_id": str(uuid4()).encode()} | attributes
        headers.pop(drop, None)
        return Garbage(kind, said, mark.topic, key, [*headers.items(), *(add or [])], value)

    good = mark.value or b""
    student = mark.key.decode()
    yield bad("truncated JSON", "invalid payload", good[: len(good) // 2])
    yield bad("not UTF-8", "invalid payload", good.replace(b'"code":"', b'"code":"\xff\xfe', 1))
    yield bad("not a number (NaN)", "invalid payload", good[:-1] + b',"minutes_missed":NaN}')
    yield bad("unknown category", "category", _with(good, b'"category":"', b'"category":"abducted-'))
    yield bad("a naive timestamp", "marked_at", _naive(good))
    yield bad("a string with NUL", "NUL", good.replace(b'"code":"', b'"code":"\\u0000', 1))
    yield bad("a tombstone", "tombstone", None)
    yield bad("more than 1 MiB", "at most", good[:-1] + b',"padding":"' + b"x" * (1 << 20) + b'"}')
    yield bad("no key", "wrong key", key=None)
    yield bad("another student's key", "wrong key", key=str(uuid4()).encode())
    yield bad("unknown event type", "unknown event type", ce_type=b"com.skillcore.attendance.StudentAbducted.v1")
    yield bad("a version not known yet", "unknown version", ce_type=b"com.skillcore.attendance.AttendanceMarked.v9")
    yield bad("no tenant", "tenantid", drop="ce_tenantid")
    yield bad("a header twice", "header name repeats", add=[("ce_source", b"/elsewhere")])
    yield Garbage("a legacy record without a tenant", "legacy", mark.topic, mark.key, [],
                  f'{{"type":"AttendanceMarked","data":{{"studentId":"{student}"}}}}'.encode())
    yield Garbage("a known id with another body", "conflict", mark.topic, mark.key, mark.headers,
                  _with(good, b'"code":"', b'"code":"changed: '))


def _with(value: bytes, before: bytes, after: bytes) -> bytes:
    if before not in value:
        raise ValueError(f"an AttendanceMarked without {before.decode()}")
    return value.replace(before, after, 1)


def _naive(value: bytes) -> bytes:
    """`marked_at` without its offset from UTC."""
    head, _, tail = value.partition(b'"marked_at":"')
    moment, _, rest = tail.partition(b'"')
    return head + b'"marked_at":"' + moment[:19] + b'"' + rest
