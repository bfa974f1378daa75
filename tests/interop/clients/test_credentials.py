"""Every client with every kind of credential, on private and public repositories of one host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.access import api, ask, basic, make_token, make_user
from tests.kit.clients import ClientError, Clients, client_home
from tests.kit.containerd import running_containerd
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.server import ADMIN, Registry

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
}
"""How each reads something, and what."""
BEFORE = {"skopeo": "docker://", "helm": "oci://"}


@pytest.fixture(scope="module")
def credentials(
    registry: Registry, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """User name and secret of each kind, of a person and a robot who read and write in ``keys``; and what
    they read, there and in the public ``open``."""
    layout = write_layout(tmp_path_factory.mktemp("layout"), ONE)
    with client_home(tools) as admin:
        admin.sign_in(registry.host, ADMIN, registry.token)
        chart = admin.folder / "chart"
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 1.0.0\n")
        admin.run("helm", "package", chart, "--destination", admin.folder)
        for place in ("keys", "open"):
            admin.run("crane", "push", layout, f"{registry.host}/{place}/app:1")
            package = admin.folder / "chart-1.0.0.tgz"
            admin.run("helm", "push", "--plain-http", package, f"oci://{registry.host}/{place}")
    return asyncio.run(_make_credentials(registry))


async def _make_credentials(registry: Registry) -> dict[str, tuple[str, str]]:
    async with registry.client() as admin, registry.client(anonymous=True) as nobody:
        for name in ("open%2Fapp", "open%2Fchart"):
            await api(admin, "PATCH", f"/repositories/{name}", json={"visibility": "public"})
        password = await make_user(admin, "pia")
        await api(admin, "PUT", "/robots/keys+ci", status=201, json={})
        for member in ("user:pia", "robot:keys+ci"):
            role = {"role": "writer"}
            await api(admin, "PUT", f"/namespaces/keys/members/{member}", status=201, json=role)
        token = await make_token(
            admin, "repository:keys/*:pull,push", "repository:open/*:pull", account="pia"
        )
        robot = await make_token(
            admin, "repository:keys/*:pull,push", "repository:open/*:pull", account="keys+ci"
        )
        asked = {"service": "seatrial", "client_id": "docker", "offline_token": "true"}
        answer = await ask(nobody, "GET", "/token", params=asked, headers=basic("pia", password))
    return {
        "password": ("pia", password),
        "token": ("pia", token["token"]),
        "robot": ("keys+ci", robot["token"]),
        "refresh": ("pia", answer.json["refresh_token"]),
    }


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
