"""Pages of those who manage people: namespaces, robots, users, groups, tokens, access, the trail."""

from __future__ import annotations

import html
import re

from tests.kit.access import Answer, api, ask, give_role, make_repository, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, tiny_image

EVIL = {"Origin": "https://evil.example"}


async def test_the_administration_is_for_those_who_run_the_registry(port: Port) -> None:
    password = await make_user(port.admin, "alice")
    looking = await make_user(port.admin, "looker", auditor=True)
    async with (
        visitor(port.registry) as person,
        visitor(port.registry) as alice,
        visitor(port.registry) as looker,
    ):
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        await sign_in(looker, port.registry, name="looker", password=looking)
        home = await read(person, "/")
        assert 'href="/administration"' in home.body.decode()
        assert "People and rights Namespaces" in words_of(await read(person, "/administration"))
        assert 'href="/administration"' not in (await read(alice, "/")).body.decode()
        assert (await ask(alice, "GET", "/administration")).status == 403
        assert "People and rights" in words_of(await read(looker, "/administration"))


async def test_a_namespace_is_made_changed_renamed_and_deleted(port: Port) -> None:
    owner = await make_user(port.admin, "owner")
    async with visitor(port.registry) as person, visitor(port.registry) as other:
        await sign_in(person, port.registry)
        await sign_in(other, port.registry, name="owner", password=owner)
        assert "You have a role on no namespace" in words_of(await read(other, "/namespaces"))
        assert "A new namespace" not in words_of(await read(other, "/namespaces"))
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, "/namespaces", name="shop")).status == 403
        for name in (MARKUP, "Shop", "shop/"):
            refused = await send(person, port.registry, "/namespaces", name=name)
            assert refused.status == 400
            assert b"<script>" not in refused.body
        assert (await send(other, port.registry, "/namespaces", name="shop")).status == 403
        made = await send(person, port.registry, "/namespaces", name="shop")
        assert (made.status, made.headers["Location"]) == (303, "/n/shop")
        assert "There is no repository in it yet" in words_of(await read(person, "/n/shop"))

        assert (await ask(other, "GET", "/n/shop")).status == 403
        wanted = {"member": "user:owner", "role": "owner"}
        assert (await send_from(person, EVIL, "/n/shop/-/members", **wanted)).status == 403
        assert (await send(person, port.registry, "/n/shop/-/members", **wanted)).status == 303
        assert "user:owner owner: also gives roles shop/" in words_of(await read(other, "/n/shop/-/members"))

        settings = {"visibility": "internal", "gate": "", "create_on_push": "no", "trial_queue_max": "7"}
        path = "/n/shop/-/settings"
        assert (await send_from(other, EVIL, path, **settings)).status == 403
        assert (await send(other, port.registry, path, **settings)).status == 303
        told = await api(port.admin, "GET", "/namespaces/shop")
        assert (told["visibility"], told["gate"], told["create_on_push"]) == ("internal", None, False)
        assert told["trial_queue_max"] is None, "it is not for an owner to set"
        assert (await send(person, port.registry, path, **settings)).status == 303
        assert (await api(port.admin, "GET", "/namespaces/shop"))["trial_queue_max"] == 7
        for cap in ("x", "-1", "0", "1" * 5000, "1.5"):
            answer = await send(person, port.registry, path, **settings | {"trial_queue_max": cap})
            assert answer.status == 400, cap[:20]
        assert "internal" in words_of(await read(other, "/n/shop"))
        assert "Seconds of runs" not in words_of(await read(other, path))

        for name in ("shop/app", "shop/sub/app"):
            await make_repository(port.admin, name)
        shown = words_of(await read(other, "/n/shop"))
        assert "shop/app shop/sub/app" in shown
        assert "Namespaces below it: 1" in shown
        assert "shop/sub" in words_of(await read(other, "/namespaces?cursor=shop%2F"))
        assert "shop/sub/app" in words_of(await read(other, "/?namespace=shop"))

        assert (await send_from(person, EVIL, "/n/shop/-/rename", name="store")).status == 403
        assert (await send(other, port.registry, "/n/shop/-/rename", name="store")).status == 403
        assert (await send(person, port.registry, "/n/shop/-/rename", name="store")).status == 303
        assert (await ask(person, "GET", "/n/shop")).status == 404
        gone = "/n/store/-/delete"
        assert (await send_from(other, EVIL, gone, confirm="store")).status == 403
        for fields in ({}, {"confirm": "shop"}, {"confirm": "store"}):
            refused = await send(other, port.registry, gone, **fields)
            assert refused.status == (409 if fields == {"confirm": "store"} else 400)
        assert "store/app" in words_of(await read(other, "/n/store"))
        whole = {"confirm": "store", "with_content": "yes"}
        assert (await send(other, port.registry, gone, **whole)).status == 303
        assert (await ask(person, "GET", "/n/store")).status == 404


