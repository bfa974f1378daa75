"""What cannot be undone is asked once more, and is done to what belongs to the page and to nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from registry.pages.table import PAGES
from tests.integration.pages.test_refused_forms import sheets_of
from tests.kit.access import api, ask, make_token, make_user
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ON = "team/app"
PLACE = f"/r/{ON}/-"
TYPED = {
    "/r/{name}/-/delete",
    "/n/{name}/-/delete",
    "/n/{name}/-/robots/{robot}/delete",
    "/administration/users/{user}/delete",
    "/administration/groups/{group}/delete",
    "/administration/tokens/revoke-everybody",
    "/administration/issuers/{issuer}/delete",
    "/administration/workload-rules/{rule}/delete",
    "/secrets/{secret_id}/delete",
}
"""A name is typed for these."""
UNDONE = {
    "/account/sessions/{session_id}/revoke",
    "/account/refresh-tokens/{token_id}/revoke",
    "/r/{name}/-/tags/{tag}/delete",
    "/waivers/{waiver_id}/revoke",
    "/scanners/remove",
    "/administration/groups/{group}/members/remove",
    "/administration/issuers/{issuer}/mapping/remove",
    "/administration/issuers/{issuer}/people/remove",
}
"""Whoever did one of these does it again, or takes it back, by another form of the same page."""


async def furnished(port: Port) -> dict[str, tuple[str, dict[str, str], str]]:
    """One of each thing that a form takes away: the form, its fields, and a word of its page."""
    await port.push(tiny_image())
    await port.worker("w")
    on = {"on": ON}

    async def made(path: str, **body: Any) -> Any:
        return await api(port.admin, "POST", path, status=201, json=body)

    webhook = await made("/webhooks", repository=ON, url="https://receiver.example/x", kinds=["tag.moved"])
    schedule = await made("/schedules", on=ON, every_hours=24)
    rule = await made("/tag-rules", on=ON, by="regex", pattern="<b>v[0-9]</b>")
    identity = {"issuer": "https://issuer.example", "subject": "alice@example.org"}
    signature = await made("/signature-rules", on=ON, name="alice", **identity)
    await made("/hooks", name="ci", repository=ON)
    await made("/upstreams", name="hub", namespace="team", host="hub.example")
    token = await make_token(port.admin, "repository:team/app:pull", name="pipeline")
    await api(port.admin, "PUT", "/robots/team%2Bci", status=201, json={})
    robots = await make_token(port.admin, "repository:team/app:pull", name="of ci", account="team+ci")
    others = await make_token(port.admin, "repository:team/app:pull", name="another", account="team+ci")
    lone = await make_token(port.admin, "repository:team/app:pull", name="lone")
    await api(port.admin, "PUT", "/retention", json={**on, "untagged_days": 7})
    await api(port.admin, "PUT", "/findings-policy", json={**on, "policy": {"version": 1}})
    await api(port.admin, "PATCH", "/quota", json={**on, "tags": 7})
    spec = {"version": 1, "expect": {"exit": 7}}
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"run_spec": spec})
    return {
        "/webhooks/{webhook_id}/delete": (f"/webhooks/{webhook['id']}/delete", {}, "receiver.example/x?"),
        "/schedules/{schedule_id}/delete": (f"/schedules/{schedule['id']}/delete", on, "the schedule"),
        "/tag-rules/{rule_id}/delete": (f"/tag-rules/{rule['id']}/delete", on, "the rule for"),
        "/r/{name}/-/signatures/remove": (
            f"{PLACE}/signatures/remove",
            {"rule": str(signature["id"])},
            "the signature alice",
        ),
        "/trial-hooks/{hook}/delete": ("/trial-hooks/ci/delete", on, "the hook ci"),
        "/upstreams/{upstream}/delete": ("/upstreams/hub/delete", {"on": "team/"}, "the upstream hub"),
        "/account/tokens/{token_id}/revoke": (f"/account/tokens/{token['id']}/revoke", {}, "token pipeline"),
        "/n/{name}/-/robots/{robot}/tokens/{token_id}/revoke": (
            f"/n/team/-/robots/ci/tokens/{robots['id']}/revoke",
            {},
            "the token of ci",
        ),
        "/administration/tokens/{token_id}/revoke": (
            f"/administration/tokens/{others['id']}/revoke",
            {},
            "the token another",
        ),
        "/tokens/{token_id}/revoke": (f"/tokens/{lone['id']}/revoke", {}, "the token lone"),
        "/administration/tokens/revoke": (
            "/administration/tokens/revoke",
            {"account": "team+ci"},
            "all that team+ci was given",
        ),
        "/retention/clear": ("/retention/clear", on, "retention policy of team/app"),
        "/r/{name}/-/findings-policy/clear": (f"{PLACE}/findings-policy/clear", {}, "findings policy of"),
        "/r/{name}/-/run-spec/clear": (f"{PLACE}/run-spec/clear", {}, "run spec of team/app"),
        "/quota/clear": ("/quota/clear", on, "all quotas of team/app"),
        "/workers/{worker}/revoke": ("/workers/w/revoke", {}, "the worker w"),
    }


async def test_it_is_asked_and_then_done(port: Port) -> None:
    forms = await furnished(port)
    destroying = {
        re.sub(r":[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", "}", route.path)
        for route in PAGES
        if route.method == "POST" and re.search("(delete|clear|revoke|revoke-everybody|remove)$", route.path)
    }
    assert destroying == forms.keys() | TYPED | UNDONE
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for path, fields, says in forms.values():
            before = (await api(port.admin, "GET", "/audit"))["items"][0]
            headers = {"Origin": port.registry.url, "Referer": f"{port.registry.url}/from?here=1"}
            asked = await send_from(person, headers, path, **fields)
            assert asked.status == 400, path
            assert f"{says}" in words_of(asked), (path, words_of(asked))
            assert "<b>v" not in asked.body.decode()
            assert 'href="/from?here=1"' in asked.body.decode()
            assert (await api(port.admin, "GET", "/audit"))["items"][0] == before, "nothing was done"
            (sheet,) = (one for one in sheets_of(asked) if one.action == path)
            assert sheet.hidden == {**fields, "sure": "yes"}
            done = await send_from(person, headers, path, **sheet.hidden)
            # What an account was given is told on the page itself.
            assert done.status == (200 if path == "/administration/tokens/revoke" else 303), path
            assert (await api(port.admin, "GET", "/audit"))["items"][0] != before, path


async def test_who_asks_from_elsewhere_is_led_to_no_other_place(port: Port) -> None:
    await port.worker("w")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for referer in ("https://evil.example//evil.example/x", "", "/\\evil"):
            headers = {"Origin": port.registry.url, "Referer": referer}
            asked = await send_from(person, headers, "/workers/w/revoke", sure="no")
            assert (asked.status, 'href="/">' in asked.body.decode()) == (400, True), referer


async def test_nothing_is_done_to_what_belongs_elsewhere(port: Port) -> None:
    """The visitor may do all of it, but by the page that it belongs to."""
    forms = await furnished(port)
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "other/app"})
    await api(port.admin, "PUT", "/robots/team%2Bcd", status=201, json={})
    await make_user(port.admin, "alice")
    block = {"on": ON, "digest": "sha256:" + "0" * 64, "reason": "bad"}
    made = await api(port.admin, "POST", "/gate/blocks", status=201, json=block)
    hook = {"repository": "other/app", "url": "https://receiver.example/y", "kinds": ["tag.moved"]}
    other_hook = await api(port.admin, "POST", "/webhooks", status=201, json=hook)
    webhook = forms["/webhooks/{webhook_id}/delete"][0].removesuffix("/delete")
    sent = await api(port.admin, "POST", f"{webhook}/test", status=202)
    kept = {"name": "DB", "value": "the value of it", "repository": ON}
    secret = await api(port.admin, "POST", "/secrets", status=201, json=kept)
    robots_token = forms["/n/{name}/-/robots/{robot}/tokens/{token_id}/revoke"][0].split("/")[-2]
    own_token = forms["/account/tokens/{token_id}/revoke"][0].split("/")[-2]
    elsewhere = {"on": "other/app"}
    wrong: list[tuple[str, dict[str, str]]] = [
        *(
            (f"/n/team/-/robots/cd/tokens/{token}/{word}", {})
            for word in ("rotate", "revoke")
            for token in (robots_token, own_token)
        ),
        *((f"/account/tokens/{robots_token}/{word}", {}) for word in ("rotate", "revoke")),
        (f"/webhooks/{other_hook['id']}/deliveries/{sent['id']}/redeliver", {}),
        (forms["/schedules/{schedule_id}/delete"][0], elsewhere),
        (forms["/tag-rules/{rule_id}/delete"][0], elsewhere),
        ("/r/other/app/-/signatures/remove", forms["/r/{name}/-/signatures/remove"][1]),
        ("/r/other/app/-/blocks/lift", {"block": str(made["id"])}),
        ("/trial-hooks/ci/delete", elsewhere),
        (f"/secrets/{secret['id']}/rotate", {**elsewhere, "value": "another value"}),
        (f"/secrets/{secret['id']}/delete", {**elsewhere, "confirm": "DB"}),
        ("/trial-hooks/ci/rotate", elsewhere),
        ("/upstreams/hub/delete", {"on": "other/"}),
        ("/upstreams/hub/credential", {"on": "other/", "secret": "another"}),
        ("/r/other/app/-/gate/pause", {"namespace": "team", "hours": "1", "reason": "no"}),
        ("/r/other/app/-/gate/resume", {"namespace": "team"}),
    ]
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        before = (await api(port.admin, "GET", "/audit"))["items"][0]
        for path, fields in wrong:
            answer = await send(person, port.registry, path, **fields)
            assert answer.status == 404, (path, answer.status)
            assert "copyable" not in answer.body.decode(), path
        assert (await api(port.admin, "GET", "/audit"))["items"][0] == before


async def test_ones_own_page_ends_ones_own_sessions_only(port: Port) -> None:
    password = await make_user(port.admin, "alice")
    async with visitor(port.registry) as person, visitor(port.registry) as alice:
        await sign_in(person, port.registry)
        await sign_in(alice, port.registry, name="alice", password=password)
        (other,) = (await api(port.admin, "GET", "/sessions?account=alice"))["items"]
        path = f"/account/sessions/{other['id']}/revoke"
        assert (await send(person, port.registry, path)).status == 404
        assert "Sign out" in words_of(await ask(alice, "GET", "/"))
        asked = {"service": "seatrial", "client_id": "cli", "offline_token": "true"}
        async with port.registry.client(password, user="alice") as client:
            assert (await ask(client, "GET", "/token", params=asked)).status == 200
        (kept,) = (await api(port.admin, "GET", "/refresh-tokens?account=alice"))["items"]
        path = f"/account/refresh-tokens/{kept['id']}/revoke"
        assert (await send(person, port.registry, path)).status == 404
        assert len((await api(port.admin, "GET", "/refresh-tokens?account=alice"))["items"]) == 1


async def test_no_secret_is_made_that_is_not_shown(port: Port) -> None:
    await port.push(tiny_image())
    await api(port.admin, "POST", "/hooks", status=201, json={"name": "ci", "repository": ON})
    await api(port.admin, "PUT", "/robots/team%2Bci", status=201, json={})
    await make_user(port.admin, "alice")
    scopes = "repository:team/app:pull"
    wrong: list[tuple[str, dict[str, str]]] = [
        ("/trial-hooks", {"on": "", "name": "new"}),
        ("/trial-hooks", {"on": "Team", "name": "new"}),
        ("/trial-hooks/ci/rotate", {}),
        ("/trial-hooks/ci/rotate", {"on": "team/"}),
        ("/account/tokens?cursor=x&odd=1", {"name": "new", "scopes": scopes}),
        ("/n/team/-/robots/ci/tokens?odd=1", {"name": "new", "scopes": scopes}),
        ("/administration/users/alice/password?odd=1", {}),
        ("/administration/users?odd=1", {"name": "carol"}),
        (f"{PLACE}/webhooks?odd=1", {"url": "https://receiver.example/x"}),
    ]
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        before = (await api(port.admin, "GET", "/audit"))["items"][0]
        for path, fields in wrong:
            answer = await send(person, port.registry, path, **fields)
            assert answer.status in (400, 404), (path, answer.status)
        assert (await api(port.admin, "GET", "/audit"))["items"][0] == before
