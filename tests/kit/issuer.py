"""A small OpenID Connect issuer on loopback: discovery, key set, authorize and token endpoints, all real.

It signs with several keys, rotates them, and misbehaves as a test tells it::

    async with running_issuer() as issuer:
        text = issuer.token(sub="job 1", aud="registry")
        issuer.person = {"sub": "7", "preferred_username": "anna"}
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote_plus, urlencode

import jwt
from aiohttp import BasicAuth, web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

LOOPBACK = ("127.0.0.0/8",)
"""What the setting ``outgoing_networks`` lists for such an issuer."""
CLIENT_ID = "registry-client"
CLIENT_SECRET = "a client secret that nobody is shown"
_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One of the issuer's keys."""

    kid: str
    algorithm: str
    private: Any

    @property
    def public(self) -> dict[str, Any]:
        """As it stands in the key set."""
        kind = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[self.algorithm[0]]
        if self.algorithm == "EdDSA":
            kind = OKPAlgorithm
        told: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**told, "kid": self.kid, "use": "sig", "alg": self.algorithm}


def new_key(algorithm: str, kid: str) -> SigningKey:
    """A key of its own for one algorithm."""
    match algorithm:
        case "ES256":
            return SigningKey(kid, algorithm, ec.generate_private_key(ec.SECP256R1()))
        case "ES384":
            return SigningKey(kid, algorithm, ec.generate_private_key(ec.SECP384R1()))
        case "ES512":
            return SigningKey(kid, algorithm, ec.generate_private_key(ec.SECP521R1()))
        case "EdDSA":
            return SigningKey(kid, algorithm, ed25519.Ed25519PrivateKey.generate())
    return SigningKey(kid, algorithm, next(_rsa_keys()))


@cache
def _rsa_keys() -> Iterator[rsa.RSAPrivateKey]:
    """A few, again and again: one takes longer to make than most tests run. Those of one test differ."""
    made = [rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS) for _ in range(4)]
    return itertools.cycle(made)


@dataclass(slots=True)
class Issuer:
    """The issuer and what it was asked; every field may be changed while it runs."""

    url: str
    keys: list[SigningKey]
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "1"})
    """What an ID token says of whoever signs in next."""
    discovery: dict[str, Any] = field(default_factory=dict)
    """What the discovery document says otherwise; ``None`` leaves a member out."""
    key_set: bytes | None = None
    answers: dict[str, web.StreamResponse] = field(default_factory=dict)
    """What a path is answered with instead."""
    asked: list[str] = field(default_factory=list)
    headers_seen: list[Mapping[str, str]] = field(default_factory=list)
    id_token: str | None = None
    """Given by the token endpoint whatever the code."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    codes_are_used_up: bool = True
    iss_in_answer: bool = False
    public_client: bool = False

    def claims(self, **given: Any) -> dict[str, Any]:
        """The claims of a good token; ``None`` leaves one out."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "1", "iat": now, "nbf": now, "exp": now + 300, **given}
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, key: SigningKey | None = None, *, header: dict[str, Any] | None = None, **given: Any
    ) -> str:
        """A token signed by ``key``, the newest if not given."""
        key = key or self.keys[-1]
        head = {"kid": key.kid, **(header or {})}
        return jwt.encode(
            self.claims(**given),
            key.private,
            algorithm=key.algorithm,
            headers={name: value for name, value in head.items() if value is not None},
        )

    def rotate(self, algorithm: str = "ES256", *, keep: int = 1) -> SigningKey:
        """Sign with a new key; ``keep`` old ones stay in the set."""
        self.keys = [*self.keys[len(self.keys) - keep :], new_key(algorithm, secrets.token_hex(4))]
        return self.keys[-1]

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return self.asked.count(path)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.asked.append(request.path)
        self.headers_seen.append(dict(request.headers))
        if request.path in self.answers:
            return self.answers[request.path]
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response(self._discovery())
            case "/keys":
                told = {"keys": [key.public for key in self.keys]}
                body = self.key_set if self.key_set is not None else json.dumps(told).encode()
                return web.Response(body=body, content_type="application/json")
            case "/authorize":
                return self._authorize(request)
            case "/token":
                return await self._token(request)
        raise web.HTTPNotFound

    def _discovery(self) -> dict[str, Any]:
        told = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
            "authorization_response_iss_parameter_supported": self.iss_in_answer,
            **self.discovery,
        }
        return {name: value for name, value in told.items() if value is not None}

    def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"]}
        if self.iss_in_answer:
            answer["iss"] = self.url
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        code = str(form.get("code"))
        asked = self.codes.pop(code, None) if self.codes_are_used_up else self.codes.get(code)
        if self.public_client:
            known = form.get("client_id") == CLIENT_ID
        else:
            sent = request.headers.get("Authorization", "")
            pair = BasicAuth.decode(sent) if sent else BasicAuth("")
            known = (unquote_plus(pair.login), unquote_plus(pair.password)) == (CLIENT_ID, CLIENT_SECRET)
        if not known:
            return web.json_response({"error": "invalid_client"}, status=401)
        hashed = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        if (
            asked is None
            or asked.get("code_challenge") != challenge
            or asked.get("code_challenge_method") != "S256"
            or asked.get("redirect_uri") != form.get("redirect_uri")
            or form.get("grant_type") != "authorization_code"
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        given = {"aud": asked["client_id"], "nonce": asked["nonce"], **self.person}
        text = self.id_token or self.token(**given)
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": text})


@asynccontextmanager
async def running_issuer(*algorithms: str) -> AsyncIterator[Issuer]:
    """An issuer with one key for each algorithm, RS256 and ES256 if none is named."""
    listener = socket.create_server(("127.0.0.1", 0))
    keys = [new_key(algorithm, f"key-{algorithm}") for algorithm in algorithms or ("RS256", "ES256")]
    issuer = Issuer(f"http://127.0.0.1:{listener.getsockname()[1]}", keys)
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", issuer.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield issuer
    finally:
        await runner.cleanup()
