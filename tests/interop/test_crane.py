"""crane, the client of go-containerregistry: strict about digests, mounts, and streamed uploads."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.images import busybox_image, file, make_layer, make_tar, write_layout
from tests.kit.server import ADMIN, Registry

Crane = Callable[..., str]


@pytest.fixture
def crane(tools: Path, registry: Registry, tmp_path: Path) -> Crane:
    """Run crane as the administrator; raises with its words when it fails."""
    secret = base64.b64encode(f"{ADMIN}:{registry.token}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": secret}}}))

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [tools / "crane", "--insecure", *arguments],
            env={"DOCKER_CONFIG": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout.strip()

    return run


def test_push_inspect_and_pull(crane: Crane, registry: Registry, tmp_path: Path) -> None:
    image = busybox_image(["/bin/sh", "-c", "exit 0"])
    name = f"{registry.host}/team/app:1"
    crane("push", write_layout(tmp_path / "layout", image), name)
    assert crane("digest", name) == image.digest
    assert crane("manifest", name).encode() == image.manifest
    assert crane("config", name).encode() == image.config
    assert "PASS" in crane("validate", "--remote", name)
    crane("pull", "--format=oci", name, tmp_path / "pulled")
    index = json.loads((tmp_path / "pulled" / "index.json").read_text())
    assert [one["digest"] for one in index["manifests"]] == [image.digest]


def test_an_index_with_its_images(crane: Crane, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/team/many"
    children = []
    for platform in ("linux/amd64", "linux/arm64"):
        image = busybox_image(platform=platform)
        layout = write_layout(tmp_path / image.digest, image)
        children += ["-m", f"{name}@{image.digest}"]
        crane("push", layout, f"{name}:{platform[6:]}")
    crane("index", "append", *children, "-t", f"{name}:1")
    for platform in ("linux/amd64", "linux/arm64"):
        assert (
            json.loads(crane("config", "--platform", platform, f"{name}:1"))["architecture"] == platform[6:]
        )
    assert "PASS" in crane("validate", "--remote", f"{name}:1")


def test_a_streamed_layer_is_appended(crane: Crane, registry: Registry, tmp_path: Path) -> None:
    """``append`` streams a layer whose digest is known only at its end."""
    name = f"{registry.host}/team/app"
    crane("push", write_layout(tmp_path / "layout", busybox_image()), f"{name}:1")
    layer = make_tar([file("srv/index.html", b"ahoy\n")])
    (tmp_path / "layer.tar").write_bytes(layer)
    crane("append", "--base", f"{name}:1", "--new_layer", tmp_path / "layer.tar", "--new_tag", f"{name}:2")
    config = json.loads(crane("config", f"{name}:2"))
    assert config["rootfs"]["diff_ids"][-1] == f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert "PASS" in crane("validate", "--remote", f"{name}:2")


def test_a_copy_mounts_and_lists_show_it(crane: Crane, registry: Registry, tmp_path: Path) -> None:
    image = busybox_image(layers=[make_layer(file("a", b"a"))])
    crane("push", write_layout(tmp_path / "layout", image), f"{registry.host}/one/app:1")
    crane("copy", f"{registry.host}/one/app:1", f"{registry.host}/two/app:9")
    crane("tag", f"{registry.host}/two/app:9", "latest")
    assert crane("ls", f"{registry.host}/two/app").split() == ["9", "latest"]
    assert crane("catalog", registry.host).split() == ["one/app", "two/app"]
    assert "PASS" in crane("validate", "--remote", f"{registry.host}/two/app:9")


def test_delete_by_digest_takes_the_tags_along(crane: Crane, registry: Registry, tmp_path: Path) -> None:
    image = busybox_image()
    name = f"{registry.host}/team/app"
    crane("push", write_layout(tmp_path / "layout", image), f"{name}:1")
    crane("delete", f"{name}@{image.digest}")
    with pytest.raises(AssertionError, match="MANIFEST_UNKNOWN"):
        crane("digest", "--full-ref", f"{name}:1")
    crane("push", tmp_path / "layout", f"{name}:1")
    assert crane("digest", f"{name}:1") == image.digest
