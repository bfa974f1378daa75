"""oras: artifacts of any kind, referrers, backups; and what BuildKit's registry cache looks like."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.images import (
    OCI_INDEX,
    OCI_LAYER,
    busybox_image,
    descriptor,
    make_index,
    to_json,
    write_layout,
)
from tests.kit.server import ADMIN, Registry

PLAIN = "--plain-http"
SBOM = ("--artifact-type", "application/vnd.test.sbom")


def test_signing_in_and_pulling_without(
    stranger: Clients, registry: Registry, make_public: Callable[[str], str], tmp_path: Path
) -> None:
    name = make_public("public/oras")
    (stranger.folder / "hello.txt").write_text("hello")
    login = ("oras", "login", PLAIN, registry.host, "--username", ADMIN, "--password-stdin")
    with pytest.raises(ClientError, match="the user name and password or the token are not valid"):
        stranger.run(*login, stdin="wrong")
    stranger.run(*login, stdin=registry.token)
    stranger.run("oras", "push", PLAIN, f"{name}:1", "hello.txt:text/plain")
    stranger.run("oras", "logout", registry.host)
    stranger.run("oras", "pull", PLAIN, "--output", tmp_path, f"{name}:1")
    assert (tmp_path / "hello.txt").read_text() == "hello"
    with pytest.raises(ClientError, match="sign in to push public/oras"):
        stranger.run("oras", "push", PLAIN, f"{name}:2", "hello.txt")


def test_several_tags_in_one_push_and_lists(clients: Clients, registry: Registry) -> None:
    name = f"{registry.host}/oras/tags"
    (clients.folder / "a.txt").write_text("a")
    clients.run("oras", "push", PLAIN, f"{name}:1,2,latest", "a.txt")
    assert clients.run("oras", "repo", "tags", PLAIN, name).split() == ["1", "2", "latest"]
    assert "oras/tags" in clients.run("oras", "repo", "ls", PLAIN, registry.host).split()
    clients.run("oras", "tag", PLAIN, f"{name}:1", "3")
    clients.run("oras", "manifest", "delete", PLAIN, "--force", f"{name}:1")
    assert clients.run("oras", "repo", "tags", PLAIN, name) == ""


def test_referrers_are_attached_found_and_copied(
    clients: Clients, registry: Registry, tmp_path: Path
) -> None:
    name, copied = f"{registry.host}/oras/referred", f"{registry.host}/oras/referred/copy"
    for file_name in ("a.txt", "sbom.json", "note.txt"):
        (clients.folder / file_name).write_text(file_name)
    clients.run("oras", "push", PLAIN, f"{name}:1", "a.txt")
    clients.run("oras", "attach", PLAIN, *SBOM, "--annotation", "key=value", f"{name}:1", "sbom.json")
    clients.run("oras", "attach", PLAIN, "--artifact-type", "text/x-note", f"{name}:1", "note.txt")
    clients.run("oras", "cp", "-r", "--from-plain-http", "--to-plain-http", f"{name}:1", f"{copied}:1")
    clients.run("oras", "backup", PLAIN, "--include-referrers", "--output", tmp_path / "backup", f"{name}:1")
    clients.run("oras", "restore", PLAIN, "--input", tmp_path / "backup", f"{copied}/again")
    for held in (name, copied, f"{copied}/again"):
        found = json.loads(clients.run("oras", "discover", PLAIN, "--format", "json", f"{held}:1"))
        kinds = {one["artifactType"] for one in found["referrers"]}
        assert kinds == {"application/vnd.test.sbom", "text/x-note"}, held
        found = json.loads(clients.run("oras", "discover", PLAIN, "--format", "json", *SBOM, f"{held}:1"))
        (sbom,) = found["referrers"]
        assert sbom["annotations"]["key"] == "value"
        assert clients.run("oras", "repo", "tags", PLAIN, held) == "1", (
            "no tag stands in for the referrers API"
        )
    clients.run("oras", "manifest", "delete", PLAIN, "--force", f"{name}@{sbom['digest']}")
    found = json.loads(clients.run("oras", "discover", PLAIN, "--format", "json", f"{name}:1"))
    assert [one["artifactType"] for one in found["referrers"]] == ["text/x-note"]


def test_a_large_artifact(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/oras/large:1"
    content = os.urandom(48 << 20)
    (clients.folder / "model.bin").write_bytes(content)
    clients.run("oras", "push", PLAIN, "--artifact-type", "application/vnd.test.model", name, "model.bin")
    clients.run("oras", "pull", PLAIN, "--output", tmp_path, name)
    with (tmp_path / "model.bin").open("rb") as pulled:
        assert hashlib.file_digest(pulled, "sha256").digest() == hashlib.sha256(content).digest()


def test_images_of_several_platforms(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    index = make_index(busybox_image(), busybox_image(platform="linux/arm64"))
    layout = write_layout(tmp_path / "layout", index, tag="many")
    name, copied = f"{registry.host}/oras/many", f"{registry.host}/oras/many/copy"
    clients.run("oras", "cp", "--from-oci-layout", "--to-plain-http", f"{layout}:many", f"{name}:1")
    clients.run("oras", "cp", "--from-plain-http", "--to-plain-http", f"{name}:1", f"{copied}:1")
    assert clients.run("oras", "manifest", "fetch", PLAIN, f"{copied}:1").encode() == index.manifest
    config = clients.run(
        "oras", "manifest", "fetch-config", PLAIN, "--platform", "linux/arm64", f"{copied}:1"
    )
    assert json.loads(config)["architecture"] == "arm64"
    clients.run("oras", "manifest", "index", "create", PLAIN, f"{name}:2", "1")


def test_blobs_by_hand(clients: Clients, registry: Registry) -> None:
    name = f"{registry.host}/oras/blobs"
    (clients.folder / "blob").write_text("bytes")
    clients.run("oras", "blob", "push", PLAIN, name, "blob")
    digest = f"sha256:{hashlib.sha256(b'bytes').hexdigest()}"
    clients.run("oras", "blob", "fetch", PLAIN, "--output", "back", f"{name}@{digest}")
    assert (clients.folder / "back").read_text() == "bytes"
    clients.run("oras", "blob", "delete", PLAIN, "--force", f"{name}@{digest}")
    with pytest.raises(ClientError, match="not found"):
        clients.run("oras", "blob", "fetch", PLAIN, "--output", "back", f"{name}@{digest}")


@pytest.mark.parametrize("kind", ["index", "manifest"])
def test_a_build_cache(clients: Clients, registry: Registry, kind: str) -> None:
    """BuildKit exports its cache as an index whose children are layers, or as a manifest without an image."""
    name = f"{registry.host}/oras/cache"
    layer, config = b"layer " + kind.encode(), to_json({"layers": [{"blob": kind}], "records": []})
    for file_name, content in (("layer", layer), ("config", config)):
        (clients.folder / file_name).write_bytes(content)
        clients.run("oras", "blob", "push", PLAIN, name, file_name)
    cache = descriptor(config, "application/vnd.buildkit.cacheconfig.v0")
    held = descriptor(layer, f"{OCI_LAYER}+gzip")
    if kind == "index":
        media_type = OCI_INDEX
        members: dict[str, object] = {"manifests": [held, cache]}
    else:
        media_type = "application/vnd.oci.image.manifest.v1+json"
        members = {"config": cache, "layers": [held]}
    raw = to_json({"schemaVersion": 2, "mediaType": media_type, **members})
    (clients.folder / "manifest.json").write_bytes(raw)
    clients.run(
        "oras", "manifest", "push", PLAIN, "--media-type", media_type, f"{name}:{kind}", "manifest.json"
    )
    assert clients.run("oras", "manifest", "fetch", PLAIN, f"{name}:{kind}").encode() == raw
    for content in (layer, config):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        clients.run("oras", "blob", "fetch", PLAIN, "--output", "back", f"{name}@{digest}")
        assert (clients.folder / "back").read_bytes() == content
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    (clients.folder / "manifest.json").write_bytes(
        raw.replace(digest.encode(), f"sha256:{'0' * 64}".encode())
    )
    with pytest.raises(ClientError, match="is not in this repository"):
        clients.run(
            "oras", "manifest", "push", PLAIN, "--media-type", media_type, f"{name}:2", "manifest.json"
        )
