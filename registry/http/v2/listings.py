"""What lists things: ``/v2/`` itself, the catalog, tags and referrers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from aiohttp import web

from registry.auth.access import require_catalog, require_sign_in
from registry.content import catalog, referrers, tags
from registry.errors import PaginationInvalidError, RequestInvalidError
from registry.http.conditions import is_known
from registry.oci.digest import parse_digest
from registry.oci.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.http.v2.call import Call

PAGE_MAX = 1000
ARTIFACT_TYPES_MAX = 20
_DIGITS_MAX = 9
ROW_DIGITS_MAX = 18


async def show_base(call: Call) -> web.Response:
    """end-1: whether the credential is one."""
    require_sign_in(call.actor)
    return json_answer(call, {})


async def show_catalog(call: Call) -> web.Response:
    """``_catalog``: the repositories that the caller may pull from (Docker's API; no part of OCI's)."""
    actor = require_catalog(call.actor)
    page = _parse_page(call.request)
    names = await catalog.list_names(
        call.services.database, actor=actor, limit=page.limit + 1, after=page.after
    )
    return json_answer(call, {"repositories": names[: page.limit]}, _next("/v2/_catalog", page, names))


async def show_tags(call: Call) -> web.Response:
    """end-8."""
    page = _parse_page(call.request)
    names = await tags.list_names(
        call.services.database, call.repository, limit=page.limit + 1, after=page.after
    )
    link = _next(f"/v2/{call.name}/tags/list", page, names)
    return json_answer(call, {"name": call.name, "tags": names[: page.limit]}, link)


async def show_referrers(call: Call) -> web.Response:
    """end-12: never 404, for an unknown repository neither."""
    subject, query = parse_digest(call.reference), call.request.query
    # No artifact type has a NUL, and PostgreSQL takes none.
    types = [kind.replace("\0", "") for kind in query.getall("artifactType", []) if kind]
    if len(types) > ARTIFACT_TYPES_MAX:
        raise RequestInvalidError(f"{len(types)} artifact types; {ARTIFACT_TYPES_MAX} are the limit")
    limit = parse_limit(call.request)
    page = await referrers.list_page(
        call.services.database,
        call.repository,
        subject,
        artifact_types=types,
        after=parse_number(query.get("last") or "0", "last", digits=ROW_DIGITS_MAX),
        limit=limit,
    )
    headers = {"OCI-Filters-Applied": "artifactType"} if types else {}
    if page.next_after is not None:
        position = [("n", limit)] if "n" in query else []
        position += [("last", page.next_after)]
        following = urlencode([*position, *(("artifactType", kind) for kind in types)])
        headers["Link"] = f'</v2/{call.name}/referrers/{subject}?{following}>; rel="next"'
    listed = ",".join(page.descriptors)
    index = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{listed}]}}'
    return _answer(call, index.encode(), headers, content_type=OCI_INDEX)


@dataclass(frozen=True, slots=True)
class _Page:
    limit: int
    after: str | None


def _parse_page(request: web.Request) -> _Page:
    limit = parse_limit(request)
    after = request.query.get("last") or None
    if after is not None and "\0" in after:
        raise PaginationInvalidError("last has a NUL character, which no name has")
    return _Page(limit, after)


def parse_limit(request: web.Request) -> int:
    """How many entries ``n`` asks for, as far as a page has them.

    Raises:
        PaginationInvalidError: it is no number.
    """
    text = request.query.get("n")
    return PAGE_MAX if text is None else min(parse_number(text, "n"), PAGE_MAX)


def parse_number(text: str, name: str, *, digits: int = _DIGITS_MAX) -> int:
    """The number in a parameter; of more digits than anything has, one that is larger than all.

    Raises:
        PaginationInvalidError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise PaginationInvalidError(f"{name} must be a number of entries, 0 or more, not {text[:40]!r}")
    return int(text) if len(text) <= digits else 10**digits


def _next(path: str, page: _Page, names: list[str]) -> dict[str, str]:
    """The Link to what follows, if anything does; a page of nothing has no next one."""
    if page.limit == 0 or len(names) <= page.limit:
        return {}
    last = quote(names[page.limit - 1], safe="")
    return {"Link": f'<{path}?n={page.limit}&last={last}>; rel="next"'}


def json_answer(call: Call, document: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON, and with 304 whoever has it."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return _answer(call, body, headers or {}, content_type="application/json")


def _answer(call: Call, body: bytes, headers: Mapping[str, str], *, content_type: str) -> web.Response:
    """The page, or 304 for who has it already; its entity tag covers where it goes on."""
    tag = hashlib.sha256(body + headers.get("Link", "").encode()).hexdigest()
    headers = {**headers, "ETag": f'"{tag}"'}
    if is_known(call.request, tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type=content_type)
