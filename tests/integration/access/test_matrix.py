"""Every route for everybody everywhere, held against the table that is written by hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from registry.http.api.routes import PREFIX
from registry.http.api.table import ROUTES as API_ROUTES
from registry.http.app import create_app
from registry.http.v2.routes import ROUTES as V2_ROUTES
from tests.kit.access import Answer, ask
from tests.kit.distribution import EMPTY_CONFIG
from tests.kit.images import OCI_MANIFEST, digest_of
from tests.kit.matrix import API, LAYOUT, ON, OTHERS, PAGES, V2
from tests.kit.rights import ACTORS, GENERAL, PLACED, PLACES
from tests.kit.server import Registry, running_registry
from tests.kit.world import World, make_world

CONFIG = digest_of(EMPTY_CONFIG)
NO_DIGEST = "sha256:" + "0" * 64
NO_TRIAL = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    # From nowhere may anybody read the metrics: so they are for whom they are for.
    async with running_registry(tmp_path / "data", database_url, metrics_networks=()) as running:
        yield running


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


def sign(answer: Answer, *, hides: bool = False) -> str:
    """The sign of a cell; where a route ``hides`` what is not for the caller, 404 is one too."""
    return {401: "?", 403: "-", 404: "0" if hides else "+"}.get(answer.status, "+")


def method_of(row: str) -> str:
    return row.partition(" ")[0]


def asking(
    table: dict[str, str], rights: Collection[str], registry: Registry
) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Row, right, and who asks for it, of all rows of these rights. On SQLite everybody asks for each; on
    PostgreSQL, where the same rule decides, the rows of a right are shared out among all."""
    assert registry.services is not None
    most = 1 if registry.services.database.is_sqlite else 4
    rows, turns = Counter(table.values()), Counter[str]()
    for row, right in table.items():
        if right in rights:
            parts = min(most, rows[right])
            yield row, right, ACTORS[turns[right] % parts :: parts]
            turns[right] += 1


def test_no_route_of_the_distribution_api_is_missing() -> None:
    assert set(V2) == {f"{method} {route.keyword}" for route in V2_ROUTES for method in route.methods}


async def test_the_distribution_api(crowd: dict[str, aiohttp.ClientSession], registry: Registry) -> None:
    fresh = count()
    found, differing = {}, []
    for row, _, actors in asking(V2, PLACED, registry):
        for actor in actors:
            session = crowd[actor]
            answers = []
            for place in PLACES:
                # A push makes the repository: the next one finds another that does not exist. Its name is
                # as long as the private one's, so that answers are.
                name = f"missing/{next(fresh):03x}" if place == "missing" else f"{place}/app"
                answers.append((name, await call_v2(session, row, name)))
            found[row, actor] = "".join(sign(answer) for _, answer in answers)
            if PLACED["pull"][actor][2] != "+":
                looks = [look(answer, name) for name, answer in answers[2:]]
                differing += [(row, actor, looks)] if looks[0] != looks[1] else []
    assert found == expected(V2, registry)
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


async def test_layouts(crowd: dict[str, aiohttp.ClientSession], registry: Registry) -> None:
    found, differing = {}, []
    for row, _, actors in asking(LAYOUT, PLACED, registry):
        method, _, file = row.partition(" ")
        for actor in actors:
            session = crowd[actor]
            names = [f"{place}/app" if place != "missing" else "missing/00x" for place in PLACES]
            answers = [(name, await ask(session, method, f"/layout/{name}/{file}")) for name in names]
            found[row, actor] = "".join(sign(answer) for _, answer in answers)
            if PLACED["pull"][actor][2] != "+":
                looks = [look(answer, name) for name, answer in answers[2:]]
                differing += [(row, actor, looks)] if looks[0] != looks[1] else []
    assert found == expected(LAYOUT, registry)
    assert differing == []


