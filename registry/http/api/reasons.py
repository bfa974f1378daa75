"""Reasons that people give, and numbers in paths."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.errors import NotFoundError, RequestInvalidError

REASON_MAX = 500
Reason = Annotated[
    str,
    Field(
        description="Why, in one line.",
        json_schema_extra={"minLength": 1, "maxLength": REASON_MAX},
    ),
]


def one_line(reason: str) -> str:
    """The reason as it was given.

    Raises:
        RequestInvalidError: it is empty, too long, or more than a line.
    """
    if not reason.strip() or not reason.isprintable() or len(reason) > REASON_MAX:
        raise RequestInvalidError(f"reason: one line of 1 to {REASON_MAX} characters")
    return reason


def numbered(text: str, kind: str) -> int:
    """The number in a path.

    Raises:
        NotFoundError: it is none, so that nothing has it.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFoundError(f"there is no {kind} {text[:80]!r}")
    return int(text)
