"""Pages as a visitor without a browser reads them: a session by its cookie, and forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

import aiohttp

from tests.kit.access import Answer, ask
from tests.kit.plans import sent
from tests.kit.server import ADMIN, Registry

QUERIES_MAX = 6
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def words_of(answer: Answer) -> str:
    """What a page says, without its markup."""
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8", answer.body[:500]
    parser = _Words()
    parser.feed(answer.body.decode())
    return " ".join(parser.words)


def seen_of(page: bytes) -> str:
    """Of what the first form of a page that sets something was drawn."""
    seen, *_ = re.findall('name="seen" value="([^"]+)"', page.decode())
    return str(seen)


async def read(client: aiohttp.ClientSession, path: str) -> Answer:
    """Read a page twice, and count what the second time asks of the database."""
    await ask(client, "GET", path)
    with sent() as statements:
        answer = await ask(client, "GET", path)
    assert answer.status == 200, answer.body[-1500:]
    assert len(statements) <= QUERIES_MAX, (path, [one.text for one in statements])
    assert b"<script>" not in answer.body
    return answer


def visitor(registry: Registry) -> aiohttp.ClientSession:
    """A client with a jar for cookies and none of anybody's credentials."""
    jar = aiohttp.CookieJar(unsafe=True)  # the registry's host is an address
    return aiohttp.ClientSession(registry.url, headers=HTML, cookie_jar=jar)


async def sign_in(
    client: aiohttp.ClientSession, registry: Registry, *, name: str = ADMIN, password: str | None = None
) -> Answer:
    """Send the form of the page for signing in."""
    return await send(client, registry, "/sign-in", name=name, password=password or registry.token)


async def send(client: aiohttp.ClientSession, registry: Registry, path: str, **fields: str) -> Answer:
    """Send a form as a page of the registry does, also as the one that asks whether it is meant; where that
    leads is not followed."""
    return await send_from(client, {"Origin": registry.url}, path, **{"sure": "yes", **fields})


async def send_from(
    client: aiohttp.ClientSession, headers: Mapping[str, str], path: str, **fields: str
) -> Answer:
    """The same with other headers."""
    data = fields or b""
    return await ask(client, "POST", path, data=data, headers=headers, allow_redirects=False)
