"""How a request to ``/api/v1`` becomes one call of a use case, and how a noun adds a route.

A noun's module ends with ``ROUTES``, which :mod:`registry.http.api.table` lists: a row for each method and
path, with the right needed, the handler, and the errors that are this route's own. Everything else is
declared by the handler's signature, by which requests are read, answers written and the description of the
API (``/api/v1/openapi.json``) made::

    async def change_user(call: Call, name: AccountName, body: Change, conditions: Conditions) -> Account:
        ...

- The docstring's first line is the summary, the rest the description; the function's name is unique.
- ``call`` comes first. ``body`` is a :class:`Body` and ``query`` a :class:`Query` of typed fields (a list
  takes :class:`PageQuery` and returns ``query.page(found, key=…)``, where ``found`` has up to ``limit + 1``).
- ``conditions`` (PATCH, PUT, DELETE of one thing): If-Match and If-None-Match, for the use case to hold the
  locked row's entity tag against with ``conditions.require``. Without it such headers are refused.
- Every other parameter is a part of the path, with the type that :mod:`registry.http.api.fields` has for it.
- The answer is a frozen dataclass or an :class:`Answer` (explicit fields: nothing goes out that is not named
  there), ``Page[…]`` of one, ``Stored[…]`` for a PUT, or ``None`` (204). With a property ``etag`` it is
  sent as entity tag. Times are aware datetimes. ``call.response`` takes cookies.
- ``secrets`` of the row names the answer's fields that are shown once and that nobody may keep. A POST may be
  repeated with its ``Idempotency-Key``: its use case writes by ``call.services.database``, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from registry.auth.access import require_admin
from registry.auth.actor import ANONYMOUS, Actor
from registry.auth.lastlook import last_look
from registry.contract.runspec import RunSpec
from registry.contract.specfile import parse_run_spec
from registry.db.engine import Database
from registry.errors import (
    DeniedError,
    MediaTypeUnsupportedError,
    RequestInvalidError,
    SeatrialError,
    UnauthorizedError,
)
from registry.http.again import again_if_broken_off
from registry.http.api import once
from registry.http.api.models import Body, Nothing, Query, Stored, Versioned, problems
from registry.http.api.shape import Handler, Shape, shape_of
from registry.http.body import leave_expectation, read_all
from registry.http.conditions import is_known, parse_conditions
from registry.http.cookies import OWN_SITES, authenticate_caller, is_from_own_page
from registry.http.parsers import PARSERS
from registry.http.services import SERVICES, Services
from registry.oci.strictjson import JsonInvalidError, parse_json_object

PREFIX = "/api/v1"
MAX_BODY_BYTES = 256 * 1024
B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)

Right = Literal["admin", "user", "account", "anyone", "signing"]
"""``admin``: manages the registry. ``user``: an account of a person. ``account``: of a person or a robot.
``anyone``: the use case decides, by the repository's rights. ``signing``: whoever signs in or out; no
credential is looked at before."""
_KINDS: Mapping[Right, tuple[str, ...]] = MappingProxyType({"user": ("user",), "account": ("user", "robot")})


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose sender is known and has the route's right; ``response`` is for cookies and headers."""

    request: web.Request
    response: web.Response
    services: Services
    actor: Actor


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table; ``path`` comes after ``/api/v1``."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    right: Right
    handler: Handler
    status: int = 200
    errors: tuple[type[SeatrialError], ...] = ()
    secrets: tuple[str, ...] = ()
    media_type: str = "application/json"
    tagged: bool = False
    """Of a GET: the answer has the digest of its bytes as entity tag, and whoever has it is told so (304)."""


async def given_run_spec(app: web.Application, given: Mapping[str, Any] | str | None) -> RunSpec | None:
    """The run spec that a body holds as an object or as YAML, if it holds one; a large one takes seconds.

    Raises:
        RequestInvalidError: it is not valid.
    """
    if given is None:
        return None
    text = given if isinstance(given, str) else json.dumps(given)
    return await app[PARSERS].run(parse_run_spec, text)


def add_routes(app: web.Application, table: Sequence[Route]) -> None:
    """Serve the routes of ``table`` under ``/api/v1``."""
    for route in table:
        app.router.add_route(
            route.method, PREFIX + route.path, _served(route), expect_handler=leave_expectation
        )


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    shape = shape_of(route.handler)

    async def serve(request: web.Request) -> web.StreamResponse:
        database = request.app[SERVICES].database
        try:
            epoch = 0 if route.method == "GET" else (await database.epochs()).access
            actor = await _authorized(request, route.right)
            arguments, body = await _given(request, shape)
            if body:
                # Whoever sends it slowly may have lost his rights since.
                epoch = (await database.epochs()).access
                actor = await _authorized(request, route.right)

            async def attempt(services: Services) -> web.StreamResponse:
                response = web.Response(status=204, headers={"Cache-Control": "no-store"})
                call = Call(request=request, response=response, services=services, actor=actor)
                answer = await route.handler(call, **arguments)
                if isinstance(answer, web.Response):
                    response = answer
                elif isinstance(answer, web.StreamResponse):
                    return answer
                elif shape.answer is not None:
                    _fill(response, route, _writer_of(shape.answer), answer)
                return _tagged(request, response) if route.tagged else response

            async def carry_out(services: Services) -> web.StreamResponse:
                if route.method == "GET":
                    return await attempt(services)
                return await carried_out(request, services, actor, attempt, epoch=epoch)

            if route.method == "POST" and once.HEADER in request.headers:
                return await once.answer_once(request, actor, body, carry_out, secrets=route.secrets)
            return await carry_out(request.app[SERVICES])
        except UnauthorizedError as error:
            # No Basic challenge: a browser would ask for a password in a window of its own.
            challenge = {"WWW-Authenticate": 'Bearer realm="seatrial API"'}
            raise UnauthorizedError(error.message, detail=error.detail, headers=challenge) from None

    return serve


