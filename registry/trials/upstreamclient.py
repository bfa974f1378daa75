"""Another registry, as it is asked for one image (distribution-spec, end-2 and end-3).

The credential goes to the upstream's own host, and to the host of its token service where that was named with
it: nowhere else, whatever a challenge or a redirect says. Only for blobs is a redirect followed, without the
credential; each address that is asked passes the guard of :mod:`registry.net.guarded`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from yarl import URL

from registry.errors import SeatrialError
from registry.events.attempts import parse_retry_after
from registry.net.guarded import OutgoingError, parse_url
from registry.oci.digest import Digest, digest_of
from registry.oci.mediatypes import INDEXES, MANIFESTS

if TYPE_CHECKING:
    from registry.net.guarded import GuardedClient, Reply
    from registry.trials.upstreams import Upstream

REDIRECTS_MAX = 3
IDLE_SECONDS = 60.0
_ASKED_SECONDS = 30.0
_TOKEN_MAX_BYTES = 64 * 1024
_CHALLENGE = re.compile(r"\s*(bearer|basic)\s+(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'([a-z]+)="([^"\\]*)"', re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ACCEPTED = ", ".join(sorted(MANIFESTS | INDEXES))


class CopyError(SeatrialError):
    """An image cannot be copied; the message says why, for those who asked for its trial."""

    code = "UNAVAILABLE"
    passes = False
    """Whether it may go otherwise a moment later."""
    asked_seconds: float | None = None
    """How long the other registry asks to be left alone before that."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as the other registry answered it."""

    digest: Digest
    raw: bytes
    media_type: str | None


