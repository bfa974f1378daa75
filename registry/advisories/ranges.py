"""Ranges of versions, as people ask for them: ``<1.2.3``, ``>=1.0,<2``. Pure.

Whether a version lies in one depends on the order of its ecosystem; where nobody can say, it is not known.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from registry.advisories.ecosystems import order_of
from registry.advisories.versions import VersionInvalidError, key_of

_BOUNDS_MAX = 10
_BOUND = re.compile(r"\s*(<=|>=|==|=|<|>)\s*([!-+\--;?-~]{1,300})\s*")
_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "=": operator.eq,
        "==": operator.eq,
    }
)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Bounds, of which all must hold: an operator and a version each."""

    bounds: tuple[tuple[str, str], ...]

    def holds(self, ecosystem: str, version: str) -> bool | None:
        """Whether a version lies in it; ``None``: nobody can say."""
        order = order_of(ecosystem)
        if order is None:
            return None
        try:
            key = key_of(order, version)
            return all(_HOLDS[how](key, key_of(order, end)) for how, end in self.bounds)
        except VersionInvalidError:
            return None

    def __str__(self) -> str:
        return ",".join(f"{how}{end}" for how, end in self.bounds)


def is_range(text: str) -> bool:
    """Whether this is meant as a range: it begins with an operator."""
    return text.lstrip()[:1] in ("<", ">", "=")


def parse_range(text: str) -> VersionRange:
    """Read a range.

    Raises:
        ValueError: it is none.
    """
    bounds = []
    for one in text.split(","):
        match = _BOUND.fullmatch(one)
        if match is None:
            raise ValueError(f"{one.strip()[:80]!r} is no bound of versions, as '<1.2.3' or '>=1.0,<2'")
        bounds.append((match[1], match[2]))
    if len(bounds) > _BOUNDS_MAX:
        raise ValueError(f"there are {len(bounds)} bounds; {_BOUNDS_MAX} are the limit")
    return VersionRange(tuple(bounds))
