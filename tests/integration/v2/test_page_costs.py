"""Pages of long lists: each is read from a range of an index, without a scan or a sort."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import insert, literal, select, update

from registry.content import collecting
from registry.db.content import deleted_manifests, manifests, repositories, tag_history, tags
from registry.db.dialect import portions
from registry.db.engine import Database
from registry.db.types import db_time
from registry.storage.filesystem import FilesystemStore
from tests.kit.access import api, ask, basic, give_role, make_token, make_user, registry_token
from tests.kit.plans import plan_of, recorded, require_ranges, sent
from tests.kit.rows import (
    COMMON_TYPE,
    FEW,
    RARE_TYPE,
    REPOSITORY,
    SUBJECT,
    Linked,
    Rows,
    Tagged,
    fill,
    fill_linked,
    fill_tagged,
)
from tests.kit.server import Registry, running_registry

COUNT = 5000


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """A registry with long lists, on SQLite and on PostgreSQL."""
    fill(database_url, Rows(repositories=COUNT, tags=COUNT, referrers=COUNT))
    async with running_registry(tmp_path / "data", database_url) as running:
        yield running


def database_of(registry: Registry) -> Database:
    """The registry's database."""
    assert registry.services is not None
    return registry.services.database


async def test_tags(registry: Registry, client: aiohttp.ClientSession) -> None:
    with recorded("tags") as statements:
        answer = await ask(client, "GET", f"/v2/{REPOSITORY}/tags/list?n=2&last=t00002499")
        assert answer.json["tags"] == ["t00002500", "t00002501"]
        assert "last=t00002501" in answer.headers["Link"]
        answer = await ask(client, "GET", f"/v2/{REPOSITORY}/tags/list")
        assert len(answer.json["tags"]) == 1000
    await require_ranges(database_of(registry), statements)


async def test_tags_as_they_are_searched(registry: Registry, client: aiohttp.ClientSession) -> None:
    """In each order, whatever is asked for: also where nothing is found."""
    path = "/repositories/long%2Flists/tags"
    with recorded("tags") as statements:
        for query in (
            {},
            {"cursor": "t00002499"},
            {"glob": "t00004*1"},
            {"glob": "*9", "platform": "linux/amd64", "label": "a=b", "signed": "true", "state": "pass"},
            {"order": "updated"},
            {"order": "updated", "cursor": "0:t00002500", "updated_since": "1970-01-01T00:00:00Z"},
            {"order": "version", "regex": ".*9", "semver": "*"},
            {"order": "version", "cursor": ":t00002500"},
        ):
            page = await api(client, "GET", path, params={"limit": "2", **query})
            assert page["next"], query
    await require_ranges(database_of(registry), statements)
    page = await api(client, "GET", path, params={"limit": "2", "cursor": "t00002499"})
    assert [one["name"] for one in page["items"]] == ["t00002500", "t00002501"]
    last = {"order": "updated", "cursor": "0:t00002500", "limit": "2"}
    page = await api(client, "GET", path, params=last)
    assert [one["name"] for one in page["items"]] == ["t00002499", "t00002498"]


async def test_platforms_of_indexes_are_looked_up_one_by_one(tmp_path: Path, database_url: str) -> None:
    """Also by SQLite, which has no statistics: not by reading all manifests of the repository."""
    async with running_registry(tmp_path / "data", database_url):
        pass
    fill_tagged(database_url, Tagged("long/tags", COUNT))
    async with running_registry(tmp_path / "data", database_url) as running, running.client() as client:
        database = database_of(running)
        if not database.is_sqlite:
            async with database.write() as connection:
                await connection.exec_driver_sql("ANALYZE")
        with recorded("edges") as statements:
            page = await api(client, "GET", "/repositories/long%2Ftags/tags?limit=50&cursor=1.2.")
        assert {*page["items"][0]["platforms"]} == {"linux/amd64", "linux/arm64"}
        (statement,) = statements
        plan = await plan_of(database, statement)
    if database.is_sqlite:
        assert "(repository_id=? AND digest=?)" in plan
        assert "(repository_id=?)" not in plan
    else:
        assert "Seq Scan" not in plan


