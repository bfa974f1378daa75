"""Byte ranges: ``Range`` of a download (RFC 9110, 14) and ``Content-Range`` of an upload chunk
(distribution-spec, "Pushing a blob in chunks")."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import BlobUploadInvalidError, RangeInvalidError

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
MAX_RANGES = 1024


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1


def parse_range(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """The satisfiable ranges a ``Range`` header asks of ``size`` bytes; ``None`` means: send it whole.

    An unknown unit or a syntax error is ignored, as RFC 9110 14.2 says, except ``first > last``, which the
    conformance suite wants refused.

    Raises:
        RangeInvalidError: well-formed, but no part of it lies inside the content.
    """
    if header is None:
        return None
    unit, equals, rest = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    specs = [part.strip() for part in rest.split(",")]
    if len(specs) > MAX_RANGES:
        return None
    found = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or spec == "-" or len(spec) > 40:
            return None
        start, end = match.groups()
        if start and end and int(start) > int(end):
            raise RangeInvalidError(f"range {spec} starts after it ends", headers=_unsatisfied(size))
        if not start:
            first, last = max(size - int(end), 0), size - 1
            if int(end) == 0:
                continue
        else:
            first, last = int(start), min(int(end), size - 1) if end else size - 1
        if first <= last:
            found.append(ByteRange(first, last))
    if not found:
        raise RangeInvalidError(
            f"no byte of the range lies inside the {size} bytes", headers=_unsatisfied(size)
        )
    return tuple(found)


def parse_content_range(header: str) -> ByteRange:
    """The ``first-last`` of a chunk; no unit, no total.

    Raises:
        BlobUploadInvalidError: another form, or reversed.
    """
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise BlobUploadInvalidError(f"Content-Range {header[:80]!r} is not FIRST-LAST, as in 0-1023")
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise BlobUploadInvalidError(f"Content-Range {header[:80]} ends before it starts")
    return ByteRange(first, last)


def _unsatisfied(size: int) -> dict[str, str]:
    return {"Content-Range": f"bytes */{size}"}
