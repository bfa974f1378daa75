"""A private repository and one that does not exist look the same: on every route, for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from registry.content.repositories import BY_NAME, find
from tests.kit.access import ask, basic, bearer, make_repository, make_token, make_user, registry_token
from tests.kit.distribution import push_small
from tests.kit.plans import listening
from tests.kit.server import Registry

DIGEST = "sha256:" + "0" * 64
PRIVATE, MISSING = "team/private", "team/missing"
ROUTES = [
    ("GET", "/v2/{name}/tags/list"),
    ("GET", "/v2/{name}/tags/list?n=1&last=x"),
    ("GET", "/v2/{name}/manifests/1"),
    ("HEAD", "/v2/{name}/manifests/1"),
    ("PUT", "/v2/{name}/manifests/1"),
    ("DELETE", "/v2/{name}/manifests/1"),
    ("GET", "/v2/{name}/manifests/{digest}"),
    ("DELETE", "/v2/{name}/manifests/{digest}"),
    ("GET", "/v2/{name}/blobs/{digest}"),
    ("HEAD", "/v2/{name}/blobs/{digest}"),
    ("DELETE", "/v2/{name}/blobs/{digest}"),
    ("POST", "/v2/{name}/blobs/uploads/"),
    ("POST", "/v2/{name}/blobs/uploads/?digest={digest}"),
    ("POST", "/v2/{name}/blobs/uploads/?mount={digest}&from={name}"),
    ("GET", "/v2/{name}/blobs/uploads/01a20cb239997708b29aee234f04214f"),
    ("PATCH", "/v2/{name}/blobs/uploads/01a20cb239997708b29aee234f04214f"),
    ("PUT", "/v2/{name}/blobs/uploads/01a20cb239997708b29aee234f04214f?digest={digest}"),
    ("DELETE", "/v2/{name}/blobs/uploads/01a20cb239997708b29aee234f04214f"),
    ("GET", "/v2/{name}/referrers/{digest}"),
    ("GET", "/api/v1/repositories/{coded}"),
    ("PATCH", "/api/v1/repositories/{coded}"),
    ("DELETE", "/api/v1/repositories/{coded}"),
    ("GET", "/api/v1/repositories/{coded}/tags"),
    ("GET", "/api/v1/repositories/{coded}/tags/1"),
    ("DELETE", "/api/v1/repositories/{coded}/tags/1"),
    ("GET", "/api/v1/repositories/{coded}/tags/1/history"),
    ("POST", "/api/v1/repositories/{coded}/tags/1/rollback"),
    ("GET", "/api/v1/trials?image={coded}"),
    ("GET", "/api/v1/trials?image={coded}&digest={digest}"),
]  # fmt: skip


@contextmanager
def queries() -> Iterator[list[str]]:
    """What is asked of databases in this process meanwhile."""
    seen: list[str] = []
    with listening(lambda text, _: seen.append(text)):
        yield seen


@pytest.fixture
async def callers(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> dict[str, dict[str, str]]:
    """Everybody who may not see the private repository."""
    password = await make_user(client, "bob")
    bob = basic("bob", password)
    elsewhere = (await make_token(client, "repository:other/*:pull,push,delete"))["token"]
    wanted = [f"repository:{name}:pull,push,delete" for name in (PRIVATE, MISSING)]
    read = [f"repository:{name}:pull" for name in (PRIVATE, MISSING)]
    return {
        "nobody": {},
        "nobody with a token": bearer(await registry_token(nobody, *read, headers={})),
        "bob": bob,
        "bob with a token": bearer(await registry_token(nobody, *wanted, headers=bob)),
        "bob with another token": bearer(await registry_token(nobody, "repository:x:pull", headers=bob)),
        "an administrator's token for elsewhere": basic("x", elsewhere),
        "and a registry token made with it": bearer(
            await registry_token(nobody, *wanted, headers=basic("x", elsewhere))
        ),
    }


async def test_private_is_as_if_it_were_not(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, callers: dict[str, dict[str, str]]
) -> None:
    digest = await push_small(client, PRIVATE, "1")
    for who, headers in callers.items():
        for method, template in ROUTES:
            looks = []
            for name in (PRIVATE, MISSING):
                path = template.format(name=name, coded=name.replace("/", "%2F"), digest=digest)
                options = {"json": {}} if method in ("PATCH", "POST") and path.startswith("/api/") else {}
                answer = await ask(nobody, method, path, headers=headers, allow_redirects=False, **options)
                # A HEAD may be told 404: of what is hidden and of what is not there alike.
                refused = (401, 403, 404) if method == "HEAD" else (401, 403)
                assert answer.status in refused, (who, method, template, answer.status, answer.body)
                looks.append(str(answer.look).replace(name.replace("/", "%2F"), "NAME").replace(name, "NAME"))
            assert looks[0] == looks[1], (who, method, template)


async def test_the_same_is_asked_of_the_database(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, callers: dict[str, dict[str, str]]
) -> None:
    """What takes as long: no query more for what is there, and no row."""
    digest = await push_small(client, PRIVATE, "1")
    for who, headers in callers.items():
        for method, template in ROUTES:
            asked = []
            for name in (PRIVATE, MISSING):
                path = template.format(name=name, coded=name.replace("/", "%2F"), digest=digest)
                options = {"json": {}} if method in ("PATCH", "POST") and path.startswith("/api/") else {}
                await ask(nobody, method, path, headers=headers, **options)  # what is remembered then
                with queries() as seen:
                    await ask(nobody, method, path, headers=headers, **options)
                asked.append([one for one in seen if "repositories" in one])
            assert asked[0] == asked[1], (who, method, template)


async def test_a_row_is_read_for_a_name_that_is_not_there(registry: Registry) -> None:
    assert registry.services is not None
    database = registry.services.database
    assert await find(database, PRIVATE) is None
    async with registry.client() as client:
        await make_repository(client, PRIVATE)
        await make_repository(client, "other")
    found = await find(database, PRIVATE)
    assert found is not None
    assert found.name == PRIVATE
    for missing in (MISSING, "a", "zzz", f"{PRIVATE}/x", "team"):
        assert await find(database, missing) is None
        async with database.read_once() as connection:
            assert len((await connection.execute(BY_NAME, {"name": missing})).all()) == 1


async def test_mounting_and_naming_do_not_tell_either(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """A19, A20, A25 with a token that may push elsewhere."""
    await push_small(client, PRIVATE, "1")
    blob = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    headers = basic("x", (await make_token(client, "repository:other/*:pull,push,delete"))["token"])
    for source in (PRIVATE, MISSING, "..", "UPPER"):
        answer = await ask(
            nobody, "POST", f"/v2/other/app/blobs/uploads/?mount={blob}&from={source}", headers=headers
        )
        assert answer.status == 202, source
    assert (await ask(nobody, "HEAD", f"/v2/other/app/blobs/{blob}", headers=headers)).status == 404
    encoded = PRIVATE.replace("/", "%2F")
    for path in (f"/v2/{encoded}/tags/list", f"/v2/other/app/..%2F..%2F{encoded}/tags/list"):
        assert (await ask(nobody, "GET", path, headers=headers)).status in (400, 401, 403, 404)


async def test_lists_have_only_what_the_caller_may_pull(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, callers: dict[str, dict[str, str]]
) -> None:
    await make_repository(client, PRIVATE)
    await make_repository(client, "team/internal", visibility="internal")
    await make_repository(client, "team/public", visibility="public")
    seen = {
        who: [
            item["name"]
            for item in (await ask(nobody, "GET", "/api/v1/repositories", headers=headers)).json["items"]
        ]
        for who, headers in callers.items()
        if "token" not in who or "elsewhere" in who
    }
    assert seen == {
        "nobody": ["team/public"],
        "bob": ["team/internal", "team/public"],
        "an administrator's token for elsewhere": [],
    }
    wanted = ["registry:catalog:*"]
    everybody = bearer(await registry_token(nobody, *wanted, headers={}))
    bob = bearer(await registry_token(nobody, *wanted, headers=callers["bob"]))
    limited = bearer(
        await registry_token(nobody, *wanted, headers=callers["an administrator's token for elsewhere"])
    )
    catalogs = [
        (await ask(nobody, "GET", "/v2/_catalog", headers=headers)).json["repositories"]
        for headers in (everybody, bob, limited)
    ]
    assert catalogs == [["team/public"], ["team/internal", "team/public"], []]
