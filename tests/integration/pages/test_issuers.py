"""Pages of OIDC issuers: trusted, asked, changed, moved, trusted no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.access import api, ask, make_user
from tests.kit.issuer import CLIENT_ID, CLIENT_SECRET, LOOPBACK, Issuer, running_issuer
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, seen_of, send, send_from, sign_in, visitor, words_of
from tests.kit.trials import Port, open_port
from tests.kit.workloads import make_rule, trust

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
LIST = "/administration/issuers"
CI = f"{LIST}/ci"
FIELDS = {
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "scopes": "profile groups",
    "create_accounts": "yes",
    "conditions": "hd=example.org\r\nteam~crew-*",
    "name_claim": "nick",
    "groups_claim": "groups",
    "run_url": "https://ci.example/{project_path}/-/jobs/{job_id}",
    "commit_claim": "sha",
}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    async with open_port(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as opened:
        yield opened


async def test_an_issuer_is_trusted_asked_and_changed(
    port: Port, issuer: Issuer, capfd: pytest.CaptureFixture[str]
) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "None is trusted." in words_of(await read(person, LIST))
        wanted = {"name": "ci", "url": issuer.url}
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, LIST, **wanted)).status == 403
        for bad in ({"name": MARKUP}, {"url": MARKUP}, {"url": "ftp://issuer.example"}, {"name": ""}):
            refused = await send(person, port.registry, LIST, **wanted | bad)
            assert refused.status == 400, bad
            assert b"<script>" not in refused.body
            assert 'role="alert"' in refused.body.decode()
        assert (await send(person, port.registry, LIST, **wanted)).headers["Location"] == CI
        assert (await send(person, port.registry, LIST, **wanted)).status == 409
        asked = words_of(await send(person, port.registry, f"{CI}/check"))
        assert "Keys it signs with key-RS256 RS256 key-ES256 ES256 Asked 0 seconds ago" in asked
        page = await read(person, CI)
        assert "/oauth/callback/ci" in page.body.decode()
        change = FIELDS | {"seen": seen_of(page.body)}
        assert (await send_from(person, EVIL, f"{CI}/change", **change)).status == 403
        for bad in ({"conditions": "all of them"}, {"name_claim": ""}, {"client_id": ""}, {"run_url": "x"}):
            refused = await send(person, port.registry, f"{CI}/change", **change | bad)
            assert refused.status == 400, bad
            # What was typed stays, but for the secret.
            assert "profile groups" in refused.body.decode()
            assert CLIENT_SECRET not in refused.body.decode()
        assert (await send(person, port.registry, f"{CI}/change", **change)).status == 303
        told = await api(port.admin, "GET", "/issuers/ci")
        assert told["conditions"] == [
            {"claim": "hd", "equals": "example.org"},
            {"claim": "team", "glob": "crew-*"},
        ]
        assert (told["scopes"], told["create_accounts"], told["has_client_secret"]) == (
            ["profile", "groups"],
            True,
            True,
        )
        assert (await send(person, port.registry, f"{CI}/change", **change)).status == 412
        # A secret that is left empty stays; what else is, is said so. What is not said at all is no answer.
        empty = {name: "" for name in FIELDS if name != "create_accounts"}
        kept = empty | {"name_claim": "nick", "client_id": CLIENT_ID}
        kept["seen"] = seen_of((await read(person, CI)).body)
        for name in ("conditions", "scopes", "groups_claim", "run_url", "commit_claim", "client_id"):
            without = {key: value for key, value in kept.items() if key != name}
            refused = await send(person, port.registry, f"{CI}/change", **without)
            assert (refused.status, f"{name} is missing" in words_of(refused)) == (400, True)
        assert await api(port.admin, "GET", "/issuers/ci") == told
        assert (await send(person, port.registry, f"{CI}/change", **kept)).status == 303
        told = await api(port.admin, "GET", "/issuers/ci")
        assert (told["has_client_secret"], told["create_accounts"], told["conditions"]) == (True, False, [])
        assert (told["groups_claim"], told["run_url"], told["commit_claim"]) == (None, None, None)
        page = await read(person, CI)
        log = capfd.readouterr()
        assert "/administration/issuers" in log.err
        trail = str(await api(port.admin, "GET", "/audit"))
        assert not any(CLIENT_SECRET in said for said in (page.body.decode(), log.out, log.err, trail))


async def test_an_issuer_that_does_not_answer_says_why(port: Port, issuer: Issuer) -> None:
    await trust(port.admin, issuer)
    issuer.discovery["issuer"] = f"https://other.example/{MARKUP}"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        refused = await send(person, port.registry, f"{CI}/check")
        assert refused.status == 503
        assert "its discovery document is that of another issuer" in words_of(refused)
        assert b"<script>" not in refused.body


async def test_an_issuer_is_moved_and_trusted_no_longer(port: Port, issuer: Issuer) -> None:
    await trust(port.admin, issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    await make_rule(port.admin)
    auditor = await make_user(port.admin, "looker", auditor=True)
    moved = f"{issuer.url}/other"
    async with visitor(port.registry) as person, visitor(port.registry) as looker:
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=auditor)
        for form in ("change", "move", "delete"):
            assert (await send(looker, port.registry, f"{CI}/{form}", confirm="ci", url=moved)).status == 403
        for fields in ({"url": moved}, {"url": moved, "confirm": "CI"}, {"confirm": "ci"}):
            assert (await send(person, port.registry, f"{CI}/move", **fields)).status == 400
        assert (await send_from(person, {}, f"{CI}/move", url=moved, confirm="ci")).status == 403
        assert (await api(port.admin, "GET", "/issuers/ci"))["has_client_secret"] is True
        assert (await send(person, port.registry, f"{CI}/move", url=moved, confirm="ci")).status == 303
        told = await api(port.admin, "GET", "/issuers/ci")
        assert (told["url"], told["has_client_secret"]) == (moved, False)
        assert "There is none. Left empty" in words_of(await read(person, CI))
        assert (await send(person, port.registry, f"{CI}/delete")).status == 400
        assert (await send(person, port.registry, f"{CI}/delete", confirm="ci")).status == 303
        assert (await ask(person, "GET", CI)).status == 404
        assert (await api(port.admin, "GET", "/workload-rules"))["items"] == []


async def test_what_a_value_stands_for_is_not_replaced_unasked(port: Port, issuer: Issuer) -> None:
    await trust(port.admin, issuer)
    await api(port.admin, "PATCH", "/issuers/ci", json={"groups_claim": "groups"})
    for name in ("devs", "ops"):
        await api(port.admin, "PUT", f"/groups/{name}", status=201, json={})
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"{CI}/mapping"
        for fields, other in (
            ({"kind": "group", "to": "devs"}, {"kind": "group", "to": "ops"}),
            ({"kind": "auditor"}, {"kind": "administrator"}),
        ):
            assert (await send(person, port.registry, path, value="g1", **fields)).status == 303
            assert (await send(person, port.registry, path, value="g1", **fields)).status == 303
            refused = await send(person, port.registry, path, value="g1", **other)
            before = fields.get("to") or fields["kind"]
            assert refused.status == 409
            assert f"'g1' stands for {before} already; remove that first" in words_of(refused)
        told = await api(port.admin, "GET", "/issuers/ci")
        assert (told["groups"], told["roles"]) == ({"g1": "devs"}, {"g1": "auditor"})
        assert (await send(person, port.registry, f"{path}/remove", kind="group", value="g1")).status == 303
        assert (await send(person, port.registry, path, value="g1", kind="group", to="ops")).status == 303
        assert (await api(port.admin, "GET", "/issuers/ci"))["groups"] == {"g1": "ops"}


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("https://user:hunter2@issuer.example/", "https://issuer.example/"),
        ("https://hunter2@issuer.example/@scope", "https://issuer.example/@scope"),
        ("https://user:hunt/er2?hunter2#@issuer.example/", "https://issuer.example/"),
        ("HTTPS:user:hunter2@issuer.example", "HTTPS:issuer.example"),
        (r" ftp:\\user:@hunter2@issuer.example", r" ftp:\\issuer.example"),
        ("ftp://issuer.example:8443/@scope", "ftp://issuer.example:8443/@scope"),
    ],
)
async def test_a_password_in_an_address_is_not_shown_again(port: Port, typed: str, shown: str) -> None:
    async with visitor(port.registry) as person:
        for signed_in in (False, True):
            if signed_in:
                await sign_in(person, port.registry)
            refused = await send(person, port.registry, LIST, name="ci" if signed_in else "x", url=typed)
            assert refused.status == (400 if signed_in else 401)
            assert "hunter2" not in refused.body.decode()
            assert f'value="{shown}"' in refused.body.decode() or shown.strip() in words_of(refused)
