"""What issuers say of themselves: discovery (OpenID Connect Discovery 1.0; RFC 8414) and key sets, kept.

Only the guarded client asks. Whoever sends tokens with invented keys makes no more requests than one in
half a minute for each issuer and process; tokens of known keys never wait for those.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from registry.auth.oidc.jwks import Key, keys_for, parse_jwks
from registry.auth.oidc.signed import Claims, TokenRefusedError, Unverified, verify
from registry.errors import UnavailableError
from registry.net.guarded import GuardedClient, OutgoingError, require_url
from registry.oci.strictjson import JsonInvalidError, parse_json_object

FRESH_SECONDS = 600.0
STALE_SECONDS = 3600.0
"""How long keys hold when their issuer does not answer."""
RETRY_SECONDS = 30.0
MAX_DISCOVERY_BYTES = 64 * 1024
MAX_JWKS_BYTES = 256 * 1024
MAX_ISSUERS = 1000
_WELL_KNOWN = "/.well-known/openid-configuration"
_log = structlog.get_logger(__name__)


class IssuerUnavailableError(UnavailableError):
    """The issuer does not say what it has to; ``why`` is for the log and for administrators."""

    def __init__(self, why: str) -> None:
        super().__init__("the issuer of this sign-in cannot be asked, or its answer not be used; try again")
        self.why = why


class Discovery(BaseModel):
    """What is read of a discovery document; the rest is left alone."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    discovery: Discovery
    keys: tuple[Key, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What an issuer said of itself, and how many seconds ago; its ``keys`` by id and algorithms."""

    discovery: Discovery
    keys: tuple[tuple[str | None, tuple[str, ...]], ...]
    age_seconds: float


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    told: _Told | None = None
    tried_at: float | None = None
    failure: str = ""


class Directory:
    """One per process. Issuers are named by their address, exactly as their tokens name them."""

    def __init__(
        self,
        client: GuardedClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._clock, self._now = clock, now
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def discovery(self, issuer: str) -> Discovery:
        """What the issuer says of itself.

        Raises:
            IssuerUnavailableError: it cannot be asked, or says something else than it has to.
        """
        return (await self._told(issuer)).discovery

    async def standing(self, issuer: str) -> Standing:
        """The same with its keys; what it said a short while ago is not asked for again.

        Raises:
            IssuerUnavailableError: as above.
        """
        told = await self._told(issuer)
        keys = tuple((key.kid, tuple(sorted(key.algorithms))) for key in told.keys)
        return Standing(told.discovery, keys, self._clock() - told.at)

    async def verified(self, text: str, told: Unverified, *, audience: str | None = None) -> Claims:
        """The claims of a token that ``told.issuer`` has signed; the caller knows that one to be trusted.

        Raises:
            TokenRefusedError: as :func:`~registry.auth.oidc.signed.verify`.
            IssuerUnavailableError: as above.
        """
        keys = keys_for((await self._told(told.issuer)).keys, kid=told.kid, algorithm=told.algorithm)
        if not keys:
            again = await self._told(told.issuer, another_key=True)
            keys = keys_for(again.keys, kid=told.kid, algorithm=told.algorithm)
        if not keys:
            raise TokenRefusedError("its issuer has no such key for that algorithm")
        return verify(
            text,
            keys,
            algorithm=told.algorithm,
            issuer=told.issuer,
            audience=audience,
            now=self._now(),
        )

    async def _told(self, issuer: str, *, another_key: bool = False) -> _Told:
        entry = self._entries.setdefault(issuer, _Entry())
        self._entries.move_to_end(issuer)
        while len(self._entries) > MAX_ISSUERS:
            self._entries.popitem(last=False)
        if entry.told is not None and not another_key and self._clock() - entry.told.at < FRESH_SECONDS:
            return entry.told
        async with entry.lock:
            now = self._clock()
            told = entry.told
            fresh = told is not None and now - told.at < FRESH_SECONDS
            soon = entry.tried_at is not None and now - entry.tried_at < RETRY_SECONDS
            if not soon and (another_key or not fresh):
                entry.tried_at = now
                try:
                    told = entry.told = await self._ask(issuer, now)
                except (IssuerUnavailableError, OutgoingError) as error:
                    entry.failure = error.why if isinstance(error, IssuerUnavailableError) else error.message
                    _log.warning("issuer.unavailable", issuer=issuer, reason=entry.failure)
            if told is None or now - told.at >= STALE_SECONDS:
                raise IssuerUnavailableError(entry.failure or "it was not asked again yet")
            return told

    async def _ask(self, issuer: str, now: float) -> _Told:
        discovery = await self._discover(issuer)
        document = await self._json(discovery.jwks_uri, MAX_JWKS_BYTES, "its keys")
        keys = parse_jwks(document)
        if not keys:
            raise IssuerUnavailableError("its key set has no key that can be used")
        return _Told(discovery, keys, now)

    async def _discover(self, issuer: str) -> Discovery:
        document = await self._json(issuer.rstrip("/") + _WELL_KNOWN, MAX_DISCOVERY_BYTES, "its discovery")
        if document.get("token_endpoint_auth_methods_supported", ()) is None:
            document.pop("token_endpoint_auth_methods_supported")
        lists = {name: tuple(value) for name, value in document.items() if isinstance(value, list)}
        try:
            discovery = Discovery.model_validate({**document, **lists})
        except ValidationError:
            raise IssuerUnavailableError(
                "its discovery document lacks something, or of a wrong type"
            ) from None
        if discovery.issuer != issuer:
            raise IssuerUnavailableError("its discovery document is that of another issuer")
        for url in (discovery.jwks_uri, discovery.authorization_endpoint, discovery.token_endpoint):
            if url is not None and issuer.startswith("https:") and not url.startswith("https:"):
                raise IssuerUnavailableError("its discovery document leaves https")
        require_url(discovery.jwks_uri.partition("?")[0], "jwks_uri")
        return discovery

    async def _json(self, url: str, max_bytes: int, what: str) -> dict[str, object]:
        reply = await self._client.request(
            "GET", url, max_bytes=max_bytes, headers={"Accept": "application/json"}
        )
        if reply.status != 200:
            raise IssuerUnavailableError(f"asked for {what} it answers {reply.status}; it must be 200")
        try:
            return parse_json_object(reply.body)
        except JsonInvalidError as error:
            raise IssuerUnavailableError(f"{what} cannot be read: {error}") from None
