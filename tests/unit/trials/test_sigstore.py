"""Signed statements: read under limits, and good only as they were signed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from registry.oci.digest import digest_of
from registry.trials.sigstore import (
    BUNDLE_MAX_BYTES,
    BundleInvalidError,
    is_signed_by,
    make_bundle,
    make_statement,
    parse_bundle,
    parse_statement,
)
from registry.trials.statements import PREDICATES, WITHOUT_ADDRESS, Kind, resource_uri
from registry.trials.verifying import parse_keys, read_bundle, word_of

IMAGE, OTHER = digest_of(b"image"), digest_of(b"other")
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = "team/app"
OURS = {"verifier": {"id": WITHOUT_ADDRESS}, "resourceUri": resource_uri(NAME, str(IMAGE))}


def signed(
    key: ec.EllipticCurvePrivateKey = KEY, *, place: str = NAME, kind: Kind = "summary", **predicate: object
) -> bytes:
    return make_bundle(make_statement(place, IMAGE, PREDICATES[kind], OURS | predicate), key, kid="k")


def pem(key: Any) -> str:
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return str(public.decode())


def changed(raw: bytes, *path: str, to: object) -> bytes:
    document = json.loads(raw)
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return json.dumps(document).encode()


def test_what_is_signed_is_read_and_verified() -> None:
    bundle = parse_bundle(signed(timeVerified="2026"))
    assert is_signed_by(bundle, KEY.public_key())
    assert not is_signed_by(bundle, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert not is_signed_by(bundle, ed25519.Ed25519PrivateKey.generate().public_key())
    statement = parse_statement(bundle.payload)
    assert statement.subjects == {IMAGE: NAME}
    assert statement.predicate == {**OURS, "timeVerified": "2026"}


def test_each_changed_byte_of_a_payload_is_noticed() -> None:
    raw = signed(a=1)
    payload = bytearray(parse_bundle(raw).payload)
    for position in range(0, len(payload), 7):
        other = bytes([*payload[:position], payload[position] ^ 1, *payload[position + 1 :]])
        forged = changed(raw, "dsseEnvelope", "payload", to=base64.b64encode(other).decode())
        assert not is_signed_by(parse_bundle(forged), KEY.public_key())


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"{", "Expecting"),
        (b"[]", "must be a JSON object"),
        (b" " * (BUNDLE_MAX_BYTES + 1), "are the limit"),
        (signed()[:-1] + b',"mediaType":"x"}', "stands twice"),
        (changed(signed(), "mediaType", to="application/json"), "no bundle of version 0.3"),
        (changed(signed(), "dsseEnvelope", to=None), "dsseEnvelope is no object"),
        (changed(signed(), "dsseEnvelope", "signatures", to=[]), "exactly one signature"),
        (changed(signed(), "dsseEnvelope", "signatures", to=[{}, {}]), "exactly one signature"),
        (changed(signed(), "dsseEnvelope", "signatures", to=[{"sig": "*"}]), "sig is not base64"),
        (changed(signed(), "dsseEnvelope", "payloadType", to="text/plain"), "no in-toto statement"),
        (changed(signed(), "verificationMaterial", to={}), "neither a key nor a certificate"),
    ],
)
def test_what_is_no_bundle_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(BundleInvalidError, match=why):
        parse_bundle(raw)


def test_only_statements_about_this_image_by_a_trusted_key_count() -> None:
    keys = [KEY.public_key()]
    assert read_bundle("s", signed(), IMAGE, keys, repository=NAME).statement is not None
    assert read_bundle("s", signed(), OTHER, keys, repository=NAME).refused == "it is about another image"
    forged = signed(ec.generate_private_key(ec.SECP256R1()))
    assert "no key" in read_bundle("s", forged, IMAGE, keys, repository=NAME).refused


@pytest.mark.parametrize(
    ("place", "kind", "members", "good"),
    [
        (NAME, "summary", {}, True),
        (NAME, "summary", {"verifier": {"id": "https://r.example"}}, False),
        (NAME, "summary", {"verifier": "it"}, False),
        (NAME, "summary", {"resourceUri": resource_uri("team/other", str(IMAGE))}, False),
        ("team/other", "summary", {}, False),
        ("", "summary", {}, False),
        (NAME, "result", {}, True),
        ("r.example/team/app", "result", {}, True),
        ("localhost:8470/team/app", "result", {}, True),
        ("r.example/other/team/app", "result", {}, False),
        ("other/team/app", "result", {}, False),
        ("r.example/team/app2", "result", {}, False),
        ("", "result", {}, False),
    ],
)
def test_only_statements_about_this_repository_count(
    place: str, kind: Kind, members: dict[str, object], *, good: bool
) -> None:
    raw = signed(place=place, kind=kind, **members)
    read = read_bundle("s", raw, IMAGE, [KEY.public_key()], repository=NAME)
    assert (read.statement is not None) == good
    assert read.refused == ("" if good else f"it is about the image in {place or 'no repository'}")


def test_the_newest_summary_counts_whatever_the_order() -> None:
    read = [
        read_bundle("s", signed(timeVerified=time), IMAGE, [KEY.public_key()], repository=NAME)
        for time in ("2", "3", "1")
    ]
    assert word_of(read).summary == {**OURS, "timeVerified": "3"}
    assert word_of([]).summary is None


def test_files_of_keys_hold_one_or_more() -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    assert len(parse_keys(pem(KEY) + "\n" + pem(other))) == 2
    for text, why in (("", "no public key"), (pem(KEY).replace("M", "!"), "cannot be read")):
        with pytest.raises(ValueError, match=why):
            parse_keys(text)
