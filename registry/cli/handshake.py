"""Whether a server's certificate would be trusted from here, and if not, why and by what it would be."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME."""
_OTHER_NAME = frozenset({62, 64})
_NOT_YET, _EXPIRED = 9, 10
_SELF_SIGNED, _SELF_SIGNED_ABOVE = 18, 19


@dataclass(frozen=True, slots=True)
class Handshake:
    """What came of it. ``context`` is what further questions are asked with: it verifies if ``trusted``."""

    context: ssl.SSLContext
    version: str
    trusted: bool
    chain: str | None = None
    """Why the chain is not trusted; ``None`` if it is."""
    wrong_name: bool = False
    names: tuple[str, ...] = field(default=())
    issuer: str = ""
    days_left: float | None = None


def shake_hands(host: str, port: int, *, ca_file: Path | None, seconds: float) -> Handshake:
    """Shake hands as a client does, and if that fails, in ways that tell why.

    Raises:
        OSError: no handshake at all: nobody there, or no TLS (``ssl.SSLError``).
    """
    strict = ssl.create_default_context(cafile=ca_file)
    if ca_file is not None:
        strict.load_default_certs()
    version, raw, failure = _try(host, port, strict, seconds)
    wrong_name = False
    if failure is not None and failure.verify_code in _OTHER_NAME:
        wrong_name = True
        nameless = ssl.create_default_context(cafile=ca_file)
        nameless.check_hostname = False
        version, raw, failure = _try(host, port, nameless, seconds)
    trusted = failure is None and not wrong_name
    loose = ssl.create_default_context()
    loose.check_hostname = False
    loose.verify_mode = ssl.CERT_NONE
    if raw is None:
        version, raw, _ = _try(host, port, loose, seconds)
    known = _read(host, port, raw, seconds) if raw else {}
    issuer = _name(known.get("issuer", ()))
    end = known.get("notAfter")
    return Handshake(
        context=strict if trusted else loose,
        version=version,
        trusted=trusted,
        chain=None if failure is None else _why(failure, issuer),
        wrong_name=wrong_name,
        names=tuple(value for _, value in known.get("subjectAltName", ())),
        issuer=issuer,
        days_left=(ssl.cert_time_to_seconds(end) - time.time()) / 86400 if end else None,
    )


def _try(
    host: str, port: int, context: ssl.SSLContext, seconds: float
) -> tuple[str, bytes | None, ssl.SSLCertVerificationError | None]:
    try:
        with (
            socket.create_connection((host, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.version() or "", secured.getpeercert(binary_form=True), None
    except ssl.SSLCertVerificationError as error:
        return "", None, error


def _read(host: str, port: int, raw: bytes, seconds: float) -> dict[str, Any]:
    """What stands in a certificate: the library reads only those that it trusts, so this one is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(raw))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    try:
        with (
            socket.create_connection((host, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return dict(secured.getpeercert() or {})
    except (ssl.SSLError, OSError):
        return {}


def _name(parts: Any) -> str:
    return ", ".join(value for part in parts for _, value in part)


def _why(failure: ssl.SSLCertVerificationError, issuer: str) -> str:
    if failure.verify_code == _EXPIRED:
        return "a certificate of the chain has expired"
    if failure.verify_code == _NOT_YET:
        return "a certificate of the chain is not valid yet; one of the two clocks may be wrong"
    if failure.verify_code == _SELF_SIGNED:
        return "it is self-signed, and not among the trusted ones here"
    if failure.verify_code == _SELF_SIGNED_ABOVE:
        return f"its authority, {issuer!r}, is not among the trusted ones here"
    return (
        f"its issuer, {issuer!r}, is not known here: the authority is not trusted, or the server does not "
        f"send the certificates between ({failure.verify_message})"
    )
