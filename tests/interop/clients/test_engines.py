"""Docker with its engine, and nerdctl with containerd: the same commands by different code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.containerd import running_containerd
from tests.kit.docker import DOCKER, running_docker
from tests.kit.images import busybox_image, file, make_index, make_layer, write_layout
from tests.kit.server import ADMIN, Registry

ONE = busybox_image(layers=[make_layer(file("e", b"e"))])
MANY = make_index(ONE, busybox_image(platform="linux/arm64"))
IMAGE = "FROM {}\nCOPY file /file\n"


@dataclass(frozen=True, slots=True)
class Engine:
    """A client, and where its engine is."""

    program: str
    options: tuple[str, ...]

    def run(self, clients: Clients, *arguments: str | Path, stdin: str = "") -> str:
        """Run it with the credentials of these clients."""
        return clients.run(self.program, *self.options, *arguments, stdin=stdin)

    def sign_in(self, clients: Clients, host: str, username: str, password: str) -> None:
        """Ask the registry, and keep what it gives."""
        self.run(clients, "login", "--username", username, "--password-stdin", host, stdin=password)


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("Docker's engine needs root")
    with running_docker() as found:
        yield Engine(DOCKER, found)


@pytest.fixture(scope="module")
def nerdctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("containerd needs root")
    with running_containerd() as containerd:
        yield Engine("nerdctl", containerd.nerdctl(tmp_path_factory.mktemp("nerdctl")))


@pytest.fixture(params=("docker", "nerdctl"))
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("kind", ["password", "token", "robot", "refresh"])
def test_every_credential(
    engine: Engine,
    stranger: Clients,
    registry: Registry,
    credentials: dict[str, tuple[str, str]],
    kind: str,
) -> None:
    host, (username, secret) = registry.host, credentials[kind]
    hidden, public, pushed = f"{host}/keys/app:1", f"{host}/open/app:1", f"{host}/keys/{kind}:1"
    refused = f"{host}/open/app:{kind}"
    if kind == "refresh":
        stranger.sign_in_with_refresh_token(host, username, secret)
    else:
        engine.sign_in(stranger, host, username, secret)
        kept = json.loads((stranger.folder / "config.json").read_text())["auths"][host]
        assert kept["identitytoken"].startswith("seatrialrt_"), "it keeps no password"
        assert secret not in str(kept)
    for name in (hidden, public):
        engine.run(stranger, "pull", name)
    engine.run(stranger, "tag", hidden, pushed)
    engine.run(stranger, "push", pushed)
    engine.run(stranger, "rmi", hidden, public, pushed)
    engine.run(stranger, "pull", pushed)
    engine.run(stranger, "tag", pushed, refused)
    with pytest.raises(ClientError, match=r"has no push right|does not cover push|403"):
        engine.run(stranger, "push", refused)
    engine.run(stranger, "rmi", pushed, refused)
    engine.run(stranger, "logout", host)
    engine.run(stranger, "pull", public)
    engine.run(stranger, "rmi", public)
    with pytest.raises(ClientError, match="denied"):
        engine.run(stranger, "pull", hidden)


def test_a_wrong_password(engine: Engine, stranger: Clients, registry: Registry) -> None:
    with pytest.raises(ClientError, match="the user name and password or the token are not valid"):
        engine.sign_in(stranger, registry.host, ADMIN, "wrong")
    assert registry.host not in (stranger.folder / "config.json").read_text()


def test_docker_builds_and_lists(
    docker: Engine, clients: Clients, registry: Registry, tmp_path: Path
) -> None:
    """The classic builder on a private base; lists of images, and one of several platforms."""
    name = f"{registry.host}/docker/app"
    layout = write_layout(tmp_path / "layout", ONE, MANY, tag=["one", "many"])
    for tag in ("one", "many"):
        clients.run("oras", "cp", "--from-oci-layout", "--to-plain-http", f"{layout}:{tag}", f"{name}:{tag}")
    context = clients.folder / "context"
    context.mkdir()
    (context / "file").write_text("x")
    (context / "Dockerfile").write_text(IMAGE.format(f"{name}:one"))
    docker.run(clients, "build", "--tag", f"{name}:built", context)
    docker.run(clients, "push", f"{name}:built")
    docker.run(clients, "pull", f"{name}:many")
    docker.run(clients, "pull", f"{name}@{ONE.digest}")
    # Debian's puts only images of Docker's own media types into lists: those that it pushes.
    docker.run(clients, "tag", f"{name}:one", f"{name}:other")
    docker.run(clients, "push", f"{name}:other")
    parts = (f"{name}:built", f"{name}:other")
    docker.run(clients, "manifest", "create", "--insecure", f"{name}:list", *parts)
    docker.run(clients, "manifest", "push", "--insecure", f"{name}:list")
    listed = json.loads(clients.run("crane", "manifest", f"{name}:list"))["manifests"]
    assert {found["digest"] for found in listed} == {clients.run("crane", "digest", part) for part in parts}
    assert "PASS" in clients.run("crane", "validate", "--remote", f"{name}:list")


def test_nerdctl_converts_and_pushes_indexes(
    nerdctl: Engine, clients: Clients, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/nerdctl/app"
    layout = write_layout(tmp_path / "layout", MANY)
    clients.run("oras", "cp", "--from-oci-layout", "--to-plain-http", f"{layout}:latest", f"{name}:many")
    nerdctl.run(clients, "pull", "--all-platforms", f"{name}:many")
    nerdctl.run(clients, "tag", f"{name}:many", f"{name}:again")
    nerdctl.run(clients, "push", "--all-platforms", f"{name}:again")
    assert clients.run("crane", "digest", f"{name}:again") == MANY.digest
    nerdctl.run(clients, "image", "convert", "--zstd", "--oci", f"{name}:many", f"{name}:zstd")
    nerdctl.run(clients, "push", f"{name}:zstd")
    assert "tar+zstd" in clients.run("crane", "manifest", f"{name}:zstd", "--platform", "linux/amd64")
    nerdctl.run(clients, "rmi", f"{name}:zstd")
    nerdctl.run(clients, "pull", f"{name}:zstd")


def test_public_repositories_take_no_login(
    engine: Engine, clients: Clients, stranger: Clients, make_public: Callable[[str], str], tmp_path: Path
) -> None:
    name = make_public(f"public/{Path(engine.program).name}")
    clients.run("crane", "push", write_layout(tmp_path / "layout", ONE), f"{name}:1")
    engine.run(stranger, "pull", f"{name}@{ONE.digest}")
    with pytest.raises(ClientError):
        engine.run(stranger, "push", f"{name}:1")
