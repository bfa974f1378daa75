"""Registry tokens under attack (RFC 8725), and what a real one opens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select

from registry.auth.keyring import open_token_ring
from registry.auth.secretkey import open_secret_key
from registry.db.accounts import keys
from tests.kit.access import ask, basic, bearer, make_repository, make_user, registry_token
from tests.kit.distribution import push_small
from tests.kit.rawhttp import exchange
from tests.kit.server import Registry

Mint = Callable[..., str]
NAME = "team/app"


@pytest.fixture
async def mint(registry: Registry) -> Mint:
    """Signs claims with the registry's own key, but as the attacker likes; the administrator's by default."""
    assert registry.services is not None
    services = registry.services
    ring = await open_token_ring(services.database, open_secret_key(services.settings))
    actor = await services.tokens.credentials.from_api_token(registry.token, address=None)

    def sign(
        *, without: tuple[str, ...] = (), header: dict[str, Any] | None = None, key: Any = None, **claims: Any
    ) -> str:
        now = int(time.time())
        document = {
            "iss": "seatrial",
            "aud": "seatrial",
            "sub": "admin",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": "1",
            "access": [{"type": "repository", "name": NAME, "actions": ["pull"]}],
            "account": actor.account_id,
            "token": actor.token_id,
        } | claims
        for name in without:
            del document[name]
        return jwt.encode(
            document, key or ring.private, algorithm="ES256", headers={"kid": ring.kid} | (header or {})
        )

    return sign


async def status(client: aiohttp.ClientSession, token: str, method: str = "GET", name: str = NAME) -> int:
    answer = await ask(client, method, f"/v2/{name}/tags/list", headers=bearer(token))
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="http://127.0.0.1:')
    return answer.status


def encode(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_the_real_one_opens_and_every_tampered_one_does_not(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, mint: Mint
) -> None:
    await make_repository(client, NAME)
    now = int(time.time())
    assert await status(nobody, mint()) == 200
    assert await status(nobody, mint(aud=["other", "seatrial"])) == 200
    header, payload, signature = mint().split(".")
    forged = encode({**json.loads(base64.urlsafe_b64decode(payload + "==")), "account": 1, "exp": now + 9999})
    attacker = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(attacker.public_key()))
    bad = {
        "A4 expired": mint(exp=now - 60, iat=now - 400, nbf=now - 400),
        "A4 not yet": mint(nbf=now + 120),
        "A4 issued in the future": mint(iat=now + 9999),
        "A5 none": f"{encode({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "A5 None": f"{encode({'alg': 'None', 'kid': 'x'})}.{payload}.",
        "A5 no signature": f"{header}.{payload}.",
        "A5 other signature": f"{header}.{payload}.{signature[:-4]}AAAA",
        "A5 other claims": f"{header}.{forged}.{signature}",
        "A7 kid a path": mint(header={"kid": "../../dev/null"}),
        "A7 kid SQL": mint(header={"kid": "' OR 1=1 --"}),
        "A7 kid unknown": mint(header={"kid": "01a20cb2-3999-7708-b29a-ee234f04214f"}),
        "A7 no kid": f"{encode({'alg': 'ES256', 'typ': 'JWT'})}.{payload}.{signature}",
        "A7 kid of 20 KiB": mint(header={"kid": "x" * 20_000}),
        "A7 kid no text": f"{encode({'alg': 'ES256', 'typ': 'JWT', 'kid': ['x']})}.{payload}.{signature}",
        "A8 own key": mint(key=attacker),
        "A8 jwk": mint(key=attacker, header={"jwk": jwk}),
        "A8 jku": mint(key=attacker, header={"jku": "http://127.0.0.1:1/jwks", "x5u": "http://127.0.0.1:1/x"}),
        "A8 x5c": mint(key=attacker, header={"x5c": ["MIIB"]}),
        "A8 crit": mint(header={"crit": ["exp", "b64"], "b64": False}),
        "A9 aud": mint(aud="other"),
        "A9 aud list": mint(aud=["other", "more"]),
        "A9 iss": mint(iss="other"),
        "A11 access an object": mint(access={"type": "repository", "name": NAME, "actions": ["pull"]}),
        "A11 access a string": mint(access="all"),
        "A11 access null": mint(access=None),
        "A11 actions a string": mint(access=[{"type": "repository", "name": NAME, "actions": "pull"}]),
        "A11 sub a number": mint(sub=1),
        "A11 account a string": mint(account="1"),
        "account of nobody": mint(account=999),
        "token of nobody": mint(token="01a20cb2-3999-7708-b29a-ee234f04214f"),
        "a lease for a user": mint(lease={"id": "x", "repository": NAME, "digest": "sha256:0"}),
        "not even JSON": f"{encode(b'nonsense')}.{payload}.{signature}",
        "deep JSON": f"{encode(b'[' * 20000)}.{payload}.{signature}",
        "dots": "...",
        "one dot": "a.b",
        "empty parts": "..",
        "spaces": "a b c",
    }  # fmt: skip
    for claim in ("exp", "iss", "aud", "sub", "nbf", "iat", "jti", "access"):
        bad[f"without {claim}"] = mint(without=(claim,))
    found = {name: await status(nobody, token) for name, token in bad.items()}
    assert found == dict.fromkeys(bad, 401)


async def test_a_key_of_another_kind_never_verifies(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, mint: Mint
) -> None:
    """A6: HMAC with what is public, and other algorithms under our kid."""
    await make_repository(client, NAME)
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        row = (
            await connection.execute(select(keys.c.kid, keys.c.public_pem).where(keys.c.ring == "token"))
        ).one()
    payload = mint().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    # PyJWT itself refuses to sign with a public key; the attacker writes the same by hand.
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT', 'kid': row.kid})}.{payload}"
    mac = base64.urlsafe_b64encode(
        hmac.digest(row.public_pem.encode(), signed.encode(), hashlib.sha256)
    ).decode()
    for token in (
        f"{signed}.{mac.rstrip('=')}",
        jwt.encode(claims, rsa_key, algorithm="RS256", headers={"kid": row.kid}),
        jwt.encode(claims, other_curve, algorithm="ES384", headers={"kid": row.kid}),
    ):
        assert await status(nobody, token) == 401


async def test_what_a_token_covers(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, mint: Mint
) -> None:
    """A2, A3, A10: by exact name and action."""
    for name in (NAME, "team/other"):
        await push_small(client, name, "1")
    own = await registry_token(nobody, f"repository:{NAME}:pull", headers=basic("admin", registry.token))
    other = await ask(nobody, "GET", "/v2/team/other/tags/list", headers=bearer(own))
    assert other.status == 401
    assert 'error="insufficient_scope"' in other.headers["WWW-Authenticate"]
    assert 'scope="repository:team/other:pull"' in other.headers["WWW-Authenticate"]
    push = await ask(nobody, "POST", f"/v2/{NAME}/blobs/uploads/", headers=bearer(own))
    assert push.status == 401
    assert f'scope="repository:{NAME}:pull,push"' in push.headers["WWW-Authenticate"]
    for name in ("*", "team/*", "", "TEAM/APP", "team/app/", "team/ap?"):
        token = mint(access=[{"type": "repository", "name": name, "actions": ["pull", "delete", "*"]}])
        assert await status(nobody, token) == 401, name
        assert (await ask(nobody, "DELETE", f"/v2/{NAME}/manifests/1", headers=bearer(token))).status == 401


async def test_asked_for_and_refused_is_told_as_such(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    await make_repository(client, NAME, visibility="internal")
    token = await registry_token(nobody, f"repository:{NAME}:pull,push", headers=basic("bob", password))
    assert await status(nobody, token) == 200
    answer = await ask(nobody, "POST", f"/v2/{NAME}/blobs/uploads/", headers=bearer(token))
    assert answer.status == 403
    (error,) = answer.json["errors"]
    assert error["code"] == "DENIED"
    assert error["message"] == (
        f"bob has no push right on {NAME}; it takes the role writer, which an owner of the namespace or "
        "an administrator can give"
    )


async def test_what_a_push_asks_first_lets_it_come_to_where_it_is_told_why(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """A HEAD's answer has no words: 404 for what is hidden and for what is not there, and 403 at the POST."""
    bob = basic("bob", await make_user(client, "bob"))
    digest = await push_small(client, NAME, "1")
    for name in (NAME, "team/none"):
        pushing = bearer(await registry_token(nobody, f"repository:{name}:pull,push", headers=bob))
        pulling = bearer(await registry_token(nobody, f"repository:{name}:pull", headers=bob))
        for path in (f"/v2/{name}/manifests/1", f"/v2/{name}/blobs/{digest}"):
            assert (await ask(nobody, "HEAD", path, headers=pushing)).status == 404
            assert (await ask(nobody, "HEAD", path, headers=pulling)).status == 403
            assert (await ask(nobody, "GET", path, headers=pushing)).status == 403
        start = await ask(nobody, "POST", f"/v2/{name}/blobs/uploads/", headers=pushing)
        assert start.status == 403
        assert f"bob has no push right on {name}" in start.json["errors"][0]["message"]


