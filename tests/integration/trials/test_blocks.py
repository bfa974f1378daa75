"""Blocks by digest and by layer, in a repository, a namespace and everywhere: at once, and for what comes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select

from registry.db.access import namespaces
from registry.db.content import manifests, repositories
from registry.db.events import events
from tests.kit.access import api, ask, make_repository, make_token
from tests.kit.distribution import push_image
from tests.kit.images import OCI_MANIFEST, Image, descriptor, make_image, make_index
from tests.kit.trials import Port, tiny_image

REPOSITORIES = ("team/app", "team/sub/app", "other/app")


async def statuses(port: Port, image: Image) -> list[int]:
    """What who may push gets of an image in each repository."""
    answers = [await port.pull(image.digest, repository=name, client=port.admin) for name in REPOSITORIES]
    return [answer.status for answer in answers]


async def block(port: Port, on: str, kind: str, digest: str, reason: str = "it leaks") -> Any:
    body = {"on": on, "layer": kind == "layer", "digest": digest, "reason": reason}
    return await api(port.admin, "POST", "/gate/blocks", status=201, json=body)


async def unblock(port: Port, made: Any) -> None:
    await api(port.admin, "DELETE", f"/gate/blocks/{made['id']}", status=204)


@pytest.fixture
async def image(port: Port) -> Image:
    """In each of the repositories but the last; the gate is off for it all."""
    made = tiny_image()
    for name in REPOSITORIES:
        await make_repository(port.admin, name, gate="off", trial_on_push=False)
        await port.push(made, repository=name)
    return made


async def test_where_a_block_counts(port: Port, image: Image) -> None:
    layer = image.layers[0].digest
    for kind, digest in (("image", image.digest), ("layer", layer)):
        for on, expected in (
            ("team/app", [403, 200, 200]),
            ("team/", [403, 403, 200]),
            ("team/sub/", [200, 403, 200]),
            ("*", [403, 403, 403]),
        ):
            made = await block(port, on, kind, digest)
            assert (made["on"], made["kind"], made["images"]) == (on, kind, expected.count(403))
            assert await statuses(port, image) == expected
            where = REPOSITORIES[expected.index(403)]
            refused = await port.pull(image.digest, repository=where, client=port.admin)
            assert "is blocked: it leaks" in refused.body.decode()
            await unblock(port, made)
            assert await statuses(port, image) == [200, 200, 200]


async def test_what_is_pushed_later_is_caught(port: Port, image: Image) -> None:
    layer = image.layers[0]
    later, other = make_image(layer, config={"Cmd": ["/later"]}), tiny_image()
    first = await block(port, "team/", "layer", layer.digest, "a bad layer")
    await block(port, "team/app", "image", other.digest, "a bad image")
    for one in (later, other):
        for name in REPOSITORIES:
            await push_image(port.admin, name, "later", one)
    assert await statuses(port, later) == [403, 403, 200]
    assert await statuses(port, other) == [403, 200, 200]
    refused = await port.pull(later.digest, repository="team/sub/app")
    assert "is blocked: a bad layer" in refused.body.decode()
    blob = f"/v2/team/app/blobs/{layer.digest}"
    assert (await ask(port.reader, "GET", blob)).status == 403
    # Where it is moved to it counts as well, and from where it is moved it goes along.
    await api(
        port.admin, "POST", "/repositories/other%2Fapp/transfer", json={"namespace": "team"}, status=409
    )
    await api(port.admin, "POST", "/repositories/other%2Fapp/rename", json={"name": "team/moved"})
    assert (await port.pull(later.digest, repository="team/moved")).status == 403
    assert (await port.pull(image.digest, repository="team/moved")).status == 403
    await api(port.admin, "POST", "/repositories/team%2Fmoved/rename", json={"name": "other/app"})
    assert (await port.pull(later.digest, repository="other/app")).status == 403
    # What another block refuses stays so.
    second = await block(port, "*", "layer", layer.digest, "a bad layer")
    await unblock(port, first)
    assert await statuses(port, later) == [403, 403, 403]
    await unblock(port, second)
    assert await statuses(port, later) == [200, 200, 200]
    async with port.database.read() as connection:
        query = select(events.c.repository).where(
            events.c.kind == "image.blocked", events.c.actor == "registry"
        )
        caught = list((await connection.execute(query)).scalars())
    assert sorted(caught) == ["other/app", "other/app", "team/app", "team/app", "team/sub/app"]


async def test_an_image_that_a_wider_block_refuses_is_not_unblocked_alone(port: Port, image: Image) -> None:
    named = {"image": f"team/app@{image.digest}"}
    wide = await block(port, "team/", "image", image.digest, "everywhere in team")
    await api(port.admin, "POST", "/gate/block", status=204, json=named | {"reason": "here"})
    refused = await api(port.admin, "POST", "/gate/unblock", status=409, json=named)
    assert f"is blocked by block {wide['id']} on team/: everywhere in team" in refused["detail"]
    await unblock(port, wide)
    assert await statuses(port, image) == [403, 200, 200]
    await api(port.admin, "POST", "/gate/unblock", status=204, json=named)
    assert await statuses(port, image) == [200, 200, 200]


async def test_who_may_block_where_and_see_it(port: Port, image: Image) -> None:
    made = [await block(port, on, "image", image.digest) for on in ("*", "team/", "team/sub/app")]
    listed = await api(port.admin, "GET", "/gate/blocks")
    assert [one["id"] for one in listed["items"]] == [one["id"] for one in made]
    for on, expected in (
        ("team/", [1, 2]),
        ("team/sub/app", [2]),
        ("team/sub/", [2]),
        ("*", [0]),
        ("team/app", []),
    ):
        page = await api(port.admin, "GET", "/gate/blocks", params={"on": on})
        assert [one["id"] for one in page["items"]] == [made[number]["id"] for number in expected], on
    first = await api(port.admin, "GET", "/gate/blocks", params={"limit": 2})
    assert len(first["items"]) == 2
    rest = await api(port.admin, "GET", "/gate/blocks", params={"limit": 2, "cursor": first["next"]})
    assert [one["id"] for one in rest["items"]] == [made[2]["id"]]
    writer = port.registry.client((await make_token(port.admin, "repository:*:pull,push"))["token"])
    async with writer as client:
        body = {"on": "team/app", "digest": image.digest, "reason": "r"}
        for on in ("team/app", "team/", "*"):
            await api(client, "POST", "/gate/blocks", status=403, json=body | {"on": on})
            await api(client, "GET", "/gate/blocks", status=403, params={"on": on})
        await api(client, "GET", "/gate/blocks", status=403)
        for one in made:
            await api(client, "DELETE", f"/gate/blocks/{one['id']}", status=404)
    async with port.registry.client(anonymous=True) as stranger:
        for number in (made[2]["id"], made[2]["id"] + 100):
            answer = await ask(stranger, "DELETE", f"/api/v1/gate/blocks/{number}")
            assert answer.status == 404
            assert answer.json["detail"] == f"there is no block {number} that you manage"
    for wrong, status in (
        ({"on": "team"}, 404),
        ({"on": "none/"}, 404),
        ({"on": "Team/"}, 400),
        ({"digest": "sha256:12"}, 400),
        ({"reason": "two\nlines"}, 400),
        ({"reason": " "}, 400),
        ({"layer": "yes"}, 400),
    ):
        answer = await ask(port.admin, "POST", "/api/v1/gate/blocks", json=body | wrong)
        assert answer.status == status, (wrong, answer.body)
    for number in ("0", "none", "9" * 30):
        await api(port.admin, "DELETE", f"/gate/blocks/{number}", status=404)


async def test_an_index_that_lists_a_blocked_layer_does_not_give_it_out(port: Port, image: Image) -> None:
    layer = image.layers[0]
    # Build caches list layers so; what a pusher says of its type does not count.
    indexes = [make_index(more=[descriptor(layer.blob, kind)]) for kind in (layer.media_type, OCI_MANIFEST)]
    blob = f"/v2/team/app/blobs/{layer.digest}"
    await push_image(port.admin, "team/app", "before", indexes[0])
    assert (await ask(port.reader, "GET", blob)).status == 200
    made = await block(port, "team/", "layer", layer.digest)
    assert made["images"] == 3
    await push_image(port.admin, "team/app", "after", indexes[1])
    for index in indexes:
        assert (await port.pull(index.digest, repository="team/app")).status == 403
    assert (await ask(port.reader, "GET", blob)).status == 403
    await api(port.admin, "POST", "/repositories/other%2Fapp/rename", json={"name": "out/app"})
    await push_image(port.admin, "out/app", "cache", indexes[0])
    await api(port.admin, "POST", "/repositories/out%2Fapp/rename", json={"name": "team/out"})
    assert (await port.pull("cache", repository="team/out")).status == 403
    await unblock(port, made)
    assert (await ask(port.reader, "GET", blob)).status == 200


async def test_a_block_and_pushes_at_once_miss_nothing(port: Port, image: Image) -> None:
    layer = image.layers[0]
    await push_image(port.admin, "team/app", "1", image)
    images = [make_image(layer, config={"Cmd": [f"/{number}"]}) for number in range(12)]
    pushes = [
        asyncio.create_task(push_image(port.admin, REPOSITORIES[number % 2], str(number), one))
        for number, one in enumerate(images)
    ]
    await asyncio.sleep(0.05)
    await block(port, "team/", "layer", layer.digest)
    await asyncio.gather(*pushes)
    async with port.database.read() as connection:
        query = select(manifests.c.digest).where(
            manifests.c.digest.in_([one.digest for one in images]), manifests.c.blocked_reason.is_(None)
        )
        assert list((await connection.execute(query)).scalars()) == []


async def test_who_may_not_know_a_place_is_not_told_its_name_by_what_is_on_it(port: Port) -> None:
    await make_repository(port.admin, "secret/app", visibility="private")
    digest = f"sha256:{'0' * 64}"
    by = {"issuer": "https://issuer.example", "subject": "*"}
    token = await make_token(port.admin, "repository:team/app:pull,push")
    async with port.registry.client(token["token"]) as stranger:
        for on in ("secret/app", "secret/"):
            rule = {"on": on, "name": "ours", **by}
            ruled = await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
            blocked = await block(port, on, "image", digest)
            for path in (f"/signature-rules/{ruled['id']}", f"/gate/blocks/{blocked['id']}"):
                refused = await api(stranger, "DELETE", path, status=404)
                assert "secret" not in refused["detail"]
                await api(port.reader, "DELETE", path, status=404)
                await api(port.admin, "DELETE", path, status=204)


async def test_a_place_that_goes_while_somebody_asks_is_no_fault_of_the_registry(port: Port) -> None:
    await make_repository(port.admin, "gone/app")
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    block = {"digest": f"sha256:{'0' * 64}", "reason": "it leaks"}
    rule = {"name": "ours", "issuer": "https://issuer.example", "subject": "*"}
    waiver = {"image": "gone/app", "states": ["fail"], "reason": "hotfix", "expires_at": until}
    asked = [
        ask(port.admin, "POST", f"/api/v1{path}", json={"on": on} | body)
        for on in ("gone/app", "gone/")
        for path, body in (("/gate/blocks", block), ("/signature-rules", rule))
    ]
    asked.append(ask(port.admin, "POST", "/api/v1/waivers", json=waiver))
    async with port.database.write() as connection:
        await connection.execute(delete(repositories).where(repositories.c.name == "gone/app"))
        await connection.execute(delete(namespaces).where(namespaces.c.name == "gone"))
        answers = asyncio.gather(*asked)
        await asyncio.sleep(0.5)
    assert [answer.status for answer in await answers] == [404] * 5
