"""``/api/v1/scrubs``: whether the bytes that are stored are still those that were pushed."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.auth.access import require_writable
from registry.content import quarantine
from registry.content import scrubs as use
from registry.errors import ConflictError, NotFoundError
from registry.http.api.fields import Id
from registry.http.api.models import Body, Page, PageQuery, Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.http.scrubbing import SCRUB_ASKED


class ScrubsQuery(Query):
    """How many."""

    limit: int = Field(default=20, ge=1, le=use.KEPT)


class ScrubAsked(Body):
    """At which rate."""

    bytes_per_second: int | None = Field(
        default=None,
        ge=use.RATE_LEAST,
        le=2**40,
        description="How much is read in a second; null: as SEATRIAL_SCRUB_BYTES_PER_SECOND says.",
    )


async def list_scrubs(call: Call, query: ScrubsQuery) -> Sequence[use.Scrub]:
    """The latest scrubs, newest first."""
    return await use.list_scrubs(call.services.database, limit=query.limit)


async def list_damaged_blobs(call: Call, query: PageQuery) -> Page[quarantine.Damaged]:
    """Blobs whose bytes are damaged: nobody is given them until the same bytes are pushed again."""
    found = await quarantine.list_damaged(
        call.services.database, after=query.number or 0, limit=query.limit + 1
    )
    numbers = {damaged.digest: number for number, damaged in found}
    return query.page([damaged for _, damaged in found], key=lambda one: str(numbers[one.digest]))


async def show_scrub(call: Call, scrub_id: Id) -> use.Scrub:
    """One scrub: how far it is, and what it has found."""
    return await use.find(call.services.database, numbered(scrub_id, "scrub"))


async def ask_scrub(call: Call, body: ScrubAsked) -> use.Scrub:
    """Read and hash all blobs now. If there is a scrub already it goes on, at the rate if one is given."""
    settings = call.services.settings
    require_writable(read_only=settings.read_only)
    begun = await use.ask(
        call.services.database,
        actor=call.actor,
        bytes_per_second=body.bytes_per_second,
        by_default=settings.scrub_bytes_per_second,
    )
    call.request.app[SCRUB_ASKED].set()
    return begun


async def stop_scrub(call: Call, scrub_id: Id) -> use.Scrub:
    """End a scrub before its end; what it has found stays."""
    return await use.stop(call.services.database, numbered(scrub_id, "scrub"), actor=call.actor)


ROUTES = (
    Route("GET", "/scrubs", "admin", list_scrubs),
    Route("POST", "/scrubs", "admin", ask_scrub, status=202),
    Route("GET", "/scrubs/damaged", "admin", list_damaged_blobs),
    Route("GET", "/scrubs/{scrub_id}", "admin", show_scrub, errors=(NotFoundError,)),
    Route("POST", "/scrubs/{scrub_id}/stop", "admin", stop_scrub, errors=(NotFoundError, ConflictError)),
)
