"""Any registry, as it is asked for one artifact of one repository (distribution-spec, "Pull" and "Push").

What opens one host is never sent to another: a redirect to storage elsewhere goes without Authorization.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from registry.cli.client import CallError, opener
from registry.errors import ContentTooLargeError, UnavailableError
from registry.layouts.errors import LayoutError
from registry.layouts.members import Reader
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest, digest_of
from registry.oci.manifest import MAX_BYTES
from registry.oci.mediatypes import INDEXES, MANIFESTS
from registry.oci.names import ImageName
from registry.oci.printable import printable

_SECONDS = 60.0
_PIECE_BYTES = 1024 * 1024
_REDIRECTS_MAX = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({429, 500, 502, 503, 504})
_TRIES = 4
"""More after the first, each of them longer after the one before."""
_PAGES_MAX = 10_000
_PATIENCE_SECONDS = 60.0
_PACE_BYTES = 1024
"""An answer may be slow: so many seconds, and one more for each of so many bytes."""
_CONNECTIONS_MAX = 1000
"""So often the connection of one blob is made again."""
_CHUNK_BYTES = 8 * 1024 * 1024
_ANY_MANIFEST = ", ".join(sorted(MANIFESTS | INDEXES))
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_PARAMETER = re.compile(r'([a-zA-Z]+)="([^"\\]*)"')

Advance = Callable[[int], None]


@dataclass(slots=True)
class ArtifactClient:
    """One repository of the registry at ``url``. ``credentials`` (user and password) answer a challenge,
    ``authorization`` is sent as it is; without either it is asked as nobody."""

    url: str
    name: ImageName
    credentials: tuple[str, str] | None
    authorization: str | None
    ca_file: Path | None
    actions: str = "pull"
    """What a token is asked for; ``pull,push`` to push."""
    scope: str = ""
    """What it is asked for where that is no repository."""
    token_host: str | None = None
    """Where besides its own host the credentials may be sent; ``None``: wherever its challenge says."""
    _answered: bool = False

    def manifest(self) -> bytes:
        """The manifest that the name means, with its digest if the name has one.

        Raises:
            CallError: refused, failed or not reached.
            UnavailableError: it has another digest.
            ContentTooLargeError: it is larger than manifests may be.
        """
        return self.manifest_of(self.name.digest or self.name.reference)

    def manifest_of(self, reference: str | Digest) -> bytes:
        """The manifest or index under a tag or a digest.

        Raises:
            CallError, UnavailableError, ContentTooLargeError: as :meth:`manifest`.
        """
        with self._asked("GET", f"manifests/{reference}", {"Accept": _ANY_MANIFEST}) as answer:
            raw = _Pace(self.name.host).whole(answer, MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ContentTooLargeError(f"the manifest of {self.name} has more than {MAX_BYTES} bytes")
        if isinstance(reference, Digest) and digest_of(raw, reference.algorithm) != reference:
            raise UnavailableError(f"{self.name.host} answers with other bytes than {reference}")
        return raw

    def digest_at(self, reference: str | Digest) -> str | None:
        """The digest of the manifest under a tag or a digest; ``None``: there is none.

        Raises:
            CallError: refused, failed or not reached.
        """
        headers = {"Accept": _ANY_MANIFEST}
        with self._asked("HEAD", f"manifests/{reference}", headers, missing=True) as answer:
            return answer.headers.get("Docker-Content-Digest", "") if answer.status == 200 else None

    def has(self, blob: Digest) -> bool:
        """Whether the repository has the blob.

        Raises:
            CallError: refused, failed or not reached.
        """
        with self._asked("HEAD", f"blobs/{blob}", {}, missing=True) as answer:
            return answer.status == 200

    def listed(self, place: str, name: str) -> Iterator[Any]:
        """What all pages of a list have under ``name``, of ``tags/list``, ``referrers/DIGEST`` or
        ``/v2/_catalog``.

        Raises:
            CallError: refused, failed or not reached.
        """
        seen: set[str] = set()
        while len(seen) < _PAGES_MAX and place not in seen:
            seen.add(place)
            with self._asked("GET", place, {}) as answer:
                link = _NEXT.match(answer.headers.get("Link") or "")
                page = _Pace(self.name.host).whole(answer, MAX_BYTES + 1)
                place = self._led(answer.geturl(), link[1]) if link else ""
            try:
                yield from json.loads(page)[name] or ()
            except (ValueError, KeyError, TypeError, RecursionError):
                raise CallError(f"{self.name.host} does not answer like a registry", status=0) from None
            if not place:
                return
        raise CallError(f"{self.name.host} lists without end", status=0)

    def pieces(self, blob: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob from ``offset`` on, not verified. A connection that breaks is made again, and
        goes on where it broke, as long as that brings more.

        Raises:
            CallError: refused, failed or not reached.
        """
        fruitless, paced = 0, _Pace(self.name.host)
        for _ in range(_CONNECTIONS_MAX):
            if offset >= blob.size:
                return
            before, broken = offset, CallError(f"{self.name.host} breaks off {blob.digest}", status=0)
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            try:
                with self._asked("GET", f"blobs/{blob.digest}", headers) as answer:
                    if offset and answer.status != 206:
                        raise CallError(f"{self.name.host} gives no part of {blob.digest}", status=0)
                    while piece := paced.read(answer, min(_PIECE_BYTES, blob.size + 1 - offset)):
                        offset += len(piece)
                        yield piece
            except CallError as error:
                if error.status and error.status not in _PASSING:
                    raise
                broken = error
            fruitless = 0 if offset > before else fruitless + 1
            if fruitless > _TRIES:
                raise broken
            if offset < blob.size:
                time.sleep(fruitless)
        raise CallError(f"{self.name.host} breaks off {blob.digest} without end", status=0)

    def fetch(self, blob: Descriptor, target: IO[bytes], advance: Advance) -> None:
        """Write the bytes of a blob.

        Raises:
            CallError: refused, failed or not reached.
            UnavailableError: they are others than the descriptor says.
        """
        state, total = hashlib.new(blob.digest.algorithm), 0
        with self._asked("GET", f"blobs/{blob.digest}", {}) as answer:
            while total <= blob.size and (piece := answer.read(_PIECE_BYTES)):
                total += len(piece)
                state.update(piece)
                target.write(piece)
                advance(len(piece))
        if total != blob.size or state.hexdigest() != blob.digest.encoded:
            raise UnavailableError(f"{self.name.host} answers with other bytes than {blob.digest}")

    def store(self, blob: Descriptor, content: IO[bytes]) -> None:
        """Upload a blob in one piece, which every registry takes, unless it is there.

        Raises:
            CallError: refused, failed or not reached.
        """
        if not self.has(blob.digest):
            self._complete(self._begun(), blob, content, blob.size)

    def upload(self, blob: Descriptor, content: Reader, advance: Advance) -> None:
        """Upload a blob chunk by chunk. A connection that breaks is made again, and goes on where it broke.

        Raises:
            CallError: refused, failed or not reached.
            LayoutError: it has other bytes than its descriptor says; nothing is stored.
        """
        state, offset, place = hashlib.new(blob.digest.algorithm), 0, self._begun()
        chunk = _chunk(content, blob.size)
        while offset + len(chunk) < blob.size and chunk:
            place = self._append(place, offset, chunk)
            state.update(chunk)
            offset += len(chunk)
            advance(len(chunk))
            chunk = _chunk(content, blob.size - offset)
        state.update(chunk)
        size = offset + len(chunk) + len(content.read(1))
        if size != blob.size or state.hexdigest() != blob.digest.encoded:
            with self._asked("DELETE", place, {}, missing=True):
                pass
            seen = f"{size} bytes" if size != blob.size else f"{blob.digest.algorithm}:{state.hexdigest()}"
            raise LayoutError("mismatch", f"what is there as {blob.digest} ({blob.size} bytes) is {seen}")
        self._complete(place, blob, chunk, len(chunk))
        advance(len(chunk))

    def mount(self, blob: Digest, origin: str) -> bool:
        """Have a blob that the repository ``origin`` of the same registry has; false: it has to be sent.

        Raises:
            CallError: refused, failed or not reached.
        """
        place = f"blobs/uploads/?{urlencode({'mount': str(blob), 'from': origin})}"
        with self._asked("POST", place, {"Content-Length": "0"}) as answer:
            if answer.status == 201:
                return True
            begun = _location(answer)
        with self._asked("DELETE", begun, {}, missing=True):
            pass
        return False

    def _begun(self) -> str:
        """Where a new upload goes."""
        with self._asked("POST", "blobs/uploads/", {"Content-Length": "0"}) as answer:
            return _location(answer)

    def _complete(self, place: str, blob: Descriptor, rest: bytes | IO[bytes], size: int) -> None:
        """The ``size`` bytes that are left of an upload, and its end."""
        place += ("&" if "?" in place else "?") + urlencode({"digest": str(blob.digest)})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._asked("PUT", place, headers, body=rest):
            pass

    def _append(self, place: str, offset: int, chunk: bytes) -> str:
        """One chunk of an upload; where the next one goes."""
        for turn in range(_TRIES + 1):
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(chunk)),
                "Content-Range": f"{offset}-{offset + len(chunk) - 1}",
            }
            try:
                with self._asked("PATCH", place, headers, body=chunk) as answer:
                    return _location(answer)
            except CallError as error:
                if turn == _TRIES or (error.status and error.status not in _PASSING):
                    raise
            time.sleep(turn)
            with self._asked("GET", place, {}) as answer:
                place = _location(answer)
                end = int((answer.headers.get("Range") or "0-0").rpartition("-")[2])
            taken = end + 1 - offset if end else 0
            if not 0 <= taken <= len(chunk):
                raise CallError(f"{self.name.host} has lost a part of the upload; try again", status=0)
            offset, chunk = offset + taken, chunk[taken:]
            if not chunk:
                return place
        raise AssertionError("the last turn returns or raises")

    def put(
        self,
        reference: str | Digest,
        raw: bytes,
        media_type: str,
        *,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Put a manifest under a tag or its digest, with ``more`` headers such as ``If-Match``.

        Raises:
            CallError: refused, failed or not reached; 412: one of the conditions does not hold.
        """
        headers = {"Content-Type": media_type, "Content-Length": str(len(raw)), **more}
        with self._asked("PUT", f"manifests/{reference}", headers, body=raw):
            pass

    @contextmanager
    def _asked(
        self,
        method: str,
        place: str,
        headers: Mapping[str, str],
        *,
        body: bytes | IO[bytes] | None = None,
        missing: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        url = urljoin(f"{self.url}/v2/{self.name.repository}/", place)
        for _ in range(_REDIRECTS_MAX):
            own = urlsplit(url)[:2] == urlsplit(self.url)[:2]
            sent = dict(headers)
            if own and self.authorization:
                sent["Authorization"] = self.authorization
            request = urllib.request.Request(url, data=body, headers=sent, method=method)  # noqa: S310
            try:
                with opener(url, self.ca_file if own else None).open(request, timeout=_SECONDS) as answer:
                    self._answered = False
                    yield answer
                return
            except urllib.error.HTTPError as error:
                with error:
                    if missing and error.code == 404:
                        yield error  # type: ignore[misc]  # an answer as any other
                        return
                    if error.code == 401 and own and not self._answered:
                        self._answered = True
                        self.authorization = self._answer(error.headers.get("WWW-Authenticate") or "")
                        continue
                    if error.code in _REDIRECTS and method == "GET":
                        url = self._led(url, error.headers.get("Location") or "")
                        continue
                    raise CallError(_refusal(error, self.name), status=error.code) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise CallError(f"{self.name.host} cannot be reached: {error}", status=0) from None
        raise CallError(f"{self.name.host} redirects without end", status=0)

    def _led(self, url: str, location: str) -> str:
        """Where an answer from ``url`` leads: to no file of this host, and not out of HTTPS."""
        try:
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:")):
            raise CallError(f"{self.name.host} leads to what is no https address", status=0)
        return target

    def _answer(self, challenge: str) -> str:
        """What a challenge asks for (RFC 6750, and the token service of registries)."""
        kind, _, rest = challenge.partition(" ")
        basic = None
        if self.credentials is not None:
            basic = f"Basic {base64.b64encode(':'.join(self.credentials).encode()).decode()}"
        if kind.lower() == "basic" and basic:
            return basic
        parameters = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
        realm = parameters.get("realm", "")
        plain = realm.startswith("http:") and urlsplit(realm)[:2] != urlsplit(self.url)[:2]
        if kind.lower() != "bearer" or not realm.startswith(("http:", "https:")) or plain:
            raise CallError(
                f"{self.name.host} wants a login: give --username and --password-file, or seatrial login",
                status=401,
            )
        realm_host = urlsplit(realm).netloc
        known = (urlsplit(self.url).netloc, self.token_host)
        if basic and self.token_host is not None and realm_host not in known:
            raise CallError(
                f"{self.name.host} wants the password sent to {printable(realm_host[:100])}; allow that with "
                "--token-host, or ask it as nobody",
                status=401,
            )
        asked = {"scope": self.scope or f"repository:{self.name.repository}:{self.actions}"}
        if "service" in parameters:
            asked["service"] = parameters["service"]
        address = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
        request = urllib.request.Request(address, headers={"Authorization": basic} if basic else {})  # noqa: S310
        try:
            with opener(address, self.ca_file).open(request, timeout=_SECONDS) as answer:
                document = json.loads(answer.read(_PIECE_BYTES))
            return f"Bearer {document.get('token') or document['access_token']}"
        except urllib.error.HTTPError as error:
            with error:
                raise CallError(_refusal(error, self.name), status=error.code) from None
        except (OSError, http.client.HTTPException, ValueError, KeyError, AttributeError) as error:
            raise CallError(f"{self.name.host} gives no token: {error}", status=0) from None


class _Pace:
    """Answers may be slow, but not come to no end."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._seconds, self._bytes = 0.0, 0

    def read(self, answer: http.client.HTTPResponse, size: int) -> bytes:
        """The next bytes of a body, as they come; none at the end.

        Raises:
            CallError: it is too slow.
        """
        began = time.monotonic()
        piece = answer.read1(size)
        self._seconds += time.monotonic() - began
        self._bytes += len(piece)
        if self._seconds > _PATIENCE_SECONDS + self._bytes / _PACE_BYTES:
            raise CallError(
                f"{self._host} is too slow: {self._bytes} bytes in {self._seconds:.0f} s",
                status=HTTPStatus.REQUEST_TIMEOUT,
            )
        return piece

    def whole(self, answer: http.client.HTTPResponse, size: int) -> bytes:
        """All of it, but no more than ``size`` bytes.

        Raises:
            CallError: it is too slow.
        """
        found = bytearray()
        while len(found) < size and (piece := self.read(answer, size - len(found))):
            found += piece
        return bytes(found)


def _refusal(error: urllib.error.HTTPError, name: ImageName) -> str:
    said = error.reason
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        said = json.loads(error.read(_PIECE_BYTES))["errors"][0]["message"]
    return f"{name} is refused: {error.code}: {printable(str(said)[:300])}"


def _location(answer: http.client.HTTPResponse) -> str:
    return urljoin(answer.geturl(), answer.headers.get("Location", ""))


def _chunk(content: Reader, left: int) -> bytes:
    """The next of ``left`` bytes, as many as are sent at once."""
    found: list[bytes] = []
    wanted = min(left, _CHUNK_BYTES)
    while wanted > 0 and (piece := content.read(min(wanted, _PIECE_BYTES))):
        found.append(piece)
        wanted -= len(piece)
    return b"".join(found)
