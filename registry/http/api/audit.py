"""``/api/v1/audit``: who did what, and who has what; for auditors and administrators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from registry.db.eventkinds import EventKind
from registry.events import trail as use
from registry.http.api.fields import ContentDigest, RepositoryName, Time
from registry.http.api.models import Page, PageQuery, Query
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_repository_name

EXPORT_TYPE = "application/x-ndjson"
_CURSOR = "^[0-9]{1,17}[.][0-9]{1,17}$"
_PULLS_CURSOR = "^[0-9]{1,7}[|][a-z0-9._/-]{1,255}[|][a-z0-9 ._+/-]{1,300}$"


class Filters(Query):
    """Which lines: those of which all holds that is given."""

    actor: str | None = Field(
        default=None,
        max_length=300,
        description="Who, by name.",
    )
    action: EventKind | None = Field(default=None, description="What.")
    repository: str | None = Field(
        default=None,
        max_length=300,
        description="Where: a repository, or a namespace as in `team/`.",
    )
    target: str | None = Field(
        default=None,
        max_length=300,
        description="On whom or what: a name, an id or a digest.",
    )
    token: str | None = Field(
        default=None,
        max_length=100,
        description="Id of an API token or a session.",
    )
    decision: Literal["allowed", "refused"] | None = Field(default=None, description="How it was decided.")
    since: Time | None = Field(default=None, description="Not before.")
    until: Time | None = Field(default=None, description="Before.")


class LinesQuery(PageQuery, Filters):
    """A page of lines."""

    cursor: str | None = Field(default=None, pattern=_CURSOR, description="What `next` of a page said.")
    order: use.Order = Field(
        default="newest", description="With `oldest` the last seconds are left out, and no line is missed."
    )


class ExportQuery(Filters):
    """What to export."""

    cursor: str | None = Field(
        default=None, pattern=_CURSOR, description="The `cursor` of the last line that is there already."
    )


class PullsQuery(PageQuery):
    """Whose pulls."""

    cursor: str | None = Field(default=None, pattern=_PULLS_CURSOR, description="What `next` of a page said.")
    digest: ContentDigest
    repository: RepositoryName | None = None


async def list_audit(call: Call, query: LinesQuery) -> Page[use.Line]:
    """Lines of the audit trail, by filter and time."""
    found = await use.list_lines(
        call.services.database,
        actor=call.actor,
        filters=_filters(query),
        limit=query.limit + 1,
        after=query.cursor,
        order=query.order,
    )
    return query.page(found, key=lambda line: line.cursor)


async def export_audit(call: Call, query: ExportQuery) -> web.StreamResponse:
    """The audit trail, the oldest lines first, as JSON lines.

    An export that broke off, or was made before, is continued with the `cursor` of its last line.
    """
    pieces = await use.export(
        call.services.database, actor=call.actor, filters=_filters(query), after=query.cursor
    )
    response = web.StreamResponse(headers={"Content-Type": EXPORT_TYPE, "Cache-Control": "no-store"})
    await response.prepare(call.request)
    whole = False
    try:
        async for lines in pieces:
            await response.write(_json_lines(lines))
        await response.write_eof()
        whole = True
    finally:
        # The status has been sent: only a broken connection tells the client that lines are missing.
        if not whole and call.request.transport is not None:
            call.request.transport.abort()
    return response


async def list_pulls(call: Call, query: PullsQuery) -> Page[use.Pulls]:
    """Who pulled a manifest, by day; its repository's maintainers may ask for theirs."""
    found = await use.list_pulls(
        call.services.database,
        actor=call.actor,
        digest=str(parse_content_digest(query.digest)),
        repository=None if query.repository is None else parse_repository_name(query.repository),
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page(found, key=lambda pulls: pulls.cursor)


def _filters(query: Filters) -> use.Filters:
    return use.Filters(**{name: getattr(query, name) for name in Filters.model_fields})


def _json_lines(lines: Sequence[use.Line]) -> bytes:
    shown = (json.dumps(asdict(line), default=_shown, ensure_ascii=True) for line in lines)
    return "".join(f"{line}\n" for line in shown).encode()


def _shown(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat().replace("+00:00", "Z")


ROUTES = (
    Route("GET", "/audit", "anyone", list_audit),
    Route("GET", "/audit/export", "anyone", export_audit, media_type=EXPORT_TYPE),
    Route("GET", "/audit/pulls", "anyone", list_pulls),
)
