"""``/api/v1/tokens``: API tokens. The secret of one is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import Field

from registry.auth import tokenchanges, tokenlists
from registry.auth import tokens as use
from registry.errors import ConflictError, NotFoundError, PreconditionFailedError, RequestInvalidError
from registry.http.api.fields import AccountName, ActorName, Id, Time
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions

_MAX_SECONDS = 100 * 366 * 24 * 3600
Networks = Annotated[
    tuple[str, ...] | None,
    Field(description="Networks that it may be used from, as in `10.0.0.0/8`; null: everywhere."),
]


class NewToken(Body):
    """A token for an account (the caller's, if none is named), or for a worker."""

    name: str | None = None
    scopes: tuple[str, ...] = ()
    expires_seconds: int | None = Field(
        default=None, description="How long it lives. Null: for ever. Left out: as the settings say."
    )
    networks: Networks = None
    account: ActorName | None = None
    worker: AccountName | None = None

    @property
    def lives(self) -> use.Lifetime:
        """How long it is to live."""
        if self.expires_seconds is not None:
            return self.expires_seconds
        return "never" if "expires_seconds" in self.model_fields_set else "default"


class Token(Answer):
    """A token without its secret; ``scopes`` null: all that its account may do."""

    id: str
    name: str
    account: str
    scopes: tuple[str, ...] | None
    networks: Networks
    state: tokenlists.State
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    last_used_address: str | None
    last_used_client: str | None = Field(description="What its User-Agent said.")
    made_by: str | None = Field(description="The limited token that it was made with, and ends with.")
    replaces: str | None = Field(description="The token that it was made to replace, by rotation.")
    replaced_by: str | None
    etag: str = Field(exclude=True)


class MadeToken(Token):
    """A token just made; ``token`` is the secret, which nobody can read again."""

    token: str


class TokenQuery(PageQuery):
    """Which tokens."""

    account: ActorName | None = None
    state: tokenlists.State | None = None
    expiring_within: int | None = Field(
        default=None, ge=0, le=_MAX_SECONDS, description="Those that end within so many seconds."
    )
    unused_for: int | None = Field(
        default=None,
        ge=0,
        le=_MAX_SECONDS,
        description="Those not revoked and not used for so many seconds, or never and made so long ago.",
    )
    made_by: Id | None = None


class TokenChange(Body):
    """What to change: another name, fewer networks, an earlier end."""

    name: str | None = None
    networks: tuple[str, ...] | None = None
    expires_at: Time | None = None


class TokenRotation(Body):
    """How the old token goes."""

    overlap_seconds: int = Field(
        default=tokenchanges.OVERLAP_SECONDS,
        description="How long the old token works beside the new one.",
        json_schema_extra={"minimum": 0, "maximum": tokenchanges.MAX_OVERLAP_SECONDS},
    )


class Revocation(Body):
    """Whose tokens, sessions and registry tokens: of the account that is named, also of one's own, or of
    everybody, and not both."""

    account: ActorName | None = None
    everybody: bool = Field(default=False, description="Of all accounts; for administrators.")
    before: Time | None = Field(
        default=None, description="Those issued before this; left out: all until now."
    )


class Revoked(Answer):
    """How many API tokens worked until now."""

    tokens: int


async def create_token(call: Call, body: NewToken) -> MadeToken:
    """Make a token.

    With a token one makes only tokens that may no more, from no more networks, and not for longer.
    """
    database, settings = call.services.database, call.services.settings
    if body.worker is not None:
        if body.scopes or body.account is not None or body.name is not None or body.networks is not None:
            raise RequestInvalidError(
                "a worker's token takes the worker's name, and no name, scopes or account; its networks are "
                "the worker's own"
            )
        made = await use.create_worker_token(
            database, settings, actor=call.actor, worker=body.worker, lives=body.lives
        )
    elif body.name is None:
        raise RequestInvalidError("the body is not valid: name: a token needs one")
    else:
        made = await use.create_token(
            database,
            settings,
            actor=call.actor,
            name=body.name,
            scopes=body.scopes,
            lives=body.lives,
            networks=body.networks,
            account=body.account,
        )
    return _made(made)


async def list_tokens(call: Call, query: TokenQuery) -> Page[Token]:
    """An administrator's view of all tokens, or one's own, or those of a robot that one administers.

    Each filter has an order of its own; the cursor of one list is none of another's.
    """
    wanted = tokenlists.TokenFilter(
        account=query.account,
        state=query.state,
        expiring_seconds=query.expiring_within,
        unused_seconds=query.unused_for,
        made_by=query.made_by,
    )
    found = await tokenlists.list_tokens(
        call.services.database, actor=call.actor, wanted=wanted, limit=query.limit, after=query.cursor
    )
    return Page(items=[Token.of(token) for token in found.items], next=found.next)


async def show_token(call: Call, token_id: Id) -> Token:
    """One token, without its secret."""
    return Token.of(await tokenlists.show_token(call.services.database, actor=call.actor, token_id=token_id))


async def change_token(call: Call, token_id: Id, body: TokenChange, conditions: Conditions) -> Token:
    """Give a token another name, fewer networks or an earlier end."""
    changed = await tokenchanges.change_token(
        call.services.database,
        actor=call.actor,
        token_id=token_id,
        wanted=tokenchanges.TokenChange(body.name, body.networks, body.expires_at),
        conditions=conditions,
    )
    return Token.of(changed)


async def rotate_token(call: Call, token_id: Id, body: TokenRotation) -> MadeToken:
    """Replace a token: the new secret works at once, the old one for some time more."""
    made = await tokenchanges.rotate_token(
        call.services.database,
        call.services.settings,
        actor=call.actor,
        token_id=token_id,
        overlap_seconds=body.overlap_seconds,
    )
    return _made(made)


async def revoke_token(call: Call, token_id: Id) -> None:
    """Let a token open nothing from now on, nor the tokens that were made with it."""
    await tokenchanges.revoke_token(call.services.database, actor=call.actor, token_id=token_id)


async def revoke_credentials(call: Call, body: Revocation) -> Revoked:
    """Let nothing that was given before a time open anything: tokens, sessions, registry tokens.

    Of one account, or of everybody. Passwords stay.
    """
    if body.everybody is (body.account is not None):
        raise RequestInvalidError("name the account, or say everybody: true, and not both")
    count = await tokenchanges.revoke_issued_before(
        call.services.database, actor=call.actor, account=body.account, before=body.before
    )
    return Revoked(tokens=count)


def _made(made: use.NewToken) -> MadeToken:
    return MadeToken(token=made.secret, etag=made.token.etag, **asdict(made.token))


ROUTES = (
    Route(
        "POST",
        "/tokens",
        "account",
        create_token,
        status=201,
        errors=(NotFoundError, ConflictError),
        secrets=("token",),
    ),
    Route("GET", "/tokens", "account", list_tokens, errors=(NotFoundError,)),
    Route("GET", "/tokens/{token_id}", "account", show_token, errors=(NotFoundError,)),
    Route(
        "PATCH",
        "/tokens/{token_id}",
        "account",
        change_token,
        errors=(NotFoundError, PreconditionFailedError),
    ),
    Route(
        "POST",
        "/tokens/{token_id}/rotate",
        "account",
        rotate_token,
        status=201,
        errors=(NotFoundError, ConflictError),
        secrets=("token",),
    ),
    Route("DELETE", "/tokens/{token_id}", "account", revoke_token, errors=(NotFoundError,)),
    Route("POST", "/tokens/revoke", "account", revoke_credentials, errors=(NotFoundError,)),
)
