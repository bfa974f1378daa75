"""The one base of everything that crosses the wire between registry and worker."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LEASE = "^[A-Za-z0-9_-]{1,128}$"
"""What the name of a lease looks like."""


class Wire(BaseModel):
    """Frozen, strict, and closed: an unknown key is an error with its path, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def is_none(value: object) -> bool:
    """For ``exclude_if``: what an older version does not know is sent only where it says something."""
    return value is None


def is_empty(value: object) -> bool:
    """As :func:`is_none`, for what is a list."""
    return value == ()
