"""``seatrial migrate folder``: the folders of distribution and zot, taken in without copies; and folders in
which something is not what its name says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.cli import folderbringing
from registry.content.adopting import take_file
from registry.errors import StorageFullError
from registry.main import run
from registry.storage.filesystem import FilesystemStore
from tests.kit.access import ask
from tests.kit.distribution import push_image, small_index
from tests.kit.images import (
    OCI_INDEX,
    Image,
    descriptor,
    digest_of,
    file,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    to_json,
)
from tests.kit.server import Registry, running_registry
from tests.kit.sources import ROOT

BASE = make_layer(file("base", os.urandom(200_000)))
FIRST = make_image(BASE, make_layer(file("a", b"one")), config={"Cmd": ["/a"]})
SECOND = make_image(BASE, make_layer(file("a", b"two")))
OLD = make_image(make_layer(file("a", b"old")))
INDEX = make_index(FIRST, make_image(make_layer(file("c", b"arm")), platform="linux/arm64"))
SIGNATURE = make_referrer(FIRST.digest, b"signed", artifact_type="test/signature", media_type="test/plain")
SEAL = make_referrer(SIGNATURE.digest, b"sealed", artifact_type="test/seal", media_type="test/plain")
FALLBACK = small_index(SIGNATURE.manifest)
REF_NAME = "org.opencontainers.image.ref.name"


def manifests_in(image: Image) -> list[bytes]:
    return [image.manifest, *(one for one in image.blobs().values() if b'"schemaVersion"' in one[:60])]


class Distribution:
    """A folder as distribution writes it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "docker/registry/v2"

    def blob(self, digest: str) -> Path:
        encoded = digest.partition(":")[2]
        return self.root / "blobs/sha256" / encoded[:2] / encoded / "data"

    def put(self, name: str, tag: str | None, image: Image) -> None:
        for digest, content in image.blobs().items():
            self.blob(digest).parent.mkdir(parents=True, exist_ok=True)
            self.blob(digest).write_bytes(content)
        for raw in manifests_in(image):
            self.link(f"{name}/_manifests/revisions/sha256/{digest_of(raw)[7:]}/link", digest_of(raw))
        if tag is not None:
            self.link(f"{name}/_manifests/tags/{tag}/current/link", image.digest)
            self.link(f"{name}/_manifests/tags/{tag}/index/sha256/{image.digest[7:]}/link", image.digest)

    def link(self, path: str, text: str) -> None:
        there = self.root / "repositories" / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)


