"""A repository: its tags, in the order of versions, of time or of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from pydantic import Field

from registry.auth.policy import decide, may_audit
from registry.content.administration import find
from registry.content.inspecting import PULLED_DAYS, totals_of
from registry.content.tagmatching import PATTERN_MAX
from registry.http.api.models import Query
from registry.http.api.repositories import show_repository as show_settings
from registry.http.api.routes import Call, read_query
from registry.http.api.tags import TagsQuery, search_tags
from registry.pages.readme import read_drawn
from registry.pages.rendering import Lines, chosen, page
from registry.trials.gate import EffectiveState
from registry.trials.tagsearch import Order

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


class RepositoryQuery(Query):
    """Which of its tags."""

    find: str | None = Field(default=None, max_length=PATTERN_MAX - 2, description="With a * on both sides.")
    state: EffectiveState | None = None
    order: Order = "version"
    cursor: str | None = Field(default=None, max_length=1024)


async def show_repository(call: Call) -> web.Response:
    """A page of tags, each with the state of its image."""
    name, query = (
        call.request.match_info["name"],
        read_query(call.request, RepositoryQuery, leaves_out_empty=True),
    )
    database = call.services.database
    repository = await find(database, actor=call.actor, action="pull", name=name)
    wanted = TagsQuery(
        glob=_glob(query.find), state=query.state, order=query.order, limit=SHOWN, cursor=query.cursor
    )
    found = await search_tags(call, repository, wanted)
    manages = decide(call.actor, "configure", name, repository.visibility).allowed
    # As the audit trail has it: who pulled is for those who manage, and auditors.
    counts = manages or may_audit(call.actor)
    totals = await totals_of(database, repository, {tag.digest for tag in found.items}, with_pulls=counts)
    kept = [("find", query.find), ("state", query.state), ("order", query.order)]
    is_narrow = bool(query.find or query.state or query.cursor)
    readme = "" if is_narrow else (await read_drawn(call, repository))[1]
    is_empty = not found.items and not is_narrow
    path = f"/r/{name}"
    return page(
        call.request,
        "repository.html",
        title=name,
        name=name,
        repository=repository,
        tags=found.items,
        totals=totals,
        counts=counts,
        pulled_days=PULLED_DAYS,
        readme=readme,
        query=query,
        states=get_args(EffectiveState),
        orders=get_args(Order),
        is_narrow=is_narrow,
        is_tried=is_empty and (await show_settings(call, name)).trial_on_push,
        here_tab="tags",
        manages=manages,
        pushes=decide(call.actor, "push", name, repository.visibility).allowed,
        next_path=path + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        first_path=path + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/repositories/{quote(name, '')}/tags?order={query.order}"],
            cli=[f"seatrial tag list {name} --order {query.order}"],
        ),
    )


def _glob(words: str | None) -> str | None:
    """What was typed, as a pattern: anywhere in the name, unless it says where."""
    return words if words is None or "*" in words else f"*{words}*"
