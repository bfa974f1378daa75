"""One API token, for whoever manages it: what it may, changed downward, replaced, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import RequestInvalidError
from registry.http.api import tokens
from registry.http.api.routes import Call
from registry.pages.account import DAY, TOKENS, revoke_one
from registry.pages.once import show_token_once
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import as_seen, field, given_body, moved, read_form, utc_time

if TYPE_CHECKING:
    from aiohttp import web

OVERLAPS: Mapping[str, int] = MappingProxyType({"hour": 3600, "none": 0, "day": DAY, "week": 7 * DAY})
"""How long a token works beside the one that replaces it, in seconds, by the words of the form; the first is
what is usual."""


async def show_token(call: Call) -> web.Response:
    """A token with what it may and when it was used, and forms to change it, to replace it and to end it."""
    token = await tokens.show_token(call, _id(call))
    return page(
        call.request,
        "token.html",
        title=token.name,
        token=token,
        is_own=token.account == call.actor.name,
        overlaps=tuple(OVERLAPS),
        list_path=_list_path(call, token.account),
        path=f"/tokens/{token.id}",
        lines=Lines(
            api=[f"GET /api/v1/tokens/{token.id}", f"PATCH /api/v1/tokens/{token.id}"],
            cli=[
                f"seatrial token show {token.id}",
                f"seatrial token set {token.id} --network 10.0.0.0/8 --expires-at TIME",
                f"seatrial token rotate {token.id} --overlap 1h",
                f"seatrial token revoke {token.id}",
            ],
        ),
    )


async def change_token(call: Call) -> web.Response:
    """Give it another name, fewer networks or an earlier end, as it was seen; what is left empty
    stays."""
    fields = read_form(call)
    token_id = _id(call)
    networks = fields.get("networks", "").split()
    wanted = given_body(
        tokens.TokenChange,
        name=fields.get("name"),
        networks=tuple(networks) or None,
        expires_at=utc_time(fields.get("expires_at")),
    )
    await tokens.change_token(call, token_id, wanted, as_seen(call))
    return moved(call, f"/tokens/{token_id}")


async def rotate_token(call: Call) -> web.Response:
    """Replace it, and show the new secret this once; the old one works for as long as was chosen."""
    overlap = field(read_form(call), "overlap")
    if overlap not in OVERLAPS:
        raise RequestInvalidError(f"overlap: one of {', '.join(OVERLAPS)}")
    wanted = tokens.TokenRotation(overlap_seconds=OVERLAPS[overlap])
    made = await tokens.rotate_token(call, _id(call), wanted)
    return show_token_once(call, made, back=f"/tokens/{made.id}")


async def revoke_token(call: Call) -> web.Response:
    """Let it open nothing any more, nor what was made with it."""
    token = await tokens.show_token(call, _id(call))
    await revoke_one(call, token)
    return moved(call, f"/tokens/{token.id}")


def _list_path(call: Call, account: str) -> str:
    """The page that has the tokens of an account, as far as it is for the visitor."""
    if account == call.actor.name:
        return TOKENS
    namespace, plus, own = account.rpartition("+")
    if plus:
        return f"/n/{namespace}/-/robots/{own}"
    return "/administration/tokens" + chosen([("account", account)])


def _id(call: Call) -> str:
    return call.request.match_info["token_id"]
