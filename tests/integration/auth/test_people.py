"""People who sign in with an issuer, in a browser that keeps cookies, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import insert, select
from yarl import URL

from registry.db.access import group_members, groups
from registry.db.accounts import accounts
from registry.db.events import events
from registry.db.types import db_time
from tests.kit.access import Answer, api, ask, make_token, make_user
from tests.kit.issuer import CLIENT_ID, CLIENT_SECRET, LOOPBACK, Issuer, running_issuer
from tests.kit.server import Registry, running_registry
from tests.kit.workloads import exchange, job_token, make_rule, trust

PERSON = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        running.person = {"sub": "7", "preferred_username": "anna"}
        yield running


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """One that may ask issuers on loopback."""
    async with running_registry(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as running:
        yield running


@pytest.fixture
async def browser(registry: Registry) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser of nobody yet."""
    async with aiohttp.ClientSession(registry.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def begin(browser: aiohttp.ClientSession, name: str = "ci", **query: str) -> URL:
    """Begin a sign-in; where the issuer is asked."""
    answer = await ask(
        browser, "GET", "/oauth/login", params={"issuer": name, **query}, allow_redirects=False
    )
    assert answer.status == 303, answer.body
    return URL(answer.headers["Location"])


async def approve(at: URL) -> URL:
    """Let the issuer approve; where it sends the browser back to."""
    async with aiohttp.ClientSession() as session, session.get(at, allow_redirects=False) as response:
        assert response.status == 302
        return URL(response.headers["Location"])


async def come_back(browser: aiohttp.ClientSession, to: URL) -> Answer:
    """Follow the issuer back."""
    return await ask(browser, "GET", str(to.relative()), allow_redirects=False)


async def sign_in(browser: aiohttp.ClientSession, name: str = "ci", **query: str) -> Answer:
    """The whole way."""
    return await come_back(browser, await approve(await begin(browser, name, **query)))


async def session_of(browser: aiohttp.ClientSession) -> str | None:
    """Who the browser is for the API, if anybody."""
    answer = await ask(browser, "GET", "/api/v1/sessions")
    if answer.status == 401:
        return None
    return next(str(each["account"]) for each in answer.json["items"] if each["current"])


async def test_a_person_signs_in(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, create_accounts=True)
    at = await begin(browser, next="/team/app?tab=1")
    asked = {name: values[0] for name, values in parse_qs(at.query_string).items()}
    assert asked["scope"] == "openid profile"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert urlsplit(asked["redirect_uri"]).path == "/oauth/callback/ci"
    answer = await come_back(browser, await approve(at))
    assert answer.status == 303, answer.body
    assert answer.headers["Location"] == "/team/app?tab=1"
    assert await session_of(browser) == "anna"
    assert issuer.count("/token") == 1
    told = await api(client, "GET", "/issuers/ci/identities")
    assert [(each["subject"], each["account"]) for each in told["items"]] == [("7", "anna")]
    # A second time it is the same account, whatever he is called by now.
    issuer.person = {"sub": "7", "preferred_username": "bert"}
    assert (await sign_in(browser)).status == 303
    assert await session_of(browser) == "anna"


@pytest.mark.parametrize("create_accounts", [True, False])
async def test_no_name_and_no_address_is_a_way_into_an_account(
    browser: aiohttp.ClientSession,
    client: aiohttp.ClientSession,
    issuer: Issuer,
    create_accounts: bool,
) -> None:
    await make_user(client, "anna")
    await trust(client, issuer, **PERSON, create_accounts=create_accounts)
    for person in (
        {"sub": "7", "preferred_username": "anna", "email": "anna@example.org", "email_verified": True},
        {"sub": "7", "preferred_username": "admin", "email": "anna@example.org", "email_verified": False},
        {"sub": "anna", "preferred_username": "ANNA@example.org", "name": "anna"},
        {"sub": "admin", "preferred_username": ["anna"]},
        {"sub": "8"},
        {"sub": "9", "preferred_username": "../../admin"},
        {"sub": "10", "preferred_username": "oidc"},
    ):
        issuer.person = person
        answer = await sign_in(browser)
        assert answer.status == 401, person
        assert await session_of(browser) is None
    assert (await api(client, "GET", "/issuers/ci/identities"))["items"] == []
    listed = await api(client, "GET", "/users")
    assert [user["name"] for user in listed["items"]] == ["admin", "anna"]


async def test_an_administrator_links_and_unlinks(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await make_user(client, "anna")
    await trust(client, issuer, **PERSON)
    issuer.person = {"sub": "a/b c:7"}
    told = await sign_in(browser)
    assert told.status == 401
    link = {"subject": "a/b c:7", "account": "anna"}
    await api(client, "POST", "/issuers/ci/identities", status=201, json=link)
    await api(client, "POST", "/issuers/ci/identities", status=409, json={**link, "account": "admin"})
    await api(client, "POST", "/issuers/ci/identities", status=404, json={**link, "account": "nobody"})
    assert (await sign_in(browser)).status == 303
    assert await session_of(browser) == "anna"
    await api(client, "DELETE", "/issuers/ci/identities/a%2Fb%20c:7", status=204)
    assert (await sign_in(browser)).status == 401
    await api(client, "POST", "/issuers/ci/identities", status=201, json=link)
    await api(client, "PATCH", "/users/anna", json={"disabled": True})
    assert (await sign_in(browser)).status == 401


async def test_what_belongs_to_another_sign_in_is_refused(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, create_accounts=True)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(registry.url, cookie_jar=jar) as enemy:
        theirs = await approve(await begin(enemy))
        # Login CSRF: the enemy's answer in somebody else's browser, which began none, or another.
        assert (await come_back(browser, theirs)).status == 400
        await begin(browser)
        assert (await come_back(browser, theirs)).status == 400
    back = await approve(await begin(browser))
    state, code = back.query["state"], back.query["code"]
    for query in (
        {"code": code},
        {"code": code, "state": ""},
        {"code": code, "state": state[:-1]},
        {"code": code, "state": state + "é"},
        {"state": state + "x", "code": code},
    ):
        assert (await come_back(browser, back.with_query(query))).status == 400
    twice = f"{back.relative()}&state={state}"
    assert (await ask(browser, "GET", twice, allow_redirects=False)).status == 400
    assert (await come_back(browser, back.with_query(state=state, error="access_denied"))).status == 401
    assert (await come_back(browser, back.with_query(state=state))).status == 401
    assert await session_of(browser) is None
    assert (await come_back(browser, back)).status == 303


async def test_an_answer_is_good_once(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, create_accounts=True)
    issuer.codes_are_used_up = False  # an issuer that does not care
    back = await approve(await begin(browser))
    kept = {cookie.key: cookie.value for cookie in browser.cookie_jar}
    assert (await come_back(browser, back)).status == 303
    assert (await come_back(browser, back)).status == 400  # the browser has forgotten it
    async with aiohttp.ClientSession(registry.url, cookies=kept) as thief:
        assert (await come_back(thief, back)).status == 401
    issuer.codes_are_used_up = True
    back = await approve(await begin(browser))
    kept = {cookie.key: cookie.value for cookie in browser.cookie_jar}
    assert (await come_back(browser, back)).status == 303
    async with aiohttp.ClientSession(registry.url, cookies=kept) as thief:
        assert (await come_back(thief, back)).status == 401


async def test_a_cookie_that_is_none(
    registry: Registry, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON)
    for value in ("", "x", "AAAA", "A" * 200, "é"):
        async with aiohttp.ClientSession(registry.url) as thief:
            answer = await ask(
                thief,
                "GET",
                "/oauth/callback/ci?code=x&state=",
                headers={"Cookie": f"seatrial-sign-in={value}"},
            )
            assert answer.status == 400
    assert issuer.count("/token") == 0


async def test_issuers_are_not_mixed_up(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    async with running_issuer() as evil:
        evil.person = {"sub": "7", "preferred_username": "mallory"}
        await trust(client, issuer, "honest", **PERSON, create_accounts=True)
        await trust(client, evil, "evil", **PERSON, create_accounts=True)
        # The evil one sends the browser on to the honest one, to be given its code.
        at = await begin(browser, "evil")
        code_for = await approve(URL(f"{issuer.url}/authorize").with_query(at.query))
        at_honest = URL(str(code_for).replace("/callback/evil", "/callback/honest"))
        assert (await come_back(browser, at_honest)).status == 400
        assert evil.count("/token") == 0
        # As it stands the honest one would refuse the address, which is not registered there; ours differ.
        assert at.query["redirect_uri"].endswith("/oauth/callback/evil")
        # An answer that names its issuer has to name the right one (RFC 9207).
        at = await begin(browser, "honest")
        back = (await approve(at)).update_query(iss=evil.url)
        assert (await come_back(browser, back)).status == 400
        # A token of the evil one, with the honest one's name or with its own, from the honest one's endpoint.
        for given in ({"iss": issuer.url}, {}):
            at = await begin(browser, "honest")
            issuer.id_token = evil.token(
                aud=CLIENT_ID, nonce=at.query["nonce"], sub="7", preferred_username="x", **given
            )
            assert (await come_back(browser, await approve(at))).status == 401
        assert await session_of(browser) is None


async def test_an_issuer_that_names_itself_always_does(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    issuer.iss_in_answer = True
    await trust(client, issuer, **PERSON, create_accounts=True)
    back = await approve(await begin(browser))
    without = back.with_query({name: back.query[name] for name in ("code", "state")})
    assert (await come_back(browser, without)).status == 400
    assert (await come_back(browser, back)).status == 303


async def test_id_tokens_that_are_not_taken(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, create_accounts=True)
    wrong: tuple[dict[str, Any], ...] = (
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another"]},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"azp": "another"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"iat": 4102444800},
        {"iss": "https://issuer.example"},
        {"sub": None},
        {"sub": 7},
        {"sub": {"a": "7"}},
    )
    for given in wrong:
        issuer.person = {"preferred_username": "anna", **given}
        assert (await sign_in(browser)).status == 401, given
        assert await session_of(browser) is None, given
    issuer.person = {"preferred_username": "anna"}
    assert (await sign_in(browser)).status == 303


async def test_token_endpoints_that_answer_badly(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, create_accounts=True)
    for answer, status in (
        (web.Response(status=400), 401),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 401),
        (web.json_response({}), 401),
        (web.json_response({"id_token": ["x"]}), 401),
        (web.json_response({"id_token": "x.y.z"}), 401),
        (web.Response(text="no"), 401),
        (web.Response(body=b"x" * (1024 * 1024 + 1)), 503),
    ):
        issuer.answers["/token"] = answer
        assert (await sign_in(browser)).status == status
    issuer.discovery = {"token_endpoint": None}


@pytest.mark.parametrize("address", ["https://[", "http://127.0.0.1:99999/", "http://", "http://a b/"])
async def test_an_issuer_that_sends_people_nowhere(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer, address: str
) -> None:
    issuer.discovery = {"authorization_endpoint": address}
    await trust(client, issuer, **PERSON)
    answer = await ask(browser, "GET", "/oauth/login", params={"issuer": "ci"}, allow_redirects=False)
    assert answer.status == 503


async def test_the_secret_is_needed_and_another_address_forgets_it(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    made = await trust(client, issuer, **PERSON, create_accounts=True)
    assert made["has_client_secret"] is True
    assert CLIENT_SECRET not in str(made)
    assert (await sign_in(browser)).status == 303
    async with running_issuer() as evil:
        changed = await api(client, "PATCH", "/issuers/ci", json={"url": evil.url})
        assert changed["has_client_secret"] is False
        assert (await api(client, "GET", "/issuers/ci/identities"))["items"] == []
        await sign_in(browser)
        assert evil.count("/token") == 1
        assert not any("Authorization" in headers for headers in evil.headers_seen)
    back = {"url": issuer.url, "client_secret": CLIENT_SECRET}
    assert (await api(client, "PATCH", "/issuers/ci", json=back))["has_client_secret"] is True


async def test_a_public_client_sends_no_secret(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    issuer.public_client = True
    await trust(client, issuer, client_id=CLIENT_ID, create_accounts=True)
    assert (await sign_in(browser)).status == 303


async def test_nobody_is_sent_elsewhere(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON)
    evil = ("//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil", "evil", "/a\r\nb", "/ä")
    for to in evil:
        answer = await ask(browser, "GET", "/oauth/login", params={"issuer": "ci", "next": to})
        assert answer.status == 400, to
    assert issuer.asked == []


async def test_an_issuer_of_jobs_signs_nobody_in(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer)
    for name in ("ci", "none", "", "../ci"):
        answer = await ask(browser, "GET", "/oauth/login", params={"issuer": name})
        assert answer.status == 404
    assert (await ask(browser, "GET", "/oauth/login")).status == 400


async def memberships(registry: Registry, name: str) -> set[tuple[str, str]]:
    """Groups of an account, and where from."""
    assert registry.services is not None
    query = (
        select(groups.c.name, group_members.c.source)
        .join(group_members, group_members.c.group_id == groups.c.id)
        .join(accounts, accounts.c.id == group_members.c.account_id)
        .where(accounts.c.name == name)
    )
    async with registry.services.database.read() as connection:
        return {(row.name, row.source) for row in await connection.execute(query)}


async def test_groups_come_and_go_with_the_claim(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        for name in ("crew", "mates"):
            await connection.execute(insert(groups).values(name=name, created_at=db_time()))
    mapped = {"developers": "crew", "devs": "crew", "sailors": "mates", "others": "not there"}
    await trust(
        client,
        issuer,
        **PERSON,
        create_accounts=True,
        groups_claim="groups",
        groups=mapped,
        roles={"chiefs": "administrator", "readers": "auditor"},
    )

    async def with_groups(told: object) -> set[tuple[str, str]]:
        issuer.person = {"sub": "7", "preferred_username": "anna", "groups": told}
        assert (await sign_in(browser)).status == 303
        return await memberships(registry, "anna")

    assert await with_groups(["developers", "unknown"]) == {("crew", "ci")}
    assert await with_groups(["devs", "sailors", "others"]) == {("crew", "ci"), ("mates", "ci")}
    assert await with_groups("sailors") == {("mates", "ci")}
    for told in ([], None, {"developers": True}, 7, [["developers"]], [{"name": "devs"}, None, 1], "crew"):
        assert await with_groups(told) == set()
    many = [f"group-{number}" for number in range(10_000)]
    assert await with_groups([*many, "devs"]) == {("crew", "ci")}
    # What was given by hand stays.
    async with registry.services.database.write() as connection:
        anna = (await connection.execute(select(accounts.c.id).where(accounts.c.name == "anna"))).scalar_one()
        mates = (await connection.execute(select(groups.c.id).where(groups.c.name == "mates"))).scalar_one()
        await connection.execute(insert(group_members).values(group_id=mates, account_id=anna, source=""))
    assert await with_groups([]) == {("mates", "")}
    # Roles too, while it maps them; and the right that is given works at once.
    assert (await ask(browser, "GET", "/api/v1/workers")).status == 403
    await with_groups(["chiefs"])
    assert (await ask(browser, "GET", "/api/v1/workers")).status == 200
    await with_groups(["readers"])
    assert (await ask(browser, "GET", "/api/v1/workers")).status == 403
    await with_groups(["devs"])
    await api(client, "DELETE", "/issuers/ci", status=204)
    assert await memberships(registry, "anna") == {("mates", "")}


async def test_a_group_that_an_issuer_gives_no_longer_is_lost_at_once(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    for name in ("crew", "mates"):
        await api(client, "PUT", f"/groups/{name}", status=201)
    mapped = {"devs": "crew", "sailors": "mates"}
    await trust(client, issuer, **PERSON, create_accounts=True, groups_claim="groups", groups=mapped)
    issuer.person = {"sub": "7", "preferred_username": "anna", "groups": ["devs", "sailors"]}
    assert (await sign_in(browser)).status == 303
    await api(client, "PUT", "/groups/crew/members/anna", status=201)
    await api(client, "PATCH", "/issuers/ci", json={"groups": {"sailors": "mates"}})
    assert await memberships(registry, "anna") == {("crew", ""), ("mates", "ci")}
    await api(client, "PATCH", "/issuers/ci", json={"groups": {}, "groups_claim": None})
    assert await memberships(registry, "anna") == {("crew", "")}


async def test_the_last_administrator_stays_one(
    registry: Registry, browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON, groups_claim="groups", roles={"chiefs": "administrator"})
    link = {"subject": "7", "account": "admin"}
    await api(client, "POST", "/issuers/ci/identities", status=201, json=link)
    assert (await sign_in(browser)).status == 303
    assert (await ask(client, "GET", "/api/v1/users")).status == 200


async def test_a_limited_token_of_an_administrator_opens_no_door(
    registry: Registry, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer, **PERSON)
    await make_rule(client)
    limited = (await make_token(client, "admin"))["token"]
    async with registry.client(limited) as admin:
        assert [each["name"] for each in (await api(admin, "GET", "/issuers"))["items"]] == ["ci"]
        for method, path, body in (
            ("POST", "/issuers", {"name": "x", "url": "https://x.example"}),
            ("PATCH", "/issuers/ci", {"groups_claim": "groups", "roles": {"all": "administrator"}}),
            ("POST", "/issuers/ci/identities", {"subject": "7", "account": "admin"}),
            ("PATCH", "/workload-rules/main", {"scopes": ["repository:*:delete"]}),
        ):
            await api(admin, method, path, status=403, json=body)
        await api(admin, "DELETE", "/workload-rules/main", status=204)
    weak = await make_user(client, "weak")
    async with registry.client(weak, user="weak") as user:
        for method, path in (
            ("GET", "/issuers"),
            ("GET", "/issuers/ci"),
            ("POST", "/issuers/ci/check"),
            ("DELETE", "/issuers/ci"),
            ("GET", "/issuers/ci/identities"),
            ("GET", "/workload-rules"),
            ("GET", "/workload-rules/main"),
            ("DELETE", "/workload-rules/main"),
        ):
            await api(user, method, path, status=403)


async def test_secrets_are_in_no_log_no_event_and_no_answer(
    registry: Registry,
    browser: aiohttp.ClientSession,
    client: aiohttp.ClientSession,
    issuer: Issuer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = await trust(client, issuer, **PERSON, create_accounts=True)
    await make_rule(client)
    back = await approve(await begin(browser))
    kept = {cookie.key: cookie.value for cookie in browser.cookie_jar}
    answers = [await come_back(browser, back), await come_back(browser, back)]
    issuer.answers["/token"] = web.Response(status=401, text=CLIENT_SECRET)
    answers.append(await sign_in(browser))
    job = job_token(issuer)
    told = await exchange(client, job)
    answers.append(await exchange(client, job[:-4] + "AAAA"))
    answers += [await ask(client, "GET", f"/api/v1{path}") for path in ("/issuers", "/issuers/ci", "/audit")]
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        rows = [str(tuple(row)) for row in await connection.execute(select(events))]
    logged = capsys.readouterr().out
    assert "sign_in.refused" in logged
    said = [str(made), *rows, logged]
    said += [answer.body.decode() + str(answer.headers.get("Location")) for answer in answers]
    secrets = (CLIENT_SECRET, back.query["code"], *kept.values(), job, told.json["access_token"])
    assert [secret for secret in secrets for text in said if secret in text] == []


async def test_conditions_on_people(
    browser: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    conditions = [{"claim": "hd", "equals": "example.org"}]
    await trust(client, issuer, **PERSON, create_accounts=True, conditions=conditions)
    for hd in (None, "evil.org", "example.org.evil.org", ["other"]):
        issuer.person = {"sub": "7", "preferred_username": "anna", "hd": hd}
        assert (await sign_in(browser)).status == 401
    issuer.person = {"sub": "7", "preferred_username": "anna", "hd": "example.org"}
    assert (await sign_in(browser)).status == 303
