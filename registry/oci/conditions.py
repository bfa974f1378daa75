"""Conditional requests on content whose entity tag is its digest (RFC 9110, 8.8.3 and 13)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from registry.errors import PreconditionFailedError, RequestInvalidError

# Possessive: what was taken for white space is not tried as anything else, however much there is of it.
_ENTITY_TAG = re.compile(r'[ \t]*+(?:(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*+)")?[ \t]*+(?:,|$)')


@dataclass(frozen=True, slots=True)
class EntityTags:
    """What a condition lists: any representation at all (``*``), or entity tags."""

    is_any: bool
    strong: frozenset[str]
    weak: frozenset[str]

    def has_strongly(self, current: str | None) -> bool:
        """Strong comparison: a weak tag is never the same as another."""
        return current is not None and (self.is_any or current in self.strong)

    def has_weakly(self, current: str | None) -> bool:
        """Weak comparison: the opaque part decides."""
        return current is not None and (self.is_any or current in self.strong | self.weak)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one request; ``None`` where there is no such header."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None

    def require(self, current: str | None, what: str) -> None:
        """Let a change of ``what`` happen, whose present entity tag is ``current``; ``None``: there is none.

        Raises:
            PreconditionFailedError: a condition does not hold.
        """
        stands = "does not exist" if current is None else f"stands at {current}"
        if self.if_match is not None and not self.if_match.has_strongly(current):
            raise PreconditionFailedError(f"{what} {stands}, which If-Match does not name; look at it again")
        if self.if_none_match is not None and self.if_none_match.has_weakly(current):
            raise PreconditionFailedError(f"{what} {stands}, which If-None-Match excludes; look at it again")


NO_CONDITIONS = Conditions()


def entity_tag(*values: object) -> str:
    """The entity tag of what has no digest of its own: other values, another tag."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:32]


def parse_entity_tags(text: str) -> EntityTags:
    """Read the value of ``If-Match`` or ``If-None-Match``; several lines of one are joined by commas.

    Raises:
        RequestInvalidError: neither ``*`` nor a list of entity tags.
    """
    if text.strip(" \t") == "*":
        return EntityTags(is_any=True, strong=frozenset(), weak=frozenset())
    strong: set[str] = set()
    weak: set[str] = set()
    at = 0
    while at < len(text):
        found = _ENTITY_TAG.match(text, at)
        if found is None:
            raise RequestInvalidError(
                f'{text[:80]!r} is neither * nor a list of entity tags such as "sha256:…", with its quotes'
            )
        if found[2] is not None:
            (weak if found[1] else strong).add(found[2])
        at = found.end()
    if not strong and not weak:
        raise RequestInvalidError("a condition without an entity tag")
    return EntityTags(is_any=False, strong=frozenset(strong), weak=frozenset(weak))
