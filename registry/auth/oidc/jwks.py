"""Key sets of other issuers (RFC 7517), pure: which keys verify what.

A key goes with the algorithms of its own kind and with no other, so a public key is never a shared secret.
What cannot be used is left out and not an error: sets hold keys for other purposes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

MAX_KEYS = 100
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = MappingProxyType({"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"})


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A public key; ``algorithms`` are those that it may verify."""

    kid: str | None
    key: PublicKey
    algorithms: frozenset[str]


def parse_jwks(document: Mapping[str, object]) -> tuple[Key, ...]:
    """The keys of a set that can be used, at most the first hundred."""
    given = document.get("keys")
    entries: Sequence[object] = given if isinstance(given, list) else ()
    found = (_key(entry) for entry in entries[:MAX_KEYS] if isinstance(entry, dict))
    return tuple(key for key in found if key is not None)


def keys_for(keys: Sequence[Key], *, kid: str | None, algorithm: str) -> tuple[Key, ...]:
    """Those that may have signed a token: of its kid, exactly; for a token without one, the only key."""
    fitting = tuple(key for key in keys if algorithm in key.algorithms)
    if kid is None:
        return fitting if len(fitting) == 1 else ()
    return tuple(key for key in fitting if key.kid == kid)


def _key(entry: dict[str, object]) -> Key | None:
    kid, use, operations = entry.get("kid"), entry.get("use", "sig"), entry.get("key_ops")
    if not isinstance(kid, str | None) or use != "sig" or "d" in entry or "k" in entry:
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    key = _public(entry)
    if key is None:
        return None
    algorithms = _algorithms(key)
    named = entry.get("alg")
    if named is not None:
        algorithms = algorithms & {named} if isinstance(named, str) else frozenset()
    return Key(kid, key, algorithms) if algorithms else None


def _public(entry: dict[str, object]) -> PublicKey | None:
    if not all(isinstance(entry[name], str) for name in ("n", "e", "x", "y", "crv") if name in entry):
        return None
    try:
        match entry.get("kty"):
            case "RSA":
                key: object = RSAAlgorithm.from_jwk(_strings(entry, "kty", "n", "e"))
            case "EC":
                key = ECAlgorithm.from_jwk(_strings(entry, "kty", "crv", "x", "y"))
            case "OKP":
                key = OKPAlgorithm.from_jwk(_strings(entry, "kty", "crv", "x"))
            case _:
                return None
    except (PyJWTError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return key if isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey) else None


def _strings(entry: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: entry[name] for name in names}


def _algorithms(key: PublicKey) -> frozenset[str]:
    if isinstance(key, RSAPublicKey):
        return _RSA if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS else frozenset()
    if isinstance(key, EllipticCurvePublicKey):
        named = _EC.get(key.curve.name)
        return frozenset({named}) if named else frozenset()
    return frozenset({"EdDSA"})
