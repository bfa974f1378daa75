"""Blobs over HTTP (distribution-spec, end-2, end-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from registry.content import blobs, quarantine
from registry.errors import BlobUnknownError
from registry.http.answers import remember
from registry.http.conditions import is_known, is_unchanged, range_applies
from registry.http.headers import NO_HEADERS
from registry.http.proxies import client_address
from registry.http.services import SERVICES
from registry.http.v2.download import send_blob
from registry.oci.digest import parse_content_digest
from registry.oci.ranges import parse_range
from registry.trials.admission import admit_blob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from registry.content.blobs import Blob
    from registry.http.v2.call import Call

log: FilteringBoundLogger = structlog.get_logger("seatrial.http")


async def read(call: Call, more: Mapping[str, str] = NO_HEADERS) -> web.StreamResponse:
    """The bytes, or ranges of them, if an admitted manifest of the repository names them; with ``more``
    headers."""
    services, request = call.services, call.request
    digest = parse_content_digest(call.reference)
    blob = await blobs.find(services.database, call.repository, digest)
    assert call.repository is not None
    admitted = await admit_blob(
        services.database,
        services.settings,
        actor=call.actor,
        repository=call.repository,
        digest=digest,
        waiters=services.waiters,
    )
    if blob.condemned:
        if not services.settings.read_only:
            await blobs.revive(services.database, call.repository, blob)
        return await send(request, blob, more)
    whole = web.Response(headers={**_headers(blob), **more})
    remember(request, whole, actor=call.actor, epochs=call.epochs, until=admitted.until, content=blob)
    return await send(request, blob, more)


async def send(request: web.Request, blob: Blob, more: Mapping[str, str] = NO_HEADERS) -> web.StreamResponse:
    """Answer with a blob that may be read, with ``more`` headers."""
    digest, headers = str(blob.digest), {**_headers(blob), **more}
    if is_known(request, digest) or is_unchanged(request, headers):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(blob.size)})
    wanted = request.headers.get("Range") if range_applies(request, digest) else None
    ranges = parse_range(wanted, blob.size)
    services = request.app[SERVICES]
    if ranges is None or len(ranges) == 1:  # no object store answers several
        address = client_address(request, services.settings)
        url = await services.blobs.redirect_url(blob.locator, address)
        if url is not None:
            # The address lets anybody in, so nobody may keep it.
            told = {"Docker-Content-Digest": digest, "Location": url, "Cache-Control": "no-store"}
            return web.Response(status=307, headers=told)
    try:
        async with services.blobs.open_blob(blob.locator) as opened:
            return await send_blob(request, opened, headers=headers, ranges=ranges)
    except BlobUnknownError:
        log.error("the store does not have a blob that it should", digest=digest, locator=blob.locator)
        if not services.settings.read_only and await quarantine.put_in_missing(
            services.database, services.blobs, blob.id, locator=blob.locator
        ):
            raise quarantine.refused(blob.digest, "missing") from None
        raise


async def delete(call: Call) -> web.Response:
    """Hide the blob in this repository."""
    digest = parse_content_digest(call.reference)
    await blobs.delete(call.services.database, call.repository, digest, actor=call.actor)
    return web.Response(status=202)


def _headers(blob: Blob) -> dict[str, str]:
    return {
        "Docker-Content-Digest": str(blob.digest),
        "ETag": f'"{blob.digest}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
