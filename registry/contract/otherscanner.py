"""What an image says of itself that can look at other images, and where it finds what and leaves its report.

The contract in full is docs/scanners.md.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError, field_validator

from registry.contract.base import Wire, first_problem
from registry.contract.fields import SpecLimits
from registry.contract.limits import GIB, Limits, lowered
from registry.errors import RequestInvalidError
from registry.oci.strictjson import JsonInvalidError, parse_json_object

SCANNER_LABEL = "io.seatrial.scanner"
MAX_LABEL_BYTES = 16 * 1024
ReportFormat = Literal["seatrial", "trivy", "sarif", "cyclonedx"]
SCANNER_LIMITS = Limits(memory_bytes=GIB, wall_seconds=300.0)
"""What a scanner may use where its image does not say."""

TARGET = "/target"
"""The files of the image under test, as it would see them; read-only."""
LAYERS = "/layers"
"""Its layers, base first, each in a folder of its number from 0 on; read-only."""
IMAGE_FILE = "/in/image.json"
SCAN_FILE = "/in/scan.json"
"""What our own modules found, as the document of a scan."""
REPORT_FILE = "/out/report.json"
MAX_REPORT_BYTES = 32 * 1024 * 1024
EXIT_COMPLETE, EXIT_INCOMPLETE = 0, 3
"""Any other exit code says that the scanner failed."""


class Declaration(Wire):
    """The label ``io.seatrial.scanner`` of an image, as JSON."""

    version: Literal[1]
    format: ReportFormat = Field(default="seatrial", description="of what it leaves at /out/report.json")
    command: tuple[str, ...] | None = Field(
        default=None, min_length=1, max_length=200, description="null: that of the image"
    )
    limits: SpecLimits = Field(default_factory=SpecLimits, description="the operator's ceiling holds")

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # True equals 1.
        if isinstance(value, bool):
            raise ValueError("must be the number 1")
        return value

    def limited(self, ceiling: Limits) -> Limits:
        """What a run of it may use."""
        return lowered(self.limits.over(SCANNER_LIMITS), ceiling)


def parse_declaration(label: str | None) -> Declaration:
    """What the label of an image says.

    Raises:
        RequestInvalidError: there is none, or it cannot be understood.
    """
    if label is None:
        raise RequestInvalidError(f"it is no scanner: it has no label {SCANNER_LABEL}")
    if len(label) > MAX_LABEL_BYTES:
        raise RequestInvalidError(f"its label {SCANNER_LABEL} has more than {MAX_LABEL_BYTES} characters")
    try:
        said = parse_json_object(label.encode("utf-8", "replace"))
        return Declaration.model_validate(said, strict=False)
    except JsonInvalidError as error:
        raise RequestInvalidError(f"its label {SCANNER_LABEL} is not JSON: {error}") from None
    except ValidationError as error:
        raise RequestInvalidError(f"its label {SCANNER_LABEL}: {first_problem(error)}") from None
