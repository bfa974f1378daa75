"""Scopes: ``type:name:action,action`` (the Docker token documents' grammar), as values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from registry.errors import NameInvalidError, RequestInvalidError
from registry.oci.names import parse_repository_name

CREATE = "create"
"""To push what is new: as ``push``, but that no tag moves that there is."""
ACTIONS = frozenset({"pull", "push", CREATE, "trial", "delete", "configure", "administer"})
"""What an API token's scope may hold."""
CLIENT_ACTIONS = frozenset({"pull", "push", "delete"})
"""What clients of the distribution API ask for; ``*`` is all of them."""
MAX_SCOPES = 100
_GENERAL = ("admin", "audit", "account", "worker")
_CLASS = re.compile(r"\([a-z]+\)$")
_NAME_PATTERN = re.compile(r"[a-z0-9*][a-z0-9._/*-]{0,254}")


@dataclass(frozen=True, slots=True)
class Scope:
    """Some actions on one resource. ``name`` may hold ``*`` in a token's own scopes only."""

    type: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(sorted(self.actions))}"

    @property
    def text(self) -> str:
        """As :func:`parse_token_scope` reads it: a scope that is for no resource is its type alone."""
        return self.type if self.type in _GENERAL else str(self)

    def covers(self, type_: str, name: str, action: str) -> bool:
        """Whether this scope, as a token carries it, allows ``action`` on the resource. Who may only create
        may push: which tags that moves is asked where they move."""
        return self.includes_action(type_, name, action) or (
            action == "push" and self.includes_action(type_, name, CREATE)
        )

    def includes_action(self, type_: str, name: str, action: str) -> bool:
        """Whether it says ``action`` itself."""
        return self.type == type_ and action in self.actions and _matches(self.name, name)

    def includes(self, other: Scope) -> bool:
        """Whether every resource that ``other`` names is one of this scope's, whatever the actions."""
        # What stands for "*" is in no name: it is matched by this scope's own stars or not at all.
        return self.type == other.type and _matches(self.name, other.name.replace("*", "\0"))


def uncovered(wanted: Iterable[Scope], held: Iterable[Scope]) -> Scope | None:
    """What of the ``wanted`` scopes a token with the ``held`` ones does not have itself, if anything.

    Each action of a pattern must be held by one scope on all of that pattern's names.
    """
    own = tuple(held)
    for scope in wanted:
        if scope.type == "worker" and any(each.type == "admin" for each in own):
            continue  # to manage workers is a part of it
        having = {action for each in own if each.includes(scope) for action in each.actions}
        missing = scope.actions - having - ({CREATE} if "push" in having else set())
        if missing:
            return replace(scope, actions=missing)
    return None


def _matches(pattern: str, name: str) -> bool:
    # Nothing but "*" means anything else than itself. No regular expression: one with many stars would try
    # their every combination on a name that does not match.
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= at


def parse_requested_scopes(texts: list[str]) -> tuple[Scope, ...]:
    """Scopes a client asks for at ``/token``: repeated parameters, each perhaps several separated by spaces.

    What is malformed or unknown is dropped, as the token documents say; more than the limit is refused.

    Raises:
        RequestInvalidError: more than 100 scopes.
    """
    words = [word for text in texts for word in text.split()]
    if len(words) > MAX_SCOPES:
        raise RequestInvalidError(f"{len(words)} scopes asked for; {MAX_SCOPES} are the limit")
    return tuple(scope for word in words if (scope := _requested(word)) is not None)


def parse_token_scope(text: str) -> Scope:
    """A scope for an API token, such as ``repository:team/*:pull,push`` or ``admin``.

    Raises:
        RequestInvalidError: not of that form, or an action that does not exist.
    """
    if text in _GENERAL:
        return Scope(text, "*", frozenset({"*"}))
    type_, name, actions = _split(text)
    known = frozenset(actions.split(","))
    if type_ != "repository" or not _NAME_PATTERN.fullmatch(name) or not known or not known <= ACTIONS:
        raise RequestInvalidError(
            f"{text[:120]!r} is not a scope: repository:NAME:ACTIONS with {', '.join(sorted(ACTIONS))}, "
            "where NAME may hold '*'; or admin, audit or account"
        )
    return Scope(type_, name, known)


def is_repository_name(text: str) -> bool:
    """Whether a repository can have this name; a registry token names nothing else, and never a pattern."""
    try:
        parse_repository_name(text)
    except NameInvalidError:
        return False
    return True


def _requested(word: str) -> Scope | None:
    type_, name, actions = _split(word)
    type_ = _CLASS.sub("", type_)
    asked = frozenset(actions.split(","))
    if type_ == "registry" and name == "catalog":
        return Scope(type_, name, frozenset({"*"})) if "*" in asked else None
    if type_ != "repository" or not is_repository_name(name):
        return None
    known = CLIENT_ACTIONS if "*" in asked else asked & CLIENT_ACTIONS
    return Scope(type_, name, known) if known else None


def _split(text: str) -> tuple[str, str, str]:
    # A name may hold host:port, so the type ends at the first colon and the actions start at the last.
    type_, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    return type_, name, actions
