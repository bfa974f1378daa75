"""BuildKit, with its own engine: builds on private bases, provenance, caches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.buildkit import build, running_buildkit
from tests.kit.clients import ClientError, Clients
from tests.kit.server import Registry


@pytest.fixture(scope="module")
def buildkit(tools: Path, registry: Registry) -> Iterator[tuple[str, ...]]:
    if os.geteuid() != 0:
        pytest.skip("BuildKit needs root")
    with running_buildkit(tools, registry.host) as found:
        yield found


@pytest.mark.parametrize("kind", ["password", "token", "robot", "refresh"])
def test_every_credential(
    buildkit: tuple[str, ...],
    stranger: Clients,
    registry: Registry,
    credentials: dict[str, tuple[str, str]],
    kind: str,
) -> None:
    keep = stranger.sign_in_with_refresh_token if kind == "refresh" else stranger.sign_in
    (stranger.folder / "hidden").write_text(f"FROM {registry.host}/keys/app:1\nCOPY hidden /{kind}\n")
    (stranger.folder / "open").write_text(f"FROM {registry.host}/open/app:1\nCOPY open /{kind}\n")
    output = ("--output", f"type=image,name={registry.host}/keys/buildkit:{kind},push=true")
    keep(registry.host, *credentials[kind])
    stranger.run("buildctl", *buildkit, *build("hidden", *output))
    stranger.run("buildctl", *buildkit, *build("open"))
    stranger.sign_out()
    stranger.run("buildctl", *buildkit, "prune", "--all")
    stranger.run("buildctl", *buildkit, *build("open"))
    with pytest.raises(ClientError, match="pull access denied"):
        stranger.run("buildctl", *buildkit, *build("hidden"))
    with pytest.raises(ClientError, match="sign in to push"):
        stranger.run("buildctl", *buildkit, *build("open", *output))


def test_provenance_and_caches(
    buildkit: tuple[str, ...],
    clients: Clients,
    registry: Registry,
    credentials: dict[str, tuple[str, str]],
) -> None:
    name = f"{registry.host}/buildkit/app"
    (clients.folder / "image").write_text(f"FROM {registry.host}/keys/app:1\nCOPY image /image\n")

    def push(tag: str) -> str:
        return f"type=image,name={name}:{tag},push=true"

    cache = f"type=registry,ref={name}:cache"
    clients.run(
        *("buildctl", *buildkit),
        *build("image", "--output", push("1"), "--opt", "attest:provenance=mode=max"),
        *("--export-cache", f"{cache},mode=max", "--metadata-file", "built.json"),
    )
    index = json.loads(clients.run("crane", "manifest", f"{name}:1"))
    image, provenance = index["manifests"]
    assert provenance["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    built = json.loads((clients.folder / "built.json").read_text())
    assert built["containerimage.digest"] == clients.run("crane", "digest", f"{name}:1")
    clients.run("buildctl", *buildkit, "prune", "--all")
    again = ("--output", push("2"), "--import-cache", cache)
    said = clients.screen("buildctl", *buildkit, *build("image", *again))
    assert said.code == 0
    assert any("CACHED" in line for line in said.lines), said.lines
    layers = [
        json.loads(clients.run("crane", "manifest", found))["layers"]
        for found in (f"{name}@{image['digest']}", f"{name}:2")
    ]
    assert layers[0] == layers[1]
