"""Conditions on claims, pure: a claim equals a text, or matches a glob.

A condition that cannot be understood or a claim of another type does not hold; it is never an error, and
never a pass. In a glob ``*`` stands for any text without ``/`` and ``:``, which are what claims are put
together with, and ``**`` for any text: ``repo:team/*:ref:refs/heads/main`` means one part between the two.
An equal text has no wildcards, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import re2  # type: ignore[import-untyped]

from registry.errors import RequestInvalidError

MAX_CONDITIONS = 20
MAX_TEXT = 1000
_STARS = re2.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class Condition:
    """What one claim has to be: exactly ``equals``, or as ``glob`` says; one of the two is given."""

    claim: str
    equals: str | None = None
    glob: str | None = None

    def __str__(self) -> str:
        return f"{self.claim}={self.equals}" if self.equals is not None else f"{self.claim}~{self.glob}"

    def holds(self, claims: Mapping[str, object]) -> bool:
        """Whether the claim, or one entry of a list, is so."""
        value = claims.get(self.claim)
        entries: Sequence[object] = value if isinstance(value, list) else (value,)
        return any(self._is(text) for entry in entries if (text := _text(entry)) is not None)

    def _is(self, text: str) -> bool:
        if self.glob is not None:
            return re2.fullmatch(_expression(self.glob), text) is not None
        return text == self.equals


def missing(conditions: Iterable[Condition], claims: Mapping[str, object]) -> tuple[Condition, ...]:
    """The conditions that do not hold."""
    return tuple(condition for condition in conditions if not condition.holds(claims))


def require_conditions(conditions: Sequence[Condition], *, least: int) -> tuple[Condition, ...]:
    """Check conditions that an administrator gives.

    Raises:
        RequestInvalidError: too few, too many, or one that says nothing.
    """
    if not least <= len(conditions) <= MAX_CONDITIONS:
        raise RequestInvalidError(f"there must be {least} to {MAX_CONDITIONS} conditions on claims")
    for condition in conditions:
        text = condition.equals if condition.equals is not None else condition.glob
        if (condition.equals is None) == (condition.glob is None) or not condition.claim or not text:
            raise RequestInvalidError("a condition has a claim, and either what it equals or a glob")
        if len(text) > MAX_TEXT or len(condition.claim) > MAX_TEXT or "\0" in condition.claim + text:
            raise RequestInvalidError(f"a condition has at most {MAX_TEXT} characters, and no NUL")
        if condition.glob is not None and not text.strip("*/:"):
            raise RequestInvalidError(f"the glob {text!r} for {condition.claim} holds for everything")
        if condition.claim in ("iss", "aud", "exp", "iat", "nbf", "jti"):
            raise RequestInvalidError(
                f"{condition.claim} is looked at for every token; a condition is on what tells jobs apart"
            )
    return tuple(conditions)


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else None


def _expression(glob: str) -> str:
    # RE2: its time is linear in the text, whatever the pattern.
    literal = _STARS.split(glob)
    stars = [".*" if len(match.group()) > 1 else "[^/:]*" for match in _STARS.finditer(glob)]
    parts = [re2.escape(text) + star for text, star in zip(literal, [*stars, ""], strict=True)]
    return "(?s)" + "".join(parts)
