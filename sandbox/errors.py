"""Why an image could not be tried: one exception, with a reason that scripts can rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.contract.report import ErrorReason


class SandboxError(Exception):
    """The image could not be prepared, started or looked at; the verdict is ``error``.

    ``message`` is one sentence for the person who pushed the image: no host path, no traceback.
    ``retryable`` says that another attempt, perhaps elsewhere, could end otherwise.
    """

    def __init__(self, reason: ErrorReason, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason: ErrorReason = reason
        self.message = message
        self.retryable = retryable