async def test_histories(registry: Registry, client: aiohttp.ClientSession) -> None:
    async with database_of(registry).write() as connection:
        number = (await connection.execute(select(tags.c.repository_id).limit(1))).scalar_one()
        line = {"repository_id": number, "action": "push", "actor": "a"}
        rows = [{**line, "name": f"t{n % 50:08}", "new_digest": f"sha256:{n:064x}"} for n in range(COUNT)]
        gone = [{**line, "name": f"gone{n:08}", "old_digest": SUBJECT} for n in range(COUNT)]
        # Of all repositories, as it is where there is more than one.
        rows += [each | {"repository_id": number + n % 100} for n, each in enumerate(gone)]
        for some in portions(rows):
            await connection.execute(insert(tag_history).values(at=db_time()), list(some))
        columns = ("repository_id", "digest", "media_type", "deleted_by", "deleted_at")
        kept = select(manifests.c.repository_id, manifests.c.digest, literal("m"), literal("a"), db_time())
        await connection.execute(insert(deleted_manifests).from_select(columns, kept))
        await connection.exec_driver_sql("ANALYZE")
    with recorded("tag_history") as statements:
        for path, query in (
            ("tags/t00000007/history", {}),
            ("tags/t00000007/history", {"cursor": "3000"}),
            ("tags/t00000007", {"at": "2100-01-01T00:00:00Z"}),
            ("deleted-tags", {}),
            ("deleted-tags", {"cursor": "9000000000000000:1"}),
        ):
            found = await api(
                client,
                "GET",
                f"/repositories/long%2Flists/{path}",
                params={**query, "limit": "2"} if "at" not in query else query,
            )
            assert found.get("next") or found["digest"], path
    await require_ranges(database_of(registry), statements)


async def test_referrers(registry: Registry, client: aiohttp.ClientSession) -> None:
    path = f"/v2/{REPOSITORY}/referrers/{SUBJECT}"
    with recorded("manifests") as statements:
        answer = await ask(client, "GET", path, params={"n": "3"})
        assert len(answer.json["manifests"]) == 3
        assert answer.json["manifests"][0]["annotations"] == {"k": "v"}
        following = answer.headers["Link"].partition(">")[0].removeprefix("<")
        answer = await ask(client, "GET", following)
        assert answer.json["manifests"][0]["digest"].endswith("03")
        rare = await ask(client, "GET", path, params=[("artifactType", RARE_TYPE), ("artifactType", "x/y")])
        assert len(rare.json["manifests"]) == COUNT // FEW
        assert "Link" not in rare.headers
        both = [("artifactType", RARE_TYPE), ("artifactType", COMMON_TYPE), ("n", "2")]
        answer = await ask(client, "GET", path, params=both)
        kinds = [one["artifactType"] for one in answer.json["manifests"]]
        assert kinds == [RARE_TYPE, COMMON_TYPE]
    # Rows of the page itself are looked up by number.
    pages = [one for one in statements if "manifests.annotations" not in one.text]
    await require_ranges(database_of(registry), pages)


async def test_the_catalog_of_whoever_sees_all(registry: Registry, client: aiohttp.ClientSession) -> None:
    with recorded("repositories") as statements:
        answer = await ask(client, "GET", "/v2/_catalog?n=1000&last=many/00002000")
    assert answer.json["repositories"][0] == "many/00002001"
    assert len(answer.json["repositories"]) == 1000
    await require_ranges(database_of(registry), statements)


