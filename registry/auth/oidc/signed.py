"""Signed tokens of other issuers (RFC 7515, 7519; OpenID Connect Core 3.1.3.7), pure.

Signature first, meaning after it: nothing but the issuer's name and the key's id is read from a token that
has not been verified. JSON is strict, so that a claim given twice is no claim. Reasons are for whoever set
the issuer up; a stranger is told that the token is not valid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1
from jwt.utils import base64url_decode, base64url_encode

from registry.auth.oidc.jwks import Key
from registry.errors import UnauthorizedError
from registry.oci.strictjson import JsonInvalidError, parse_json_object

SKEW_SECONDS = 60
MAX_LIFE_SECONDS = 24 * 3600
MAX_TOKEN_CHARACTERS = 1024 * 1024
MAX_SUBJECT = 255
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_CURVES = MappingProxyType({"ES256": SECP256R1(), "ES384": SECP384R1(), "ES512": SECP521R1()})
Claims = Mapping[str, object]


class TokenRefusedError(UnauthorizedError):
    """A token of another issuer is not taken; ``why`` is for the log and for administrators."""

    def __init__(self, why: str) -> None:
        super().__init__("the token is not valid here, or no longer; ask its issuer for a new one")
        self.why = why


@dataclass(frozen=True, slots=True, repr=False)
class Unverified:
    """What a token says of itself: whom to ask for its key, and nothing to be believed."""

    issuer: str
    algorithm: str
    kid: str | None


def looks_signed(text: str) -> bool:
    """Whether this is meant as a signed token, valid or not: its header is a JSON object in base64."""
    return text.startswith("ey") and text.count(".") == 2


def peek(text: str) -> Unverified:
    """Whom to ask about a token.

    Raises:
        TokenRefusedError: not a signed token in compact form, or with a header that changes what is signed.
    """
    if len(text) > MAX_TOKEN_CHARACTERS or not _COMPACT.fullmatch(text):
        raise TokenRefusedError("it is no signed token in compact form")
    head, body, signature = text.split(".")
    if base64url_encode(_decoded(signature)).decode() != signature:
        raise TokenRefusedError("its signature is not written in the one way")
    header, claims = _object(_decoded(head)), _object(_decoded(body))
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if "crit" in header or "b64" in header:
        raise TokenRefusedError("its header has parameters that are critical")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or not isinstance(issuer, str):
        raise TokenRefusedError("alg, kid or iss is of a wrong type or missing")
    if "\0" in issuer:
        raise TokenRefusedError("its iss has a NUL")  # which PostgreSQL cannot be asked for
    return Unverified(issuer, algorithm, kid)


def canonical(text: str) -> str:
    """The token with its signature as it is told apart from others. Of an ECDSA signature (r, s) everybody
    can make (r, n - s), which is as good; the smaller is meant. What is no such token stays as it is."""
    if len(text) > MAX_TOKEN_CHARACTERS or not _COMPACT.fullmatch(text):
        return text
    head, body, signature = text.split(".")
    try:
        algorithm = _object(_decoded(head)).get("alg")
        raw = _decoded(signature)
    except TokenRefusedError:
        return text
    curve = _CURVES.get(algorithm) if isinstance(algorithm, str) else None
    if curve is None or base64url_encode(raw).decode() != signature:
        return text
    size, order = (curve.key_size + 7) // 8, curve.group_order
    second = int.from_bytes(raw[size:], "big")
    if len(raw) != 2 * size or not order // 2 < second < order:
        return text
    smaller = raw[:size] + (order - second).to_bytes(size, "big")
    return f"{head}.{body}.{base64url_encode(smaller).decode()}"


def verify(
    text: str, keys: Sequence[Key], *, algorithm: str, issuer: str, audience: str | None, now: float
) -> Claims:
    """The claims of a token that one of ``keys`` has signed. ``audience`` has to be the only one; ``None``
    leaves it to the caller, who does not know it yet.

    Raises:
        TokenRefusedError: not signed so, of another issuer or for another audience, expired, from the
            future, for longer than a day, or claims of wrong types.
    """
    claims = _object(_signed(text, keys, algorithm))
    expires, issued, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
    subject = claims.get("sub")
    if claims.get("iss") != issuer:
        raise TokenRefusedError("it is of another issuer")
    if expires is None or issued is None:
        raise TokenRefusedError("it has no exp or no iat")
    if now >= expires + SKEW_SECONDS:
        raise TokenRefusedError("it has expired")
    if issued > now + SKEW_SECONDS or (begins is not None and begins > now + SKEW_SECONDS):
        raise TokenRefusedError("it is from the future")
    if expires - now > MAX_LIFE_SECONDS + SKEW_SECONDS:
        raise TokenRefusedError("it is valid for longer than a day")
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT or "\0" in subject:
        raise TokenRefusedError("its sub is no text of 1 to 255 characters")
    if audience is not None and audiences(claims) != (audience,):
        raise TokenRefusedError(f"its audience is not {audience!r} alone")
    return claims


def require_sign_in(claims: Claims, *, client_id: str, nonce: str) -> None:
    """What an ID token has to say besides, where a person signs in (OpenID Connect Core 3.1.3.7).

    Raises:
        TokenRefusedError: for another client, or from another sign-in.
    """
    told = audiences(claims)
    party = claims.get("azp")
    if client_id not in told:
        raise TokenRefusedError("it is for another client")
    if party != client_id and (party is not None or len(told) > 1):
        raise TokenRefusedError("it was given to another client (azp)")
    if claims.get("nonce") != nonce:
        raise TokenRefusedError("its nonce is of another sign-in")


def audiences(claims: Claims) -> tuple[str, ...]:
    """Whom a token is for; of a wrong type, or with a NUL, which PostgreSQL cannot be asked for: nobody."""
    told = claims.get("aud")
    each_told = told if isinstance(told, list) else [told]
    if all(isinstance(each, str) and "\0" not in each for each in each_told):
        return tuple(each_told)
    return ()


def _signed(text: str, keys: Sequence[Key], algorithm: str) -> bytes:
    for key in keys:
        if algorithm not in key.algorithms:
            continue
        try:
            payload: bytes = jwt.PyJWS(algorithms=[algorithm]).decode(
                text,
                key.key,
                algorithms=[algorithm],
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            continue
        return payload
    raise TokenRefusedError("no key of the issuer has signed it so")


def _decoded(text: str) -> bytes:
    try:
        return base64url_decode(text)
    except ValueError:
        raise TokenRefusedError("a part of it is not base64") from None


def _object(raw: bytes) -> dict[str, object]:
    try:
        return parse_json_object(raw)
    except JsonInvalidError as error:
        raise TokenRefusedError(f"a part of it is not strict JSON: {error}") from None


def _time(claims: Claims, name: str) -> int | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TokenRefusedError(f"its {name} is no whole number of seconds")
    return value
