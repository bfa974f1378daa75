"""Every client with every kind of credential: a password, an API token, a robot's, a refresh token."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.access import ask, make_user
from tests.kit.clients import client_home
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.server import Registry

ONE = busybox_image(layers=[make_layer(file("k", b"k"))])
KINDS = ("password", "token", "robot", "refresh")
SCOPE = "repository:team/*:pull,push"
PULLS = {
    "podman": ("podman", "pull", "--tls-verify=false"),
    "skopeo": ("skopeo", "inspect", "--tls-verify=false"),
    "buildah": ("buildah", "pull", "--tls-verify=false"),
    "crane": ("crane", "validate", "--remote"),
    "regctl": ("regctl", "manifest", "get"),
    "oras": ("oras", "manifest", "fetch", "--plain-http"),
    "cosign": ("cosign", "tree", "--allow-http-registry"),
    "helm": ("helm", "pull", "--plain-http"),
}


@pytest.fixture(scope="module")
def credentials(registry: Registry, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each kind's user name and secret, of people and a robot who read and write in ``team``; what they pull
    is there."""
    layout = write_layout(tmp_path_factory.mktemp("layout"), ONE)
    with client_home(tools) as admin:
        admin.sign_in(registry.host, "admin", registry.token)
        for name in ("team/app", "open/app"):
            admin.run("crane", "push", layout, f"{registry.host}/{name}:1")
        chart = admin.folder / "chart"
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 1.0.0\n")
        admin.run("helm", "package", chart, "--destination", admin.folder)
        for place in ("team", "open"):
            target = f"oci://{registry.host}/{place}"
            admin.run("helm", "push", "--plain-http", admin.folder / "chart-1.0.0.tgz", target)
    return asyncio.run(_make(registry))


async def _make(registry: Registry) -> dict[str, str]:
    async with registry.client() as admin, registry.client(anonymous=True) as nobody:
        for name in ("open%2Fapp", "open%2Fchart"):
            change = {"visibility": "public"}
            assert (await ask(admin, "PATCH", f"/api/v1/repositories/{name}", json=change)).status == 200
        password = await make_user(admin, "pia")
    return {}
