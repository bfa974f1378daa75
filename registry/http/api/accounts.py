"""``/api/v1/accounts``: the accounts of people."""

from __future__ import annotations

from registry.auth import accounts as use
from registry.http.api.routes import Body, Call, Route, page, shown_time


class NewUser(Body):
    """A user to make; without a password one is generated and told once."""

    name: str
    password: str | None = None
    admin: bool = False


async def create_user(call: Call) -> object:
    """Make a user."""
    body = await call.body(NewUser)
    password = use.new_password() if body.password is None else body.password
    account = await use.create_user(
        call.services.database,
        call.services.tokens.credentials.passwords,
        actor=call.actor,
        name=body.name,
        password=password,
        is_admin=body.admin,
    )
    return {**_shown(account), **({"password": password} if body.password is None else {})}


async def list_users(call: Call) -> object:
    """All users, by name."""
    asked = page(call.query("limit", "cursor"))
    found = await use.list_users(
        call.services.database, actor=call.actor, limit=asked.limit + 1, after=asked.after
    )
    return asked.answer(found, key=lambda account: account.name, show=_shown)


async def disable_user(call: Call) -> object:
    """Let a user do nothing from now on."""
    call.query()
    await use.disable_user(call.services.database, actor=call.actor, name=call.path("name"))
    return None


def _shown(account: use.Account) -> dict[str, object]:
    return {
        "name": account.name,
        "admin": account.is_admin,
        "created_at": shown_time(account.created_at),
        "disabled_at": shown_time(account.disabled_at),
    }


ROUTES = (
    Route("POST", "/accounts", "admin", create_user, status=201),
    Route("GET", "/accounts", "admin", list_users),
    Route("POST", "/accounts/{name}/disable", "admin", disable_user),
)
