"""The registry behind a real nginx with the configuration that ships."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from yarl import URL

from tests.kit.access import ask
from tests.kit.certificates import Authority
from tests.kit.clients import client_home
from tests.kit.distribution import error_code, push_blob, start_upload
from tests.kit.images import busybox_image, digest_of, write_layout
from tests.kit.malformed import DIGEST
from tests.kit.malformed_http import chunks, lengths
from tests.kit.ports import free_port
from tests.kit.proxies import example, running_nginx
from tests.kit.rawhttp import read_response
from tests.kit.server import Registry, RegistryProcess

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Behind:
    """A registry as clients see it, and the log it writes."""

    registry: Registry
    log: Path

    def remotes(self) -> set[str]:
        """Whom the registry took for its clients."""
        lines = [line for line in self.log.read_text().splitlines() if '"event": "request"' in line]
        return {json.loads(line)["remote"] for line in lines}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One registry with one nginx for the module."""
    folder = tmp_path_factory.mktemp("nginx")
    authority, port = Authority(), free_port()
    (folder / "ca.pem").write_bytes(authority.certificate)
    certificate, key = authority.sign("127.0.0.1").write(folder)
    process = RegistryProcess(
        folder / "data", external_url=f"https://127.0.0.1:{port}", trusted_proxies="127.0.0.1"
    )
    try:
        registry = process.start()
        site = example(
            "nginx.conf",
            {
                "127.0.0.1:8470": registry.host,
                "listen 443 ": f"listen 127.0.0.1:{port} ",
                "/etc/ssl/registry.example/fullchain.pem": str(certificate),
                "/etc/ssl/registry.example/privkey.pem": str(key),
            },
        )
        with running_nginx(folder / "nginx", site):
            shown = Registry(f"127.0.0.1:{port}", registry.token, certificate=folder / "ca.pem")
            yield Behind(shown, process.log)
    finally:
        process.stop()


async def test_a_hundred_megabytes_there_and_back(behind: Behind) -> None:
    content = os.urandom(MIB) * 100
    digest = digest_of(content)
    async with behind.registry.client() as client:
        await push_blob(client, "whole", content)
        location = await start_upload(client, "chunked")
        for start in range(0, len(content), 30 * MIB):
            part = content[start : start + 30 * MIB]
            headers = {"Content-Range": f"{start}-{start + len(part) - 1}"}
            async with client.patch(location, data=io.BytesIO(part), headers=headers) as answer:
                assert answer.status == 202
                location = answer.headers["Location"]
        assert (await ask(client, "PUT", location, params={"digest": digest})).status == 201
        location = await start_upload(client, "streamed")
        async with client.patch(location, data=_pieces(content)) as answer:
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(content) - 1}")
        assert (await ask(client, "PUT", location, params={"digest": digest})).status == 201
        for name in ("whole", "chunked", "streamed"):
            async with client.get(f"/v2/{name}/blobs/{digest}") as answer:
                assert answer.headers["Content-Length"] == str(len(content))
                assert await answer.read() == content
        part = await ask(client, "GET", f"/v2/whole/blobs/{digest}", headers={"Range": "bytes=-5"})
        assert (part.status, part.body) == (206, content[-5:])


async def test_bytes_go_on_as_they_come(behind: Behind) -> None:
    async with behind.registry.client() as client:
        location = await start_upload(client, "slow")
        enough = asyncio.Event()

        async def halting() -> AsyncIterator[bytes]:
            yield bytes(2 * MIB)
            await enough.wait()
            yield b"x"

        sending = asyncio.create_task(ask(client, "PATCH", location, data=halting()))
        while (await ask(client, "GET", location)).headers["Range"] == "0-0":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        enough.set()
        assert (await sending).status == 202


async def test_addresses_arrive_as_they_were_written(behind: Behind) -> None:
    async with behind.registry.client() as client:
        for path, code in (
            ("/v2/a%2fb/tags/list", "NAME_INVALID"),
            ("/v2/a%2F..%2Fb/tags/list", "NAME_INVALID"),
            ("/v2/a//b/tags/list", "NAME_INVALID"),
            ("/v2/a/../b/tags/list", "NAME_INVALID"),
            ("/v2/a/./tags/list", "NAME_INVALID"),
            (f"/v2/a/blobs/{DIGEST.replace(':', '%3a')}", "BLOB_UNKNOWN"),
        ):
            answer = await ask(client, "GET", URL(f"{behind.registry.url}{path}", encoded=True))  # type: ignore[arg-type]
            assert error_code(answer.body) == code, path


