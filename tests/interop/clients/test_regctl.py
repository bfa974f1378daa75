"""regctl, the client of regclient: chunked uploads, sha512, zstd, referrers and digest tags in copies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.oci.digest import digest_of
from tests.kit.clients import ClientError, Clients
from tests.kit.images import busybox_image, file, make_index, make_layer, write_layout
from tests.kit.relay import relay
from tests.kit.server import ADMIN, Registry

ONE = busybox_image(layers=[make_layer(file("r", b"r"))])
MANY = make_index(ONE, busybox_image(platform="linux/arm64"))
PLAIN = ("registry", "set", "--skip-check", "--tls", "disabled")
CHUNK = 1_000_000


@pytest.fixture
def source(clients: Clients, registry: Registry, tmp_path: Path) -> str:
    """A layout with an index, as regctl names it; regctl knows that the registry has no TLS."""
    clients.run("regctl", *PLAIN, registry.host)
    layout = write_layout(tmp_path / "layout", MANY, tag="many")
    return f"ocidir://{layout}:many"


def test_signing_in_and_pulling_without(
    stranger: Clients, registry: Registry, make_public: Callable[[str], str], source: str, tmp_path: Path
) -> None:
    name = make_public("public/regctl")
    stranger.run("regctl", *PLAIN, registry.host)
    login = ("regctl", "registry", "login", registry.host, "-u", ADMIN, "--pass-stdin")
    assert "unauthorized" in "".join(stranger.screen(*login, stdin="wrong").lines)
    stranger.run("regctl", "registry", "logout", registry.host)
    stranger.run(*login, stdin=registry.token)
    stranger.run("regctl", "image", "copy", source, f"{name}:1")
    stranger.run("regctl", "registry", "logout", registry.host)
    stranger.run("regctl", "image", "export", f"{name}:1", tmp_path / "image.tar")
    assert stranger.run("regctl", "tag", "ls", name) == "1"
    with pytest.raises(ClientError, match="unauthorized"):
        stranger.run("regctl", "image", "copy", source, f"{name}:2")


def test_an_upload_in_chunks_goes_on_where_it_stands(
    clients: Clients, registry: Registry, server_log: Path, tmp_path: Path
) -> None:
    """The answer to one chunk is lost: asked for it again the registry says 416 and where it stands."""
    content = os.urandom(8 * CHUNK)
    (tmp_path / "big").write_bytes(content)
    with relay(registry.host, lose_after=4 * CHUNK + CHUNK // 2) as proxy:
        clients.sign_in(proxy.host, ADMIN, registry.token)
        limits = ("--blob-chunk", str(CHUNK), "--blob-max", str(CHUNK))
        clients.run("regctl", *PLAIN, *limits, proxy.host)
        name = f"{proxy.host}/regctl/chunks:1"
        clients.run(
            "regctl", "artifact", "put", "--artifact-type", "application/x", "-f", tmp_path / "big", name
        )
        assert proxy.lost.is_set()
    lines = [json.loads(line) for line in server_log.read_text().splitlines() if line.startswith("{")]
    asked = [
        line["status"]
        for line in lines
        if line.get("method") == "PATCH" and "/regctl/chunks/" in line["path"]
    ]
    assert asked == [202] * 5 + [416] + [202] * 3
    clients.run("regctl", *PLAIN, registry.host)
    clients.sign_in(registry.host, ADMIN, registry.token)
    (layer,) = json.loads(
        clients.run("regctl", "manifest", "get", "--format", "raw-body", f"{registry.host}/regctl/chunks:1")
    )["layers"]
    assert (layer["digest"], layer["size"]) == (str(digest_of(content)), len(content))


def test_images_of_another_digest(clients: Clients, registry: Registry, source: str) -> None:
    name = f"{registry.host}/regctl/sha512"
    clients.run("regctl", "image", "copy", source, f"{name}:sha256")
    clients.run(
        "regctl", "image", "mod", "--digest-algo", "sha512", "--create", f"{name}:sha512", f"{name}:sha256"
    )
    digest = clients.run("regctl", "manifest", "head", f"{name}:sha512")
    raw = clients.run("regctl", "manifest", "get", "--format", "raw-body", f"{name}@{digest}")
    assert str(digest_of(raw.encode(), "sha512")) == digest
    for child in json.loads(raw)["manifests"]:
        body = json.loads(
            clients.run("regctl", "manifest", "get", "--format", "raw-body", f"{name}@{child['digest']}")
        )
        used = [child, body["config"], *body["layers"]]
        assert {one["digest"].partition(":")[0] for one in used} == {"sha512"}
    target = f"{registry.host}/regctl/sha512/copy:1"
    clients.run("regctl", "image", "copy", "--force-recursive", f"{name}:sha512", target)
    assert clients.run("regctl", "manifest", "head", target) == digest


def test_layers_are_compressed_anew(clients: Clients, registry: Registry, source: str) -> None:
    name = f"{registry.host}/regctl/zstd"
    clients.run("regctl", "image", "copy", source, f"{name}:gzip")
    clients.run(
        "regctl", "image", "mod", "--layer-compress", "zstd", "--create", f"{name}:zstd", f"{name}:gzip"
    )
    one = ("manifest", "get", "--format", "raw-body", "--platform", "linux/amd64", f"{name}:zstd")
    layers = json.loads(clients.run("regctl", *one))["layers"]
    assert {layer["mediaType"].rpartition("+")[2] for layer in layers} == {"zstd"}
    clients.run("regctl", "image", "mod", "--data-max", "4000", "--create", f"{name}:data", f"{name}:gzip")
    clients.run("regctl", "manifest", "get", f"{name}:data")


def test_a_copy_takes_referrers_and_digest_tags_along(
    clients: Clients, registry: Registry, source: str, tmp_path: Path
) -> None:
    name, copied = f"{registry.host}/regctl/referred", f"{registry.host}/regctl/referred/copy"
    clients.run("regctl", "image", "copy", source, f"{name}:1")
    sbom = tmp_path / "sbom.json"
    sbom.write_text("{}")
    kind = ("--artifact-type", "application/vnd.test.sbom")
    clients.run("regctl", "artifact", "put", *kind, "--subject", f"{name}:1", "-f", sbom)
    legacy = f"sha256-{MANY.digest.removeprefix('sha256:')}.sig"
    clients.run("regctl", "artifact", "put", *kind, "-f", sbom, f"{name}:{legacy}")
    clients.run("regctl", "image", "copy", "--referrers", "--digest-tags", f"{name}:1", f"{copied}:1")
    assert clients.run("regctl", "tag", "ls", copied).split() == ["1", legacy]
    listed = clients.run("regctl", "artifact", "list", "--format", "raw-body", f"{copied}:1")
    assert [one["artifactType"] for one in json.loads(listed)["manifests"]] == ["application/vnd.test.sbom"]
    assert "application/vnd.test.sbom" in clients.run("regctl", "artifact", "tree", f"{copied}:1")


def test_tags_pages_and_deletes(clients: Clients, registry: Registry, source: str) -> None:
    name = f"{registry.host}/regctl/tags"
    for tag in "abc":
        clients.run("regctl", "image", "copy", source, f"{name}:{tag}")
    assert clients.run("regctl", "tag", "ls", "--limit", "2", name).split() == ["a", "b"]
    assert clients.run("regctl", "tag", "ls", "--limit", "2", "--last", "b", name).split() == ["c"]
    clients.run("regctl", "tag", "rm", f"{name}:b")
    assert clients.run("regctl", "tag", "ls", name).split() == ["a", "c"]
    assert "regctl/tags" in clients.run("regctl", "repo", "ls", registry.host).split()
    clients.run("regctl", "manifest", "rm", f"{name}@{MANY.digest}")
    assert clients.run("regctl", "tag", "ls", name) == ""
    layer = ONE.layers[-1].digest
    clients.run("regctl", "blob", "delete", name, layer)
    with pytest.raises(ClientError, match="not found"):
        clients.run("regctl", "blob", "head", name, layer)
    clients.run("regctl", "index", "create", f"{name}:empty")
    clients.run("regctl", "manifest", "get", f"{name}:empty")
