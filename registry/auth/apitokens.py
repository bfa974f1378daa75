"""API tokens as text: ``seatrial_``, 256 random bits, a checksum.

The prefix lets secret scanners find a leaked one; the checksum tells a mistyped one without a look-up. At
rest there is only the SHA-256: so many random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib

PREFIX = "seatrial_"
REFRESH_PREFIX = "seatrialrt_"
"""Of refresh tokens, which have the same form."""
_DIGITS = string.digits + string.ascii_letters
_RANDOM_DIGITS = 43
_CHECKSUM_DIGITS = 6


def new_token(prefix: str = PREFIX) -> str:
    """A new secret. Nobody can read it again later."""
    return token_from(secrets.token_bytes(32), prefix)


def token_from(secret: bytes, prefix: str = PREFIX) -> str:
    """The token that 256 secret bits make; the same ones make the same."""
    random = _base62(int.from_bytes(secret, "big"), _RANDOM_DIGITS)
    return prefix + random + _checksum(random)


def looks_like_api_token(text: str) -> bool:
    """Whether this is meant as an API token, valid or not."""
    return text.startswith(PREFIX)


def is_token(text: str, prefix: str = PREFIX) -> bool:
    """Whether form and checksum are right."""
    rest = text.removeprefix(prefix)
    if rest == text or len(rest) != _RANDOM_DIGITS + _CHECKSUM_DIGITS or not rest.isascii():
        return False
    return rest.isalnum() and rest[_RANDOM_DIGITS:] == _checksum(rest[:_RANDOM_DIGITS])


def token_hash(text: str) -> str:
    """What the database holds of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(random: str) -> str:
    return _base62(zlib.crc32(random.encode()), _CHECKSUM_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text
