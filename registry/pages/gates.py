"""The gate of a repository: what another one would have refused before it is set, and pauses above it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from pydantic import Field

from registry.auth.policy import Visibility, decide, namespaces_above
from registry.content.administration import find
from registry.http.api import gate
from registry.http.api.repositories import RepositoryChange, change_repository, show_repository
from registry.http.api.routes import Call, read_query
from registry.http.api.visibility import VisibilityQuery, preview_visibility
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_seen,
    field,
    given_body,
    moved,
    needed_number,
    read_form,
    require_here,
)
from registry.pages.texts import text
from registry.settings import Gate
from registry.trials.pausing import PAUSE_MAX
from registry.trials.relief import pause_of
from registry.trials.states import STRICTNESS

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50
_WIDEST_FIRST = ("public", "internal", "private")
DAYS = 30
DAYS_MAX = 365
PAUSE_HOURS_MAX = int(PAUSE_MAX.total_seconds() // 3600)


class GateQuery(CursorQuery):
    """Which gate to look at, by the pulls of how many days; ``visibility`` is changed along with it."""

    gate: Gate | None = None
    visibility: Visibility | None = None
    days: int = Field(default=DAYS, ge=1, le=DAYS_MAX)


def is_stricter(wanted: str, now: str) -> bool:
    """Whether one gate refuses more than another."""
    return STRICTNESS.get(wanted, 0) > STRICTNESS[now]


def is_narrower(wanted: str, now: str) -> bool:
    """Whether fewer may pull by one visibility than by another."""
    return _WIDEST_FIRST.index(wanted) > _WIDEST_FIRST.index(now) if wanted in _WIDEST_FIRST else False


async def show_gate(call: Call) -> web.Response:
    """What the gate does, what another one would have refused, and a form to have that one."""
    name = call.request.match_info["name"]
    query = read_query(call.request, GateQuery, leaves_out_empty=True)
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    repository = await show_repository(call, name)
    previewed, losing = None, None
    since = datetime.now(UTC) - timedelta(days=query.days)
    if query.visibility is not None and is_narrower(query.visibility, repository.visibility):
        losing = await preview_visibility(
            call, name, VisibilityQuery(visibility=query.visibility, since=since, limit=SHOWN)
        )
    if query.gate is not None:
        previewed = await gate.preview_gate(
            call,
            gate.PreviewQuery(
                name=name,
                gate=query.gate,
                since=since,
                limit=SHOWN,
                cursor=query.cursor,
            ),
        )

    def may_pause(namespace: str) -> bool:
        return decide(call.actor, "configure", f"{namespace}/", None).allowed

    path = f"/r/{name}/-/gate"
    kept = [("gate", query.gate), ("visibility", query.visibility), ("days", str(query.days))]
    following = previewed.next if previewed is not None else None
    wanted = query.gate or repository.gate
    return page(
        call.request,
        "gate.html",
        title=text("gate.title", name=name),
        name=name,
        here_tab="gate",
        here_part="gate",
        path=path,
        repository=repository,
        gates=get_args(Gate),
        gate=wanted,
        visibility=query.visibility,
        days=query.days,
        days_max=DAYS_MAX,
        stopped=None if previewed is None else previewed.items,
        losing=losing,
        refused=0
        if previewed is None
        else sum(one.decision in ("refuse", "wait") for one in previewed.items),
        changes=wanted != repository.gate or query.visibility not in (None, repository.visibility),
        pause=await pause_of(call.services.database, name),
        pausable=[one for one in namespaces_above(name) if may_pause(one)],
        hours_max=PAUSE_HOURS_MAX,
        manages=True,
        next_path=path + chosen([*kept, ("cursor", following)]) if following else None,
        first_path=path + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=[
                f"GET /api/v1/gate/preview?name={name}",
                f"GET /api/v1/repositories/{quote(name, '')}/visibility/preview",
                f"PATCH /api/v1/repositories/{quote(name, '')}",
            ],
            cli=[
                f"seatrial gate preview {name} --mode {wanted} --since {query.days}d",
                f"seatrial repo preview {name} --visibility private",
                f"seatrial repo set {name} --gate {wanted}",
                "seatrial gate pause NAMESPACE --for 4h --reason WHY",
            ],
        ),
    )


async def change_gate(call: Call) -> web.Response:
    """Have the gate, and the visibility if one is given with it, that was looked at."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    wanted = given_body(RepositoryChange, gate=field(fields, "gate"), visibility=fields.get("visibility"))
    await change_repository(call, name, wanted, as_seen(call))
    return moved(call, f"/r/{name}/-/gate")


async def pause_gate(call: Call) -> web.Response:
    """Let the gates below a namespace only warn for some hours."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    hours = needed_number(fields, "hours", least=1, most=PAUSE_HOURS_MAX)
    until = datetime.now(UTC) + timedelta(hours=hours)
    await gate.pause_gate(
        call,
        given_body(
            gate.NewPause,
            namespace=_above(name, field(fields, "namespace")),
            until=until,
            reason=field(fields, "reason"),
        ),
    )
    return moved(call, f"/r/{name}/-/gate")


async def resume_gate(call: Call) -> web.Response:
    """End a pause before its time."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    await gate.resume_gate(call, _above(name, field(read_form(call), "namespace")))
    return moved(call, f"/r/{name}/-/gate")


def _above(name: str, namespace: str) -> str:
    """A namespace above the repository, whose gates are paused on its page."""
    require_here(is_here=namespace in namespaces_above(name), what="namespace")
    return namespace