async def test_headers_that_are_odd(registry: Registry, client: aiohttp.ClientSession, mint: Mint) -> None:
    """A12, A13, A15, A16."""
    await make_repository(client, NAME)
    good, path = mint(), f"/v2/{NAME}/tags/list"

    async def send(*lines: str, target: str = path) -> int:
        text = "\r\n".join([f"GET {target} HTTP/1.1", "Host: h", *lines, "", ""])
        return (await exchange(registry.host, text.encode("latin-1"))).status

    assert await send(f"Authorization: bEaReR   {good}  ") == 200
    assert await send(f"authorization: BEARER {good}") == 200
    assert await send(f"Authorization: Bearer {good}", f"Authorization: Bearer {good}") == 400
    assert await send(f"Authorization: Bearer {'x' * 70_000}") in (400, 431)
    assert await send(f"Authorization: Bearer {'x' * 40_000}") == 401
    assert await send(target=f"{path}?access_token={good}&token={good}") == 401
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "Digest x",
        "Basic",
        "Basic !",
        "Basic YWRtaW4=",
        "Basic /w==",
        good,
    ):
        assert await send(f"Authorization: {value}") == 401, value
    colons = base64.b64encode(b"admin:pass:with:colons").decode()
    assert await send(f"Authorization: Basic {colons}") == 401
    basic_good = base64.b64encode(f"any:{registry.token}".encode()).decode()
    assert await send(f"Authorization: bAsIc {basic_good}") == 200


async def test_a_registry_token_does_not_prolong_itself(nobody: aiohttp.ClientSession, mint: Mint) -> None:
    """A14."""
    answer = await ask(nobody, "GET", "/token", params={"service": "seatrial"}, headers=bearer(mint()))
    assert answer.status == 401
    form = {
        "grant_type": "password",
        "service": "seatrial",
        "client_id": "x",
        "username": "admin",
        "password": mint(),
    }
    assert (await ask(nobody, "POST", "/token", data=form)).status == 401
