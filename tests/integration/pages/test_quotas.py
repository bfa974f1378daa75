"""The pages of quotas: what places hold, as bars, and forms to limit it."""

from __future__ import annotations

import re

import pytest

from tests.integration.pages.test_managing import read
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.retention import pushed
from tests.kit.trials import Port

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ON = "team/app"


async def test_a_quota_is_set_seen_and_taken_away(port: Port) -> None:
    await pushed(port.admin, "a", "b", "c", "d")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/quota?on={ON}"
        assert "Tags 4 any amount" in words_of(await read(person, path))
        wanted = {"on": ON, "bytes": "1 GiB", "tags": "5"}
        assert (await send_from(person, {"Origin": "https://evil.example"}, "/quota", **wanted)).status == 403
        for bad in (
            {"bytes": "much"},
            {"bytes": "999999999TiB"},
            {"tags": "-1"},
            {"tags": "9" * 18},
            {"uploads": "1.5"},
            {"on": "a" * 400},
        ):
            assert (await send(person, port.registry, "/quota", **wanted | bad)).status == 400, bad
        assert (await send(person, port.registry, "/quota/clear", on="a" * 400)).status == 400
        assert (await send(person, port.registry, "/quota", **wanted)).status == 303
        assert (await api(port.admin, "GET", path))["quota"] == {
            "bytes": 2**30,
            "repositories": None,
            "tags": 5,
            "uploads": None,
        }
        page = await read(person, path)
        assert "Tags 4 of 5 (80 %) nearly full" in words_of(page)
        assert 'level-80" viewBox="0 0 100 8"' in page.body.decode()
        assert re.search('name="bytes" value="1GiB"', page.body.decode())
        assert (
            await send(person, port.registry, "/quota", on="team/", tags="4", repositories="1")
        ).status == 303
        nested = words_of(await read(person, path))
        assert "Counts as well: team/ Repositories 1 of 1 (100 %) full Tags 4 of 4 (100 %) full" in nested
        listed = words_of(await read(person, "/quotas"))
        assert "team/ Repositories 1 of 1" in listed
        assert "team/app Size" in listed
        assert (await send(person, port.registry, "/quota/clear", on=ON)).status == 303
        assert "team/app Size" not in words_of(await read(person, "/quotas"))


async def test_a_page_of_many_quotas_asks_no_more(port: Port) -> None:
    for number in range(30):
        name = f"space{number}/app"
        await api(port.admin, "POST", "/repositories", status=201, json={"name": name})
        await api(port.admin, "PATCH", "/quota", json={"on": f"space{number}/", "bytes": 10})
        await api(port.admin, "PATCH", "/quota", json={"on": name, "tags": number})
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        first = await read(person, "/quotas")
        assert first.body.decode().count('<section class="card">') == 50
        (following,) = re.findall(r'rel="next" href="([^"]+)"', first.body.decode())
        assert (await read(person, following)).body.decode().count('<section class="card">') == 10


async def test_who_may_not_limit_it_only_looks(port: Port) -> None:
    await pushed(port.admin, "a")
    password = await make_user(port.admin, "owner")
    await give_role(port.admin, ON, "user:owner", "owner")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="owner", password=password)
        page = await read(person, f"/quota?on={ON}")
        assert "<form" not in page.body.decode().partition("<main")[2]
        assert (await send(person, port.registry, "/quota", on=ON, tags="5")).status == 403
        assert (await send(person, port.registry, "/quota/clear", on=ON)).status == 403
        assert (await ask(person, "GET", "/quotas")).status == 403
        assert (await ask(person, "GET", "/quota?on=other/app")).status == 403
