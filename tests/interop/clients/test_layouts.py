"""Exported layouts in the hands of those who read layouts, and theirs in ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.kit.clients import Clients
from tests.kit.images import busybox_image, file, make_index, make_layer, write_layout, write_layout_tar
from tests.kit.server import ADMIN, Registry

ONE = busybox_image(layers=[make_layer(file("l", b"one"))])
TWO = busybox_image(layers=[make_layer(file("l", b"two"))])
MANY = make_index(ONE, busybox_image(platform="linux/arm64"))
SECONDS = 60.0


@pytest.fixture
def seatrial(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEATRIAL_SERVER", registry.url)
    monkeypatch.setenv("SEATRIAL_TOKEN", registry.token)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The repository of a test."""
    return f"layouts/{tmp_path.name}"


@pytest.fixture
def image(registry: Registry, name: str) -> str:
    """And with the registry's host."""
    return f"{registry.host}/{name}"


@pytest.fixture
def exported(seatrial: None, clients: Clients, registry: Registry, name: str, tmp_path: Path) -> Path:
    """A layout with two images and an index, and a signature-like referrer of the first."""
    layout = write_layout(tmp_path / "pushed", ONE, TWO, MANY, tag=["v1", "v2", "many"])
    assert run(["import", str(layout), name]) == 0
    (tmp_path / "note").write_text("note")
    clients.run(
        "oras", "attach", "--plain-http", f"{registry.host}/{name}:v1",
        "--artifact-type", "test/note", "--disable-path-validation", str(tmp_path / "note"),
    )  # fmt: skip
    out = tmp_path / "out"
    assert run(["export", name, str(out), "--referrers"]) == 0
    return out