class Zot(Distribution):
    """A folder as zot and olareg write it: each repository a layout, all of it in the index."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.name = ""

    def blob(self, digest: str) -> Path:
        return self.root / self.name / "blobs/sha256" / digest.partition(":")[2]

    def put(self, name: str, tag: str | None, image: Image) -> None:
        self.name = name
        for digest, content in image.blobs().items():
            self.blob(digest).parent.mkdir(parents=True, exist_ok=True)
            self.blob(digest).write_bytes(content)
        folder = self.root / name
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (folder / ".uploads").mkdir(exist_ok=True)
        index = folder / "index.json"
        held = json.loads(index.read_text())["manifests"] if index.exists() else []
        named = {"annotations": {REF_NAME: tag}} if tag is not None else {}
        held.append({**descriptor(image.manifest, image.media_type), **named})
        index.write_bytes(to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": held}))

    def deduplicate(self) -> None:
        """As zot does by default: each blob in a folder of its own, and in repositories further names of that
        file; what it keeps beside repositories, and in one to which nothing but a blob was pushed."""
        shared = self.root / "_blobstore/blobs/sha256"
        shared.mkdir(parents=True)
        for path in sorted(self.root.glob("**/blobs/sha256/*")):
            if not (shared / path.name).exists():
                os.link(path, shared / path.name)
            else:
                path.unlink()
                os.link(shared / path.name, path)
        (self.root / "_trivy/db").mkdir(parents=True)
        for name in ("_trivy/db/trivy.db", "cache.db", "meta.db", "_restore_complete"):
            (self.root / name).write_bytes(b"1")
        begun = self.root / "team/begun"
        for folder in (begun / "blobs/sha256", begun / ".uploads", begun / ".sync/1a2b/team/begun"):
            folder.mkdir(parents=True)
        for folder in (begun, begun / ".sync/1a2b/team/begun"):
            (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            (folder / "index.json").write_text('{"schemaVersion":2,"manifests":null}')
        (begun / ".uploads/5d7f").write_bytes(b"half a blob")


@pytest.fixture
async def here(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    if database_url.startswith("postgresql"):
        monkeypatch.setenv("SEATRIAL_DATABASE_URL", database_url)
    async with running_registry(
        tmp_path / "data",
        database_url if "postgresql" in database_url else f"sqlite:///{put_there(tmp_path)}",
    ) as running:
        yield running


def put_there(tmp_path: Path) -> Path:
    """The database where a server has it that is told nothing else."""
    (tmp_path / "data").mkdir()
    shutil.copyfile(tmp_path / "seatrial.db", tmp_path / "data/seatrial.db")
    return tmp_path / "data/seatrial.db"


async def taken(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object, code: int = 0) -> Any:
    """What the command tells as JSON; where it ends otherwise without it, what it says."""
    words = ["migrate", "folder", str(folder), *map(str, arguments), "--json"]
    ended = await asyncio.to_thread(run, [*words, "--data", str(folder.parent / "data")])
    said = capsys.readouterr()
    assert ended == code, said.err
    return json.loads(said.out) if said.out else said.err


async def read(registry: Registry, path: str) -> bytes | None:
    async with registry.client() as client, client.get(path) as answer:
        return await answer.read() if answer.status == 200 else None


async def tags(registry: Registry, name: str) -> list[str]:
    found = await read(registry, f"/v2/{name}/tags/list")
    return list(json.loads(found)["tags"]) if found else []


def blobs_of(tmp_path: Path) -> set[int]:
    """The inodes of the store."""
    return {one.stat().st_ino for one in (tmp_path / "data/blobs/blobs").rglob("*") if one.is_file()}


def filled(kind: type[Distribution], folder: Path) -> Distribution:
    made = kind(folder)
    for tag, image in (("v1", FIRST), ("latest", FIRST), ("multi", INDEX)):
        made.put("team/app", tag, image)
    for one in (OLD, SIGNATURE, SEAL):
        made.put("team/app", None, one)
    made.put("team/app/nested", "v2", SECOND)
    return made


@pytest.mark.parametrize("kind", [Distribution, Zot])
async def test_a_folder_moves_in(
    kind: type[Distribution], here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = filled(kind, tmp_path / "old")
    if kind is Distribution:  # the list of referrers as clients write it
        old.put("team/app", f"sha256-{FIRST.digest[7:]}", Image(FALLBACK, b"", (), media_type=OCI_INDEX))
    would = await taken(capsys, tmp_path / "old", "--dry-run")
    assert await tags(here, "team/app") == []
    told = await taken(capsys, tmp_path / "old")
    app, nested = told["repositories"]
    assert (app["repository"], nested["repository"]) == ("team/app", "team/app/nested")
    assert [one["new"] for one in would["repositories"]] == [app["new"], nested["new"]]
    assert (sorted(app["new"]), app["referrers"], app["failed"]) == (["latest", "multi", "v1"], 2, [])
    # No byte was copied: they are the files that were there, where the file system cannot clone.
    assert (app["shared"], nested["shared"], nested["mounted"]) == (app["blobs"], nested["blobs"], 1)
    for image in (FIRST, INDEX, SIGNATURE, SEAL):
        assert await read(here, f"/v2/team/app/manifests/{image.digest}") == image.manifest
    for layer in (*FIRST.layers, *SECOND.layers):
        name = "team/app" if layer in FIRST.layers else "team/app/nested"
        assert await read(here, f"/v2/{name}/blobs/{layer.digest}") == layer.blob
    assert await read(here, f"/v2/team/app/manifests/{OLD.digest}") is None
    assert await tags(here, "team/app") == ["latest", "multi", "v1"]
    # Who deletes the old folder then deletes nothing here.
    shutil.rmtree(tmp_path / "old/docker" if kind is Distribution else tmp_path / "old/team")
    assert await read(here, f"/v2/team/app/blobs/{BASE.digest}") == BASE.blob


async def test_a_folder_of_zot_as_it_is_by_default(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blobs that have names in several repositories, and what is no repository beside them."""
    old = filled(Zot, tmp_path / "old")
    assert isinstance(old, Zot)
    old.deduplicate()
    looks = {path: path.stat().st_mode for path in old.root.glob("**/blobs/sha256/*")}
    theirs = {path.stat().st_ino for path in looks}
    told = await taken(capsys, tmp_path / "old")
    assert [one["repository"] for one in told["repositories"]] == [
        "team/app",
        "team/app/nested",
        "team/begun",
    ]
    for one in told["repositories"]:
        assert (one["failed"], one["shared"]) == ([], one["blobs"])
    assert await tags(here, "team/app") == ["latest", "multi", "v1"]
    assert await read(here, f"/v2/team/app/manifests/{SIGNATURE.digest}") == SIGNATURE.manifest
    assert await read(here, f"/v2/team/app/nested/blobs/{BASE.digest}") == BASE.blob
    clones = sum(one["shared"] for one in told["repositories"]) if not theirs & blobs_of(tmp_path) else 0
    assert clones or blobs_of(tmp_path) <= theirs, "no byte was copied"
    assert {path: path.stat().st_mode for path in looks} == looks, "zot can go back to it"


