"""Signatures as Standard Webhooks has them: HMAC-SHA256 over id, time and body (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hmac
from secrets import token_bytes

PREFIX = "whsec_"
_SECRET_BYTES = 32
_LEAST_BYTES, _MOST_BYTES = 24, 64


def make_secret() -> str:
    """A new secret, as both sides keep it."""
    return PREFIX + base64.b64encode(token_bytes(_SECRET_BYTES)).decode()


def parse_secret(text: str) -> bytes:
    """The key of a secret.

    Raises:
        ValueError: not ``whsec_`` and 24 to 64 bytes in base64.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"a secret is {PREFIX} and {_LEAST_BYTES} to {_MOST_BYTES} bytes in base64")
    return key


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, ``v1,…``; ``timestamp`` is in seconds since 1970."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(parse_secret(secret), signed, "sha256")).decode()
