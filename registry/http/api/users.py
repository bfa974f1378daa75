"""``/api/v1/users``: the accounts of people."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from registry.auth import accounts as use
from registry.auth import grants, userpasswords
from registry.auth.passwords import MAX_LENGTH, MIN_LENGTH
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.http.api.fields import AccountName
from registry.http.api.members import Grant
from registry.http.api.models import Answer, Body, Page, PageQuery, Stored
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions

_LENGTHS: dict[str, JsonValue] = {"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}


class NewUser(Body):
    """A user to make; without a password one is generated and told once."""

    name: AccountName
    password: str | None = Field(default=None, json_schema_extra=_LENGTHS)
    admin: bool = False
    auditor: bool = False


class WantedUser(Body):
    """What a user is to be. One that is new has no password: ``POST …/password`` gives it one."""

    admin: bool = False
    auditor: bool = False
    disabled: bool = False


class UserChange(Body):
    """What to change; what is left out stays."""

    admin: bool | None = None
    auditor: bool | None = None
    disabled: bool | None = None


class PasswordChange(Body):
    """One's own password, by the old one; or as an administrator another's, generated and told once where
    it is left out, which revokes the user's API tokens unless they are to be kept."""

    password: str | None = Field(default=None, json_schema_extra=_LENGTHS)
    old_password: str | None = None
    keep_tokens: bool = False


class UsersQuery(PageQuery):
    """Which users."""

    prefix: str = Field(default="", max_length=64, description="What their names begin with.")


class User(Answer):
    """The account of a person. ``auditor``: reads everything, changes nothing."""

    name: str
    admin: bool = Field(validation_alias="is_admin")
    auditor: bool = Field(validation_alias="is_auditor")
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None
    etag: str = Field(exclude=True)


class MadeUser(User):
    """A user just made, with the password if one was generated."""

    password: str | None = Field(default=None, exclude_if=lambda password: password is None)


class NewPassword(Answer):
    """Whose password it is, and the password if one was generated."""

    name: str
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
        is_auditor=body.auditor,
    )
    return MadeUser.of(account).model_copy(update={} if body.password else {"password": password})


async def put_user(call: Call, name: AccountName, body: WantedUser, conditions: Conditions) -> Stored[User]:
    """Have a user as it is described."""
    account, is_new = await use.put_user(
        call.services.database,
        call.services.blobs,
        actor=call.actor,
        name=name,
        wanted=_change(body),
        conditions=conditions,
    )
    return Stored(User.of(account), is_new)


async def list_users(call: Call, query: UsersQuery) -> Page[User]:
    """All users, by name."""
    found = await use.list_users(
        call.services.database,
        actor=call.actor,
        limit=query.limit + 1,
        after=query.cursor,
        prefix=query.prefix,
    )
    return query.page([User.of(account) for account in found], key=lambda user: user.name)


async def show_user(call: Call, name: AccountName) -> User:
    """One user: oneself, or anybody for administrators and auditors."""
    return User.of(await use.show_user(call.services.database, actor=call.actor, name=name))


async def change_user(call: Call, name: AccountName, body: UserChange, conditions: Conditions) -> User:
    """Change what a user is, or whether it may do anything.

    Who is disabled is refused at once: its password, its tokens of every kind, its sessions, its uploads.
    """
    account = await use.change_user(
        call.services.database,
        call.services.blobs,
        actor=call.actor,
        name=name,
        wanted=_change(body),
        conditions=conditions,
    )
    return User.of(account)


async def delete_user(call: Call, name: AccountName, conditions: Conditions) -> None:
    """Remove a user with its tokens, sessions, roles and memberships; histories keep its name."""
    services = call.services
    await use.delete_user(
        services.database, services.blobs, actor=call.actor, name=name, conditions=conditions
    )


async def set_password(call: Call, name: AccountName, body: PasswordChange) -> NewPassword:
    """Change one's own password, or as an administrator another's.

    Sessions, refresh tokens and registry tokens of before open nothing any more.
    """
    database, credentials = call.services.database, call.services.tokens.credentials
    if name == call.actor.name:
        if body.password is None or body.old_password is None:
            raise RequestInvalidError("to change your own password, give password and old_password")
        await userpasswords.change_own_password(
            database, credentials, actor=call.actor, old=body.old_password, new=body.password
        )
        return NewPassword(name=name)
    if body.old_password is not None:
        raise RequestInvalidError("the old password is asked for one's own only; leave old_password out")
    password = use.new_password() if body.password is None else body.password
    await userpasswords.reset_password(
        database,
        credentials.passwords,
        actor=call.actor,
        name=name,
        password=password,
        keep_tokens=body.keep_tokens,
    )
    return NewPassword(name=name, password=password if body.password is None else None)


async def list_roles_of_user(call: Call, name: AccountName, query: PageQuery) -> Page[Grant]:
    """The roles that a user was given, and those of its groups, by age."""
    found = await grants.list_grants(
        call.services.database,
        actor=call.actor,
        member=grants.Member("user", name),
        limit=query.limit + 1,
        after=query.number or 0,
    )
    return query.page([Grant.of(grant) for grant in found], key=lambda grant: str(grant.id))


def _change(body: WantedUser | UserChange) -> use.AccountChange:
    return use.AccountChange(is_admin=body.admin, is_auditor=body.auditor, is_disabled=body.disabled)


_CHANGES = (NotFoundError, ConflictError)
ROUTES = (
    Route("POST", "/users", "admin", create_user, status=201, errors=(ConflictError,), secrets=("password",)),
    Route("GET", "/users", "user", list_users),
    Route("GET", "/users/{name}", "user", show_user, errors=(NotFoundError,)),
    Route("PUT", "/users/{name}", "admin", put_user, errors=(ConflictError,)),
    Route("PATCH", "/users/{name}", "admin", change_user, errors=_CHANGES),
    Route("DELETE", "/users/{name}", "admin", delete_user, errors=_CHANGES),
    Route("POST", "/users/{name}/password", "user", set_password, errors=_CHANGES, secrets=("password",)),
    Route("GET", "/users/{name}/grants", "user", list_roles_of_user, errors=(NotFoundError,)),
)
