"""Pulling over HTTP: challenges, tokens, redirects, refusals; against a real server on the loopback."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.contract.limits import PrepareLimits
from registry.oci.platform import Platform
from sandbox.errors import SandboxError
from sandbox.images.cache import Cache
from sandbox.images.pull import pull
from sandbox.images.source import open_source
from sandbox.images.sourcehttp import registry_source
from tests.kit.images import file, make_image, make_layer

IMAGE = make_image(make_layer(file("f", b"x" * 300_000)), config={"Cmd": ["/f"]})
SECRET = "secret-of-the-registry"
Server = Callable[[web.Application], Awaitable[TestServer]]


class Registry:
    """Just enough of a registry, with what it saw."""

    def __init__(self, *, login: str = "", elsewhere: str = "", blob: str = "ok") -> None:
        self.login = login
        self.elsewhere = elsewhere
        self.blob = blob
        self.seen: list[tuple[str, str | None]] = []
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization")
        self.seen.append((request.path, authorization))
        if request.path == "/token":
            assert request.query["scope"] == "repository:team/app:pull"
            return web.json_response({"token": SECRET if authorization else "anonymous"})
        if self.login and authorization != f"Bearer {SECRET}":
            realm = str(request.url.origin()) + "/token" if self.login == "own" else self.login
            challenge = f'Bearer realm="{realm}",service="s",scope="repository:team/app:pull"'
            denied = {"errors": [{"code": "UNAUTHORIZED", "message": "sign in\n first"}]}
            return web.json_response(denied, status=401, headers={"WWW-Authenticate": challenge})
        if "/manifests/" in request.path:
            return web.Response(body=IMAGE.manifest, content_type=IMAGE.media_type)
        if self.elsewhere:
            raise web.HTTPTemporaryRedirect(f"{self.elsewhere}{request.path}")
        content = IMAGE.blobs()[request.path.rpartition("/")[2]]
        if self.blob == "gzip":
            return web.Response(body=content, headers={"Content-Encoding": "gzip"})
        if self.blob == "short":
            return web.Response(body=content[:-1])
        if self.blob == "broken":
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            await response.write(content[:-1])
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=content)


async def _pull(server: TestServer, tmp_path: Path, **access: object) -> str:
    url = str(server.make_url("/")).rstrip("/")
    with Cache(tmp_path / "cache").used() as use:
        async with registry_source(url, "team/app", **access) as source:  # type: ignore[arg-type]
            found = await pull(
                source,
                "v1",
                platform=Platform("linux", "amd64"),
                use=use,
                limits=PrepareLimits(),
            )
    return str(found.digest)


async def test_without_a_login(aiohttp_server: Server, tmp_path: Path) -> None:
    server = await aiohttp_server(Registry().app)
    assert await _pull(server, tmp_path) == IMAGE.digest
    async with open_source(f"127.0.0.1:{server.port}/team/app:v1") as (source, reference):
        assert (await source.manifest(reference))[0] == IMAGE.manifest


async def test_with_a_given_token(aiohttp_server: Server, tmp_path: Path) -> None:
    registry = Registry(login="own")
    assert await _pull(await aiohttp_server(registry.app), tmp_path, token=SECRET) == IMAGE.digest
    assert "/token" not in [path for path, _ in registry.seen]


async def test_a_given_token_that_does_not_open(aiohttp_server: Server, tmp_path: Path) -> None:
    registry = Registry(login="own")
    with pytest.raises(SandboxError) as caught:
        await _pull(await aiohttp_server(registry.app), tmp_path, token="other")
    assert "answered 401" in caught.value.message
    assert "sign in? first" in caught.value.message
    assert caught.value.retryable, "the next lease may have another name or token"
    assert "other" not in str(caught.value)
    assert "/token" not in [path for path, _ in registry.seen]


async def test_with_a_password(aiohttp_server: Server, tmp_path: Path) -> None:
    registry = Registry(login="own")
    assert await _pull(await aiohttp_server(registry.app), tmp_path, credentials=("me", "pw")) == IMAGE.digest
    basic = "Basic " + base64.b64encode(b"me:pw").decode()
    assert ("/token", basic) in registry.seen
    # The password answers the challenge alone, and once.
    assert [path for path, sent in registry.seen if sent == basic] == ["/token"]


async def test_without_a_name_where_one_is_needed(aiohttp_server: Server, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="answered 401") as caught:
        await _pull(await aiohttp_server(Registry(login="own").app), tmp_path)
    assert not caught.value.retryable


async def test_a_password_is_not_sent_in_the_clear_to_another_host(
    aiohttp_server: Server, tmp_path: Path
) -> None:
    other = Registry()
    thief = await aiohttp_server(other.app)
    registry = Registry(login=str(thief.make_url("/token")))
    with pytest.raises(SandboxError, match="not safe"):
        await _pull(await aiohttp_server(registry.app), tmp_path, credentials=("me", "pw"))
    assert other.seen == []


async def test_a_redirect_to_storage_carries_no_token(aiohttp_server: Server, tmp_path: Path) -> None:
    storage = Registry()
    server = await aiohttp_server(storage.app)
    registry = Registry(login="own", elsewhere=str(server.make_url("/")).rstrip("/"))
    assert await _pull(await aiohttp_server(registry.app), tmp_path, token=SECRET) == IMAGE.digest
    assert len(storage.seen) == 2
    assert {sent for _, sent in storage.seen} == {None}


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", "//[", ""])
async def test_redirects_to_nowhere(target: str, aiohttp_server: Server, tmp_path: Path) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": target})

    app = web.Application()
    app.router.add_get("/{path:.*}", redirect)
    with pytest.raises(SandboxError, match="redirects") as caught:
        await _pull(await aiohttp_server(app), tmp_path)
    assert caught.value.reason == "pull-failed"


@pytest.mark.parametrize(
    ("blob", "reason", "retryable"),
    [("short", "digest-mismatch", False), ("broken", "pull-failed", True)],
)
async def test_bodies_that_are_cut_off(
    blob: str, reason: str, retryable: bool, aiohttp_server: Server, tmp_path: Path
) -> None:
    with pytest.raises(SandboxError) as caught:
        await _pull(await aiohttp_server(Registry(blob=blob).app), tmp_path)
    assert caught.value.reason == reason
    assert caught.value.retryable is retryable
    assert not list((tmp_path / "state").glob("**/*.tmp"))


async def test_the_body_is_taken_as_it_is(aiohttp_server: Server, tmp_path: Path) -> None:
    """A Content-Encoding must not turn a small layer into a large one before it is verified."""
    assert await _pull(await aiohttp_server(Registry(blob="gzip").app), tmp_path) == IMAGE.digest


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (429, True), (503, True)])
async def test_refusals(status: int, retryable: bool, aiohttp_server: Server, tmp_path: Path) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    with pytest.raises(SandboxError, match=f"answered {status}") as caught:
        await _pull(await aiohttp_server(app), tmp_path)
    assert caught.value.reason == "pull-failed"
    assert caught.value.retryable is retryable


async def test_a_manifest_without_end(aiohttp_server: Server, tmp_path: Path) -> None:
    async def endless(request: web.Request) -> web.Response:
        return web.Response(body=b" " * (5 << 20), content_type=IMAGE.media_type)

    app = web.Application()
    app.router.add_get("/{path:.*}", endless)
    with pytest.raises(SandboxError) as caught:
        await _pull(await aiohttp_server(app), tmp_path)
    assert caught.value.reason == "manifest-invalid"
