"""Rows of one table of an SQLite database, read page by page with its write-ahead log.

Format: "Database File Format" and "WAL-mode File Format" of sqlite.org. Not SQLite itself: it would open
files, or take all of a hostile database into memory; here a page is in memory at a time, and a tree that
turns back on itself ends. What SQLite would ignore of a log (other salt, wrong sum, no commit) is ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import exactly

MAGIC = b"SQLite format 3\0"
WAL_VERSION = 3_007_000
MAX_LOG_BYTES = 64 * 1024 * 1024
MAX_ROW_BYTES = 17 * 1024 * 1024
LEAF, INTERIOR = 0x0D, 0x05
WAL_MODE = 2

Value = bytes | int | None


class Database:
    """The state that SQLite would see: the file, and over it the log's committed pages."""

    def __init__(self, content: BinaryIO, log: BinaryIO | None) -> None:
        """
        Raises:
            IncompleteError: it is no database, or not one that is read.
        """
        self._content = content
        start = exactly(content, 0, 100)
        if start[:16] != MAGIC:
            raise IncompleteError("it is no SQLite database")
        size = int.from_bytes(start[16:18], "big")
        self._page_size = 65_536 if size == 1 else size
        if self._page_size < 512 or self._page_size & (self._page_size - 1):
            raise IncompleteError("the size of its pages cannot be")
        self._usable = self._page_size - start[20]
        self._count = content.seek(0, 2) // self._page_size
        self._log = log
        self._logged: Mapping[int, int] = {}
        if log is not None and start[19] == WAL_MODE:
            self._logged, count = _committed(log, self._page_size)
            self._count = count or self._count
        if self._usable < 480:
            raise IncompleteError("the size of its pages cannot be")
        self._left = 0

    def rows(self, table: str) -> Iterator[tuple[Value, ...]]:
        """The rows of a table with an integer key, which itself is None here; in the order of the key.

        Raises:
            IncompleteError: there is no such table, or the database cannot be.
        """
        wanted = table.encode()
        for row in self._tree(1):
            if len(row) >= 4 and row[0] == b"table" and row[1] == wanted and isinstance(row[3], int):
                yield from self._tree(row[3])
                return
        raise IncompleteError(f"the database has no table {table}")

    def _page(self, number: int) -> bytes:
        # Each page belongs to one place of one tree.
        self._left -= 1
        if self._left < 0:
            raise IncompleteError("a tree of the database turns back on itself")
        if not 1 <= number <= self._count:
            raise IncompleteError("the database leads to a page that it has not")
        if self._log is not None and number in self._logged:
            return exactly(self._log, self._logged[number], self._page_size)
        return exactly(self._content, (number - 1) * self._page_size, self._page_size)

    def _tree(self, root: int) -> Iterator[tuple[Value, ...]]:
        self._left = self._count
        waiting = [root]
        while waiting:
            number = waiting.pop()
            page = self._page(number)
            at = 100 if number == 1 else 0
            kind, _, count = struct.unpack_from(">BHH", page, at)
            if kind == LEAF:
                for cell in struct.unpack_from(f">{count}H", page, at + 8):
                    yield _record(self._payload(page, cell))
            elif kind == INTERIOR:
                children = [
                    int.from_bytes(page[cell : cell + 4], "big")
                    for cell in struct.unpack_from(f">{count}H", page, at + 12)
                ]
                children.append(int.from_bytes(page[at + 8 : at + 12], "big"))
                waiting += reversed(children)
            else:
                raise IncompleteError("a page of the database is of no known kind")

    def _payload(self, page: bytes, cell: int) -> bytes:
        size, at = _varint(page, cell)
        _, at = _varint(page, at)
        most = self._usable - 35
        if size <= most:
            return _piece(page, at, size)
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self._usable - 4)
        local = local if local <= most else least
        if size > MAX_ROW_BYTES:
            raise IncompleteError(f"a row of the database is larger than {MAX_ROW_BYTES // 2**20} MiB")
        pieces = [_piece(page, at, local)]
        following = int.from_bytes(_piece(page, at + local, 4), "big")
        left = size - local
        while left > 0:
            page = self._page(following)
            piece = page[4 : 4 + min(left, self._usable - 4)]
            pieces.append(piece)
            left -= len(piece)
            following = int.from_bytes(page[:4], "big")
        return b"".join(pieces)


def _committed(log: BinaryIO, page_size: int) -> tuple[dict[int, int], int]:
    """Where in the log the newest committed state of each page is, and how many pages there are then."""
    total = log.seek(0, 2)
    if total > MAX_LOG_BYTES:
        raise IncompleteError(f"its write-ahead log is larger than {MAX_LOG_BYTES // 2**20} MiB")
    log.seek(0)
    head = log.read(32)
    if len(head) < 32:
        return {}, 0
    magic, version, size = struct.unpack_from(">III", head)
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(magic)
    if order is None or version != WAL_VERSION or size != page_size:
        return {}, 0
    sums = _sums(head[:24], (0, 0), order)
    if sums != struct.unpack_from(">II", head, 24):
        return {}, 0
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    count = 0
    for at in range(32, total - 24 - page_size + 1, 24 + page_size):
        frame = log.read(24 + page_size)
        number, after = struct.unpack_from(">II", frame)
        sums = _sums(frame[24:], _sums(frame[:8], sums, order), order)
        if frame[8:16] != head[16:24] or sums != struct.unpack_from(">II", frame, 16):
            break
        pending[number] = at + 24
        if after:
            committed.update(pending)
            pending.clear()
            count = after
    return committed, count


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _record(payload: bytes) -> tuple[Value, ...]:
    size, at = _varint(payload, 0)
    body = size
    values: list[Value] = []
    while at < size:
        kind, at = _varint(payload, at)
        length = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
        data = _piece(payload, body, length)
        body += length
        if kind >= 12:
            values.append(data)
        elif 1 <= kind <= 6:
            values.append(int.from_bytes(data, "big", signed=True))
        else:
            values.append({8: 0, 9: 1}.get(kind))
    return tuple(values)


def _piece(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IncompleteError("a row of the database is cut off")
    return data[at : at + size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(data[at : at + 9], 1):
        if index == 9:
            return number << 8 | byte, at + 9
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + index
    raise IncompleteError("a number in the database is cut off")
