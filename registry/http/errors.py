"""Errors on the wire: the one function that renders them, and how foreign exceptions become ours.

Under ``/api/``, ``/worker/`` and ``/hooks/`` an error is a problem document (RFC 9457), everywhere else the
envelope of the distribution-spec ("Error Codes"), which token clients read too.
"""

from __future__ import annotations

import json
import sqlite3
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import web
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from registry.errors import (
    CODES,
    ContentTooLargeError,
    MediaTypeUnsupportedError,
    MethodNotAllowedError,
    NotFoundError,
    RequestInvalidError,
    SeatrialError,
    StorageFullError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.exc import SQLAlchemyError

_REASON_MAX = 500
RETRY_AFTER_SECONDS = "5"
"""When to come back, where whoever refused says nothing else."""
_PASSING = (429, 503)
_PROBLEM_PREFIXES = ("/api/", "/worker/", "/hooks/")
_FROM_STATUS: Mapping[int, type[SeatrialError]] = MappingProxyType(
    {
        404: NotFoundError,
        405: MethodNotAllowedError,
        413: ContentTooLargeError,
        415: MediaTypeUnsupportedError,
        503: UnavailableError,
    }
)

# READONLY: the connection was opened while the disk could only be read.
_SQLITE_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)
_POSTGRES_DISK_FULL = "53100"
# Connection, rollback by a deadlock, resources, intervention of an operator.
_POSTGRES_PASSING = ("08", "40", "53", "55", "57")


def render_error(path: str, error: SeatrialError, request_id: str) -> web.Response:
    """The response for ``error``, in the form that clients of ``path`` read.

    Outside the problem documents the sentence stands in the status line too: containerd prints nothing else,
    and podman, skopeo and buildah nothing else of a status of 500 and above.
    """
    reason = None
    if path.startswith(_PROBLEM_PREFIXES):
        document: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.message,
            "code": error.code,
            "request_id": request_id,
        }
        if error.detail is not None:
            document["data"] = error.detail
        content_type = "application/problem+json"
    else:
        entry: dict[str, object] = {"code": error.code, "message": error.message}
        if error.detail is not None:
            entry["detail"] = error.detail
        document, content_type = {"errors": [entry]}, "application/json"
        reason = _status_line(error)
    # Header values come from here and from other rooms; none may smuggle a line of its own.
    headers = {name: value.replace("\r", " ").replace("\n", " ") for name, value in error.headers.items()}
    if error.status in _PASSING:
        headers.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    return web.Response(
        status=error.status,
        reason=reason,
        body=json.dumps(document, ensure_ascii=True).encode(),
        headers=headers,
        content_type=content_type,
    )


def _status_line(error: SeatrialError) -> str:
    plain = "".join(c if " " <= c <= "~" else " " for c in error.message)
    return f"{HTTPStatus(error.status).phrase}: {plain}"[:_REASON_MAX]


def from_aiohttp(error: web.HTTPException) -> SeatrialError:
    """Our error for one that aiohttp raised by itself (no such route, wrong method, body too large)."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    kind = _FROM_STATUS.get(error.status, RequestInvalidError)
    if kind is NotFoundError:
        return NotFoundError("there is nothing at this address")
    if kind is MethodNotAllowedError:
        return MethodNotAllowedError(
            f"this address takes {headers.get('Allow', 'other methods')}", headers=headers
        )
    return kind(error.reason or CODES[kind.code].meaning)


def from_database(error: SQLAlchemyError) -> SeatrialError | None:
    """Our error for a database that cannot answer now or has no room; ``None`` for a fault of ours.

    SQLite tells them apart by its primary result code, PostgreSQL by the class of its SQLSTATE, and a
    connection that failed has none.
    """
    if isinstance(error, PoolTimeoutError):
        return _unavailable()
    if not isinstance(error, DBAPIError):
        return None
    cause = error.orig
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        primary = code & 0xFF
        full, passing = primary == sqlite3.SQLITE_FULL, primary in _SQLITE_PASSING
    elif isinstance(error, OperationalError):
        state = getattr(cause, "sqlstate", None) or "08000"
        full, passing = state == _POSTGRES_DISK_FULL, state.startswith(_POSTGRES_PASSING)
    else:
        return None
    if full:
        return StorageFullError(
            "the database has no room and nothing was stored; try again when the operator has made some"
        )
    return _unavailable() if passing else None


def _unavailable() -> UnavailableError:
    return UnavailableError("the database does not answer; try again")


def unexpected(request_id: str) -> SeatrialError:
    """What a caller hears of a fault of ours: only where to find it."""
    return SeatrialError(f"the registry failed; its log has the reason under request id {request_id}")
