"""Quotas of namespaces, and of tags, repositories and uploads: what is refused, told, and read."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select

from registry.content import blobs, repositories
from registry.db.content import blobs as blob_rows
from registry.db.events import events
from tests.kit.access import Answer, api, ask, basic, give_role, make_repository, make_user
from tests.kit.distribution import (
    EMPTY_CONFIG,
    push_blob,
    push_small,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of
from tests.kit.promoting import SOURCE, TO, judge, promoted, refused
from tests.kit.server import Registry, running_replicas
from tests.kit.trials import open_port, tiny_image
from tests.kit.usage import recounted

APP = "team/app"
DEEP = "team/deep/app"


async def limit(client: aiohttp.ClientSession, on: str, **most: int | None) -> Any:
    return await api(client, "PATCH", "/quota", json={"on": on, **most})


async def used(client: aiohttp.ClientSession, on: str) -> Any:
    return (await api(client, "GET", "/quota", params={"on": on}))["used"]


async def push_whole(client: aiohttp.ClientSession, name: str, content: bytes) -> Answer:
    """Open an upload and send a blob, whatever comes of it."""
    location = await start_upload(client, name)
    return await ask(client, "PUT", location, params={"digest": digest_of(content)}, data=content)


def denied(answer: Answer) -> tuple[str, dict[str, object]]:
    """The message, and the numbers."""
    assert answer.status == 403, answer.body
    (error,) = answer.json["errors"]
    assert error["code"] == "DENIED"
    return error["message"], error["detail"]


async def reached(registry: Registry, on: str) -> list[tuple[str, int, int, int]]:
    """What events said of a place: resource, percent, used, quota."""
    assert registry.services is not None
    query = select(events.c.data).where(events.c.kind == "quota.reached", events.c.repository == on)
    async with registry.services.database.read() as connection:
        told = [
            json.loads(data) for data in (await connection.execute(query.order_by(events.c.id))).scalars()
        ]
    return [(one["resource"], one["percent"], one["used"], one["quota"]) for one in told]


async def test_bytes_of_a_namespace(client: aiohttp.ClientSession) -> None:
    await push_blob(client, APP, b"a" * 1000)
    shown = await limit(client, "team/", bytes=1500)
    assert (shown["used"]["bytes"], shown["quota"]["bytes"]) == (1000, 1500)
    # Below it, however deep, and before the bytes are sent.
    location = await start_upload(client, DEEP)
    headers = {"Content-Length": str(10**9), "Expect": "100-continue"}
    message, detail = denied(await ask(client, "PATCH", location, data=None, headers=headers))
    assert message.startswith(
        "the namespace team holds 1000 of the 1500 bytes that its quota allows, and this"
    )
    assert "needs 1000000000 more" in message
    assert "seatrial quota set" in message
    numbers = {"used_bytes": 1000, "needed_bytes": 10**9, "quota_bytes": 1500}
    assert detail == numbers | {"namespace": "team"}
    assert (await ask(client, "GET", location)).status == 404
    # With what the upload holds already.
    location = await start_upload(client, DEEP)
    assert (await ask(client, "PATCH", location, data=b"b" * 300)).status == 202
    _, detail = denied(await ask(client, "PATCH", location, data=b"c" * 300))
    assert detail["needed_bytes"] == 600
    assert (await ask(client, "GET", location)).status == 404

    # Of unknown size: at the end, and nothing stays.
    async def stream() -> object:
        yield b"d" * 501

    location = await start_upload(client, DEEP)
    assert (await ask(client, "PATCH", location, data=stream())).status == 202
    digest = digest_of(b"d" * 501)
    _, detail = denied(await ask(client, "PUT", location, params={"digest": digest}))
    assert detail["needed_bytes"] == 501
    # In the first push of a repository, by one request.
    path = "/v2/team/new/blobs/uploads/"
    _, detail = denied(await ask(client, "POST", path, params={"digest": digest}, data=b"d" * 501))
    assert detail["used_bytes"] == 1000
    # A mount counts where it goes, a manifest as well.
    await push_blob(client, "other/app", b"e" * 501)
    query = {"mount": digest_of(b"e" * 501), "from": "other/app"}
    denied(await ask(client, "POST", f"/v2/{DEEP}/blobs/uploads/", params=query))
    await limit(client, "team/", bytes=1000 + len(EMPTY_CONFIG))
    await push_blob(client, APP, EMPTY_CONFIG)
    denied(await put_manifest(client, APP, "a", small_manifest()))
    assert (await used(client, "team/"))["bytes"] == 1000 + len(EMPTY_CONFIG)
    # Elsewhere it is nobody's business, and pulls go on; what is there already takes no room.
    await push_blob(client, "other/app", b"f" * 5000)
    assert (await ask(client, "GET", f"/v2/{APP}/blobs/{digest_of(b'a' * 1000)}")).body == b"a" * 1000
    assert (await push_whole(client, APP, EMPTY_CONFIG)).status in (201, 403)
    # The quotas of all namespaces above count.
    await limit(client, "team/", bytes=10_000)
    await limit(client, "team/deep/", bytes=10)
    _, detail = denied(await push_whole(client, DEEP, b"g" * 11))
    assert detail["namespace"] == "team/deep"
    assert (await push_whole(client, APP, b"g" * 11)).status == 201


async def test_repositories_of_a_namespace(client: aiohttp.ClientSession) -> None:
    await push_blob(client, APP, b"a")
    await limit(client, "team/", repositories=2)
    await push_blob(client, DEEP, b"a")
    message, detail = denied(await ask(client, "POST", "/v2/team/third/blobs/uploads/"))
    assert message.startswith(
        "the namespace team holds 2 of the 2 repositories that its quota allows, and this"
    )
    assert detail == {
        "used_repositories": 2,
        "needed_repositories": 1,
        "quota_repositories": 2,
        "namespace": "team",
    }
    made = await ask(client, "POST", "/api/v1/repositories", json={"name": "team/third"})
    assert (made.status, made.json["code"]) == (403, "DENIED")
    assert (await ask(client, "PUT", "/api/v1/repositories/team%2Fthird", json={})).status == 403
    # What is moved below it counts as well; within it nothing is new.
    await make_repository(client, "other/fourth")
    moved = "/api/v1/repositories/other%2Ffourth/transfer"
    assert (await ask(client, "POST", moved, json={"namespace": "team/deep"})).status == 403
    assert (
        await ask(client, "POST", "/api/v1/namespaces/other/rename", json={"name": "team/x"})
    ).status == 403
    await api(client, "POST", "/repositories/team%2Fapp/rename", json={"name": "team/deep/b"})
    await api(client, "DELETE", "/repositories/team%2Fdeep%2Fb", status=204)
    await api(client, "POST", "/namespaces/other/rename", json={"name": "team/x"})
    assert (await used(client, "team/"))["repositories"] == 2


async def test_bytes_and_tags_that_are_moved_into_a_namespace(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "other/app", b"a" * 100)
    await push_small(client, "other/app", "1")
    await make_repository(client, APP)
    for most in ({"bytes": 99, "tags": None}, {"bytes": None, "tags": 0}):
        await limit(client, "team/", **most)
        answer = await ask(client, "POST", "/api/v1/repositories/other%2Fapp/rename", json={"name": "team/b"})
        assert answer.status == 403
        assert "the namespace team holds 0 of the" in answer.json["detail"]
    assert (await used(client, "other/"))["tags"] == 1
    await limit(client, "team/", tags=1)
    await api(client, "POST", "/repositories/other%2Fapp/rename", json={"name": "team/b"})
    assert (await used(client, "team/"))["tags"] == 1


async def test_tags(client: aiohttp.ClientSession) -> None:
    first = await push_small(client, APP, "1")
    await limit(client, APP, tags=2)
    await limit(client, "team/", tags=3)
    raw = small_manifest(annotations={"a": "b"})
    query = f"{digest_of(raw)}?tag=1&tag=2&tag=3"
    _, detail = denied(await put_manifest(client, APP, query, raw))
    assert detail == {"used_tags": 1, "needed_tags": 2, "quota_tags": 2}
    assert (await ask(client, "HEAD", f"/v2/{APP}/manifests/{digest_of(raw)}")).status == 404
    assert (await put_manifest(client, APP, "2", raw)).status == 201
    # A tag that moves is none more.
    assert (await put_manifest(client, APP, "1", raw)).status == 201
    tags = "/api/v1/repositories/team%2Fapp/tags"
    for word, body in (("copy", {"to": "3"}), ("copy", {"to": "4"})):
        answer = await ask(client, "POST", f"{tags}/1/{word}", json=body)
        assert answer.status == 403
        assert "team/app holds 2 of the 2 tags" in answer.json["detail"]
    assert (await ask(client, "POST", f"{tags}/1/copy", json={"to": "2"})).status == 200
    # Two below the namespace are left, and one of them stands elsewhere.
    await push_small(client, DEEP, "1")
    assert (await ask(client, "DELETE", f"/v2/{APP}/manifests/1")).status == 202
    assert (await put_manifest(client, DEEP, "2", small_manifest())).status == 201
    restored = await ask(client, "POST", f"{tags}/1/restore", json={})
    assert restored.status == 403
    assert "the namespace team holds 3 of the 3 tags" in restored.json["detail"]
    dry = await ask(client, "POST", f"{tags}/1/restore", json={"dry_run": True})
    assert dry.status == 403
    await limit(client, "team/", tags=None)
    assert (await ask(client, "POST", f"{tags}/1/restore", json={})).status == 200
    assert (await ask(client, "GET", f"/v2/{APP}/manifests/{first}")).status == 200


async def test_uploads(client: aiohttp.ClientSession) -> None:
    await make_repository(client, APP)
    await limit(client, APP, uploads=2)
    await limit(client, "team/", uploads=3)
    first, second = await start_upload(client, APP), await start_upload(client, APP)
    answer = await ask(client, "POST", f"/v2/{APP}/blobs/uploads/")
    assert (answer.status, answer.json["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
    assert answer.headers["Retry-After"] == "10"
    assert "team/app has 2 of the 2 open uploads that its quota allows" in answer.json["errors"][0]["message"]
    await start_upload(client, DEEP)
    answer = await ask(client, "POST", f"/v2/{DEEP}/blobs/uploads/")
    assert (answer.status, answer.json["errors"][0]["detail"]["namespace"]) == (429, "team")
    # One that ends makes room.
    assert (await ask(client, "DELETE", first)).status == 204
    await start_upload(client, APP)
    assert (await ask(client, "PUT", second, params={"digest": digest_of(b"x")}, data=b"x")).status == 201
    await start_upload(client, APP)
    assert (await used(client, "team/"))["uploads"] == 3


async def test_events_at_eighty_percent_and_at_all(client: aiohttp.ClientSession, registry: Registry) -> None:
    await make_repository(client, APP)
    await limit(client, APP, bytes=1000, uploads=10)
    await limit(client, "team/", tags=5)
    for content, told in ((b"a" * 799, 0), (b"b" * 100, 1), (b"c" * 50, 1), (b"d" * 51, 2)):
        assert (await push_whole(client, APP, content)).status == 201
        assert len(await reached(registry, APP)) == told
    assert await reached(registry, APP) == [("bytes", 80, 899, 1000), ("bytes", 100, 1000, 1000)]
    # What is refused tells nothing; and each time that so much is reached is told.
    denied(await push_whole(client, APP, b"e"))
    for content in (b"a" * 799, b"d" * 51):
        await ask(client, "DELETE", f"/v2/{APP}/blobs/{digest_of(content)}")
    assert (await push_whole(client, APP, b"f" * 850)).status == 201
    assert (await reached(registry, APP))[2:] == [("bytes", 80, 1000, 1000), ("bytes", 100, 1000, 1000)]
    # Set below what is used, it is told at once; set to the same again, or higher, nothing is.
    await limit(client, APP, bytes=1200)
    assert len(await reached(registry, APP)) == 4
    await limit(client, APP, bytes=500)
    assert (await reached(registry, APP))[4:] == [("bytes", 100, 1000, 500)]
    await limit(client, APP, bytes=500)
    await limit(client, APP, bytes=10_000)
    assert len(await reached(registry, APP)) == 5
    for most, told in ((1250, 6), (1250, 6), (10_000, 6)):
        await api(client, "PATCH", "/repositories/team%2Fapp", json={"quota_bytes": most})
        assert len(await reached(registry, APP)) == told
    assert (await reached(registry, APP))[5:] == [("bytes", 80, 1000, 1250)]
    # Of the namespace, by pushes into any repository of it.
    for name in (APP, DEEP):
        for tag in ("1", "2"):
            await push_small(client, name, tag)
    await push_small(client, DEEP, "2")
    assert await reached(registry, "team/") == [("tags", 80, 4, 5)]
    await push_small(client, DEEP, "3")
    assert await reached(registry, "team/") == [("tags", 80, 4, 5), ("tags", 100, 5, 5)]
    # Whoever follows the repository, or is told by a webhook, has them as any other event.
    feed = await api(client, "GET", "/events", params={"kind": "quota.*", "repository": APP})
    assert Counter(one["kind"] for one in feed["items"]) == {"quota.reached": 6, "quota.changed": 4}
    changed = [one["data"] for one in feed["items"] if one["kind"] == "quota.changed"]
    assert changed[0] == {"bytes": [None, 1000], "uploads": [None, 10]}
    assert changed[-1] == {"bytes": [500, 10_000]}


async def test_who_sees_and_sets_them(client: aiohttp.ClientSession, registry: Registry) -> None:
    await push_small(client, APP, "1")
    await limit(client, "team/", bytes=10**6, repositories=7)
    await limit(client, APP, bytes=0, tags=9)
    shown = await api(client, "GET", "/quota", params={"on": APP})
    assert shown["on"] == APP
    assert shown["quota"] == {"bytes": 0, "repositories": None, "tags": 9, "uploads": None}
    assert (shown["used"]["tags"], shown["used"]["repositories"], shown["used"]["uploads"]) == (1, 1, 0)
    (above,) = shown["above"]
    assert (above["on"], above["quota"]["repositories"], above["used"]) == ("team/", 7, shown["used"])
    # The repository's own settings say the same.
    assert (await api(client, "GET", "/repositories/team%2Fapp"))["quota_bytes"] == 0
    await api(client, "PATCH", "/repositories/team%2Fapp", json={"quota_bytes": 77})
    assert (await api(client, "GET", "/quota", params={"on": APP}))["quota"]["bytes"] == 77
    await make_repository(client, "alone", quota_bytes=5)
    await make_repository(client, "without")
    listed = (await api(client, "GET", "/quotas"))["items"]
    assert [one["on"] for one in listed] == ["alone", "team/", "team/app"]
    first = await api(client, "GET", "/quotas", params={"limit": 1})
    assert [one["on"] for one in first["items"]] == ["alone"]
    following = await api(client, "GET", "/quotas", params={"limit": 5, "cursor": first["next"]})
    assert [one["on"] for one in following["items"]] == ["team/", "team/app"]
    # Whoever may pull sees those of the place, and not what lies beside it.
    bob = basic("bob", await make_user(client, "bob"))
    await give_role(client, APP, "user:bob", "owner")
    async with registry.client(anonymous=True) as session:
        session.headers.update(bob)
        seen = await api(session, "GET", "/quota", params={"on": APP})
        assert (seen["quota"]["tags"], seen["above"]) == (9, [])
        for path in ("/quota?on=team/", "/quotas", "/quota?on=alone"):
            assert (await ask(session, "GET", f"/api/v1{path}")).status in (403, 404), path
        for method, options in (
            ("PATCH", {"json": {"on": APP, "tags": 1}}),
            ("DELETE", {"params": {"on": APP}}),
        ):
            assert (await ask(session, method, "/api/v1/quota", **options)).status == 403
    # What is wrong changes nothing.
    for body in (
        {"on": APP, "repositories": 1},
        {"on": APP, "tags": -1},
        {"on": APP, "bytes": 2**63},
        {"on": APP, "tags": True},
        {"on": APP, "tags": "1"},
        {"on": APP, "images": 1},
        {"tags": 1},
        {"on": "Team/", "tags": 1},
    ):
        assert (await ask(client, "PATCH", "/api/v1/quota", json=body)).status == 400, body
    for on in ("team/none", "none/", "team/seatrial__upstream__x"):
        assert (await ask(client, "PATCH", "/api/v1/quota", json={"on": on, "tags": 1})).status == 404, on
    assert (await api(client, "GET", "/quota", params={"on": APP}))["quota"]["tags"] == 9
    await api(client, "DELETE", "/quota", status=204, params={"on": APP})
    cleared = await api(client, "GET", "/quota", params={"on": APP})
    assert set(cleared["quota"].values()) == {None}
    # They go with their place, and along with it where that gets another name.
    await api(client, "POST", "/namespaces/team/rename", json={"name": "crew"})
    assert [one["on"] for one in (await api(client, "GET", "/quotas"))["items"]] == ["alone", "crew/"]
    await api(client, "DELETE", "/namespaces/crew?with_content=true", status=204)
    assert [one["on"] for one in (await api(client, "GET", "/quotas"))["items"]] == ["alone"]


async def test_promotions_ask_before(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url) as port:
        await port.push(tiny_image())
        await judge(await port.worker("w"))
        await make_repository(port.admin, TO)
        await limit(port.admin, "prod/", tags=0)
        (said,) = await refused(port)
        assert said.startswith("the namespace prod holds 0 of the 0 tags that its quota allows")
        await limit(port.admin, "prod/", tags=1, bytes=10)
        (said,) = await refused(port)
        assert said.startswith("the namespace prod holds 0 of the 10 bytes that its quota allows")
        await limit(port.admin, "prod/", bytes=None)
        await promoted(port)
        await promoted(port)
        assert (await used(port.admin, "prod/"))["tags"] == 1
        (said,) = await refused(port, f"{SOURCE}:1", f"{TO}:2")
        assert "holds 1 of the 1 tags" in said


async def test_of_many_at_two_replicas_only_what_fits_is_kept(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    """Each fits, into repositories that are different; all together do not."""
    url = make_postgres_url()
    async with running_replicas(tmp_path, url, 2) as replicas:
        clients = [replica.client() for replica in replicas]
        try:
            for number in range(6):
                await make_repository(clients[0], f"team/app{number}")
            await limit(clients[0], "team/", bytes=1000, tags=3, repositories=8)

            async def push(number: int) -> int:
                content = bytes([number]) * 300
                return (await push_whole(clients[number % 2], f"team/app{number % 6}", content)).status

            counts = Counter(await asyncio.gather(*(push(number) for number in range(12))))
            assert counts == {201: 3, 403: 9}
            assert (await used(clients[1], "team/"))["bytes"] == 900
            await limit(clients[0], "team/", bytes=None)

            async def tag(number: int) -> int:
                client, name = clients[number % 2], f"team/app{number % 6}"
                await push_blob(client, name, EMPTY_CONFIG)
                return (await put_manifest(client, name, f"t{number}", small_manifest())).status

            counts = Counter(await asyncio.gather(*(tag(number) for number in range(12))))
            assert counts == {201: 3, 403: 9}

            async def make(number: int) -> int:
                return (await ask(clients[number % 2], "POST", f"/v2/team/n{number}/blobs/uploads/")).status

            counts = Counter(await asyncio.gather(*(make(number) for number in range(10))))
            assert counts == {202: 2, 403: 8}
            assert (await used(clients[1], "team/"))["repositories"] == 8
            told = await reached(replicas[0], "team/")
            assert Counter((resource, percent) for resource, percent, _, _ in told) == Counter(
                (resource, percent)
                for resource, percent in (
                    ("bytes", 80),
                    ("tags", 80),
                    ("tags", 100),
                    ("repositories", 80),
                    ("repositories", 100),
                )
            )
        finally:
            for client in clients:
                await client.close()
    assert await asyncio.to_thread(recounted, url)


async def test_pushes_below_one_quota_do_not_wait_for_each_other(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    """One that is still at work holds nothing that another repository's push needs, but its blobs' rows."""
    async with running_replicas(tmp_path, make_postgres_url(), 1) as (registry,):
        assert registry.services is not None
        async with registry.client() as client, asyncio.timeout(60):
            await push_blob(client, "elsewhere", b"a" * 100)
            for name in (APP, DEEP):
                await make_repository(client, name)
            await limit(client, "team/", bytes=150)
            async with registry.services.database.write() as connection:
                busy = await repositories.find_in(connection, APP)
                assert busy is not None
                await repositories.lock(connection, busy.id)
                row = (await connection.execute(select(blob_rows.c.id))).scalar_one()
                assert await blobs.link(connection, busy.id, row)
                assert (await push_whole(client, DEEP, b"b" * 60)).status == 201
                try:
                    await blobs.quotas.enforce(connection, busy.id, blobs.quotas.Amounts(bytes=100))
                except blobs.DeniedError as error:
                    refusal = error.detail
                else:
                    refusal = None
                assert refusal == {
                    "used_bytes": 60,
                    "needed_bytes": 100,
                    "quota_bytes": 150,
                    "namespace": "team",
                }
