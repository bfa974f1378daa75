"""Two images of a repository beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content.administration import find
from registry.errors import RequestInvalidError
from registry.http.api.comparing import ComparisonQuery, compare
from registry.http.api.models import Query
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page, short_digest
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.trials.comparing import Comparison

SHOWN = 200
"""Of each list; the API has all."""


class ChosenQuery(Query):
    """The fields of the form on the repository's page: one may not be chosen yet."""

    before: str | None = None
    after: str | None = None
    platform: str | None = None


async def show_compared(call: Call) -> web.Response:
    """What differs: verdicts, sizes, configuration, layers, packages, findings."""
    name = call.request.match_info["name"]
    given = read_query(call.request, ChosenQuery, leaves_out_empty=True)
    if given.before is None or given.after is None:
        await find(call.services.database, actor=call.actor, action="pull", name=name)
        raise RequestInvalidError("choose two tags, one in each column")
    query = read_query(call.request, ComparisonQuery, leaves_out_empty=True)
    repository, found = await compare(call, name, query)
    path, place = f"/r/{name}/-/compare", f"/api/v1/repositories/{quote(name, '')}"
    both = [("before", query.before), ("after", query.after)]
    return page(
        call.request,
        "compare.html",
        title=text("compare.title", before=short_digest(query.before), after=short_digest(query.after)),
        name=name,
        here_tab="compare",
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        found=found,
        sides=(("before", found.before), ("after", found.after)),
        platform=query.platform or found.after.platform,
        platforms=[(one, path + chosen([*both, ("platform", one)])) for one in found.platforms],
        turned=path
        + chosen([("before", query.after), ("after", query.before), ("platform", query.platform)]),
        most=SHOWN,
        sizes=_sizes(found),
        lines=Lines(
            api=[f"GET {place}/comparison?before={query.before}&after={query.after}"],
            cli=[f"seatrial image compare {name} {query.before} {query.after}"],
        ),
    )


def _sizes(found: Comparison) -> dict[str, int]:
    """How many bytes of layers both have, and each alone."""
    sizes = {"both": 0, "before": 0, "after": 0}
    for layer in found.layers or ():
        sizes[layer.standing] += layer.size
    return sizes
