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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from registry.cli.client import CallError, opener
from registry.errors import ContentTooLargeError, UnavailableError
from registry.oci.descriptor import Descriptor
from registry.oci.digest import digest_of
from registry.oci.manifest import MAX_BYTES
from registry.oci.mediatypes import OCI_MANIFEST
from registry.oci.names import ImageName
from registry.oci.printable import printable

_SECONDS = 60.0
_PIECE_BYTES = 1024 * 1024
_REDIRECTS_MAX = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
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
    _answered: bool = False

    def manifest(self) -> bytes:
        """The manifest that the name means, with its digest if the name has one.

        Raises:
            CallError: refused, failed or not reached.
            UnavailableError: it has another digest.
            ContentTooLargeError: it is larger than manifests may be.
        """
        with self._asked("GET", f"manifests/{self.name.reference}", {"Accept": OCI_MANIFEST}) as answer:
            raw = answer.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ContentTooLargeError(f"the manifest of {self.name} has more than {MAX_BYTES} bytes")
        if self.name.digest is not None and digest_of(raw, self.name.digest.algorithm) != self.name.digest:
            raise UnavailableError(f"{self.name.host} answers with other bytes than {self.name.digest}")
        return raw

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
        """Upload a blob, unless it is there.

        Raises:
            CallError: refused, failed or not reached.
        """
        with self._asked("HEAD", f"blobs/{blob.digest}", {}, missing=True) as answer:
            if answer.status == 200:
                return
        with self._asked("POST", "blobs/uploads/", {"Content-Length": "0"}) as answer:
            place = urljoin(answer.geturl(), answer.headers.get("Location", ""))
        place += ("&" if "?" in place else "?") + urlencode({"digest": str(blob.digest)})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with self._asked("PUT", place, headers, body=content):
            pass

    def tag(self, raw: bytes) -> None:
        """Put a manifest under the tag of the name.

        Raises:
            CallError: refused, failed or not reached.
        """
        headers = {"Content-Type": OCI_MANIFEST, "Content-Length": str(len(raw))}
        with self._asked("PUT", f"manifests/{self.name.reference}", headers, body=raw):
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
                        url = self._redirected(url, error.headers.get("Location") or "")
                        continue
                    raise CallError(_refusal(error, self.name), status=error.code) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise CallError(f"{self.name.host} cannot be reached: {error}", status=0) from None
        raise CallError(f"{self.name.host} redirects without end", status=0)

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:")):
            raise CallError(f"{self.name.host} redirects to what is no https address", status=0)
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
        asked = {"scope": f"repository:{self.name.repository}:{self.actions}"}
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


def _refusal(error: urllib.error.HTTPError, name: ImageName) -> str:
    said = error.reason
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        said = json.loads(error.read(_PIECE_BYTES))["errors"][0]["message"]
    return f"{name} is refused: {error.code}: {printable(str(said)[:300])}"
