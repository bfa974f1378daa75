"""Users as administrators manage them, and auditors see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from registry.auth.policy import may_administer
from registry.http.api import htpasswd, sessions, users
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    switches_off,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.htpasswd import Imported

SHOWN = 50
LIST = "/administration/users"


class UsersQuery(CursorQuery):
    """Which users."""

    prefix: str = Field(default="", max_length=64)


@dataclass(frozen=True, slots=True)
class MadePassword:
    """A password that is shown this once, and whose it is."""

    name: str
    password: str


async def show_users(call: Call) -> web.Response:
    """All users by name, and a form for another one."""
    return await _users(call, None)


async def create_user(call: Call) -> web.Response:
    """Make a user, and show the generated password this once."""
    fields = read_form(call)
    wanted = given_body(
        users.NewUser,
        name=field(fields, "name"),
        admin=fields.get("admin") == "yes",
        auditor=fields.get("auditor") == "yes",
    )
    made = await users.create_user(call, wanted)
    return await _users(call, MadePassword(made.name, made.password or ""))


async def import_users(call: Call) -> web.Response:
    """Make the users of an htpasswd file, and show which lines made none, and why."""
    wanted = given_body(htpasswd.Htpasswd, htpasswd=field(read_form(call), "htpasswd"))
    return await _users(call, None, imported=await htpasswd.import_users(call, wanted))


async def show_user(call: Call) -> web.Response:
    """One user, with the roles and sessions."""
    return await _user(call, None)


async def change_user(call: Call) -> web.Response:
    """Change what a user is."""
    fields = read_form(call)
    change = users.UserChange(admin=fields.get("admin") == "yes", auditor=fields.get("auditor") == "yes")
    await users.change_user(call, _name(call), change, as_seen(call))
    return moved(call, _path(call))


async def switch_user(call: Call) -> web.Response:
    """Disable a user, or enable it again."""
    change = users.UserChange(disabled=switches_off(read_form(call)))
    await users.change_user(call, _name(call), change, NO_CONDITIONS)
    return moved(call, _path(call))


async def reset_password(call: Call) -> web.Response:
    """Give another a new password, and show it this once."""
    name = _name(call)
    keeps = read_form(call).get("keep_tokens") == "yes"
    made = await users.set_password(call, name, users.PasswordChange(keep_tokens=keeps))
    return await _user(call, MadePassword(made.name, made.password or ""))


async def end_sessions(call: Call) -> web.Response:
    """End all sessions of a user."""
    await sessions.revoke_sessions(call, sessions.OfAccount(account=_name(call)))
    return moved(call, _path(call))


async def delete_user(call: Call) -> web.Response:
    """Remove a user with its tokens, sessions and roles."""
    name = _name(call)
    require_confirmed(read_form(call), name)
    await users.delete_user(call, name, NO_CONDITIONS)
    return moved(call, LIST)


async def _users(call: Call, made: MadePassword | None, *, imported: Imported | None = None) -> web.Response:
    query = UsersQuery() if made or imported else read_query(call.request, UsersQuery, leaves_out_empty=True)
    found = await users.list_users(
        call, users.UsersQuery(limit=SHOWN, cursor=query.cursor, prefix=query.prefix)
    )
    kept = [("prefix", query.prefix)]
    return page(
        call.request,
        "users.html",
        title=text("administration.users"),
        users=found.items,
        prefix=query.prefix,
        made=made,
        imported=imported,
        manages=may_administer(call.actor),
        next_path=LIST + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        first_path=LIST + chosen(kept) if query.cursor else None,
        status=200 if made is None else 201,
        lines=Lines(
            api=["GET /api/v1/users", "POST /api/v1/users"],
            cli=["seatrial user list", "seatrial user create NAME"],
        ),
    )


async def _user(call: Call, made: MadePassword | None) -> web.Response:
    name = _name(call)
    user = await users.show_user(call, name)
    manages = may_administer(call.actor)
    held = await users.list_roles_of_user(call, name, PageQuery(limit=SHOWN))
    signed_in = await _sessions(call, name) if manages else ()
    return page(
        call.request,
        "user.html",
        title=name,
        user=user,
        grants=held.items,
        has_more=held.next is not None,
        sessions=signed_in,
        made=made,
        manages=manages,
        is_self=name == call.actor.name,
        path=_path(call),
        status=200 if made is None else 201,
        lines=Lines(
            api=[
                f"GET /api/v1/users/{name}",
                f"PATCH /api/v1/users/{name}",
                f"POST /api/v1/users/{name}/password",
            ],
            cli=[
                f"seatrial user show {name}",
                f"seatrial user password {name}",
                f"seatrial user disable {name}",
            ],
        ),
    )


async def _sessions(call: Call, name: str) -> list[sessions.SignedInSession]:
    found = await sessions.list_sessions(call, sessions.SessionQuery(account=name, limit=SHOWN))
    return list(found.items)


def _name(call: Call) -> str:
    return call.request.match_info["user"]


def _path(call: Call) -> str:
    return f"{LIST}/{_name(call)}"
