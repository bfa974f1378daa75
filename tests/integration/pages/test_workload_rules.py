"""Pages of the rules by which jobs of issuers get in: made, tried with a token, changed, deleted."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.access import api, ask, make_user
from tests.kit.issuer import LOOPBACK, Issuer, running_issuer
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, seen_of, send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, open_port
from tests.kit.workloads import AUDIENCE, SUBJECT, exchange, job_token, trust

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
RULES = "/administration/workload-rules"
EXPLAIN = "/administration/workload-explanations"
WANTED = {
    "name": "main",
    "issuer": "ci",
    "audience": AUDIENCE,
    "conditions": "sub~repo:team/*:ref:refs/heads/main\r\n\r\nref=refs/heads/main",
    "account": "admin",
    "scopes": "repository:team/app:pull\r\nrepository:team/x:pull",
    "seconds": "90",
}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    async with open_port(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as opened:
        yield opened


async def test_a_rule_is_made_changed_and_deleted(port: Port, issuer: Issuer) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        # Without an issuer there is nothing to make one of.
        words = words_of(await read(person, RULES))
        assert "There is no rule yet" in words
        assert "No issuer is trusted yet" in words
        await trust(port.admin, issuer)
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, RULES, **WANTED)).status == 403
        for bad, status in (
            ({"name": MARKUP}, 400),
            ({"conditions": "<b>no condition</b>"}, 400),
            ({"conditions": "sub~**"}, 400),
            ({"conditions": ""}, 400),
            ({"account": "nobody"}, 404),
            ({"issuer": "none"}, 404),
            ({"scopes": "admin"}, 400),
            ({"seconds": "59"}, 400),
            ({"seconds": "1" * 4000}, 400),
            ({"audience": ""}, 400),
        ):
            refused = await send(person, port.registry, RULES, **WANTED | bad)
            assert refused.status == status, bad
            assert b"<script>" not in refused.body
            # What was typed stays.
            assert 'role="alert"' in refused.body.decode()
            assert "repository:team/x:pull" in refused.body.decode() or "scopes" in bad
        assert await api(port.admin, "GET", "/workload-rules") == {"items": [], "next": None}
        made = await send(person, port.registry, RULES, **WANTED)
        assert (made.status, made.headers["Location"]) == (303, f"{RULES}/main")
        told = await api(port.admin, "GET", "/workload-rules/main")
        assert told["conditions"] == [
            {"claim": "sub", "glob": "repo:team/*:ref:refs/heads/main"},
            {"claim": "ref", "equals": "refs/heads/main"},
        ]
        assert (told["seconds"], len(told["scopes"])) == (90, 2)
        assert (await send(person, port.registry, RULES, **WANTED)).status == 409
        assert "main ci sub~repo:team/*:ref:refs/heads/main ref=refs/heads/main admin" in words_of(
            await read(person, RULES)
        )
        page = await read(person, f"{RULES}/main")
        change = {**WANTED, "seconds": "600", "seen": seen_of(page.body)}
        del change["name"]
        assert (await send_from(person, {}, f"{RULES}/main/change", **change)).status == 403
        # What another made of it in between is not overwritten.
        await api(port.admin, "PATCH", "/workload-rules/main", json={"audience": "another.example"})
        late = await send(person, port.registry, f"{RULES}/main/change", **change)
        assert late.status == 412
        change["seen"] = seen_of((await read(person, f"{RULES}/main")).body)
        assert (await send(person, port.registry, f"{RULES}/main/change", **change)).status == 303
        told = await api(port.admin, "GET", "/workload-rules/main")
        assert (told["seconds"], told["audience"], len(told["conditions"])) == (600, AUDIENCE, 2)
        for fields in ({}, {"confirm": "Main"}):
            assert (await send(person, port.registry, f"{RULES}/main/delete", **fields)).status == 400
        assert (await send(person, port.registry, f"{RULES}/main/delete", confirm="main")).status == 303
        assert (await ask(person, "GET", f"{RULES}/main")).status == 404


async def test_conditions_that_a_form_cannot_show_stay_as_they_are(port: Port, issuer: Issuer) -> None:
    await trust(port.admin, issuer)
    odd = [
        {"claim": "ref", "equals": "a\nsub=b"},
        {"claim": "ref", "equals": "a\rb"},
        {"claim": "ref", "glob": "a* "},
        {"claim": " ref", "equals": "a"},
        {"claim": " ", "equals": "a"},
        {"claim": "a=b", "equals": "c"},
        {"claim": "a~b", "glob": "c*"},
    ]
    empty = dict.fromkeys(("client_id", "scopes", "groups_claim", "run_url", "commit_claim"), "")
    of_issuer = {"name_claim": "nick", **empty}
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert (await send(person, port.registry, RULES, **WANTED)).status == 303
        forms = (
            ("/workload-rules/main", f"{RULES}/main", "workload", WANTED),
            ("/issuers/ci", "/administration/issuers/ci", "issuer", of_issuer),
        )
        for api_path, path, command, fields in forms:
            kept = {name: value for name, value in fields.items() if name != "name"}
            for one in odd:
                conditions = [{"claim": "team", "equals": "x"}, one]
                told = await api(port.admin, "PATCH", api_path, json={"conditions": conditions})
                page = await read(person, path)
                shown = page.body.decode().partition('name="conditions"')[2].partition(">")[2]
                typed = html.unescape(shown.partition("</textarea>")[0]).removeprefix("\n")
                change = kept | {"seen": seen_of(page.body), "conditions": typed.replace("\n", "\r\n")}
                refused = await send(person, port.registry, f"{path}/change", **change)
                assert refused.status == 400, one
                assert f"seatrial {command} set" in words_of(refused)
                assert await api(port.admin, "GET", api_path) == told
            await api(port.admin, "PATCH", api_path, json={"conditions": [{"claim": "a", "equals": "=~ x"}]})
            seen = seen_of((await read(person, path)).body)
            done = await send(
                person, port.registry, f"{path}/change", **kept | {"seen": seen, "conditions": "a==~ x"}
            )
            assert done.status == 303
            told = await api(port.admin, "GET", api_path)
            assert told["conditions"] == [{"claim": "a", "equals": "=~ x"}]
        # What is one condition is one line where it is only read.
        await api(port.admin, "PATCH", "/workload-rules/main", json={"conditions": odd[:1]})
        for path in (RULES, f"{RULES}/main"):
            assert "<li><code>ref=a\nsub=b</code></li>" in (await read(person, path)).body.decode()


async def test_what_a_token_would_get_is_told_and_nothing_given(
    port: Port, issuer: Issuer, capfd: pytest.CaptureFixture[str]
) -> None:
    await trust(port.admin, issuer)
    token = job_token(issuer, ref="refs/heads/main")
    async with visitor(port.registry) as person, port.registry.client(anonymous=True) as nobody:
        await sign_in(person, port.registry)
        assert EXPLAIN not in (await read(person, RULES)).body.decode()
        assert (await send(person, port.registry, RULES, **WANTED)).status == 303
        other = WANTED | {"name": "other", "conditions": f"sub={SUBJECT}\nref=refs/heads/{MARKUP}"}
        assert (await send(person, port.registry, RULES, **other)).status == 303
        assert EXPLAIN in (await read(person, RULES)).body.decode()
        before = (await api(port.admin, "GET", "/tokens"))["items"]
        assert (await send_from(person, EVIL, EXPLAIN, token=token)).status == 403
        # As somebody pastes it.
        met = await send(person, port.registry, EXPLAIN, token=f"  {token[:30]}\r\n{token[30:]}\r\n")
        assert met.status == 200
        words = words_of(met)
        assert "It meets the rule main." in words
        assert "main yes —" in words
        assert f"other no ref=refs/heads/{html.unescape(MARKUP)}"[:40] in words
        assert "It has the claims aud exp iat" in words
        assert b"<script>" not in met.body
        none = words_of(await send(person, port.registry, EXPLAIN, token=job_token(issuer, sub="x")))
        assert "It gets nothing: it is valid and meets no rule" in none
        strange = await send(person, port.registry, EXPLAIN, token=MARKUP)
        assert "It gets nothing: " in words_of(strange)
        assert (await send(person, port.registry, EXPLAIN)).status == 400
        log = capfd.readouterr()
        for secret in (token, token.rpartition(".")[2]):
            assert secret not in met.body.decode()
            assert secret not in log.out + log.err
        # It was looked at, gave nothing, and is as good as before.
        assert (await api(port.admin, "GET", "/tokens"))["items"] == before
        assert (await exchange(nobody, token)).status == 200
        assert len((await api(port.admin, "GET", "/tokens"))["items"]) == len(before) + 1


async def test_rules_are_for_administrators(port: Port) -> None:
    auditor = await make_user(port.admin, "looker", auditor=True)
    async with visitor(port.registry) as looker, visitor(port.registry) as admin:
        await sign_in(looker, port.registry, name="looker", password=auditor)
        await sign_in(admin, port.registry)
        assert "Rules for jobs" in words_of(await read(admin, "/administration"))
        assert "Rules for jobs" not in words_of(await read(looker, "/administration"))
        assert (await ask(looker, "GET", RULES)).status == 403
        assert (await send(looker, port.registry, EXPLAIN, token="x")).status == 403
