"""Reports in our own format: the document of a scan, as far as a scanner fills it in. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from registry.contract.base import first_problem
from registry.contract.scan import Scan
from sandbox.scanners.others.said import ReportInvalidError, Said, plain_path

_OURS = ("lease", "platform", "layers", "system", "others")
"""What is known without the scanner, whatever it says."""


def read_own(document: Mapping[str, object], scan: Scan) -> Said:
    """What a scan says; ``packages`` and all else is optional, ``scanner`` and ``digest`` are not.

    Raises:
        ReportInvalidError: it is none, or of another image.
    """
    known = {"lease": "", "platform": scan.platform, "layers": scan.layers}
    said = {name: value for name, value in document.items() if name not in _OURS}
    try:
        # From JSON there are lists where the document has tuples.
        told = Scan.model_validate({**said, **known}, strict=False)
    except ValidationError as error:
        raise ReportInvalidError(first_problem(error)) from None
    if told.digest != scan.digest:
        raise ReportInvalidError(f"it is about {told.digest[:100]}, and the image is {scan.digest}")
    return Said(
        told.scanner,
        tuple(one.model_copy(update={"path": plain_path(one.path)}) for one in told.packages),
        tuple(one.model_copy(update={"where": plain_path(one.where)}) for one in told.found),
        told.reported,
        told.incomplete,
        told.truncated,
    )
