"""The first pages: signing in and out by a form, errors, what is the same for everybody, and the badge."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.kit.access import api, ask, make_repository, make_user
from tests.kit.distribution import push_image
from tests.kit.pagereading import HTML, send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.server import Registry
from tests.kit.trials import tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

QUERIES_MAX = 6


async def test_a_session_begins_and_ends_by_forms(registry: Registry, client: aiohttp.ClientSession) -> None:
    await make_repository(client, "team/app")
    async with visitor(registry) as person:
        before = await ask(person, "GET", "/")
        assert "Nothing here is public" in words_of(before)
        answer = await sign_in(person, registry)
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        home = words_of(await ask(person, "GET", "/"))
        assert "team/app" in home
        assert "admin Sign out" in home
        assert (await send(person, registry, "/sign-out")).status == 303
        assert "team/app" not in words_of(await ask(person, "GET", "/"))


async def test_it_goes_on_to_where_the_visitor_was_and_nowhere_else(registry: Registry) -> None:
    async with visitor(registry) as person:
        where = {"name": "admin", "password": registry.token}
        answer = await send(person, registry, "/sign-in", next="/?cursor=a", **where)
        assert answer.headers["Location"] == "/?cursor=a"
        for bad in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
            assert (await send(person, registry, "/sign-in", next=bad, **where)).status == 400
            assert (await ask(person, "GET", "/sign-in", params={"next": bad})).status == 400


async def test_who_is_signed_in_is_known_where_there_is_nothing(registry: Registry) -> None:
    async with visitor(registry) as person, visitor(registry) as stranger:
        await sign_in(person, registry)
        for path in ("/nothing", "/r/team/app/-/nothing"):
            answer = await ask(person, "GET", path)
            assert answer.status == 404
            assert "admin Sign out" in words_of(answer)
            assert b'action="/sign-in"' not in answer.body
            answer = await ask(stranger, "GET", path)
            assert (answer.status, b'action="/sign-in"' in answer.body) == (404, True)


async def test_what_another_form_calls_a_name_is_no_user_s(registry: Registry) -> None:
    async with visitor(registry) as person:
        answer = await send(person, registry, "/r/team/app/-/delete", name="typed")
        assert answer.status == 401
        assert b'action="/sign-in"' in answer.body
        assert b'value="typed"' not in answer.body


async def test_a_wrong_password_is_told_on_the_form(registry: Registry) -> None:
    async with visitor(registry) as person:
        answer = await sign_in(person, registry, name="<b>eve</b>", password="wrong")
        assert answer.status == 401
        assert b'value="&lt;b&gt;eve&lt;/b&gt;"' in answer.body
        assert b"<b>eve" not in answer.body
        assert "Set-Cookie" not in answer.headers
        assert "Basic" not in answer.headers["WWW-Authenticate"]
        for _ in range(12):
            answer = await sign_in(person, registry, name="eve", password="wrong")
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert "Wait a little" in words_of(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_other_sites_send_no_form(
    registry: Registry, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    await make_user(client, "alice", password="a password of hers")
    async with visitor(registry) as person:
        answer = await send_from(person, headers, "/sign-in", name="alice", password="a password of hers")
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
        await sign_in(person, registry)
        assert (await send_from(person, headers, "/sign-out")).status == 403
        assert "admin Sign out" in words_of(await ask(person, "GET", "/"))


async def test_a_form_that_does_not_say_where_it_comes_from_ends_no_session(registry: Registry) -> None:
    async with visitor(registry) as person:
        await sign_in(person, registry)
        assert (await send_from(person, {}, "/sign-out")).status == 403


async def test_whose_session_is_over_reads_what_strangers_read(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/open", visibility="public")
    async with visitor(registry) as person:
        await sign_in(person, registry)
        await api(client, "DELETE", "/sessions?account=admin")
        answer = await ask(person, "GET", "/")
        assert answer.status == 200
        assert "team/open" in words_of(answer)
        assert 'seatrial="";' in answer.headers["Set-Cookie"]


async def test_errors_are_pages_for_people_only(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    for path in ("/nothing", "/r/UPPER", "/?unknown=1"):
        page = await ask(nobody, "GET", path, headers=HTML)
        assert page.status in (400, 404)
        assert "Error code" in words_of(page)
        plain = await ask(nobody, "GET", path)
        assert plain.json["errors"][0]["code"] in words_of(page)
    for path in ("/v2/none/manifests/1", "/api/v1/users", "/layout/none/"):
        answers = [await ask(nobody, "GET", path, headers=headers) for headers in (HTML, {})]
        assert answers[0].look == answers[1].look
        assert json.loads(answers[0].body)


async def test_no_page_may_be_framed_or_run_anything_of_its_content(
    registry: Registry, nobody: aiohttp.ClientSession
) -> None:
    for path in ("/", "/sign-in", "/nothing"):
        headers = (await ask(nobody, "GET", path, headers=HTML)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"


async def test_what_is_the_same_for_everybody(nobody: aiohttp.ClientSession) -> None:
    robots = await ask(nobody, "GET", "/robots.txt")
    assert b"Disallow: /v2/\n" in robots.body
    page = (await ask(nobody, "GET", "/")).body.decode()
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    found = await ask(nobody, "GET", style, headers={"Accept-Encoding": "identity"})
    assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert found.headers["Content-Type"] == "text/css; charset=utf-8"
    old = style.replace(style.split("/")[2], "0" * 16)
    assert (await ask(nobody, "GET", old)).status == 404


async def test_the_first_visit_is_small(nobody: aiohttp.ClientSession) -> None:
    page = await ask(nobody, "GET", "/", headers=HTML)
    size = len(page.body)
    for part in page.body.decode().split('"'):
        if part.startswith("/assets/"):
            size += len((await ask(nobody, "GET", part, headers={"Accept-Encoding": "gzip"})).body)
    assert size <= 100 * 1024


async def test_home_has_pages_and_few_queries(registry: Registry, client: aiohttp.ClientSession) -> None:
    for number in range(60):
        await make_repository(client, f"team/r{number:02d}")
    async with visitor(registry) as person:
        await sign_in(person, registry)
        with sent() as statements:
            first = await ask(person, "GET", "/")
        assert len(statements) <= QUERIES_MAX
        assert "team/r49" in words_of(first)
        assert "team/r50" not in words_of(first)
        following = first.body.decode().partition('rel="next" href="')[2].partition('"')[0]
        second = words_of(await ask(person, "GET", following))
        assert "team/r50" in second
        assert "team/r49" not in second


async def test_the_badge_says_the_state(registry: Registry, client: aiohttp.ClientSession) -> None:
    await push_image(client, "team/open", "1", tiny_image())
    await api(client, "PATCH", "/repositories/team%2Fopen", json={"visibility": "public"})
    path = "/r/team/open/-/badges/1.svg"
    async with registry.client(anonymous=True) as nobody:
        with sent() as statements:
            badge = await ask(nobody, "GET", path)
        assert len(statements) <= QUERIES_MAX
        assert badge.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
        assert b"<title>sea trial: never tried</title>" in badge.body
        again = await ask(nobody, "GET", path, headers={"If-None-Match": badge.headers["ETag"]})
        assert again.status == 304
        block = {"image": "team/open:1", "reason": "a test"}
        await api(client, "POST", "/gate/block", status=204, json=block)
        blocked = await ask(nobody, "GET", path, headers={"If-None-Match": badge.headers["ETag"]})
        assert b"blocked" in blocked.body
        assert (await ask(nobody, "GET", "/r/team/open/-/badges/2.svg")).status == 404
