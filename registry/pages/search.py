"""One field for all that has a name: repositories, images, packages, vulnerabilities."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import Field

from registry.content import catalog
from registry.content.finding import BEGINNING
from registry.errors import DigestInvalidError, NameInvalidError, TagInvalidError
from registry.http.api.finding import ImagesQuery, find_images
from registry.http.api.models import Query
from registry.http.api.routes import Call, read_query
from registry.http.api.scans import PackagesQuery, list_package_holders
from registry.oci.names import split_repository_reference
from registry.pages.rendering import Lines, page
from registry.pages.texts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from registry.content.finding import Placed
    from registry.http.api.scans import HolderAnswer

SHOWN = 25
_ADVISORY = re.compile(r"[A-Za-z]{2,20}-[A-Za-z0-9][A-Za-z0-9.:_-]{2,60}")
"""What advisories are called: ``CVE-2021-44228``, ``GHSA-jfh8-c2jp-5v3q``, ``DSA-5000-1``."""


class SearchQuery(Query):
    """What is looked for."""

    q: str = Field(default="", max_length=300)


async def show_search(call: Call) -> web.Response:
    """Repositories whose name begins so; the image of that name; where the image of that digest is; images
    that hold a package of that name, or one of which an advisory tells that has that name among its own."""
    words = read_query(call.request, SearchQuery, leaves_out_empty=True).q.strip()
    names: Sequence[str] = ()
    holders: Sequence[HolderAnswer] = ()
    placed: Sequence[Placed] = ()
    image = None if BEGINNING.fullmatch(words) else _image(words)
    if words and words.isprintable():
        if BEGINNING.fullmatch(words):
            placed = await find_images(call, ImagesQuery(digest=words, limit=SHOWN))
        names = await _beginning_with(call, words.partition("@")[0].partition(":")[0])
        if call.actor.kind != "anonymous":
            holders = (await list_package_holders(call, PackagesQuery(name=words, limit=SHOWN))).items
            if not holders and _ADVISORY.fullmatch(words):
                holders = (await list_package_holders(call, PackagesQuery(advisory=words, limit=SHOWN))).items
    return page(
        call.request,
        "search.html",
        title=text("search.title"),
        words=words,
        names=names,
        image=image,
        placed=placed,
        holders=holders,
        most=SHOWN,
        lines=Lines(
            api=[
                "GET /api/v1/repositories",
                "GET /api/v1/images?digest=DIGEST",
                "GET /api/v1/packages?name=NAME",
                "GET /api/v1/packages?advisory=NAME",
            ],
            cli=[
                "seatrial repo list",
                "seatrial image find DIGEST",
                "seatrial image holding NAME",
                "seatrial image holding --advisory NAME",
            ],
        ),
    )


async def _beginning_with(call: Call, beginning: str) -> list[str]:
    database, actor = call.services.database, call.actor
    if not beginning:
        return []
    # Names are in bytewise order: those that begin so come after what is before the last letter.
    before = beginning[:-1] + chr(ord(beginning[-1]) - 1) + "\N{DELETE}"
    found = await catalog.list_names(database, actor=actor, limit=SHOWN, after=before)
    return [name for name in found if name.startswith(beginning)]


def _image(words: str) -> tuple[str, str] | None:
    """The address of the page of an image that is named in full, and its name. Whether it is there, and for
    whom, is told there."""
    try:
        name, tag, digest = split_repository_reference(words)
    except (NameInvalidError, TagInvalidError, DigestInvalidError):
        return None
    if digest is not None:
        return f"/r/{name}/-/images/{digest}", words
    return None if tag is None else (f"/r/{name}/-/tags/{tag}", words)
