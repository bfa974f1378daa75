"""Which tags somebody means: by a pattern with ``*``, a regular expression, or a range of versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import re2  # type: ignore[import-untyped]

from registry.contract.expectations import compiled
from registry.errors import RequestInvalidError
from registry.oci.versions import parse_version_range

MatchKind = Literal["glob", "regex", "semver"]
PATTERN_MAX = 200
_GLOB = re.compile(r"[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}")


@dataclass(frozen=True, slots=True)
class TagPattern:
    """Tags that are meant."""

    by: MatchKind
    pattern: str


def parse_matcher(kind: MatchKind, pattern: str) -> Callable[[str], bool]:
    """Whether a tag is meant, all of it: none takes longer than in proportion to the tag's length.

    Raises:
        RequestInvalidError: the pattern is none of its kind, or too long.
    """
    if not 1 <= len(pattern) <= PATTERN_MAX:
        raise RequestInvalidError(f"a pattern of tags has 1 to {PATTERN_MAX} characters")
    if kind == "glob":
        return _glob(pattern)
    if kind == "regex":
        return _regex(pattern)
    try:
        return parse_version_range(pattern)
    except ValueError as error:
        raise RequestInvalidError(f"{pattern[:80]!r} is no range of versions: {error}") from None


def glob_prefix(pattern: str) -> str:
    """What all tags begin with that a pattern with ``*`` means."""
    return pattern.partition("*")[0]


def _glob(pattern: str) -> Callable[[str], bool]:
    if not _GLOB.fullmatch(pattern):
        raise RequestInvalidError(f"{pattern[:80]!r} is no tag such as v1.2, nor a pattern such as v*")
    if "*" not in pattern:
        return lambda tag: tag == pattern
    expression = compiled(".*".join(map(re2.escape, pattern.split("*"))))
    prefix = glob_prefix(pattern)
    # First what costs nothing: most tags do not begin so.
    return lambda tag: tag.startswith(prefix) and expression.fullmatch(tag) is not None


def _regex(pattern: str) -> Callable[[str], bool]:
    try:
        expression = compiled(pattern)
    except ValueError as error:
        raise RequestInvalidError(f"{pattern[:80]!r} is {error}") from None
    return lambda tag: expression.fullmatch(tag) is not None
