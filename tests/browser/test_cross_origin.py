"""What pages of other sites make a real browser do with the session of a person who has signed in: nothing.

``tests/integration/auth/test_cross_origin.py`` says what a browser may say; here it says it itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, Request
from sqlalchemy import text

from tests.kit.access import make_repository, make_user
from tests.kit.ports import free_port
from tests.kit.server import ADMIN, Registry, running_registry

pytestmark = pytest.mark.asyncio(loop_scope="session")
PLACES = ("loopback", "http", "https")
"""A browser trusts the loopback without TLS, and tells it what page asks; other hosts only with TLS."""
EVIL = ("neighbour", "elsewhere", "sandboxed")
"""The registry's host at another port, whose pages have its cookies; another site; one without an origin."""
_NOTED = {
    "sessions": ("last_used_at", "address", "client", "expires_at"),
    "tokens": ("last_used_at", "last_used_address", "last_used_client"),
    # Events get their place in the feed when nobody waits for it.
    "events": ("position",),
    "event_feed": ("position",),
}
_FORM = """
const send = (path, enctype, fields) => new Promise(done => {
  const form = document.createElement("form"), frame = document.createElement("iframe");
  frame.name = "hidden"; document.body.append(frame, form);
  Object.assign(form, {method: "POST", action: path, enctype, target: "hidden"});
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement("input");
    Object.assign(field, {name, value}); form.append(field);
  }
  frame.onload = () => { form.remove(); frame.remove(); done() };  // the answer is there
  form.submit();
});
"""
COOKIELESS = ("fetch, upload", "fetch, refresh token")
"""Routes that take no cookie."""
_USER = '{"name": "mallory", "admin": true'
WRITES: Mapping[str, str] = {
    "form": 'await send(`${api}/users`, "application/x-www-form-urlencoded", {name: "mallory"})',
    "form with files": 'await send(`${api}/users`, "multipart/form-data", {name: "mallory"})',
    "form that spells JSON": f"""await send(`${{api}}/users`, "text/plain", {{'{_USER}, "x": "': '"}}'}})""",
    "form by a detour": f"""await send(`/detour?to=${{encodeURIComponent(`${{api}}/users`)}}`, "text/plain",
        {{'{_USER}, "x": "': '"}}'}})""",
    "fetch": f"await simple(`${{api}}/users`, '{_USER}}}')",
    "fetch, sign in": """await simple(`${api}/sessions`, '{"name": "other", "password": "PASSWORD"}')""",
    COOKIELESS[0]: 'await simple(`${url}/v2/team/app/blobs/uploads/`, "")',
    COOKIELESS[1]: """await simple(`${url}/token`,
        new URLSearchParams({service: "seatrial", grant_type: "password", access_type: "offline"}))""",
    "beacon": f"navigator.sendBeacon(`${{api}}/users`, '{_USER}}}')",
    "ping": """const link = document.createElement("a");
        Object.assign(link, {href: "#there", ping: `${api}/users`});
        document.body.append(link); link.click()""",
}
"""What a browser sends without asking first."""
HIDDEN: Mapping[str, str] = {
    "XMLHttpRequest": f"""const asked = new XMLHttpRequest(); asked.open("POST", `${{api}}/users`);
        asked.withCredentials = true; asked.send('{_USER}}}')""",
    "JSON": f"""await any("POST", "/users", '{_USER}}}')""",
    "PUT": """await any("PUT", "/repositories/team%2Fapp/members/user:other", '{"role": "owner"}')""",
    "PATCH": """await any("PATCH", "/repositories/team%2Fapp", '{"visibility": "public"}')""",
    "DELETE": 'await any("DELETE", "/repositories/team%2Fapp")',
    "sign out": 'await any("DELETE", "/sessions/current")',
    "Authorization": 'await any("GET", "/users", undefined, {Authorization: "Basic eDp4"})',
}
"""What a browser sends only where the registry says that it may, or whose answer it keeps to itself."""
SHOWN: Mapping[str, str] = {
    "image": "await shown(document.createElement('img'), 'src')",
    "script": "await shown(document.createElement('script'), 'src')",
    "style": "await shown(Object.assign(document.createElement('link'), {rel: 'stylesheet'}), 'href')",
    "frame": """const frame = document.createElement("iframe"); await shown(frame, "src");
        let body = null; try { body = frame.contentDocument } catch {} if (body) throw Error("readable")""",
    "fetch": """let answer = null; try { answer = await fetch(target, {credentials: "include"}) } catch {}
        if (answer) throw Error("readable")""",
    "opaque fetch": """const answer = await fetch(target, {mode: "no-cors", credentials: "include"});
        if (answer.type !== "opaque") throw Error(answer.type)""",
}
"""What reads; no page of another origin gets to see the answer."""
_KIT = """
const url = URL, api = `${url}/api/v1`, target = `${api}/users`;
const simple = (path, body) => fetch(path, {method: "POST", mode: "no-cors", credentials: "include", body});
const any = async (method, path, body, headers) => {
  const json = {"Content-Type": "application/json", ...headers};
  const given = {credentials: "include", method, body, headers: json};
  let answer = null; try { answer = await fetch(api + path, given) } catch {}
  if (answer) throw Error(`readable: ${answer.status}`);
};
const shown = (element, attribute) => new Promise(done => {
  element.onload = element.onerror = done; element[attribute] = target; document.body.append(element);
});
"""


