"""``/api/v1/tokens``: API tokens. The secret of one is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from registry.auth import tokens as use
from registry.errors import RequestInvalidError
from registry.http.api.routes import Body, Call, Route, page, shown_time


class NewToken(Body):
    """A token for an account (the caller's, if none is named), or for a worker."""

    name: str | None = None
    scopes: tuple[str, ...] = ()
    expires_seconds: int | None = None
    account: str | None = None
    worker: str | None = None


async def create_token(call: Call) -> object:
    """Make a token."""
    body = await call.body(NewToken)
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
    return {"id": made.token.id, "token": made.secret, **_shown(made.token)}


async def list_tokens(call: Call) -> object:
    """An administrator's view of all tokens, or one's own."""
    asked = page(call.query("limit", "cursor"))
    found = await use.list_tokens(
        call.services.database, actor=call.actor, limit=asked.limit + 1, after=asked.after
    )
    return asked.answer(found, key=lambda token: token.id, show=_shown)


async def revoke_token(call: Call) -> object:
    """Let a token open nothing from now on."""
    call.query()
    await use.revoke_token(call.services.database, actor=call.actor, token_id=call.path("id"))
    return None


def _shown(token: use.ApiToken) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "account": token.account,
        "scopes": None if token.scopes is None else list(token.scopes),
        "created_at": shown_time(token.created_at),
        "expires_at": shown_time(token.expires_at),
        "revoked_at": shown_time(token.revoked_at),
        "last_used_at": shown_time(token.last_used_at),
    }


ROUTES = (
    Route("POST", "/tokens", "user", create_token, status=201),
    Route("GET", "/tokens", "user", list_tokens),
    Route("DELETE", "/tokens/{id}", "user", revoke_token),
)
