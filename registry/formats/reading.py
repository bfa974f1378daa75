"""A report read again from the document that was written of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from registry.advisories.file import Status
from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.contract.base import first_problem
from registry.contract.scan import Scan
from registry.errors import RequestInvalidError
from registry.oci.printable import printable
from registry.oci.strictjson import JsonInvalidError, parse_json_object

MAX_BYTES = 256 * 1024 * 1024
"""What a document may have: that of a scan has at most 32 MiB before it is indented and matched."""
_MATCHES = TypeAdapter(tuple[Match, ...])
_EXCUSED = TypeAdapter(Excused)
_TIME = TypeAdapter(datetime)


def is_document(file: Path) -> bool:
    """Whether a file begins as JSON does: the archive of an image does not."""
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip().startswith(b"{")
    except OSError:
        return False


def read_bytes(file: Path, *, limit_bytes: int) -> bytes:
    """A file that a command was told.

    Raises:
        RequestInvalidError: it cannot be read, or has more than ``limit_bytes``.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit_bytes + 1)
    except OSError as error:
        raise RequestInvalidError(f"{file} cannot be read: {error.strerror}") from None
    if len(raw) > limit_bytes:
        raise RequestInvalidError(f"{file} has more than {limit_bytes} bytes")
    return raw


def read_document(file: Path) -> tuple[str, Report]:
    """The image's name and its report, from a file that ``--format json`` wrote.

    Of the advisories only the generation is known then, and not their sources.

    Raises:
        RequestInvalidError: it cannot be read, or is no such document; the message says why.
    """
    return parse_document(read_bytes(file, limit_bytes=MAX_BYTES), what=str(file))


def parse_document(raw: bytes, *, what: str) -> tuple[str, Report]:
    """As :func:`read_document`; ``what`` it is called in errors."""
    try:
        return _parsed(parse_json_object(raw))
    except KeyError as error:
        reason = f"it has no {error}"
    except (JsonInvalidError, TypeError, AttributeError) as error:
        reason = str(error)
    except ValidationError as error:
        reason = first_problem(error)
    raise RequestInvalidError(f"{what} is no report of --format json: {printable(reason[:300])}")


def _parsed(document: Mapping[str, Any]) -> tuple[str, Report]:
    scanned = {name: document[name] for name in Scan.model_fields if name in document}
    scan = Scan.model_validate_json(json.dumps({"lease": "", **scanned}))
    told = document["vulnerabilities"]
    matches = _MATCHES.validate_json(json.dumps(told))
    if any(not 0 <= one.package_index < len(scan.packages) for one in matches):
        raise TypeError("a vulnerability is of a package that is not there")
    advisories = document["advisories"]
    excused = [
        {**one["excused"], "id": one["id"], "package_index": one["package_index"]}
        for one in told
        if one.get("excused") is not None
    ]
    known = Report(
        scan,
        _TIME.validate_json(json.dumps(document["scanned_at"])),
        matches,
        None if advisories is None else Status(str(advisories["generation"]), ()),
        MappingProxyType({} if advisories is None else dict(advisories["not_looked_up"])),
        tuple(_EXCUSED.validate_json(json.dumps(one)) for one in excused),
        tuple(map(str, document.get("notes", ()))),
    )
    return str(document["image"]), known
