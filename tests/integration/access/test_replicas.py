"""Two replicas that change one thing at once, on PostgreSQL: one of them does, and the other is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.access import Answer, api, ask, make_user
from tests.kit.distribution import push_small
from tests.kit.server import running_replicas

ROUNDS = 6
Clients = tuple[aiohttp.ClientSession, aiohttp.ClientSession]


@pytest.fixture
async def both(tmp_path: Path, make_postgres_url: Callable[[], str]) -> AsyncIterator[Clients]:
    async with (
        running_replicas(tmp_path, make_postgres_url(), 2, outgoing_networks=("127.0.0.0/8",)) as (one, two),
        one.client() as first,
        two.client() as second,
    ):
        yield first, second


async def at_once(both: Clients, *calls: tuple[str, str, dict[str, Any]]) -> list[Answer]:
    """Each call at a replica of its own."""
    return list(
        await asyncio.gather(
            *(
                ask(client, method, f"/api/v1{path}", **options)
                for client, (method, path, options) in zip(both, calls, strict=True)
            )
        )
    )


def statuses(answers: list[Answer]) -> list[int]:
    return sorted(answer.status for answer in answers)


def rename(kind: str, name: str, to: str) -> tuple[str, str, dict[str, Any]]:
    return "POST", f"/{kind}/{name.replace('/', '%2F')}/rename", {"json": {"name": to}}


async def test_a_repository_gets_one_of_two_names(both: Clients) -> None:
    first, second = both
    for number in range(ROUNDS):
        space = f"one{number}"
        digest = await push_small(first, f"{space}/app", "v1")
        answers = await at_once(
            both, *(rename("repositories", f"{space}/app", f"{space}/{to}") for to in "ab")
        )
        assert statuses(answers) == [200, 404]
        (won,) = [answer.json["name"] for answer in answers if answer.status == 200]
        left = (await api(second, "GET", f"/namespaces/{space}"))["first_repositories"]
        assert left == [won]
        assert (await ask(second, "GET", f"/v2/{won}/manifests/{digest}")).status == 200


async def test_one_of_two_repositories_gets_a_name(both: Clients) -> None:
    first, second = both
    for number in range(ROUNDS):
        space = f"two{number}"
        for name in "ab":
            await push_small(first, f"{space}/{name}", name)
        answers = await at_once(
            both, *(rename("repositories", f"{space}/{name}", f"{space}/c") for name in "ab")
        )
        assert statuses(answers) == [200, 409]
        left = (await api(second, "GET", f"/namespaces/{space}"))["first_repositories"]
        assert len(left) == 2
        assert f"{space}/c" in left


async def test_a_namespace_gets_one_of_two_names_while_a_push_makes_a_repository_in_it(both: Clients) -> None:
    first, second = both
    for number in range(ROUNDS):
        old, new = f"old{number}", [f"new{number}a", f"new{number}b"]
        await push_small(first, f"{old}/app", "v1")
        renames, pushed = await asyncio.gather(
            at_once(both, *(rename("namespaces", old, to) for to in new)),
            ask(second, "POST", f"/v2/{old}/fresh/blobs/uploads/"),
        )
        assert pushed.status in (202, 404), "the name may be another's before the upload is there"
        done = [answer.json["name"] for answer in renames if answer.status == 200]
        if pushed.status == 202 and len(done) == 2:
            # The push came between: what it made under the old name is what the second rename took along.
            everywhere = [one["name"] for one in (await api(first, "GET", "/repositories"))["items"]]
            assert len([name for name in everywhere if name in {f"{to}/fresh" for to in done}]) == 1
            continue
        assert statuses(renames) == [200, 404]
        (won,) = done
        assert (await ask(second, "GET", f"/v2/{won}/app/tags/list")).status == 200
        assert (await ask(first, "GET", f"/v2/{old}/app/tags/list")).status == 404
        everywhere = [one["name"] for one in (await api(first, "GET", "/repositories"))["items"]]
        fresh = [name for name in everywhere if name in (f"{won}/fresh", f"{old}/fresh")]
        assert len(fresh) <= 1, "it is where it was made, or where that has gone"
        assert not [name for name in everywhere if name.startswith(f"{(set(new) - {won}).pop()}/")]


async def test_two_namespaces_do_not_meet_in_one_name(both: Clients) -> None:
    first, _ = both
    for number in range(ROUNDS):
        for name in "xy":
            await push_small(first, f"{name}{number}/{name}", "v1")
        answers = await at_once(
            both, *(rename("namespaces", f"{name}{number}", f"z{number}") for name in "xy")
        )
        assert statuses(answers) == [200, 409]


async def test_of_two_who_saw_the_same_one_changes_it(both: Clients) -> None:
    first, _ = both
    await push_small(first, "team/app", "v1")
    await make_user(first, "ann")
    await api(first, "PUT", "/robots/team+ci", status=201, json={})
    await api(first, "POST", "/issuers", status=201, json={"name": "ci", "url": "https://ci.example"})
    rule = {"name": "main", "issuer": "ci", "audience": "here", "account": "team+ci"}
    rule |= {"conditions": [{"claim": "ref", "equals": "main"}], "scopes": ["repository:team/app:pull"]}
    await api(first, "POST", "/workload-rules", status=201, json=rule)
    changes: dict[str, tuple[str, list[dict[str, Any]]]] = {
        "/repositories/team%2Fapp": ("PATCH", [{"gate": "warn"}, {"visibility": "public"}]),
        "/namespaces/team": ("PATCH", [{"visibility": "public"}, {"create_on_push": False}]),
        "/users/ann": ("PATCH", [{"auditor": True}, {"disabled": True}]),
        "/robots/team+ci": ("PUT", [{"disabled": True}, {"disabled": True}]),
        "/issuers/ci": ("PATCH", [{"commit_claim": "a"}, {"commit_claim": "b"}]),
        "/workload-rules/main": ("PATCH", [{"seconds": 100}, {"seconds": 200}]),
    }
    for path, (method, bodies) in changes.items():
        seen = {"If-Match": (await ask(first, "GET", f"/api/v1{path}")).headers["ETag"]}
        answers = await at_once(both, *((method, path, {"json": body, "headers": seen}) for body in bodies))
        assert statuses(answers) == [200, 412], path
        (won,) = [answer for answer in answers if answer.status == 200]
        assert (await ask(first, "GET", f"/api/v1{path}")).headers["ETag"] == won.headers["ETag"], path
    made = await at_once(
        both, *(("PUT", "/robots/team+new", {"json": {}, "headers": {"If-None-Match": "*"}}) for _ in both)
    )
    assert statuses(made) == [201, 412]
