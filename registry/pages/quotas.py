"""What places hold and may hold, as bars; and, for administrators, forms to limit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.auth.policy import may_administer
from registry.content.quotas import RESOURCES, TOLD_AT
from registry.contract.sizes import parse_size_bytes
from registry.http.api import quotas
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.places import OnQuery, may, path_on
from registry.pages.rendering import Lines, chosen, page, shown_bytes
from registry.pages.serving import (
    CursorQuery,
    as_body,
    as_seen,
    field,
    moved,
    read_form,
    require_sure,
    whole_number,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from registry.content.placequotas import CountingQuotas, PlaceQuotas
    from registry.db.quotas import Resource
    from registry.pages.serving import Fields

SHOWN = 50


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of a resource is used, of how much; ``level`` is the largest share of it that is reached of
    those that events tell of (80, 100), or 0."""

    resource: Resource
    used: str
    most: str | None
    percent: int | None
    level: int

    @property
    def width(self) -> int:
        """Of a hundred."""
        return min(self.percent or 0, 100)


async def show_quota(call: Call) -> web.Response:
    """What a place holds, of how much, and what counts above it."""
    on = read_query(call.request, OnQuery, leaves_out_empty=True).on
    found = await quotas.show_quota(call, quotas.QuotaQuery(on=on))
    return page(
        call.request,
        "quota.html",
        title=text("quota.title", on=on),
        on=on,
        here_tab="quota",
        found=found,
        bars=bars_of(found),
        above=[(place.on, bars_of(place, limited=True)) for place in found.above],
        resources=[one for one in RESOURCES if one != "repositories" or on.endswith("/")],
        typed={one: _typed(one, found.quota.of(one)) for one in RESOURCES},
        manages=may(call, "configure", on),
        limits=may_administer(call.actor),
        lines=Lines(
            api=[f"GET /api/v1/quota?on={on}", "PATCH /api/v1/quota"],
            cli=[f"seatrial quota show {on}", f"seatrial quota set {on} --bytes 20GiB"],
        ),
    )


async def list_quotas(call: Call) -> web.Response:
    """The places that have quotas, for administrators and auditors."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await quotas.list_quotas(call, PageQuery(limit=SHOWN, cursor=query.cursor))
    return page(
        call.request,
        "quotas.html",
        title=text("quotas.title"),
        places=[(place.on, bars_of(place, limited=True)) for place in found.items],
        next_path="/quotas" + chosen([("cursor", found.next)]) if found.next else None,
        first_path="/quotas" if query.cursor else None,
        lines=Lines(api=["GET /api/v1/quotas"], cli=["seatrial quota list"]),
    )


async def change_quota(call: Call) -> web.Response:
    """Limit what a place may hold; what is left empty is limited no longer."""
    fields = read_form(call)
    on = field(fields, "on")
    here = [one for one in RESOURCES if one != "repositories" or on.endswith("/")]
    wanted: dict[str, object] = {one: _amount(fields, one) for one in here}
    await quotas.change_quota(call, as_body(quotas.QuotaChange, {"on": on, **wanted}), as_seen(call))
    return moved(call, path_on("/quota", on))


async def clear_quota(call: Call) -> web.Response:
    """Take all quotas of a place away."""
    fields = read_form(call)
    on = field(fields, "on")
    require_sure(fields, text("sure.quota", on=on), comes_to=text("sure.policy.then"))
    await quotas.clear_quota(call, as_body(quotas.QuotaQuery, {"on": on}), as_seen(call))
    return moved(call, path_on("/quota", on))


def bars_of(place: PlaceQuotas | CountingQuotas, *, limited: bool = False) -> Sequence[Bar]:
    """A bar for each resource; with ``limited`` only for those that have a quota."""
    found = []
    for resource in RESOURCES:
        used, most = place.used.of(resource), place.quota.of(resource)
        if (limited or (resource == "repositories" and not place.on.endswith("/"))) and most is None:
            continue
        percent = None if most is None else 100 * used // most if most else 100
        level = max((share for share in TOLD_AT if percent is not None and percent >= share), default=0)
        shown = None if most is None else _shown(resource, most)
        found.append(Bar(resource, _shown(resource, used), shown, percent, level))
    return found


def _shown(resource: Resource, amount: int) -> str:
    return shown_bytes(amount) if resource == "bytes" else str(amount)


def _typed(resource: Resource, most: int | None) -> str:
    """A quota as it is typed into the form."""
    if most is None or resource != "bytes":
        return "" if most is None else str(most)
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if most and most % factor == 0:
            return f"{most // factor}{unit}"
    return str(most)


def _amount(fields: Fields, resource: Resource) -> int | None:
    words = fields.get(resource, "").replace(" ", "")
    if resource != "bytes":
        return whole_number(fields, resource)
    return parse_size_bytes(words) if words else None
