"""``/api/v1/collections``: what nothing names any more, and deleting it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field

from registry.auth.access import require_writable
from registry.content import collectionpreview
from registry.content import collections as use
from registry.errors import NotFoundError
from registry.http.api.fields import Id
from registry.http.api.models import Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.http.collecting import ASKED


class CollectionsQuery(Query):
    """How many."""

    limit: int = Field(default=20, ge=1, le=use.KEPT)


class PreviewQuery(Query):
    """How many of each kind."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(
        default=None, max_length=300, description="What the header `Link` of an answer has."
    )


async def list_collections(call: Call, query: CollectionsQuery) -> Sequence[use.Collection]:
    """The latest collections, newest first."""
    return await use.list_collections(call.services.database, limit=query.limit)


async def show_collection(call: Call, collection_id: Id) -> use.Collection:
    """One collection: what it is at, and what it has come to."""
    return await use.find(call.services.database, numbered(collection_id, "collection"))


async def preview_collection(call: Call, query: PreviewQuery) -> Sequence[collectionpreview.Candidate]:
    """What collections will remove, and why; nothing is changed.

    Bytes that no row names are not looked for. One answer is about 100,000 blobs and manifests at most: where
    there are more, and fewer candidates than were asked for, the header `Link` (`rel="next"`) has the address
    that looks on."""
    found = await preview(call, query)
    if found.following is not None:
        following = call.request.rel_url.update_query(cursor=found.following)
        call.response.headers["Link"] = f'<{following}>; rel="next"'
    return found.candidates


async def preview(
    call: Call, query: PreviewQuery, *, portions: int | None = None
) -> collectionpreview.Previewed:
    """As :func:`preview_collection`, with where to look on; of so many portions at most."""
    grace = timedelta(seconds=call.services.settings.collection_grace_seconds)
    return await collectionpreview.preview(
        call.services.database, grace=grace, limit=query.limit, after=query.cursor, portions=portions
    )


async def ask_collection(call: Call) -> use.Collection:
    """Begin a collection now. If there is one already, that one is answered."""
    require_writable(read_only=call.services.settings.read_only)
    begun = await use.ask(call.services.database, actor=call.actor)
    call.request.app[ASKED].set()
    return begun


ROUTES = (
    Route("GET", "/collections", "admin", list_collections),
    Route("POST", "/collections", "admin", ask_collection, status=202),
    Route("GET", "/collections/preview", "admin", preview_collection),
    Route("GET", "/collections/{collection_id}", "admin", show_collection, errors=(NotFoundError,)),
)
