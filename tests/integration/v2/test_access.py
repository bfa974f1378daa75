"""Who may do what on every route: made from the declared table, so that no route can be forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import aiohttp
from yarl import URL

from registry.http.v2.routes import ROUTES, Route
from tests.kit.distribution import EMPTY_CONFIG, push_small, start_upload
from tests.kit.images import digest_of
from tests.kit.server import Registry

VISIBILITIES = ("public", "internal", "private", "absent")
Headers = Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Somebody, and what is right for them: per action, the visibilities where it is allowed."""

    name: str
    headers: Headers
    pulls: frozenset[str]
    writes: bool
    known: bool


async def test_each_route_for_each_caller(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    places = {}
    for visibility in VISIBILITIES[:3]:
        name = f"{visibility}/app"
        await push_small(client, name, "v1")
        url = URL(f"/api/v1/repositories/{visibility}%2Fapp", encoded=True)
        async with client.patch(url, json={"visibility": visibility}) as response:
            assert response.status == 200, await response.text()
        places[name] = (await start_upload(client, name)).rpartition("/")[2]
    places["absent/app"] = "0" * 32
    for caller in await callers(registry, client):
        for name, session in places.items():
            visibility = name.partition("/")[0]
            for route in ROUTES:
                if route.action is None:
                    continue
                for method in route.methods:
                    if caller.writes and route.action != "pull":
                        continue  # those that may change things are tested where things are changed
                    path = address(route, name, session)
                    async with nobody.request(method, path, headers=caller.headers) as response:
                        await response.read()
                        said = (caller.name, method, path, response.status)
                        allowed = route.action == "pull" and visibility in caller.pulls
                        if allowed:
                            assert response.status in (200, 404), said
                            assert (response.status == 200) == (
                                visibility != "absent" or route.keyword == "referrers"
                            )
                        elif caller.known:
                            assert response.status == 403, said
                            assert "WWW-Authenticate" not in response.headers, said
                        else:
                            assert response.status == 401, said
                            wanted = {"pull": "pull", "push": "pull,push", "delete": "delete"}[route.action]
                            scopes = response.headers["WWW-Authenticate"].partition('scope="')[2]
                            scope = scopes.partition('"')[0]
                            assert scope.startswith(f"repository:{name}:"), said
                            assert set(wanted.split(",")) <= set(scope.rpartition(":")[2].split(",")), said


async def test_what_is_hidden_looks_like_what_is_not_there(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, "hidden", "v1")
    session = (await start_upload(client, "hidden")).rpartition("/")[2]
    for caller in await callers(registry, client):
        if caller.pulls >= {"private"}:
            continue
        for route in ROUTES:
            if route.action is None:
                continue
            for method in route.methods:
                seen = []
                for name in ("hidden", "absent"):
                    path = address(route, name, session)
                    async with nobody.request(method, path, headers=caller.headers) as response:
                        body = (await response.read()).decode().replace(name, "NAME")
                        kept = ("WWW-Authenticate", "Content-Length", "Content-Type", "Allow", "Retry-After")
                        headers = {key: response.headers.get(key, "").replace(name, "NAME") for key in kept}
                        seen.append((response.status, body, headers))
                assert seen[0] == seen[1], (caller.name, method, route.keyword)


async def callers(registry: Registry, client: aiohttp.ClientSession) -> list[Caller]:
    """Everybody: nobody, a user, the administrator, and tokens that are less than their account."""
    everywhere, shared = frozenset(VISIBILITIES), frozenset({"public", "internal"})
    user = {"name": "maria", "password": "a long enough password"}
    async with client.post("/api/v1/users", json=user) as response:
        assert response.status == 201, await response.text()
    maria = {"Authorization": aiohttp.encode_basic_auth("maria", user["password"])}
    admin = {"Authorization": aiohttp.encode_basic_auth("admin", registry.token)}
    reader = await api_token(client, ["repository:*:pull"])
    other = await api_token(client, ["repository:elsewhere/*:pull,push,delete"])
    narrow = await registry_token(client, admin, "repository:elsewhere/app:pull,push,delete")
    empty = await registry_token(client, {}, "")
    return [
        Caller("nobody", {}, frozenset({"public"}), writes=False, known=False),
        Caller("a user", maria, shared, writes=False, known=True),
        Caller("the administrator", admin, everywhere, writes=True, known=True),
        Caller("a token that reads", reader, everywhere, writes=False, known=True),
        Caller("a token for another place", other, frozenset(), writes=False, known=True),
        Caller("a registry token for another place", narrow, frozenset(), writes=False, known=False),
        Caller("a registry token for nobody", empty, frozenset(), writes=False, known=False),
    ]


async def api_token(client: aiohttp.ClientSession, scopes: list[str]) -> Headers:
    async with client.post("/api/v1/tokens", json={"name": scopes[0], "scopes": scopes}) as response:
        assert response.status == 201, await response.text()
        return {"Authorization": aiohttp.encode_basic_auth("admin", (await response.json())["token"])}


async def registry_token(client: aiohttp.ClientSession, headers: Headers, scope: str) -> Headers:
    params = {"service": "seatrial", "scope": scope}
    async with aiohttp.request(
        "GET", client._build_url("/token"), headers=headers, params=params
    ) as response:
        assert response.status == 200
        return {"Authorization": f"Bearer {(await response.json())['token']}"}


def address(route: Route, name: str, session: str) -> str:
    """An address of the route that has something to show."""
    raw_digest = digest_of(EMPTY_CONFIG)
    return {
        "tags": f"/v2/{name}/tags/list",
        "referrers": f"/v2/{name}/referrers/{raw_digest}",
        "repository-extensions": f"/v2/{name}/_oci/ext/discover",
        "tag-history": f"/v2/{name}/_seatrial/tags/history?tag=v1",
        "manifests": f"/v2/{name}/manifests/v1",
        "blobs": f"/v2/{name}/blobs/{raw_digest}",
        "uploads": f"/v2/{name}/blobs/uploads/",
        "upload": f"/v2/{name}/blobs/uploads/{session}",
    }[route.keyword]


def test_the_table_is_whole() -> None:
    rows = [(route.keyword, method) for route in ROUTES for method in route.methods]
    assert len(rows) == len(set(rows)), "one row for each keyword and method"
    needed = {route.action for route in ROUTES if route.keyword not in ("base", "catalog", "extensions")}
    assert None not in needed
    for route in ROUTES:
        if set(route.methods) & {"PUT", "POST", "PATCH"}:
            assert route.action == "push"
        elif route.methods == ("DELETE",) and route.keyword != "upload":
            assert route.action == "delete"
