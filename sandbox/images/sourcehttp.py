"""Images from a registry (distribution-spec, "Pull"): tokens, challenges, redirects.

What opens one host is never sent to another: a redirect to storage elsewhere goes without Authorization.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from registry.oci import mediatypes
from registry.oci.descriptor import Descriptor
from registry.oci.manifest import MAX_BYTES as MANIFEST_MAX_BYTES
from registry.oci.printable import printable
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from sandbox.errors import SandboxError

_ACCEPT = ", ".join(sorted(mediatypes.MANIFESTS | mediatypes.INDEXES))
_PIECE_BYTES = 1024 * 1024
_ANSWER_MAX_BYTES = 1024 * 1024
_REDIRECTS_MAX = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
_PARAMETER = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"')


@asynccontextmanager
async def registry_source(
    url: str,
    repository: str,
    *,
    token: str | None = None,
    credentials: tuple[str, str] | None = None,
    tls: ssl.SSLContext | bool = True,
) -> AsyncIterator[RegistrySource]:
    """A repository of the registry at ``url`` (``http://HOST`` or ``https://HOST``), over an HTTP session
    that lives as long as the context.

    ``token`` is sent as it is (a worker's pull token); ``credentials`` (user, password) answer a challenge;
    without either the challenge is answered without a name. ``tls`` is how to shake hands with this registry,
    and nobody else.
    """
    async with aiohttp.ClientSession(
        timeout=_TIMEOUT, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        yield RegistrySource(session, URL(url), repository, token=token, credentials=credentials, tls=tls)


class RegistrySource:
    """One repository of one registry."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        repository: str,
        *,
        token: str | None,
        credentials: tuple[str, str] | None,
        tls: ssl.SSLContext | bool,
    ) -> None:
        self._session = session
        self._url = url
        self._repository = repository
        self._credentials = credentials
        self._tls = tls
        self._authorization = f"Bearer {token}" if token else None
        self._may_answer = token is None
        # The repository may be renamed while a worker pulls: its next lease says how it is called then.
        self._leased = token is not None

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        """By tag or digest."""
        path = f"manifests/{reference}"
        async with self._get(path, {"Accept": _ACCEPT}) as response:
            raw = await _read(response, MANIFEST_MAX_BYTES)
            if len(raw) > MANIFEST_MAX_BYTES:
                raise SandboxError(
                    "manifest-invalid", f"the manifest has more than {MANIFEST_MAX_BYTES} bytes"
                )
            return raw, response.content_type

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a blob."""
        async with self._get(f"blobs/{descriptor.digest}", {}) as response:
            try:
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    yield piece
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _broken(self._url, error) from None

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        # Names and digests were parsed: no character of theirs needs quoting.
        url = self._url / "v2" / self._repository / path
        response = await self._follow(url, headers)
        try:
            if response.status == 401 and self._may_answer:
                challenge = response.headers.get("WWW-Authenticate", "")
                response.release()
                self._authorization = await self._answer(challenge)
                response = await self._follow(url, headers)
            if response.status != 200:
                where = f"{self._url.authority}/{self._repository}"
                raise await _refused(response, where, path, leased=self._leased)
            yield response
        finally:
            response.close()

    async def _follow(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for _ in range(_REDIRECTS_MAX):
            sent = dict(headers)
            own = url.origin() == self._url.origin()
            if self._authorization and own:
                sent["Authorization"] = self._authorization
            try:
                response = await self._session.get(
                    url, headers=sent, allow_redirects=False, ssl=self._tls if own else True
                )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _broken(url, error) from None
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.release()
            url = self._next(url, location)
        raise SandboxError("pull-failed", f"{self._url.authority} redirects without end")

    def _next(self, url: URL, location: str) -> URL:
        try:
            target = url.join(URL(location, encoded=True))
        except ValueError:
            target = URL()
        if target.scheme not in ("http", "https") or (target.scheme == "http" and url.scheme == "https"):
            raise SandboxError(
                "pull-failed", f"{self._url.authority} redirects to something that is no https address"
            )
        return target

    async def _answer(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        basic = aiohttp.encode_basic_auth(*self._credentials) if self._credentials else None
        if scheme.lower() == "basic" and basic:
            return basic
        parameters = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not realm:
            raise SandboxError("pull-failed", f"{self._url.authority} wants a login that is not understood")
        return f"Bearer {await self._token(URL(realm), parameters, basic)}"

    async def _token(self, realm: URL, parameters: Mapping[str, str], basic: str | None) -> str:
        if realm.scheme not in ("http", "https") or (
            realm.scheme == "http" and realm.origin() != self._url.origin()
        ):
            # A password goes over plain http only where the whole conversation does.
            raise SandboxError(
                "pull-failed", f"{self._url.authority} names an address for tokens that is not safe"
            )
        query = {"scope": parameters.get("scope") or f"repository:{self._repository}:pull"}
        if service := parameters.get("service"):
            query["service"] = service
        headers = {"Authorization": basic} if basic else {}
        try:
            async with self._session.get(
                realm.update_query(query),
                headers=headers,
                allow_redirects=False,
                ssl=self._tls if realm.origin() == self._url.origin() else True,
            ) as response:
                if response.status != 200:
                    raise await _refused(response, self._url.authority, "a token")
                document = parse_json_object(await _read(response, _ANSWER_MAX_BYTES))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broken(realm, error) from None
        except JsonInvalidError:
            document = {}
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise SandboxError("pull-failed", f"{self._url.authority} gave no token")
        return token


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    content = b""
    try:
        while len(content) <= max_bytes and (piece := await response.content.read(_PIECE_BYTES)):
            content += piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _broken(response.url, error) from None
    return content


async def _refused(
    response: aiohttp.ClientResponse, where: str, what: str, *, leased: bool = False
) -> SandboxError:
    text = f"{where} answered {response.status} for {what[:100]}"
    try:
        document = json.loads(await _read(response, _ANSWER_MAX_BYTES))
        said = str(document["errors"][0]["message"])[:300]
        text = f"{text}: {printable(said)}"
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pass
    # 401: the lease is over, or its repository has another name by now, which the next lease says.
    passing = response.status == 429 or response.status >= 500 or (leased and response.status == 401)
    return SandboxError("pull-failed", text, retryable=passing)


def _broken(url: URL, error: BaseException) -> SandboxError:
    return SandboxError(
        "pull-failed", f"{url.authority} cannot be reached: {type(error).__name__}", retryable=True
    )