async def test_pages(crowd: dict[str, aiohttp.ClientSession], world: World, registry: Registry) -> None:
    fresh = count()
    found, differing = {}, []
    for row, right, actors in asking(PAGES, PLACED, registry):
        method, _, path = row.partition(" ")
        for actor in actors:
            session = crowd[actor]
            answers = []
            for place in PLACES:
                name = f"missing/{next(fresh):03x}" if place == "missing" else f"{place}/app"
                if path.startswith("/n/") and place != "missing":
                    name = f"{place}/sub"
                trial = world.trials.get(place, NO_TRIAL)
                filled = path.format(
                    name=name, tag="v1", digest=CONFIG, trial=trial, robot="none", token_id="none"
                )
                filled += "?wait=0" if path.endswith("/live") else ""
                options = (
                    {"params" if method == "GET" else "data": ON[row] | {"on": name}} if row in ON else {}
                )
                answers.append((name, trial, await ask(session, method, filled, **options)))
            found[row, actor] = "".join(
                sign(answer, hides=right in ("trialled", "log", "again")) for *_, answer in answers
            )
            if PLACED["pull"][actor][2] != "+":
                looks = [look(answer, *given) for *given, answer in answers[2:]]
                differing += [(row, actor, looks)] if looks[0] != looks[1] else []
    assert found == expected(PAGES, registry)
    assert differing == []


def expected(table: dict[str, str], registry: Registry) -> dict[tuple[str, str], str]:
    """The cells of all rows that are about a repository, by row and who asks."""
    cells = asking(table, PLACED, registry)
    return {(row, actor): PLACED[right][actor] for row, right, actors in cells for actor in actors}


def look(answer: Answer, *given: str) -> str:
    """What a caller can tell two answers apart by, but for the names that he gave."""
    text = str(answer.look)
    for name in given:
        text = text.replace(name, "IT").replace(quote(name, ""), "IT")
    return text


async def call_v2(session: aiohttp.ClientSession, row: str, name: str) -> Answer:
    """A request of that row that changes nothing where it is allowed, or what is made anew."""
    method, _, keyword = row.partition(" ")
    reference = NO_DIGEST if method == "DELETE" else "v1"
    path = {
        "base": "/v2/",
        "catalog": "/v2/_catalog",
        "tags": f"/v2/{name}/tags/list",
        "referrers": f"/v2/{name}/referrers/{CONFIG}",
        "extensions": "/v2/_oci/ext/discover",
        "repository-extensions": f"/v2/{name}/_oci/ext/discover",
        "tag-history": f"/v2/{name}/_seatrial/tags/history?tag=v1",
        "manifests": f"/v2/{name}/manifests/{reference}",
        "blobs": f"/v2/{name}/blobs/{NO_DIGEST if method == 'DELETE' else CONFIG}",
        "uploads": f"/v2/{name}/blobs/uploads/",
        "upload": f"/v2/{name}/blobs/uploads/{'0' * 32}",
    }[keyword]
    if row == "PUT manifests":
        return await ask(session, method, path, data=b"{}", headers={"Content-Type": OCI_MANIFEST})
    return await ask(session, method, path)


def test_no_route_of_the_admin_api_is_missing() -> None:
    assert list(API) == [f"{route.method} {route.path}" for route in API_ROUTES]


