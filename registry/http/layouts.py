"""Each repository as an OCI image layout over plain HTTP, to read: ``/layout/NAME/`` (image-spec,
image-layout.md).

Access and gate are those of a pull. A page of links makes ``wget --mirror`` work.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from registry.auth.owners import require_or_tell
from registry.auth.tokenservice import SERVICE
from registry.content import manifests
from registry.content import repositories as repos
from registry.errors import (
    DeniedError,
    ManifestUnknownError,
    MethodNotAllowedError,
    NameUnknownError,
    NotFoundError,
    UnauthorizedError,
)
from registry.http.answers import known_blob, remember
from registry.http.authentication import authenticate
from registry.http.conditions import is_known, is_unchanged, range_applies
from registry.http.middleware import ROUTE
from registry.http.services import SERVICES
from registry.http.v2 import blobs
from registry.http.v2 import manifests as manifest_handlers
from registry.http.v2.call import Call
from registry.http.v2.path import decoded
from registry.layouts.writing import index_of
from registry.oci.digest import digest_of, parse_content_digest
from registry.oci.layout import CONTENT_TIME, INDEX_PATH, MARKER, MARKER_PATH
from registry.oci.names import parse_repository_name
from registry.oci.ranges import parse_range
from registry.trials.asking import Reading
from registry.trials.layouts import Listed, content_of, list_entries

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["page", "marker", "index", "content"]
_PREFIX = "/layout/"
_FILES: Mapping[str, Kind] = MappingProxyType({"": "page", MARKER_PATH: "marker", INDEX_PATH: "index"})
_READ = ("GET", "HEAD")
_NEVER_CHANGES = {"Last-Modified": formatdate(CONTENT_TIME, usegmt=True), "Accept-Ranges": "bytes"}
"""For those who compare times: wget asks no second time for what it has."""
_UNSEEN_SECONDS = 5.0
"""So long an index may not list what the registry has attested meanwhile: that moves no epoch."""
_LISTED_AT_ONCE = 2
"""More indexes and pages that are made anew wait: each may take as much as a thousand other requests."""
_LISTING = web.AppKey("listing", asyncio.Semaphore)
_CHALLENGE = {"WWW-Authenticate": f'Basic realm="{SERVICE}", charset="UTF-8"'}
"""What curl and wget can answer."""


def add_routes(app: web.Application) -> None:
    """Serve ``/layout/``."""
    app[_LISTING] = asyncio.Semaphore(_LISTED_AT_ONCE)
    app.router.add_route("*", _PREFIX + "{tail:(?s:.*)}", serve)


async def serve(request: web.Request) -> web.StreamResponse:
    """Any file of any layout."""
    request[ROUTE] = "layout:unknown"
    kind, name, reference = parse_path(request.rel_url.raw_path)
    request[ROUTE] = f"layout:{kind}"
    if request.method not in _READ:
        raise MethodNotAllowedError("a layout is only read", headers={"Allow": ", ".join(_READ)})
    if kind == "content" and (known := await known_blob(request)) is not None:
        return await blobs.send(request, known, _NEVER_CHANGES)
    services = request.app[SERVICES]
    epochs = await services.database.epochs()
    try:
        actor = await authenticate(request)
        repository = await repos.find(services.database, name)
        visibility = repository.visibility if repository else None
        await require_or_tell(services.database, actor, "pull", name, visibility)
    except UnauthorizedError as error:
        error.headers = _CHALLENGE
        raise
    if actor.kind == "worker":
        raise DeniedError("a worker's pull token opens the image of its lease and nothing else")
    if repository is None:
        raise NameUnknownError("there is no such repository")
    call = Call(request, services, actor, name, reference, repository, epochs)
    match kind:
        case "marker":
            return _small(request, MARKER, {**_NEVER_CHANGES, "Content-Type": "application/json"})
        case "index":
            return await _index(call)
        case "page":
            return await _page(call)
        case "content":
            return await _content(call)


def parse_path(raw_path: str) -> tuple[Kind, str, str]:
    """Which file of which repository's layout; and the digest of content, not yet checked.

    Raises:
        NotFoundError: no layout has such a file.
        NameInvalidError: the repository's name breaks the grammar, or the path hides a slash or a NUL.
    """
    *name, last = decoded(raw_path, _PREFIX).split("/")
    kind, reference = _FILES.get(last), ""
    match name:
        case [*above, "blobs", algorithm] if kind is None:
            name, kind, reference = above, "content", f"{algorithm}:{last}"
    if kind is None:
        raise NotFoundError("a layout has oci-layout, index.json and blobs; its page ends with a slash")
    return kind, parse_repository_name("/".join(name)), reference


async def _index(call: Call) -> web.Response:
    async with call.request.app[_LISTING]:
        listed = await list_entries(_reading(call))
    return _kept(call, index_of(listed.entries), "application/json", listed)


async def _page(call: Call) -> web.Response:
    reading = _reading(call)
    async with call.request.app[_LISTING]:
        listed = await list_entries(reading)
        content = await content_of(reading, listed.digests)
    places = [MARKER_PATH, INDEX_PATH, *("blobs/" + digest.replace(":", "/", 1) for digest in content)]
    links = "".join(f'<li><a href="{place}">{place}</a></li>\n' for place in places)
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{call.name}</title></head>\n'
        f"<body><h1>{call.name}</h1>\n<ul>\n{links}</ul></body></html>\n"
    )
    return _kept(call, text.encode(), "text/html; charset=utf-8", listed)


def _kept(call: Call, content: bytes, content_type: str, listed: Listed) -> web.Response:
    """What is made for a reader, and for as long as it holds for the next who asks the same."""
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "default-src 'none'",
    }
    response = _small(call.request, content, headers)
    if response.status == 200:
        until = min(listed.until, time.monotonic() + _UNSEEN_SECONDS)
        remember(call.request, response, actor=call.actor, epochs=call.epochs, until=until, content=content)
    return response


async def _content(call: Call) -> web.StreamResponse:
    digest = parse_content_digest(call.reference)
    try:
        await manifests.get(call.services.database, call.repository, digest)
    except ManifestUnknownError:
        return await blobs.read(call, _NEVER_CHANGES)
    return _part_of(call.request, await manifest_handlers.read(call, _NEVER_CHANGES))


def _reading(call: Call) -> Reading:
    assert call.repository is not None
    return Reading(call.services.database, call.services.settings, call.actor, call.repository)


def _small(request: web.Request, content: bytes, headers: Mapping[str, str]) -> web.Response:
    """A document that was made here."""
    digest = str(digest_of(content))
    told = {**headers, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    if is_known(request, digest) or is_unchanged(request, told):
        del told["Content-Type"]
        return web.Response(status=304, headers=told)
    return _part_of(request, web.Response(body=content, headers=told))


def _part_of(request: web.Request, whole: web.Response) -> web.Response:
    """The range of it that is asked for; of several the whole."""
    body, tag = whole.body, whole.headers.get("ETag", "").strip('"')
    if request.method != "GET" or not isinstance(body, bytes) or not range_applies(request, tag):
        return whole
    ranges = parse_range(request.headers.get("Range"), len(body))
    if ranges is None or len(ranges) != 1:
        return whole
    (part,) = ranges
    headers = {name: value for name, value in whole.headers.items() if name != "Content-Length"}
    headers["Content-Range"] = f"bytes {part.first}-{part.last}/{len(body)}"
    return web.Response(status=206, body=body[part.first : part.last + 1], headers=headers)
