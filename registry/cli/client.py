"""The registry as a command sees it: ``/api/v1`` over HTTP, errors as one sentence."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import typer

from registry.cli.addresses import LOCAL_SERVER, is_loopback, parse_address, require_private
from registry.cli.logins import Login, load_logins
from registry.errors import RequestInvalidError, SeatrialError

_DEFAULT_TOKEN_FILE = Path("data/admin.token")
_TOKEN_PREFIX = "seatrial_"  # noqa: S105  (what tells a token from the path of a file)
TIMEOUT_SECONDS = 60.0
TEXT_MAX_BYTES = 64 * 1024
_NEXT = re.compile(r'<([^>]+)>; rel="next"')


@dataclass(frozen=True, slots=True)
class Server:
    """Which registry is meant, and how far to trust the way to it; no address: the one last signed in to."""

    address: str = ""
    ca_file: Path | None = None
    plain_http: bool = False

    def __str__(self) -> str:
        return self.address or LOCAL_SERVER


def _parse_server(given: str | Server) -> Server:
    return given if isinstance(given, Server) else Server(given)


def _with_trust(context: typer.Context, server: Server) -> Server:
    """What stands before the command goes for the server, whatever the command."""
    given = context.find_root().params
    return replace(server, ca_file=given.get("ca_file"), plain_http=bool(given.get("plain_http")))


DEFAULT_SERVER = Server()
ServerOption = Annotated[
    Server,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="SEATRIAL_SERVER",
        help="Address of the registry, if not the one that you signed in to last (seatrial login).",
        parser=_parse_server,
        callback=_with_trust,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        envvar="SEATRIAL_TOKEN",
        show_envvar=False,
        metavar="FILE",
        help="File with an API token; SEATRIAL_TOKEN may hold the token itself. Else that of seatrial login; "
        "for a registry on this host, data/admin.token, where there is one.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ImageArgument = Annotated[
    str, typer.Argument(metavar="NAME@DIGEST|NAME:TAG", help="An image of the registry.")
]


class CallError(SeatrialError):
    """The registry refused, failed or could not be reached; ``status`` is its own, 0 for no answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self._status = status

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self._status


