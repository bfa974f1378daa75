"""The guarded client, with real sockets: what it reaches, what it does not, and what it bears."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from structlog.testing import capture_logs

from registry.net.guarded import GuardedClient, OutgoingError, require_url

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
HOSTS = (
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "10.0.0.1",
    "192.168.0.1",
    "[fe80::1%25lo]",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
)


class Peer:
    """A server on loopback that counts who came."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer as the path says."""
        self.asked.append(request.path)
        match request.path:
            case "/moved":
                raise web.HTTPFound(f"http://127.0.0.1:{self.port}/inside")
            case "/slow":
                await asyncio.sleep(30)
            case "/packed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case "/endless":
                answer = web.StreamResponse()
                await answer.prepare(request)
                while True:
                    await answer.write(b"x" * 65536)
            case "/echo":
                return web.json_response({"form": dict(await request.post()), "seen": dict(request.headers)})
        return web.Response(text="here")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    await web.SockSite(runner, listener).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def guarded() -> AsyncIterator[GuardedClient]:
    client = GuardedClient()
    yield client
    await client.close()


@pytest.fixture
async def allowed() -> AsyncIterator[GuardedClient]:
    client = GuardedClient(LOOPBACK)
    yield client
    await client.close()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_notation_of_a_private_address_is_reached(
    guarded: GuardedClient, peer: Peer, scheme: str, host: str
) -> None:
    with capture_logs() as logs, pytest.raises(OutgoingError) as told:
        await guarded.request("GET", f"{scheme}://{host}:{peer.port}/inside", max_bytes=100)
    assert peer.asked == []
    # Refused before a socket was made, or not even looked up: never "connection refused".
    reasons = [str(entry["reason"]) for entry in logs if entry["event"] == "outgoing.failed"]
    assert all("Connect call failed" not in reason for reason in reasons)
    assert "127.0.0.1:" not in told.value.message


async def test_a_listed_network_is_reached(allowed: GuardedClient, peer: Peer) -> None:
    reply = await allowed.request("GET", f"http://localhost:{peer.port}/", max_bytes=100)
    assert (reply.status, reply.body) == (200, b"here")


async def test_a_form_is_posted(allowed: GuardedClient, peer: Peer) -> None:
    reply = await allowed.request(
        "POST",
        f"http://127.0.0.1:{peer.port}/echo",
        max_bytes=4096,
        form={"code": "a b&c"},
        headers={"X-Mark": "1"},
    )
    assert b'"code": "a b&c"' in reply.body
    assert b'"X-Mark": "1"' in reply.body


async def test_a_redirect_is_not_followed(allowed: GuardedClient, peer: Peer) -> None:
    reply = await allowed.request("GET", f"http://127.0.0.1:{peer.port}/moved", max_bytes=100)
    assert reply.status == 302
    assert peer.asked == ["/moved"]


async def test_too_much_and_too_slow(allowed: GuardedClient, peer: Peer) -> None:
    address = f"http://127.0.0.1:{peer.port}"
    with pytest.raises(OutgoingError, match="more than 100000 bytes"):
        await allowed.request("GET", f"{address}/endless", max_bytes=100_000)
    with pytest.raises(OutgoingError, match="does not answer within"):
        await allowed.request("GET", f"{address}/slow", max_bytes=100, seconds=0.2)
    with pytest.raises(OutgoingError, match="compressed"):
        await allowed.request("GET", f"{address}/packed", max_bytes=100)


class Rebinding(AbstractResolver):
    """A name server whose every answer is another one."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The next answer."""
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_name_that_turns_inwards_is_not_followed(peer: Peer) -> None:
    listed = (ip_network("127.0.0.2/32"),)
    client = GuardedClient(listed, resolver=Rebinding(["127.0.0.2"], ["127.0.0.1"]))
    try:
        for _ in range(3):
            with pytest.raises(OutgoingError):
                await client.request("GET", f"http://rebinding.example:{peer.port}/", max_bytes=100)
    finally:
        await client.close()
    assert peer.asked == []


async def test_one_good_address_of_several_is_the_one_that_is_used(peer: Peer) -> None:
    client = GuardedClient((ip_network("127.0.0.1/32"),), resolver=Rebinding(["10.0.0.1", "127.0.0.1"]))
    try:
        reply = await client.request("GET", f"http://mixed.example:{peer.port}/", max_bytes=100)
    finally:
        await client.close()
    assert reply.body == b"here"


async def test_where_clouds_keep_credentials_is_never_asked_whatever_is_listed() -> None:
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    client = GuardedClient(everything, resolver=Rebinding(["169.254.169.254"]))
    try:
        for url in ("https://metadata.example/", "http://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/"):
            with pytest.raises(OutgoingError, match="never asked"):
                await client.tell(url, b"{}", headers={}, keep_bytes=10, seconds=60)
        with pytest.raises(OutgoingError, match="credentials"):
            client.require_allowed("http://169.254.169.254/latest")
    finally:
        await client.close()


async def test_of_an_answer_to_what_is_told_only_the_beginning_is_read(
    allowed: GuardedClient, peer: Peer
) -> None:
    address = f"http://127.0.0.1:{peer.port}"
    for path, status, body in (
        ("/endless", 200, b"x" * 100),
        ("/moved", 302, b"302: Found"),
        ("/", 200, b"here"),
    ):
        reply = await allowed.tell(f"{address}{path}", b"{}", headers={}, keep_bytes=100, seconds=60)
        assert (reply.status, reply.body) == (status, body)
    with pytest.raises(OutgoingError, match="does not answer within"):
        await allowed.tell(f"{address}/slow", b"{}", headers={}, keep_bytes=100, seconds=0.2)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "issuer.example",
        "ftp://issuer.example/",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://user:word@issuer.example/",
        "https://issuer.example:99999/",
        "https://issuer.example/?a=b",
        "https://issuer.example/#x",
        "https://[::1/",
        "https://issuer example/",
        "https://issuer.example\\@10.0.0.1/",
    ],
)
def test_what_is_no_address_of_a_server(url: str) -> None:
    with pytest.raises(OutgoingError):
        require_url(url, "the issuer")
