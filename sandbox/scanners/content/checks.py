"""What a rule's pattern cannot say of a secret: checksums, placeholders, how random it is. Pure.

A check gets the bytes that a rule matched, and gives the secret in them, or None where it is a decoy: an
example of the documentation, a placeholder, a word.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import types
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sandbox.scanners.facts import Severity


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in what was matched; ``severity`` where it is not that of the rule, ``note`` why."""

    value: bytes
    severity: Severity | None = None
    note: str = ""


Check = Callable[[bytes], Secret | None]

_PLACEHOLDER = re.compile(
    rb"\$[({]?[A-Za-z_]|\{\{|%\(|%[A-Za-z_]+%|[<>]|\*{3}|\.{3}|x{4}|example|placeholder|change.?me"
    rb"|your[_-]|dummy|redacted|fixme|foobar|sample|invalid|not.?a.?real|0123456789|123456789a|abcdefgh",
    re.IGNORECASE,
)
# What stands for a password in the documentation of programs.
_WORDS = frozenset(
    (
        b"admin changeit default guest hunter2 none null pass passw0rd passwd password postgres pw pwd root"
        b" secret sekrit tiger user username %s {} mypass mypassword secretpassword password123 test"
    ).split()
)
_EXAMPLE_HOSTS = re.compile(
    rb"@([a-z0-9\-]+\.)*(example(\.(com|org|net))?|test|invalid|host|hostname|server)$"
)
_BASE62 = (
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
)
_SIGNATURE_BYTES = {
    "HS256": 32,
    "HS384": 48,
    "HS512": 64,
    "ES256": 64,
    "ES384": 96,
    "ES512": 132,
    "EdDSA": 64,
}
_ASSIGNMENT = re.compile(rb"[:=]>?\s*[\"']?")
_WRONG_CHECKSUM = "its checksum is wrong, so it is made up or mistyped"