async def test_the_catalog_of_a_token_that_covers_few(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    scopes = ("repository:few/*:pull", "repository:many/00000001:pull", "repository:none/*:pull")
    token = str((await make_token(client, *scopes))["token"])
    few = [f"few/{number:08}" for number in range(0, COUNT, FEW)]
    async with registry.client(token) as limited:
        with recorded("repositories") as statements:
            answer = await ask(limited, "GET", "/v2/_catalog")
        assert answer.json["repositories"] == [*few, "many/00000001"]
        answer = await ask(limited, "GET", "/v2/_catalog?n=2&last=few/00001000")
        assert answer.json["repositories"] == few[2:4]
        answer = await ask(limited, "GET", "/v2/_catalog?last=few/99999999")
        assert answer.json["repositories"] == ["many/00000001"]
    await require_ranges(database_of(registry), statements)
    token = str((await make_token(client, "repository:*/00001000:pull"))["token"])
    async with registry.client(token) as limited:
        answer = await ask(limited, "GET", "/v2/_catalog?n=1")
        assert (answer.json["repositories"], "Link" in answer.headers) == (["few/00001000"], False)


async def test_the_catalog_of_whoever_sees_the_public_and_the_internal(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    async with database_of(registry).write() as connection:
        for name, visibility in (("many/00004001", "public"), ("many/00000002", "internal")):
            await connection.execute(
                update(repositories).where(repositories.c.name == name).values(visibility=visibility)
            )
    password = await make_user(client, "somebody")
    with recorded("repositories") as statements:
        answer = await ask(nobody, "GET", "/v2/_catalog", headers=basic("somebody", password))
        assert answer.json["repositories"] == ["many/00000002", "many/00004001"]
        answer = await ask(nobody, "GET", "/v2/_catalog?n=1", headers=basic("somebody", password))
        assert answer.json["repositories"] == ["many/00000002"]
        token = await registry_token(nobody, "registry:catalog:*", headers={})
        headers = {"Authorization": f"Bearer {token}"}
        answer = await ask(nobody, "GET", "/v2/_catalog", headers=headers)
        assert answer.json["repositories"] == ["many/00004001"]
    await require_ranges(database_of(registry), statements)


async def test_the_catalog_of_whoever_has_roles(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """All that the roles open, nothing else, and none of the thousands between."""
    password = await make_user(client, "member")
    empty = [f"empty{number:02}" for number in range(30)]
    for name in ("few", "many", *empty):
        await api(client, "POST", "/namespaces", status=201, json={"name": name})
    for name in ("few", *empty):
        await give_role(client, f"{name}/", "user:member", "reader")
    await give_role(client, "many/00000007", "user:member", "writer")
    await api(client, "PATCH", "/repositories/many%2F00004001", json={"visibility": "public"})
    await api(client, "PATCH", "/repositories/few%2F00001000", json={"visibility": "public"})
    few = [f"few/{number:08}" for number in range(0, COUNT, FEW)]
    everything = [*few, "many/00000007", "many/00004001"]
    async with registry.client(password, user="member") as member:
        with recorded("repositories") as statements:
            answer = await ask(member, "GET", "/v2/_catalog")
            assert answer.json["repositories"] == everything
            found, path = [], "/v2/_catalog?n=2"
            while path:
                page = await ask(member, "GET", path)
                found += page.json["repositories"]
                path = page.headers.get("Link", "").partition(">")[0].removeprefix("<")
            assert found == everything
        listed = await api(member, "GET", "/repositories")
        assert [one["name"] for one in listed["items"]] == everything
        for namespace, below in (("few", few), ("many", everything[-2:]), ("man", []), ("empty01", [])):
            listed = await api(member, "GET", f"/repositories?namespace={namespace}")
            assert [one["name"] for one in listed["items"]] == below
        spaces = [one["name"] for one in (await api(member, "GET", "/namespaces"))["items"]]
        assert spaces == [*empty, "few"]
        token = str((await make_token(member, "repository:few/*:pull", "repository:many/*7:pull"))["token"])
    async with registry.client(token) as limited:
        answer = await ask(limited, "GET", "/v2/_catalog")
        assert answer.json["repositories"] == [*few, "many/00000007"]
        listed = await api(limited, "GET", "/repositories?namespace=many")
        assert [one["name"] for one in listed["items"]] == ["many/00000007"]
        spaces = [one["name"] for one in (await api(limited, "GET", "/namespaces"))["items"]]
        assert spaces == ["few"]
    # Of several at once, only the outermost step is over what the others found.
    single = [one for one in statements if "UNION" not in one.text]
    await require_ranges(database_of(registry), single)
    assert len(single) < len(statements)


async def test_a_page_has_an_entity_tag(client: aiohttp.ClientSession) -> None:
    for path in (
        f"/v2/{REPOSITORY}/tags/list?n=2",
        "/v2/_catalog?n=2",
        f"/v2/{REPOSITORY}/referrers/{SUBJECT}?n=2",
    ):
        page = await ask(client, "GET", path)
        again = await ask(client, "GET", path, headers={"If-None-Match": page.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["Link"] == page.headers["Link"]
        other = await ask(client, "GET", path.replace("n=2", "n=3"))
        assert other.headers["ETag"] != page.headers["ETag"]


async def test_retention(tmp_path: Path, database_url: str) -> None:
    """Of a repository of many: nothing of another one is read, nor all that there is of anything."""
    fill_tagged(database_url, Tagged(repository="many/others", tags=4 * COUNT))
    fill_tagged(database_url, Tagged(repository="one/of-many", tags=400))
    keep = [{"last": 3, "order": "version"}, {"last": 3}, {"pulled_days": 30, "moved_days": 30}]
    policy = {"keep": keep, "untagged_days": 7, "referrers_days": 7, "failed_days": 7}
    async with running_registry(tmp_path / "data", database_url) as registry, registry.client() as client:
        database = database_of(registry)
        async with database.write() as connection:
            await connection.exec_driver_sql("ANALYZE")
        with sent() as statements:
            body = {"on": "one/of-many", "policy": policy, "staying": 5}
            found = await api(client, "POST", "/retention/preview", json=body)
        assert (found["tags"], found["manifests"]) == (400, 400)
        assert found["tags_going"]
        assert found["manifests_going"]
        large = ("tags", "manifests", "edges", "tag_history", "pull_days")
        seen = [one for one in statements if any(f"FROM {table}" in one.text for table in large)]
        assert len(seen) > 5
        for statement in seen:
            plan = await plan_of(database, statement)
            bad = [one for one in plan.splitlines() if _reads_all(one, large)]
            assert not bad, (statement.text, plan)


async def test_collections(tmp_path: Path, database_url: str) -> None:
    """Each portion reads what is due, or a range, and looks the rest up by an index."""
    many, dead, grace = 4 * COUNT, collecting.AT_ONCE, timedelta(days=1)
    fill_tagged(database_url, Tagged(repository="many/others", tags=many))
    fill_linked(database_url, Linked(repository="many/others", blobs=many, dead=dead))
    database = Database(database_url)
    try:
        async with database.write() as connection:
            await connection.exec_driver_sql("ANALYZE")
        with sent() as statements:
            assert (await collecting.review_links(database, grace=grace)).removed == dead
            assert (await collecting.remove_blobs(database, str(many - 100))).removed == dead
            last = f"sha256:{many - 100:064x}"
            assert (await collecting.remove_manifests(database, last, grace=grace)).position is None
            store = FilesystemStore(tmp_path / "blobs")
            assert (await collecting.delete_bytes(database, store)).removed == dead
        large = ("blobs", "blob_links", "manifests", "manifest_contents", "edges")
        seen = [one for one in statements if not one.text.startswith("INSERT")]
        assert len(seen) > 8
        for statement in seen:
            plan = await plan_of(database, statement)
            bad = [one for one in plan.splitlines() if _reads_all(one, large)]
            assert not bad, (statement.text, plan)
    finally:
        await database.close()


def _reads_all(step: str, tables: Sequence[str]) -> bool:
    return any(f"Seq Scan on {table}" in step or step.startswith(f"SCAN {table}") for table in tables)
