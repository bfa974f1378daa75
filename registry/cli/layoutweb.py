"""Layouts at addresses: an archive is fetched to a file without a name, of a folder only what is needed is
read.

An address that ends with a slash, or with ``index.json`` or ``oci-layout``, is a folder. Names and passwords
come from ``~/.netrc`` and stand on no command line.
"""

from __future__ import annotations

import base64
import ftplib
import http.client
import netrc
import socket
import urllib.error
import urllib.request
from contextlib import closing, suppress
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote

from registry.cli.client import trust
from registry.cli.progress import progress_bar
from registry.errors import RequestInvalidError
from registry.layouts.archive import open_archive, spool
from registry.layouts.errors import LayoutError
from registry.layouts.members import PIECE_BYTES, Members, Reader
from registry.oci.layout import INDEX_PATH, MARKER_PATH
from registry.oci.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 60.0
_TRIES = 5
"""How often an archive's connection may break without bringing more."""


def open_address(url: SplitResult, *, ca_file: Path | None) -> Members:
    """The files of the layout at an address.

    Raises:
        RequestInvalidError: it is none of http, https or ftp.
        LayoutError: nothing can be had from it.
    """
    if url.scheme not in ("http", "https", "ftp") or not url.hostname:
        raise RequestInvalidError(f"{printable(url.geturl()[:200])} is no address of http, https or ftp")
    if "@" in url.netloc:
        raise RequestInvalidError(
            "a name or password in an address can be seen by others; ~/.netrc may have it"
        )
    folder, _, last = url.path.rpartition("/")
    members = FtpMembers(url, folder) if url.scheme == "ftp" else HttpMembers(url, folder, ca_file)
    if last in ("", INDEX_PATH, MARKER_PATH):
        return members
    with closing(members):
        size = members.size(last)
        with (
            progress_bar("Fetching", size, of_bytes=True) as advance,
            closing(_Resumed(members, last, size)) as reader,
        ):
            file = spool(reader, members.name, advance)
    return open_archive(file, last)


class _Resumed:
    """A file at an address, whose connection is made again where it broke."""

    def __init__(self, members: HttpMembers | FtpMembers, path: str, size: int | None) -> None:
        self._members, self._path, self._size = members, path, size
        self._reader: Reader = members.open(path)
        self._offset = 0
        self._left = _TRIES

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        while True:
            try:
                piece = self._reader.read(size)
            except LayoutError:
                piece = b""
                if self._size is None or self._left == 0:
                    raise
            if piece:
                self._offset, self._left = self._offset + len(piece), _TRIES
                return piece
            if self._size is None or self._offset >= self._size:
                return b""
            if self._left == 0:
                raise LayoutError("missing", f"{self._members.name} is cut off after {self._offset} bytes")
            self._left -= 1
            self._reader.close()
            self._reader = self._members.open(self._path, self._offset)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


