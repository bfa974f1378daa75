"""One registry for all clients, and homes for who is signed in and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.access import api, ask, basic, make_repository, make_token, make_user
from tests.kit.clients import Clients, client_home
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.server import ADMIN, Registry, RegistryProcess


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """The real ``seatrial serve``, without trials; each test has repositories of its own."""
    made = RegistryProcess(tmp_path_factory.mktemp("registry") / "data")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def registry(process: RegistryProcess) -> Registry:
    """It listens."""
    return process.start()


@pytest.fixture
def server_log(process: RegistryProcess) -> Path:
    """What the server has logged."""
    return process.log


@pytest.fixture
def clients(tools: Path, registry: Registry) -> Iterator[Clients]:
    """Clients of the administrator, who has signed in before."""
    with client_home(tools) as made:
        made.sign_in(registry.host, ADMIN, registry.token)
        yield made


@pytest.fixture
def stranger(tools: Path) -> Iterator[Clients]:
    """Clients of somebody without credentials."""
    with client_home(tools) as made:
        yield made


@pytest.fixture
def make_public(registry: Registry) -> Callable[[str], str]:
    """Makes a public repository; returns its name with the host."""

    async def make(name: str) -> None:
        async with registry.client() as client:
            await make_repository(client, name, visibility="public")

    def run(name: str) -> str:
        asyncio.run(make(name))
        return f"{registry.host}/{name}"

    return run


@pytest.fixture(scope="session")
def credentials(
    registry: Registry, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """User name and secret of each kind, of a person and a robot who read and write in ``keys``; and what
    they read, there and in the public ``open``."""
    layout = write_layout(
        tmp_path_factory.mktemp("layout"), busybox_image(layers=[make_layer(file("k", b"k"))])
    )
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
