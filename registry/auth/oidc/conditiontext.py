"""Conditions on claims as people write them, pure: ``CLAIM=VALUE`` is exact, ``CLAIM~GLOB`` has wildcards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = re.compile(r"([^=~]+)([=~])(.+)", re.DOTALL)


def parse_condition(text: str) -> dict[str, str]:
    """As the API takes it.

    Raises:
        RequestInvalidError: not of that form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise RequestInvalidError(f"a condition is CLAIM=VALUE or CLAIM~GLOB; {text[:200]!r} is neither")
    return {"claim": match[1], "equals" if match[2] == "=" else "glob": match[3]}


def shown_condition(condition: Mapping[str, str | None]) -> str:
    """As :func:`parse_condition` takes it."""
    if condition.get("equals") is not None:
        return f"{condition['claim']}={condition['equals']}"
    return f"{condition['claim']}~{condition['glob']}"
