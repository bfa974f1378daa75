"""From the bytes of another scanner's report to what it says. Pure; it takes up to seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from registry.contract.otherscanner import MAX_REPORT_BYTES, ReportFormat
from registry.contract.scan import Scan
from registry.oci.strictjson import JsonInvalidError, parse_json_object
from sandbox.scanners.others.cyclonedx import read_cyclonedx
from sandbox.scanners.others.own import read_own
from sandbox.scanners.others.said import ReportInvalidError, Said
from sandbox.scanners.others.sarif import read_sarif
from sandbox.scanners.others.trivy import read_trivy

MAX_VALUES = 2_000_000
"""Each takes up to a hundred bytes of memory, whatever it takes in the report."""
_READERS: Mapping[ReportFormat, Callable[[Mapping[str, object], Scan], Said]] = MappingProxyType(
    {"seatrial": read_own, "trivy": read_trivy, "sarif": read_sarif, "cyclonedx": read_cyclonedx}
)


def read_said(raw: bytes, form: ReportFormat, scan: Scan) -> Said:
    """What a report says of the image of ``scan``.

    Raises:
        ReportInvalidError: it is too large, no JSON, not of that format, or about another image.
    """
    if len(raw) > MAX_REPORT_BYTES:
        raise ReportInvalidError(f"it has more than {MAX_REPORT_BYTES} bytes")
    if sum(raw.count(one) for one in (b",", b"[", b"{")) > MAX_VALUES:
        raise ReportInvalidError(f"it has more than {MAX_VALUES} values")
    try:
        document = parse_json_object(raw)
    except JsonInvalidError as error:
        raise ReportInvalidError(f"it is no JSON of one meaning: {error}") from None
    return _READERS[form](document, scan)