QUERIES = {
    "GET /robots": "?namespace={namespace}",
    "GET /access/explain": "?actor=stranger&action=pull&target={repository}",
    "GET /hooks": "?repository={repository}",
    "GET /webhooks": "?repository={repository}",
    "GET /secrets": "?repository={repository}",
    "GET /trials/{trial_id}/export": "?format=junit",
    "GET /trials/{trial_id}/log/live": "?wait=0",
    "GET /gate": "?image={repository}:v1",
    "GET /gate/preview": "?name={repository}",
    "GET /gate/blocks": "?on={repository}",
    "GET /gate/pauses": "?namespace={namespace}",
    "GET /promotions": "?repository={repository}",
    "GET /waivers": "?repository={repository}",
    "GET /schedules": "?on={repository}",
    "GET /findings-policy": "?on={repository}",
    "DELETE /findings-policy": "?on={repository}",
    "GET /scanners": "?on={repository}",
    "DELETE /scanners": "?on={repository}&name=other",
    "GET /signature-rules": "?on={repository}",
    "GET /repositories/{name}/comparison": "?before=v1&after=v1",
    "GET /images": "?digest=sha256:00000000",
    "GET /tag-rules": "?on={repository}",
    "GET /retention": "?on={repository}",
    "DELETE /retention": "?on={repository}",
    "GET /retention/policies": "?on={repository}",
    "GET /retention/runs": "?on={repository}",
    "GET /quota": "?on={repository}",
    "DELETE /quota": "?on={repository}",
    "GET /upstreams": "?namespace={namespace}",
    "GET /audit/pulls": f"?repository={{repository}}&digest={NO_DIGEST}",
    "DELETE /sessions": "?account=stranger",
    "GET /sessions": "?account=stranger",
    "GET /refresh-tokens": "?account=stranger",
}
BODIES: dict[str, dict[str, Any]] = {
    "POST /tokens/revoke": {"account": "none"},
    "POST /namespaces": {"name": "{namespace}"},
    "POST /repositories": {"name": "{repository}"},
    "POST /namespaces/{name}/rename": {"name": "{namespace}"},
    "PUT /repositories/{name}": {"visibility": "{place}"},
    "PUT /repositories/{name}/readme": {"text": "# app"},
    "PUT /repositories/{name}/members/{member}": {"role": "reader"},
    "PUT /namespaces/{name}/members/{member}": {"role": "reader"},
    "POST /repositories/{name}/rename": {"name": "{repository}"},
    "POST /repositories/{name}/transfer": {"namespace": "{namespace}"},
    "POST /repositories/{name}/tags/{tag}/rollback": {"to": NO_DIGEST},
    "POST /repositories/{name}/tags/{tag}/move": {"to": NO_DIGEST},
    "POST /repositories/{name}/tags/{tag}/copy": {"to": "v1"},
    "POST /hooks": {"repository": "{repository}", "name": "made", "scheme": "github"},
    "POST /secrets": {"repository": "{repository}", "name": "made", "value": "of a secret"},
    "POST /secrets/{secret_id}/rotate": {"value": "of a secret"},
    "POST /upstreams": {"namespace": "{namespace}", "name": "made", "host": "docker.example"},
    "POST /webhooks": {"repository": "{repository}", "url": "https://receiver.example/"},
    "POST /trials": {"image": "{repository}:none"},
    "POST /schedules": {"on": "{repository}", "every_hours": 24, "at": "02:30"},
    "POST /findings-policy/preview": {"on": "{repository}", "policy": {"version": 1}},
    "PUT /findings-policy": {"on": "{repository}", "policy": {"version": 1}},
    "PUT /scanners": {"on": "{repository}", "name": "other", "image": "{repository}:none"},
    "POST /scanners/preview": {"on": "{repository}", "name": "other", "image": "{repository}:none"},
    "POST /tag-rules": {"on": "{repository}", "by": "regex", "pattern": "("},
    "PUT /retention": {"on": "{repository}"},
    "POST /retention/preview": {"on": "{repository}"},
    "POST /retention/runs": {"on": "{repository}"},
    "PATCH /quota": {"on": "{repository}"},
    "POST /signature-rules": {"on": "{repository}", "name": "without a key"},
    "POST /gate/block": {"image": "{repository}:none", "reason": "a test"},
    "POST /gate/unblock": {"image": "{repository}:none"},
    "POST /gate/blocks": {"on": "{repository}", "digest": NO_DIGEST, "reason": "a test"},
    "POST /gate/blocks/preview": {"on": "{repository}", "digest": NO_DIGEST},
    "POST /gate/pauses": {"namespace": "{namespace}", "until": "2026-01-01T00:00:00Z", "reason": "a test"},
    "POST /promotions": {"source": "{repository}:none", "to": "{repository}:new"},
    "POST /promotions/preview": {"source": "{repository}:none", "to": "{repository}:new"},
    "POST /waivers": {
        "image": f"{{repository}}@{NO_DIGEST}",
        "states": ["fail"],
        "reason": "a test",
        "expires_at": "2026-01-01T00:00:00Z",
    },
}


