"""``seatrial export`` and ``import``: images as layouts, out of a registry and into one."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from registry.layouts.folder import UNFINISHED, FolderTarget
from registry.layouts.layout import read_layout
from registry.layouts.members import FolderMembers
from registry.layouts.walk import walk
from registry.main import run
from registry.oci.layout import REF_NAME
from tests.kit.access import ask
from tests.kit.distribution import push_image
from tests.kit.images import (
    Image,
    file,
    layer_of,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    write_docker_archive,
    write_layout,
    write_layout_tar,
)
from tests.kit.relay import relay
from tests.kit.server import Registry, running_registry

FIRST = make_image(make_layer(file("a", b"one")), config={"Cmd": ["/a"]})
SECOND = make_image(make_layer(file("a", b"two")), make_layer(file("b", os.urandom(300_000))))
INDEX = make_index(FIRST, make_image(make_layer(file("c", b"arm")), platform="linux/arm64"))
SIGNATURE = make_referrer(FIRST.digest, b"signed", artifact_type="test/signature", media_type="test/plain")
SEAL = make_referrer(SIGNATURE.digest, b"sealed", artifact_type="test/seal", media_type="test/plain")

SECONDS = 120
TOLD = ("Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest", "Location")

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def registry(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    async with running_registry(tmp_path / "data", database_url) as running:
        monkeypatch.setenv("SEATRIAL_SERVER", running.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", running.token)
        yield running


async def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON that a command prints; where it ends otherwise, what it says."""
    words = [str(one) for one in arguments]
    ended = await asyncio.to_thread(run, [*words, *(["--json"] if code == 0 else [])])
    said = capsys.readouterr()
    assert ended == code, said.err
    return json.loads(said.out) if code == 0 else said.err


async def push(registry: Registry, name: str, **images: Image) -> None:
    async with registry.client() as client:
        for tag, image in images.items():
            await push_image(client, name, image.digest if tag.startswith("_") else tag, image)


async def tags(registry: Registry, name: str) -> list[str]:
    async with registry.client() as client, client.get(f"/v2/{name}/tags/list") as answer:
        return list((await answer.json())["tags"]) if answer.status == 200 else []


async def read(registry: Registry, path: str) -> bytes | None:
    async with registry.client() as client, client.get(path) as answer:
        return await answer.read() if answer.status == 200 else None


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """The address of an application."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def names_in(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each file."""
    return {
        str(one.relative_to(folder)): (one.stat().st_ino, one.stat().st_mtime_ns)
        for one in folder.rglob("*")
        if one.is_file()
    }


async def test_out_and_in_again(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v1=FIRST, v2=SECOND, multi=INDEX, _s=SIGNATURE, _t=SEAL)
    for number, target in enumerate(("out", "out.tar", "out.tar.gz", "out.tgz", "out.tar.zst", "out.zip")):
        path, copy = tmp_path / target, f"other/copy{number}"
        told = await asked(capsys, "export", "team/app", path, "--referrers")
        assert {(one["image"], one["digest"], one["name"]) for one in told["images"]} == {
            ("team/app:multi", INDEX.digest, "multi"),
            ("team/app:v1", FIRST.digest, "v1"),
            ("team/app:v2", SECOND.digest, "v2"),
        }
        assert told["referrers"] == 2
        there = await asked(capsys, "import", path, copy)
        assert {(one["digest"], *one["tags"]) for one in there["images"]} == {
            (FIRST.digest, "v1"),
            (SECOND.digest, "v2"),
            (INDEX.digest, "multi"),
        }
        assert (there["referrers"], there["kept_blobs"], there["absent"]) == (2, 0, [])
        assert await tags(registry, copy) == ["multi", "v1", "v2"]
        for image in (FIRST, SECOND, INDEX, SIGNATURE, SEAL):
            assert await read(registry, f"/v2/{copy}/manifests/{image.digest}") == image.manifest
        for layer in (*FIRST.layers, *SECOND.layers):
            assert await read(registry, f"/v2/{copy}/blobs/{layer.digest}") == layer.blob
        again = await asked(capsys, "import", path, copy)
        assert (again["sent_blobs"], [one["changed"] for one in again["images"]]) == (0, [False] * 3)
        first = path.read_bytes() if path.is_file() else b""
        await asked(capsys, "export", "team/app", path, "--referrers")
        assert not first or path.read_bytes() == first
    assert not [one for one in tmp_path.iterdir() if "unfinished" in one.name]


