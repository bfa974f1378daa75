"""What issuers say of themselves: asked seldom, believed only where it can be, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from registry.auth.oidc.directory import Directory, IssuerUnavailableError
from registry.auth.oidc.signed import TokenRefusedError, peek
from registry.net.guarded import GuardedClient
from tests.kit.issuer import Issuer, running_issuer

DISCOVERY = "/.well-known/openid-configuration"


@dataclass
class Clock:
    """A clock that a test moves."""

    at: float = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.at


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer("RS256", "ES256", "EdDSA") as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def directory(clock: Clock) -> AsyncIterator[Directory]:
    client = GuardedClient([ip_network("127.0.0.0/8")])
    yield Directory(client, clock=clock)
    await client.close()


async def checked(directory: Directory, text: str) -> Any:
    """The claims of a token for us."""
    return await directory.verified(text, peek(text), audience="registry")


async def test_keys_are_asked_for_once(issuer: Issuer, directory: Directory) -> None:
    texts = [issuer.token(key, aud="registry") for key in issuer.keys]
    await asyncio.gather(*(checked(directory, text) for text in texts * 10))
    assert issuer.asked == [DISCOVERY, "/keys"]


async def test_a_new_key_is_found_and_an_old_one_forgotten(
    issuer: Issuer, directory: Directory, clock: Clock
) -> None:
    old = issuer.token(aud="registry")
    await checked(directory, old)
    issuer.rotate(keep=0)
    clock.at += 31
    assert (await checked(directory, issuer.token(aud="registry")))["sub"] == "1"
    with pytest.raises(TokenRefusedError):
        await checked(directory, old)


async def test_invented_keys_make_no_requests(issuer: Issuer, directory: Directory, clock: Clock) -> None:
    await checked(directory, issuer.token(aud="registry"))
    for second in range(90):
        clock.at += 1
        text = issuer.token(aud="registry", header={"kid": f"invented-{second}"})
        several = (checked(directory, text) for _ in range(5))
        for answer in await asyncio.gather(*several, return_exceptions=True):
            assert isinstance(answer, TokenRefusedError)
        await checked(directory, issuer.token(aud="registry"))
    # 450 of them in a minute and a half: three times, and the first.
    assert issuer.count("/keys") == 4


async def test_an_issuer_that_does_not_answer_is_asked_seldom(
    issuer: Issuer, directory: Directory, clock: Clock
) -> None:
    issuer.answers[DISCOVERY] = web.Response(status=503)
    text = issuer.token(aud="registry")
    for _ in range(10):
        with pytest.raises(IssuerUnavailableError) as told:
            await checked(directory, text)
        assert issuer.url not in told.value.message
    assert issuer.asked == [DISCOVERY]
    issuer.answers.clear()
    clock.at += 31
    await checked(directory, text)


async def test_known_keys_hold_for_an_hour_when_the_issuer_is_gone(
    issuer: Issuer, directory: Directory, clock: Clock
) -> None:
    text = issuer.token(aud="registry")
    await checked(directory, text)
    issuer.answers["/keys"] = web.Response(status=500)
    clock.at += 3599
    await checked(directory, text)
    clock.at += 31
    with pytest.raises(IssuerUnavailableError):
        await checked(directory, text)


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://accounts.example"},
        {"issuer": None},
        {"issuer": ["x"]},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": "http://[::ffff:169.254.169.254]/"},
        {"jwks_uri": "http://10.0.0.1/keys"},
        {"jwks_uri": "http://user:word@127.0.0.1/keys"},
        {"jwks_uri": "//127.0.0.1/keys"},
        {"authorization_endpoint": ["x"]},
    ],
)
async def test_discovery_that_is_not_believed(
    issuer: Issuer, directory: Directory, told: dict[str, Any]
) -> None:
    issuer.discovery = told
    with pytest.raises(IssuerUnavailableError):
        await checked(directory, issuer.token(aud="registry"))
    assert "/keys" not in issuer.asked


async def test_an_issuer_with_a_slash_more_is_another_one(issuer: Issuer, directory: Directory) -> None:
    with pytest.raises(IssuerUnavailableError):
        await checked(directory, issuer.token(aud="registry", iss=f"{issuer.url}/"))


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
async def test_answers_that_are_no_answers(issuer: Issuer, directory: Directory, path: str) -> None:
    issuer.answers[path] = web.Response(status=302, headers={"Location": f"{issuer.url}/elsewhere"})
    with pytest.raises(IssuerUnavailableError):
        await checked(directory, issuer.token(aud="registry"))
    assert "/elsewhere" not in issuer.asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not json",
        b'{"keys": []}',
        b'{"keys": [], "keys": []}',
        b'{"keys": ' + b"[" * 100_000,
        b" " * (300 * 1024),
    ],
)
async def test_key_sets_that_are_none(issuer: Issuer, directory: Directory, body: bytes) -> None:
    issuer.key_set = body
    with pytest.raises(IssuerUnavailableError):
        await checked(directory, issuer.token(aud="registry"))
