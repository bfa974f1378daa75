"""TLS: the certificate and its key, read again when they change, for new connections only.

A pair that cannot be used leaves the old one in place and a line in the log: certificate and key are often
replaced one after the other.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import structlog

from registry.errors import RequestInvalidError
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger("seatrial.tls")
LOOK_SECONDS = 2.0


class CertificateError(RequestInvalidError):
    """The certificate and its key cannot be used; the message names the file and the reason."""


class Certificates:
    """A certificate with its key, as ``context`` for new connections.

    Raises:
        CertificateError: they cannot be used at the start.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._stamp = self._look()
        self.context = load_context(certificate, key)

    def refresh(self) -> None:
        """Take a changed pair, if it can be used; otherwise keep the one there is, and say so once."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.context = load_context(self._certificate, self._key)
        except CertificateError as error:
            log.error("the new certificate cannot be used; the old one stays", reason=error.message)
        else:
            log.info("new connections get the new certificate", file=str(self._certificate))

    async def keep_fresh(self) -> None:
        """Look every few seconds; runs until cancelled."""
        threads = Threads("certificates", 1)
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                await threads.run(self.refresh)
        finally:
            threads.close()

    def _look(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What the server answers handshakes with: TLS 1.2 or newer, HTTP/1.1.

    Raises:
        CertificateError: a file is missing, unreadable, encrypted or no PEM, or they do not belong together.
    """
    for path in (certificate, key):
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise CertificateError(f"TLS: {path} is no file")  # to read a pipe may take for ever
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"TLS: {path} cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # With any password, none is asked for on a terminal.
        context.load_cert_chain(certificate, key, password="-")  # noqa: S106
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(f"TLS: {certificate} and {key} cannot be used: {_why(error)}") from None
    return context


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if reason in (None, "PEM_LIB", "NO_START_LINE", "BAD_DECRYPT"):
        return "not PEM, or the key is encrypted"
    return str(reason)


def _stamp(path: Path) -> object:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino
