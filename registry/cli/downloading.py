"""A file fetched over https, for a command that was told its address."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from registry.cli.client import trust
from registry.errors import ContentTooLargeError, RequestInvalidError, UnavailableError
from registry.oci.printable import printable

_SECONDS = 60.0
_PIECE_BYTES = 1024 * 1024
_UNFIT = re.compile(r"[^A-Za-z0-9._ -]")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """Where it lies now, and when the server says that it was changed."""

    path: Path
    changed_at: datetime | None


def download(
    url: str,
    folder: Path,
    *,
    ca_file: Path | None,
    since: datetime | None,
    max_bytes: int,
    advance: Callable[[int], None],
) -> Downloaded | None:
    """Fetch ``url`` into ``folder``, below a name of its last two parts; ``None`` if it has not changed
    ``since``.

    Raises:
        RequestInvalidError: the address is none of https.
        UnavailableError: it cannot be had.
        ContentTooLargeError: it has more than ``max_bytes``.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise RequestInvalidError(f"{printable(url[:300])} is no address that begins with https://")
    names = [_UNFIT.sub("_", unquote(name)).lstrip(".") for name in parts.path.split("/")]
    names = [name[:100] for name in names if name] or ["download"]
    target = folder.joinpath(*names[-2:])
    headers = {"User-Agent": "seatrial", "Accept-Encoding": "identity"}
    if since is not None:
        headers["If-Modified-Since"] = format_datetime(since.astimezone(UTC), usegmt=True)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (https only)
    try:
        secure = urllib.request.HTTPSHandler(context=trust(ca_file))
        with urllib.request.build_opener(_OnlyHttps, secure).open(request, timeout=_SECONDS) as answer:
            target.parent.mkdir(parents=True, exist_ok=True)
            _store(answer, target, url, max_bytes, advance)
            return Downloaded(target, _changed_at(answer.headers.get("Last-Modified")))
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_MODIFIED:
            return None
        later = error.headers.get("Retry-After")
        wait = f"; it asks to wait {printable(later[:50])}" if later else ""
        raise UnavailableError(f"{url} answers {error.code} {printable(error.reason)}{wait}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"{url} cannot be fetched: {reason or type(error).__name__}") from None


def _store(answer: Any, target: Path, url: str, max_bytes: int, advance: Callable[[int], None]) -> None:
    expected = answer.headers.get("Content-Length")
    total = 0
    with target.open("xb") as file:
        while piece := answer.read(_PIECE_BYTES):
            total += len(piece)
            if total > max_bytes:
                raise ContentTooLargeError(f"{url} has more than {max_bytes} bytes")
            file.write(piece)
            advance(len(piece))
    if expected is not None and expected.isdecimal() and int(expected) != total:
        raise UnavailableError(f"{url} broke off after {total} of {expected} bytes")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay encrypted."""

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        """The request for where it leads."""
        if not given[-1].startswith("https://"):
            raise UnavailableError(
                f"{given[0].full_url} leads to {printable(given[-1][:300])}, which is no https"
            )
        return super().redirect_request(*given)


def _changed_at(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
