"""What the registry says of itself behind a proxy, and whom it writes down as the client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.access import ask
from tests.kit.distribution import push_small
from tests.kit.server import Registry, running_registry

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "registry.example",
}


async def realm(registry: Registry, headers: dict[str, str]) -> str:
    async with registry.client(anonymous=True) as nobody:
        answer = await ask(nobody, "GET", "/v2/", headers=headers)
        assert answer.status == 401
        return answer.headers["WWW-Authenticate"].partition('realm="')[2].partition('"')[0]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("given", "expected", "address"),
    [
        ({}, None, "127.0.0.1"),
        ({"trusted_proxies": "192.0.2.0/24"}, None, "127.0.0.1"),
        ({"trusted_proxies": "127.0.0.1, ::1"}, "https://registry.example/token", "203.0.113.9"),
        (
            {"trusted_proxies": "127.0.0.0/8", "external_url": "https://other.example:8443"},
            "https://other.example:8443/token",
            "203.0.113.9",
        ),
        ({"external_url": "https://other.example"}, "https://other.example/token", "127.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_is_believed(  # noqa: PLR0917
    tmp_path: Path,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str],
    expected: str | None,
    address: str,
) -> None:
    async with running_registry(tmp_path / "data", database_url, **given) as registry:
        assert await realm(registry, FORWARDED) == expected or f"{registry.url}/token"
        async with registry.client() as client:
            await push_small(client, "a", "v1")
            answer = await ask(client, "POST", "/v2/a/blobs/uploads/", headers=FORWARDED)
            assert answer.headers["Location"].startswith("/v2/a/blobs/uploads/"), "relative: right everywhere"
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"path"' in line]
    assert logged[0]["remote"] == address
