"""References to secrets in run specs: the registry or whoever runs the image has what they stand for."""

from __future__ import annotations

import re

from pydantic import Field

from registry.contract.base import Wire
from registry.errors import RequestInvalidError

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""What the name of a secret looks like."""
MIN_BYTES = 8
"""Of less, too much of an innocent log would have to be masked."""
MAX_BYTES = 4 * 1024
MAX_SECRETS = 16
"""That one run spec names."""


class SecretReference(Wire):
    """A value that stands in no spec: that of the secret with this name."""

    secret: str = Field(pattern=NAME)


def require_name(name: str) -> None:
    """Let a secret have this name.

    Raises:
        RequestInvalidError: it is none.
    """
    if not re.fullmatch(NAME.strip("^$"), name):
        raise RequestInvalidError(
            f"{name[:80]!r} is no name of a secret: 1 to 64 letters, digits, '_', '.' and '-', the first a "
            "letter or a digit"
        )


def require_value(name: str, value: str) -> None:
    """Let a secret have this value, which is not repeated in the error.

    Raises:
        RequestInvalidError: too short, too long, or what no environment can hold.
    """
    size_bytes = len(value.encode("utf-8", "surrogatepass"))
    if not MIN_BYTES <= size_bytes <= MAX_BYTES:
        raise RequestInvalidError(
            f"the secret {name} has {size_bytes} bytes; it needs {MIN_BYTES} to {MAX_BYTES}, "
            "since what is shorter cannot be masked"
        )
    if "\0" in value or any(0xD800 <= ord(one) <= 0xDFFF for one in value):
        raise RequestInvalidError(f"the secret {name} has a NUL or is no text")
