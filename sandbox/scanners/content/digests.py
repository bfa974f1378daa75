"""The digests by which distributions' packages state the files that they brought."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from sandbox.scanners.facts import STATED


def digests_of(content: BinaryIO) -> tuple[str, ...]:
    """What a package may state of a whole file (:attr:`sandbox.scanners.facts.Owned.digest`): dpkg by MD5,
    apk by SHA-1, rpm by any. It tells what is unchanged, and proves nothing: a part of each is enough."""
    content.seek(0)
    digests = [hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")]
    while piece := content.read(1024 * 1024):
        for digest in digests:
            digest.update(piece)
    return tuple(digest.hexdigest()[:STATED] for digest in digests)
