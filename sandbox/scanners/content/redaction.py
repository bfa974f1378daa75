"""How a secret is shown: enough to recognise it by whoever has it, nothing for whoever has not."""

from __future__ import annotations

SHOWN_FROM = 16
"""Characters. Of a shorter secret only the length is told."""


def redacted(secret: bytes) -> str:
    """At most the first four and the last two characters, and the length."""
    length = f"({len(secret)} characters)"
    if len(secret) < SHOWN_FROM:
        return length
    return f"{_printable(secret[:4])}…{_printable(secret[-2:])} {length}"


def shown(found: bytes, *, limit: int = 100) -> str:
    """The beginning of what is no secret, on one line."""
    return _printable(found[:limit]) + ("…" if len(found) > limit else "")


def _printable(raw: bytes) -> str:
    return "".join(chr(one) if 0x20 <= one < 0x7F else "·" for one in raw)
