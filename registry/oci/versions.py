"""Tags that are versions: their order, and ranges of them (Semantic Versioning 2.0.0, as far as tags say it).

Tags are written more loosely than the standard has it: with a ``v`` before it, with fewer than three numbers,
where those that are left out are 0, with zeros in front. What follows a ``_`` is taken for build metadata,
since a tag cannot have a ``+``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NO_VERSION = "-"
"""The key of a tag that is no version, before those of all that are."""
RANGE_MAX = 200
_VERSION = re.compile(
    r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:_[0-9A-Za-z._-]*)?"
)
_COMPARATOR = re.compile(r"(>=|<=|>|<|=)([^\s<>=]+)")


def version_key(tag: str) -> str:
    """A text that orders tags byte by byte as their versions are ordered, the oldest first; equal ones are
    the same version. :data:`NO_VERSION` for a tag that is none."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return NO_VERSION
    numbers = "".join(_number(found[group] or "0") for group in (1, 2, 3))
    if found[4] is None:
        return numbers + "~"
    # "!" comes before all that an identifier can have, so that fewer identifiers come first.
    return f"{numbers}-{'!'.join(map(_identifier, found[4].split('.')))}"


def parse_version_range(text: str) -> Callable[[str], bool]:
    """Whether a tag is a version in a range: ``*`` (any), ``stable`` (no pre-release), and comparisons such
    as ``>=1.2.0 <2``, of which all have to hold. Pre-releases lie where the standard orders them.

    Raises:
        ValueError: it is no such range.
    """
    holds = parse_key_range(text)
    return lambda tag: holds(version_key(tag))


def parse_key_range(text: str) -> Callable[[str], bool]:
    """As :func:`parse_version_range`, for who has the :func:`version_key` of a tag: to make it takes longer
    than to compare it.

    Raises:
        ValueError: it is no such range.
    """
    if len(text) > RANGE_MAX:
        raise ValueError(f"it has {len(text)} characters; {RANGE_MAX} are the limit")
    tests = [_test(word) for word in text.split()]
    if not tests:
        raise ValueError("it is empty; '*' is any version")
    return lambda key: key != NO_VERSION and all(test(key) for test in tests)


def _test(word: str) -> Callable[[str], bool]:
    if word == "*":
        return lambda _key: True
    if word == "stable":
        return lambda key: key.endswith("~")
    found = _COMPARATOR.fullmatch(word)
    if found is None or (limit := version_key(found[2])) == NO_VERSION:
        raise ValueError(f"{word[:80]!r} is no comparison with a version, as in >=1.2.0, nor '*' or 'stable'")
    match found[1]:
        case ">=":
            return lambda key: key >= limit
        case "<=":
            return lambda key: key <= limit
        case ">":
            return lambda key: key > limit
        case "<":
            return lambda key: key < limit
    return lambda key: key == limit


def _number(text: str) -> str:
    digits = text.lstrip("0") or "0"
    return f"{len(digits):03}{digits}"


def _identifier(text: str) -> str:
    # Numbers come before what has a letter.
    return f"0{_number(text)}" if text.isdigit() else f"1{text}"
