"""How a request to a page becomes one call of a handler.

A page asks what the API asks: its handler calls the functions of :mod:`registry.http.api`, with who asks, and
draws what they give. So a page shows nothing, and does nothing, that the API would refuse.

Pages are read by navigating, also from other sites; what changes something comes from a form of a page here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from registry.auth.actor import ANONYMOUS, Actor
from registry.errors import (
    DeniedError,
    MediaTypeUnsupportedError,
    NotFoundError,
    RequestInvalidError,
    SeatrialError,
    UnauthorizedError,
)
from registry.http.api.models import Body, Query, problems
from registry.http.api.routes import Call, Right, carried_out, require_right
from registry.http.body import leave_expectation, read_all
from registry.http.caller import know
from registry.http.cookies import SAFE, authenticate_caller, clear_session, is_from_own_page
from registry.http.services import SERVICES
from registry.oci.conditions import NO_CONDITIONS, Conditions, EntityTags
from registry.pages.refilling import SEEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.http.services import Services

B = TypeVar("B", bound=Body)
M = TypeVar("M", bound=BaseModel)
FORM_MAX_BYTES = 256 * 1024
_FIELDS_MAX = 200
_LOCAL_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", re.ASCII)
_FORM_TYPE = "application/x-www-form-urlencoded"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="seatrial"'}
"""No Basic challenge: a browser would ask for a password in a window of its own."""

Fields = Mapping[str, str]
COMPONENT = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
NAME = f"{{name:{COMPONENT}(?:/{COMPONENT})*}}"
"""A repository's name in a path. What follows it begins with ``/-/``, which no name has."""
IS_NEW = Conditions(if_none_match=EntityTags(is_any=True, strong=frozenset(), weak=frozenset()))
"""There is no such thing yet."""
ACCOUNT = "[a-z0-9][a-z0-9._-]*"
"""A name of a user, a group, an issuer or a robot in its namespace, in a path."""


class CursorQuery(Query):
    """Which part of a list."""

    cursor: str | None = Field(default=None, max_length=1024)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One row of the table of pages. ``asks_who``: false for what is the same for everybody, and for who
    signs in or out; no credential is looked at.

    ``stands_on``: the page that the form stands on, which comes again where the form is refused; its query is
    made of the fields ``asked``."""

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    right: Right = "anyone"
    asks_who: bool = True
    stands_on: Handler | None = None
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A form that was sent, once it is read: by which row of the table, and its fields."""

    route: PageRoute
    fields: dict[str, str]


SENT = web.RequestKey("sent", Sent)


class FormInvalidError(RequestInvalidError):
    """A form that is not valid: ``names`` are its fields in which something is wrong."""

    def __init__(self, message: str, *, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = names


def add_routes(app: web.Application, table: Sequence[PageRoute]) -> None:
    """Serve the pages of ``table``."""
    for route in table:
        app.router.add_route(route.method, route.path, _served(route), expect_handler=leave_expectation)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _served(route))


