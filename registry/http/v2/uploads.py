"""Upload sessions over HTTP (distribution-spec, end-4, end-5, end-6, end-11, end-13, end-14)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from registry.content import repositories as repos
from registry.content import uploads
from registry.errors import (
    DigestInvalidError,
    SeatrialError,
    SizeInvalidError,
)
from registry.http.body import chunks, exactly
from registry.oci.digest import ALGORITHMS, Digest, parse_content_digest
from registry.oci.ranges import parse_content_range
from registry.trials.mounting import mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.content.uploads import Session
    from registry.http.v2.call import Call


async def start(call: Call) -> web.Response:
    """end-4a, end-4b with ``digest``, end-11 with ``mount``: what cannot be mounted begins an upload."""
    query = call.request.query
    if "mount" in query:
        digest = parse_content_digest(query["mount"])
        if await mount(
            call.services.database,
            digest,
            source=query.get("from"),
            into=call.name,
            settings=call.services.settings,
            actor=call.actor,
        ):
            return _created(call, digest)
    elif "digest" in query:
        return await _push_whole(call, _stated_digest(call))
    session = await _open(call, _algorithm(call))
    return _accepted(call, session, 0)


async def show(call: Call) -> web.Response:
    """end-13: where the upload stands."""
    session = await _find(call)
    return web.Response(
        status=204, headers=_headers(call, session, await uploads.offset(call.services.blobs, session))
    )


async def append(call: Call) -> web.Response:
    """end-5: a chunk with ``Content-Range``, or a stream without."""
    session = await _find(call)
    with _telling_offset(call, session):
        return _accepted(call, session, await _append(call, session))


async def finish(call: Call) -> web.Response:
    """end-6: close the upload, perhaps with its last bytes."""
    digest = _stated_digest(call)
    session = await _find(call)
    with _telling_offset(call, session):
        if call.request.body_exists:
            await _append(call, session, closing=True)
        await _finish(call, session, digest)
    return _created(call, digest)


async def cancel(call: Call) -> web.Response:
    """end-14."""
    await uploads.cancel(call.services.database, call.services.blobs, await _find(call))
    return web.Response(status=204)


async def _push_whole(call: Call, digest: Digest) -> web.Response:
    session = await _open(call, digest.algorithm)
    if call.repository is None:
        call = replace(call, repository=await repos.find(call.services.database, call.name))
    done = False
    try:
        await _append(call, session)
        await _finish(call, session, digest)
        done = True
    finally:
        if not done:
            # The client never learnt of the session, so nobody could go on with it.
            await uploads.drop(call.services.database, call.services.blobs, session)
    return _created(call, digest)


async def _open(call: Call, algorithm: str) -> Session:
    services = call.services
    return await uploads.start(
        services.database,
        services.blobs,
        call.name,
        settings=services.settings,
        actor=call.actor,
        algorithm=algorithm,
    )


async def _find(call: Call) -> Session:
    return await uploads.find(
        call.services.database,
        call.repository,
        call.reference,
        settings=call.services.settings,
        actor=call.actor,
    )


async def _append(call: Call, session: Session, *, closing: bool = False) -> int:
    services, request = call.services, call.request
    body, at = chunks(request), None
    header = request.headers.get("Content-Range")
    if header is not None:
        part = parse_content_range(header)
        if request.content_length is not None and request.content_length != part.length:
            raise SizeInvalidError(
                f"Content-Range {header[:80]} has {part.length} bytes, Content-Length says "
                f"{request.content_length}"
            )
        body, at = exactly(body, part.length), part.first
    return await uploads.append(
        services.database,
        services.blobs,
        session,
        body,
        repository=call.repository,
        length=request.content_length,
        at=at,
        closing=closing,
        settings=services.settings,
    )


async def _finish(call: Call, session: Session, digest: Digest) -> None:
    services = call.services
    if call.request.body_exists:
        await call.pusher_now()
    await uploads.finish(services.database, services.blobs, session, digest=digest)


def _stated_digest(call: Call) -> Digest:
    given = call.request.query.getall("digest", [])
    if len(given) != 1:
        raise DigestInvalidError(f"one digest must be given in the query, not {len(given)}")
    return parse_content_digest(given[0])


def _algorithm(call: Call) -> str:
    algorithm = call.request.query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise DigestInvalidError(
            f"digest algorithm {algorithm[:40]!r} is not supported; use sha256 or sha512"
        )
    return algorithm


@contextmanager
def _telling_offset(call: Call, session: Session) -> Iterator[None]:
    """Where an error knows the offset, tell it the way a client resumes: Location and Range."""
    try:
        yield
    except SeatrialError as error:
        if isinstance(error.detail, dict) and isinstance(error.detail.get("offset"), int):
            error.headers = {**error.headers, **_headers(call, session, error.detail["offset"])}
            error.detail = None  # clients print it behind the sentence, and nobody needs it twice
        raise


def _headers(call: Call, session: Session, offset: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{call.name}/blobs/uploads/{session.id}",
        # Clients refuse 0--1, so nothing yet looks like one byte (distribution-spec, end-4a).
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": session.id,
    }


def _accepted(call: Call, session: Session, offset: int) -> web.Response:
    return web.Response(status=202, headers=_headers(call, session, offset))


def _created(call: Call, digest: Digest) -> web.Response:
    location = f"/v2/{call.name}/blobs/{digest}"
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": str(digest)})
