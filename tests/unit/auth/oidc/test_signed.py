"""Tokens of other issuers that are not what they seem; each differs from a good one in one place."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from jwt.utils import base64url_decode, base64url_encode

from registry.auth.oidc.jwks import Key, keys_for, parse_jwks
from registry.auth.oidc.signed import (
    TokenRefusedError,
    canonical,
    looks_signed,
    peek,
    require_sign_in,
    verify,
)
from tests.kit.issuer import Issuer, SigningKey, new_key

ISSUER = "https://issuer.example"
KEYS = {name: new_key(name, f"kid-{name}") for name in ("RS256", "ES256", "ES384", "EdDSA")}
GOOD = Issuer(ISSUER, list(KEYS.values()))
SET = parse_jwks({"keys": [key.public for key in KEYS.values()]})


def checked(text: str, *, audience: str = "registry", keys: tuple[Key, ...] = SET) -> Any:
    """What the directory does with a token."""
    told = peek(text)
    fitting = keys_for(keys, kid=told.kid, algorithm=told.algorithm)
    return verify(text, fitting, algorithm=told.algorithm, issuer=ISSUER, audience=audience, now=time.time())


def raw(header: dict[str, Any], claims: dict[str, Any] | bytes, signature: bytes = b"x") -> str:
    """A token put together by hand."""
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    parts = (json.dumps(header).encode(), body, signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def pem(key: SigningKey) -> bytes:
    """The public key as anybody has it."""
    return bytes(
        key.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_good_token_of_each_kind(algorithm: str) -> None:
    text = GOOD.token(KEYS[algorithm], aud="registry", sub="job")
    assert looks_signed(text)
    assert checked(text)["sub"] == "job"
    assert checked(GOOD.token(KEYS[algorithm], aud=["registry"]))["sub"] == "1"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_nobody_signs(name: str) -> None:
    claims = GOOD.claims(aud="registry")
    for kid in ("kid-ES256", None):
        header = {"alg": name, "typ": "JWT", **({"kid": kid} if kid else {})}
        with pytest.raises(TokenRefusedError):
            checked(raw(header, claims))
        with pytest.raises(TokenRefusedError):
            checked(raw(header, claims, b""))


@pytest.mark.parametrize("kid", ["kid-RS256", "kid-ES256", None])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(algorithm: str, kid: str | None) -> None:
    header = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {})}
    unsigned = raw(header, GOOD.claims(aud="registry")).rpartition(".")[0]
    for name in ("RS256", "ES256"):
        for secret in (pem(KEYS[name]), pem(KEYS[name]).strip(), json.dumps(KEYS[name].public).encode()):
            signature = hmac.new(secret, unsigned.encode(), hashlib.new(f"sha{algorithm[2:]}").name).digest()
            encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
            with pytest.raises(TokenRefusedError):
                checked(f"{unsigned}.{encoded}")


def test_a_key_goes_with_its_own_algorithm_only() -> None:
    for name, other in (("RS256", "PS256"), ("RS256", "RS384")):
        text = jwt.encode(
            GOOD.claims(aud="registry"), KEYS[name].private, algorithm=other, headers={"kid": "kid-RS256"}
        )
        with pytest.raises(TokenRefusedError):
            checked(text)


def test_kids_name_a_key_of_the_set_or_nothing() -> None:
    stranger = new_key("ES256", "kid-ES256")
    with pytest.raises(TokenRefusedError):
        checked(GOOD.token(stranger, aud="registry"))
    for kid in ("kid-RS256", "", "KID-ES256", "../kid-ES256", "kid-ES256\0", "' OR 1=1 --", "0", "x" * 5000):
        with pytest.raises(TokenRefusedError):
            checked(GOOD.token(KEYS["ES256"], aud="registry", header={"kid": kid}))
    for kid in (1, None, True, ["kid-ES256"], {"kid": "kid-ES256"}):
        text = GOOD.token(KEYS["ES256"], aud="registry")
        head = {"alg": "ES256", "kid": kid}
        with pytest.raises(TokenRefusedError):
            checked(raw(head, GOOD.claims(aud="registry"), base64.urlsafe_b64decode(text[-86:] + "==")))


def test_a_key_in_the_header_is_not_used() -> None:
    own = new_key("ES256", "own")
    for header in (
        {"jwk": own.public},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["AAAA"]},
    ):
        for kid in ("own", "kid-ES256", None):
            with pytest.raises(TokenRefusedError):
                checked(GOOD.token(own, aud="registry", header={**header, "kid": kid}))


def test_without_a_kid_only_the_one_key_there_is() -> None:
    text = GOOD.token(KEYS["ES256"], aud="registry", header={"kid": None})
    assert checked(text)["sub"] == "1"
    second = parse_jwks({"keys": [KEYS["ES256"].public, new_key("ES256", "second").public]})
    with pytest.raises(TokenRefusedError):
        checked(text, keys=second)


NOW = int(time.time())


@pytest.mark.parametrize(
    "given",
    [
        {"iss": "https://other.example"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["registry", "other"]},
        {"aud": ["registry", "registry"]},
        {"aud": []},
        {"aud": {"registry": "registry"}},
        {"aud": [["registry"]]},
        {"aud": None},
        {"aud": "Registry"},
        {"exp": NOW - 61},
        {"exp": None},
        {"exp": str(NOW + 300)},
        {"exp": NOW + 300.5},
        {"exp": True},
        {"exp": [NOW + 300]},
        {"exp": NOW + 25 * 3600},
        {"exp": 10**17},
        {"iat": NOW + 3600},
        {"iat": None},
        {"iat": "now"},
        {"nbf": NOW + 3600},
        {"nbf": "later"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["a"]},
        {"sub": "a\0"},
        {"sub": "x" * 256},
    ],
)
def test_claims_that_are_not_taken(given: dict[str, Any]) -> None:
    claims = GOOD.claims(**{"aud": "registry", **given})
    text = jwt.PyJWS().encode(
        json.dumps(claims).encode(), KEYS["ES256"].private, algorithm="ES256", headers={"kid": "kid-ES256"}
    )
    with pytest.raises(TokenRefusedError):
        checked(text)


def test_a_little_of_skew_is_borne() -> None:
    now = int(time.time())
    assert checked(GOOD.token(KEYS["ES256"], aud="registry", exp=now - 30, iat=now - 300))
    assert checked(GOOD.token(KEYS["ES256"], aud="registry", iat=now + 30, nbf=now + 30))


@pytest.mark.parametrize(
    "body",
    [
        b'{"iss":"https://issuer.example","iss":"https://issuer.example"}',
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"",
        b'{"iss":"https://issuer.example","exp":1e400}',
        b'{"iss":"https://issuer.example","exp":NaN}',
        b"\xef\xbb\xbf{}",
        b'{"iss":"https://issuer.example","a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_json_with_more_than_one_meaning(body: bytes) -> None:
    text = jwt.PyJWS().encode(body, KEYS["ES256"].private, algorithm="ES256", headers={"kid": "kid-ES256"})
    with pytest.raises(TokenRefusedError):
        checked(text)


def test_headers_that_change_what_is_signed() -> None:
    claims = GOOD.claims(aud="registry")
    for header in (
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ):
        with pytest.raises(TokenRefusedError):
            checked(raw({"alg": "ES256", "kid": "kid-ES256", **header}, claims))


def test_a_signature_is_written_in_one_way_only() -> None:
    text = GOOD.token(KEYS["ES256"], aud="registry")
    head, body, signature = text.split(".")
    others = {text[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"}
    others -= {text}
    others |= {
        text + "=",
        text + "==",
        text + "\n",
        f" {text}",
        f"{head}.{body}.{signature[:9]}!{signature[9:]}",
    }
    others |= {f"{head}.{body}", f"{head}.{body}.", f"{text}.x", f"{head}..{signature}", "", "..", "a.b.c"}
    for other in others:
        with pytest.raises(TokenRefusedError):
            checked(other)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_of_two_signatures_that_are_as_good_one_is_meant(algorithm: str) -> None:
    key = KEYS.get(algorithm) or new_key(algorithm, "another")
    order, size = key.private.curve.group_order, (key.private.curve.key_size + 7) // 8
    for _ in range(8):  # half of them are the larger one
        text = GOOD.token(key, aud="registry")
        signed, _, signature = text.rpartition(".")
        raw = base64url_decode(signature)
        mirrored = (order - int.from_bytes(raw[size:], "big")).to_bytes(size, "big")
        twin = f"{signed}.{base64url_encode(raw[:size] + mirrored).decode()}"
        assert twin != text
        assert canonical(twin) == canonical(text) == canonical(canonical(text))
        assert canonical(text) in (text, twin)
        jwt.decode(canonical(text), key.private.public_key(), algorithms=[algorithm], audience="registry")
    for other in ("", "a.b.c", "ey.e30.AA", f"{signed}.", f"{signed}.AAAA", GOOD.token(KEYS["RS256"])):
        assert canonical(other) == other


def test_an_id_token_is_for_this_client_and_this_sign_in() -> None:
    def says(**given: Any) -> None:
        require_sign_in({"aud": "us", "nonce": "n", **given}, client_id="us", nonce="n")

    says()
    says(azp="us")
    says(aud=["us", "others"], azp="us")
    for given in (
        {"aud": "others"},
        {"aud": ["us", "others"]},
        {"azp": "others"},
        {"aud": ["us", "others"], "azp": "others"},
        {"azp": ["us"]},
        {"nonce": "m"},
        {"nonce": None},
        {"nonce": ["n"]},
    ):
        with pytest.raises(TokenRefusedError):
            says(**given)


def test_what_of_a_key_set_is_used() -> None:
    good = KEYS["ES256"].public
    assert [key.kid for key in parse_jwks({"keys": [good]})] == ["kid-ES256"]
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS["ES256"].private))
    for entry in (
        {**good, "use": "enc"},
        {**good, "key_ops": ["sign"]},
        {**good, "alg": "HS256"},
        {**good, "alg": "RS256"},
        {**good, "alg": ["ES256"]},
        {**good, "kid": 7},
        {**good, "kty": "oct", "k": "AAAA"},
        {**good, "x": "!!"},
        {**good, "x": 1},
        {**good, "y": good["x"]},
        {**good, "crv": "P-999"},
        {**private, "kid": "private"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "small"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        {},
        None,
        "text",
        [good],
    ):
        assert parse_jwks({"keys": [entry]}) == (), entry
    for document in ({}, {"keys": None}, {"keys": "x"}, {"keys": {"0": good}}):
        assert parse_jwks(document) == ()
    assert len(parse_jwks({"keys": [{**good, "kid": str(number)} for number in range(500)]})) == 100
