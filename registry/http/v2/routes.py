"""The declared table of the distribution API, and the one entry that dispatches through it.

The table is the source of the access matrix, of the metrics' labels and of the reference page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.auth.access import require_writable
from registry.auth.owners import require_or_tell
from registry.auth.scopes import Scope
from registry.content import repositories as repos
from registry.errors import DeniedError, NameUnknownError, SeatrialError, UnauthorizedError, UnsupportedError
from registry.http.answers import known_blob
from registry.http.authentication import authenticate, challenge
from registry.http.limits import RUNNING_UPLOADS
from registry.http.middleware import ROUTE
from registry.http.services import SERVICES
from registry.http.v2 import blobs, extensions, listings, manifests, uploads
from registry.http.v2.call import Call
from registry.http.v2.path import Keyword, Target, parse_path
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from registry.auth.policy import Action


@dataclass(frozen=True, slots=True)
class Route:
    """One row: methods of a keyword, the right they need in the repository (``None``: the handler asks by
    itself), and who handles them."""

    keyword: Keyword
    methods: tuple[str, ...]
    action: Action | None
    handler: Callable[[Call], Awaitable[web.StreamResponse]]


_READ = ("GET", "HEAD")
_WITH_BODY = ("PATCH", "POST", "PUT")
ROUTES: tuple[Route, ...] = (
    Route("base", _READ, None, listings.show_base),
    Route("catalog", _READ, None, listings.show_catalog),
    Route("tags", _READ, "pull", listings.show_tags),
    Route("referrers", _READ, "pull", listings.show_referrers),
    Route("extensions", _READ, None, extensions.discover),
    Route("repository-extensions", _READ, "pull", extensions.discover_in),
    Route("tag-history", _READ, "pull", extensions.show_tag_history),
    Route("manifests", _READ, "pull", manifests.read),
    Route("manifests", ("PUT",), "push", manifests.put),
    Route("manifests", ("DELETE",), "delete", manifests.delete),
    Route("blobs", _READ, "pull", blobs.read),
    Route("blobs", ("DELETE",), "delete", blobs.delete),
    Route("uploads", ("POST",), "push", uploads.start),
    Route("upload", _READ, "push", uploads.show),
    Route("upload", ("PATCH",), "push", uploads.append),
    Route("upload", ("PUT",), "push", uploads.finish),
    Route("upload", ("DELETE",), "push", uploads.cancel),
)
_OPEN_TO_WORKERS: frozenset[Keyword] = frozenset({"base", "manifests", "blobs"})
_ASKED_TOGETHER: dict[Action, frozenset[str]] = {
    "pull": frozenset({"pull"}),
    "push": frozenset({"pull", "push"}),
    "delete": frozenset({"pull", "delete"}),
}


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Answer any request below ``/v2/``: find its row, ask for its right, call its handler."""
    request[ROUTE] = "v2:unknown"
    target = parse_path(request.rel_url.raw_path)
    request[ROUTE] = f"v2:{target.keyword}"
    route = _find(target.keyword, request.method)
    services = request.app[SERVICES]
    if route.handler is blobs.read and (known := await known_blob(request)) is not None:
        return await blobs.send(request, known)
    scopes = _scopes(request, target, route)
    epochs = await services.database.epochs()
    actor = await authenticate(request, scopes=scopes)
    try:
        repository = None if route.action is None else await repos.find(services.database, target.name)
        call = Call(request, services, actor, target.name, target.reference, repository, epochs)
        if route.action is not None:
            await _require_right(call, route.action, target.keyword)
            if request.method not in _READ:
                require_writable(read_only=services.settings.read_only)
        if request.method not in _WITH_BODY:
            return await route.handler(call)
        with request.app[RUNNING_UPLOADS].one_more(actor):
            return await route.handler(call)
    except UnauthorizedError as error:
        reason = "insufficient_scope" if actor.from_registry_token else None
        error.headers = challenge(request, scopes, error=reason)
        raise


def _find(keyword: Keyword, method: str) -> Route:
    rows = [row for row in ROUTES if row.keyword == keyword]
    for row in rows:
        if method in row.methods:
            return row
    allowed = ", ".join(sorted({name for row in rows for name in row.methods}))
    raise UnsupportedError(f"this address takes {allowed}", headers={"Allow": allowed})


async def _require_right(call: Call, action: Action, keyword: Keyword) -> None:
    actor, visibility = call.actor, call.repository.visibility if call.repository else None
    try:
        await require_or_tell(call.services.database, actor, action, call.name, visibility)
    except DeniedError:
        if call.request.method == "HEAD" and (call.name, "push") in actor.refused:
            # What a push asks first: nobody could read why, and the POST that follows is told in words.
            raise NameUnknownError("there is no such repository") from None
        raise
    if actor.kind == "worker" and keyword not in _OPEN_TO_WORKERS:
        raise DeniedError("a worker's pull token opens the image of its lease and nothing else")


def _scopes(request: web.Request, target: Target, route: Route) -> list[Scope]:
    """What a token must cover for this request; a mount also reads where it mounts from."""
    if target.keyword == "catalog":
        return [Scope("registry", "catalog", frozenset({"*"}))]
    if route.action is None:
        return []
    scopes = [Scope("repository", target.name, _ASKED_TOGETHER[route.action])]
    source = request.query.get("from")
    if target.keyword == "uploads" and source:
        try:
            scopes.append(Scope("repository", parse_repository_name(source), frozenset({"pull"})))
        except SeatrialError:
            return scopes
    return scopes
