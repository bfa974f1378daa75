"""The audit trail: who did what where, and when, and how it was decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from registry.db.eventkinds import EventKind
from registry.http.api import audit
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, as_body, utc_time
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.events.trail import Line

SHOWN = 50
LIST = "/administration/audit"
Decision = Literal["allowed", "refused"]
_ASKED = ("actor", "action", "repository", "target", "token", "decision", "since", "until")


class AuditQuery(CursorQuery):
    """Which lines: those of which all holds that is given. Times are of UTC."""

    actor: str | None = Field(default=None, max_length=300)
    action: EventKind | None = None
    repository: str | None = Field(default=None, max_length=300)
    target: str | None = Field(default=None, max_length=300)
    token: str | None = Field(default=None, max_length=100)
    decision: Decision | None = None
    since: str | None = Field(default=None, max_length=40)
    until: str | None = Field(default=None, max_length=40)


async def show_audit(call: Call) -> web.Response:
    """Lines of the trail by filter, the newest first, and a way to have all of them."""
    query = read_query(call.request, AuditQuery, leaves_out_empty=True)
    kept = [(name, getattr(query, name)) for name in _ASKED]
    filters = dict(kept) | {"since": utc_time(query.since), "until": utc_time(query.until)}
    wanted = filters | {"limit": SHOWN, "cursor": query.cursor}
    found = await audit.list_audit(call, as_body(audit.LinesQuery, wanted))
    return page(
        call.request,
        "audit.html",
        title=text("administration.audit"),
        rows=[(line, _told(line)) for line in found.items],
        query=query,
        kinds=sorted(get_args(EventKind)),
        decisions=get_args(Decision),
        is_narrow=any(value for _, value in kept),
        export_path="/api/v1/audit/export" + chosen(filters.items()),
        path=LIST,
        next_path=LIST + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        first_path=LIST + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/audit", "GET /api/v1/audit/export"],
            cli=["seatrial audit list --actor NAME --since 7d", "seatrial audit export FILE"],
        ),
    )


def _told(line: Line) -> str:
    """The rest of a line, as programs get it; empty where there is none."""
    return json.dumps(dict(line.data), ensure_ascii=False, indent=1, sort_keys=True) if line.data else ""