async def test_what_docker_takes_and_gives(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = write_docker_archive(tmp_path / "saved.tar", FIRST, name="docker.io/library/app:v7")
    there = await asked(capsys, "import", saved, "team/app")
    assert [one["tags"] for one in there["images"]] == [["v7"]]
    await asked(capsys, "export", "team/app:v7", tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = tar.getnames()
        (listed,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        assert names[:3] == ["oci-layout", "index.json", "manifest.json"]
        assert {listed["Config"], *listed["Layers"]} <= set(names)
    assert listed["RepoTags"] == [f"{registry.host}/team/app:v7"]
    # One image of a layout, under another name; it is chosen in three ways.
    layout = write_layout(tmp_path / "layout", FIRST, SECOND, tag=["a:v1", "b:v1"])
    for number, choice in enumerate(("a:v1", FIRST.digest)):
        await asked(capsys, "import", f"oci:{layout}", f"team/one:c{number}", "--image", choice)
    assert await tags(registry, "team/one") == ["c0", "c1"]
    assert await read(registry, "/v2/team/one/manifests/c1") == FIRST.manifest


async def test_streams(
    registry: Registry,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push(registry, "team/app", v1=FIRST, _s=SIGNATURE)
    ended = await asyncio.to_thread(run, ["export", "team/app:v1", "-"])
    said = capfdbinary.readouterr()
    assert ended == 0
    assert f"team/app:v1@{FIRST.digest}".encode() in said.err
    assert names_in(said.out)[0] == "oci-layout"
    packed = tmp_path / "in"
    packed.write_bytes(gzip.compress(said.out))
    with packed.open("rb") as stream, io.TextIOWrapper(stream) as text:
        monkeypatch.setattr("sys.stdin", text)
        assert await asyncio.to_thread(run, ["import", "-", "other/app:new"]) == 0
    assert f"other/app@{FIRST.digest}  new".encode() in capfdbinary.readouterr().out
    assert await read(registry, "/v2/other/app/manifests/new") == FIRST.manifest


async def test_a_folder_takes_what_is_new_and_leaves_the_rest_alone(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v1=FIRST, v2=SECOND)
    await push(registry, "team/other", v1=SECOND)
    out = tmp_path / "out"
    told = await asked(capsys, "export", "team/app:v1", out)
    assert (told["new_blobs"], told["kept_blobs"]) == (3, 0)
    before = files(out)
    # The same again: not a byte is written.
    told = await asked(capsys, "export", "team/app:v1", out)
    assert (told["new_blobs"], told["new_bytes"], told["kept_blobs"]) == (0, 0, 3)
    assert files(out) == before
    # Another image beside it, and one under its own digest.
    told = await asked(capsys, "export", "team/app:v2", f"team/app@{FIRST.digest}", out)
    after = files(out)
    assert {name for name in before if after[name] != before[name]} == {"index.json"}
    assert after.keys() - before.keys() == {
        f"blobs/sha256/{digest[7:]}" for digest in SECOND.blobs() if digest not in FIRST.blobs()
    }
    listed = json.loads((out / "index.json").read_bytes())["manifests"]
    names = [(one["digest"], one.get("annotations", {}).get(REF_NAME)) for one in listed]
    assert names == [(FIRST.digest, "v1"), (SECOND.digest, "v2"), (FIRST.digest, None)]
    # Content never changes, so its time says nothing, and is the same wherever it was exported.
    assert {time for name, (_, time) in after.items() if name.startswith("blobs/")} == {315_532_800 * 10**9}
    # A tag that moved takes the place of what it was; that of another repository does not.
    async with registry.client() as client:
        await push_image(client, "team/app", "v1", SECOND)
    await asked(capsys, "export", "team/app:v1", out)
    listed = json.loads((out / "index.json").read_bytes())["manifests"]
    assert [one["digest"] for one in listed] == [SECOND.digest, SECOND.digest, FIRST.digest]
    refused = await asked(capsys, "export", "team/other:v1", out, code=2)
    assert "v1 is the name of an image of team/app there" in refused
    # Several repositories at once are told apart.
    told = await asked(capsys, "export", "team/app:v2", "team/other:v1", tmp_path / "both")
    assert [one["name"] for one in told["images"]] == ["team/app:v2", "team/other:v1"]
    assert not (out / UNFINISHED).exists()


async def test_an_export_that_broke_off_goes_on_where_it_was(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v2=SECOND)
    out, layer = tmp_path / "out", SECOND.layers[1]
    for begun in (layer.blob[:100_000], b"x" * 100_000, layer.blob, layer.blob + b"more"):
        part = out / UNFINISHED / layer.digest.replace(":", "-")
        part.parent.mkdir(parents=True)
        part.write_bytes(begun)
        await asked(capsys, "export", "team/app", out)
        blob = out / "blobs" / "sha256" / layer.digest[7:]
        assert blob.read_bytes() == layer.blob
        assert not part.exists()
        blob.unlink()


async def test_a_download_that_breaks_off_goes_on(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v2=SECOND)
    large = SECOND.layers[1]
    asked_for: list[str | None] = []

    async def passed_on(request: web.Request) -> web.StreamResponse:
        kept = {name: value for name, value in request.headers.items() if name in ("Authorization", "Range")}
        async with registry.client(anonymous=True) as client:
            answer = await ask(client, request.method, request.path_qs, headers=kept)
        told = {name: answer.headers[name] for name in TOLD if name in answer.headers}
        response = web.StreamResponse(status=answer.status, headers=told)
        await response.prepare(request)
        if request.method == "HEAD" or not request.path.endswith(large.digest):
            await response.write(answer.body)
            return response
        asked_for.append(request.headers.get("Range"))
        await response.write(answer.body[:100_000])
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", passed_on)
    async with listening(app) as address:
        told = await asked(capsys, "export", "team/app", tmp_path / "out", "--server", address)
        assert told["new_blobs"] == len(SECOND.blobs())
    starts = [int((one or "bytes=0-")[6:-1]) for one in asked_for]
    assert len(starts) > 2
    assert starts == sorted(set(starts))  # each went on behind the one before
    assert (tmp_path / "out" / "blobs" / "sha256" / large.digest[7:]).read_bytes() == large.blob


async def test_an_export_that_is_killed_leaves_the_layout_that_was_there(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v1=FIRST, v2=SECOND)
    out, large = tmp_path / "out", SECOND.layers[1]
    await asked(capsys, "export", "team/app:v1", out)
    begun, killed = asyncio.Event(), asyncio.Event()

    async def stalled(request: web.Request) -> web.StreamResponse:
        kept = {name: value for name, value in request.headers.items() if name == "Authorization"}
        async with registry.client(anonymous=True) as client:
            answer = await ask(client, request.method, request.path_qs, headers=kept)
        told = {name: answer.headers[name] for name in TOLD if name in answer.headers}
        response = web.StreamResponse(status=answer.status, headers=told)
        await response.prepare(request)
        if request.method == "GET" and request.path.endswith(large.digest):
            await response.write(answer.body[:100_000])
            begun.set()
            await killed.wait()
            return response
        if request.method == "GET":
            await response.write(answer.body)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stalled)
    async with listening(app) as address:
        words = ("-m", "registry.main", "export", "team/app", str(out), "--server", address)
        process = await asyncio.create_subprocess_exec(sys.executable, *words)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        process.kill()
        await process.wait()
        killed.set()
    layout = read_layout(FolderMembers(out))
    assert [one.names[0] for one in layout.entries] == ["v1"]
    content = walk([one.descriptor for one in layout.entries], layout.manifest)
    assert all(layout.size(one.digest) == one.size for one in content.blobs.values())
    told = await asked(capsys, "export", "team/app", out)
    assert {one["name"] for one in told["images"]} == {"v1", "v2"}
    assert (out / "blobs" / "sha256" / large.digest[7:]).read_bytes() == large.blob


async def test_an_import_that_broke_off_sends_the_rest(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = write_layout(tmp_path / "layout", SECOND, tag="v2")
    layer = layout / "blobs" / "sha256" / SECOND.layers[1].digest[7:]
    layer.write_bytes(bytes(len(SECOND.layers[1].blob)))
    said = await asked(capsys, "import", layout, "team/app", code=2)
    assert f"what is there as {SECOND.layers[1].digest}" in said
    assert await tags(registry, "team/app") == []
    layer.write_bytes(SECOND.layers[1].blob)
    there = await asked(capsys, "import", layout, "team/app")
    assert (there["sent_blobs"], there["kept_blobs"]) == (1, 2)
    # What the registry has need not be in the layout.
    layer.unlink()
    there = await asked(capsys, "import", layout, "team/app:again")
    assert (there["sent_blobs"], there["images"][0]["tags"]) == (0, ["again"])


async def test_a_large_blob_goes_on_in_the_chunk_whose_answer_was_lost(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(layer_of(os.urandom(20_000_000), compression="none"))
    layout = write_layout(tmp_path / "layout", image, tag="big")
    with relay(registry.host, lose_after=12_000_000) as proxy:
        there = await asked(capsys, "import", layout, "team/big", "--server", f"http://{proxy.host}")
        assert proxy.lost.is_set()
    assert there["sent_bytes"] == sum(len(content) for content in (image.config, image.layers[0].blob))
    assert await read(registry, f"/v2/team/big/blobs/{image.layers[0].digest}") == image.layers[0].blob


async def test_layouts_that_are_refused_change_nothing(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refused(layout: Path, *more: object, name: str = "team/app", code: int = 2) -> str:
        said: str = await asked(capsys, "import", layout, name, *more, code=code)
        return said

    two = write_layout(tmp_path / "two", FIRST, SECOND, tag=["a/x:v1", "b/x:v1"])
    assert "two images for the tag v1" in await refused(two)
    assert "several images under the name 'v1'" in await refused(two, "--image", "v1")
    assert "has 2 images, which one tag cannot name" in await refused(two, name="team/app:v1")
    assert "no tag 'v9'" in await refused(two, "--image", "v9")
    lacking = write_layout(tmp_path / "lacking", FIRST)
    (lacking / "blobs" / "sha256" / FIRST.layers[0].digest[7:]).unlink()
    assert f"lacks blobs: {FIRST.layers[0].digest}" in await refused(lacking)
    longer = write_layout(tmp_path / "longer", FIRST)
    with (longer / "blobs" / "sha256" / FIRST.layers[0].digest[7:]).open("ab") as blob:
        blob.write(b"more")
    assert "bytes in the layout longer, not" in await refused(longer)
    odd = write_layout(tmp_path / "odd", FIRST, tag="a:not a tag")
    assert "ends with no tag" in await refused(odd)
    (tmp_path / "empty").mkdir()
    empty = write_layout(tmp_path / "empty", tag=[])
    assert "has no images" in await refused(empty)
    sparse = write_layout(tmp_path / "sparse", INDEX, tag="v1")
    (sparse / "blobs" / "sha256" / FIRST.digest[7:]).unlink()
    assert "no readable blobs/sha256" in await refused(sparse)
    assert "cannot be read: No such file" in await refused(tmp_path / "nothing")
    assert "goes to NAME or NAME:TAG" in await refused(two, name=f"team/app@{FIRST.digest}", code=64)
    assert await tags(registry, "team/app") == []
    async with registry.client() as client, client.get("/v2/_catalog") as answer:
        assert (await answer.json())["repositories"] == []
    there = await asked(capsys, "import", sparse, "team/app", "--sparse")
    assert there["absent"] == [FIRST.digest]


async def test_exports_that_are_refused_change_nothing(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(registry, "team/app", v1=FIRST)

    async def refused(*words: object, code: int = 2) -> str:
        said: str = await asked(capsys, "export", *words, code=code)
        return said

    assert "there is no team/app:v2" in await refused("team/app:v2", tmp_path / "a.tar")
    assert "team/nothing" in await refused("team/nothing", tmp_path / "a.tar")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    assert "is no image layout" in await refused("team/app:v1", tmp_path / "full")
    assert "cannot be written: Not a directory" in await refused(
        "team/app:v1", tmp_path / "full" / "letter" / "x"
    )
    assert "cannot be written" in await refused("team/app:v1", tmp_path / "none" / "a.tar", code=64)
    assert "Missing argument" in await refused("team/app:v1", code=64)
    await push(registry, "team/app", v3=SECOND)
    both = (f"team/app:v1@{FIRST.digest}", f"team/app:v1@{SECOND.digest}")
    assert "two images have the name v1" in await refused(*both, tmp_path / "a.tar")
    with FolderTarget(tmp_path / "busy"):
        assert "another export writes to" in await refused("team/app:v1", tmp_path / "busy")
    # A damaged blob leaves no archive behind.
    assert registry.services is not None
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file() and path.read_bytes() == FIRST.layers[0].blob:
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))
    (tmp_path / "a.tar").write_bytes(b"before")
    assert "has other bytes" in await refused("team/app:v1", tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == b"before"
    assert "has other bytes" in await refused("team/app:v1", tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()
    names = {one.name for one in tmp_path.iterdir() if not one.name.startswith("seatrial.db")}
    assert names == {"a.tar", "out", "full", "data"}


async def test_referrers_of_a_registry_without_a_list_of_them(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = make_index(SIGNATURE)
    layout = write_layout(
        tmp_path / "layout", FIRST, SECOND, listed, SEAL, tag=["v1", "v2", FIRST.digest.replace(":", "-"), ""]
    )
    there = await asked(capsys, "import", layout, "team/app:v1", "--image", "v1")
    assert (there["referrers"], len(there["images"])) == (2, 1)
    assert await tags(registry, "team/app") == ["v1"]
    for image in (SIGNATURE, SEAL):
        assert await read(registry, f"/v2/team/app/manifests/{image.digest}") == image.manifest
    assert await read(registry, f"/v2/team/app/manifests/{SECOND.digest}") is None


async def test_addresses(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await push(registry, "team/app", v2=SECOND)
    served = tmp_path / "served"
    write_layout(served / "layout", SECOND, tag="v2")
    write_layout_tar(served / "a.tar", SECOND, tag="v2")
    taken: dict[str, bytes] = {}
    broken: list[str] = []

    async def get(request: web.Request) -> web.StreamResponse:
        path = served / request.match_info["path"]
        if not path.is_file():
            raise web.HTTPNotFound
        if request.method == "GET" and path.suffix == ".tar" and "Range" not in request.headers:
            # Half of it, and then nothing more.
            content = path.read_bytes()
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            broken.append(request.path)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.FileResponse(path)

    async def put(request: web.Request) -> web.Response:
        taken[request.path] = await request.read()
        return web.Response(status=201)

    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.get("/{path:.*}", get), web.put("/up/{path:.*}", put)])
    async with listening(app) as address:
        for number, place in enumerate(("layout/", "layout/index.json", "a.tar")):
            there = await asked(capsys, "import", f"{address}/{place}", f"web/app{number}")
            assert (there["images"][0]["tags"], there["sent_blobs"]) == (["v2"], 3)
        assert broken == ["/a.tar"]  # it went on where it broke off
        assert "answers 404" in await asked(capsys, "import", f"{address}/no.tar", "web/none", code=2)
        assert "index.json answers 404" in await asked(capsys, "import", f"{address}/no/", "web/none", code=2)
        said = await asked(
            capsys, "import", address.replace("//", "//me:secret@") + "/a.tar", "web/n", code=64
        )
        assert "secret" not in said
        assert "~/.netrc" in said
        assert "no address of http" in await asked(capsys, "import", "gopher://x/a.tar", "web/none", code=64)
        await asked(capsys, "export", "team/app:v2", f"{address}/up/b.tar.gz?signature=s")
        (content,) = taken.values()
        assert names_in(gzip.decompress(content))[0] == "oci-layout"
        said = await asked(capsys, "export", "team/app:v2", f"{address}/layout/b.tar?signature=s", code=2)
        assert f"{address}/layout/b.tar answers 405" in said
        assert "signature" not in said
        assert "ends in none of" in await asked(capsys, "export", "team/app:v2", f"{address}/up/b", code=64)
        secret = f"{address.replace('//', '//me:secret@')}/up/c.tar"
        assert "secret" not in await asked(capsys, "export", "team/app:v2", secret, code=64)
