"""Signed statements in the form that cosign reads: in-toto statements in DSSE envelopes in Sigstore bundles.

Pure: bytes in, values out. Bundles are of version 0.3, of which this knows what is signed with a key, and
reads of certificates only the bytes. DSSE's own encoding (``PAE``) is one line, so no library is asked for
it (https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from registry.oci.digest import Digest
from registry.oci.strictjson import JsonInvalidError, parse_json_object

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""Media type of a bundle, and artifact type of the manifest that holds one."""
BUNDLE_MAX_BYTES = 256 * 1024
"""What a bundle that anybody made may have to be read here."""
OWN_MAX_BYTES = 16 * 1024 * 1024
"""What a bundle of the registry's own may have, with a whole SBOM in it."""
STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


class BundleInvalidError(ValueError):
    """These bytes are no bundle that this can read; the message says why."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read, and not yet verified. ``certificate`` is DER."""

    payload: bytes
    signature: bytes
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto statement: what is said about content of these digests, each under the name that it has
    there."""

    predicate_type: str
    predicate: Mapping[str, object]
    subjects: Mapping[Digest, str]


def make_statement(name: str, digest: Digest, predicate_type: str, predicate: Mapping[str, object]) -> bytes:
    """The bytes of a statement about one piece of content."""
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {digest.algorithm: digest.encoded}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def make_bundle(payload: bytes, private: ec.EllipticCurvePrivateKey, *, kid: str) -> bytes:
    """The bundle of a statement, signed."""
    signature = private.sign(_pae(payload), ec.ECDSA(hashes.SHA256()))
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": kid}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse_bundle(raw: bytes, *, limit_bytes: int = BUNDLE_MAX_BYTES) -> Bundle:
    """Read a bundle of version 0.3 that holds a statement.

    Raises:
        BundleInvalidError: it is none, is too large, or has not exactly one signature.
    """
    if len(raw) > limit_bytes:
        raise BundleInvalidError(f"it has {len(raw)} bytes; {limit_bytes} are the limit")
    try:
        document = parse_json_object(raw)
    except JsonInvalidError as error:
        raise BundleInvalidError(str(error)) from None
    if document.get("mediaType") not in (BUNDLE, "application/vnd.dev.sigstore.bundle+json;version=0.3"):
        raise BundleInvalidError("it is no bundle of version 0.3")
    envelope = _object(document, "dsseEnvelope")
    if envelope.get("payloadType") != PAYLOAD:
        raise BundleInvalidError("its payload is no in-toto statement")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise BundleInvalidError("it has not exactly one signature")
    material = _object(document, "verificationMaterial")
    certificate = None
    if "certificate" in material:
        certificate = _bytes(_object(material, "certificate"), "rawBytes")
    elif not isinstance(material.get("publicKey"), dict):
        raise BundleInvalidError("it names neither a key nor a certificate")
    return Bundle(
        payload=_bytes(envelope, "payload"),
        signature=_bytes(signatures[0], "sig"),
        certificate=certificate,
    )


def parse_statement(payload: bytes) -> Statement:
    """Read a statement.

    Raises:
        BundleInvalidError: it is none.
    """
    try:
        document = parse_json_object(payload)
    except JsonInvalidError as error:
        raise BundleInvalidError(f"its statement: {error}") from None
    if document.get("_type") not in (STATEMENT, "https://in-toto.io/Statement/v0.1"):
        raise BundleInvalidError("its payload is no in-toto statement")
    predicate, predicate_type = document.get("predicate"), document.get("predicateType")
    subjects = document.get("subject")
    if not isinstance(predicate_type, str) or not isinstance(subjects, list):
        raise BundleInvalidError("its statement has no predicate type, or no subjects")
    return Statement(
        predicate_type=predicate_type,
        predicate=predicate if isinstance(predicate, dict) else {},
        subjects={
            Digest(algorithm, encoded): str(subject.get("name", ""))
            for subject in subjects
            if isinstance(subject, dict) and isinstance(subject.get("digest"), dict)
            for algorithm, encoded in subject["digest"].items()
            if isinstance(encoded, str)
        },
    )


def is_signed_by(bundle: Bundle, key: PublicKey) -> bool:
    """Whether the private half of this key signed what the bundle says."""
    message = _pae(bundle.payload)
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                if key.curve.name not in _HASHES:
                    return False
                key.verify(bundle.signature, message, ec.ECDSA(_HASHES[key.curve.name]))
            case ed25519.Ed25519PublicKey():
                key.verify(bundle.signature, message)
            case _:
                key.verify(bundle.signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _pae(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _object(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise BundleInvalidError(f"{name} is no object")
    return value


def _bytes(document: Mapping[str, object], name: str) -> bytes:
    value = document.get(name)
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BundleInvalidError(f"{name} is not base64")
