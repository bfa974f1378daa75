"""Signatures of webhooks: ours, as Standard Webhooks has them (HMAC-SHA256 over id, time and body), and those
of others, which are checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from secrets import token_bytes
from typing import TYPE_CHECKING, Literal

from registry.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


Scheme = Literal["standard", "github", "gitlab", "bearer"]
TOLERANCE_SECONDS = 300
NOT_SIGNED = (
    "the message is not signed with this hook's secret, or lacks a header of its scheme, such as webhook-id, "
    "webhook-timestamp and webhook-signature"
)
"""The same words whatever is wrong, also where there is no such hook: they tell nobody which there are."""
_MESSAGE_ID_MAX = 200
_SIGNATURES_MAX = 10


def verify(
    scheme: Scheme, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float
) -> str:
    """Check who sent a message; what it is told apart from others by: its id where the signature covers one,
    else the digest of its body. ``now`` is in seconds since 1970; ``headers`` may be asked in any case.

    ``standard``: Standard Webhooks. ``github``: ``X-Hub-Signature-256``. ``gitlab``: ``X-Gitlab-Token``.
    ``bearer``: ``Authorization: Bearer``.

    Raises:
        UnauthorizedError: it was not signed with one of the secrets, or too long ago.
    """
    made: Sequence[str] = secrets
    if scheme == "standard":
        return _verify_standard(secrets, headers, body, now)
    if scheme == "github":
        given = headers.get("X-Hub-Signature-256", "")
        made = ["sha256=" + hmac.digest(each.encode(), body, "sha256").hex() for each in secrets]
    elif scheme == "gitlab":
        given = headers.get("X-Gitlab-Token", "")
    else:
        given = headers.get("Authorization", "").removeprefix("Bearer ")
    if not any(_is_same(given, each) for each in made):
        raise UnauthorizedError(NOT_SIGNED)
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _verify_standard(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> str:
    message_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split(" ")[:_SIGNATURES_MAX]
    # Any byte of a header may have come, also what is no text.
    is_id = message_id.isascii() and message_id.isprintable() and 1 <= len(message_id) <= _MESSAGE_ID_MAX
    if not is_id or not (at.isascii() and at.isdigit() and len(at) < 12):
        raise UnauthorizedError(NOT_SIGNED)
    made = [sign(secret, message_id, int(at), body) for secret in secrets]
    if not any(_is_same(one, other) for one in given for other in made):
        raise UnauthorizedError(NOT_SIGNED)
    if abs(now - int(at)) > TOLERANCE_SECONDS:
        raise UnauthorizedError(
            f"the message was signed {now - int(at):.0f} seconds ago; {TOLERANCE_SECONDS} are the limit"
        )
    return f"id:{message_id}"


def _is_same(given: str, made: str) -> bool:
    # As bytes: what is not ASCII would raise.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), made.encode())
