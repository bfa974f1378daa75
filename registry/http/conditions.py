"""Conditional requests on content whose entity tag is its digest (RFC 9110, 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import PreconditionFailedError, RequestInvalidError
from registry.oci.conditions import Conditions, EntityTags, parse_entity_tags

if TYPE_CHECKING:
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


def range_applies(request: web.Request, digest: str) -> bool:
    """Whether ``If-Range`` leaves the ``Range`` standing: absent, or the strong tag of this content."""
    condition = request.headers.get("If-Range")
    return condition is None or condition.strip() == f'"{digest}"'


def _entity_tags(request: web.Request, name: str) -> EntityTags | None:
    lines = request.headers.getall(name, [])
    return parse_entity_tags(",".join(lines)) if lines else None
