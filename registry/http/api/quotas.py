"""``/api/v1/quota`` and ``/api/v1/quotas``: what places may hold, and what they hold."""

from __future__ import annotations

from pydantic import Field

from registry.content import placequotas as use
from registry.content.quotas import RESOURCES
from registry.errors import NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import PlaceKey
from registry.http.api.models import Body, Page, PageQuery, Query
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions

BYTES_MAX = 2**62
COUNT_MAX = 10**12


class QuotaQuery(Query):
    """Of which place."""

    on: PlaceKey


class QuotaChange(Body):
    """What a place may hold from now on; null: any amount. What is left out stays."""

    on: PlaceKey
    bytes: int | None = Field(
        default=None,
        ge=0,
        le=BYTES_MAX,
        description="Logical bytes: the sizes of the blobs and manifests of each repository.",
    )
    repositories: int | None = Field(
        default=None, ge=0, le=COUNT_MAX, description="Repositories below a namespace."
    )
    tags: int | None = Field(default=None, ge=0, le=COUNT_MAX)
    uploads: int | None = Field(
        default=None, ge=0, le=COUNT_MAX, description="Upload sessions that are open at once."
    )


async def list_quotas(call: Call, query: PageQuery) -> Page[use.PlaceQuotas]:
    """The places that have quotas, by name, with what they hold.

    For administrators and auditors.
    """
    database = call.services.database
    found = await use.list_limited(database, actor=call.actor, limit=query.limit + 1, after=query.cursor)
    return query.page(found, key=lambda place: place.on)


async def show_quota(call: Call, query: QuotaQuery) -> use.CountingQuotas:
    """What a repository, or all below a namespace together, holds and may hold.

    Quotas of namespaces above count as well; they are told to whoever may look into these.
    """
    return await use.show(call.services.database, actor=call.actor, on=query.on)


async def change_quota(call: Call, body: QuotaChange, conditions: Conditions) -> use.CountingQuotas:
    """Limit what a place may hold, or no longer.

    Less than it holds is allowed: more is refused then, and nothing is taken away. For administrators.
    """
    wanted = {each: getattr(body, each) for each in RESOURCES if each in body.model_fields_set}
    return await use.change(
        call.services.database, actor=call.actor, on=body.on, wanted=wanted, conditions=conditions
    )


async def clear_quota(call: Call, query: QuotaQuery, conditions: Conditions) -> None:
    """Take all quotas of a place away; those of namespaces above count on.

    For administrators.
    """
    await use.clear(call.services.database, actor=call.actor, on=query.on, conditions=conditions)


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/quotas", "anyone", list_quotas),
    Route("GET", "/quota", "anyone", show_quota, errors=_NOWHERE),
    Route("PATCH", "/quota", "admin", change_quota, errors=_NOWHERE),
    Route("DELETE", "/quota", "admin", clear_quota, errors=_NOWHERE),
)
