"""Promotions at once, killed, large, and what a client's copy comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import insert, select

from registry.content import repositories
from registry.db.content import blob_links, blobs, edges, manifests
from registry.db.engine import move_epoch
from registry.db.types import db_time
from tests.kit.access import api, ask, make_repository
from tests.kit.clients import client_home
from tests.kit.crashing import PROMOTION_POINTS, CrashingServer
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, to_json
from tests.kit.plans import sent
from tests.kit.postgres import until_somebody_waits
from tests.kit.promoting import SOURCE, TO, contents, history, judge, previewed, promoted
from tests.kit.trials import Port, open_port, tiny_image, tiny_index


async def test_promotions_at_once(port: Port) -> None:
    """Of two to one tag the later one stands; where the source goes meanwhile, all of it comes or nothing."""
    worker = await port.worker("w")
    wanted = []
    for number in range(4):
        wanted.append((f"team/app{number}", await port.push(tiny_image(), repository=f"team/app{number}")))
        await judge(worker)
    await make_repository(port.admin, TO)
    answers = await asyncio.gather(*(promoted(port, f"{name}:1") for name, _ in wanted))
    assert {one["digest"] for one in answers} == {digest for _, digest in wanted}
    moves = await history(port)
    assert len(moves) == 4
    assert digest_of((await port.pull("1", repository=TO)).body) == moves[0][1]
    undone = [await ask(port.admin, "POST", f"/api/v1/promotions/{one['id']}/undo") for one in answers]
    assert sorted(answer.status for answer in undone) == [200, 409, 409, 409]

    # Opposite ways, and away with the source.
    one, two = wanted[0][0], wanted[1][0]
    both = await asyncio.gather(
        promoted(port, f"{one}:1", f"{two}:a"), promoted(port, f"{two}:1", f"{one}:a")
    )
    assert [each["standing"] for each in both] == ["promoted", "promoted"]
    gone, answer = await asyncio.gather(
        ask(port.admin, "DELETE", f"/api/v1/repositories/{quote(wanted[2][0], safe='')}"),
        ask(
            port.admin, "POST", "/api/v1/promotions", json={"source": f"{wanted[2][0]}:1", "to": "late/app:1"}
        ),
    )
    assert gone.status == 204
    assert answer.status in (201, 404)
    pulled = await port.pull("1", repository="late/app", client=port.admin)
    assert pulled.status == (200 if answer.status == 201 else 404)
    if answer.status == 201:
        for made_of in [pulled.json["config"], *pulled.json["layers"]]:
            blob = await ask(port.admin, "GET", f"/v2/late/app/blobs/{made_of['digest']}")
            assert digest_of(blob.body) == made_of["digest"]
        shown = await api(port.admin, "GET", f"/promotions/{answer.json['id']}")
        assert shown["source"] == f"{wanted[2][0]}:1"


async def test_those_who_hold_several_repositories(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    """They take them in one order, and what all change last of all."""
    async with open_port(tmp_path / "data", make_postgres_url()) as port:
        await port.push(tiny_image())
        await judge(await port.worker("w"))
        # One that makes its destination while its source changes.
        async with port.database.write() as holder:
            await repositories.lock(holder, await _id_of(port, SOURCE))
            going = asyncio.ensure_future(promoted(port))
            await until_somebody_waits(port.database, holder)
            await move_epoch(holder, "content")
        assert (await going)["standing"] == "promoted"

        # A namespace gets another name while somebody holds one of its repositories and takes another. The
        # last by name is the first by number, and its row the last in the table.
        for name in ("many/b", "many/a"):
            await make_repository(port.admin, name)
        await api(port.admin, "PATCH", "/repositories/many%2Fb", json={"quota_bytes": 1 << 30})
        numbers = [await _id_of(port, name) for name in ("many/b", "many/a")]
        assert numbers == sorted(numbers)
        async with port.database.write() as holder:
            await repositories.lock(holder, numbers[0])
            renamed = ask(port.admin, "POST", "/api/v1/namespaces/many/rename", json={"name": "few"})
            renaming = asyncio.ensure_future(renamed)
            await until_somebody_waits(port.database, holder)
            assert await repositories.lock(holder, numbers[1])
        answer = await renaming
        assert answer.status in (200, 204), answer.body


async def _id_of(port: Port, name: str) -> int:
    found = await repositories.find(port.database, name)
    assert found is not None
    return found.id


async def test_the_statements_of_a_large_image_are_few(port: Port) -> None:
    worker = await port.worker("w")
    counts = []
    for number, layers in enumerate((1, 400)):
        name = f"large/app{number}"
        digest = await port.push(tiny_image(), repository=name)
        await judge(worker)
        await _have_layers(port, digest, number, layers)
        await contents(port)
        with sent() as statements:
            shown = await previewed(port, f"{name}:1", f"large/to{number}:1")
        assert (shown["would"], shown["blobs"]) == ("promote", layers + 2)
        counts.append(len(statements))
    # The others are what the registry does meanwhile.
    assert counts[1] <= counts[0] + 10


async def test_an_index_that_lists_much_of_what_comes_is_looked_at_once(port: Port) -> None:
    """It was there before, and without all that it lists."""
    worker = await port.worker("w")
    index, images = tiny_index("linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le")
    digest = await port.push(index)
    await judge(worker)
    for number, listed in enumerate((images, images[:2])):
        kept = [descriptor(one.manifest, OCI_MANIFEST) for one in listed]
        raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": kept})
        pushed = await put_manifest(port.admin, TO, f"sparse{number}", raw, OCI_INDEX)
        assert pushed.status == 201, pushed.body
        assert await port.state(f"sparse{number}", repository=TO) == "untried"
    with sent() as statements:
        await promoted(port)
    # One look for each of two levels, and each index is tried with what came.
    assert len([one for one in statements if "CASE WHEN (manifests.state IN" in one.text]) <= 2
    states = [await port.state(one, repository=TO) for one in (digest, "sparse0", "sparse1")]
    assert states == ["pass", "pass", "pass"]


async def test_a_copy_by_skopeo_ends_in_the_same_state(port: Port) -> None:
    worker = await port.worker("w")
    index, images = tiny_index("linux/amd64", "linux/arm64")
    digest = await port.push(index)
    await judge(worker)
    await make_repository(port.admin, TO)
    await make_repository(port.admin, "team/copy")
    await promoted(port)
    host, plain = port.registry.host, ("--src-tls-verify=false", "--dest-tls-verify=false")
    with client_home() as clients:
        await asyncio.to_thread(clients.sign_in, host, "admin", port.registry.token)
        names = (f"docker://{host}/{SOURCE}:1", f"docker://{host}/team/copy:1")
        await asyncio.to_thread(clients.skopeo, "copy", "--all", "--preserve-digests", *plain, *names)
    # Where no other verdict counts there yet, the same is found again.
    while job := await worker.claim():
        assert (await worker.report(job)).status == 204
    for one in (digest, *(image.digest for image in images)):
        assert await port.state(one, repository="team/copy") == await port.state(one, repository=TO)
    assert await port.state(digest, repository=TO) == "pass"
    assert digest_of((await port.pull("1", repository="team/copy")).body) == digest


async def test_killed_around_the_commit(tmp_path: Path, database_url: str) -> None:
    """It has happened whole, with its lines in the history and in the trail, or not at all."""
    server = CrashingServer(tmp_path / "data", database_url)
    chart = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json"),
            "layers": [descriptor(b"values", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
        }
    )
    try:
        for number, point in enumerate(PROMOTION_POINTS):
            wanted = {"source": f"{SOURCE}:{number}", "to": f"prod/app{number}:1"}
            async with server.start().client() as client:
                for content in (b"{}", b"values"):
                    await push_blob(client, SOURCE, content)
                pushed = await put_manifest(client, SOURCE, f"{number}", chart)
                assert pushed.status == 201, pushed.body
                server.arm(point)
                try:
                    with pytest.raises(aiohttp.ClientError):
                        await ask(client, "POST", "/api/v1/promotions", json=wanted)
                finally:
                    server.disarm()
                assert server.wait_until_killed()
            async with server.start().client() as client:
                path = f"/repositories/{quote(f'prod/app{number}', safe='')}"
                there = await ask(client, "GET", f"/v2/prod/app{number}/manifests/1")
                assert there.status == (200 if point.done else 404)
                assert (await ask(client, "GET", f"/api/v1{path}")).status == there.status
                lines = await api(client, "GET", "/audit?action=image.promoted&limit=100")
                assert (
                    len([one for one in lines["items"] if one["repository"] == f"prod/app{number}"])
                    == point.done
                )
                again = await api(client, "POST", "/promotions", status=201, json=wanted)
                assert again["old_digest"] is None
                assert len((await api(client, "GET", f"{path}/tags/1/history"))["items"]) == 1
    finally:
        server.stop()


async def _have_layers(port: Port, digest: str, number: int, layers: int) -> None:
    """Let an image be made of so many layers more."""
    made = [
        {"digest": digest_of(f"{number} {one}".encode()), "size": 1, "locator": f"{number}-{one}"}
        for one in range(layers)
    ]
    this = select(manifests.c.id, manifests.c.repository_id).where(manifests.c.digest == digest)
    async with port.database.write() as connection:
        row = (await connection.execute(this)).one()
        await connection.execute(insert(blobs).values(created_at=db_time()), made)
        new = select(row.repository_id, blobs.c.id, db_time()).where(blobs.c.locator.like(f"{number}-%"))
        names = ["repository_id", "blob_id", "created_at"]
        await connection.execute(insert(blob_links).from_select(names, new))
        layer = {"manifest_id": row.id, "kind": "layer", "media_type": "x/y", "size": 1}
        rows = [{**layer, "position": 10 + at, "digest": one["digest"]} for at, one in enumerate(made)]
        await connection.execute(insert(edges), rows)
