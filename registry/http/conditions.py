"""Conditional requests on content whose entity tag is its digest (RFC 9110, 13)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from registry.errors import PreconditionFailedError, RequestInvalidError
from registry.oci.conditions import Conditions, EntityTags, parse_entity_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web


def parse_conditions(request: web.Request) -> Conditions:
    """The conditions under which the request is to change something.

    Raises:
        RequestInvalidError: one that cannot be read: ignoring it would overwrite what it protects.
    """
    return Conditions(_entity_tags(request, "If-Match"), _entity_tags(request, "If-None-Match"))


def is_known(request: web.Request, digest: str) -> bool:
    """Whether ``If-None-Match`` says that the client holds this content already.

    Raises:
        PreconditionFailedError: ``If-Match`` asks for other content; it comes first.
        RequestInvalidError: an ``If-Match`` that cannot be read.
    """
    headers = request.headers
    if "If-Match" in headers:
        wanted = _entity_tags(request, "If-Match")
        if wanted is not None and not wanted.has_strongly(digest):
            raise PreconditionFailedError(f"it has the entity tag {digest}, which If-Match does not name")
    if "If-None-Match" not in headers:
        return False
    try:
        held = _entity_tags(request, "If-None-Match")
    except RequestInvalidError:
        return False  # the worst that comes of it is an answer in full
    return held is not None and held.has_weakly(digest)


def is_unchanged(request: web.Request, headers: Mapping[str, str]) -> bool:
    """Whether the client holds what was last changed when ``headers`` say, by its time; entity tags come
    first (RFC 9110, 13.1.3)."""
    since = request.if_modified_since
    if "If-None-Match" in request.headers or since is None or "Last-Modified" not in headers:
        return False
    return since >= parsedate_to_datetime(headers["Last-Modified"])


def range_applies(request: web.Request, digest: str) -> bool:
    """Whether ``If-Range`` leaves the ``Range`` standing: absent, or the strong tag of this content."""
    condition = request.headers.get("If-Range")
    return condition is None or condition.strip() == f'"{digest}"'


def _entity_tags(request: web.Request, name: str) -> EntityTags | None:
    lines = request.headers.getall(name, [])
    return parse_entity_tags(",".join(lines)) if lines else None
