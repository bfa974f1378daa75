"""The formats that a report is written in, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registry.advisories.report import Report
from registry.formats.cyclonedx import cyclonedx
from registry.formats.document import document
from registry.formats.names import Format
from registry.formats.openvex import openvex
from registry.formats.sarif import sarif
from registry.formats.spdx import spdx
from registry.formats.table import table


@dataclass(frozen=True, slots=True)
class Form:
    """A media type, as registered where it is, and who writes it of a report and the name of the image."""

    media_type: str
    write: Callable[[Report, str], bytes]


FORMS: Mapping[Format, Form] = MappingProxyType(
    {
        "table": Form("text/plain; charset=utf-8", table),
        "json": Form("application/json", document),
        "sarif": Form("application/sarif+json", sarif),
        "cyclonedx": Form("application/vnd.cyclonedx+json; version=1.6", cyclonedx),
        "spdx": Form("application/spdx+json", spdx),
        "openvex": Form("application/json", openvex),
    }
)
