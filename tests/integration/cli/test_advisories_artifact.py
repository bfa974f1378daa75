"""Advisories as an artifact: pushed to a registry and pulled from it, verified before they take a place."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from registry.advisories.building import build
from registry.advisories.file import open_advisories
from registry.cli.advisoriesartifact import ARTIFACT_TYPE, LAYER_TYPE
from registry.main import run
from tests.kit.advisories import affects, incoming, record
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import OCI_MANIFEST
from tests.kit.server import Registry, running_registry

NAME = "mirror/advisories"


def made(path: Path, *ids: str) -> Path:
    build(path, [incoming("own", *(record(id_, affects("npm", "a", "introduced=0")) for id_ in ids))])
    return path


async def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON that a command prints; where it ends otherwise, what it says."""
    ended = await asyncio.to_thread(run, ["advisories", *(str(one) for one in arguments)])
    said = capsys.readouterr()
    assert ended == code, said.err
    return json.loads(said.out) if code == 0 else said.err


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "password"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_pushed_is_pulled_byte_for_byte(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str], login: Path
) -> None:
    path = made(tmp_path / "a.sqlite", "X-1")
    target = tmp_path / "elsewhere" / "b.sqlite"
    async with running_registry(tmp_path / "data", database_url) as registry:
        login.write_text(registry.token)
        signed_in = ("--username", "admin", "--password-file", login)
        image = f"{registry.host}/{NAME}:1"
        refused = await asked(capsys, "push", image, "--file", path, code=2)
        assert "is refused: 401" in refused
        pushed = await asked(capsys, "push", image, "--file", path, *signed_in, "--json")
        again = await asked(capsys, "push", image, "--file", path, *signed_in, "--json")
        assert again["digest"] == pushed["digest"]  # the same bytes
        refused = await asked(capsys, "pull", image, "--file", target, code=2)
        assert "is refused: 401" in refused
        pulled = await asked(capsys, "pull", image, "--file", target, *signed_in, "--json")
        assert (pulled["digest"], pulled["changed"]) == (pushed["digest"], True)
        assert target.read_bytes() == path.read_bytes()
        pulled = await asked(capsys, "pull", image, "--file", target, *signed_in, "--json")
        assert pulled["changed"] is False
        # By its digest it stays what it was, whatever the tag is moved to.
        made(path, "X-1", "X-2")
        await asked(capsys, "push", image, "--file", path, *signed_in, "--json")
        pinned = f"{registry.host}/{NAME}@{pushed['digest']}"
        assert not (await asked(capsys, "pull", pinned, "--file", target, *signed_in, "--json"))["changed"]
        assert (await asked(capsys, "pull", image, "--file", target, *signed_in, "--json"))["changed"]
        assert target.read_bytes() == path.read_bytes()
        async with registry.client() as client, client.get(f"/v2/{NAME}/manifests/1") as answer:
            manifest = json.loads(await answer.read())
    assert manifest["artifactType"] == ARTIFACT_TYPE
    with closing(open_advisories(path)) as advisories:
        generation = advisories.generation
    assert manifest["annotations"] | {"io.seatrial.advisories.file": ""} == {
        "io.seatrial.advisories.generation": generation,
        "io.seatrial.advisories.sources": '{"own": "2026-11-24T00:00:00+00:00"}',
        "io.seatrial.advisories.file": "",
        "org.opencontainers.image.created": "2026-11-24T00:00:00+00:00",
    }


async def push_layer(registry: Registry, tag: str, content: bytes, **changed: object) -> None:
    """An artifact of advisories with this layer, and what else its manifest says."""
    async with registry.client() as client:
        layer = await push_blob(client, NAME, content)
        config = await push_blob(client, NAME, b"{}")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer, "size": len(content)}],
        }
        answer = await put_manifest(client, NAME, tag, json.dumps(document | changed).encode())
        assert answer.status == 201, answer.body


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_no_whole_file_of_advisories_takes_no_place(
    tmp_path: Path,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    login: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = made(tmp_path / "a.sqlite", "X-1")
    before = path.read_bytes()
    whole = zstd.compress(made(tmp_path / "b.sqlite", "X-2").read_bytes())
    async with running_registry(tmp_path / "data", database_url) as registry:
        login.write_text(registry.token)

        async def refused(why: str, reference: str, code: int = 2) -> None:
            image = f"{registry.host}/{NAME}{reference}"
            said = await asked(
                capsys,
                "pull",
                image,
                "--file",
                path,
                "--username",
                "admin",
                "--password-file",
                login,
                code=code,
            )
            assert why in said
            assert path.read_bytes() == before
            assert [one.name for one in tmp_path.glob(".a.sqlite*")] == [".a.sqlite.lock"]

        await push_layer(registry, "other", whole, artifactType="application/vnd.example")
        await refused("is no artifact of advisories", ":other", 64)
        await push_layer(registry, "two", whole, layers=[])
        await refused("is no artifact of advisories", ":two", 64)
        await push_layer(registry, "broken", b"no zstd")
        await refused("cannot be unpacked", ":broken")
        await push_layer(registry, "cut", whole[:-20])
        await refused("cannot be unpacked", ":cut")
        await push_layer(registry, "text", zstd.compress(b"no database" * 1000))
        await refused("cannot be read as advisories", ":text")
        await refused("is refused: 404", ":missing")
        await refused("is refused: 404", "@sha256:" + "0" * 64)
        monkeypatch.setattr("registry.cli.advisoriesartifact.MAX_BYTES", 1000)
        await push_layer(registry, "large", whole)
        await refused("unpack to more than 1000 bytes", ":large")
        assert "is not a tag" in await asked(
            capsys, "pull", f"{registry.host}/{NAME}:a/b", "--file", path, code=64
        )
    closed = await asked(capsys, "pull", f"{registry.host}/{NAME}:1", "--file", path, code=2)
    assert "cannot be reached" in closed
    assert "go together" in await asked(capsys, "pull", "h.example/a:1", "--username", "x", code=64)
    assert path.read_bytes() == before
