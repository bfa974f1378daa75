"""One's own account: API tokens, which are shown once, and sessions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.auth.passwords import MAX_LENGTH, MIN_LENGTH
from registry.http.api import about, refreshtokens, sessions, tokens, users
from registry.http.api.routes import Call, read_query
from registry.pages.once import show_token_once
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_body,
    field,
    moved,
    read_form,
    require_confirmed,
    require_here,
    require_sure,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.pages.serving import Fields

SHOWN = 50
ROLES_SHOWN = 200
TOKENS = "/account"
SESSIONS = "/account/sessions"
DAY = 24 * 3600
LIVES: Mapping[str, int | None] = MappingProxyType(
    {"hour": 3600, "day": DAY, "month": 30 * DAY, "year": 365 * DAY, "ever": None}
)
"""How long a new token lives, in seconds, by the words of the form."""


async def show_tokens(call: Call) -> web.Response:
    """One's own API tokens, and a form for another one."""
    cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    wanted = tokens.TokenQuery(account=call.actor.name, limit=SHOWN, cursor=cursor)
    found = await tokens.list_tokens(call, wanted)
    return page(
        call.request,
        "tokens.html",
        title=text("tokens.title"),
        here_tab="tokens",
        tokens=found.items,
        lives=tuple(LIVES),
        next_path=TOKENS + chosen([("cursor", found.next)]) if found.next else None,
        first_path=TOKENS if cursor else None,
        lines=Lines(
            api=["GET /api/v1/tokens", "POST /api/v1/tokens", "DELETE /api/v1/tokens/ID"],
            cli=[
                "seatrial token list",
                "seatrial token create --name NAME --scope repository:team/app:pull",
                "seatrial token rotate ID",
                "seatrial token revoke ID",
            ],
        ),
    )


async def create_token(call: Call) -> web.Response:
    """Make a token, and show its secret this once."""
    made = await tokens.create_token(call, wanted_token(read_form(call)))
    return show_token_once(call, made, back=TOKENS)


async def rotate_token(call: Call) -> web.Response:
    """Replace a token, and show the new secret this once; the old one works for some time more."""
    token = await token_of(call, call.actor.name)
    made = await tokens.rotate_token(call, token.id, tokens.TokenRotation())
    return show_token_once(call, made, back=TOKENS)


async def revoke_token(call: Call) -> web.Response:
    """Let a token open nothing any more."""
    await revoke_one(call, await token_of(call, call.actor.name))
    return moved(call, TOKENS)


async def show_rights(call: Call) -> web.Response:
    """What one is, with what one came, and which roles one holds."""
    me = await about.show_whoami(call)
    return page(
        call.request,
        "rights.html",
        title=text("rights.title"),
        here_tab="rights",
        me=me,
        roles=me.roles[:ROLES_SHOWN],
        more=max(0, len(me.roles) - ROLES_SHOWN),
        lines=Lines(
            api=[
                "GET /api/v1/whoami",
                f"GET /api/v1/access/explain?actor={me.name}&action=push&target=team/app",
            ],
            cli=["seatrial whoami", f"seatrial access explain {me.name} push team/app"],
        ),
    )


async def show_sessions(call: Call) -> web.Response:
    """Where one is signed in."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    wanted = sessions.SessionQuery(account=call.actor.name, limit=SHOWN, cursor=query.cursor)
    found = await sessions.list_sessions(call, wanted)
    whose = refreshtokens.Filter(account=call.actor.name, limit=SHOWN)
    clients = await refreshtokens.list_refresh_tokens(call, whose)
    return page(
        call.request,
        "sessions.html",
        title=text("sessions.title"),
        here_tab="sessions",
        account=call.actor.name,
        sessions=found.items,
        clients=clients.items,
        next_path=SESSIONS + chosen([("cursor", found.next)]) if found.next else None,
        first_path=SESSIONS if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/sessions", "DELETE /api/v1/sessions/ID"],
            cli=["seatrial session list", "seatrial session revoke ID", "seatrial refresh-token list"],
        ),
    )


async def revoke_refresh_token(call: Call) -> web.Response:
    """Let what a client keeps in the place of a password open nothing any more."""
    await refreshtokens.revoke_own_refresh_token(call, call.request.match_info["token_id"])
    return moved(call, SESSIONS)


async def revoke_session(call: Call) -> web.Response:
    """End a session, also this one."""
    await sessions.revoke_own_session(call, call.request.match_info["session_id"])
    return moved(call, SESSIONS)


async def end_everything(call: Call) -> web.Response:
    """Let nothing that one was given open anything any more: tokens, sessions, also this one."""
    require_confirmed(read_form(call), call.actor.name)
    await tokens.revoke_credentials(call, tokens.Revocation(account=call.actor.name))
    return moved(call, f"/sign-in{chosen([('next', SESSIONS)])}")


async def show_password(call: Call) -> web.Response:
    """A form to change one's own password."""
    return page(
        call.request,
        "password.html",
        title=text("password.title"),
        here_tab="password",
        least=MIN_LENGTH,
        most=MAX_LENGTH,
        lines=Lines(
            api=["POST /api/v1/users/NAME/password"],
            cli=["seatrial user password NAME --old-password-file FILE --password-file FILE"],
        ),
    )


async def change_password(call: Call) -> web.Response:
    """Change it; all sessions end, also this one."""
    fields = read_form(call)
    wanted = as_body(
        users.PasswordChange, {"old_password": field(fields, "old"), "password": field(fields, "new")}
    )
    await users.set_password(call, call.actor.name, wanted)
    return moved(call, f"/sign-in{chosen([('next', SESSIONS)])}")


async def token_of(call: Call, account: str) -> tokens.Token:
    """The token that the address names, if it is one of that account.

    Raises:
        NotFoundError: it is not.
    """
    token = await tokens.show_token(call, call.request.match_info["token_id"])
    require_here(is_here=token.account == account, what="token")
    return token


async def revoke_one(call: Call, token: tokens.Token) -> None:
    """Let it open nothing any more, once the visitor was asked.

    Raises:
        UnsureError: he was not.
    """
    require_sure(read_form(call), text("sure.token", name=token.name), comes_to=text("sure.token.then"))
    await tokens.revoke_token(call, token.id)


def wanted_token(fields: Fields, *, account: str | None = None) -> tokens.NewToken:
    """The token that a form describes, for an account: without one, for the visitor's.

    Raises:
        RequestInvalidError: it is not valid, and why.
    """
    given: dict[str, object] = {
        "name": field(fields, "name"),
        "scopes": tuple(fields.get("scopes", "").split()),
        "account": account,
    }
    if networks := fields.get("networks", "").split():
        given["networks"] = tuple(networks)
    if (lives := fields.get("lives", "")) in LIVES:
        # Null is said and not left out: it lives for ever.
        given["expires_seconds"] = LIVES[lives]
    return as_body(tokens.NewToken, given)
