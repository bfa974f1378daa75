"""The page of the other scanners of a place: looked at first, set, removed."""

from __future__ import annotations

import re

import pytest

from registry.contract.otherscanner import SCANNER_LABEL
from tests.kit.access import api, ask, give_role, make_repository, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.scans import SCANNING
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
ON = "team/app"
LABEL = '{"version": 1, "format": "trivy", "command": ["/look", "<script>"], "limits": {"wall_seconds": 60}}'


async def test_a_scanner_is_looked_at_set_and_removed(port: Port) -> None:
    await make_repository(port.admin, ON)
    worker = await port.worker("w")
    digest = await port.push(tiny_image(Labels={SCANNER_LABEL: LABEL}), repository="tools/looker")
    job = await worker.claim(mechanisms=SCANNING)
    wanted = {"on": ON, "name": "looker", "image": "tools/looker:1"}
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/scanners?on={ON}"
        assert "No other scanner looks" in words_of(await read(person, path))
        for form in ("/scanners", "/scanners/preview"):
            for headers in (EVIL, {}):
                assert (await send_from(person, headers, form, **wanted)).status == 403
            # What was typed stays where it is refused, and why is told.
            refused = await send(person, port.registry, form, **wanted)
            assert refused.status == 403
            assert "the scanner looker: " in words_of(refused)
            assert 'value="tools/looker:1"' in refused.body.decode()
            for bad in ({"name": MARKUP}, {"image": "tools/none:1"}, {"image": MARKUP}):
                answer = await send(person, port.registry, form, **wanted | bad)
                assert answer.status == 400, bad
                assert b"<script>" not in answer.body
        await worker.report(job)
        seen = await send(person, port.registry, "/scanners/preview", **wanted)
        assert seen.status == 200, words_of(seen)
        words = words_of(seen)
        assert f"Image tools/looker {digest[:19]} In the place of — looker would look" in words
        assert "linux/amd64 trivy /look <script> 1.0 GiB, 1 processors, 60 s 0" in words
        assert "no worker that asks for jobs now can run it" in words
        assert b"<script>" not in seen.body
        assert await api(port.admin, "GET", f"/scanners?on={ON}") == {"items": []}
        (pinned,) = re.findall('name="image"[^>]*value="([^"]+)"', seen.body.decode())
        assert pinned == f"tools/looker@{digest}"
        # One that knows of other scanners asks for jobs, and finds none.
        assert await worker.claim(mechanisms=[*SCANNING, "other scanners"]) is None
        seen = await send(person, port.registry, "/scanners/preview", **wanted)
        assert "60 s 1" in words_of(seen)
        assert "no worker that asks" not in words_of(seen)
        assert (await send(person, port.registry, "/scanners", **wanted | {"image": pinned})).status == 303
        page = await read(person, path)
        assert f"looker tools/looker {digest[:19]} here just now by admin" in words_of(page)
        assert "itself: it looks already" in words_of(
            await send(person, port.registry, "/scanners/preview", **wanted)
        )
        assert (await send_from(person, {}, "/scanners/remove", on=ON, name="looker")).status == 403
        assert (await send(person, port.registry, "/scanners/remove", on=ON, name="looker")).status == 303
        assert (await send(person, port.registry, "/scanners/remove", on=ON, name="looker")).status == 404
        assert "No other scanner looks" in words_of(await read(person, path))


async def test_who_may_pull_sees_what_looks_and_from_where(port: Port) -> None:
    await make_repository(port.admin, ON)
    worker = await port.worker("w")
    await port.push(tiny_image(Labels={SCANNER_LABEL: LABEL}), repository="tools/looker")
    await worker.report(await worker.claim())
    body = {"on": "team/", "name": "looker", "image": "tools/looker:1"}
    await api(port.admin, "PUT", "/scanners", json=body)
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/", "user:reader", "reader")
    async with visitor(port.registry) as reader, visitor(port.registry) as admin:
        await sign_in(reader, port.registry, name="reader", password=password)
        await sign_in(admin, port.registry)
        for on, says in ((ON, "team/ just now by admin"), ("team/", "here just now by admin")):
            page = await read(reader, f"/scanners?on={on}")
            assert says in words_of(page)
            assert "/scanners/remove" not in page.body.decode()
            assert "/scanners/preview" not in page.body.decode().partition("<aside")[0]
        for form, more in (("/scanners", {"image": "tools/looker:1"}), ("/scanners/remove", {})):
            answer = await send(reader, port.registry, form, on=ON, name="looker", **more)
            assert answer.status == 403
        # What is of a namespace above is removed there.
        assert "/scanners/remove" not in (await read(admin, f"/scanners?on={ON}")).body.decode()
        assert "/scanners/remove" in (await read(admin, "/scanners?on=team/")).body.decode()
        assert (await ask(reader, "GET", "/scanners?on=private/")).status in (403, 404)


async def test_a_place_that_is_too_long_is_refused(port: Port) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        answer = await send(person, port.registry, "/scanners/remove", on="x" * 301, name="trivy")
        assert answer.status == 400
