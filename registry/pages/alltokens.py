"""API tokens of everybody, for administrators: who has which, until when, last used; and an end to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from registry.auth.tokenlists import State
from registry.http.api import tokens
from registry.http.api.routes import Call, read_query
from registry.pages.account import revoke_one
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_body,
    field,
    moved,
    read_form,
    require_confirmed,
    require_sure,
    utc_time,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.tokens import Revoked

SHOWN = 50
LIST = "/administration/tokens"
EVERYBODY = "everybody"
Days = Literal["7", "30", "90", "365"]
_DAY = 24 * 3600


class TokensQuery(CursorQuery):
    """Which tokens: those of which all holds that is given."""

    account: str | None = Field(default=None, max_length=300)
    state: State | None = None
    expiring: Days | None = Field(default=None, description="They end within so many days.")
    unused: Days | None = Field(default=None, description="Nobody has used them for so many days.")


async def show_tokens(call: Call) -> web.Response:
    """Tokens of everybody, by filter."""
    return await _tokens(call, None)


async def revoke_token(call: Call) -> web.Response:
    """Let a token open nothing any more."""
    await revoke_one(call, await tokens.show_token(call, call.request.match_info["token_id"]))
    return moved(call, LIST)


async def revoke_of_account(call: Call) -> web.Response:
    """Let nothing that an account was given open anything any more; how much that was is shown."""
    fields = read_form(call)
    account = field(fields, "account")
    require_sure(fields, text("sure.tokens", account=account), comes_to=text("sure.tokens.then"))
    wanted = {"account": account, "before": utc_time(fields.get("before"))}
    return await _tokens(call, await tokens.revoke_credentials(call, as_body(tokens.Revocation, wanted)))


async def revoke_of_everybody(call: Call) -> web.Response:
    """The same of all accounts, also of the visitor's."""
    fields = read_form(call)
    require_confirmed(fields, EVERYBODY)
    wanted = {"everybody": True, "before": utc_time(fields.get("before"))}
    return await _tokens(call, await tokens.revoke_credentials(call, as_body(tokens.Revocation, wanted)))


async def _tokens(call: Call, revoked: Revoked | None) -> web.Response:
    query = TokensQuery() if revoked else read_query(call.request, TokensQuery, leaves_out_empty=True)
    wanted = {
        "account": query.account,
        "state": query.state,
        "expiring_within": _seconds(query.expiring),
        "unused_for": _seconds(query.unused),
        "limit": SHOWN,
        "cursor": query.cursor,
    }
    found = await tokens.list_tokens(call, as_body(tokens.TokenQuery, wanted))
    kept = [(name, getattr(query, name)) for name in ("account", "state", "expiring", "unused")]
    return page(
        call.request,
        "all-tokens.html",
        title=text("administration.tokens"),
        tokens=found.items,
        query=query,
        states=get_args(State),
        days=get_args(Days),
        is_narrow=any(value for _, value in kept),
        revoked=revoked,
        everybody=EVERYBODY,
        next_path=LIST + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        first_path=LIST + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/tokens", "DELETE /api/v1/tokens/ID", "POST /api/v1/tokens/revoke"],
            cli=[
                "seatrial token list --state active --unused-for 90d",
                "seatrial token revoke ID",
                "seatrial token revoke-all --account NAME --before TIME",
            ],
        ),
    )


def _seconds(days: str | None) -> int | None:
    return None if days is None else int(days) * _DAY