class UpstreamClient:
    """Asks ``upstream`` about its repository ``name``, until ``deadline`` (:func:`time.monotonic`)."""

    def __init__(
        self, client: GuardedClient, upstream: Upstream, secret: str | None, *, name: str, deadline: float
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._secret = secret
        self._name = name
        self._deadline = deadline
        scheme = "http" if upstream.plain_http else "https"
        self._base = parse_url(f"{scheme}://{upstream.host}/v2/{name}/")
        # A secret without a user name is a token that the upstream itself takes.
        self._authorization = f"Bearer {secret}" if secret is not None and upstream.username is None else None

    async def manifest(self, reference: str, *, stated: Digest | None, max_bytes: int) -> Fetched:
        """What a tag or digest names; ``stated`` is the digest that it must have.

        Raises:
            CopyError: it cannot be had, or has another digest.
        """
        url = f"{self._base}manifests/{reference}"
        reply = await self._asked(url, {"Accept": _ACCEPTED}, max_bytes)
        if reply.status == HTTPStatus.UNAUTHORIZED and await self._answer(reply.headers):
            reply = await self._asked(url, {"Accept": _ACCEPTED}, max_bytes)
        self._require_ok(reply.status, reply.headers, f"{self._name} {reference}")
        digest = digest_of(reply.body, stated.algorithm if stated else "sha256")
        if stated not in (None, digest):
            raise CopyError(f"{self._host} answers with other bytes than {stated}: they have {digest}")
        return Fetched(digest, reply.body, reply.headers.get("Content-Type"))

    @asynccontextmanager
    async def blob(self, digest: Digest) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes under a digest, which nobody has verified yet.

        Raises:
            CopyError: they cannot be had; also while they are read.
        """
        url, answered, hops = parse_url(f"{self._base}blobs/{digest}"), False, 0
        while True:
            headers = self._headers() if self._is_own(url) else {}
            try:
                stream = self._client.stream(
                    str(url), headers=headers, seconds=self._left(), idle_seconds=IDLE_SECONDS
                )
                async with stream as found:
                    if found.status == HTTPStatus.OK:
                        yield found.chunks
                        return
                    status, told = found.status, dict(found.headers)
            except OutgoingError as error:
                raise _copy_error(error.message, passes=error.passes) from None
            if status == HTTPStatus.UNAUTHORIZED and self._is_own(url) and not answered:
                answered = True
                if await self._answer(told):
                    continue
            if status in _REDIRECTS:
                hops += 1
                url = self._redirected(url, told, hops)
                continue
            self._require_ok(status, told, f"the blob {digest} of {self._name}")
            raise CopyError(f"{self._host} answers {status} to a request for the blob {digest}")

    @property
    def _host(self) -> str:
        return self._upstream.host

    def _is_own(self, url: URL) -> bool:
        return url.origin() == self._base.origin()

    def _headers(self) -> dict[str, str]:
        return {} if self._authorization is None else {"Authorization": self._authorization}

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise CopyError("the image takes longer to copy than it may")
        return left

    async def _asked(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Reply:
        try:
            return await self._client.request(
                "GET",
                url,
                max_bytes=max_bytes,
                headers={**headers, **self._headers()},
                seconds=min(self._left(), _ASKED_SECONDS),
            )
        except OutgoingError as error:
            raise _copy_error(error.message, passes=error.passes) from None

    def _redirected(self, url: URL, told: Mapping[str, str], hops: int) -> URL:
        if hops > REDIRECTS_MAX:
            raise CopyError(f"{self._host} redirects more than {REDIRECTS_MAX} times")
        try:
            target = parse_url(url.join(URL(_header(told, "location"), encoded=True)))
        except (OutgoingError, ValueError):
            raise CopyError(f"{self._host} leads to no address") from None
        if target.scheme == "http" and not self._upstream.plain_http:
            raise CopyError(f"{self._host} leads to an address without TLS")
        return target

    async def _answer(self, headers: Mapping[str, str]) -> bool:
        """Answer a challenge; false: there is nothing to answer it with.

        Raises:
            CopyError: its token service cannot be asked, or must not be told the credential.
        """
        challenge = _CHALLENGE.match(_header(headers, "www-authenticate"))
        if challenge is None or (self._secret is not None and self._upstream.username is None):
            return False
        if challenge[1].lower() == "basic":
            if self._upstream.username is None:
                return False
            self._authorization = self._basic()
            return True
        said = {name.lower(): value for name, value in _PARAMETER.findall(challenge[2])}
        self._authorization = f"Bearer {await self._token(said)}"
        return True

    async def _token(self, said: Mapping[str, str]) -> str:
        try:
            realm = parse_url(said.get("realm", ""))
        except OutgoingError:
            raise CopyError(f"{self._host} names no token service that can be asked") from None
        if realm.scheme == "http" and not self._upstream.plain_http:
            raise CopyError(f"{self._host} has a token service without TLS, {realm.host}, which is not asked")
        headers = {}
        if self._upstream.username is not None:
            if realm.authority not in (self._base.authority, self._upstream.token_host):
                raise CopyError(
                    f"{self._host} sends to the token service {realm.authority}, which is not told the "
                    "credential; if it is the right one, name it with the upstream (--token-host)"
                )
            headers["Authorization"] = self._basic()
        query = {"scope": f"repository:{self._name}:pull"}
        if "service" in said:
            query["service"] = said["service"]
        url = str(realm.update_query(query))
        try:
            reply = await self._client.request(
                "GET",
                url,
                max_bytes=_TOKEN_MAX_BYTES,
                headers=headers,
                seconds=min(self._left(), _ASKED_SECONDS),
            )
        except OutgoingError as error:
            raise _copy_error(error.message, passes=error.passes) from None
        self._require_ok(reply.status, reply.headers, f"a token for {self._name}")
        try:
            answer = json.loads(reply.body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise CopyError(f"{realm.host} answers with no token")
        return token

    def _basic(self) -> str:
        pair = f"{self._upstream.username}:{self._secret}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    def _require_ok(self, status: int, headers: Mapping[str, str], what: str) -> None:
        if status == HTTPStatus.OK:
            return
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            whom = "as nobody" if self._secret is None else "with the credential of this upstream"
            raise CopyError(f"{self._host} refuses {what} ({status}); it was asked {whom}")
        if status == HTTPStatus.NOT_FOUND:
            raise CopyError(f"{self._host} has no {what}")
        asked = parse_retry_after(headers, status)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            said = f"{self._host} takes no more requests for now ({status})"
            raise _copy_error(said, passes=True, asked_seconds=asked)
        passes = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        said = f"{self._host} answers {status} to a request for {what}"
        raise _copy_error(said, passes=passes, asked_seconds=asked)


def _copy_error(message: str, *, passes: bool, asked_seconds: float | None = None) -> CopyError:
    error = CopyError(message)
    error.passes, error.asked_seconds = passes, asked_seconds
    return error


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for given, value in headers.items() if given.lower() == name), "")
