"""Every client with every kind of credential, on private and public repositories of one host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.containerd import running_containerd
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.server import Registry

ONE = busybox_image(layers=[make_layer(file("k", b"k"))])
KINDS = ("password", "token", "robot", "refresh")
PLAIN_REGCTL = ("registry", "set", "--skip-check", "--tls", "disabled")
CLIENTS = {
    "podman": (("pull", "--tls-verify=false"), "app:1"),
    "skopeo": (("inspect", "--tls-verify=false"), "app:1"),
    "buildah": (("pull", "--tls-verify=false", "--policy", "always"), "app:1"),
    "crane": (("validate", "--remote"), "app:1"),
    "regctl": (("manifest", "get"), "app:1"),
    "oras": (("manifest", "fetch", "--plain-http"), "app:1"),
    "cosign": (("tree", "--allow-http-registry"), "app:1"),
    "helm": (("pull", "--plain-http"), "chart"),
    "notation": (("list", "--insecure-registry"), "app:1"),
}
"""How each reads something, and what."""
BEFORE = {"skopeo": "docker://", "helm": "oci://"}


@pytest.fixture
def signed_in(
    request: pytest.FixtureRequest,
    stranger: Clients,
    registry: Registry,
    credentials: dict[str, tuple[str, str]],
) -> Iterator[Clients]:
    kind = request.param
    keep = stranger.sign_in_with_refresh_token if kind == "refresh" else stranger.sign_in
    keep(registry.host, *credentials[kind])
    stranger.run("regctl", *PLAIN_REGCTL, registry.host)
    return stranger


@pytest.mark.parametrize("signed_in", KINDS, indirect=True)
@pytest.mark.parametrize("client", CLIENTS)
def test_it_reads_what_is_private_and_what_is_public(
    signed_in: Clients, registry: Registry, client: str
) -> None:
    command, what = CLIENTS[client]
    for place in ("keys", "open"):
        signed_in.run(client, *command, f"{BEFORE.get(client, '')}{registry.host}/{place}/{what}")
    signed_in.sign_out()
    signed_in.run("regctl", *PLAIN_REGCTL, registry.host)
    signed_in.run(client, *command, f"{BEFORE.get(client, '')}{registry.host}/open/{what}")
    with pytest.raises(ClientError):
        signed_in.run(client, *command, f"{BEFORE.get(client, '')}{registry.host}/keys/{what}")


@pytest.mark.parametrize("signed_in", KINDS, indirect=True)
def test_it_writes(signed_in: Clients, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/keys/new"
    layout = write_layout(tmp_path / "layout", ONE)
    signed_in.run("crane", "push", layout, f"{name}:crane")
    signed_in.run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{name}:skopeo")
    signed_in.run("regctl", "image", "copy", f"ocidir://{layout}", f"{name}:regctl")
    (signed_in.folder / "file").write_text("x")
    signed_in.run("oras", "push", "--plain-http", f"{name}:oras", "file")
    signed_in.run("podman", "pull", "--tls-verify=false", f"{name}:crane")
    signed_in.run("podman", "push", "--tls-verify=false", f"{name}:crane", f"{name}:podman")
    assert set(signed_in.run("crane", "ls", name).split()) == {"crane", "skopeo", "regctl", "oras", "podman"}
    with pytest.raises(ClientError):
        signed_in.run("crane", "push", layout, f"{registry.host}/open/app:2")


def test_containerd(registry: Registry, credentials: dict[str, tuple[str, str]]) -> None:
    pull = ("images", "pull", "--plain-http", "--snapshotter", "native")
    with running_containerd() as containerd:
        for kind, (username, secret) in credentials.items():
            given = ("--refresh", secret) if kind == "refresh" else ("--user", f"{username}:{secret}")
            for place in ("keys", "open"):
                containerd.ctr(*pull, *given, f"{registry.host}/{place}/app:1")
                containerd.ctr("images", "remove", f"{registry.host}/{place}/app:1")
