"""What other sites' pages can make a browser do: nothing. Methods, what a browser says, and credentials."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from tests.kit.access import ask, basic, bearer, make_repository, make_user
from tests.kit.server import Registry, running_registry
from tests.kit.sessions import COOKIE, sign_in, signed_in

CHANGES = {
    "POST": ("/api/v1/tokens", 400),
    "PUT": ("/api/v1/workers/none/drain", 404),
    "PATCH": ("/api/v1/repositories/none", 404),
    "DELETE": ("/api/v1/tokens/none", 404),
}
SITES: Sequence[Sequence[str]] = (
    (),
    ("same-origin",),
    ("none",),
    ("same-site",),
    ("cross-site",),
    ("Same-Origin",),
    ("",),
    ("same-origin", "cross-site"),
    ("cross-site", "same-origin"),
)
ORIGINS = ("absent", "own", "OWN", "null", "other", "port", "scheme", "path", "longer", "twice")


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Nothing here depends on the database."""
    (tmp_path / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{tmp_path / 'seatrial.db'}"


def origins_of(registry: Registry, kind: str) -> Sequence[str]:
    own = f"http://{registry.host}"
    return {
        "absent": (),
        "own": (own,),
        "OWN": (own.upper().replace("HTTP", "http"),),
        "null": ("null",),
        "other": ("https://evil.example",),
        "port": (f"http://{registry.host.partition(':')[0]}:1",),
        "scheme": (f"https://{registry.host}",),
        "path": (f"{own}/",),
        "longer": (f"{own}.evil.example",),
        "twice": (own, own),
    }[kind]


def is_let_through(method: str, sites: Sequence[str], origin: str, *, cookie: bool) -> bool:
    """The rule, in other words than the registry's."""
    if set(sites) - {"same-origin", "none"}:
        return False
    if not cookie or method == "GET":
        return True
    return len(sites) == 1 or (not sites and origin in ("own", "OWN"))


async def test_the_matrix(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    credentials: Mapping[str, Mapping[str, str]] = {
        "cookie": {"Cookie": (await signed_in(nobody, "admin", registry.token))["Cookie"]},
        "bearer": bearer(registry.token),
        "basic": basic("admin", registry.token),
    }
    routes = {"GET": ("/api/v1/workers", 200), **CHANGES}
    wrong = []
    cases = list(itertools.product(routes, SITES, ORIGINS, credentials))
    for method, sites, origin, credential in cases:
        path, through = routes[method]
        headers = CIMultiDict(credentials[credential])
        headers.extend([("Sec-Fetch-Site", site) for site in sites])
        headers.extend([("Origin", value) for value in origins_of(registry, origin)])
        options = {"json": {}} if method in ("POST", "PATCH") else {}
        answer = await ask(nobody, method, path, headers=headers, **options)
        expected = is_let_through(method, sites, origin, cookie=credential == "cookie")
        if answer.status != (through if expected else 403):
            wrong.append((method, sites, origin, credential, answer.status))
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert wrong == []
    assert len(cases) == 5 * 9 * 10 * 3


async def test_signing_in_and_out_for_somebody_else(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """A page that signs its visitor in to its own account, or out, gets nowhere either."""
    password = await make_user(client, "bob")
    bob = (await signed_in(nobody, "bob", password))["Cookie"]
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        answer = await ask(
            nobody, "POST", "/api/v1/sessions", json={"name": "bob", "password": password}, headers=headers
        )
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
        answer = await ask(nobody, "DELETE", "/api/v1/sessions/current", headers=headers | {"Cookie": bob})
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
    assert (await ask(nobody, "DELETE", "/api/v1/sessions/current", headers={"Cookie": bob})).status == 403
    assert (await ask(nobody, "GET", "/api/v1/sessions", headers={"Cookie": bob})).status == 200
    # A program says nothing of pages; signing in needs no cookie.
    answer = await ask(nobody, "POST", "/api/v1/sessions", json={"name": "bob", "password": password})
    assert answer.status == 201


async def test_no_page_of_another_site_reads_an_answer(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """A29: no answer lets another origin read it, and no preflight is granted."""
    await make_repository(client, "open", visibility="public")
    cookie = {"Cookie": (await signed_in(nobody, "admin", registry.token))["Cookie"]}
    foreign = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    for method in ("OPTIONS", "GET", "HEAD", "POST"):
        for path in (
            "/v2/",
            "/v2/open/tags/list",
            "/v2/_catalog",
            "/token",
            "/api/v1/workers",
            "/api/v1/sessions",
            "/api/v1/repositories",
            "/api/v1/openapi.json",
            "/healthz",
            "/metrics",
            "/nothing",
        ):
            for given in ({}, cookie, basic("admin", registry.token)):
                answer = await ask(nobody, method, path, headers=foreign | given)
                granted = [name for name in answer.headers if name.lower().startswith("access-control-")]
                assert granted == [], (method, path)
                if method == "OPTIONS":
                    assert answer.status >= 400


@pytest.mark.parametrize(
    ("external_url", "origin", "status"),
    [
        ("https://registry.example", "https://registry.example", 404),
        ("https://registry.example", "https://registry.example:443", 404),
        ("https://registry.example:443", "https://REGISTRY.example", 404),
        ("https://registry.example", "http://registry.example", 403),
        ("https://registry.example", "https://registry.example:8443", 403),
        ("https://registry.example", "https://registry.example.evil", 403),
        ("http://registry.example:80", "http://registry.example", 404),
        ("http://registry.example:80", "http://registry.example:443", 403),
    ],
)
async def test_the_own_origin_is_the_address_that_clients_use(
    tmp_path: Path, database_url: str, external_url: str, origin: str, status: int
) -> None:
    async with (
        running_registry(tmp_path / "data", database_url, external_url=external_url) as registry,
        registry.client(anonymous=True) as nobody,
    ):
        answer = await sign_in(nobody, "admin", registry.token)
        name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
        assert name == (f"__Host-{COOKIE}" if external_url.startswith("https") else COOKIE)
        for headers, expected in (
            ({"Origin": origin}, status),
            ({"Origin": origin, "Host": "evil.example"}, status),
            ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
            ({"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}, 403),
            ({"Origin": f"http://{registry.host}"}, 403),
        ):
            answer = await ask(
                nobody, "DELETE", "/api/v1/tokens/none", headers=headers | {"Cookie": f"{name}={value}"}
            )
            assert answer.status == expected, headers