@dataclass(frozen=True, slots=True)
class Victim:
    """A registry where ``page``, one of its own, has signed somebody in, and the addresses of other sites."""

    registry: Registry
    url: str
    evil: Mapping[str, str]
    context: BrowserContext
    page: Page
    password: str

    async def state(self) -> Any:
        """All that the database knows, but for what it notes of each request."""
        assert self.registry.services is not None
        rows = {}
        async with self.registry.services.database.read() as connection:
            tables = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
            for (table,) in tables.all():
                found = (await connection.execute(text(f"SELECT * FROM {table}"))).mappings().all()
                noted = _NOTED.get(table, ())
                rows[table] = [{k: v for k, v in row.items() if k not in noted} for row in found]
        rows["events"] = [row for row in rows["events"] if row["decision"] != "refused"]
        return rows

    async def status(self, page: Page, script: str) -> int:
        """Run this, which sends one request, in the page. The status of the answer; 0 where the browser keeps
        it to itself."""
        ended: asyncio.Queue[Request] = asyncio.Queue()

        def end(request: Request) -> None:
            if request.url.startswith(self.url):
                ended.put_nowait(request)

        for event in ("requestfinished", "requestfailed"):
            page.on(event, end)
        kit = _KIT.replace("URL", repr(self.url), 1)
        await page.evaluate(f"async () => {{ {kit} {_FORM} {script.replace('PASSWORD', self.password)} }}")
        response = await (await ended.get()).response()
        for event in ("requestfinished", "requestfailed"):
            page.remove_listener(event, end)
        assert ended.empty()
        return 0 if response is None else response.status