async def test_who_pushes_to_a_tag_meanwhile_keeps_it(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Distribution(tmp_path / "old")
    for tag in ("new", "moved", "latest"):
        old.put("team/app", tag, SECOND)
    loop = asyncio.get_running_loop()
    async with here.client() as client:
        await push_image(client, "team/app", "moved", OLD)

        async def push() -> None:
            for tag in ("new", "moved"):
                await push_image(client, "team/app", tag, FIRST)

        async def meanwhile(*given: Any, **more: Any) -> Any:
            if not pushed:
                pushed.append(True)
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(push(), loop))
            return await take_file(*given, **more)

        pushed: list[bool] = []
        monkeypatch.setattr(folderbringing, "take_file", meanwhile)
        (app,) = (await taken(capsys, tmp_path / "old", code=2))["repositories"]
    assert (app["new"], app["moved"]) == (["latest"], [])
    assert {(one["reference"], one["reason"]) for one in app["failed"]} == {
        (tag, "somebody pushed to it meanwhile; it was left there") for tag in ("new", "moved")
    }
    for tag, image in (("new", FIRST), ("moved", FIRST), ("latest", SECOND)):
        assert await read(here, f"/v2/team/app/manifests/{tag}") == image.manifest
    # Once more, by who has seen it: they move.
    (app,) = (await taken(capsys, tmp_path / "old"))["repositories"]
    assert sorted(one["tag"] for one in app["moved"]) == ["moved", "new"]


