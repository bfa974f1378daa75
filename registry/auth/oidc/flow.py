"""Sign-in of a person (OpenID Connect Core 3.1: authorization code, with PKCE, state and nonce).

What belongs to one sign-in travels in a cookie that only the registry can read: strangers who begin one
write no row. Each issuer has an address of its own to come back to, so that what one of them gives is never
taken to another (RFC 9700, 4.4). A nonce that was used is kept until its sign-in would have ended anyway.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from hmac import compare_digest
from typing import Any
from urllib.parse import quote_plus

import structlog
from sqlalchemy import Row, delete, select
from yarl import URL

from registry.auth.oidc.conditions import missing
from registry.auth.oidc.directory import Discovery, IssuerUnavailableError
from registry.auth.oidc.issuers import Issuer, issuer_of, secret_of
from registry.auth.oidc.opened import Oidc
from registry.auth.oidc.people import account_of
from registry.auth.oidc.signed import Claims, TokenRefusedError, peek, require_sign_in
from registry.auth.sessions import NewSession, start_session
from registry.db.dialect import insert_ignoring_conflict
from registry.db.oidc import issuers, used_nonces
from registry.db.types import db_time
from registry.errors import NotFoundError, RequestInvalidError, UnauthorizedError
from registry.net.guarded import OutgoingError, parse_url
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from registry.settings import Settings, SettingsError

LIFE_SECONDS = 600
MAX_ANSWER_BYTES = 1024 * 1024
MAX_NEXT = 1000
_SEALED_AS = "sign-in"
_AGAIN = "this sign-in was begun elsewhere, or too long ago, or is over; begin again"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """One sign-in on its way."""

    issuer: str
    url: str
    state: str
    nonce: str
    verifier: str
    next_path: str
    began_at: int


@dataclass(frozen=True, slots=True, repr=False)
class Begun:
    """Where the browser goes, and what it keeps meanwhile."""

    address: str
    sealed: str


@dataclass(frozen=True, slots=True, repr=False)
class Finished:
    """The session that began, and where the browser goes."""

    session: NewSession
    next_path: str


async def begin(oidc: Oidc, *, issuer: str, redirect_uri: str, next_path: str) -> Begun:
    """Begin a sign-in with an issuer; ``redirect_uri`` is its own.

    Raises:
        NotFoundError: there is no such issuer for people.
        RequestInvalidError: ``next_path`` is no path here.
        IssuerUnavailableError: it cannot be asked, or has no sign-in of this kind.
    """
    require_path(next_path)
    row = await _row(oidc, issuer)
    settings = issuer_of(row).settings
    discovery = await _discovery(oidc, settings.url)
    verifier = secrets.token_urlsafe(48)
    flow = Flow(
        issuer=issuer,
        url=settings.url,
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=verifier,
        next_path=next_path,
        began_at=int(time.time()),
    )
    hashed = hashlib.sha256(verifier.encode()).digest()
    address = URL(str(discovery.authorization_endpoint)).update_query(
        {
            "response_type": "code",
            "client_id": str(settings.client_id),
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *settings.scopes))),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(hashed).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
    )
    return Begun(str(address), _sealed(oidc, flow))


async def finish(
    oidc: Oidc,
    settings: Settings,
    *,
    issuer: str,
    sealed: str | None,
    answer: Mapping[str, str],
    redirect_uri: str,
    address: str | None,
    client: str | None,
    replaced: str | None,
) -> Finished:
    """End a sign-in with what the issuer sent the browser back with, and begin a session.

    Raises:
        RequestInvalidError: not of a sign-in that this browser has begun.
        UnauthorizedError: the issuer refused, or its token is not taken, or the person has no account.
        IssuerUnavailableError: it cannot be asked.
        TooManyRequestsError: too many come back from one place at once.
    """
    flow = _opened(oidc, sealed)
    if flow.issuer != issuer or not compare_digest(flow.state.encode(), answer.get("state", "").encode()):
        raise RequestInvalidError(_AGAIN)
    row = await _row(oidc, issuer)
    if row.url != flow.url:
        raise RequestInvalidError(_AGAIN)
    discovery = await _discovery(oidc, row.url)
    named = answer.get("iss")
    if named != row.url and (named is not None or discovery.authorization_response_iss_parameter_supported):
        raise RequestInvalidError("the answer is of another issuer; begin again")
    if "code" not in answer:
        _log.info("sign_in.refused_by_issuer", issuer=issuer, error=answer.get("error", "")[:100])
        raise UnauthorizedError("the issuer did not let you in")
    try:
        async with oidc.turns.turn(address):
            text = await _redeemed(
                oidc, row, flow, discovery=discovery, code=answer["code"], redirect_uri=redirect_uri
            )
        claims = await _claims(oidc, row, flow, text)
        return await _signed_in(
            oidc, settings, row, flow, claims, address=address, client=client, replaced=replaced
        )
    except TokenRefusedError as error:
        _log.info("sign_in.refused", issuer=issuer, reason=error.why, address=address)
        raise


def require_path(text: str) -> None:
    """Check where a browser is to be sent after signing in: a path here, and never another host.

    Raises:
        RequestInvalidError: anything else.
    """
    plain = text.isascii() and text.isprintable() and " " not in text and "\\" not in text
    if not plain or not text.startswith("/") or text.startswith("//") or len(text) > MAX_NEXT:
        raise RequestInvalidError("next must be a path of this registry")


async def _row(oidc: Oidc, name: str) -> Row[Any]:
    query = select(issuers).where(issuers.c.name == name, issuers.c.client_id.is_not(None))
    async with oidc.database.read_once() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError("there is no such issuer to sign in with")
    return row


async def _discovery(oidc: Oidc, url: str) -> Discovery:
    discovery = await oidc.directory.discovery(url)
    try:
        for endpoint in (discovery.authorization_endpoint, discovery.token_endpoint):
            parse_url(endpoint or "")
    except OutgoingError:
        raise _unusable(url, "it has no authorization or no token endpoint that can be used") from None
    return discovery


def _unusable(url: str, why: str) -> IssuerUnavailableError:
    _log.warning("issuer.unavailable", issuer=url, reason=why)
    return IssuerUnavailableError(why)


async def _redeemed(
    oidc: Oidc, row: Row[Any], flow: Flow, *, discovery: Discovery, code: str, redirect_uri: str
) -> str:
    """The ID token for a code."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": flow.verifier,
    }
    headers = {"Accept": "application/json"}
    try:
        secret = secret_of(oidc, row)
    except SettingsError:
        raise _unusable(row.url, "its client secret was wrapped with another secret key") from None
    if secret is None:
        form["client_id"] = row.client_id
    elif "client_secret_basic" in discovery.token_endpoint_auth_methods_supported:
        pair = f"{quote_plus(row.client_id)}:{quote_plus(secret)}"  # RFC 6749, 2.3.1
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": row.client_id, "client_secret": secret}
    reply = await oidc.client.request(
        "POST", str(discovery.token_endpoint), max_bytes=MAX_ANSWER_BYTES, headers=headers, form=form
    )
    if reply.status != 200:
        raise TokenRefusedError(f"its issuer answers the code with status {reply.status}")
    try:
        text = parse_json_object(reply.body).get("id_token")
    except JsonInvalidError as error:
        raise TokenRefusedError(f"the answer to the code cannot be read: {error}") from None
    if not isinstance(text, str):
        raise TokenRefusedError("its issuer answers the code without an ID token")
    return text