def entropy(value: bytes) -> float:
    """Bits a character, by how often each occurs in it."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def is_placeholder(value: bytes) -> bool:
    """Whether it says itself that it is none."""
    return (len(value) >= 8 and len(set(value)) < 3) or _PLACEHOLDER.search(value) is not None


def _random(match: bytes) -> Secret | None:
    return Secret(match) if entropy(match) >= 3.0 and not is_placeholder(match) else None


def _mixed(match: bytes) -> Secret | None:
    kinds = sum(re.search(kind, match) is not None for kind in (rb"[a-z]", rb"[A-Z]", rb"[0-9]"))
    return _random(match) if kinds >= 2 and entropy(match) >= 3.5 else None


def _crc32_base62(match: bytes) -> Secret | None:
    """GitHub's and npm's: the last six characters are the CRC-32 of the thirty before, in base 62."""
    if (secret := _random(match)) is None:
        return None
    body, given = match[-36:-6], match[-6:]
    if any(base62(zlib.crc32(body), alphabet) == given for alphabet in _BASE62):
        return secret
    return Secret(match, "low", _WRONG_CHECKSUM)


def base62(number: int, alphabet: bytes = _BASE62[0]) -> bytes:
    """Six digits."""
    digits = bytearray()
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(alphabet[digit])
    return bytes(reversed(digits))


def _private_key(match: bytes) -> Secret | None:
    header, _, rest = match.partition(b"KEY")
    body = rest.partition(b"-----END")[0].replace(b"\\r", b"").replace(b"\\n", b"\n")
    lines = [line.strip() for line in body.splitlines()]
    # Neither the rest of the first line, nor headers (RFC 1421), nor a checksum of PGP.
    value = b"".join(one for one in lines if re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", one))
    if len(value) < 64 or entropy(value) < 4.0 or is_placeholder(value):
        return None
    if b"ENCRYPTED" in header or b"ENCRYPTED" in body[:200]:
        return Secret(value, "low", "it is encrypted")
    return Secret(value)


def _assigned(match: bytes) -> Secret | None:
    """What stands behind the first ``=`` or ``:``."""
    parts = _ASSIGNMENT.split(match, maxsplit=1)
    value = parts[-1].strip(b" \t\r\n\"'")
    if len(parts) == 1 or not value or is_placeholder(value) or value.lower() in _WORDS:
        return None
    return Secret(value)


def _aws_secret(match: bytes) -> Secret | None:
    secret = _assigned(match)
    return secret if secret and entropy(secret.value) >= 4.0 else None


def _last_word(match: bytes) -> Secret | None:
    value = re.split(rb"[\s=\"']|/bot|: ?(?=[0-9])", match)[-1]
    return Secret(value) if value.lower() not in _WORDS and value and not is_placeholder(value) else None


def _docker_auth(match: bytes) -> Secret | None:
    value = match.split(b'"')[3]
    try:
        user, colon, password = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True).partition(
            b":"
        )
    except binascii.Error:
        return None
    if not (user and colon and len(password) >= 3 and (user + password).isascii()):
        return None
    return None if is_placeholder(password) or password.lower() in _WORDS else Secret(value)


def _pypi(match: bytes) -> Secret | None:
    """A macaroon of version 2 that names PyPI."""
    opened = _unbase64(match.removeprefix(b"pypi-"))
    return Secret(match) if opened[:1] == b"\x02" and b"pypi.org" in opened[:40] else None


def _unbase64(value: bytes) -> bytes:
    value = value[: len(value) - (len(value) % 4 == 1)]
    return base64.urlsafe_b64decode(value + b"=" * (-len(value) % 4))


def _jwt(match: bytes) -> Secret | None:
    """Header and payload are JSON objects, and the signature has the length of its algorithm."""
    head, payload, signature = match.split(b".")
    try:
        header, claims = (json.loads(_unbase64(part)) for part in (head, payload))
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    length, algorithm = len(_unbase64(signature)), header.get("alg")
    if not isinstance(algorithm, str) or length != _SIGNATURE_BYTES.get(algorithm, length):
        return None
    if algorithm[:2] in ("RS", "PS") and length < 128:
        return None
    # The examples of jwt.io, and all that is made from them.
    return None if claims.get("sub") == "1234567890" or claims.get("name") == "John Doe" else Secret(match)


def _url_password(match: bytes) -> Secret | None:
    password = match.partition(b"://")[2].rpartition(b"@")[0].partition(b":")[2]
    if password.lower() in _WORDS or is_placeholder(password) or _EXAMPLE_HOSTS.search(match.lower()):
        return None
    # Braces and percent signs are what templates are made of.
    return None if re.search(rb"[{}]|^%|^\$|^:", password) else Secret(password)


def _strong_url_password(match: bytes) -> Secret | None:
    secret = _url_password(match)
    return secret if secret and entropy(secret.value) >= 3.0 and re.search(rb"[0-9]", secret.value) else None


def _authorization(match: bytes) -> Secret | None:
    value = match.split()[-1]
    return Secret(value) if entropy(value) >= 3.0 and not is_placeholder(value) else None


def _high_entropy(match: bytes) -> Secret | None:
    secret = _assigned(match)
    if secret is None or entropy(secret.value) < 3.7 or b"/" in secret.value[:1]:
        return None
    kinds = (rb"[a-z]", rb"[A-Z]", rb"[0-9]")
    return secret if sum(re.search(kind, secret.value) is not None for kind in kinds) == 3 else None


CHECKS: Mapping[str, Check] = types.MappingProxyType(
    {
        "random": _random,
        "mixed": _mixed,
        "crc32_base62": _crc32_base62,
        "private_key": _private_key,
        "assigned": _assigned,
        "aws_secret": _aws_secret,
        "last_word": _last_word,
        "docker_auth": _docker_auth,
        "pypi": _pypi,
        "jwt": _jwt,
        "url_password": _url_password,
        "strong_url_password": _strong_url_password,
        "authorization": _authorization,
        "high_entropy": _high_entropy,
    }
)
"""By the names that rules give in ``check``."""
