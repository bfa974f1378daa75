"""``/api/v1/repositories/NAME/visibility/preview``: whom another visibility would keep out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import Field

from registry.auth.policy import Visibility
from registry.content.losing import Losing, list_losing
from registry.errors import NameUnknownError
from registry.http.api.fields import RepositoryName, Time
from registry.http.api.models import Page, PageQuery
from registry.http.api.routes import Call, Route

PREVIEWED = timedelta(days=30)


class VisibilityQuery(PageQuery):
    """Which visibility, and pulls since when."""

    visibility: Visibility = Field(default="private", description="The visibility that there would be.")
    since: Time | None = Field(default=None, description="Pulls of this day and later.")


async def preview_visibility(call: Call, name: RepositoryName, query: VisibilityQuery) -> Page[Losing]:
    """Who pulled from a repository and could not any more by another visibility; nothing changes.

    Without `since`, of the last 30 days. For maintainers, administrators and auditors.
    """
    found = await list_losing(
        call.services.database,
        actor=call.actor,
        name=name,
        visibility=query.visibility,
        since=query.since or datetime.now(UTC) - PREVIEWED,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page(found, key=lambda one: one.actor)


ROUTES = (
    Route(
        "GET",
        "/repositories/{name}/visibility/preview",
        "anyone",
        preview_visibility,
        errors=(NameUnknownError,),
    ),
)