class HttpMembers:
    """A folder that a web server shows; the query of the address goes with each file's."""

    def __init__(self, url: SplitResult, folder: str, ca_file: Path | None) -> None:
        self.name = printable(url._replace(query="", fragment="").geturl()[:200])
        self._url, self._folder = url, folder
        secure = urllib.request.HTTPSHandler(context=trust(ca_file)) if url.scheme == "https" else None
        handlers = [_StaySecure(), *([secure] if secure else [])]
        self._opener = urllib.request.build_opener(*handlers)
        self._headers = {"User-Agent": "seatrial", "Accept-Encoding": "identity"}
        if (login := _login(url.hostname or "")) is not None:
            basic = base64.b64encode(":".join(login).encode()).decode()
            self._login = f"Basic {basic}"
        else:
            self._login = ""

    def size(self, path: str) -> int | None:
        """As :class:`Members` says; of a server that does not say it, ``None`` as well."""
        try:
            with closing(self._asked("HEAD", path, {})) as answer:
                length = answer.headers.get("Content-Length")
        except _NotThereError:
            return None
        return int(length) if length and length.isdecimal() else None

    def open(self, path: str, offset: int = 0) -> Reader:
        """As :class:`Members` says; from ``offset`` on."""
        answer = self._asked("GET", path, {"Range": f"bytes={offset}-"} if offset else {})
        if offset and answer.status != 206:
            answer.close()
            raise LayoutError("missing", f"{self.name} broke off, and gives no parts of files")
        return _Telling(answer, self.name)

    def close(self) -> None:
        """Nothing is held open."""

    def _asked(self, method: str, path: str, headers: dict[str, str]) -> Any:
        place = f"{self._folder}/{quote(path) if '%' not in path else path}"
        url = self._url._replace(path=place, fragment="").geturl()
        request = urllib.request.Request(url, headers={**self._headers, **headers}, method=method)  # noqa: S310
        if self._login:
            request.add_unredirected_header("Authorization", self._login)
        try:
            return self._opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                kind = _NotThereError if error.code == 404 else LayoutError
                raise kind(
                    "missing", f"{self.name}: {path} answers {error.code} {printable(error.reason)}"
                ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise LayoutError("missing", f"{self.name} cannot be reached: {printable(str(reason))}") from None


class FtpMembers:
    """A folder of an ftp server (RFC 959), by passive connections; each file by a session of its own."""

    def __init__(self, url: SplitResult, folder: str) -> None:
        self.name = printable(url.geturl()[:200])
        self._url, self._folder = url, unquote(folder)
        self._asking: ftplib.FTP | None = None

    def size(self, path: str) -> int | None:
        """As :class:`Members` says (RFC 3659, 4)."""
        try:
            if self._asking is None:
                self._asking = self._session()
            return self._asking.size(f"{self._folder}/{unquote(path)}")
        except ftplib.error_perm:
            return None
        except (OSError, EOFError, ftplib.Error, ValueError) as error:
            raise self._told(error) from None

    def open(self, path: str, offset: int = 0) -> Reader:
        """As :class:`Members` says; from ``offset`` on."""
        session = None
        try:
            session = self._session()
            connection = session.transfercmd(f"RETR {self._folder}/{unquote(path)}", offset or None)
            return _FtpFile(session, connection, self.name)
        except (OSError, EOFError, ftplib.Error, ValueError) as error:
            if session is not None:
                session.close()
            raise self._told(error) from None

    def close(self) -> None:
        """End the session that sizes are asked in."""
        if self._asking is not None:
            self._asking.close()

    def _session(self) -> ftplib.FTP:
        session = ftplib.FTP(timeout=_SECONDS)  # noqa: S321  (what is fetched is verified)
        try:
            session.connect(self._url.hostname or "", self._url.port or ftplib.FTP_PORT)
            session.login(*(_login(self._url.hostname or "") or ()))
            session.voidcmd("TYPE I")
        except BaseException:
            session.close()
            raise
        return session

    def _told(self, error: Exception) -> LayoutError:
        return LayoutError("missing", f"{self.name}: {printable(str(error))[:300]}")


class _FtpFile:
    """What one session brings."""

    def __init__(self, session: ftplib.FTP, connection: socket.socket, name: str) -> None:
        self._session, self._connection, self._name = session, connection, name

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        try:
            return self._connection.recv(min(size, PIECE_BYTES))
        except OSError as error:
            raise LayoutError("missing", f"{self._name} broke off: {error}") from None

    def close(self) -> None:
        """Close both connections."""
        with suppress(OSError):
            self._connection.close()
        self._session.close()


class _NotThereError(LayoutError):
    """The server has no such file."""


class _Telling:
    """An answer that is read, whose breaking off is told as that of a layout."""

    def __init__(self, answer: IO[bytes], name: str) -> None:
        self._answer, self._name = answer, name

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        try:
            return self._answer.read(min(size, PIECE_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise LayoutError("missing", f"{self._name} broke off: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and none from https to what is not."""

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        """The request for where it leads."""
        leads = str(given[-1])
        if not leads.startswith(
            "https://" if given[0].full_url.startswith("https:") else ("http://", "https://")
        ):
            raise LayoutError("missing", f"it is redirected to {printable(leads[:200])}, which is no https")
        redirected = super().redirect_request(*given)
        if redirected is not None:
            redirected.method = given[0].get_method()
        return redirected


def _login(host: str) -> tuple[str, str] | None:
    try:
        found = netrc.netrc().authenticators(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError) as error:
        raise RequestInvalidError(f"~/.netrc cannot be used: {error}") from None
    return (found[0], found[2]) if found and found[2] else None
