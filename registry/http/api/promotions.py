"""``/api/v1/promotions``: tags that are set in one repository to what another one has."""

from __future__ import annotations

from pydantic import Field

from registry.errors import (
    ConflictError,
    ManifestUnknownError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
)
from registry.http.api.fields import Id, ImageReference, RepositoryName, StandsAt
from registry.http.api.models import Body, Page, PageQuery
from registry.http.api.reasons import Reason, numbered, one_line
from registry.http.api.routes import Call, Route
from registry.http.authentication import base_url
from registry.oci.digest import parse_content_digest
from registry.oci.names import split_repository_reference
from registry.trials import promotionrows
from registry.trials import promotions as use
from registry.trials.promoting import Destination, Offer, Preview, find_offer
from registry.trials.promotionrows import Promotion


class WantedPromotion(Body):
    """What is promoted where to, and why."""

    source: ImageReference = Field(
        description="`NAME:TAG` or `NAME@DIGEST`; with both the tag has to stand at the digest."
    )
    to: ImageReference = Field(description="`NAME:TAG`; without a tag, that of the source.")
    reason: Reason | None = None
    stands_at: StandsAt | None = None


class PromotionsQuery(PageQuery):
    """Into which repository."""

    repository: RepositoryName | None = None


async def promote(call: Call, body: WantedPromotion) -> Promotion:
    """Set a tag to an image of another repository, with its referrers, signatures and verdicts.

    For those who may pull the one and push to the other. It is refused where the destination does not find
    the image good; where its namespace wants two people, it is `requested` until another one grants it.
    """
    services = call.services
    offer = await _offer(call, body)
    return await use.promote(
        services.database, services.settings, services.effects, offer=offer, stands_at=body.stands_at
    )


async def preview_promotion(call: Call, body: WantedPromotion) -> Preview:
    """What a promotion would do now, and why it would be refused; nothing is changed."""
    services = call.services
    offer = await _offer(call, body)
    return await use.preview(services.database, services.settings, services.effects, offer=offer)


async def list_promotions(call: Call, query: PromotionsQuery) -> Page[Promotion]:
    """Promotions and requests for some, the newest first, also those that are over.

    For those who may pull from the repository that they go into.
    """
    found = await promotionrows.list_promotions(
        call.services.database,
        actor=call.actor,
        name=query.repository,
        limit=query.limit + 1,
        before=query.number,
    )
    return query.page(found, key=lambda each: str(each.id))


async def show_promotion(call: Call, promotion_id: Id) -> Promotion:
    """One promotion."""
    number = numbered(promotion_id, "promotion")
    return await promotionrows.show(call.services.database, actor=call.actor, number=number)


async def grant_promotion(call: Call, promotion_id: Id) -> Promotion:
    """Agree to a promotion that somebody else asked for; it is judged again and carried out."""
    services = call.services
    return await use.grant(
        services.database,
        services.settings,
        services.effects,
        actor=call.actor,
        number=numbered(promotion_id, "promotion"),
        base_url=base_url(call.request),
    )


async def end_promotion(call: Call, promotion_id: Id) -> Promotion:
    """Refuse a promotion that somebody asked for, or take back one's own request."""
    number = numbered(promotion_id, "promotion")
    return await use.end(call.services.database, actor=call.actor, number=number)


async def undo_promotion(call: Call, promotion_id: Id) -> Promotion:
    """Take the tag back to where it stood before, if nobody has moved it since.

    Where it was new it is deleted, which takes the right to that.
    """
    services = call.services
    number = numbered(promotion_id, "promotion")
    return await use.undo(
        services.database, services.settings, services.effects, actor=call.actor, number=number
    )


async def _offer(call: Call, body: WantedPromotion) -> Offer:
    reason = "" if body.reason is None else one_line(body.reason)
    name, tag, digest = split_repository_reference(body.source)
    to_name, to_tag, to_digest = split_repository_reference(body.to)
    if tag is None and digest is None:
        tag = "latest"
    if to_digest is not None:
        raise RequestInvalidError(
            f"{body.to[:80]!r} names a digest; what is set is a tag, as in team/app:1.0"
        )
    if to_tag is None and tag is None:
        raise RequestInvalidError(f"{body.to[:80]!r} names no tag, and {body.source[:80]!r} has none either")
    return await find_offer(
        call.services.database,
        call.services.settings,
        actor=call.actor,
        name=name,
        tag=tag,
        digest=None if digest is None else parse_content_digest(str(digest)),
        to=Destination(to_name, to_tag or tag or ""),
        reason=reason,
        base_url=base_url(call.request),
    )


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError, ConflictError)
ROUTES = (
    Route("POST", "/promotions", "anyone", promote, status=201, errors=_GONE),
    Route("POST", "/promotions/preview", "anyone", preview_promotion, errors=_GONE),
    Route("GET", "/promotions", "anyone", list_promotions, errors=(NameUnknownError,)),
    Route("GET", "/promotions/{promotion_id}", "anyone", show_promotion, errors=(NotFoundError,)),
    *(
        Route("POST", f"/promotions/{{promotion_id}}/{word}", "anyone", handler, errors=_GONE)
        for word, handler in (
            ("grant", grant_promotion),
            ("end", end_promotion),
            ("undo", undo_promotion),
        )
    ),
)
