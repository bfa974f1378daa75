"""Which rule decides, told to those who may know."""

from __future__ import annotations

import aiohttp
import pytest

from tests.kit.access import api, give_role, make_token, make_user
from tests.kit.distribution import push_small
from tests.kit.server import Registry

PASSWORD = "a long enough password"


async def explain(client: aiohttp.ClientSession, *, status: int = 200, **asked: str) -> dict[str, object]:
    found: dict[str, object] = await api(client, "GET", "/access/explain", status=status, params=asked)
    return found


async def test_which_rule_decides(registry: Registry, client: aiohttp.ClientSession) -> None:
    await push_small(client, "team/app", "v1")
    await push_small(client, "open/app", "v1")
    await api(client, "PATCH", "/repositories/open%2Fapp", json={"visibility": "public"})
    await make_user(client, "ann", password=PASSWORD)
    await make_user(client, "bob", password=PASSWORD)
    await api(client, "PUT", "/groups/devs", status=201)
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    await give_role(client, "team/", "group:devs", "writer")
    await give_role(client, "team/", "user:ann", "owner")
    for actor, action, target, allowed, rule in (
        ("admin", "administer", "team/app", True, "administrator"),
        ("bob", "push", "team/app", True, "role"),
        ("bob", "delete", "team/app", False, "nothing"),
        ("bob", "pull", "open/app", True, "public"),
        ("anonymous", "pull", "open/app", True, "public"),
        ("anonymous", "pull", "team/app", False, "nothing"),
        ("bob", "push", "team/new", True, "role"),
        ("bob", "pull", "nowhere/app", False, "nothing"),
        ("ann", "administer", "team/", True, "role"),
    ):
        told = await explain(client, actor=actor, action=action, target=target)
        assert (told["allowed"], told["rule"]) == (allowed, rule), (actor, action, target)
        assert told["reason"]
    pushing = await explain(client, actor="bob", action="push", target="team/app")
    assert pushing["reason"] == "bob may push on team/app: writer on team/, through the group devs"
    assert pushing["roles"] == [{"role": "writer", "on": "team/", "group": "devs"}]
    assert (pushing["exists"], pushing["visibility"]) == (True, "private")
    making = await explain(client, actor="bob", action="push", target="team/new")
    assert making["exists"] is False
    assert making["notes"] == ["There is no such repository: the push makes it."]
    await api(client, "PATCH", "/namespaces/team", json={"create_on_push": False})
    making = await explain(client, actor="bob", action="push", target="team/new")
    assert (making["allowed"], making["rule"]) == (False, "create-on-push")
    async with registry.client(PASSWORD, user="ann") as ann:
        token = await make_token(ann, "repository:team/*:pull")
        asked = {"actor": "ann", "target": "team/app", "token": token["id"]}
        assert (await explain(client, action="push", **asked))["rule"] == "token"
        assert (await explain(client, action="pull", **asked))["allowed"] is True
        await api(ann, "DELETE", f"/tokens/{token['id']}", status=204)
        assert (await explain(client, action="pull", **asked))["reason"] == (
            f"the token {token['id']} was revoked"
        )
    await explain(client, status=404, actor="bob", action="pull", target="team/app", token=token["id"])
    await explain(client, status=404, actor="nobody-here", action="pull", target="team/app")
    await explain(client, status=400, actor="bob", action="pull", target="Team//app")


async def test_who_may_ask(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, "team/app", "v1")
    for name in ("ann", "bob"):
        await make_user(client, name, password=PASSWORD)
    await give_role(client, "team/", "user:ann", "owner")
    await explain(nobody, status=401, actor="anonymous", action="pull", target="team/app")
    async with registry.client(PASSWORD, user="ann") as ann, registry.client(PASSWORD, user="bob") as bob:
        assert (await explain(ann, actor="bob", action="pull", target="team/app"))["exists"] is True
        await explain(ann, status=403, actor="bob", action="pull", target="other/app")
        await explain(bob, status=403, actor="ann", action="pull", target="team/app")
        hidden = await explain(bob, actor="bob", action="pull", target="team/app")
        missing = await explain(bob, actor="bob", action="pull", target="team/abc")
        assert {**hidden, "target": "", "reason": str(hidden["reason"]).replace("app", "abc")} == {
            **missing,
            "target": "",
        }
        # What a limited token does not see, it is not told of either.
        token = await make_token(ann, "repository:elsewhere/*:pull")
        async with registry.client(token["token"]) as limited:
            told = await explain(limited, actor="ann", action="pull", target="team/app")
            assert (told["exists"], told["visibility"]) == (None, None)


@pytest.mark.parametrize("field", ["is_admin", "sees", "rule"])
async def test_a_parameter_that_is_not_known_is_refused(client: aiohttp.ClientSession, field: str) -> None:
    asked = {"actor": "admin", "action": "pull", "target": "team/app", field: "true"}
    await explain(client, status=400, **asked)
