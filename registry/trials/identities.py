"""Certificates of signers, as Fulcio issues them: whether they lead to a trusted authority, and whose they
are.

Such a certificate is valid for some minutes. The registry looks when the signature is pushed, and is so
itself the witness of the time; a signature that comes later would need another, and is not taken for one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry.settings import SettingsError
from registry.trials.sigstore import PublicKey

if TYPE_CHECKING:
    from datetime import datetime

ROOTS_MAX_BYTES = 1024 * 1024
CHAIN_MAX = 3
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_UTF8_STRING = b"\x0c"


class CertificateRefusedError(ValueError):
    """The certificate proves nobody; the message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an authority saw: ``subject`` as the OIDC ``issuer`` named him, an address or a URI."""

    issuer: str
    subject: str


Trust = tuple[x509.Certificate, ...]
"""The authorities whose certificates count."""
NOBODY: Trust = ()


def load_trust(path: Path | None) -> Trust:
    """The authorities of a file: PEM, or Sigstore's ``trusted_root.json``, of which the certificate
    authorities are read. No file: none.

    Raises:
        SettingsError: it cannot be read, or holds none.
    """
    if path is None:
        return NOBODY
    try:
        with path.open("rb") as file:
            raw = file.read(ROOTS_MAX_BYTES)
        found = _of_json(raw) if raw.lstrip().startswith(b"{") else x509.load_pem_x509_certificates(raw)
    except OSError as error:
        raise SettingsError(f"signature_trust_file: {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            f"signature_trust_file: {path} holds no certificates: PEM, or Sigstore's trusted_root.json"
        ) from None
    return tuple(found)


def identify(certificate: bytes, trust: Trust, *, at: datetime) -> tuple[Identity, PublicKey]:
    """Whose a certificate (DER) is, if it was valid at that time, and the key that it vouches for.

    Raises:
        CertificateRefusedError: it leads to no trusted authority, is not valid then, or names nobody.
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        if not trust:
            raise CertificateRefusedError("no authority is trusted (SEATRIAL_SIGNATURE_TRUST_FILE)")
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(trust)))
            .time(at.replace(tzinfo=None))
            .max_chain_depth(CHAIN_MAX)
            .extension_policies(ca_policy=_authorities(), ee_policy=_signers())
            .build_client_verifier()
        )
        subjects = verifier.verify(leaf, list(trust)).subjects or ()
        issuer = _issuer(leaf)
        key = leaf.public_key()
    except verification.VerificationError as error:
        raise CertificateRefusedError(f"its certificate is not trusted: {error}"[:300]) from None
    except ValueError as error:
        raise CertificateRefusedError(f"its certificate cannot be read: {error}"[:300]) from None
    named = [
        one.value for one in subjects if isinstance(one, x509.RFC822Name | x509.UniformResourceIdentifier)
    ]
    if len(named) != 1 or not issuer:
        raise CertificateRefusedError("its certificate does not name one subject of one issuer")
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise CertificateRefusedError("its certificate is for a key that signs nothing here")
    return Identity(issuer, named[0]), key


def _of_json(raw: bytes) -> Sequence[x509.Certificate]:
    document: dict[str, Any] = json.loads(raw)
    return [
        x509.load_der_x509_certificate(base64.b64decode(one["rawBytes"]))
        for authority in document["certificateAuthorities"]
        for one in authority["certChain"]["certificates"]
    ]


def _issuer(leaf: x509.Certificate) -> str:
    for extension in leaf.extensions:
        value = extension.value
        if not isinstance(value, x509.UnrecognizedExtension):
            continue
        raw = value.value
        if extension.oid == _ISSUER_V2 and raw[:1] == _UTF8_STRING:
            # A DER length of one byte, or of one that follows.
            start = 3 if raw[1:2] == b"\x81" else 2
            return raw[start:].decode("utf-8") if raw[start - 1 : start] == bytes([len(raw) - start]) else ""
        if extension.oid == _ISSUER_V1:
            return raw.decode("utf-8")
    return ""


def _authorities() -> verification.ExtensionPolicy:
    policy = verification.ExtensionPolicy.permit_all()
    policy = policy.require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, lambda _p, _c, found: _require(found.ca)
    )
    return policy.require_present(
        x509.KeyUsage, verification.Criticality.AGNOSTIC, lambda _p, _c, found: _require(found.key_cert_sign)
    )


def _signers() -> verification.ExtensionPolicy:
    policy = verification.ExtensionPolicy.permit_all()
    policy = policy.require_present(
        x509.ExtendedKeyUsage,
        verification.Criticality.AGNOSTIC,
        lambda _p, _c, found: _require(ExtendedKeyUsageOID.CODE_SIGNING in found),
    )
    return policy.require_present(x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("an extension does not allow this use")