def test_an_exported_folder(exported: Path, clients: Clients, tmp_path: Path) -> None:
    inspected = json.loads(clients.skopeo("inspect", "--raw", f"oci:{exported}:v1"))
    assert inspected == json.loads(ONE.manifest)
    clients.skopeo("copy", "--all", f"oci:{exported}:many", f"oci:{tmp_path / 'skopeo'}:many")
    assert clients.run("regctl", "image", "digest", f"ocidir://{exported}:v2") == TWO.digest
    assert set(clients.run("regctl", "tag", "ls", f"ocidir://{exported}").split()) >= {"v1", "v2", "many"}
    clients.run("umoci", "unpack", "--rootless", "--image", f"{exported}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "l").read_text() == "one"
    assert clients.run("umoci", "list", "--layout", exported).split() == ["many", "v1", "v2"]
    found = clients.run("oras", "discover", "--oci-layout", f"{exported}:v1")
    assert "test/note" in found


def test_exported_archives(exported: Path, clients: Clients, name: str, tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    assert run(["export", f"{name}:v1", str(archive)]) == 0
    for kind in ("oci-archive", "docker-archive"):
        clients.skopeo("copy", f"{kind}:{archive}", f"oci:{tmp_path / kind}:v1")
        assert (tmp_path / kind / "index.json").exists()
    clients.podman("load", "--input", archive)
    assert name in clients.podman("images", "--format", "{{.Repository}}")


def test_layouts_of_others(
    exported: Path, image: str, clients: Clients, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, _, name = image.partition("/")
    copied = ("copy", "--src-tls-verify=false", f"docker://{image}:v1")
    clients.skopeo(*copied, f"oci-archive:{tmp_path / 'skopeo.tar'}:s1")
    clients.skopeo(*copied, f"docker-archive:{tmp_path / 'saved.tar'}:any/app:s2")
    clients.run("crane", "pull", "--insecure", "--format", "oci", f"{image}:v2", tmp_path / "crane")
    clients.run(
        "oras", "backup", "--plain-http", "--include-referrers", "-o", tmp_path / "oras", f"{image}:v1"
    )
    clients.run("regctl", "registry", "set", "--skip-check", "--tls", "disabled", host)
    clients.run("regctl", "image", "copy", "--referrers", f"{image}:v1", f"ocidir://{tmp_path / 'regctl'}:r1")
    clients.podman("pull", "--tls-verify=false", f"{image}:v1")
    clients.podman("save", "--output", tmp_path / "podman.tar", f"{image}:v1")
    cases: dict[str, tuple[str | None, int]] = {
        "skopeo.tar": ("s1", 0),
        "saved.tar": ("s2", 0),
        "crane": (None, 0),
        "oras": ("v1", 1),
        "regctl": ("r1", 1),
        "podman.tar": ("v1", 0),
    }
    for number, (path, (tag, referrers)) in enumerate(cases.items()):
        there = told(capsys, "import", tmp_path / path, f"{name}/in{number}")
        (found,) = there["images"]
        assert (found["tags"], there["referrers"]) == ([tag] if tag else [], referrers), path
        if path not in ("saved.tar", "podman.tar"):
            assert found["digest"] == (TWO if path == "crane" else ONE).digest, path


def test_rsync_takes_what_is_new(exported: Path, name: str, tmp_path: Path) -> None:
    def moved(source: Path) -> list[str]:
        done = subprocess.run(
            ("rsync", "--archive", "--out-format=%n", f"{source}/", tmp_path / "copy"),
            capture_output=True, text=True, check=True, timeout=SECONDS,
        )  # fmt: skip
        return sorted(line for line in done.stdout.splitlines() if not line.endswith("/"))

    assert "index.json" in moved(exported)
    assert moved(exported) == []
    assert run(["export", name, str(exported), "--referrers"]) == 0
    assert moved(exported) == []
    three = busybox_image(layers=[make_layer(file("l", os.urandom(100)))])
    layout = write_layout(tmp_path / "three", three, tag="v3")
    assert run(["import", str(layout), name]) == 0
    assert run(["export", f"{name}:v3", str(exported)]) == 0
    new = [f"blobs/sha256/{digest[7:]}" for digest in three.blobs() if digest not in ONE.blobs()]
    assert moved(exported) == sorted([*new, "index.json"])
    # An export of the same to another place is taken for the same.
    assert run(["export", name, str(tmp_path / "elsewhere"), "--referrers"]) == 0
    assert {name for name in moved(tmp_path / "elsewhere") if name.startswith("blobs/")} == set()


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[str]:
    """The address of an ftp server for everybody, with a layout and a tar of it."""
    root = Path(tempfile.mkdtemp(prefix="ftp-"))  # a place that everybody may come to
    write_layout(root / "layout", ONE, tag="f1")
    write_layout_tar(root / "a layout.tar", TWO, tag="f2")
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "empty").mkdir()
    settings = {
        "listen": "YES", "background": "NO", "listen_address": "127.0.0.1", "listen_port": port,
        "anonymous_enable": "YES", "no_anon_password": "YES", "anon_root": root, "local_enable": "NO",
        "secure_chroot_dir": tmp_path / "empty", "seccomp_sandbox": "NO",
        "xferlog_enable": "NO", "isolate": "NO", "isolate_network": "NO",
    }  # fmt: skip
    config = tmp_path / "vsftpd.conf"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    config.chmod(0o600)
    server = subprocess.Popen(("/usr/sbin/vsftpd", config))
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert server.poll() is None, "vsftpd ended"
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as hello:
                    assert hello.recv(3) == b"220"
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield f"ftp://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(SECONDS)
        shutil.rmtree(root)


def test_ftp(seatrial: None, ftp: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = told(capsys, "import", f"{ftp}/layout/", "layouts/ftp")
    assert [(one["digest"], one["tags"]) for one in there["images"]] == [(ONE.digest, ["f1"])]
    there = told(capsys, "import", f"{ftp}/a%20layout.tar", "layouts/ftp")
    assert [(one["digest"], one["tags"]) for one in there["images"]] == [(TWO.digest, ["f2"])]
    for missing in ("nothing/", "nothing.tar"):
        capsys.readouterr()
        assert run(["import", f"{ftp}/{missing}", "layouts/ftp"]) == 2
        assert "550" in capsys.readouterr().err


def test_wget_and_curl(
    exported: Path, registry: Registry, clients: Clients, name: str, tmp_path: Path
) -> None:
    root = f"{registry.url}/layout/{name}/"
    mirror = (
        "wget", "--mirror", "--no-parent", "--no-host-directories", f"--cut-dirs={1 + len(name.split('/'))}",
        "--reject", "index.html*", "--user", ADMIN, "--password", registry.token,
        "--directory-prefix", tmp_path / "mirror", root,
    )  # fmt: skip

    def mirrored() -> list[str]:
        done = subprocess.run(mirror, capture_output=True, text=True, check=True, timeout=SECONDS)
        return re.findall(r"^HTTP request sent, awaiting response... (\d+)", done.stderr, re.MULTILINE)

    def contents(folder: Path) -> dict[str, bytes]:
        return {one.name: one.read_bytes() for one in (folder / "blobs" / "sha256").iterdir()}

    assert "304" not in mirrored()
    assert contents(tmp_path / "mirror") == contents(exported)
    assert json.loads(clients.skopeo("inspect", "--raw", f"oci:{tmp_path / 'mirror'}:v1")) == json.loads(
        ONE.manifest
    )
    clients.run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'mirror'}:v2", tmp_path / "bundle")
    assert clients.run("regctl", "image", "digest", f"ocidir://{tmp_path / 'mirror'}:many") == MANY.digest
    # The second time nothing is fetched that has a digest for its name.
    answers = mirrored()
    assert answers.count("304") == len(contents(exported)) + 1  # and oci-layout
    assert run(["import", root, f"{name}/copy"]) == 2  # nobody signed in there
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {ADMIN} password {registry.token}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert run(["import", root, f"{name}/copy"]) == 0
    # A download that broke off goes on.
    (blob,) = (f"blobs/sha256/{layer.digest[7:]}" for layer in ONE.layers[:1])
    whole = ONE.layers[0].blob
    (tmp_path / "part").write_bytes(whole[: len(whole) // 2])
    curl = ("curl", "--fail", "--silent", "--user", f"{ADMIN}:{registry.token}", "--continue-at", "-")
    subprocess.run((*curl, "--output", tmp_path / "part", root + blob), check=True, timeout=SECONDS)
    assert (tmp_path / "part").read_bytes() == whole
