"""Digests: ``algorithm:encoded`` (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import DigestInvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_LOWER_HEX = re.compile(r"[0-9a-f]+")
MAX_LENGTH = 256

ALGORITHMS: Mapping[str, int] = MappingProxyType({"sha256": 64, "sha512": 128})
"""Algorithms that content is stored under, with the length of their encoded part."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A well-formed digest; ``str()`` gives its wire form."""

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    @property
    def supported(self) -> bool:
        """Whether content can be stored and verified under this algorithm."""
        return self.algorithm in ALGORITHMS


def parse_digest(text: str) -> Digest:
    """Parse a digest of any algorithm, as descriptors inside manifests may carry.

    Raises:
        DigestInvalidError: outside the grammar, or sha256/sha512 with a wrong length or upper-case hex.
    """
    match = _GRAMMAR.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise DigestInvalidError(f"{_shown(text)} is not a digest (algorithm:encoded)")
    algorithm, encoded = match.groups()
    length = ALGORITHMS.get(algorithm)
    if length is not None and (len(encoded) != length or not _LOWER_HEX.fullmatch(encoded)):
        raise DigestInvalidError(f"a {algorithm} digest has {length} lower-case hex digits: {_shown(text)}")
    return Digest(algorithm, encoded)


def parse_content_digest(text: str) -> Digest:
    """Parse a digest that names stored content, so its algorithm must be one of :data:`ALGORITHMS`.

    Raises:
        DigestInvalidError: malformed, or an algorithm that this registry does not compute.
    """
    digest = parse_digest(text)
    if not digest.supported:
        raise DigestInvalidError(
            f"digest algorithm {digest.algorithm} is not supported; use sha256 or sha512"
        )
    return digest


def digest_of(content: bytes, algorithm: str = "sha256") -> Digest:
    """Digest of ``content`` under one of :data:`ALGORITHMS`."""
    if algorithm not in ALGORITHMS:
        raise DigestInvalidError(f"digest algorithm {algorithm} is not supported; use sha256 or sha512")
    return Digest(algorithm, hashlib.new(algorithm, content, usedforsecurity=True).hexdigest())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
