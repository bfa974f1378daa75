"""Names of users, robots, workers and groups. A name never is a right: it only must not look like one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import NameInvalidError, RequestInvalidError
from registry.oci.names import parse_repository_name

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_GRAMMAR = "1 to 64 lower-case letters, digits, '.', '_', '-', the first and last a letter or digit"
_RESERVED = frozenset({"anonymous", "host", "oidc", "registry", "token"})
_LIKE_A_WORKER = re.compile(r"workers?(?:[0-9._-].*)?")


@dataclass(frozen=True, slots=True)
class RobotName:
    """The name of a robot, ``team/sub+ci``: its namespace, and its own name there."""

    namespace: str
    own: str

    def __str__(self) -> str:
        return f"{self.namespace}+{self.own}"


def parse_account_name(text: str) -> str:
    """Check the name of a worker, which is that of a user too.

    Raises:
        RequestInvalidError: outside the grammar, or reserved.
    """
    return _checked(text, "an account")


def parse_user_name(text: str) -> str:
    """Check the name of a user.

    Raises:
        RequestInvalidError: outside the grammar, or it looks like something else in a list or an event.
    """
    return _no_worker(_checked(text, "an account"), text)


def parse_group_name(text: str) -> str:
    """Check the name of a group.

    Raises:
        RequestInvalidError: outside the grammar, or reserved.
    """
    return _checked(text, "a group")


def parse_robot_name(text: str) -> RobotName:
    """The name of a robot.

    Raises:
        RequestInvalidError: outside the grammar, or it looks like something else in a list or an event.
    """
    namespace, plus, own = text.partition("+")
    if not plus:
        raise RequestInvalidError(
            f"{text[:80]!r} is not a name for a robot: NAMESPACE+NAME, such as team/app+ci"
        )
    try:
        parse_repository_name(namespace)
    except NameInvalidError as error:
        raise RequestInvalidError(f"{text[:80]!r} is not a name for a robot: {error.message}") from None
    return RobotName(namespace, _no_worker(_checked(own, "a robot in its namespace"), text))


def namespace_of_robot(name: str) -> str:
    """The namespace of a robot that there is, from its name."""
    return name.partition("+")[0]


def is_prefix(text: str) -> bool:
    """Whether the name of an account can begin like this."""
    return re.fullmatch(r"[a-z0-9._/+-]*", text) is not None


def after_prefix(text: str) -> str:
    """What is greater than all that begins with ``text``, byte by byte, and no greater than that."""
    return text[:-1] + chr(ord(text[-1]) + 1) if text else "\x7f"


def _checked(text: str, what: str) -> str:
    if not _NAME.fullmatch(text):
        raise RequestInvalidError(f"{text[:80]!r} is not a name for {what}: {_GRAMMAR}")
    if text in _RESERVED:
        raise RequestInvalidError(f"{text!r} is not a name for {what}: it means something else already")
    return text


def _no_worker(name: str, text: str) -> str:
    if _LIKE_A_WORKER.fullmatch(name):
        raise RequestInvalidError(f"{text[:80]!r} is not a name for an account: it looks like a worker's")
    return name