async def test_nothing_is_done_twice(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(Distribution, tmp_path / "old")
    await taken(capsys, tmp_path / "old")
    before = blobs_of(tmp_path)
    again = await taken(capsys, tmp_path / "old")
    for one in again["repositories"]:
        assert (one["new"], one["moved"], one["blobs"], one["mounted"], one["manifests"]) == ([], [], 0, 0, 0)
    assert blobs_of(tmp_path) == before
    told = await taken(capsys, tmp_path / "old", "team/app", "--untagged", "--into", "deep/er")
    assert (told["repositories"][0]["into"], told["repositories"][0]["blobs"]) == ("deep/er/team/app", 2)
    assert await read(here, f"/v2/deep/er/team/app/manifests/{OLD.digest}") == OLD.manifest


async def test_copies_are_copies(here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Distribution(tmp_path / "old")
    old.put("team/app", "v1", FIRST)
    (app,) = (await taken(capsys, tmp_path / "old", "--copy"))["repositories"]
    assert (app["shared"], app["blobs"]) == (0, 3)
    theirs = {old.blob(digest).stat().st_ino for digest in FIRST.blobs()}
    assert not theirs & blobs_of(tmp_path)
    assert await read(here, f"/v2/team/app/blobs/{BASE.digest}") == BASE.blob


async def test_what_is_linked_is_left_as_it_was(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Distribution(tmp_path / "old")
    old.put("team/app", "v1", FIRST)
    looks = [old.blob(digest).stat() for digest in FIRST.blobs()]
    await taken(capsys, tmp_path / "old")
    after = [old.blob(digest).stat() for digest in FIRST.blobs()]
    assert [(one.st_mode, one.st_mtime_ns) for one in looks] == [
        (one.st_mode, one.st_mtime_ns) for one in after
    ]
    # And a delete here takes the name here alone.
    async with here.client() as client:
        assert (await ask(client, "DELETE", f"/v2/team/app/manifests/{FIRST.digest}")).status == 202
    assert old.blob(BASE.digest).read_bytes() == BASE.blob


@pytest.mark.parametrize("wrong", ["blob", "short", "gone", "symlink", "pipe", "manifest", "link"])
async def test_what_is_not_what_its_name_says(
    wrong: str, here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One image of two: it is told, nothing of it has a tag here or stays, and the other comes."""
    old = Distribution(tmp_path / "old")
    old.put("team/app", "bad", SECOND)
    old.put("team/app", "good", OLD)
    layer = SECOND.layers[-1]
    path = old.blob(layer.digest)
    if wrong == "blob":
        path.write_bytes(b"x" * len(layer.blob))
    elif wrong == "short":
        path.write_bytes(layer.blob[:-1])
    elif wrong == "manifest":
        old.blob(SECOND.digest).write_bytes(SECOND.manifest + b" ")
    elif wrong == "link":
        old.link("team/app/_manifests/tags/bad/current/link", "../../../etc/passwd")
    else:
        path.unlink()
        if wrong == "symlink":
            (tmp_path / "outside").write_bytes(layer.blob)
            path.symlink_to(tmp_path / "outside")
        elif wrong == "pipe":
            os.mkfifo(path)
    (app,) = (await taken(capsys, tmp_path / "old", code=2))["repositories"]
    assert (app["new"], [one["reference"] for one in app["failed"]]) == (["good"], ["bad"])
    assert await tags(here, "team/app") == ["good"]
    assert await read(here, f"/v2/team/app/blobs/{layer.digest}") is None
    assert list((tmp_path / "data/blobs/uploads").iterdir()) == []
    if wrong not in ("symlink", "pipe"):
        old.put("team/app", "bad", SECOND)
        # Mended, it comes.
        assert (await taken(capsys, tmp_path / "old"))["repositories"][0]["new"] == ["bad"]


async def test_a_damaged_child_does_not_slip_in_by_another_index(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Distribution(tmp_path / "old")
    other = make_index(FIRST)
    for tag, image in (("a", INDEX), ("b", other)):
        old.put("team/app", tag, image)
    old.blob(FIRST.layers[-1].digest).write_bytes(b"x" * len(FIRST.layers[-1].blob))
    (app,) = (await taken(capsys, tmp_path / "old", code=2))["repositories"]
    assert sorted(one["reference"] for one in app["failed"]) == ["a", "b"]
    assert await tags(here, "team/app") == []


async def test_names_that_are_none_are_not_repositories(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Distribution(tmp_path / "old")
    old.put("team/app", "v1", OLD)
    old.put("team/UPPER", "v1", OLD)
    (old.root / "repositories/loop").symlink_to(old.root / "repositories")
    old.link("team/app/_manifests/tags/.bad/current/link", OLD.digest)
    told = await taken(capsys, tmp_path / "old", code=2)
    assert [one["repository"] for one in told["repositories"]] == ["team/app"]
    assert told["repositories"][0]["failed"][0]["reference"] == ".bad"


async def test_the_gate_holds_unless_it_is_grandfathered(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with here.client() as client:
        for name in ("team/app", "other/team/app"):
            answer = await ask(
                client,
                "POST",
                "/api/v1/repositories",
                json={"name": name, "gate": "enforce", "trial_on_push": True},
            )
            assert answer.status == 201, answer.body
    Distribution(tmp_path / "old").put("team/app", "v1", OLD)
    await taken(capsys, tmp_path / "old")
    await taken(capsys, tmp_path / "old", "--into", "other", "--grandfathered-until", "7d")
    states = []
    async with here.client() as client:
        for name in ("team/app", "other/team/app"):
            answer = await ask(client, "GET", "/api/v1/gate", params={"image": f"{name}:v1"})
            states.append(answer.json["state"])
    assert states[1] == "grandfathered"
    assert states[0] != "grandfathered"


async def test_a_full_disk_ends_it(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_given: object) -> None:
        raise StorageFullError("the storage is full")

    filled(Distribution, tmp_path / "old")
    monkeypatch.setattr(FilesystemStore, "adopt", full)
    assert "the storage is full" in await taken(capsys, tmp_path / "old", code=2)
    assert await tags(here, "team/app") == []


DIES = """
import os, sys
from registry.content import uploads
from registry.main import run

async def dies(*given, **more):
    os._exit(9)

uploads.name = dies
run(sys.argv[1:])
"""


async def test_it_goes_on_after_a_crash(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed when the bytes are there, and no row."""
    Distribution(tmp_path / "old").put("team/app", "v1", OLD)
    words = ["migrate", "folder", str(tmp_path / "old"), "--data", str(tmp_path / "data")]
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", DIES, *words], cwd=ROOT, env=os.environ, check=False
    )
    assert died.returncode == 9
    assert blobs_of(tmp_path)
    assert (await taken(capsys, tmp_path / "old"))["repositories"][0]["new"] == ["v1"]
    assert await read(here, f"/v2/team/app/blobs/{OLD.layers[0].digest}") == OLD.layers[0].blob


async def test_a_folder_of_no_registry(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").mkdir()
    assert "as distribution makes it" in await taken(capsys, tmp_path / "old", code=2)
    Distribution(tmp_path / "old").put("team/app", "v1", OLD)
    told = await taken(capsys, tmp_path / "old", "team/none", code=2)
    assert "there is no repository team/none" in told["repositories"][0]["failed"][0]["reason"]
