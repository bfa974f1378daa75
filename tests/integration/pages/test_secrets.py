"""The page of the secrets that run specs name: kept, replaced, forgotten, and never shown."""

from __future__ import annotations

import re

import pytest

from registry.contract.isolation import SPEC_NEWS
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
SPEC = {"version": 1, "env": {"A": {"secret": "DB"}}}
VALUE = f"the value & {MARKUP}"
LINES = "-----BEGIN KEY-----\r\nabc\r\n-----END KEY-----"


async def test_a_secret_is_kept_replaced_and_forgotten(port: Port, capfd: pytest.CaptureFixture[str]) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image())
    await worker.report(await worker.claim())
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"run_spec": SPEC})
    path = "/secrets?on=team/app"
    answers = []
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "There is no secret here" in words_of(await read(person, path))
        assert "Secrets DB keep or replace them" in words_of(await read(person, "/r/team/app/-/run-spec"))
        wanted = {"on": "team/app", "name": "DB", "value": VALUE}
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, "/secrets", **wanted)).status == 403
        for bad in (
            {"name": MARKUP},
            {"value": "short&<"},
            {"value": "x" * 5000},
            {"value": ""},
            {"on": "/"},
        ):
            refused = await send(person, port.registry, "/secrets", **wanted | bad)
            assert refused.status == 400, bad
            assert b"<script>" not in refused.body
            answers.append(refused)
        assert (await send(person, port.registry, "/secrets", **wanted)).status == 303
        taken = await send(person, port.registry, "/secrets", **wanted)
        assert taken.status == 409
        page = await read(person, path)
        assert "DB team/app just now by admin just now" in words_of(page)
        assert 'href="/r/team/app/-/run-spec"' in page.body.decode()
        (rotate,) = re.findall(r'action="(/secrets/[0-9a-f-]+/rotate)"', page.body.decode())
        assert (await send_from(person, EVIL, rotate, on="team/app", value=LINES)).status == 403
        short = await send(person, port.registry, rotate, on="team/app", value="short&<")
        assert short.status == 400
        assert (await send(person, port.registry, rotate, on="team/app", value=LINES)).status == 303
        # A browser's ends of lines are not what was typed.
        await port.push(tiny_image(), tag="2")
        job = await worker.claim(mechanisms=SPEC_NEWS)
        assert job["secrets"] == {"DB": LINES.replace("\r\n", "\n")}
        again = await read(person, path)
        delete = rotate.replace("rotate", "delete")
        for fields in ({}, {"confirm": "db"}):
            assert (await send(person, port.registry, delete, on="team/app", **fields)).status == 400
        typed = {"on": "team/app", "confirm": "DB"}
        assert (await send_from(person, {}, delete, **typed)).status == 403
        assert (await send(person, port.registry, delete, **typed)).status == 303
        assert "There is no secret here" in words_of(await read(person, path))
        assert (await send(person, port.registry, delete, **typed)).status == 404
    trail = str(await api(port.admin, "GET", "/audit"))
    log = capfd.readouterr()
    assert "/secrets" in log.err
    said = [one.body.decode() for one in (*answers, taken, page, short, again)] + [trail, log.out, log.err]
    for value in ("the value", "short&", "BEGIN KEY"):
        assert not any(value in each for each in said), value


async def test_secrets_of_a_namespace_tell_whose_run_specs_get_them(port: Port) -> None:
    await port.push(tiny_image())
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"run_spec": SPEC})
    passwords = {role: await make_user(port.admin, role) for role in ("writer", "maintainer")}
    for role in passwords:
        await give_role(port.admin, "team/", f"user:{role}", role)
    async with visitor(port.registry) as maintainer, visitor(port.registry) as writer:
        await sign_in(maintainer, port.registry, name="maintainer", password=passwords["maintainer"])
        await sign_in(writer, port.registry, name="writer", password=passwords["writer"])
        wanted = {"on": "team/", "name": "DB", "value": VALUE}
        assert (await send(writer, port.registry, "/secrets", **wanted)).status == 403
        assert (await ask(writer, "GET", "/secrets?on=team/")).status == 403
        assert "/secrets?on=" not in (await read(writer, "/n/team")).body.decode()
        assert "/secrets?on=team/" in (await read(maintainer, "/n/team")).body.decode()
        assert (await send(maintainer, port.registry, "/secrets", **wanted)).status == 303
        page = await read(maintainer, "/secrets?on=team/")
        assert "DB team/app just now by maintainer" in words_of(page)
        (delete,) = re.findall(r'action="(/secrets/[0-9a-f-]+/delete)"', page.body.decode())
        typed = {"on": "team/", "confirm": "DB"}
        assert (await send(writer, port.registry, delete, **typed)).status == 403
        for value in (VALUE, "the value"):
            assert value not in page.body.decode()
