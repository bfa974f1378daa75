"""The two other files in which rpm keeps its headers: SUSE's "ndb", and hash tables of Berkeley DB.

Formats: rpm's lib/backend/ndb/rpmpkg.c, and Berkeley DB's dbinc/db_page.h. Both are walked from their first
page to their last; nothing is looked up, so no pointer is followed but to the pieces of one header. All
headers together cannot be larger than the file: one that leads again to the same place ends there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import exactly
from sandbox.scanners.packages.rpmheader import MAX_BYTES

NDB_PAGE_BYTES = 4096
NDB_BLOCK_BYTES = 16
NDB_MAX_PAGES = 4096
"""Of slots: a million packages."""

BDB_HASH = 0x00061561
BDB_PAGE = "8sIIIHHBB"
HASH_PAGES = frozenset({2, 13})
OVERFLOW_PAGE = 7
ON_PAGE, OFF_PAGE = 1, 3


def ndb_headers(content: BinaryIO) -> Iterator[bytes]:
    """Each header of a Packages.db.

    Raises:
        IncompleteError: it is none, or lies.
    """
    magic, version, _, pages = struct.unpack("<4sIII", exactly(content, 0, 16))
    if magic != b"RpmP" or version != 0:
        raise IncompleteError("it is no rpm database of the kind ndb")
    if pages > NDB_MAX_PAGES:
        raise IncompleteError("the rpm database has too many slots")
    left = content.seek(0, 2)
    for page in range(pages):
        slots = exactly(content, page * NDB_PAGE_BYTES, NDB_PAGE_BYTES)
        # The first two places are the head of the file.
        for slot in range(2 if page == 0 else 0, NDB_PAGE_BYTES // 16):
            mark, package, block, _ = struct.unpack_from("<4sIII", slots, slot * 16)
            if mark != b"Slot":
                raise IncompleteError("a slot of the rpm database is none")
            if package:
                blob = _ndb_blob(content, package, block * NDB_BLOCK_BYTES)
                left = _spent(left, blob)
                yield blob


def _ndb_blob(content: BinaryIO, package: int, offset: int) -> bytes:
    mark, number, _, size = struct.unpack("<4sIII", exactly(content, offset, 16))
    if mark != b"BlbS" or number != package or size > MAX_BYTES:
        raise IncompleteError("a header in the rpm database is not where its slot says")
    return exactly(content, offset + 16, size)


def bdb_headers(content: BinaryIO) -> Iterator[bytes]:
    """Each header of a Packages that is a hash table of Berkeley DB.

    Raises:
        IncompleteError: it is none, or lies.
    """
    start = exactly(content, 0, 72)
    order = next((order for order in "<>" if struct.unpack_from(order + "I", start, 12)[0] == BDB_HASH), "")
    if not order:
        raise IncompleteError("it is no rpm database of Berkeley DB")
    size, last = struct.unpack_from(order + "I", start, 20)[0], struct.unpack_from(order + "I", start, 32)[0]
    if start[24]:
        raise IncompleteError("the rpm database is encrypted")
    if not 512 <= size <= 65_536 or size & (size - 1) or last > content.seek(0, 2) // size:
        raise IncompleteError("the pages of the rpm database cannot be")
    left = content.seek(0, 2)
    head = struct.Struct(order + BDB_PAGE)
    for number in range(1, last + 1):
        page = exactly(content, number * size, size)
        entries, kind = head.unpack_from(page)[4], head.unpack_from(page)[7]
        if kind in HASH_PAGES:
            if head.size + 2 * entries > size:
                raise IncompleteError("a page of the rpm database cannot be")
            places = struct.unpack_from(f"{order}{entries}H", page, head.size)
            for key, value in zip(places[::2], places[1::2], strict=False):
                for blob in _bdb_value(content, page[value:key], order=order, head=head, page_size=size):
                    left = _spent(left, blob)
                    yield blob


def _bdb_value(
    content: BinaryIO, item: bytes, *, order: str, head: struct.Struct, page_size: int
) -> Iterator[bytes]:
    # A value of four bytes is the next free number.
    if item[:1] == bytes([ON_PAGE]) and len(item) > 5:
        yield item[1:]
    elif item[:1] == bytes([OFF_PAGE]) and len(item) >= 12:
        following, size = struct.unpack_from(order + "II", item, 4)
        if size > MAX_BYTES:
            raise IncompleteError(f"a header in the rpm database is larger than {MAX_BYTES // 2**20} MiB")
        blob = bytearray()
        while len(blob) < size:
            page = exactly(content, following * page_size, page_size)
            *_, following, _, used, _, kind = head.unpack_from(page)
            if kind != OVERFLOW_PAGE or not 0 < used <= page_size - head.size:
                raise IncompleteError("a header in the rpm database is not where its page says")
            blob += page[head.size : head.size + used]
        yield bytes(blob[:size])
    elif item[:1] not in (bytes([ON_PAGE]), b""):
        raise IncompleteError("a value in the rpm database is of no known kind")


def _spent(left: int, blob: bytes) -> int:
    if len(blob) > left:
        raise IncompleteError("headers in the rpm database lie in the same place")
    return left - len(blob)