async def carried_out(
    request: web.Request,
    services: Services,
    actor: Actor,
    attempt: Callable[[Services], Awaitable[web.StreamResponse]],
    *,
    epoch: int,
) -> web.StreamResponse:
    """Do what changes something: each transaction of ``attempt`` begins with a last look at the actor's
    rights, as they were at the access epoch ``epoch``, and one that the database broke off comes again."""
    if actor.account_id is None:
        return await attempt(services)
    look = last_look(request.app[SERVICES].database, actor, epoch=epoch)

    async def looking(own: Database) -> web.StreamResponse:
        oidc = replace(services.oidc, database=own)
        return await attempt(replace(services, database=own, oidc=oidc))

    return await again_if_broken_off(request, lambda: services.database.beginning_with(look), looking)


@cache
def _writer_of(answer: Any) -> TypeAdapter[object]:
    # To make one takes longer than many answers: the first makes it, for all routes that give the same.
    return TypeAdapter(answer)


def _fill(response: web.Response, route: Route, writer: TypeAdapter[object], answer: object) -> None:
    status = route.status
    if isinstance(answer, Stored):
        status, answer = 201 if answer.is_new else 200, answer.thing
    if isinstance(answer, Versioned):
        response.headers["ETag"] = f'"{answer.etag}"'
    response.set_status(status)
    response.body = writer.dump_json(answer, ensure_ascii=True)
    response.content_type = route.media_type


def _tagged(request: web.Request, response: web.Response) -> web.Response:
    """The answer with its entity tag, or 304 for who has it already. It may be kept, and is asked for again
    each time: who asks may have lost his rights."""
    assert isinstance(response.body, bytes)
    tag = hashlib.sha256(response.body).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if is_known(request, tag):
        return web.Response(status=304, headers=headers)
    response.headers.update(headers)
    return response


async def _authorized(request: web.Request, right: Right) -> Actor:
    if any(site not in OWN_SITES for site in request.headers.getall("Sec-Fetch-Site", ())):
        # A browser adds a password that it knows also to what another site's page sends.
        raise DeniedError("another site's page may not use this API")
    if right == "signing":
        if is_from_own_page(request) is False:
            raise DeniedError("another site's page may not sign anybody in or out")
        return ANONYMOUS
    actor = await authenticate_caller(request)
    require_right(actor, right)
    return actor


def require_right(actor: Actor, right: Right) -> None:
    """Let pass who has a route's right.

    Raises:
        UnauthorizedError, DeniedError: the actor has not.
    """
    if actor.kind == "worker":
        raise DeniedError("a worker's pull token opens the image of its lease and nothing else")
    if right == "admin":
        require_admin(actor)
    if actor.kind not in _KINDS.get(right, (actor.kind,)):
        if actor.kind != "anonymous":
            raise DeniedError(f"{actor.shown} is no person, and this is for people")
        raise UnauthorizedError("sign in")


async def _given(request: web.Request, shape: Shape) -> tuple[dict[str, object], bytes]:
    """What the handler is called with, beside the call; and the body as it came.

    Raises:
        RequestInvalidError: a part of the path, a parameter or a key that is wrong, and why.
        MediaTypeUnsupportedError, ContentTooLargeError: a body that is not JSON, or too much of it.
    """
    given: dict[str, object] = {name: _plain(request.match_info[name], name) for name in shape.path}
    query = read_query(request, shape.query)
    if shape.query is not Query:
        given["query"] = query
    if shape.is_conditional:
        given["conditions"] = parse_conditions(request)
    elif request.method != "GET" and ("If-Match" in request.headers or "If-None-Match" in request.headers):
        raise RequestInvalidError("this address knows no If-Match and no If-None-Match; nothing was changed")
    if shape.body is Nothing and not request.can_read_body:
        return given, b""
    raw = await _read(request)
    body = _body(raw, shape.body)
    if shape.body is not Nothing:
        given["body"] = body
    return given, raw


def read_query(request: web.Request, kind: type[Q], *, leaves_out_empty: bool = False) -> Q:
    """The query of a request. A form of a page has each of its fields, also those that nobody filled in: they
    can be left out.

    Raises:
        RequestInvalidError: a parameter that is unknown, given twice or not valid.
    """
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if leaves_out_empty and not value:
            continue
        if name not in kind.model_fields:
            known = ", ".join(kind.model_fields) or "none"
            raise RequestInvalidError(f"there is no parameter {name[:80]!r}; known are {known}")
        if name in found:
            raise RequestInvalidError(f"the parameter {name!r} is given twice")
        found[name] = _plain(value, name)
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise RequestInvalidError(f"the query is not valid: {problems(error)}") from None


async def _read(request: web.Request) -> bytes:
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise MediaTypeUnsupportedError("the body must be application/json, not compressed")
    return await read_all(request, MAX_BODY_BYTES)


def _body(raw: bytes, kind: type[B]) -> B:
    try:
        _refuse_nul(parse_json_object(raw))
        return kind.model_validate_json(raw)
    except JsonInvalidError as error:
        raise RequestInvalidError(f"the body cannot be read: {error}") from None
    except ValidationError as error:
        raise RequestInvalidError(f"the body is not valid: {problems(error)}") from None


def _plain(text: str, name: str) -> str:
    # PostgreSQL takes no NUL, and nothing here has a name with one.
    if "\0" in text:
        raise RequestInvalidError(f"{name} has a NUL character")
    return text


def _refuse_nul(value: object) -> None:
    if isinstance(value, str):
        _plain(value, "the body")
    elif isinstance(value, dict):
        _refuse_nul([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            _refuse_nul(item)
