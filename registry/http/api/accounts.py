"""``/api/v1/accounts``: the accounts of people."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from registry.auth import accounts as use
from registry.auth.passwords import MAX_LENGTH, MIN_LENGTH
from registry.errors import ConflictError, NotFoundError
from registry.http.api.fields import AccountName
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route


class NewUser(Body):
    """A user to make; without a password one is generated and told once."""

    name: AccountName
    password: str | None = Field(
        default=None, json_schema_extra={"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}
    )
    admin: bool = False


class User(Answer):
    """The account of a person."""

    name: str
    admin: bool = Field(validation_alias="is_admin")
    created_at: datetime
    disabled_at: datetime | None


class MadeUser(User):
    """A user just made, with the password if one was generated."""

    password: str | None = Field(default=None, exclude_if=lambda password: password is None)


async def create_user(call: Call, body: NewUser) -> MadeUser:
    """Make a user."""
    password = use.new_password() if body.password is None else body.password
    account = await use.create_user(
        call.services.database,
        call.services.tokens.credentials.passwords,
        actor=call.actor,
        name=body.name,
        password=password,
        is_admin=body.admin,
    )
    return MadeUser.of(account).model_copy(update={} if body.password else {"password": password})


async def list_users(call: Call, query: PageQuery) -> Page[User]:
    """All users, by name."""
    found = await use.list_users(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page([User.of(account) for account in found], key=lambda user: user.name)


async def disable_user(call: Call, name: AccountName) -> None:
    """Let a user do nothing from now on."""
    await use.disable_user(call.services.database, actor=call.actor, name=name)


ROUTES = (
    Route(
        "POST",
        "/accounts",
        "admin",
        create_user,
        status=201,
        errors=(ConflictError,),
        secrets=("password",),
    ),
    Route("GET", "/accounts", "admin", list_users),
    Route("POST", "/accounts/{name}/disable", "admin", disable_user, errors=(NotFoundError, ConflictError)),
)
