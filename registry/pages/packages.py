"""The packages in an image, as its newest scan found them, and the SBOMs to take along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from registry.http.api.routes import Call, read_query
from registry.http.api.scans import find_scanned
from registry.http.parsers import PARSERS
from registry.pages.image import Of, may_read_pulls
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, is_whole
from registry.pages.texts import text
from registry.trials.scanreading import entries_of, has_words, read_scans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from registry.contract.scan import Package

SHOWN = 100
_FORMATS = (
    ("cyclonedx", "CycloneDX", "sbom.cdx.json"),
    ("spdx", "SPDX", "sbom.spdx.json"),
    ("sarif", "SARIF", "findings.sarif"),
    ("json", "JSON", "report.json"),
)
"""Names that are the same in every language, and of files."""


class PackagesQuery(CursorQuery):
    """Which packages."""

    find: str | None = Field(default=None, max_length=300)


async def show_packages(call: Call) -> web.Response:
    """Its packages, so many on a page, those that have some words; of an index, where those of each platform
    are."""
    query = read_query(call.request, PackagesQuery, leaves_out_empty=True)
    services, matched = call.services, call.request.match_info
    repository, manifest = await find_scanned(call, matched["name"], matched["digest"])
    of = Of(repository, manifest, None, True, may_read_pulls(call.actor, repository))
    scans = await read_scans(services.database, manifest)
    own = next((scan for scan in scans if scan.view.digest == of.digest), None)
    cursor = query.cursor or "0"
    found: Sequence[tuple[int, Package]] = ()
    if own is not None:
        found = await entries_of(
            services.blobs,
            own.kept,
            "packages",
            takes=lambda one: has_words(one, query.find),
            first=int(cursor) if is_whole(cursor) else 0,
            limit=SHOWN + 1,
            parsers=call.request.app[PARSERS],
        )
    kept, path = [("find", query.find)], f"{of.path}/packages"
    following = str(found[SHOWN][0]) if len(found) > SHOWN else None
    return page(
        call.request,
        "packages.html",
        title=text("packages.title", image=of.titled),
        of=of,
        here_tab="packages",
        scans=[scan.view for scan in scans],
        own=None if own is None else own.view,
        packages=[one for _, one in found[:SHOWN]],
        words=query.find,
        formats=_FORMATS,
        report=f"{of.api}/scans/{of.digest}/report",
        next_path=path + chosen([*kept, ("cursor", following)]) if following else None,
        first_path=path + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=[f"GET {of.api}/scans/{of.digest}/packages"],
            cli=[f"seatrial image packages {of.shown}", f"seatrial image report {of.shown} --format spdx"],
        ),
    )
