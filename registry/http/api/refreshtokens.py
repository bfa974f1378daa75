"""``/api/v1/refresh-tokens``: what clients keep in the place of a password."""

from __future__ import annotations

from datetime import datetime

from registry.auth import refreshtokens as use
from registry.errors import NotFoundError
from registry.http.api.fields import ActorName, Id
from registry.http.api.models import Answer, Page, PageQuery
from registry.http.api.routes import Call, Route


class Filter(PageQuery):
    """``account``: as an administrator, another's."""

    account: ActorName | None = None


class RefreshToken(Answer):
    """A refresh token without its secret; ``token`` is the API token it was made with, null a password."""

    id: str
    account: str
    token: str | None
    client: str
    address: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


async def list_refresh_tokens(call: Call, query: Filter) -> Page[RefreshToken]:
    """One's own, or as an administrator those of ``account``."""
    found = await use.list_refresh_tokens(
        call.services.database,
        actor=call.actor,
        account=query.account,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page([RefreshToken.of(token) for token in found], key=lambda token: token.id)


async def revoke_refresh_token(call: Call, token_id: Id) -> None:
    """Let one open nothing from now on."""
    await use.revoke_refresh_token(call.services.database, actor=call.actor, token_id=token_id)


async def revoke_own_refresh_token(call: Call, token_id: Id) -> None:
    """The same, of the caller's alone, also where he may revoke those of others."""
    await use.revoke_refresh_token(
        call.services.database, actor=call.actor, token_id=token_id, account_id=call.actor.account_id
    )


ROUTES = (
    Route("GET", "/refresh-tokens", "user", list_refresh_tokens),
    Route("DELETE", "/refresh-tokens/{token_id}", "user", revoke_refresh_token, errors=(NotFoundError,)),
)
