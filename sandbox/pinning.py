"""Trust in one certificate, whatever name it is for: that of the registry beside this worker."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Pin:
    """The first certificate in ``file``, read again when the file changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: object = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def context(self) -> ssl.SSLContext:
        """What to shake hands with now. A file that cannot be read leaves what was known."""
        try:
            known = self._file.stat()
            stamp = known.st_mtime_ns, known.st_size, known.st_ino
            if stamp != self._stamp:
                self._context, self._stamp = _trusting(self._file.read_text(encoding="ascii")), stamp
        except (OSError, ValueError):
            pass
        return self._context


def _trusting(text: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    found = _PEM.search(text)
    if found is not None:
        # Not those after it: an authority there would vouch for others too.
        context.load_verify_locations(cadata=found[0])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
