"""Signatures as cosign pushes them, made here: wrong ones, and those of people whom an authority names."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.oci.digest import parse_digest
from registry.trials.signatures import SIGNED
from registry.trials.sigstore import BUNDLE, make_bundle, make_statement
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import OCI_MANIFEST, digest_of, to_json

EMPTY = "application/vnd.oci.empty.v1+json"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key as ``cosign generate-key-pair`` makes it."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Its public half."""
    public = key.public_key()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, kind).decode()


def signature_of(
    digest: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    certificate: bytes | None = None,
    kind: str = SIGNED,
    predicate: Any = None,
) -> bytes:
    """The bundle of a signature of ``digest``, or of what a ``predicate`` says about it."""
    raw = make_bundle(make_statement("", parse_digest(digest), kind, predicate or {}), key, kid="")
    if certificate is None:
        return raw
    document = json.loads(raw)
    document["verificationMaterial"] = {"certificate": {"rawBytes": base64.b64encode(certificate).decode()}}
    return to_json(document)


async def attach(client: aiohttp.ClientSession, repository: str, digest: str, bundle: bytes) -> str:
    """Push a bundle as a referrer of a manifest; its digest."""
    async with client.get(f"/v2/{repository}/manifests/{digest}") as answer:
        raw, media_type = await answer.read(), answer.headers["Content-Type"]
        assert answer.status == 200
    layer: dict[str, Any] = {
        "mediaType": BUNDLE,
        "digest": await push_blob(client, repository, bundle),
        "size": len(bundle),
    }
    config = {"mediaType": EMPTY, "digest": await push_blob(client, repository, b"{}"), "size": 2}
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": BUNDLE,
            "config": config,
            "layers": [layer],
            "subject": {"mediaType": media_type, "digest": digest, "size": len(raw)},
        }
    )
    pushed = await put_manifest(client, repository, digest_of(manifest), manifest)
    assert pushed.status == 201, pushed.body
    return digest_of(manifest)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that names people as Fulcio does, for ten minutes."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def certify(
        self, key: ec.EllipticCurvePrivateKey, subject: str, issuer: str, *, ago: timedelta = timedelta(0)
    ) -> bytes:
        """A certificate (DER) for a person, made so long ago."""
        begin = datetime.now(UTC) - timedelta(minutes=1) - ago
        named = issuer.encode()
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(minutes=10))
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(subject)]), critical=True)
            .add_extension(
                x509.UnrecognizedExtension(
                    x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8"), bytes([0x0C, len(named)]) + named
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.DER)


def new_authority() -> Authority:
    """One that nobody trusts yet."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "an authority")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, built)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