def _served(route: PageRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        database = request.app[SERVICES].database
        # PostgreSQL takes no NUL, and nothing here has a name with one.
        if any("\0" in value for value in request.match_info.values()):
            raise RequestInvalidError("the address has a NUL character")
        try:
            epoch = 0
            try:
                actor, is_over = await find_visitor(request, route)
            except UnauthorizedError:
                if route.method == "POST":
                    # His session may be over: what he typed is shown to him.
                    with suppress(SeatrialError):
                        request[SENT] = Sent(route, await _form(request))
                raise
            if route.method == "POST":
                request[SENT] = Sent(route, await _form(request))
                # Whoever sends it slowly may have lost his rights since.
                epoch = (await database.epochs()).access
                actor, _ = await find_visitor(request, route)
            elif route.stands_on is not None:
                request[SENT] = Sent(route, dict(request.query))

            async def attempt(services: Services) -> web.StreamResponse:
                call = Call(request=request, response=web.Response(), services=services, actor=actor)
                return await route.handler(call)

            if route.method == "GET":
                response = await attempt(request.app[SERVICES])
                if is_over and not response.prepared:
                    clear_session(request, response)
                return response
            return await carried_out(request, request.app[SERVICES], actor, attempt, epoch=epoch)
        except UnauthorizedError as error:
            raise UnauthorizedError(error.message, detail=error.detail, headers=_CHALLENGE) from None

    return serve


def read_form(call: Call) -> Fields:
    """The fields of the form that was sent; what was left empty is not among them."""
    return {name: value for name, value in call.request[SENT].fields.items() if value}


def field(fields: Fields, name: str) -> str:
    """A field that has to be there.

    Raises:
        RequestInvalidError: it is not.
    """
    if name not in fields:
        raise FormInvalidError(f"{name} is missing", names=[name])
    return fields[name]


def given_body(kind: type[B], **members: object) -> B:
    """What the API would be sent, of the fields of a form; what is ``None`` is left out.

    Raises:
        RequestInvalidError: it is not valid, and why.
    """
    return as_body(kind, {name: value for name, value in members.items() if value is not None})


def as_body(kind: type[M], members: Mapping[str, object]) -> M:
    """The same with all that is given, also what is ``None``, which the API tells from what is left out; or
    what it would be asked by a query.

    Raises:
        RequestInvalidError: it is not valid, and why.
    """
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        names = [str(problem["loc"][0]) for problem in error.errors() if len(problem["loc"]) == 1]
        raise FormInvalidError(f"the form is not valid: {problems(error)}", names=names) from None


def is_whole(words: str, digits: int = 18) -> bool:
    """Whether it is a whole number from 0 with so many digits at most: a database takes 18."""
    return words.isascii() and words.isdigit() and len(words) <= digits


def whole_number(fields: Fields, name: str, *, least: int = 0, most: int | None = None) -> int | None:
    """A field with a whole number from ``least`` to ``most``; ``None``: it was left empty.

    Raises:
        FormInvalidError: it has something else.
    """
    words = fields.get(name, "").strip()
    if not words:
        return None
    is_small = is_whole(words) if most is None else is_whole(words, len(str(most))) and int(words) <= most
    if not is_small or int(words) < least:
        within = "" if most is None else f" from {least} to {most}"
        raise FormInvalidError(f"{name}: {words[:40]!r} is no whole number{within}", names=[name])
    return int(words)


def needed_number(fields: Fields, name: str, *, least: int, most: int) -> int:
    """The same of a field that may not be left empty."""
    found = whole_number(fields, name, least=least, most=most)
    if found is None:
        raise FormInvalidError(f"{name} is missing", names=[name])
    return found


def utc_time(words: str | None) -> str | None:
    """What a browser sends of a date and a time that somebody chose, as the API takes it. Forms say that it
    is of UTC: without a script nobody knows the reader's zone."""
    return f"{words}Z" if words is not None and _LOCAL_TIME.fullmatch(words) else words


def require_confirmed(fields: Fields, name: str) -> None:
    """Let what cannot be taken back be done to the thing of that name: whoever sent the form typed it.

    Raises:
        RequestInvalidError: something else was typed, or nothing.
    """
    if fields.get("confirm") != name:
        raise FormInvalidError(
            f"nothing was done: type {name} to confirm that you mean it", names=["confirm"]
        )


def unchanged(etag: str) -> Conditions:
    """What a form was drawn of still stands as it did: what somebody else made of it in between is neither
    overwritten nor taken away."""
    return Conditions(if_match=EntityTags(is_any=False, strong=frozenset({etag}), weak=frozenset()))


class UnsureError(RequestInvalidError):
    """A form that does what cannot be undone, sent by a button: ``question`` is asked on a page of its own,
    with what it ``comes_to``."""

    def __init__(self, question: str, *, comes_to: str) -> None:
        super().__init__("nothing was done: this cannot be undone; send the form with sure=yes")
        self.question = question
        self.comes_to = comes_to


def require_sure(fields: Fields, question: str, *, comes_to: str) -> None:
    """Let something be done that cannot be undone, but that a name need not be typed for.

    Raises:
        UnsureError: nobody has been asked yet.
    """
    if fields.get("sure") != "yes":
        raise UnsureError(question, comes_to=comes_to)


def as_seen(call: Call) -> Conditions:
    """That what a form was drawn of still stands as its page showed it: the form has its entity tag, an empty
    one where there was nothing. A form without one does not mind."""
    seen = call.request[SENT].fields.get(SEEN)
    if seen is None:
        return NO_CONDITIONS
    return unchanged(seen) if seen else IS_NEW


def rows_sent(call: Call, row: str) -> int:
    """How many rows the form had that was refused, whose fields are named as in ``keep-0-last``: there is to
    be room for each when its page comes again."""
    sent = call.request.get(SENT)
    numbers = [name.split("-", 2)[1] for name in (sent.fields if sent else ()) if name.startswith(f"{row}-")]
    return max((int(number) + 1 for number in numbers if is_whole(number, 3)), default=0)


def switches_off(fields: Fields) -> bool:
    """Whether a button disables what it stands beside, or enables it. It says which: sent twice, or of a page
    that is old, it does not do the opposite.

    Raises:
        RequestInvalidError: it says neither.
    """
    to = field(fields, "to")
    if to not in ("on", "off"):
        raise RequestInvalidError("to: on or off")
    return to == "off"


def require_here(*, is_here: bool, what: str) -> None:
    """Let something be done to a thing that the address of a form names: it belongs to what its page is
    about.

    Raises:
        NotFoundError: it does not.
    """
    if not is_here:
        raise NotFoundError(f"there is no such {what} here")


def moved(call: Call, path: str) -> web.Response:
    """Send the browser on after a form, with the cookies that the call's response has by now."""
    response = call.response
    response.set_status(303)
    response.headers["Location"] = path
    response.headers["Cache-Control"] = "no-store"
    return response


async def find_visitor(request: web.Request, route: PageRoute) -> tuple[Actor, bool]:
    """Who asks, and whether his session is over: then he reads what a stranger reads.

    Raises:
        DeniedError: a worker, or another site's page that wants to change something.
        UnauthorizedError: credentials that are not valid.
    """
    reads = request.method in SAFE
    if not reads and is_from_own_page(request) is False:
        raise DeniedError("another site's page may change nothing here")
    if not route.asks_who:
        return ANONYMOUS, False
    try:
        actor = await authenticate_caller(request)
        is_over = False
    except UnauthorizedError:
        if not reads or "Authorization" in request.headers:
            raise
        know(request, ANONYMOUS)
        actor, is_over = ANONYMOUS, True
    require_right(actor, route.right)
    return actor, is_over


async def _form(request: web.Request) -> dict[str, str]:
    if request.query_string:
        # Nothing of it would be looked at before something is done.
        raise RequestInvalidError("a page's form is sent to an address without a query")
    if not request.can_read_body:
        return {}
    if request.content_type != _FORM_TYPE or "Content-Encoding" in request.headers:
        raise MediaTypeUnsupportedError(f"a page's form is sent as {_FORM_TYPE}")
    raw = await read_all(request, FORM_MAX_BYTES)
    if not raw:
        return {}
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        raise RequestInvalidError("the form cannot be read") from None
    if len({name for name, _ in pairs}) != len(pairs) or any("\0" in value for _, value in pairs):
        raise RequestInvalidError("a field of the form is there twice, or has a NUL character")
    # A browser ends lines with both; nobody types the first.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