@dataclass(frozen=True, slots=True, repr=False)
class Client:
    """One registry: ``authorization`` is what to sign in with, ``ca_file`` an authority to trust as well."""

    server: str
    authorization: str | None
    ca_file: Path | None = None

    def get(
        self, path: str, query: Mapping[str, object] | None = None, *, seconds: float = TIMEOUT_SECONDS
    ) -> Any:
        """The JSON at ``/api/v1`` + ``path``; ``None`` values are left out of the query.

        Raises:
            CallError: refused, failed or not reached within ``seconds``.
        """
        return self._call("GET", path, query=query, seconds=seconds)

    def send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send JSON and return the answer's; ``None`` for an empty one.

        Raises:
            CallError: refused, failed or not reached.
        """
        return self._call(method, path, body=body)

    def remove(self, path: str, query: Mapping[str, object]) -> None:
        """Delete what a query tells more about.

        Raises:
            CallError: refused, failed or not reached.
        """
        self._call("DELETE", path, query=query)

    def items(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """All items of a paged list.

        Raises:
            CallError: refused, failed or not reached.
        """
        cursor: object = None
        while True:
            page = self.get(path, {**(query or {}), "cursor": cursor})
            yield from page["items"]
            cursor = page.get("next")
            if cursor is None:
                return

    def linked(self, path: str, query: Mapping[str, object]) -> Iterator[Any]:
        """All items of a list whose answers name the next one in ``Link``.

        Raises:
            CallError: refused, failed or not reached.
        """
        cursor: str | None = None
        while True:
            with self._answer("GET", path, query={**query, "cursor": cursor}) as response:
                link = _NEXT.match(response.headers.get("Link") or "")
                yield from json.loads(response.read())
            if link is None:
                return
            cursor = parse_qs(urlsplit(link[1]).query)["cursor"][0]

    def lines(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """The JSON lines at ``/api/v1`` + ``path``, as they come.

        Raises:
            CallError: refused, failed, not reached, or broken off.
        """
        with self._answer("GET", path, query=query) as response:
            for raw in response:
                yield json.loads(raw)

    def events(self, path: str, *, after: str) -> Iterator[tuple[str, str, Any]]:
        """Server-sent events at ``/api/v1`` + ``path`` as they come, those after the id ``after``: the id of
        the last one that had one, the kind, and the JSON. They may end at any time.

        Raises:
            CallError: refused, failed, not reached, or broken off.
        """
        headers = {"Last-Event-ID": after} if after else {}
        last, kind = after, ""
        with self._answer("GET", path, headers=headers) as response:
            for raw in response:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name == "id":
                    last = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    yield last, kind, json.loads(value)

    def text(self, path: str) -> str:
        """The text at ``/api/v1`` + ``path``.

        Raises:
            CallError: refused, failed or not reached.
        """
        with self._answer("GET", path, headers={"Accept": "text/plain"}) as response:
            return response.read().decode("utf-8", "replace")

    def content(self, path: str, *, accept: str, limit_bytes: int) -> bytes:
        """The bytes at ``path`` of the distribution API, which begins with ``/v2/``.

        Raises:
            CallError: refused, failed, not reached, or more than ``limit_bytes``.
        """
        headers = {"Accept": accept}
        if self.authorization:
            headers["Authorization"] = self.authorization
        else:
            # Whoever has not signed in gets a token for what is public.
            name = path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
            asked = urlencode({"scope": f"repository:{name}:pull"})
            with self._open(f"/token?{asked}", {}) as response:
                headers["Authorization"] = f"Bearer {json.loads(response.read())['token']}"
        with self._open(path, headers) as response:
            raw = response.read(limit_bytes + 1)
        if len(raw) > limit_bytes:
            raise CallError(f"{self.server}{path} has more than {limit_bytes} bytes", status=0)
        return raw

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        with self._answer(method, path, query=query, body=body, seconds=seconds) as response:
            raw = response.read()
            return json.loads(raw) if raw else None

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = TIMEOUT_SECONDS,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read as JSON in the block, unless ``headers`` say otherwise."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        path = f"/api/v1{path}" + (f"?{urlencode(asked, doseq=True)}" if asked else "")
        sent = {"Accept": "application/json", **(headers or {})}
        if self.authorization:
            sent["Authorization"] = self.authorization
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        with self._open(path, sent, data=data, method=method, seconds=seconds) as response:
            yield response

    @contextmanager
    def _open(
        self,
        path: str,
        headers: Mapping[str, str],
        *,
        data: bytes | None = None,
        method: str = "GET",
        seconds: float = TIMEOUT_SECONDS,
    ) -> Iterator[http.client.HTTPResponse]:
        url = f"{self.server}{path}"
        request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310  (checked)
        try:
            with opener(self.server, self.ca_file).open(request, timeout=seconds) as response:
                yield response
        except urllib.error.HTTPError as error:
            raise CallError(
                _reason(error, signed_in=self.authorization is not None), status=error.code
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CallError(f"{self.server} cannot be reached: {_why(error)}", status=0) from None
        except ValueError:
            raise CallError(f"{self.server} does not answer like a Seatrial registry", status=0) from None


def connect(server: Server, token: str | None) -> Client:
    """The client for what ``--server`` and ``--token-file`` say, and what ``seatrial login`` has kept.

    Raises:
        RequestInvalidError: an address or a file that cannot be used, or a token that would be sent in clear.
    """
    kept = load_logins()
    address = parse_address(server.address or kept.current or LOCAL_SERVER)
    login = kept.servers.get(address, Login())
    secret = read_token(token) if token else login.token or _own_token(address)
    if secret is not None:
        require_private(address, plain_http=server.plain_http or login.plain_http)
    authorization = None if secret is None else f"Bearer {secret}"
    return Client(address, authorization, server.ca_file or login.ca_file)


def part(text: str) -> str:
    """A value as one part of a path."""
    return quote(text, safe="")


def read_text(path: Path, *, what: str) -> str:
    """The text of a file that people write, for the registry to parse; ``what`` it is called in errors.

    Raises:
        RequestInvalidError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise RequestInvalidError(f"the {what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"the {what} {path} is not UTF-8 text") from None
    if len(raw) > TEXT_MAX_BYTES:
        raise RequestInvalidError(f"the {what} {path} has more than {TEXT_MAX_BYTES} bytes")
    return text


def looks_like_token(text: str) -> bool:
    """Whether this is an API token and no password."""
    return text.startswith(_TOKEN_PREFIX)


def read_token(given: str) -> str:
    """The token that ``--token-file`` or ``SEATRIAL_TOKEN`` holds or names.

    Raises:
        RequestInvalidError: the file cannot be read.
    """
    if looks_like_token(given):
        return given.strip()
    try:
        return Path(given).read_text(encoding="ascii").strip()
    except OSError as error:
        raise RequestInvalidError(f"the token file {given} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"the token file {given} holds no token") from None


def _own_token(address: str) -> str | None:
    # That of the registry in this folder is nothing for another's.
    if not is_loopback(urlsplit(address).hostname or "") or not _DEFAULT_TOKEN_FILE.exists():
        return None
    return read_token(str(_DEFAULT_TOKEN_FILE))


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token would be sent there too."""

    def redirect_request(self, *_: object) -> None:
        """Nothing."""


def opener(server: str, ca_file: Path | None) -> urllib.request.OpenerDirector:
    """What asks ``server``, or an address of it, and follows no redirect.

    Raises:
        RequestInvalidError: ``ca_file`` cannot be used.
    """
    if ca_file is None and not server.startswith("https:"):
        # To read all authorities that this host trusts takes longer than to ask a registry.
        return urllib.request.build_opener(_StayHere)
    return urllib.request.build_opener(_StayHere, urllib.request.HTTPSHandler(context=trust(ca_file)))


@lru_cache(maxsize=8)
def trust(ca_file: Path | None) -> ssl.SSLContext:
    """How to shake hands with servers that this host trusts, and with those of one more authority.

    Raises:
        RequestInvalidError: ``ca_file`` cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise RequestInvalidError(f"the CA file {ca_file} cannot be used: {error}") from None
    return context


def _reason(error: urllib.error.HTTPError, *, signed_in: bool) -> str:
    try:
        problem = json.loads(error.read())
        # An HTTPS port that is asked in plain HTTP answers as /v2/ does: it knows no path yet.
        reason = str(problem["errors"][0]["message"] if "errors" in problem else problem["detail"])
    except (ValueError, KeyError, IndexError, TypeError, OSError):
        reason = f"the registry answered {error.code} {error.reason}"
    if error.code == HTTPStatus.UNAUTHORIZED and not signed_in:
        reason += "; give a token with --token-file or SEATRIAL_TOKEN, or sign in: seatrial login"
    return reason


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"TLS: its certificate is not trusted here: {reason.verify_message}; "
            "seatrial login --ca-file or SEATRIAL_CA_FILE may name the file of one that is to be"
        )
    if isinstance(reason, ssl.SSLError):
        return f"TLS: {reason.reason}"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
