"""containerd, by its client ``ctr``: what Kubernetes nodes and current docker pull with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.containerd import Containerd, running_containerd
from tests.kit.images import busybox_image, file, make_index, make_layer, write_layout
from tests.kit.server import ADMIN, Registry

ONE = busybox_image(layers=[make_layer(file("c", b"c"))])
MANY = make_index(ONE, busybox_image(platform="linux/arm64"))
ZSTD = busybox_image(compression="zstd")
HTTP = "--plain-http"
PULL = ("images", "pull", HTTP, "--snapshotter", "native")


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """One for the module."""
    if os.geteuid() != 0:
        pytest.skip("containerd needs root")
    with running_containerd() as running:
        yield running


def test_pull_signed_in_and_not(
    containerd: Containerd,
    clients: Clients,
    registry: Registry,
    make_public: Callable[[str], str],
    tmp_path: Path,
) -> None:
    login = ("--user", f"{ADMIN}:{registry.token}")
    public, hidden = make_public("public/ctr"), f"{registry.host}/ctr/app"
    layout = write_layout(tmp_path / "layout", ONE)
    for name in (public, hidden):
        clients.run("crane", "push", layout, f"{name}:1")
    containerd.ctr(*PULL, f"{public}:1")
    containerd.ctr(*PULL, *login, f"{hidden}:1")
    with pytest.raises(ClientError, match="authorization failed"):
        containerd.ctr(*PULL, f"{hidden}:1")
    with pytest.raises(ClientError, match="401 Unauthorized"):
        containerd.ctr(*PULL, "--user", f"{ADMIN}:wrong", f"{hidden}:1")
    containerd.ctr(*PULL, *login, f"{hidden}@{ONE.digest}")
    assert ONE.digest in containerd.ctr("images", "list")


def test_indexes_and_zstd_layers(
    containerd: Containerd, clients: Clients, registry: Registry, tmp_path: Path
) -> None:
    login = ("--user", f"{ADMIN}:{registry.token}")
    name = f"{registry.host}/ctr/kinds"
    layout = write_layout(tmp_path / "layout", MANY, ZSTD, tag=["many", "zstd"])
    for tag in ("many", "zstd"):
        clients.run("oras", "cp", "--from-oci-layout", "--to-plain-http", f"{layout}:{tag}", f"{name}:{tag}")
    containerd.ctr(*PULL, *login, "--all-platforms", f"{name}:many")
    containerd.ctr(*PULL, *login, f"{name}:zstd")
    # Tagged for another repository and pushed there: the index with all its images.
    pushed = f"{registry.host}/ctr/pushed:1"
    containerd.ctr("images", "tag", f"{name}:many", pushed)
    containerd.ctr("images", "push", HTTP, *login, pushed)
    assert clients.run("crane", "digest", pushed) == MANY.digest
    assert "PASS" in clients.run("crane", "validate", "--remote", pushed)
    with pytest.raises(ClientError, match="sign in to push ctr/none"):
        containerd.ctr("images", "push", HTTP, f"{registry.host}/ctr/none:1", pushed)
