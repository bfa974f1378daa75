"""``/api/v1/repositories/NAME/comparison``: two images beside each other."""

from __future__ import annotations

from pydantic import Field

from registry.content.repositories import Repository
from registry.errors import ManifestUnknownError, NameUnknownError, NotFoundError
from registry.http.api.fields import RepositoryName, TagOrDigest
from registry.http.api.models import Query
from registry.http.api.routes import Call, Route
from registry.http.parsers import PARSERS
from registry.trials import comparing as use


class ComparisonQuery(Query):
    """Which two."""

    before: TagOrDigest
    after: TagOrDigest
    platform: str | None = Field(
        default=None,
        max_length=200,
        description="Of indexes the images of this one, as in `linux/arm64`; else of the first that both "
        "have.",
    )


async def show_comparison(call: Call, name: RepositoryName, query: ComparisonQuery) -> use.Comparison:
    """What is different from one image of a repository to another: configuration, layers, packages, findings.

    What may not be pulled is not shown, nor what was found to those who may not read that: `null` then, and
    why.
    """
    return (await compare(call, name, query))[1]


async def compare(call: Call, name: str, query: ComparisonQuery) -> tuple[Repository, use.Comparison]:
    """As :func:`show_comparison`, with the repository."""
    services = call.services
    return await use.compare(
        services.database,
        services.blobs,
        services.settings,
        actor=call.actor,
        name=name,
        before=query.before,
        after=query.after,
        platform=query.platform,
        parsers=call.request.app[PARSERS],
    )


ROUTES = (
    Route(
        "GET",
        "/repositories/{name}/comparison",
        "anyone",
        show_comparison,
        errors=(NameUnknownError, ManifestUnknownError, NotFoundError),
    ),
)
