"""What a page says where there is nothing yet: the next step of whoever reads it."""

from __future__ import annotations

import pytest

from tests.kit.access import api, give_role, make_user
from tests.kit.pagereading import read, sign_in, visitor, words_of
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

NO_WORKER = "No worker is known yet"


async def test_an_empty_registry_tells_each_the_next_step(port: Port) -> None:
    await api(port.admin, "POST", "/namespaces", status=201, json={"name": "team"})
    passwords = {name: await make_user(port.admin, name) for name in ("writer", "nobody")}
    await give_role(port.admin, "team/", "user:writer", "writer")
    host = port.registry.host
    async with (
        visitor(port.registry) as admin,
        visitor(port.registry) as writer,
        visitor(port.registry) as nobody,
        visitor(port.registry) as stranger,
    ):
        await sign_in(admin, port.registry)
        await sign_in(writer, port.registry, name="writer", password=passwords["writer"])
        await sign_in(nobody, port.registry, name="nobody", password=passwords["nobody"])
        words = words_of(await read(admin, "/"))
        assert NO_WORKER in words
        # The address is the one that he came by, and over plain HTTP clients are told so.
        assert f"podman login --tls-verify=false {host}" in words
        assert f"podman push --tls-verify=false busybox {host}/team/app:1" in words
        assert 'href="/trials"' in (await read(admin, "/")).body.decode()
        await port.worker("w")
        assert NO_WORKER not in words_of(await read(admin, "/"))
        words = words_of(await read(writer, "/"))
        assert "podman push" in words
        assert NO_WORKER not in words
        words = words_of(await read(writer, "/?namespace=team"))
        assert f"{host}/team/app:1" in words
        words = words_of(await read(nobody, "/"))
        assert "you hold no role that lets you push" in words
        assert "podman" not in words
        assert "Sign in to see what is yours" in words_of(await read(stranger, "/"))
        assert "A push begins one" in words_of(await read(admin, "/trials"))
        assert "No trial that you may see ended so" in words_of(await read(admin, "/trials?verdict=fail"))


async def test_an_empty_repository_tells_those_who_push_how(port: Port) -> None:
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "team/app"})
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with visitor(port.registry) as admin, visitor(port.registry) as reader:
        await sign_in(admin, port.registry)
        await sign_in(reader, port.registry, name="reader", password=password)
        words = words_of(await read(admin, "/r/team/app"))
        assert f"podman push --tls-verify=false busybox {port.registry.host}/team/app:1" in words
        assert "It is tried in isolation" in words
        words = words_of(await read(reader, "/r/team/app"))
        assert "Those who push to it have pushed nothing yet" in words
        assert "podman" not in words
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"trial_on_push": False})
        words = words_of(await read(admin, "/r/team/app"))
        assert "Pushes are not tried here" in words
        assert "It is tried in isolation" not in words
        # What is told of an image that was pushed then leads on.
        digest = await port.push(tiny_image())
        page = await read(admin, f"/r/team/app/-/images/{digest}")
        assert "Nobody has tried it." in words_of(page)
        assert f"/r/team/app/-/images/{digest}/try" in page.body.decode()
        assert "a button on its page has it tried now" in words_of(
            await read(admin, f"/r/team/app/-/images/{digest}/trials")
        )
