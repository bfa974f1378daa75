"""Namespaces and repositories: who makes, renames and deletes them, and what becomes of what named them."""

from __future__ import annotations

import aiohttp
import pytest
from sqlalchemy import select

from registry.db.access import namespaces
from registry.db.events import events
from tests.kit.access import (
    api,
    ask,
    basic,
    bearer,
    give_role,
    make_repository,
    make_token,
    make_user,
    registry_token,
)
from tests.kit.distribution import push_blob, push_image, push_small, start_upload
from tests.kit.server import Registry
from tests.kit.trials import ScriptedWorker, tiny_image, worker_token

PASSWORD = "a long enough password"


async def somebody(
    registry: Registry, admin: aiohttp.ClientSession, name: str, **roles: str
) -> aiohttp.ClientSession:
    """A client of a new user with these roles on namespaces."""
    await make_user(admin, name, password=PASSWORD)
    for namespace, role in roles.items():
        await give_role(admin, f"{namespace}/", f"user:{name}", role)
    return registry.client(PASSWORD, user=name)


async def test_a_push_makes_the_repository_and_its_namespace_says_how(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    await api(client, "POST", "/namespaces", status=201, json={"name": "team", "visibility": "internal"})
    async with (
        await somebody(registry, client, "writer", team="writer") as writer,
        await somebody(registry, client, "maintainer", team="maintainer") as maintainer,
    ):
        await push_small(writer, "team/deep/app", "v1")
        made = await api(writer, "GET", "/repositories/team%2Fdeep%2Fapp")
        assert made["visibility"] == "internal", "as the nearest namespace says that says something"
        assert (await api(writer, "GET", "/namespaces/team%2Fdeep"))["visibility"] is None
        assert [one["name"] for one in (await api(writer, "GET", "/namespaces"))["items"]] == [
            "team",
            "team/deep",
        ]
        await api(maintainer, "PATCH", "/namespaces/team", json={"create_on_push": False})
        refused = await ask(writer, "POST", "/v2/team/deep/other/blobs/uploads/")
        assert refused.status == 403
        assert refused.json["errors"][0]["message"] == (
            "there is no repository team/deep/other, and a push makes none in team/deep; a maintainer of "
            "team/deep or an administrator can make it (seatrial repo create team/deep/other)"
        )
        await api(writer, "POST", "/repositories", status=403, json={"name": "team/deep/other"})
        await push_small(writer, "team/deep/app", "v2")
        await make_repository(maintainer, "team/deep/other", visibility="public")
        await push_small(writer, "team/deep/other", "v1")
        await push_small(maintainer, "team/deep/third", "v1")
        assert (await ask(maintainer, "POST", "/v2/top/blobs/uploads/")).status == 403
        await api(maintainer, "POST", "/repositories", status=403, json={"name": "top"})
        await api(maintainer, "POST", "/namespaces", status=403, json={"name": "other"})
        await api(maintainer, "PATCH", "/repositories/team%2Fdeep%2Fapp", json={"gate": "warn"})
        quota = await api(
            maintainer, "PATCH", "/repositories/team%2Fdeep%2Fapp", status=403, json={"quota_bytes": 1}
        )
        assert "administrator" in quota["detail"]
    await push_small(client, "top", "v1")


async def test_a_namespace_is_deleted_when_it_is_empty_or_with_all_it_holds(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    for name in ("team/app", "team/sub/app", "teams/app", "team-x/app"):
        await push_small(client, name, "v1")
    async with (
        await somebody(registry, client, "owner", team="owner") as owner,
        await somebody(registry, client, "maintainer", team="maintainer") as maintainer,
    ):
        await api(maintainer, "DELETE", "/namespaces/team?with_content=true", status=403)
        refused = await api(owner, "DELETE", "/namespaces/team", status=409)
        assert "the repository team/app is in it" in refused["detail"]
        shown = await api(owner, "GET", "/namespaces/team")
        assert (shown["repositories"], shown["namespaces"]) == (2, 1)
        assert shown["first_repositories"] == ["team/app", "team/sub/app"]
        await api(owner, "POST", "/namespaces", status=201, json={"name": "team/empty"})
        await api(owner, "DELETE", "/namespaces/team%2Fempty", status=204)
        await api(owner, "DELETE", "/namespaces/team?with_content=true", status=204)
        await api(owner, "GET", "/namespaces/team", status=403)
    left = [one["name"] for one in (await api(client, "GET", "/repositories"))["items"]]
    assert left == ["team-x/app", "teams/app"]
    assert [one["name"] for one in (await api(client, "GET", "/namespaces"))["items"]] == ["team-x", "teams"]
    assert (await api(client, "GET", "/namespaces?limit=1"))["next"] == "team-x"
    await api(client, "DELETE", "/namespaces/nowhere?with_content=true", status=404)


async def test_a_repository_goes_elsewhere_with_all_it_holds(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    digest = await push_small(client, "old/app", "v1")
    await push_small(client, "new/other", "v1")
    await make_user(client, "friend", password=PASSWORD)
    await give_role(client, "old/app", "user:friend", "reader")
    upload = await start_upload(client, "old/app")
    async with (
        await somebody(registry, client, "half", old="owner", new="maintainer") as half,
        await somebody(registry, client, "owner", old="owner", new="owner") as owner,
    ):
        await api(half, "POST", "/repositories/old%2Fapp/transfer", status=403, json={"namespace": "new"})
        await api(half, "POST", "/repositories/old%2Fapp/rename", status=403, json={"name": "app"})
        taken = await api(
            owner, "POST", "/repositories/old%2Fapp/rename", status=409, json={"name": "new/other"}
        )
        assert taken["detail"] == "there is a repository new/other already"
        await api(half, "POST", "/repositories/old%2Fapp/rename", json={"name": "old/name"})
        moved = await api(owner, "POST", "/repositories/old%2Fname/transfer", json={"namespace": "new/sub"})
        assert (moved["name"], moved["tags"]) == ("new/sub/name", 1)
        assert (await ask(owner, "GET", "/v2/old/app/manifests/v1")).status == 404
    friend = basic("friend", PASSWORD)
    assert (await ask(nobody, "GET", f"/v2/new/sub/name/manifests/{digest}", headers=friend)).status == 200
    history = await api(client, "GET", "/repositories/new%2Fsub%2Fname/tags/v1/history")
    assert [move["new_digest"] for move in history["items"]] == [digest]
    assert (await ask(client, "PATCH", upload, data=b"x")).status == 404
    there = upload.replace("/v2/old/app/", "/v2/new/sub/name/")
    assert (await ask(client, "PATCH", there, data=b"x")).status == 202
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        named = events.c.repository.in_(("old/app", "new/sub/name"))
        kinds = select(events.c.kind, events.c.repository).where(named)
        found = {(row.kind, row.repository) for row in await connection.execute(kinds)}
        assert ("repository.created", "new/sub/name") in found
        assert ("repository.renamed", "new/sub/name") in found
        assert "old/app" not in {name for _, name in found}
        names = set((await connection.execute(select(namespaces.c.name))).scalars())
        assert {"old", "new", "new/sub"} <= names


async def test_a_namespace_goes_by_another_name_with_all_it_holds(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    digest = await push_small(client, "old/app", "v1")
    for name in ("old/sub/app", "old-er/app", "taken/app"):
        await push_small(client, name, "v1")
    await api(client, "PUT", "/robots/old+ci", status=201, json={})
    await api(client, "PUT", "/robots/old%2Fsub+ci", status=201, json={})
    await give_role(client, "old/", "robot:old+ci", "writer")
    robot = (await make_token(client, "repository:*:pull,push", account="old+ci"))["token"]
    exact = (await make_token(client, "repository:old/app:pull", "repository:new/app:pull"))["token"]
    upload = await start_upload(client, "old/app")
    async with await somebody(registry, client, "owner", old="owner") as owner:
        await api(owner, "POST", "/namespaces/old/rename", status=403, json={"name": "new"})
        await api(owner, "POST", "/namespaces/taken/rename", status=403, json={"name": "old/x"})
        for to in ("taken", "old", "old/sub", "old/deeper"):
            await api(client, "POST", "/namespaces/old/rename", status=409, json={"name": to})
        for to in ("Old", "x/" * 126 + "x"):
            await api(client, "POST", "/namespaces/old/rename", status=400, json={"name": to})
        await api(client, "POST", "/namespaces/none/rename", status=404, json={"name": "new"})
        before = await api(client, "GET", "/namespaces")
        assert [one["name"] for one in before["items"]] == ["old", "old-er", "old/sub", "taken"]
        moved = await api(client, "POST", "/namespaces/old/rename", json={"name": "new"})
        assert (moved["name"], moved["repositories"], moved["namespaces"]) == ("new", 2, 1)
        assert (await ask(owner, "GET", f"/v2/new/app/manifests/{digest}")).status == 200
        assert (await ask(owner, "GET", "/v2/old/app/manifests/v1")).status == 403
        await api(owner, "PATCH", "/namespaces/new", json={"visibility": "internal"})
    assert (await ask(client, "PATCH", upload.replace("/v2/old/", "/v2/new/"), data=b"x")).status == 202
    for repository, status in (("new/app", 202), ("new/other", 202), ("old/app", 403)):
        begun = await ask(nobody, "POST", f"/v2/{repository}/blobs/uploads/", headers=bearer(robot))
        assert begun.status == status, repository
    robots = [one["name"] for one in (await api(client, "GET", "/robots"))["items"]]
    assert robots == ["new+ci", "new/sub+ci"]
    # The old name is given up: a token that names it exactly is none for what comes there next.
    await push_small(client, "old/app", "v2")
    for repository, status in (("old/app", 403), ("new/app", 200)):
        listed = await ask(nobody, "GET", f"/v2/{repository}/tags/list", headers=bearer(exact))
        assert listed.status == status, repository
    (line,) = (await api(client, "GET", "/audit?action=namespace.renamed"))["items"]
    assert (line["repository"], line["data"]) == ("new/", {"name": ["old", "new"], "repositories": 2})
    under_old = (await api(client, "GET", "/audit?repository=old%2Fsub%2Fapp"))["items"]
    assert under_old == []


async def test_what_named_a_name_that_was_given_up_opens_nothing(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Deleted and made again, renamed and made again: old tokens are not for the new repository."""
    path = "/v2/team/app/manifests/v1"
    for give_up in (("DELETE", "", None), ("POST", "/rename", {"name": "team/elsewhere"})):
        await push_small(client, "team/app", "v1")
        exact = await make_token(client, "repository:team/app:pull,push", "repository:team/other:pull")
        wide = await make_token(client, "repository:team/*:pull")
        admin = basic("admin", registry.token)
        signed = {
            "of the password": await registry_token(nobody, "repository:team/app:pull", headers=admin),
            "of the token": await registry_token(
                nobody, "repository:team/app:pull", headers=basic("x", exact["token"])
            ),
            "of the wide token": await registry_token(
                nobody, "repository:team/app:pull", headers=basic("x", wide["token"])
            ),
        }
        for headers in (bearer(exact["token"]), *map(bearer, signed.values())):
            assert (await ask(nobody, "GET", path, headers=headers)).status == 200
        method, suffix, body = give_up
        options = {} if body is None else {"json": body}
        status = 204 if body is None else 200
        await api(client, method, f"/repositories/team%2Fapp{suffix}", status=status, **options)
        await push_small(client, "team/app", "v1")
        for who, token in signed.items():
            answer = await ask(nobody, "GET", path, headers=bearer(token))
            assert answer.status == 401, who
            assert 'scope="repository:team/app:pull"' in answer.headers["WWW-Authenticate"], "and asks anew"
        assert (await ask(nobody, "GET", path, headers=bearer(exact["token"]))).status == 403
        assert (await ask(nobody, "GET", "/v2/_catalog", headers=bearer(exact["token"]))).json == {
            "repositories": []
        }
        again = await registry_token(nobody, "repository:team/app:pull", headers=basic("x", exact["token"]))
        assert (await ask(nobody, "GET", path, headers=bearer(again))).status == 403
        assert (await ask(nobody, "GET", path, headers=bearer(wide["token"]))).status == 200
        fresh = await registry_token(nobody, "repository:team/app:pull", headers=basic("x", wide["token"]))
        assert (await ask(nobody, "GET", path, headers=bearer(fresh))).status == 200
        anew = await make_token(client, "repository:team/app:pull")
        assert (await ask(nobody, "GET", path, headers=bearer(anew["token"]))).status == 200
        query = {"actor": "admin", "action": "pull", "target": "team/app", "token": exact["id"]}
        told = await api(client, "GET", "/access/explain", params=query)
        assert (told["allowed"], told["rule"]) == (False, "tombstone")
        await api(client, "DELETE", "/repositories/team%2Fapp", status=204)
        if body is not None:
            await api(client, "DELETE", "/repositories/team%2Felsewhere", status=204)


async def test_a_lease_ends_clearly_where_its_repository_is_renamed(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/app", trial_on_push=True)
    platform = "linux/amd64"
    digest = await push_image(client, "team/app", "v1", tiny_image(platform))
    headers = bearer(await worker_token(client, "w"))
    async with aiohttp.ClientSession(registry.url, headers=headers) as session:
        worker = ScriptedWorker(session, "w")
        job = await worker.claim(platforms=(platform,))
        await api(client, "POST", "/repositories/team%2Fapp/rename", json={"name": "team/new"})
        await push_small(client, "team/app", "v1")
        async with aiohttp.ClientSession(registry.url, headers=bearer(job["pull_token"])) as puller:
            for name in ("team/app", "team/new"):
                assert (await ask(puller, "GET", f"/v2/{name}/manifests/{digest}")).status in (401, 403)
        assert (await worker.renew(job)).status == 200
        assert (await worker.report(job)).status == 204
    (trial,) = await api(client, "GET", "/trials?image=team/new")
    assert (trial["image"], trial["verdict"]) == ("team/new", "pass")


@pytest.mark.parametrize("read", ["GET", "HEAD"])
async def test_a_blob_is_not_read_through_another_repository(
    registry: Registry, client: aiohttp.ClientSession, read: str
) -> None:
    digest = await push_blob(client, "secret/app", b"a secret")
    await push_small(client, "team/app", "v1")
    async with await somebody(registry, client, "writer", team="writer") as writer:
        assert (await ask(writer, read, f"/v2/team/app/blobs/{digest}")).status == 404
        for source in ({"from": "secret/app"}, {}, {"from": "no/x"}):
            query = {"mount": digest, **source}
            mounted = await ask(writer, "POST", "/v2/team/app/blobs/uploads/", params=query)
            assert mounted.status == 202, query
        assert (await ask(writer, read, f"/v2/team/app/blobs/{digest}")).status == 404
        await give_role(client, "secret/app", "user:writer", "reader")
        mounted = await ask(writer, "POST", "/v2/team/app/blobs/uploads/", params={"mount": digest})
        assert mounted.status == 201
        assert (await ask(writer, read, f"/v2/team/app/blobs/{digest}")).status == 200


async def test_an_upload_is_its_own_account_s(registry: Registry, client: aiohttp.ClientSession) -> None:
    await push_small(client, "team/app", "v1")
    await push_small(client, "other/app", "v1")
    async with (
        await somebody(registry, client, "one", team="writer") as one,
        await somebody(registry, client, "two", team="owner", other="owner") as two,
    ):
        upload = await start_upload(one, "team/app")
        for path in (upload, upload.replace("team/app", "other/app")):
            for method in ("GET", "PATCH", "PUT", "DELETE"):
                query = "?digest=sha256:" + "0" * 64 if method == "PUT" else ""
                assert (await ask(two, method, f"{path}{query}")).status == 404, (method, path)
        assert (await ask(one, "GET", upload)).status == 204
