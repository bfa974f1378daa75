"""What may be wrong with a layout."""

from __future__ import annotations

from typing import Literal

from registry.errors import SeatrialError

Kind = Literal["missing", "invalid", "mismatch"]


class LayoutError(SeatrialError):
    """A layout that cannot be used. ``kind``: something is not there, or breaks the specification, or has
    other bytes than its name says."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
