"""Pages of those who manage people: namespaces, robots, users, groups, tokens, access, the trail."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import update

from registry.db.events import events
from registry.db.types import db_time
from tests.kit.access import Answer, api, ask, give_role, make_repository, make_user
from tests.kit.issuer import CLIENT_ID, LOOPBACK, running_issuer
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, open_port, tiny_image
from tests.kit.workloads import trust

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
        assert "Issuers Who people sign in with" in words_of(await read(person, "/administration"))
        assert 'href="/administration"' not in (await read(alice, "/")).body.decode()
        assert (await ask(alice, "GET", "/administration")).status == 403
        seen = words_of(await read(looker, "/administration"))
        assert "Users People: made" in seen
        assert "Who people sign in with" not in seen


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
        listed = (await read(person, robot)).body.decode()
        revokes = re.findall(rf'action="({robot}/tokens/[^"/]+/revoke)"', listed)
        assert len(revokes) == 2
        old = rotate.replace("rotate", "revoke")
        assert (await send_from(person, {}, old)).status == 403
        assert (await send(person, port.registry, old)).status == 303
        assert [await status_with(port, secret) for secret in (first, second)] == [401, 200]

        assert (await send_from(person, EVIL, f"{robot}/switch")).status == 403
        for _ in range(2):  # a button that is pressed twice
            assert (await send(person, port.registry, f"{robot}/switch", to="off")).status == 303
        assert await status_with(port, second) == 401
        assert "disabled" in words_of(await read(person, robot))
        assert (await send(admin, port.registry, f"{robot}/switch", to="on")).status == 303
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


async def test_a_user_is_made_changed_disabled_and_deleted(port: Port) -> None:
    await port.push(tiny_image())
    looking = await make_user(port.admin, "looker", auditor=True)
    async with (
        visitor(port.registry) as person,
        visitor(port.registry) as looker,
        visitor(port.registry) as carol,
    ):
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=looking)
        path, one = "/administration/users", "/administration/users/carol"
        assert (await send_from(person, EVIL, path, name="carol")).status == 403
        assert (await send(looker, port.registry, path, name="carol")).status == 403
        for name in (MARKUP, "Carol", "worker-1", "anonymous"):
            refused = await send(person, port.registry, path, name=name)
            assert refused.status == 400
            assert b"<script>" not in refused.body
        made = await send(person, port.registry, path, name="carol", auditor="yes")
        assert made.status == 201, words_of(made)
        password = secret_in(made)
        assert (await send(person, port.registry, path, name="carol")).status == 409
        listed = await read(looker, path)
        assert password not in listed.body.decode()
        assert "carol auditor by password works" in words_of(listed)
        assert "A new user" not in words_of(listed)
        assert "carol" not in words_of(await read(person, f"{path}?prefix=look"))
        assert (await sign_in(carol, port.registry, name="carol", password=password)).status == 303
        assert "Signed in nowhere" not in words_of(await read(person, one))
        assert "Sessions" not in words_of(await read(looker, one)), "of sessions auditors are not told"
        await give_role(port.admin, "team/", "user:carol", "writer")
        assert "team/ writer: pushes, and starts trials user:carol" in words_of(await read(looker, one))

        assert (await send_from(person, {}, f"{one}/change")).status == 403
        assert (await send(looker, port.registry, f"{one}/change", admin="yes")).status == 403
        assert (await send(person, port.registry, f"{one}/change")).status == 303
        assert (await api(port.admin, "GET", "/users/carol"))["auditor"] is False
        assert (await ask(carol, "GET", path)).status == 403
        assert (await send(person, port.registry, f"{path}/admin/change")).status == 409, "the last one"

        assert (await send_from(person, EVIL, f"{one}/sessions/end")).status == 403
        assert (await send(person, port.registry, f"{one}/sessions/end")).status == 303
        assert "Sign out" not in words_of(await ask(carol, "GET", "/"))
        assert (await send_from(person, EVIL, f"{one}/password")).status == 403
        given = await send(person, port.registry, f"{one}/password")
        assert given.status == 201
        newer = secret_in(given)
        assert (await sign_in(carol, port.registry, name="carol", password=password)).status == 401
        assert (await sign_in(carol, port.registry, name="carol", password=newer)).status == 303

        own = {"old": newer, "new": "another good password"}
        assert (await send_from(carol, EVIL, "/account/password", **own)).status == 403
        for bad in ({"old": "x" * 20, "new": own["new"]}, {"old": newer, "new": "short"}):
            assert (await send(carol, port.registry, "/account/password", **bad)).status in (400, 403)
        assert (await send(carol, port.registry, "/account/password", **own)).status == 303
        assert "Sign out" not in words_of(await ask(carol, "GET", "/"))
        assert (await sign_in(carol, port.registry, name="carol", password=own["new"])).status == 303
        assert "Your password" in words_of(await read(carol, "/account/password"))

        assert (await send_from(person, {}, f"{one}/switch")).status == 403
        for _ in range(2):  # a button that is pressed twice
            assert (await send(person, port.registry, f"{one}/switch", to="off")).status == 303
        assert (await sign_in(carol, port.registry, name="carol", password=own["new"])).status == 401
        assert (await send(person, port.registry, f"{one}/switch", to="on")).status == 303
        assert (await send(person, port.registry, f"{one}/delete", confirm="admin")).status == 400
        assert (await send_from(person, EVIL, f"{one}/delete", confirm="carol")).status == 403
        assert (await send(person, port.registry, f"{one}/delete", confirm="carol")).status == 303
        assert (await ask(person, "GET", one)).status == 404


async def test_a_group_gets_members_by_hand_and_by_an_issuer(tmp_path: Path, database_url: str) -> None:
    async with (
        running_issuer() as issuer,
        open_port(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as port,
        visitor(port.registry) as person,
        visitor(port.registry) as looker,
    ):
        await trust(port.admin, issuer, client_id=CLIENT_ID, groups_claim="groups")
        await make_user(port.admin, "alice")
        looking = await make_user(port.admin, "looker", auditor=True)
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=looking)
        path, one = "/administration/groups", "/administration/groups/devs"
        assert "There is no group" in words_of(await read(person, path))
        assert (await send_from(person, EVIL, path, name="devs")).status == 403
        assert (await send(looker, port.registry, path, name="devs")).status == 403
        assert (await send(person, port.registry, path, name=MARKUP)).status == 400
        made = await send(person, port.registry, path, name="devs")
        assert (made.status, made.headers["Location"]) == (303, one)
        assert (await send_from(person, {}, f"{one}/members", user="alice")).status == 403
        assert (await send(person, port.registry, f"{one}/members", user="nobody")).status == 404
        assert (await send(person, port.registry, f"{one}/members", user="alice")).status == 303
        assert "alice by hand" in words_of(await read(looker, one))

        ways = "/administration/issuers"
        assert (await ask(looker, "GET", ways)).status == 403
        assert f'href="{ways}/ci"' in (await read(person, ways)).body.decode()
        mapping = {"value": f"staff {MARKUP}", "to": "devs", "kind": "group"}
        assert (await send_from(person, EVIL, f"{ways}/ci/mapping", **mapping)).status == 403
        assert (await send(looker, port.registry, f"{ways}/ci/mapping", **mapping)).status == 403
        assert (await send(person, port.registry, f"{ways}/ci/mapping", **mapping)).status == 303
        rights = {"value": "bosses", "to": "", "kind": "auditor"}
        assert (await send(person, port.registry, f"{ways}/ci/mapping", **rights)).status == 303
        told = await api(port.admin, "GET", "/issuers/ci")
        assert (told["groups"], told["roles"]) == ({mapping["value"]: "devs"}, {"bosses": "auditor"})
        shown = words_of(await read(person, f"{ways}/ci"))
        assert f"{mapping['value']} devs" in shown
        assert "bosses auditor" in shown
        assert mapping["value"] in words_of(await read(person, one))
        for fields in (mapping, rights):
            gone = {"value": fields["value"], "kind": "role" if fields is rights else "group"}
            assert (await send_from(person, {}, f"{ways}/ci/mapping/remove", **gone)).status == 403
            assert (await send(person, port.registry, f"{ways}/ci/mapping/remove", **gone)).status == 303
        told = await api(port.admin, "GET", "/issuers/ci")
        assert (told["groups"], told["roles"]) == ({}, {})

        link = {"subject": f"7 {MARKUP}", "account": "alice"}
        assert (await send_from(person, EVIL, f"{ways}/ci/people", **link)).status == 403
        assert (await send(person, port.registry, f"{ways}/ci/people", **link)).status == 303
        assert f"{link['subject']} alice never" in words_of(await read(person, f"{ways}/ci"))
        unlink = {"subject": link["subject"]}
        assert (await send(person, port.registry, f"{ways}/ci/people/remove", **unlink)).status == 303
        assert "Nobody was linked" in words_of(await read(person, f"{ways}/ci"))
        assert (await send_from(person, {}, f"{ways}/ci/check")).status == 403
        asked = await send(person, port.registry, f"{ways}/ci/check")
        assert f"Its keys are at {issuer.url}" in words_of(asked)

        assert (await send_from(person, EVIL, f"{one}/members/remove", user="alice")).status == 403
        assert (await send(person, port.registry, f"{one}/members/remove", user="alice")).status == 303
        assert (await send(person, port.registry, f"{one}/delete", confirm="dev")).status == 400
        assert (await send(person, port.registry, f"{one}/delete", confirm="devs")).status == 303
        assert (await ask(person, "GET", one)).status == 404


async def test_tokens_of_everybody_are_seen_and_ended(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "alice")
    await give_role(port.admin, "team/", "user:alice", "reader")
    async with visitor(port.registry) as person, visitor(port.registry) as alice:
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        secrets = []
        for number in range(3):
            wanted = {"name": f"t{number} {MARKUP}"[:90], "scopes": "repository:team/*:pull", "lives": "day"}
            secrets.append(secret_in(await send(alice, port.registry, "/account/tokens", **wanted)))
        path = "/administration/tokens"
        assert (await ask(alice, "GET", path)).status == 403
        shown = await read(person, f"{path}?account=alice&state=active&expiring=7&unused=")
        assert words_of(shown).count("alice works repository:team/*:pull in 23 hours never") == 3
        assert "No token is like that" in words_of(await read(person, f"{path}?account=alice&unused=30"))
        assert (await ask(person, "GET", f"{path}?state=none")).status == 400
        assert [await status_with(port, secret) for secret in secrets] == [200, 200, 200]

        one = re.findall(rf'action="({path}/[^"/]+/revoke)"', shown.body.decode())
        assert len(one) == 3
        assert (await send(alice, port.registry, one[0])).status == 403
        assert (await send_from(person, EVIL, one[0])).status == 403
        assert (await send(person, port.registry, one[0])).status == 303
        assert sorted([await status_with(port, secret) for secret in secrets]) == [200, 200, 401]

        whole = {"account": "alice", "before": "2020-01-01T00:00"}
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, f"{path}/revoke", **whole)).status == 403
        assert (await send(person, port.registry, f"{path}/revoke")).status == 400
        assert (
            await send(person, port.registry, f"{path}/revoke", account="alice", before=MARKUP)
        ).status == 400
        early = await send(person, port.registry, f"{path}/revoke", **whole)
        assert "revoked now: 0" in words_of(early)
        assert (await ask(alice, "GET", "/account")).status == 200
        now = await send(person, port.registry, f"{path}/revoke", account="alice")
        assert "revoked now: 2" in words_of(now)
        assert [await status_with(port, secret) for secret in secrets] == [401, 401, 401]
        assert (await ask(alice, "GET", "/account")).status == 401

        every = f"{path}/revoke-everybody"
        assert (await send(person, port.registry, every)).status == 400
        assert (await send_from(person, {}, every, confirm="everybody")).status == 403
        assert "team/app" in words_of(await read(person, "/"))
        gone = await send(person, port.registry, every, confirm="everybody")
        assert "Tokens that are revoked now" in words_of(gone)
        assert (await ask(person, "GET", path)).status == 401


async def test_why_somebody_may_or_may_not(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "alice")
    await api(port.admin, "PUT", "/groups/devs", status=201)
    await api(port.admin, "PUT", "/groups/devs/members/alice", status=201)
    await give_role(port.admin, "team/", "group:devs", "writer")
    async with visitor(port.registry) as person, visitor(port.registry) as alice:
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        assert 'value="alice"' in (await read(alice, "/access?target=team%2Fapp")).body.decode()
        answer = words_of(await read(person, "/access?actor=alice&action=push&target=team%2Fapp&token="))
        assert "Yes: alice may push on team/app" in answer
        assert "through the group devs Rule that decides role" in answer
        assert "writer: pushes, and starts trials team/ through the group devs" in answer
        refused = words_of(await read(alice, "/access?actor=alice&action=administer&target=team%2F"))
        assert "No: alice has no administer right on team" in refused
        assert (await ask(alice, "GET", "/access?actor=admin&action=pull&target=team%2Fapp")).status == 403
        for bad in (
            "action=fly&target=team",
            "action=pull&target=%3Cscript%3E",
            "actor=nobody1&action=pull&target=x",
        ):
            told = await ask(person, "GET", f"/access?{bad}")
            assert told.status in (400, 404), bad
            assert b"<script>" not in told.body
        page = await read(person, "/r/team/app/-/members")
        assert 'href="/access?target=team/app"' in page.body.decode()


async def test_the_trail_is_read_by_filter_and_taken_along(port: Port) -> None:
    await port.push(tiny_image())
    looking = await make_user(port.admin, "looker", auditor=True)
    password = await make_user(port.admin, "alice")
    async with (
        visitor(port.registry) as looker,
        visitor(port.registry) as alice,
        visitor(port.registry) as person,
    ):
        await sign_in(looker, port.registry, name="looker", password=looking)
        await sign_in(alice, port.registry, name="alice", password=password)
        await sign_in(person, port.registry)
        path = "/administration/audit"
        assert (await ask(alice, "GET", path)).status == 403
        assert (await send(alice, port.registry, "/namespaces", name="mine")).status == 403
        for number in range(60):
            await api(port.admin, "PUT", f"/groups/g{number}", status=201)
        first = await read(looker, f"{path}?action=group.created&actor=&since=&until=")
        assert first.body.count(b"<code>group.created</code>") == 50
        (further,) = re.findall(r'rel="next" href="([^"]+)"', first.body.decode())
        second = words_of(await read(looker, html.unescape(further)))
        assert "g0 " in second
        assert "g59" not in second
        assert "user.created" in words_of(await read(looker, f"{path}?target=alice"))
        assert "No line is like that" in words_of(await read(looker, f"{path}?until=2020-01-01T00:00"))
        assert "group.created" in words_of(await read(looker, f"{path}?since=2020-01-01T00:00&target=g1"))
        assert "refused" in words_of(await read(looker, f"{path}?decision=refused&actor=alice"))
        for bad in ("action=none", "since=yesterday", "decision=maybe", "cursor=x"):
            assert (await ask(looker, "GET", f"{path}?{bad}")).status == 400, bad
        hostile = await ask(looker, "GET", f"{path}?actor={quote(MARKUP)}")
        assert b"<script>" not in hostile.body
        page = await read(looker, f"{path}?action=group.created&since=2020-01-01T00:00")
        async with port.database.write() as connection:  # what is written just now, no export has yet
            await connection.execute(update(events).values(at=db_time(-timedelta(minutes=1))))
        (way,) = re.findall(r'href="(/api/v1/audit/export[^"]*)" download', page.body.decode())
        taken = await ask(looker, "GET", html.unescape(way))
        lines = [json.loads(line) for line in taken.body.splitlines()]
        assert {line["target"] for line in lines} == {f"g{number}" for number in range(60)}
        assert len(lines) == 60


async def test_who_pulled_an_image(port: Port) -> None:
    digest = await port.push(tiny_image())
    path = f"/r/team/app/-/images/{digest}"
    password = await make_user(port.admin, "alice")
    await give_role(port.admin, "team/app", "user:alice", "writer")
    async with visitor(port.registry) as person, visitor(port.registry) as alice:
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        assert (await ask(alice, "GET", f"{path}/pulls")).status == 403
        assert f'href="{path}/pulls"' not in (await read(alice, path)).body.decode()
        assert f'href="{path}/pulls"' in (await read(person, path)).body.decode()
        assert "Nobody has pulled it" in words_of(await read(person, f"{path}/pulls"))
        async with port.registry.client(password, user="alice") as program:
            for _ in range(2):
                assert (await port.pull("1", client=program)).status == 200
        assert port.registry.services is not None
        await port.registry.services.pulls.flush(port.database)
        shown = words_of(await read(person, f"{path}/pulls"))
        assert "alice 2 just now from 127.0.0.1 1" in shown
        assert (await ask(person, "GET", f"{path}/pulls?cursor=x")).status == 400
