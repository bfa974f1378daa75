"""Conditional requests on content whose entity tag is its digest (RFC 9110, 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web


def is_known(request: web.Request, digest: str) -> bool:
    """Whether ``If-None-Match`` says that the client holds this content already."""
    return any(tag.value in (digest, "*") for tag in request.if_none_match or ())


def range_applies(request: web.Request, digest: str) -> bool:
    """Whether ``If-Range`` leaves the ``Range`` standing: absent, or the strong tag of this content."""
    condition = request.headers.get("If-Range")
    return condition is None or condition.strip() == f'"{digest}"'
