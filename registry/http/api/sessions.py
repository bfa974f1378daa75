"""``/api/v1/sessions``: people signed in by a cookie. The cookie itself is in no answer's body."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from registry.auth import sessions as use
from registry.errors import NotFoundError, UnauthorizedError
from registry.http.api.fields import AccountName, Id
from registry.http.api.models import Answer, Body, Page, PageQuery, Query
from registry.http.api.routes import Call, Route
from registry.http.caller import ACTOR_SHOWN, TRIED_NAME
from registry.http.cookies import clear_session, require_own_page, session_secret, set_session
from registry.http.headers import client_of
from registry.http.proxies import client_address


class SignIn(Body):
    """Who signs in: a user's name and password. An API token that may do all that its account may is a
    password too."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The session that began; its cookie is a header."""

    id: str
    account: str


class SessionQuery(PageQuery):
    """Whose sessions."""

    account: AccountName | None = None


class OfAccount(Query):
    """Whose."""

    account: AccountName


class SignedInSession(Answer):
    """A session; ``current`` is the caller's own."""

    id: str
    account: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    client: str | None
    current: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How many sessions were ended."""

    ended: int


async def sign_in(call: Call, body: SignIn) -> SignedIn:
    """Begin a session; the answer sets its cookie. One that the caller had before ends."""
    services, request = call.services, call.request
    request[TRIED_NAME] = body.name
    made = await use.sign_in(
        services.database,
        services.settings,
        services.tokens.credentials,
        name=body.name,
        password=body.password,
        address=client_address(request, services.settings),
        client=client_of(request),
        replaced=session_secret(request),
    )
    request[ACTOR_SHOWN] = made.account
    set_session(request, call.response, made.secret)
    return SignedIn(id=made.id, account=made.account)


async def sign_out(call: Call) -> None:
    """End the session of the cookie that the request has, and let the browser forget it."""
    require_own_page(call.request)
    secret = session_secret(call.request)
    if secret is None:
        raise UnauthorizedError("there is no session to end: the request has no cookie")
    services = call.services
    await use.sign_out(
        services.database,
        secret,
        address=client_address(call.request, services.settings),
        client=client_of(call.request),
    )
    clear_session(call.request, call.response)


async def list_sessions(call: Call, query: SessionQuery) -> Page[SignedInSession]:
    """An administrator's view of all sessions, or of one account's; else one's own."""
    found = await use.list_sessions(
        call.services.database,
        actor=call.actor,
        account=query.account,
        limit=query.limit + 1,
        after=query.cursor,
    )
    own = call.actor.session_id
    shown = [SignedInSession(**asdict(session), current=session.id == own) for session in found]
    return query.page(shown, key=lambda session: session.id)


async def revoke_session(call: Call, session_id: Id) -> None:
    """End one session."""
    await use.revoke_session(call.services.database, actor=call.actor, session_id=session_id)


async def revoke_own_session(call: Call, session_id: Id) -> None:
    """The same, of the caller's alone, also where he may end those of others."""
    await use.revoke_session(
        call.services.database, actor=call.actor, session_id=session_id, account_id=call.actor.account_id
    )


async def revoke_sessions(call: Call, query: OfAccount) -> Ended:
    """End all sessions of an account."""
    ended = await use.revoke_sessions(call.services.database, actor=call.actor, account=query.account)
    return Ended(ended)


ROUTES = (
    Route("POST", "/sessions", "signing", sign_in, status=201),
    Route("GET", "/sessions", "user", list_sessions),
    Route("DELETE", "/sessions/current", "signing", sign_out),
    Route("DELETE", "/sessions/{session_id}", "user", revoke_session, errors=(NotFoundError,)),
    Route("DELETE", "/sessions", "user", revoke_sessions, errors=(NotFoundError,)),
)
