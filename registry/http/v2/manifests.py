"""Manifests over HTTP (distribution-spec, end-3, end-7, end-9)."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import web

from registry.content import manifests, tags
from registry.errors import RequestInvalidError, TagInvalidError
from registry.events.pulls import Pulled, Tally
from registry.http.again import again_if_broken_off
from registry.http.answers import remember
from registry.http.authentication import base_url
from registry.http.body import read_all
from registry.http.conditions import is_known, is_unchanged, parse_conditions
from registry.http.headers import NO_HEADERS
from registry.http.parsers import PARSERS
from registry.oci.digest import Digest
from registry.oci.manifest import Manifest, parse_manifest
from registry.oci.names import parse_reference, parse_tag
from registry.trials.admission import admit_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.db.engine import Database
    from registry.http.v2.call import Call

GRANDFATHERED_UNTIL = "Seatrial-Grandfathered-Until"
TAGS_MAX = 100
_PARSED_AT_ONCE_BYTES = 64 * 1024


async def read(call: Call, more: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """The bytes as they were pushed, whatever ``Accept`` says, if the gate lets them pass; with ``more``
    headers."""
    services = call.services
    reference = parse_reference(call.reference)
    tag = None if isinstance(reference, Digest) else str(reference)
    pushed = await manifests.get(services.database, call.repository, reference)
    assert call.repository is not None
    stored, admitted = await admit_manifest(
        services.database,
        services.settings,
        actor=call.actor,
        repository=call.repository,
        manifest=pushed,
        tag=tag,
        base_url=base_url(call.request),
        waiters=services.waiters,
    )
    digest = str(stored.digest)
    tally = Tally(Pulled(call.actor.shown, call.name, digest), tag)
    if call.request.method == "GET":
        # Also where the client has the bytes already: it asks because it is about to use them.
        services.pulls.note(tally, call.actor.address, perf_counter())
    headers = {**admitted.headers, "Docker-Content-Digest": digest, "ETag": f'"{digest}"', **more}
    if is_known(call.request, digest) or is_unchanged(call.request, headers):
        return web.Response(status=304, headers=headers)
    response = web.Response(body=stored.raw, headers=headers, content_type=stored.media_type)
    remember(
        call.request,
        response,
        actor=call.actor,
        epochs=call.epochs,
        until=admitted.until,
        content=stored.raw,
        tally=tally,
    )
    return response


async def put(call: Call) -> web.Response:
    """Store the body under a tag, or under its digest and the tags of the query: all of them or none.

    ``If-Match`` and ``If-None-Match`` are about what is moved: each of these tags, else the digest itself.
    ``Seatrial-Grandfathered-Until``: it comes from elsewhere, and is admitted without a verdict for a time.
    """
    services = call.services
    conditions = parse_conditions(call.request)
    grandfathered_until = _grandfathered_until(call)
    reference = parse_reference(call.reference)
    stated = reference if isinstance(reference, Digest) else None
    tag_names = _stated_tags(call) if stated else [call.reference]
    raw = await read_all(
        call.request, services.settings.manifest_max_bytes, setting="SEATRIAL_MANIFEST_MAX_BYTES"
    )
    manifest = await _parse(call.request, raw)

    async def attempt(database: Database) -> Digest:
        return await manifests.put(
            database,
            services.blobs,
            call.name,
            stated=stated,
            tag_names=tag_names,
            raw=raw,
            manifest=manifest,
            conditions=conditions,
            settings=services.settings,
            actor=await call.pusher_now(),
            effects=services.effects,
            parsers=call.request.app[PARSERS],
            grandfathered_until=grandfathered_until,
        )

    digest = await again_if_broken_off(call.request, services.database.beginning_with, attempt)
    headers = {
        "Location": f"/v2/{call.name}/manifests/{digest}",
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject.digest)
    if stated and tag_names:
        headers["OCI-Tag"] = ", ".join(tag_names)
    return web.Response(status=201, headers=headers)


async def delete(call: Call) -> web.Response:
    """A tag: that tag. A digest: the manifest and every tag of it."""
    reference = parse_reference(call.reference)
    conditions = parse_conditions(call.request)
    repository, actor, effects = call.repository, call.actor, call.services.effects

    async def attempt(database: Database) -> None:
        if isinstance(reference, Digest):
            await manifests.delete(
                database, repository, reference, conditions=conditions, actor=actor, effects=effects
            )
        else:
            await tags.delete(database, repository, reference, conditions=conditions, actor=actor)

    await again_if_broken_off(call.request, call.services.database.beginning_with, attempt)
    return web.Response(status=202)


def _grandfathered_until(call: Call) -> datetime | None:
    text = call.request.headers.get(GRANDFATHERED_UNTIL)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise RequestInvalidError(
        f"{GRANDFATHERED_UNTIL} is {text[:80]!r}, and no time such as 2027-01-31T12:00:00Z"
    )


def _stated_tags(call: Call) -> list[str]:
    given = call.request.query.getall("tag", [])
    if len(given) > TAGS_MAX:
        raise TagInvalidError(f"{len(given)} tags in one push; {TAGS_MAX} are the limit")
    return [parse_tag(text) for text in dict.fromkeys(given)]


async def _parse(request: web.Request, raw: bytes) -> Manifest:
    content_type = request.headers.get("Content-Type")
    # A large one takes long enough to hold up every other request.
    if len(raw) <= _PARSED_AT_ONCE_BYTES:
        return parse_manifest(raw, content_type)
    return await request.app[PARSERS].run(parse_manifest, raw, content_type)
