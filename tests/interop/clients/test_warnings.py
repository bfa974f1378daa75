"""Who prints what the gate says where it only warns."""

from __future__ import annotations

import asyncio

from tests.kit.access import make_repository
from tests.kit.clients import Clients
from tests.kit.distribution import push_image
from tests.kit.images import busybox_image, file, make_layer
from tests.kit.server import Registry

TOLD = {"podman": False, "skopeo": False, "buildah": False, "crane": True, "regctl": True, "oras": True}


def test_some_print_the_warning(clients: Clients, registry: Registry) -> None:
    async def fill() -> None:
        async with registry.client() as admin:
            await make_repository(admin, "warned/app", gate="warn", trial_on_push=True)
            await push_image(admin, "warned/app", "1", busybox_image(layers=[make_layer(file("w", b"w"))]))

    asyncio.run(fill())
    name = f"{registry.host}/warned/app:1"
    plain = "--tls-verify=false"
    clients.run("regctl", "registry", "set", "--skip-check", "--tls", "disabled", registry.host)
    commands = {
        "podman": ("pull", plain, name),
        "skopeo": ("inspect", plain, f"docker://{name}"),
        "buildah": ("pull", plain, name),
        "crane": ("manifest", name),
        "regctl": ("manifest", "get", name),
        "oras": ("manifest", "fetch", "--plain-http", name),
    }
    said = {}
    for client, command in commands.items():
        screen = clients.screen(client, *command)
        assert screen.code == 0, screen.lines
        said[client] = "is still being tried" in "".join(screen.lines)
    assert said == TOLD
