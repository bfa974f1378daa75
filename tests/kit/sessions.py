"""Words for tests about cookie sessions: a browser's cookie, and what a browser says of its pages."""

from __future__ import annotations

from http.cookies import SimpleCookie

import aiohttp

from tests.kit.access import Answer, ask

COOKIE = "seatrial"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


async def sign_in(nobody: aiohttp.ClientSession, name: str, password: str, **headers: str) -> Answer:
    """Sign in as a page of the registry does, whatever comes of it."""
    given = OWN_PAGE | {header.replace("_", "-"): value for header, value in headers.items()}
    body = {"name": name, "password": password}
    return await ask(nobody, "POST", "/api/v1/sessions", json=body, headers=given)


async def signed_in(
    nobody: aiohttp.ClientSession, name: str, password: str, **headers: str
) -> dict[str, str]:
    """Sign in; the headers of a page's next request."""
    answer = await sign_in(nobody, name, password, **headers)
    assert answer.status == 201, (answer.status, answer.body)
    return OWN_PAGE | {"Cookie": f"{COOKIE}={cookie_of(answer)}"}


def cookie_of(answer: Answer, name: str = COOKIE) -> str:
    """The value of the cookie that an answer sets."""
    return SimpleCookie(answer.headers["Set-Cookie"])[name].value
