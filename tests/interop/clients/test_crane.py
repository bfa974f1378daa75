"""crane, the client of go-containerregistry: strict about digests, mounts, and streamed uploads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.images import busybox_image, file, make_index, make_layer, make_tar, write_layout
from tests.kit.server import ADMIN, Registry

ONE = busybox_image(layers=[make_layer(file("a", b"a"))])
MANY = make_index(ONE, busybox_image(platform="linux/arm64"))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with one image."""
    return write_layout(tmp_path / "layout", ONE)


def test_push_inspect_and_pull(clients: Clients, registry: Registry, layout: Path, tmp_path: Path) -> None:
    name = f"{registry.host}/crane/app:1"
    clients.run("crane", "push", layout, name)
    assert clients.run("crane", "digest", name) == ONE.digest
    assert clients.run("crane", "manifest", name).encode() == ONE.manifest
    assert clients.run("crane", "config", name).encode() == ONE.config
    assert "PASS" in clients.run("crane", "validate", "--remote", name)
    clients.run("crane", "pull", "--format=oci", name, tmp_path / "pulled")
    index = json.loads((tmp_path / "pulled" / "index.json").read_text())
    assert [one["digest"] for one in index["manifests"]] == [ONE.digest]


def test_signing_in_and_pulling_without(
    stranger: Clients, registry: Registry, make_public: Callable[[str], str], layout: Path
) -> None:
    name = make_public("public/crane")
    login = ("crane", "auth", "login", registry.host, "--username", ADMIN, "--password-stdin")
    stranger.run(*login, stdin=registry.token)
    stranger.run("crane", "push", layout, f"{name}:1")
    stranger.run("crane", "push", layout, f"{registry.host}/crane/hidden:1")
    stranger.run("crane", "auth", "logout", registry.host)
    assert "PASS" in stranger.run("crane", "validate", "--remote", f"{name}:1")
    assert stranger.run("crane", "ls", name) == "1"
    for hidden in ("crane/hidden:1", "crane/none:1"):
        with pytest.raises(ClientError, match="UNAUTHORIZED: sign in to pull"):
            stranger.run("crane", "manifest", f"{registry.host}/{hidden}")
    with pytest.raises(ClientError, match="UNAUTHORIZED"):
        stranger.run("crane", "push", layout, f"{name}:2")


def test_an_index_with_its_images(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/crane/many"
    children: list[str] = []
    for platform in ("linux/amd64", "linux/arm64"):
        image = busybox_image(platform=platform)
        layout = write_layout(tmp_path / platform[6:], image)
        children += ["-m", f"{name}@{image.digest}"]
        clients.run("crane", "push", layout, f"{name}:{platform[6:]}")
    clients.run("crane", "index", "append", *children, "-t", f"{name}:1")
    for platform in ("linux/amd64", "linux/arm64"):
        config = clients.run("crane", "config", "--platform", platform, f"{name}:1")
        assert json.loads(config)["architecture"] == platform[6:]
    assert "PASS" in clients.run("crane", "validate", "--remote", f"{name}:1")


def test_a_whole_index_is_pushed_and_copied(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    source, target = f"{registry.host}/crane/index:1", f"{registry.host}/crane/elsewhere/index:1"
    clients.run("crane", "push", "--index", write_layout(tmp_path / "layout", MANY), source)
    clients.run("crane", "copy", source, target)
    # What it pushes is the layout's own index.json, above the index in it.
    (child,) = json.loads(clients.run("crane", "manifest", target))["manifests"]
    assert child["digest"] == MANY.digest
    assert (
        clients.run("crane", "manifest", f"{target.removesuffix(':1')}@{MANY.digest}").encode()
        == MANY.manifest
    )
    assert "PASS" in clients.run("crane", "validate", "--remote", target)


def test_layers_are_appended_flattened_and_rebased(
    clients: Clients, registry: Registry, layout: Path, tmp_path: Path
) -> None:
    """``append`` streams a layer whose digest is known only at its end."""
    name = f"{registry.host}/crane/layers"
    clients.run("crane", "push", layout, f"{name}:1")
    layer = make_tar([file("srv/index.html", b"ahoy\n")])
    (tmp_path / "layer.tar").write_bytes(layer)
    clients.run(
        "crane", "append", "--base", f"{name}:1", "--new_layer", tmp_path / "layer.tar",
        "--new_tag", f"{name}:2",
    )  # fmt: skip
    config = json.loads(clients.run("crane", "config", f"{name}:2"))
    assert config["rootfs"]["diff_ids"][-1] == f"sha256:{hashlib.sha256(layer).hexdigest()}"
    clients.run("crane", "mutate", "--label", "a=b", "--tag", f"{name}:3", f"{name}:2")
    assert json.loads(clients.run("crane", "config", f"{name}:3"))["config"]["Labels"] == {"a": "b"}
    clients.run("crane", "flatten", "--tag", f"{name}:4", f"{name}:3")
    assert len(json.loads(clients.run("crane", "manifest", f"{name}:4"))["layers"]) == 1
    base = write_layout(tmp_path / "base", busybox_image(layers=[make_layer(file("b", b"b"))]))
    clients.run("crane", "push", base, f"{name}:base")
    clients.run(
        "crane", "rebase", f"{name}:2", "--old_base", f"{name}:1", "--new_base", f"{name}:base",
        "--tag", f"{name}:5",
    )  # fmt: skip
    for tag in "2345":
        assert "PASS" in clients.run("crane", "validate", "--remote", f"{name}:{tag}")


def test_zstd_layers(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    image = busybox_image(compression="zstd")
    name = f"{registry.host}/crane/zstd:1"
    clients.run("crane", "push", write_layout(tmp_path / "layout", image), name)
    assert clients.run("crane", "digest", name) == image.digest
    clients.run("crane", "export", name, tmp_path / "root.tar")
    assert (tmp_path / "root.tar").stat().st_size > len(image.layers[0].blob)


def test_a_copy_mounts_and_lists_show_it(clients: Clients, registry: Registry, layout: Path) -> None:
    one, two = f"{registry.host}/crane/list/one", f"{registry.host}/crane/list/two"
    clients.run("crane", "push", layout, f"{one}:1")
    clients.run("crane", "copy", f"{one}:1", f"{two}:9")
    clients.run("crane", "tag", f"{two}:9", "latest")
    assert clients.run("crane", "ls", two).split() == ["9", "latest"]
    names = clients.run("crane", "catalog", registry.host).split()
    assert [name for name in names if name.startswith("crane/list/")] == ["crane/list/one", "crane/list/two"]
    assert "PASS" in clients.run("crane", "validate", "--remote", f"{two}:9")


def test_delete_by_digest_takes_the_tags_along(clients: Clients, registry: Registry, layout: Path) -> None:
    name = f"{registry.host}/crane/delete"
    clients.run("crane", "push", layout, f"{name}:1")
    clients.run("crane", "delete", f"{name}@{ONE.digest}")
    with pytest.raises(ClientError, match="MANIFEST_UNKNOWN"):
        clients.run("crane", "manifest", f"{name}:1")
    clients.run("crane", "push", layout, f"{name}:1")
    assert clients.run("crane", "digest", f"{name}:1") == ONE.digest
