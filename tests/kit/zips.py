"""Zip files that no program writes."""

from __future__ import annotations

import struct


def nameless(archive: bytes) -> bytes:
    """The archive, whose first entry has no name in the directory any more: its letters count as extra."""
    at = archive.index(b"PK\1\2")
    length, extra = struct.unpack_from("<HH", archive, at + 28)
    return archive[: at + 28] + struct.pack("<HH", 0, extra + length) + archive[at + 32 :]