@asynccontextmanager
async def other_site() -> AsyncIterator[TestServer]:
    """An empty page, the same without an origin of its own, and a detour that keeps method and body."""

    async def page(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": "sandbox allow-scripts allow-forms"}
        return web.Response(
            text="<!doctype html><title>other</title><body>",
            content_type="text/html",
            headers=headers if request.path == "/sandboxed" else {},
        )

    async def detour(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": request.query["to"]})

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/sandboxed", page)
    app.router.add_post("/detour", detour)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


@asynccontextmanager
async def victim(chromium: Browser, folder: Path, database: Path, place: str) -> AsyncIterator[Victim]:
    """Start a registry at such a place and sign in."""
    port = free_port()
    host = "127.0.0.1" if place == "loopback" else "registry.test"
    url = f"{'https' if place == 'https' else 'http'}://{host}:{port}"
    folder.mkdir(exist_ok=True)
    (folder / "seatrial.db").write_bytes(database.read_bytes())
    settings = {"listen": f"127.0.0.1:{port}", "external_url": url}
    if place == "https":
        settings["tls"] = "self-signed"
    async with (
        running_registry(folder, f"sqlite:///{folder / 'seatrial.db'}", **settings) as registry,
        registry.client() as admin,
        other_site() as other,
        await chromium.new_context(ignore_https_errors=True) as context,
    ):
        await make_repository(admin, "team/app")
        password = await make_user(admin, "other")
        page = await context.new_page()
        await page.goto(f"{url}/api/v1/openapi.json")
        body = {"name": ADMIN, "password": registry.token}
        assert await from_own_page(page, "POST", "/sessions", body) == 201
        elsewhere = f"http://evil.test:{other.port}"
        evil = {
            "neighbour": f"http://{host}:{other.port}/",
            "elsewhere": f"{elsewhere}/",
            "sandboxed": f"{elsewhere}/sandboxed",
        }
        yield Victim(registry, url, evil, context, page, password)


async def from_own_page(page: Page, method: str, path: str, body: object = None) -> int:
    """The status that a page of the registry gets."""
    send = """async ([method, path, body]) => {
        const json = body && {headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
        return (await fetch(`/api/v1${path}`, {method, ...json})).status }"""
    return int(await page.evaluate(send, [method, path, body]))


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_changes_and_nothing_is_read(
    chromium: Browser, tmp_path: Path, sqlite_template: Path, place: str
) -> None:
    async with victim(chromium, tmp_path / "data", sqlite_template, place) as found:
        before = await found.state()
        wrong = []
        for kind, address in found.evil.items():
            page = await found.context.new_page()
            await page.goto(address)
            for name, script in (SHOWN | WRITES | HIDDEN).items():
                status = await found.status(page, script)
                # Who has the cookie is told that it does not count, whatever else is wrong with what came.
                has_cookie = kind == "neighbour" and name not in COOKIELESS
                refused = (403,) if has_cookie else (400, 401, 403)
                if (name in WRITES and status not in refused) or (name in HIDDEN and status):
                    wrong.append((kind, name, status))
                if name == "opaque fetch":
                    # Where nothing tells another site's page apart, a neighbour has the cookie with it.
                    seen = {"neighbour": 200}.get(kind, 401) if place == "http" else 403
                    assert status == seen, kind
            assert await found.state() == before, kind
        assert wrong == []
        # The session was good all the time: the same from a page of the registry.
        assert await from_own_page(found.page, "POST", "/users", {"name": "mallory", "admin": True}) == 201
        assert await from_own_page(found.page, "PATCH", "/repositories/team%2Fapp", {"gate": "warn"}) == 200
        assert await found.state() != before
        assert await from_own_page(found.page, "DELETE", "/sessions/current") == 204
        assert await from_own_page(found.page, "GET", "/sessions") == 401


async def test_a_browser_is_never_asked_for_a_password(
    chromium: Browser, tmp_path: Path, sqlite_template: Path
) -> None:
    """One that was told it once would add it to what other sites' pages send, without TLS unmarked."""
    given: list[str | None] = []
    async with victim(chromium, tmp_path / "data", sqlite_template, "http") as found:
        known = {"username": ADMIN, "password": found.registry.token}
        async with await chromium.new_context(http_credentials=known) as context:
            page = await context.new_page()
            page.on("request", lambda request: given.append(request.headers.get("authorization")))
            for path in (
                "/v2/",
                "/v2/_catalog",
                "/v2/team/app/tags/list",
                "/token?service=seatrial&offline_token=true",
                "/token?service=seatrial&scope=repository:team/app:push",
                "/api/v1/users",
            ):
                await page.goto(f"{found.url}{path}")
    assert given == [None] * 6
