"""Pages of what asks for trials by itself, and of promotions."""

from __future__ import annotations

import re

from tests.integration.pages.test_managing import read
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.images import file, make_image, make_layer
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.promoting import judge
from tests.kit.signing import attach, new_key, signature_of
from tests.kit.trials import Port, tiny_image

ON = "team/app"
EVIL = {"Origin": "https://evil.example"}


async def test_a_schedule_is_made_and_deleted(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/schedules?on={ON}"
        assert "No schedule here" in words_of(await read(person, path))
        assert (await send_from(person, EVIL, "/schedules", on=ON, every_hours="24")).status == 403
        for bad in ({}, {"every_hours": "0"}, {"at": "noon"}, {"every_hours": "24", "at": "02:30"}):
            assert (await send(person, port.registry, "/schedules", on=ON, **bad)).status == 400, bad
        assert (await send(person, port.registry, "/schedules", on=ON, at="02:30")).status == 303
        assert (await send(person, port.registry, "/schedules", on=ON, at="02:30")).status == 409
        page = await read(person, path)
        assert "each day at 02:30 UTC 12 hours" in words_of(page)
        (gone,) = re.findall(r'action="(/schedules/[0-9]+/delete)"', page.body.decode())
        assert (await send_from(person, {}, gone, on=ON)).status == 403
        assert (await send(person, port.registry, gone, on=ON)).status == 303
        assert await api(port.admin, "GET", f"/schedules?on={ON}") == []
        assert (await send(person, port.registry, "/schedules", on="team/", every_hours="24")).status == 303
        assert "every 24 hours" in words_of(await read(person, "/schedules?on=team/"))


async def test_a_hook_is_made_rotated_and_deleted(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/trial-hooks?on={ON}"
        assert "Nobody asks for trials" in words_of(await read(person, path))
        wanted = {"on": ON, "name": "ci", "scheme": "github", "image": "/image"}
        assert (await send_from(person, EVIL, "/trial-hooks", **wanted)).status == 403
        assert (await send(person, port.registry, "/trial-hooks", **wanted | {"image": "x"})).status == 400
        made = await send(person, port.registry, "/trial-hooks", **wanted)
        assert made.status == 201, words_of(made)
        (secret,) = re.findall(r'class="copyable"><code>([^<]+)</code>', made.body.decode())
        shown = await read(person, path)
        assert secret not in shown.body.decode()
        assert "/hooks/ci GitHub image=/image" in words_of(shown)
        assert (await send(person, port.registry, "/trial-hooks", **wanted)).status == 409
        assert (await send_from(person, {}, "/trial-hooks/ci/rotate", on=ON)).status == 403
        rotated = await send(person, port.registry, "/trial-hooks/ci/rotate", on=ON)
        (other,) = re.findall(r'class="copyable"><code>([^<]+)</code>', rotated.body.decode())
        assert other != secret
        assert (await send_from(person, {"Origin": "null"}, "/trial-hooks/ci/delete", on=ON)).status == 403
        assert (await send(person, port.registry, "/trial-hooks/ci/delete", on=ON)).status == 303
        assert "Nobody asks for trials" in words_of(await read(person, path))


async def test_an_upstream_is_added_and_forgotten(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = "/upstreams?on=team/"
        assert "No other registry" in words_of(await read(person, path))
        assert (await ask(person, "GET", f"/upstreams?on={ON}")).status == 400
        wanted = {"on": "team/", "name": "hub", "host": "docker.example", "repositories": "library/* x/y"}
        wanted |= {"username": "me", "secret": "of-mine", "max_bytes": "2GiB"}
        assert (await send_from(person, EVIL, "/upstreams", **wanted)).status == 403
        assert (await send(person, port.registry, "/upstreams", **wanted | {"host": MARKUP})).status == 400
        assert (await send(person, port.registry, "/upstreams", **wanted)).status == 303
        page = await read(person, path)
        assert "hub docker.example library/* x/y me 2.0 GiB" in words_of(page)
        assert "of-mine" not in page.body.decode()
        replaced = await send(person, port.registry, "/upstreams/hub/credential", on="team/")
        assert replaced.status == 303
        assert "x/y nobody 2.0 GiB" in words_of(await read(person, path))
        assert (await send_from(person, {}, "/upstreams/hub/delete", on="team/")).status == 403
        assert (await send(person, port.registry, "/upstreams/hub/delete", on="team/")).status == 303
        assert "No other registry" in words_of(await read(person, path))


async def test_a_promotion_is_looked_at_made_and_undone(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image(), tag="1.0")
    await worker.report(await worker.claim())
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "prod/app"})
    reader = await make_user(port.admin, "reader")
    await give_role(port.admin, "prod/app", "user:reader", "reader")
    async with visitor(port.registry) as person, visitor(port.registry) as other:
        await sign_in(person, port.registry)
        await sign_in(other, port.registry, name="reader", password=reader)
        path = "/promotions?on=prod/app"
        assert "Nothing was promoted yet" in words_of(await read(person, path))
        seen = await ask(person, "GET", f"/promotions/preview?on=prod/app&source={ON}:1.0")
        assert "The tag would be set." in words_of(seen)
        assert f"{digest[:19]}" in words_of(seen)
        # What is promoted is what was looked at, also where its tag moves in between.
        (source,) = re.findall('name="source" value="([^"]+)"', seen.body.decode())
        await port.push(tiny_image(), tag="1.0")
        answer = await send(person, port.registry, "/promotions", on="prod/app", source=source)
        assert 400 <= answer.status < 500
        assert "moved" in words_of(answer) or "stands at" in words_of(answer), words_of(answer)
        await api(port.admin, "POST", "/repositories/team%2Fapp/tags/1.0/rollback", json={"to": digest})
        wanted = {"on": "prod/app", "source": f"{ON}:1.0", "reason": MARKUP}
        assert (await send_from(person, EVIL, "/promotions", **wanted)).status == 403
        assert (await send(other, port.registry, "/promotions", **wanted)).status in (403, 404)
        assert (await send(person, port.registry, "/promotions", **wanted)).status == 303
        page = await read(person, path)
        assert f"prod/app:1.0 {digest[:19]} team/app:1.0 promoted by admin {MARKUP}" in words_of(page)
        (undo,) = re.findall(r'action="(/promotions/[0-9]+/undo)"', page.body.decode())
        assert "/undo" not in (await read(other, path)).body.decode()
        assert (await send(other, port.registry, undo)).status == 403
        assert (await send_from(person, {}, undo)).status == 403
        assert (await send(person, port.registry, undo)).status == 303
        assert "undone" in words_of(await read(person, "/promotions"))
        assert (await ask(other, "GET", "/promotions")).status == 403


async def test_what_a_promotion_would_do_costs_the_same_whatever_is_promoted(port: Port) -> None:
    """It is carried out and taken back: by as many statements for an image of one layer as for one of forty
    with ten signatures."""
    worker = await port.worker("w")
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "prod/app"})
    layers = [make_layer(file(f"f{number}", b"f")) for number in range(40)]
    counts = []
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for tag, image in (("1", tiny_image()), ("2", make_image(*layers, config={"Cmd": ["/app"]}))):
            digest = await port.push(image, tag=tag)
            await judge(worker)
            for _ in range(0 if tag == "1" else 10):
                await attach(port.admin, ON, digest, signature_of(digest, new_key()))
            path = f"/promotions/preview?on=prod/app&source={ON}:{tag}&tag=1"
            await ask(person, "GET", path)
            with sent() as statements:
                answer = await ask(person, "GET", path)
            assert answer.status == 200, words_of(answer)
            counts.append(len(statements))
    small, large = counts
    assert large - small <= 5, counts
    assert large <= 110, counts
