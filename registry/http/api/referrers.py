"""``/api/v1/repositories/NAME/referrers/DIGEST``: what refers to an image, and who signed it."""

from __future__ import annotations

from registry.errors import ManifestUnknownError, NameUnknownError
from registry.http.api.fields import ContentDigest, RepositoryName
from registry.http.api.models import Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.trials import referring as use


async def list_referrers(
    call: Call, name: RepositoryName, digest: ContentDigest, query: PageQuery
) -> Page[use.Referrer]:
    """What refers to an image and what refers to that, oldest first, and who signed it, as far as is known.

    A signature is verified when it is pushed: `signer` names the registry's key, the rules for signatures of
    this place that it meets, or whom a trusted certificate names; empty where a key signed that no rule
    here has. What is no signature that the registry reads has no `signer`: nobody here says who made it.
    """
    found = await use.list_referrers(
        call.services.database,
        actor=call.actor,
        name=name,
        digest=digest,
        limit=query.limit,
        after=query.number or 0,
    )
    return Page(found.items, None if found.next_after is None else str(found.next_after))


ROUTES = (
    Route(
        "GET",
        "/repositories/{name}/referrers/{digest}",
        "anyone",
        list_referrers,
        errors=(NameUnknownError, ManifestUnknownError),
    ),
)