async def _claims(oidc: Oidc, row: Row[Any], flow: Flow, text: str) -> Claims:
    told = peek(text)
    if told.issuer != row.url:
        raise TokenRefusedError("it is of another issuer")
    claims = await oidc.directory.verified(text, told)
    require_sign_in(claims, client_id=row.client_id, nonce=flow.nonce)
    return claims


async def _signed_in(
    oidc: Oidc,
    settings: Settings,
    row: Row[Any],
    flow: Flow,
    claims: Claims,
    *,
    address: str | None,
    client: str | None,
    replaced: str | None,
) -> Finished:
    async with oidc.database.write() as connection:
        # As it is now: it may have been changed or deleted while its issuer was asked.
        query = select(issuers).where(issuers.c.id == row.id).with_for_update(read=True)
        again = (await connection.execute(query)).one_or_none()
        if again is None or again.url != row.url or again.client_id != row.client_id:
            raise RequestInvalidError(_AGAIN)
        issuer: Issuer = issuer_of(again)
        lacking = missing(issuer.settings.conditions, claims)
        if lacking:
            raise TokenRefusedError(f"its claims do not meet {lacking[0]}")
        await connection.execute(delete(used_nonces).where(used_nonces.c.expires_at < db_time()))
        once = {
            "hash": hashlib.sha256(flow.nonce.encode()).hexdigest(),
            "expires_at": db_time(timedelta(seconds=2 * LIFE_SECONDS)),
        }
        used = await connection.execute(
            insert_ignoring_conflict(connection, used_nonces, once).returning(used_nonces.c.hash)
        )
        if used.scalar_one_or_none() is None:
            raise TokenRefusedError("its nonce was used before")
        account_id = await account_of(connection, issuer, claims, address=address, client=client)
        session = await start_session(
            connection,
            settings,
            account_id=account_id,
            address=address,
            client=client,
            replaced=replaced,
        )
    return Finished(session, flow.next_path)


def _sealed(oidc: Oidc, flow: Flow) -> str:
    wrapped = oidc.secret_key.wrap(json.dumps(asdict(flow)).encode(), name=_SEALED_AS)
    return base64.urlsafe_b64encode(wrapped).decode()


def _opened(oidc: Oidc, sealed: str | None) -> Flow:
    try:
        wrapped = base64.b64decode((sealed or "").encode(), altchars=b"-_", validate=True)
        flow = Flow(**json.loads(oidc.secret_key.unwrap(wrapped, name=_SEALED_AS)))
    except (ValueError, SettingsError):
        raise RequestInvalidError(_AGAIN) from None
    if not 0 <= time.time() - flow.began_at <= LIFE_SECONDS:
        raise RequestInvalidError(_AGAIN)
    return flow
