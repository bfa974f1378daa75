"""Repositories read as image layouts: what is in them, for whom, and how it is cached."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.layouts.layout import read_layout
from registry.layouts.members import FolderMembers, read_whole
from registry.layouts.walk import walk
from registry.oci.layout import REF_NAME
from registry.trials import layouts
from tests.kit.access import Answer, ask
from tests.kit.distribution import push_image
from tests.kit.images import digest_of, file, make_image, make_index, make_layer, make_referrer
from tests.kit.server import Registry
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

NAME = "team/sub/app"
ROOT = f"/layout/{NAME}/"
ONE = make_image(make_layer(file("a", b"one")))
INDEX = make_index(ONE, make_image(make_layer(file("b", b"two")), platform="linux/arm64"))
SIGNATURE = make_referrer(ONE.digest, b"signed", artifact_type="test/signature", media_type="test/plain")
SEAL = make_referrer(SIGNATURE.digest, b"sealed", artifact_type="test/seal", media_type="test/plain")
THEN = "Tue, 01 Jan 1980 00:00:00 GMT"


@pytest.fixture
async def filled(client: aiohttp.ClientSession) -> aiohttp.ClientSession:
    for tag, image in (("v1", ONE), ("many", INDEX), (SIGNATURE.digest, SIGNATURE), (SEAL.digest, SEAL)):
        await push_image(client, NAME, tag, image)
    return client


def place(digest: str) -> str:
    return f"{ROOT}blobs/{digest.replace(':', '/')}"


async def twice(client: aiohttp.ClientSession, path: str, method: str = "GET", **headers: str) -> Answer:
    """Asked again, it may be a known answer: it is the same."""
    first, second = [await ask(client, method, path, headers=headers) for _ in range(2)]
    assert (first.status, first.body) == (second.status, second.body)
    kept = ("ETag", "Content-Type", "Content-Length", "Last-Modified", "Accept-Ranges", "Content-Range")
    assert [first.headers.get(name) for name in kept] == [second.headers.get(name) for name in kept]
    return second


async def mirrored(client: aiohttp.ClientSession, root: str, into: Path) -> list[str]:
    """Fetch all that the page links; the links that were refused."""
    page = await ask(client, "GET", root)
    assert page.status == 200, page.body
    refused = []
    for link in re.findall(r'<a href="([^"]+)">', page.body.decode()):
        answer = await ask(client, "GET", root + link)
        if answer.status != 200:
            refused.append(link)
            continue
        path = into / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer.body)
    return refused


async def test_what_is_linked_is_a_whole_layout(filled: aiohttp.ClientSession, tmp_path: Path) -> None:
    assert await mirrored(filled, ROOT, tmp_path / "copy") == []
    layout = read_layout(FolderMembers(tmp_path / "copy"))
    assert [(one.names, str(one.descriptor.digest)) for one in layout.entries] == [
        (("many",), INDEX.digest),
        (("v1",), ONE.digest),
        ((), SIGNATURE.digest),
        ((), SEAL.digest),
    ]
    assert layout.entries[2].descriptor.artifact_type == "test/signature"
    content = walk([one.descriptor for one in layout.entries], layout.manifest)
    for digest, blob in content.blobs.items():
        raw = read_whole(layout.members, f"blobs/{digest.algorithm}/{digest.encoded}", blob.size)
        assert digest_of(raw) == str(digest)
    # And nothing else.
    found = {one.name for one in (tmp_path / "copy" / "blobs" / "sha256").iterdir()}
    assert found == {digest.encoded for digest in (*content.blobs, *content.manifests)}


async def test_entity_tags_times_and_ranges(filled: aiohttp.ClientSession) -> None:
    layer = ONE.layers[0]
    contents = {
        ROOT + "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        place(layer.digest): layer.blob,
        place(ONE.digest): ONE.manifest,
        place(digest_of(ONE.config)): ONE.config,
    }
    for path, content in contents.items():
        whole = await twice(filled, path)
        assert (whole.status, whole.body) == (200, content)
        assert whole.headers["ETag"] == f'"{digest_of(content)}"'
        assert whole.headers["Last-Modified"] == THEN
        head = await twice(filled, path, "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(content)))
        part = await twice(filled, path, Range="bytes=2-9")
        assert (part.status, part.body) == (206, content[2:10])
        assert part.headers["Content-Range"] == f"bytes 2-9/{len(content)}"
        assert (await twice(filled, path, Range=f"bytes={len(content)}-")).status == 416
        tag = whole.headers["ETag"]
        assert (await twice(filled, path, **{"If-None-Match": tag})).status == 304
        assert (await twice(filled, path, **{"If-Modified-Since": THEN})).status == 304
        # An entity tag counts before a time.
        answer = await twice(filled, path, **{"If-Modified-Since": THEN, "If-None-Match": '"other"'})
        assert answer.status == 200
        earlier = "Mon, 31 Dec 1979 23:59:59 GMT"
        assert (await twice(filled, path, **{"If-Modified-Since": earlier})).status == 200
        assert (await twice(filled, path, Range="bytes=2-9", **{"If-Range": tag})).status == 206
        assert (await twice(filled, path, Range="bytes=2-9", **{"If-Range": '"other"'})).status == 200
    index = await twice(filled, ROOT + "index.json")
    assert "Last-Modified" not in index.headers
    assert (
        await twice(filled, ROOT + "index.json", **{"If-None-Match": index.headers["ETag"]})
    ).status == 304
    # A push is seen at once.
    await push_image(filled, NAME, "v2", make_image(make_layer(file("c", b"new"))))
    listed = (await twice(filled, ROOT + "index.json")).json["manifests"]
    names = [one.get("annotations", {}).get(REF_NAME) for one in listed]
    assert names == ["many", "v1", "v2", None, None]


async def test_many_readers_at_once(filled: aiohttp.ClientSession) -> None:
    async def read(number: int) -> int:
        answer = await ask(filled, "GET", ROOT + "index.json", headers={"If-None-Match": f'"{number}"'})
        return answer.status

    assert await asyncio.gather(*(read(number) for number in range(8))) == [200] * 8


async def test_what_no_layout_has(filled: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    none = "sha256:" + "0" * 64
    for path, status in {
        f"/layout/{NAME}": 404,
        ROOT + "other": 404,
        ROOT + "blobs/sha256": 404,
        "/layout/": 400,
        "/layout/Team/app/index.json": 400,
        "/layout/team%2fapp/index.json": 400,
        "/layout/team/none/index.json": 404,
        "/layout/team/none/": 404,
        place(none): 404,
        ROOT + "blobs/md5/" + "0" * 32: 400,
    }.items():
        answer = await ask(filled, "GET", path)
        assert answer.status == status, (path, answer.body)
        assert json.loads(answer.body)["errors"], path
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        answer = await ask(filled, method, ROOT + "index.json")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    refused = await ask(nobody, "GET", ROOT + "index.json")
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    # A blob of another repository is not this one's.
    await push_image(filled, "team/other", "1", make_image(make_layer(file("d", b"secret"))))
    other = make_layer(file("d", b"secret"))
    assert (await ask(filled, "GET", place(other.digest))).status == 404


async def test_too_much_for_one_index(filled: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, status in ((4, 200), (3, 413), (1, 413)):
        monkeypatch.setattr(layouts, "ENTRIES_MAX", limit)
        await push_image(filled, "team/other", str(limit), ONE)  # what is known is that no more
        answer = await ask(filled, "GET", ROOT + "index.json")
        assert answer.status == status, answer.body
    assert b"more than 1 images" in answer.body
    monkeypatch.setattr(layouts, "ENTRIES_MAX", 100)
    monkeypatch.setattr(layouts, "CONTENT_MAX", 3)
    assert (await ask(filled, "GET", ROOT)).status == 413


@pytest.fixture
async def port(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    async with open_port(tmp_path / "data", database_url, gate=request.param) as opened:
        yield opened


async def listed(client: aiohttp.ClientSession) -> dict[str, str]:
    # What the registry attests may come between two looks: only the tags are compared.
    answer = await ask(client, "GET", f"/layout/{REPOSITORY}/index.json")
    assert answer.status == 200, answer.body
    entries: list[Any] = answer.json["manifests"]
    return {one["annotations"][REF_NAME]: one["digest"] for one in entries if "annotations" in one}


@pytest.mark.parametrize("port", ["enforce"], indirect=True)
async def test_an_index_lists_what_the_gate_lets_its_reader_have(port: Port, tmp_path: Path) -> None:
    worker = await port.worker("one")
    good, bad = tiny_image(), tiny_image()
    await port.push(good, tag="good")
    assert (await worker.report(await worker.claim())).status == 204
    await port.push(bad, tag="bad")
    assert await listed(port.reader) == {"good": good.digest}
    assert (await worker.report(await worker.claim(), met=False, exit_code=3)).status == 204
    assert await listed(port.reader) == {"good": good.digest}
    # Who may push reads what was pushed.
    assert await listed(port.admin) == {"good": good.digest, "bad": bad.digest}
    root = f"/layout/{REPOSITORY}/"
    page = (await ask(port.reader, "GET", root)).body.decode()
    for digest in bad.blobs():
        path = f"blobs/{digest.replace(':', '/')}"
        if digest not in good.blobs():
            assert path not in page
            assert (await twice(port.reader, root + path)).status == 403
    assert await mirrored(port.reader, root, tmp_path / "copy") == []
    # A worker's pull token opens the image of its lease, and no layout.
    await port.push(tiny_image(), tag="third")
    puller = await port.puller(await worker.claim())
    assert (await ask(puller, "GET", root + "index.json")).status == 403


@pytest.mark.parametrize("port", ["hold"], indirect=True)
async def test_a_held_tag_is_its_last_admitted_image(port: Port) -> None:
    worker = await port.worker("one")
    first, second = tiny_image(), tiny_image()
    await port.push(first)
    assert await listed(port.reader) == {}
    assert (await worker.report(await worker.claim())).status == 204
    await port.push(second)
    assert await listed(port.reader) == {"1": first.digest}
    assert await listed(port.admin) == {"1": second.digest}
    assert (await worker.report(await worker.claim())).status == 204
    assert await listed(port.reader) == {"1": second.digest}


async def test_pulls_are_counted(filled: aiohttp.ClientSession, registry: Registry) -> None:
    assert registry.services is not None
    for path in (place(ONE.digest), place(ONE.digest), ROOT + "index.json", place(ONE.layers[0].digest)):
        assert (await ask(filled, "GET", path)).status == 200
    await registry.services.pulls.flush(registry.services.database)
    query = {"repository": NAME, "digest": ONE.digest}
    counted = (await ask(filled, "GET", "/api/v1/audit/pulls", params=query)).json
    assert [one["count"] for one in counted["items"]] == [2]
