"""Switches that people write as ``on`` and ``off``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.errors import RequestInvalidError

_ON_OR_OFF: Mapping[str, bool] = MappingProxyType({"on": True, "off": False})


def parse_switch(option: str, text: str) -> bool:
    """True for ``on``.

    Raises:
        RequestInvalidError: neither of them; the option is named.
    """
    if text not in _ON_OR_OFF:
        raise RequestInvalidError(f"{option}: {text[:80]!r} is neither 'on' nor 'off'")
    return _ON_OR_OFF[text]
