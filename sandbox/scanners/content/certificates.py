"""Until when certificates are good (RFC 5280, 4.1). Whether that is too soon is not decided here: a layer is
looked at once, and time goes on."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import BinaryIO

from sandbox.scanners.content.catalogue import mark
from sandbox.scanners.facts import Entry, Facts, IncompleteError

MAX_BYTES = 256 * 1024
MAX_CERTIFICATES = 10
"""A file with more is a list of authorities."""
_NAMES = re.compile(r".*\.(pem|crt|cer|der)", re.IGNORECASE)
_STORES = re.compile(
    r"(etc/(ssl/certs|pki|ca-certificates)|usr/(local/)?share/(ca-certificates|pki)|usr/lib/ssl"
    r"|.*/(certifi|cacerts))/.*"
)
_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END")
_SEQUENCE, _BOOLEAN, _OCTETS, _OID, _UTC_TIME, _TIME = 0x30, 0x01, 0x04, 0x06, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")


class Certificates:
    """A :class:`~sandbox.scanners.facts.Module`."""

    name = "certificates"
    version = 1

    def wants(self, entry: Entry) -> bool:
        return (
            entry.kind == "file"
            and 0 < entry.size_bytes <= MAX_BYTES
            and _NAMES.fullmatch(entry.path) is not None
            and _STORES.fullmatch(entry.path) is None
        )

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        """A mark for the first of its certificates to expire, if any is no authority's."""
        raw = content.read(MAX_BYTES)
        certificates = [_decoded(one) for one in _PEM.findall(raw)]
        if not certificates and raw[:1] == b"\x30":
            certificates = [raw]
        if len(certificates) > MAX_CERTIFICATES:
            return Facts()
        ends = [end for one in certificates if (end := not_after(one)) is not None]
        return Facts(things=(mark("certificate", min(ends).isoformat()),) if ends else ())


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error as error:
        raise IncompleteError(f"a certificate is no base64: {error}") from error


def not_after(certificate: bytes) -> datetime | None:
    """The end of an end entity's certificate, None for an authority's.

    Raises:
        IncompleteError: it is none that can be read.
    """
    try:
        signed = _values(_values(certificate)[0][1])
        fields = [one for one in _values(signed[0][1]) if one[0] != _VERSION]
        (_, _), (tag, raw) = _values(fields[3][1])
        if any(kind == _EXTENSIONS and _is_authority(value) for kind, value in fields[4:]):
            return None
        text = raw.decode("ascii")
        if tag == _UTC_TIME:
            # RFC 5280, 4.1.2.5.1: until 2049.
            text = ("19" if int(text[:2]) >= 50 else "20") + text
        elif tag != _TIME:
            raise ValueError("its end is no time")
        if re.fullmatch(r"[0-9]{14}Z", text) is None:
            raise ValueError("its end is no time")
        # strptime would load a part of Python, which a confined process cannot.
        year, rest = int(text[:4]), [int(text[at : at + 2]) for at in range(4, 14, 2)]
        return datetime(year, *rest, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except (ValueError, IndexError) as error:
        raise IncompleteError(f"a certificate cannot be read: {error}") from error


def _is_authority(extensions: bytes) -> bool:
    for _, extension in _values(_values(extensions)[0][1]):
        parts = _values(extension)
        if parts[0] == (_OID, _BASIC_CONSTRAINTS):
            constraints = _values(_values(parts[-1][1])[0][1])
            return bool(constraints) and constraints[0][0] == _BOOLEAN and constraints[0][1] != b"\0"
    return False


def _values(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and value of each element, not looked into (X.690, 8.1).

    Raises:
        ValueError: they do not end where they should.
    """
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 0 < size <= 3:
                raise ValueError("a length of it is none")
            length, at = int.from_bytes(der[at : at + size]), at + size
        if at + length > len(der):
            raise ValueError("it ends before its end")
        found.append((tag, der[at : at + length]))
        at += length
    return found
