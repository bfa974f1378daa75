"""Entity tags on updates, and PUT with a name that the caller chose."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from tests.kit.access import api, ask, basic, make_repository, make_user, make_worker_token

KINDS = ["/repositories/team%2Fapp", "/namespaces/team%2Fapp"]


@pytest.mark.parametrize("path", KINDS)
async def test_a_put_makes_or_replaces(client: aiohttp.ClientSession, path: str) -> None:
    made = await ask(client, "PUT", f"/api/v1{path}", json={"visibility": "public"})
    assert (made.status, made.json["name"], made.json["visibility"]) == (201, "team/app", "public")
    again = await ask(client, "PUT", f"/api/v1{path}", json={"visibility": "public"})
    assert (again.status, again.headers["ETag"]) == (200, made.headers["ETag"])
    back = await ask(client, "PUT", f"/api/v1{path}", json={})
    assert back.json["visibility"] == ("private" if "repositories" in path else None)
    assert back.headers["ETag"] != made.headers["ETag"]


@pytest.mark.parametrize("path", KINDS)
async def test_only_to_make_it(client: aiohttp.ClientSession, path: str) -> None:
    new = {"If-None-Match": "*"}
    made = await asyncio.gather(
        *(ask(client, "PUT", f"/api/v1{path}", json={}, headers=new) for _ in range(4))
    )
    assert sorted(answer.status for answer in made)[0] == 201
    assert {answer.status for answer in made} <= {201, 409, 412}
    assert [answer.status for answer in made].count(201) == 1
    refused = await ask(client, "PUT", f"/api/v1{path}", json={"visibility": "public"}, headers=new)
    assert (refused.status, refused.json["code"]) == (412, "PRECONDITION_FAILED")
    assert (await api(client, "GET", path))["visibility"] != "public"


@pytest.mark.parametrize("path", KINDS)
async def test_of_two_who_change_what_both_saw_one_is_told(client: aiohttp.ClientSession, path: str) -> None:
    await api(client, "PUT", path, status=201, json={})
    seen = {"If-Match": (await ask(client, "GET", f"/api/v1{path}")).headers["ETag"]}
    answers = await asyncio.gather(
        ask(client, "PATCH", f"/api/v1{path}", json={"visibility": "public"}, headers=seen),
        ask(client, "PUT", f"/api/v1{path}", json={"visibility": "internal"}, headers=seen),
    )
    assert sorted(answer.status for answer in answers) == [200, 412]
    (won,) = [answer for answer in answers if answer.status == 200]
    assert (await ask(client, "GET", f"/api/v1{path}")).headers["ETag"] == won.headers["ETag"]
    for method in ("PUT", "PATCH"):
        weak = {"If-Match": "W/" + won.headers["ETag"]}
        assert (await ask(client, method, f"/api/v1{path}", json={}, headers=weak)).status == 412
        bad = {"If-Match": "no-quotes"}
        assert (await ask(client, method, f"/api/v1{path}", json={}, headers=bad)).status == 400


async def test_a_delete_of_what_was_seen(client: aiohttp.ClientSession) -> None:
    path = "/api/v1/repositories/app"
    await make_repository(client, "app")
    seen = {"If-Match": (await ask(client, "GET", path)).headers["ETag"]}
    await api(client, "PATCH", "/repositories/app", json={"gate": "enforce"})
    assert (await ask(client, "DELETE", path, headers=seen)).status == 412
    fresh = {"If-Match": (await ask(client, "GET", path)).headers["ETag"]}
    assert (await ask(client, "DELETE", path, headers=fresh)).status == 204
    await make_repository(client, "app", gate="enforce")
    assert (await ask(client, "DELETE", path, headers=fresh)).status == 412, "made again: another one"


async def test_what_a_push_counts_is_not_part_of_it(client: aiohttp.ClientSession) -> None:
    await make_repository(client, "app", quota_bytes=5)
    before = await ask(client, "GET", "/api/v1/repositories/app")
    kept = await ask(client, "PUT", "/api/v1/repositories/app", json={})
    assert (kept.json["quota_bytes"], kept.headers["ETag"]) == (5, before.headers["ETag"])
    taken = await ask(client, "PUT", "/api/v1/repositories/app", json={"quota_bytes": None})
    assert taken.json["quota_bytes"] is None


async def test_an_address_without_conditions_refuses_them(client: aiohttp.ClientSession) -> None:
    await make_repository(client, "app")
    for header in ("If-Match", "If-None-Match"):
        answer = await ask(
            client, "POST", "/api/v1/repositories", json={"name": "other"}, headers={header: '"x"'}
        )
        assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID")
    assert len((await api(client, "GET", "/repositories"))["items"]) == 1


async def test_a_stranger_learns_nothing_by_a_put(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    as_bob = basic("bob", await make_user(client, "bob"))
    await make_repository(client, "team/hidden")
    for headers in (as_bob, as_bob | {"If-None-Match": "*"}, as_bob | {"If-Match": "*"}):
        there, absent = [
            await ask(nobody, "PUT", f"/api/v1/repositories/team%2F{name}", json={}, headers=headers)
            for name in ("hidden", "absent")
        ]
        assert there.status == absent.status == 403
        assert str(there.json["detail"]).replace("hidden", "absent") == absent.json["detail"]


PLACED: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "/retention": ("PUT", {"untagged_days": 7}, {"untagged_days": 9}),
    "/findings-policy": (
        "PUT",
        {"policy": {"version": 1, "secrets": "high"}},
        {"policy": {"version": 1, "secrets": "low"}},
    ),
    "/quota": ("PATCH", {"tags": 7}, {"tags": 9}),
}


@pytest.mark.parametrize("path", PLACED)
async def test_of_two_who_set_what_both_saw_at_a_place_one_is_told(
    client: aiohttp.ClientSession, path: str
) -> None:
    await make_repository(client, "team/app")
    method, first, second = PLACED[path]
    on = {"on": "team/app"}
    before = await ask(client, "GET", f"/api/v1{path}", params=on)
    # A quota is always said, if only that there is none; of a policy nothing stands yet.
    none = {"If-Match": before.headers["ETag"]} if before.status == 200 else {"If-None-Match": "*"}
    made = await ask(client, method, f"/api/v1{path}", json=on | first, headers=none)
    assert made.status == 200, made.body
    again = await ask(client, method, f"/api/v1{path}", json=on | second, headers=none)
    assert (again.status, again.json["code"]) == (412, "PRECONDITION_FAILED")
    seen = {"If-Match": made.headers["ETag"]}
    answers = await asyncio.gather(
        *(ask(client, method, f"/api/v1{path}", json=on | second, headers=seen) for _ in range(2))
    )
    # Who asks for what stands by then is told all the same: he had not seen it.
    assert sorted(answer.status for answer in answers) == [200, 412]
    gone = await ask(client, "DELETE", f"/api/v1{path}", params=on, headers=seen)
    assert gone.status == 412
    now = (await ask(client, "GET", f"/api/v1{path}", params=on)).headers["ETag"]
    assert (await ask(client, "DELETE", f"/api/v1{path}", params=on, headers={"If-Match": now})).status == 204


async def test_the_tag_of_a_policy_above_is_none_of_the_place(client: aiohttp.ClientSession) -> None:
    await make_repository(client, "team/app")
    body = {"policy": {"version": 1, "secrets": "high"}}
    await api(client, "PUT", "/findings-policy", json={"on": "team/", **body})
    above = await ask(client, "GET", "/api/v1/findings-policy", params={"on": "team/app"})
    headers = {"If-Match": above.headers["ETag"]}
    refused = await ask(
        client, "PUT", "/api/v1/findings-policy", json={"on": "team/app", **body}, headers=headers
    )
    assert (refused.status, "does not exist" in refused.json["detail"]) == (412, True)


async def test_a_worker_is_bound_as_it_was_seen(client: aiohttp.ClientSession) -> None:
    await make_worker_token(client, "w")
    seen = {"If-Match": (await ask(client, "GET", "/api/v1/workers/w")).headers["ETag"]}
    answers = await asyncio.gather(
        *(
            ask(client, "PATCH", "/api/v1/workers/w", json={"labels": [label]}, headers=seen)
            for label in ("a", "b", "c")
        )
    )
    assert sorted(answer.status for answer in answers) == [200, 412, 412]
