"""Numbers of settings that can be taken back, as people write them."""

from __future__ import annotations

from registry.errors import RequestInvalidError

_DIGITS_MAX = 11
"""Fewer than break anything; what is too much says the server."""


def parse_number_or_default(option: str, text: str) -> int | None:
    """A number; ``None`` for ``default``.

    Raises:
        RequestInvalidError: neither of them; the option is named.
    """
    if text == "default":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise RequestInvalidError(f"{option}: {text[:80]!r} is neither a number nor 'default'")
    return int(text)