async def call_api(
    session: aiohttp.ClientSession, row: str, repository: str, namespace: str, trial: str
) -> Answer:
    """A request of that row that changes nothing where it is allowed, or what is made anew."""
    method, _, path = row.partition(" ")
    named = {
        "/repositories": repository,
        "/namespaces": namespace,
        "/gate/pauses": namespace,
        "/robots": f"{namespace}+ci",
        "/users": "stranger" if method == "GET" else "none",
    }
    name = next((name for prefix, name in named.items() if path.startswith(prefix)), "none")
    tag = "none" if method == "DELETE" else "v1"
    filled = path.format_map(
        {"name": quote(name, ""), "tag": tag, "member": "user:none", "user": "none", "trial_id": trial}
        | {"digest": NO_DIGEST}
        | dict.fromkeys(
            (
                "token_id",
                "session_id",
                "subject",
                "webhook_id",
                "delivery_id",
                "block_id",
                "waiver_id",
                "promotion_id",
                "rule_id",
                "run_id",
                "schedule_id",
                "collection_id",
                "scrub_id",
                "secret_id",
            ),
            "none",
        )
    )
    place = repository.partition("/")[0].replace("missing", "private")
    given = {"repository": repository, "namespace": namespace, "place": place}
    query = QUERIES.get(row, "").format_map(given)
    body = {
        key: value.format_map(given) if isinstance(value, str) else value
        for key, value in BODIES.get(row, {}).items()
    }
    options = {"json": body} if method in ("POST", "PUT", "PATCH") else {}
    return await ask(session, method, f"/api/v1{filled}{query}", **options)


async def test_the_admin_api(
    crowd: dict[str, aiohttp.ClientSession], world: World, registry: Registry
) -> None:
    fresh = count()
    found, differing = {}, []
    for row, right, actors in asking(API, PLACED, registry):
        for actor in actors:
            session = crowd[actor]
            answers = []
            # As long as the other names, however many there are: answers have their length.
            gone = f"missing/{next(fresh):03x}"
            for place in PLACES:
                name = gone if place == "missing" else f"{place}/app"
                within = gone if place == "missing" else f"{place}/sub"
                if right == "administer" and method_of(row) == "DELETE":
                    name = within  # a namespace that is not empty stays, and there is no such repository
                trial = world.trials.get(place, NO_TRIAL)
                answer = await call_api(session, row, name, within, trial)
                answers.append((name, within, trial, answer))
            hides = right in ("trialled", "log", "again")
            found[row, actor] = "".join(sign(answer, hides=hides) for *_, answer in answers)
            if PLACED["pull"][actor][2] != "+":
                looks = [look(answer, *given) for *given, answer in answers[2:]]
                differing += [(row, actor, looks)] if looks[0] != looks[1] else []
    assert found == expected(API, registry)
    assert differing == []


async def test_what_the_admin_api_has_without_a_place(crowd: dict[str, aiohttp.ClientSession]) -> None:
    found = {
        (row, actor): sign(await call_api(session, row, "private/app", "private/sub", NO_TRIAL))
        for row, right in API.items()
        if right in GENERAL
        for actor, session in crowd.items()
    }
    assert found == {
        (row, actor): GENERAL[right][actor]
        for row, right in API.items()
        if right in GENERAL
        for actor in ACTORS
    }


def test_no_other_route_is_missing(registry: Registry) -> None:
    assert registry.services is not None
    found = {
        f"{route.method} {route.resource.canonical}"
        for route in create_app(registry.services).router.routes()
        if route.resource is not None and route.method not in ("HEAD", "*")
    }
    api = {f"{method_of(row)} {PREFIX}{row.partition(' ')[2]}" for row in API}
    assert found - api == {*OTHERS, *PAGES}


async def test_all_other_routes(crowd: dict[str, aiohttp.ClientSession]) -> None:
    found = {}
    for row in OTHERS:
        method, _, path = row.partition(" ")
        for actor, session in crowd.items():
            options = {"json": {}} if path.startswith("/worker") else {}
            found[row, actor] = sign(await ask(session, method, re.sub(r"{[^}]+}", "none", path), **options))
    assert found == {(row, actor): GENERAL[right][actor] for row, right in OTHERS.items() for actor in ACTORS}
