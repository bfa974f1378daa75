"""Files that pages load: styles, scripts, the mark. Each has its content's hash in its address, so that a
browser keeps it for good and asks for the next one when there is one."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import web

from registry.errors import NotFoundError

if TYPE_CHECKING:
    from registry.http.api.routes import Call

FOLDER = Path(__file__).parent / "static"
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    # The mark is a picture, and opened by itself a document that may do nothing.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
ROBOTS = """\
User-agent: *
Disallow: /api/
Disallow: /v2/
Disallow: /token
Disallow: /oauth/
Disallow: /sign-in
Disallow: /search
Disallow: /trials
Disallow: /account
"""
"""What is public and stands still may be found; the rest changes, or is for people who sign in."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, as it is and compressed."""

    path: str
    content_type: str
    body: bytes
    compressed: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """All of them, by name."""
    return MappingProxyType({path.name: _asset(path) for path in sorted(FOLDER.iterdir())})


def asset_path(name: str) -> str:
    """The address of a file."""
    return assets()[name].path


async def show_asset(call: Call) -> web.Response:
    """One of the files; for anybody."""
    found = assets().get(call.request.match_info["file"])
    if found is None or found.path != call.request.path:
        raise NotFoundError("there is no such file, or a newer one by now; load the page again")
    takes_gzip = "gzip" in call.request.headers.get("Accept-Encoding", "").lower()
    headers = {**_HEADERS, "Content-Type": found.content_type}
    if takes_gzip:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=found.compressed if takes_gzip else found.body, headers=headers)


async def show_robots(call: Call) -> web.Response:
    """What programs that walk the web shall leave alone."""
    return web.Response(text=ROBOTS, headers={"Cache-Control": "public, max-age=3600"})


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    version = hashlib.sha256(body).hexdigest()[:16]
    # No time in it: the same file has the same bytes on every replica.
    compressed = gzip.compress(body, 9, mtime=0)
    return Asset(f"/assets/{version}/{path.name}", _TYPES[path.suffix], body, compressed)
