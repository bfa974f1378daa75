"""Every route for everybody everywhere, held against the table that is written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import aiohttp
import pytest

from registry.http.v2.routes import ROUTES as V2_ROUTES
from tests.kit.access import Answer, ask
from tests.kit.distribution import EMPTY_CONFIG
from tests.kit.images import OCI_MANIFEST, digest_of
from tests.kit.matrix import ACTORS, GENERAL, PLACED, PLACES, V2
from tests.kit.server import Registry
from tests.kit.world import World, make_world

CONFIG = digest_of(EMPTY_CONFIG)
NO_DIGEST = "sha256:" + "0" * 64


@pytest.fixture
async def world(registry: Registry, client: aiohttp.ClientSession) -> World:
    return await make_world(registry, client)


@pytest.fixture
async def crowd(registry: Registry, world: World) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    """A client of each actor."""
    clients = {
        name: aiohttp.ClientSession(f"http://{registry.host}", headers=world.headers[name]) for name in ACTORS
    }
    yield clients
    for one in clients.values():
        await one.close()


def sign(answer: Answer) -> str:
    return {401: "?", 403: "-"}.get(answer.status, "+")


def test_no_route_of_the_distribution_api_is_missing() -> None:
    assert set(V2) == {f"{method} {route.keyword}" for route in V2_ROUTES for method in route.methods}


async def test_the_distribution_api(crowd: dict[str, aiohttp.ClientSession]) -> None:
    fresh = count()
    found, differing = {}, []
    for row, right in V2.items():
        if right not in PLACED:
            continue
        for actor, session in crowd.items():
            answers = []
            for place in PLACES:
                # A push makes the repository: the next one finds another that does not exist. Its name is
                # as long as the private one's, so that answers are.
                name = f"absent/{next(fresh):04}" if place == "absent" else f"{place}/app"
                answers.append((name, await call_v2(session, row, name)))
            found[row, actor] = "".join(sign(answer) for _, answer in answers)
            if PLACED["pull"][actor][2] != "+":
                looks = [look(name, answer) for name, answer in answers[2:]]
                differing += [(row, actor, looks)] if looks[0] != looks[1] else []
    assert found == {(row, actor): PLACED[right][actor] for row, actor, right in placed(V2)}
    assert differing == []


async def test_what_the_distribution_api_has_without_a_place(crowd: dict[str, aiohttp.ClientSession]) -> None:
    found = {
        (row, actor): sign(await call_v2(session, row, ""))
        for row, right in V2.items()
        if right in GENERAL
        for actor, session in crowd.items()
    }
    assert found == {
        (row, actor): GENERAL[right][actor]
        for row, right in V2.items()
        if right in GENERAL
        for actor in ACTORS
    }


def placed(table: dict[str, str]) -> list[tuple[str, str, str]]:
    """Row, actor, right of all rows that are about a repository."""
    return [(row, actor, right) for row, right in table.items() if right in PLACED for actor in ACTORS]


def look(name: str, answer: Answer) -> object:
    """What a caller can tell two answers apart by, but for the name that he gave."""
    return str(answer.look).replace(name, "NAME").replace(name.replace("/", "%2F"), "NAME")


async def call_v2(session: aiohttp.ClientSession, row: str, name: str) -> Answer:
    """A request of that row that changes nothing where it is allowed, or what is made anew."""
    method, _, keyword = row.partition(" ")
    reference = NO_DIGEST if method == "DELETE" else "v1"
    path = {
        "base": "/v2/",
        "catalog": "/v2/_catalog",
        "tags": f"/v2/{name}/tags/list",
        "referrers": f"/v2/{name}/referrers/{CONFIG}",
        "manifests": f"/v2/{name}/manifests/{reference}",
        "blobs": f"/v2/{name}/blobs/{NO_DIGEST if method == 'DELETE' else CONFIG}",
        "uploads": f"/v2/{name}/blobs/uploads/",
        "upload": f"/v2/{name}/blobs/uploads/{'0' * 32}",
    }[keyword]
    if row == "PUT manifests":
        return await ask(session, method, path, data=b"{}", headers={"Content-Type": OCI_MANIFEST})
    return await ask(session, method, path)
