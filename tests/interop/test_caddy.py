"""The registry behind a real Caddy with the configuration that ships."""

from __future__ import annotations

import os
from pathlib import Path

from yarl import URL

from tests.kit.access import ask
from tests.kit.certificates import Authority
from tests.kit.distribution import error_code, push_blob, start_upload
from tests.kit.images import digest_of
from tests.kit.ports import free_port
from tests.kit.proxies import example, running_caddy
from tests.kit.server import Registry, RegistryProcess

MIB = 1 << 20


async def test_caddy(tmp_path: Path) -> None:
    authority, port = Authority(), free_port()
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    certificate, key = authority.sign("127.0.0.1").write(tmp_path)
    process = RegistryProcess(
        tmp_path / "data", external_url=f"https://127.0.0.1:{port}", trusted_proxies="127.0.0.1"
    )
    try:
        inner = process.start()
        site = example(
            "Caddyfile",
            {
                "\nregistry.example {": f"\nhttps://127.0.0.1:{port} {{\n\ttls {certificate} {key}",
                "reverse_proxy 127.0.0.1:8470": f"reverse_proxy {inner.host}",
            },
        )
        options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
        registry = Registry(f"127.0.0.1:{port}", inner.token, certificate=tmp_path / "ca.pem")
        with running_caddy(tmp_path / "caddy", options + site, port):
            await _used(registry)
    finally:
        process.stop()


async def _used(registry: Registry) -> None:
    content = os.urandom(MIB) * 100
    evil = {
        "X-Forwarded-For": "198.51.100.66",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "for=198.51.100.66;host=evil.example;proto=http",
    }
    async with registry.client() as client, registry.client(anonymous=True) as nobody:
        await push_blob(client, "a", content)
        async with client.get(f"/v2/a/blobs/{digest_of(content)}") as answer:
            assert answer.headers["Content-Length"] == str(len(content))
            assert await answer.read() == content
        location = await start_upload(client, "a")
        headers = {"Content-Range": f"0-{MIB - 1}"}
        answered = await ask(client, "PATCH", location, data=content[:MIB], headers=headers)
        assert (answered.status, answered.headers["Range"]) == (202, f"0-{MIB - 1}")
        for path in ("/v2/a%2fb/tags/list", "/v2/a//b/tags/list", "/v2/a/../b/tags/list"):
            address = URL(f"{registry.url}{path}", encoded=True)
            answered = await ask(client, "GET", address)  # type: ignore[arg-type]
            assert error_code(answered.body) == "NAME_INVALID", path
        answered = await ask(nobody, "GET", "/v2/", headers=evil)
        assert f'realm="{registry.url}/token"' in answered.headers["WWW-Authenticate"]
        answered = await ask(client, "POST", "/v2/a/blobs/uploads/", headers=evil)
        assert answered.headers["Location"].startswith("/v2/a/blobs/uploads/")
        headers = {"Accept-Encoding": "gzip"}
        answered = await ask(client, "GET", "/v2/a/tags/list", headers=headers)
        assert "Content-Encoding" not in answered.headers