async def test_nobody_outside_says_who_they_are(behind: Behind) -> None:
    evil = {
        "X-Forwarded-For": "198.51.100.66",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "for=198.51.100.66;host=evil.example;proto=http",
    }
    async with behind.registry.client(anonymous=True) as nobody, behind.registry.client() as client:
        answer = await ask(nobody, "GET", "/v2/", headers=evil)
        assert f'realm="{behind.registry.url}/token"' in answer.headers["WWW-Authenticate"]
        answer = await ask(client, "POST", "/v2/a/blobs/uploads/", headers=evil | {"Host": "evil.example"})
        assert answer.headers["Location"].startswith("/v2/a/blobs/uploads/")
        assert (await ask(client, "GET", "/v2/whose", headers=evil)).status == 404
    await logged(behind, '"path": "/v2/whose"')
    assert behind.remotes() == {"127.0.0.1"}


async def test_doubtful_framing_does_not_pass_twice(behind: Behind) -> None:
    async with behind.registry.client() as client:
        for case in (*lengths(), *chunks()):
            async with _connected(behind.registry) as (reader, writer):
                writer.write(case.raw.replace(b"{token}", behind.registry.token.encode()))
                try:
                    async with asyncio.timeout(0.7):
                        answer = await read_response(reader)
                except (TimeoutError, asyncio.IncompleteReadError):
                    continue  # a body that goes on has its own end
                if answer.status == 201:
                    # What nginx understood, it has written anew: one body for both.
                    assert case.name in ("empty", "bad trailer", "space", "bare LF", "chunked twice"), (
                        case.name
                    )
        assert (await ask(client, "GET", "/v2/")).status == 200


async def test_http_2_smuggles_nothing(behind: Behind) -> None:
    """A30: what HTTP/2 has no use for, turned into HTTP/1.1 by a proxy, would be a second request."""
    smuggled = b"0\r\n\r\nDELETE /v2/smuggled/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n"
    for extra in (
        {"transfer-encoding": "chunked"},
        {"transfer-encoding": "chunked", "content-length": str(len(smuggled))},
        {"content-length": "0"},
        {"x": "a\r\ntransfer-encoding: chunked"},
        {"x\r\ntransfer-encoding": "chunked"},
        {"connection": "transfer-encoding", "transfer-encoding": "chunked"},
        {":path": "/v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {"host": "evil.example"},
    ):
        await _send_http_2(behind.registry, extra, smuggled)
    async with behind.registry.client() as client:
        assert (await ask(client, "GET", "/v2/last")).status == 404
    # The log is written in pieces, and some came through, as one request.
    await logged(behind, '"method": "POST", "path": "/v2/"', '"path": "/v2/last"')
    assert "smuggled" not in behind.log.read_text()


def test_a_client_behind_it(behind: Behind) -> None:
    registry = behind.registry
    assert registry.certificate is not None
    with client_home() as clients:
        trusted = clients.folder / ".config" / "containers" / "certs.d" / registry.host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(registry.certificate.read_bytes())
        clients.skopeo("login", "-u", "admin", "--password-stdin", registry.host, stdin=registry.token)
        layout = write_layout(clients.folder / "image", busybox_image(["/bin/true"]), tag="v1")
        clients.skopeo("copy", f"oci:{layout}:v1", f"docker://{registry.host}/team/app:v1")
        assert clients.skopeo("list-tags", f"docker://{registry.host}/team/app")


async def logged(behind: Behind, *texts: str) -> None:
    """Wait until the log, which is written in pieces, has all of these."""
    async with asyncio.timeout(60):
        while not all(text in behind.log.read_text() for text in texts):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), MIB):
        yield content[start : start + MIB]


@asynccontextmanager
async def _connected(registry: Registry) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    name, _, port = registry.host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port), ssl=registry.tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _send_http_2(registry: Registry, extra: dict[str, str], body: bytes) -> None:
    """One request in frames of our own, with whatever headers; whatever is answered, until it ends."""
    fields = {":method": "POST", ":scheme": "https", ":authority": "x", ":path": "/v2/"} | extra
    block = b"".join(
        b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in pair) for pair in fields.items()
    )
    assert isinstance(registry.tls, ssl.SSLContext)
    context = registry.tls
    context.set_alpn_protocols(["h2"])
    name, _, port = registry.host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port), ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
    writer.write(_frame(1, 4, 1, block) + _frame(0, 1, 1, body))
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(0.4):
            while await reader.read(65536):
                pass
    writer.transport.abort()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
