"""Which tags a repository means: their names, or patterns with ``*``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from registry.errors import RequestInvalidError

PATTERNS_MAX = 32
_PATTERN = re.compile(r"[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}")


def parse_tag_patterns(given: Sequence[str]) -> tuple[str, ...]:
    """Check patterns of tags.

    Raises:
        RequestInvalidError: none, too many, or one that no tag can match.
    """
    if not 1 <= len(given) <= PATTERNS_MAX:
        raise RequestInvalidError(f"{len(given)} patterns of tags given; 1 to {PATTERNS_MAX} can be")
    for text in given:
        if not _PATTERN.fullmatch(text):
            raise RequestInvalidError(f"{text[:80]!r} is no tag such as v1.2, nor a pattern such as v*")
    return tuple(dict.fromkeys(given))


def stored_patterns(patterns: Sequence[str]) -> str:
    """The patterns as they stand in a row."""
    return json.dumps(patterns)


def patterns_of(stored: str | None) -> tuple[str, ...] | None:
    """The patterns of a row; ``None``: all tags are meant."""
    return None if stored is None else tuple(json.loads(stored))


def means_any(patterns: Sequence[str] | None, tags: Iterable[str]) -> bool:
    """Whether one of the tags is meant."""
    # Patterns have nothing else in them that fnmatch knows.
    return any(patterns is None or any(fnmatchcase(tag, pattern) for pattern in patterns) for tag in tags)
