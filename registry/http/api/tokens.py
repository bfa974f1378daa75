"""``/api/v1/tokens``: API tokens. The secret of one is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from registry.auth import tokens as use
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.http.api.fields import AccountName, ActorName, Id
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.routes import Call, Route


class NewToken(Body):
    """A token for an account (the caller's, if none is named), or for a worker."""

    name: str | None = None
    scopes: tuple[str, ...] = ()
    expires_seconds: int | None = None
    account: ActorName | None = None
    worker: AccountName | None = None


class Token(Answer):
    """A token without its secret; ``scopes`` null: all that its account may do."""

    id: str
    name: str
    account: str
    scopes: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeToken(Token):
    """A token just made; ``token`` is the secret, which nobody can read again."""

    token: str


async def create_token(call: Call, body: NewToken) -> MadeToken:
    """Make a token."""
    if body.worker is not None:
        if body.scopes or body.account is not None or body.name is not None:
            raise RequestInvalidError(
                "a worker's token takes the worker's name, and no name, scopes or account"
            )
        made = await use.create_worker_token(
            call.services.database,
            actor=call.actor,
            worker=body.worker,
            expires_seconds=body.expires_seconds,
        )
    elif body.name is None:
        raise RequestInvalidError("the body is not valid: name: a token needs one")
    else:
        made = await use.create_token(
            call.services.database,
            actor=call.actor,
            name=body.name,
            scopes=body.scopes,
            expires_seconds=body.expires_seconds,
            account=body.account,
        )
    return MadeToken(token=made.secret, **asdict(made.token))


async def list_tokens(call: Call, query: PageQuery) -> Page[Token]:
    """An administrator's view of all tokens, or one's own."""
    found = await use.list_tokens(
        call.services.database, actor=call.actor, limit=query.limit + 1, after=query.cursor
    )
    return query.page([Token.of(token) for token in found], key=lambda token: token.id)


async def revoke_token(call: Call, token_id: Id) -> None:
    """Let a token open nothing from now on."""
    await use.revoke_token(call.services.database, actor=call.actor, token_id=token_id)


ROUTES = (
    Route(
        "POST",
        "/tokens",
        "user",
        create_token,
        status=201,
        errors=(NotFoundError, ConflictError),
        secrets=("token",),
    ),
    Route("GET", "/tokens", "user", list_tokens),
    Route("DELETE", "/tokens/{token_id}", "user", revoke_token, errors=(NotFoundError,)),
)