async def test_a_repository_is_made_renamed_and_deleted(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "alice")
    async with visitor(port.registry) as person, visitor(port.registry) as alice:
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        assert "New repository" not in words_of(await read(alice, "/"))
        assert 'value="team/"' in (await read(person, "/repositories/new?namespace=team")).body.decode()
        wanted = {"name": "team/other", "visibility": "private", "gate": ""}
        assert (await send_from(person, EVIL, "/repositories", **wanted)).status == 403
        assert (await send(alice, port.registry, "/repositories", **wanted)).status == 403
        bad = await send(person, port.registry, "/repositories", name=MARKUP)
        assert bad.status == 400
        assert b"<script>" not in bad.body
        made = await send(person, port.registry, "/repositories", **wanted)
        assert (made.status, made.headers["Location"]) == (303, "/r/team/other")
        assert (await send(person, port.registry, "/repositories", **wanted)).status == 409
        assert (await api(port.admin, "GET", "/repositories/team%2Fother"))["visibility"] == "private"

        await give_role(port.admin, "team/", "user:alice", "maintainer")
        assert "Delete it" not in words_of(await read(alice, "/r/team/other/-/settings"))
        assert (await send(alice, port.registry, "/r/team/other/-/rename", name="team/new")).status == 403
        assert (await send_from(person, {}, "/r/team/other/-/rename", name="team/new")).status == 403
        assert (await send(person, port.registry, "/r/team/other/-/rename", name="team/app")).status == 409
        renamed = await send(person, port.registry, "/r/team/other/-/rename", name="team/new")
        assert renamed.headers["Location"] == "/r/team/new/-/settings"

        path = "/r/team/new/-/delete"
        assert (await send(alice, port.registry, path, confirm="team/new")).status == 403
        assert (await send_from(person, EVIL, path, confirm="team/new")).status == 403
        assert (await send(person, port.registry, path, confirm="team/other")).status == 400
        assert "There is no way back" in words_of(await read(person, "/r/team/new/-/settings"))
        assert (await send(person, port.registry, path, confirm="team/new")).status == 303
        assert (await ask(person, "GET", "/r/team/new")).status == 404
        assert (await ask(person, "GET", "/r/team/app")).status == 200


async def test_a_robot_is_made_works_and_is_ended(port: Port) -> None:
    await port.push(tiny_image())
    owner = await make_user(port.admin, "owner")
    await give_role(port.admin, "team/", "user:owner", "owner")
    looking = await make_user(port.admin, "looker", auditor=True)
    async with (
        visitor(port.registry) as person,
        visitor(port.registry) as looker,
        visitor(port.registry) as admin,
    ):
        await sign_in(person, port.registry, name="owner", password=owner)
        await sign_in(looker, port.registry, name="looker", password=looking)
        await sign_in(admin, port.registry)
        path = "/n/team/-/robots"
        assert "There is no robot" in words_of(await read(person, path))
        assert (await send_from(person, EVIL, path, name="ci")).status == 403
        for name in (MARKUP, "Ci", "a+b"):
            refused = await send(person, port.registry, path, name=name)
            assert refused.status == 400
            assert b"<script>" not in refused.body
        assert (await send(looker, port.registry, path, name="ci")).status == 403
        made = await send(person, port.registry, path, name="ci")
        robot = made.headers["Location"]
        assert (made.status, robot) == (303, f"{path}/ci")
        assert "It has no token yet" in words_of(await read(person, robot))

        wanted = {"name": "pipeline", "scopes": "repository:team/*:pull", "lives": "ever"}
        assert (await send_from(person, {}, f"{robot}/tokens", **wanted)).status == 403
        assert (await send(looker, port.registry, f"{robot}/tokens", **wanted)).status == 403
        given = await send(person, port.registry, f"{robot}/tokens", **wanted)
        assert given.status == 201, words_of(given)
        first = secret_in(given)
        await give_role(port.admin, "team/", "robot:team+ci", "reader")
        shown = await read(person, robot)
        assert first not in shown.body.decode()
        assert "pipeline works repository:team/*:pull never" in words_of(shown)
        assert "team/ reader: pulls robot:team+ci" in words_of(shown)
        assert "pipeline" not in words_of(await read(looker, robot)), "of tokens auditors are not told"
        assert f'href="{robot}"' in (await read(looker, "/administration/robots")).body.decode()
        assert (await ask(person, "GET", "/administration/robots")).status == 403

        (rotate,) = re.findall(rf'action="({robot}/tokens/[^"/]+/rotate)"', shown.body.decode())
        assert (await send_from(person, EVIL, rotate)).status == 403
        rotated = await send(person, port.registry, rotate)
        assert rotated.status == 201
        second = secret_in(rotated)
        assert [await status_with(port, secret) for secret in (first, second)] == [200, 200]
        revokes = re.findall(rf'action="({robot}/tokens/[^"/]+/revoke)"', rotated.body.decode())
        assert len(revokes) == 2
        old = rotate.replace("rotate", "revoke")
        assert (await send_from(person, {}, old)).status == 403
        assert (await send(person, port.registry, old)).status == 303
        assert [await status_with(port, secret) for secret in (first, second)] == [401, 200]

        assert (await send_from(person, EVIL, f"{robot}/switch")).status == 403
        assert (await send(person, port.registry, f"{robot}/switch")).status == 303
        assert await status_with(port, second) == 401
        assert "disabled" in words_of(await read(person, robot))
        assert (await send(admin, port.registry, f"{robot}/switch")).status == 303
        assert await status_with(port, second) == 200
        assert (await send(person, port.registry, f"{robot}/delete", confirm="ci")).status == 400
        assert (await send_from(person, EVIL, f"{robot}/delete", confirm="team+ci")).status == 403
        gone = await send(person, port.registry, f"{robot}/delete", confirm="team+ci")
        assert gone.headers["Location"] == path
        assert (await ask(person, "GET", robot)).status == 404
        assert await status_with(port, second) == 401


def secret_in(answer: Answer) -> str:
    """The secret that a page shows once."""
    (secret,) = re.findall(r'class="copyable"><code>([^<]+)</code>', answer.body.decode())
    return html.unescape(secret)


async def status_with(port: Port, secret: str) -> int:
    """What the registry says to who pulls with a token."""
    async with port.registry.client(secret) as program:
        return (await ask(program, "GET", "/v2/team/app/tags/list")).status
