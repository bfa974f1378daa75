"""The registry as a command sees it: ``/api/v1`` over HTTP, errors as one sentence."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from registry.errors import RequestInvalidError, SeatrialError

DEFAULT_SERVER = "http://127.0.0.1:8470"
_DEFAULT_TOKEN_FILE = Path("data/admin.token")
_TOKEN_PREFIX = "seatrial_"  # noqa: S105  (what tells a token from the path of a file)
TIMEOUT_SECONDS = 60.0
SPEC_MAX_BYTES = 64 * 1024

ServerOption = Annotated[
    str,
    typer.Option("--server", envvar="SEATRIAL_SERVER", help="Address of the registry.", show_default=True),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        envvar="SEATRIAL_TOKEN",
        show_envvar=False,
        metavar="FILE",
        help="File with an API token; SEATRIAL_TOKEN may hold the token itself. "
        "Else data/admin.token, where there is one.",
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
    """One registry and the token to speak to it with."""

    server: str
    token: str | None

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

    def lines(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """The JSON lines at ``/api/v1`` + ``path``, as they come.

        Raises:
            CallError: refused, failed, not reached, or broken off.
        """
        with self._answer("GET", path, query=query) as response:
            for raw in response:
                yield json.loads(raw)

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
        seconds: float = TIMEOUT_SECONDS,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read as JSON in the block."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self.server}/api/v1{path}" + (f"?{urlencode(asked, doseq=True)}" if asked else "")
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  (checked)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
                yield response
        except urllib.error.HTTPError as error:
            raise CallError(_reason(error, signed_in=self.token is not None), status=error.code) from None
        except (OSError, http.client.HTTPException) as error:
            raise CallError(f"{self.server} cannot be reached: {_why(error)}", status=0) from None
        except ValueError:
            raise CallError(f"{self.server} does not answer like a Seatrial registry", status=0) from None


def connect(server: str, token: str | None) -> Client:
    """The client for what ``--server`` and ``--token-file`` say.

    Raises:
        RequestInvalidError: an address or a file that cannot be used.
    """
    address = server if "://" in server else f"http://{server}"
    if not address.startswith(("http://", "https://")):
        raise RequestInvalidError(f"--server {server!r} is not an address such as {DEFAULT_SERVER}")
    return Client(address.rstrip("/"), _token(token))


def part(text: str) -> str:
    """A value as one part of a path."""
    return quote(text, safe="")


def read_run_spec(path: Path) -> str:
    """The text of a run spec, for the registry to parse.

    Raises:
        RequestInvalidError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(SPEC_MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise RequestInvalidError(f"the run spec {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"the run spec {path} is not UTF-8 text") from None
    if len(raw) > SPEC_MAX_BYTES:
        raise RequestInvalidError(f"the run spec {path} has more than {SPEC_MAX_BYTES} bytes")
    return text


def _token(given: str | None) -> str | None:
    if given and given.startswith(_TOKEN_PREFIX):
        return given.strip()
    path = Path(given) if given else _DEFAULT_TOKEN_FILE
    if not given and not path.exists():
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise RequestInvalidError(f"the token file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"the token file {path} holds no token") from None


def _reason(error: urllib.error.HTTPError, *, signed_in: bool) -> str:
    try:
        problem = json.loads(error.read())
        reason = str(problem["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        reason = f"the registry answered {error.code} {error.reason}"
    if error.code == HTTPStatus.UNAUTHORIZED and not signed_in:
        reason += "; give a token with --token-file or SEATRIAL_TOKEN"
    return reason


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"TLS: its certificate is not trusted here: {reason.verify_message}; "
            "SSL_CERT_FILE may name the file of one that is to be"
        )
    if isinstance(reason, ssl.SSLError):
        return f"TLS: {reason.reason}"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
