"""How a request to ``/api/v1`` becomes one call of a use case.

A noun's module declares ``ROUTES``: method, path, the right needed, the handler. A handler takes a
:class:`Call` and returns a JSON value, ``None`` for an answer without content, or a response of its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from registry.auth.access import require_admin
from registry.auth.actor import ANONYMOUS, Actor
from registry.contract.runspec import RunSpec, parse_run_spec
from registry.errors import (
    DeniedError,
    MediaTypeUnsupportedError,
    PaginationInvalidError,
    RequestInvalidError,
    UnauthorizedError,
)
from registry.http.body import leave_expectation, read_all
from registry.http.cookies import authenticate_caller, is_from_own_page
from registry.http.parsers import PARSERS
from registry.http.services import SERVICES, Services
from registry.oci.strictjson import JsonInvalidError, parse_json_object

PREFIX = "/api/v1"
MAX_BODY_BYTES = 256 * 1024
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
T = TypeVar("T", bound="Body")

Right = Literal["admin", "user", "anyone", "signing"]
"""``admin``: manages the registry. ``user``: an account of a person. ``anyone``: the use case decides, by the
repository's rights. ``signing``: whoever signs in or out; no credential is looked at before."""


class Body(BaseModel):
    """A request's body: JSON, strict, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose sender is known and has the route's right."""

    request: web.Request
    services: Services
    actor: Actor

    def path(self, name: str) -> str:
        """A part of the path.

        Raises:
            RequestInvalidError: it has a NUL.
        """
        return _plain(self.request.match_info[name], name)

    def query(self, *known: str) -> dict[str, str]:
        """The query parameters, each once and none that is not in ``known``.

        Raises:
            RequestInvalidError: with the name that is wrong.
        """
        found: dict[str, str] = {}
        for name, value in self.request.query.items():
            if name not in known:
                raise RequestInvalidError(
                    f"there is no parameter {name[:80]!r}; known are {', '.join(known) or 'none'}"
                )
            if name in found:
                raise RequestInvalidError(f"the parameter {name!r} is given twice")
            found[name] = _plain(value, name)
        return found

    async def body(self, kind: type[T]) -> T:
        """The body.

        Raises:
            MediaTypeUnsupportedError, ContentTooLargeError: not JSON, or too much of it.
            RequestInvalidError: each key that is wrong, and why.
        """
        if self.request.content_type != "application/json" or "Content-Encoding" in self.request.headers:
            raise MediaTypeUnsupportedError("the body must be application/json, not compressed")
        raw = await read_all(self.request, MAX_BODY_BYTES)
        try:
            parse_json_object(raw)
            return kind.model_validate_json(raw)
        except JsonInvalidError as error:
            raise RequestInvalidError(f"the body cannot be read: {error}") from None
        except ValidationError as error:
            raise RequestInvalidError(f"the body is not valid: {problems(error)}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for: at most ``limit`` entries, those after the key ``after``."""

    limit: int
    after: str | None

    def answer(
        self, items: Sequence[Any], *, key: Callable[[Any], str], show: Callable[[Any], object]
    ) -> object:
        """One page from up to ``limit + 1`` entries; ``next`` is the cursor of the following one, or null."""
        more = len(items) > self.limit
        shown = items[: self.limit]
        return {"items": [show(item) for item in shown], "next": key(shown[-1]) if more else None}


Handler = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table; ``path`` comes after ``/api/v1``."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    right: Right
    handler: Handler
    status: int = 200


def _plain(text: str, name: str) -> str:
    # PostgreSQL takes no NUL, and nothing here has a name with one.
    if "\0" in text:
        raise RequestInvalidError(f"{name} has a NUL character")
    return text


def page(query: dict[str, str]) -> Page:
    """The page that ``limit`` and ``cursor`` of a query ask for.

    Raises:
        PaginationInvalidError: ``limit`` is not a number of entries.
    """
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= MAX_LIMIT):
        raise PaginationInvalidError(f"limit must be a number from 1 to {MAX_LIMIT}")
    return Page(limit=int(text), after=query.get("cursor"))


async def given_run_spec(call: Call, given: dict[str, Any] | str | None) -> RunSpec | None:
    """The run spec that a body holds as an object or as YAML, if it holds one; a large one takes seconds.

    Raises:
        RequestInvalidError: it is not valid.
    """
    if given is None:
        return None
    text = given if isinstance(given, str) else json.dumps(given)
    return await call.request.app[PARSERS].run(parse_run_spec, text)


def shown_time(at: datetime | None) -> str | None:
    """A time on the wire: RFC 3339, UTC."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def problems(error: ValidationError) -> str:
    """What is wrong with a document: each place and why, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    places = [".".join(str(part) for part in problem["loc"]) or "body" for problem in found]
    reasons = [problem["msg"].removeprefix("Value error, ") for problem in found]
    return "; ".join(f"{place}: {reason}" for place, reason in list(zip(places, reasons, strict=True))[:10])


def add_routes(app: web.Application, table: Sequence[Route]) -> None:
    """Serve the routes of ``table`` under ``/api/v1``."""
    for route in table:
        app.router.add_route(
            route.method, PREFIX + route.path, _served(route), expect_handler=leave_expectation
        )


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            actor = await _authorized(request, route.right)
            answer = await route.handler(Call(request=request, services=request.app[SERVICES], actor=actor))
        except UnauthorizedError as error:
            # No Basic challenge: a browser would ask for a password in a window of its own.
            challenge = {"WWW-Authenticate": 'Bearer realm="seatrial API"'}
            raise UnauthorizedError(error.message, detail=error.detail, headers=challenge) from None
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is None:
            return web.Response(status=204)
        return web.Response(
            status=route.status,
            body=json.dumps(answer, ensure_ascii=True).encode(),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return serve


async def _authorized(request: web.Request, right: Right) -> Actor:
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        # A browser adds a password that it knows also to what another site's page sends.
        raise DeniedError("another site's page may not use this API")
    if right == "signing":
        if is_from_own_page(request) is False:
            raise DeniedError("another site's page may not sign anybody in or out")
        return ANONYMOUS
    actor = await authenticate_caller(request)
    if actor.kind == "worker":
        raise DeniedError("a worker's pull token opens the image of its lease and nothing else")
    if right == "admin":
        require_admin(actor)
    if right == "user" and actor.kind != "user":
        raise UnauthorizedError("sign in")
    return actor
