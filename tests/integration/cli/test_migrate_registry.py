"""``seatrial migrate registry``: a registry that runs, brought with tags, referrers and digests; and others
that lie, loop, or come to no end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from registry.cli import artifactclient, bringing, otherregistry
from registry.db.migrate import upgrade
from registry.main import run
from tests.kit.access import ask
from tests.kit.distribution import push_image, put_manifest
from tests.kit.images import (
    OCI_INDEX,
    OCI_MANIFEST,
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
from tests.kit.upstream import Elsewhere, Said, running_elsewhere

BASE = make_layer(file("base", os.urandom(200_000)))
FIRST = make_image(BASE, make_layer(file("a", b"one")), config={"Cmd": ["/a"]})
SECOND = make_image(BASE, make_layer(file("a", b"two")))
THIRD = make_image(make_layer(file("a", b"three")))
INDEX = make_index(FIRST, make_image(make_layer(file("c", b"arm")), platform="linux/arm64"))
SIGNATURE = make_referrer(FIRST.digest, b"signed", artifact_type="test/signature", media_type="test/plain")
SEAL = make_referrer(SIGNATURE.digest, b"sealed", artifact_type="test/seal", media_type="test/plain")

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass(frozen=True, slots=True)
class Pair:
    """The registry that images are brought to, and the one where they are."""

    here: Registry
    there: Registry


@pytest.fixture
async def pair(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    other = f"sqlite:///{tmp_path / 'other.db'}"
    upgrade(other)
    async with (
        running_registry(tmp_path / "data", database_url) as here,
        running_registry(tmp_path / "other", other) as there,
    ):
        monkeypatch.setenv("SEATRIAL_SERVER", here.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", here.token)
        (tmp_path / "password").write_text(there.token)
        yield Pair(here, there)


@pytest.fixture
async def here(pair: Pair) -> Registry:
    return pair.here


async def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """What the command prints as JSON; where it ends otherwise without it, what it says."""
    ended = await asyncio.to_thread(run, ["migrate", "registry", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert ended == code, said.err
    return json.loads(said.out) if said.out else said.err


def signed_in(tmp_path: Path) -> list[object]:
    return ["--username", "admin", "--password-file", tmp_path / "password"]


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


async def test_a_registry_moves_in(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await push(pair.there, "team/app", v1=FIRST, latest=FIRST, multi=INDEX, _s=SIGNATURE, _t=SEAL)
    await push(pair.there, "lib/tool", v2=SECOND)
    given = [pair.there.url, *signed_in(tmp_path)]
    would = await asked(capsys, *given, "--dry-run")
    assert would["dry_run"]
    assert await tags(pair.here, "team/app") == []
    told = await asked(capsys, *given)
    tool, app = told["repositories"]
    for planned, done in zip(would["repositories"], told["repositories"], strict=True):
        assert {**planned, "mounted": 0, "new": 0} == {**done, "mounted": 0, "new": 0}
    assert (app["repository"], app["into"], sorted(app["new"])) == (
        "team/app",
        "team/app",
        ["latest", "multi", "v1"],
    )
    assert (app["referrers"], app["failed"], tool["failed"]) == (2, [], [])
    for image in (FIRST, INDEX, SIGNATURE, SEAL):
        assert await read(pair.here, f"/v2/team/app/manifests/{image.digest}") == image.manifest
    for layer in FIRST.layers:
        assert await read(pair.here, f"/v2/team/app/blobs/{layer.digest}") == layer.blob
    listed = json.loads(await read(pair.here, f"/v2/team/app/referrers/{FIRST.digest}") or b"")
    assert [one["digest"] for one in listed["manifests"]] == [SIGNATURE.digest]
    # The layer that both have is fetched once.
    assert app["mounted"] == 1
    again = await asked(capsys, *given)
    assert [(one["same"], one["new"], one["blobs"], one["manifests"]) for one in again["repositories"]] == [
        (1, [], 0, 0),
        (3, [], 0, 0),
    ]


async def test_what_moved_there_moves_here_unless_it_is_kept(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(pair.there, "team/app", v1=FIRST)
    given = [pair.there.url, "team/*", *signed_in(tmp_path), "--into", "old"]
    await asked(capsys, *given)
    await push(pair.there, "team/app", v1=SECOND, v2=SECOND)
    (kept,) = (await asked(capsys, *given, "--keep"))["repositories"]
    assert (kept["into"], kept["kept"], kept["new"], kept["moved"]) == ("old/team/app", ["v1"], ["v2"], [])
    assert await read(pair.here, "/v2/old/team/app/manifests/v1") == FIRST.manifest
    (moved,) = (await asked(capsys, *given))["repositories"]
    assert moved["moved"] == [{"tag": "v1", "from": FIRST.digest, "to": SECOND.digest}]
    assert await read(pair.here, "/v2/old/team/app/manifests/v1") == SECOND.manifest
    # The way back is there.
    assert await asyncio.to_thread(run, ["tag", "rollback", "old/team/app:v1"]) == 0
    assert await read(pair.here, "/v2/old/team/app/manifests/v1") == FIRST.manifest


async def test_only_what_is_asked_for(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_signature = f"sha256-{SECOND.digest[7:]}.sig"
    others_signature = f"sha256-{FIRST.digest[7:]}.sig"
    kept = {"1.4.2": SECOND, "1.9": THIRD, "nightly": THIRD, "0.1": FIRST}
    await push(pair.there, "team/app", **kept, **{old_signature: THIRD, others_signature: THIRD})
    await push(pair.there, "team/secret", v1=FIRST)
    await push(pair.there, "lib/tool", v1=FIRST)
    told = await asked(
        capsys,
        pair.there.url,
        "team/*",
        "--exclude",
        "*/secret",
        "--versions",
        ">=1.4.0 <1.5.0",
        "--tags",
        "night*",
        *signed_in(tmp_path),
    )
    (app,) = told["repositories"]
    # What belongs to a chosen image by its tag comes with it.
    assert sorted(app["new"]) == sorted(["1.4.2", "nightly", old_signature])
    assert app["other"] == 3
    assert await tags(pair.here, "team/secret") == await tags(pair.here, "lib/tool") == []


async def test_nobody_and_a_wrong_password(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(pair.there, "team/app", v1=FIRST)
    told = await asked(capsys, pair.there.url, "team/app", code=2)
    assert "team/app" in told["repositories"][0]["failed"][0]["reason"]
    (tmp_path / "password").write_text("wrong-password")
    said = await asked(capsys, pair.there.url, *signed_in(tmp_path), code=2)
    assert "does not list its repositories (401)" in said
    assert "wrong-password" not in said
    assert await tags(pair.here, "team/app") == []


async def test_the_same_registry(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    await push(pair.here, "team/app", v1=FIRST)
    assert "both are the same registry" in await asked(capsys, pair.here.url, "team/app", code=64)


def lists(elsewhere: Elsewhere, name: str, *tags: str) -> None:
    """Have a repository list these tags."""
    elsewhere.answers[f"/v2/{name}/tags/list"] = Said(body=to_json({"name": name, "tags": tags}))


async def test_referrers_of_a_registry_without_a_list_of_them(
    here: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """As clients write them: an index under the tag of the image. One that lies about it is not taken."""
    liar = make_referrer(SECOND.digest, b"x", artifact_type="test/liar", media_type="test/plain")
    listed = [descriptor(one.manifest, OCI_MANIFEST) for one in (SIGNATURE, liar)]
    index = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
    tag = f"sha256-{FIRST.digest[7:]}"
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "v1", tag)
        elsewhere.hold("app", "v1", FIRST)
        elsewhere.hold("app", "x", SIGNATURE)
        elsewhere.hold("app", "y", liar)
        elsewhere.answers[f"/v2/app/manifests/{tag}"] = Said(body=index, headers={"Content-Type": OCI_INDEX})
        told = await asked(capsys, f"http://{elsewhere.host}", "app", "--into", "team", code=2)
        assert elsewhere.times(f"/v2/app/referrers/{FIRST.digest}") == 1
        assert elsewhere.times(f"/v2/app/referrers/{SIGNATURE.digest}") == 0
    (app,) = told["repositories"]
    assert (app["new"], app["referrers"]) == (["v1"], 1)
    (failed,) = app["failed"]
    assert liar.digest in failed["reference"]
    assert await tags(here, "team/app") == ["v1"]
    assert await read(here, f"/v2/team/app/manifests/{SIGNATURE.digest}") == SIGNATURE.manifest
    assert await read(here, f"/v2/team/app/manifests/{liar.digest}") is None


@pytest.mark.parametrize("lie", ["manifest", "blob", "short", "long", "digest", "schema1", "loop", "gone"])
async def test_a_registry_that_lies(lie: str, here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """One image of two is not what it says: it is told, nothing of it has a tag here, and the other comes."""
    layer = SECOND.layers[-1]
    blob = f"/v2/app/blobs/{layer.digest}"
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "bad", "good")
        elsewhere.hold("app", "good", THIRD)
        elsewhere.hold("app", "bad", SECOND)
        manifest = f"/v2/app/manifests/{SECOND.digest}"
        if lie == "manifest":
            elsewhere.answers[manifest] = Said(body=SECOND.manifest + b" ")
        elif lie == "blob":
            elsewhere.answers[blob] = Said(body=b"x" * len(layer.blob))
        elif lie == "short":
            elsewhere.answers[blob] = Said(body=layer.blob[:-1])
        elif lie == "long":
            elsewhere.answers[blob] = Said(body=layer.blob + b"x" * 5_000_000)
        elif lie == "digest":
            elsewhere.answers["/v2/app/manifests/bad"] = Said(
                headers={"Docker-Content-Digest": "sha256:../../x"}
            )
        elif lie == "schema1":
            raw = to_json({"schemaVersion": 1, "name": "app", "tag": "bad", "fsLayers": [], "history": []})
            said = Said(body=raw, headers={"Docker-Content-Digest": digest_of(raw)})
            elsewhere.answers["/v2/app/manifests/bad"] = said
            elsewhere.answers[f"/v2/app/manifests/{digest_of(raw)}"] = said
        elif lie == "loop":
            elsewhere.answers[blob] = Said(302, headers={"Location": blob})
        else:
            del elsewhere.answers[blob]
        told = await asked(capsys, f"http://{elsewhere.host}", "app", "--into", "team", code=2)
    (app,) = told["repositories"]
    assert app["new"] == ["good"]
    (failed,) = app["failed"]
    assert failed["reference"] == "bad"
    assert failed["reason"]
    assert await tags(here, "team/app") == ["good"]
    assert await read(here, f"/v2/team/app/manifests/{SECOND.digest}") is None


async def test_lists_without_end(here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_elsewhere() as elsewhere:
        body = to_json({"repositories": ["app"], "tags": ["v1"]})
        for path in ("/v2/_catalog", "/v2/app/tags/list"):
            elsewhere.answers[path] = Said(body=body, headers={"Link": f'<{path}?last=x>; rel="next"'})
        said = await asked(capsys, f"http://{elsewhere.host}", code=2)
        assert "lists without end" in said
        told = await asked(capsys, f"http://{elsewhere.host}", "app", code=2)
        assert "lists without end" in told["repositories"][0]["failed"][0]["reason"]
        assert elsewhere.times("/v2/_catalog") == 2


async def test_a_list_that_goes_on_in_a_file_of_this_host(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.json"
    names.write_bytes(to_json({"repositories": ["canary"], "tags": ["canary"]}))
    async with running_elsewhere() as elsewhere:
        for leads in (names.as_uri(), "ftp://127.0.0.1/x", "data:application/json,{}", "http://[x/"):
            for path, member in (("/v2/_catalog", "repositories"), ("/v2/app/tags/list", "tags")):
                link = {"Link": f'<{leads}>; rel="next"'}
                elsewhere.answers[path] = Said(body=to_json({member: ["app"]}), headers=link)
            assert "no https address" in await asked(capsys, f"http://{elsewhere.host}", code=2)
            told = await asked(capsys, f"http://{elsewhere.host}", "app", code=2)
            assert "no https address" in told["repositories"][0]["failed"][0]["reason"]
        assert not any("canary" in str(one) for one in elsewhere.asked)


@pytest.mark.parametrize("name", ["../up", "Ä", 7, None])
async def test_names_that_are_none(name: object, here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_elsewhere() as elsewhere:
        elsewhere.answers["/v2/_catalog"] = Said(body=to_json({"repositories": [name]}))
        assert "lists what is none" in await asked(capsys, f"http://{elsewhere.host}", code=2)
        elsewhere.answers["/v2/app/tags/list"] = Said(body=to_json({"tags": [name, "v1"]}))
        told = await asked(capsys, f"http://{elsewhere.host}", "app", code=2)
        assert "lists what is none" in told["repositories"][0]["failed"][0]["reason"]


async def test_a_tag_with_nothing_under_it(here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "v1", "v2")
        elsewhere.hold("app", "v2", THIRD)
        told = await asked(capsys, f"http://{elsewhere.host}", "app", "--into", "team", code=2)
    (app,) = told["repositories"]
    assert (app["new"], app["failed"][0]["reference"]) == (["v2"], "v1")


async def test_a_repository_without_a_list(here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_elsewhere() as elsewhere:
        said = await asked(capsys, f"http://{elsewhere.host}", code=2)
        assert "does not list its repositories (404); name those that you want" in said


async def test_a_password_goes_nowhere_else(
    here: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("canary")
    async with running_elsewhere() as elsewhere:
        challenge = f'Bearer realm="http://{elsewhere.other_host}/token",service="x"'
        elsewhere.answers["/v2/app/tags/list"] = Said(401, headers={"WWW-Authenticate": challenge})
        given = [f"http://{elsewhere.host}", "app", *signed_in(tmp_path)]
        told = await asked(capsys, *given, code=2)
        assert told["repositories"][0]["failed"]
        assert [one for one in elsewhere.asked if one[0] == elsewhere.other_host] == []
        assert "canary" not in json.dumps(told)


async def test_a_trickle_comes_to_its_end(
    here: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifactclient, "_PATIENCE_SECONDS", 0.5)
    layer = THIRD.layers[-1]

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(layer.blob))})
        await response.prepare(request)
        for number in range(len(layer.blob)):
            await response.write(layer.blob[number : number + 1])
            await asyncio.sleep(0.1)
        return response

    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "v1")
        elsewhere.hold("app", "v1", THIRD)
        served = elsewhere.serve

        async def serve(request: web.Request) -> web.StreamResponse:
            if request.path.endswith(f"/blobs/{layer.digest}"):
                return await trickle(request)
            return await served(request)

        elsewhere.serving = serve
        told = await asked(capsys, f"http://{elsewhere.host}", "app", "--into", "team", code=2)
    assert "is too slow" in told["repositories"][0]["failed"][0]["reason"]
    assert await tags(here, "team/app") == []


async def test_it_is_given_up_where_nothing_works(
    here: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "_FAILURES_MAX", 3)
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", *(f"v{number}" for number in range(20)))
        for number in range(20):
            elsewhere.answers[f"/v2/app/manifests/v{number}"] = Said(403)
        said = await asked(capsys, f"http://{elsewhere.host}", "app", "--parallel", "1", code=2)
        assert "given up after 3 failures in a row" in said
        assert len([one for one in elsewhere.asked if "/manifests/" in one[1]]) == 3


async def test_more_tags_than_there_may_be(
    here: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otherregistry, "TAGS_MAX", 3)
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "a", "b", "c", "d")
        told = await asked(capsys, f"http://{elsewhere.host}", "app", code=2)
        assert "more than 3 tags" in told["repositories"][0]["failed"][0]["reason"]


async def test_it_goes_on_where_it_was(here: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """The second image is not to be had at first: what came before is not fetched again."""
    async with running_elsewhere() as elsewhere:
        lists(elsewhere, "app", "v1", "v2")
        elsewhere.hold("app", "v1", FIRST)
        elsewhere.hold("app", "v2", SECOND)
        missing = f"/v2/app/blobs/{SECOND.layers[-1].digest}"
        held = elsewhere.answers.pop(missing)
        given = [f"http://{elsewhere.host}", "app", "--into", "team"]
        await asked(capsys, *given, code=2)
        assert await tags(here, "team/app") == ["v1"]
        elsewhere.answers[missing] = held
        elsewhere.asked.clear()
        told = await asked(capsys, *given)
        assert told["repositories"][0]["new"] == ["v2"]
        assert [path for _, path, _ in elsewhere.asked if "/blobs/" in path] == [missing]
    assert await tags(here, "team/app") == ["v1", "v2"]


async def test_an_index_of_which_not_all_is_there(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = make_image(make_layer(file("d", b"arm")), platform="linux/arm64")
    sparse = make_index(FIRST, arm)
    await push(pair.there, "team/app", _f=FIRST)
    async with pair.there.client() as client:
        answer = await put_manifest(client, "team/app", "v1", sparse.manifest, OCI_INDEX)
        assert answer.status == 201, answer.body
    (app,) = (await asked(capsys, pair.there.url, "team/app", *signed_in(tmp_path)))["repositories"]
    assert (app["new"], app["absent"]) == (["v1"], [arm.digest])
    assert await read(pair.here, "/v2/team/app/manifests/v1") == sparse.manifest


async def test_a_tag_that_stands_for_good_is_told(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await push(pair.here, "team/app", v1=FIRST)
    async with pair.here.client() as client:
        answer = await ask(
            client, "POST", "/api/v1/tag-rules", json={"on": "team/app", "by": "glob", "pattern": "v*"}
        )
        assert answer.status == 201, answer.body
    await push(pair.there, "team/app", v1=SECOND, w1=SECOND)
    told = await asked(capsys, pair.there.url, "team/app", *signed_in(tmp_path), code=2)
    (failed,) = told["repositories"][0]["failed"]
    assert "v1" in failed["reason"]
    assert await read(pair.here, "/v2/team/app/manifests/v1") == FIRST.manifest
