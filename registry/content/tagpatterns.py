"""Which tags a repository means: their names, or patterns with ``*``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from registry.content.tagmatching import parse_matcher
from registry.errors import RequestInvalidError

PATTERNS_MAX = 32


def parse_tag_patterns(given: Sequence[str]) -> tuple[str, ...]:
    """Check patterns of tags.

    Raises:
        RequestInvalidError: none, too many, or one that no tag can match.
    """
    if not 1 <= len(given) <= PATTERNS_MAX:
        raise RequestInvalidError(f"{len(given)} patterns of tags given; 1 to {PATTERNS_MAX} can be")
    for text in given:
        parse_matcher("glob", text)
    return tuple(dict.fromkeys(given))


def stored_patterns(patterns: Sequence[str]) -> str:
    """The patterns as they stand in a row."""
    return json.dumps(patterns)


def patterns_of(stored: str | None) -> tuple[str, ...] | None:
    """The patterns of a row; ``None``: all tags are meant."""
    return None if stored is None else tuple(json.loads(stored))


def means_any(patterns: Sequence[str] | None, tags: Sequence[str]) -> bool:
    """Whether one of the tags is meant."""
    if patterns is None:
        return bool(tags)
    means = [parse_matcher("glob", pattern) for pattern in patterns]
    return any(each(tag) for tag in tags for each in means)
