"""Writes the list of system calls that a run may make from the reviewed one; ``make syscalls`` runs it.

A test holds that the list in the clone is what this would write.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REVIEW = Path(__file__).resolve().parent / "syscalls.toml"
LIST = REVIEW.parent.parent / "sandbox" / "bundles" / "syscalls.txt"
HEADER = """\
# System calls that a run may make whatever their arguments; every other one answers ENOSYS.
# Written by `make syscalls` from scripts/syscalls.toml, where each has its reason.
# Allowed for some arguments only, see seccomp.py: {arguments}.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that are allowed, allowed by argument, or left out for one reason."""

    kind: Literal["allow", "arguments", "leave"]
    name: str
    reason: str
    calls: tuple[str, ...]


def read_review() -> tuple[Group, ...]:
    """Every group of the reviewed list.

    Raises:
        ValueError: a call stands in it twice.
    """
    document = tomllib.loads(REVIEW.read_text(encoding="utf-8"))
    groups = tuple(
        Group(kind, one["name"], one["reason"], tuple(one["calls"].split()))
        for kind in ("allow", "arguments", "leave")
        for one in document[kind]
    )
    twice = [
        name for name, count in Counter(call for one in groups for call in one.calls).items() if count > 1
    ]
    if twice:
        raise ValueError(f"stands in the review more than once: {', '.join(twice)}")
    return groups


def make_list(groups: tuple[Group, ...]) -> str:
    """The text of ``syscalls.txt``."""
    by_argument = sorted(call for one in groups if one.kind == "arguments" for call in one.calls)
    allowed = sorted(call for one in groups if one.kind == "allow" for call in one.calls)
    return HEADER.format(arguments=", ".join(by_argument)) + "".join(f"{call}\n" for call in allowed)


if __name__ == "__main__":
    LIST.write_text(make_list(read_review()), encoding="ascii")
