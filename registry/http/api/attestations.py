"""``/api/v1/repositories/NAME/attestations``: what the registry has signed of its verdicts."""

from __future__ import annotations

from typing import Any

from registry.errors import NameUnknownError, NotFoundError
from registry.http.api.fields import ContentDigest, RepositoryName
from registry.http.api.models import Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.digest import parse_content_digest
from registry.trials import attested as use


class AttestationsQuery(PageQuery):
    """Of which image, if not of all."""

    digest: ContentDigest | None = None


async def list_attestations(call: Call, name: RepositoryName, query: AttestationsQuery) -> Page[use.Attested]:
    """What is attested of an image, or of all that the repository holds.

    Each is a referrer of its image as well, for cosign and others to find."""
    digest = None if query.digest is None else str(parse_content_digest(query.digest))
    found = await use.list_attested(
        call.services.database,
        actor=call.actor,
        repository=name,
        digest=digest,
        limit=query.limit + 1,
        after=query.number,
    )
    return query.page(found, key=lambda each: str(each.id))


async def list_attestation_differences(
    call: Call, name: RepositoryName, query: PageQuery
) -> Page[use.Difference]:
    """Where what is attested is not what the database says; empty is good."""
    found = await use.list_differences(
        call.services.database,
        actor=call.actor,
        repository=name,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page(found, key=use.Difference.cursor)


async def show_document(call: Call, name: RepositoryName, digest: ContentDigest) -> dict[str, Any]:
    """A run spec or policy that attestations name by its digest."""
    return await use.show_document(call.services.database, actor=call.actor, repository=name, digest=digest)


_OF = "/repositories/{name}"
ROUTES = (
    Route("GET", f"{_OF}/attestations", "anyone", list_attestations, errors=(NameUnknownError,)),
    Route(
        "GET",
        f"{_OF}/attestations/differences",
        "anyone",
        list_attestation_differences,
        errors=(NameUnknownError,),
    ),
    Route(
        "GET",
        f"{_OF}/documents/{{digest}}",
        "anyone",
        show_document,
        errors=(NameUnknownError, NotFoundError),
    ),
)
