"""The digest by which a distribution's package states the files that it brought."""

from __future__ import annotations

import hashlib
from typing import BinaryIO


def md5_of(content: BinaryIO) -> str:
    """MD5 of a whole file, in hex. It tells what is unchanged, and proves nothing."""
    content.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := content.read(1024 * 1024):
        digest.update(piece)
    return digest.hexdigest()
