"""Sizes as people type them: ``500MB``, ``20GiB``, or a number of bytes."""

from __future__ import annotations

import re
from types import MappingProxyType

from registry.errors import RequestInvalidError

_SIZE = re.compile(r"([0-9]{1,15})([KMGT]i?B|B)?")
_SHARE = re.compile(r"([0-9]{1,3})%")
_FACTORS = MappingProxyType(
    {"B": 1}
    | {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
    | {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
)


def parse_size_bytes(text: str) -> int:
    """Bytes of a size.

    Raises:
        RequestInvalidError: not of that form.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RequestInvalidError(f"{text[:80]!r} is not a size: a number and a unit, as in 500MB or 20GiB")
    factor: int = _FACTORS[match[2] or "B"]
    return int(match[1]) * factor


def parse_share_bytes(text: str, whole_bytes: int) -> int:
    """Bytes of a size, or of a share of ``whole_bytes`` such as ``30%``.

    Raises:
        RequestInvalidError: neither.
    """
    share = _SHARE.fullmatch(text)
    if share is not None and int(share[1]) <= 100:
        return whole_bytes * int(share[1]) // 100
    return parse_size_bytes(text)


def shown_size(size_bytes: int) -> str:
    """A number of bytes for people, as in ``2.0 GiB``."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{size_bytes} B"
