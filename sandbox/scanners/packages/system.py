"""The operating system, as os-release(5) names it.

Of the two places ``etc/os-release`` counts first; in most images it is a link to the other.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundSystem
from sandbox.scanners.packages.reading import Fact, Reader, clean, whole

PATHS = ("etc/os-release", "usr/lib/os-release")
MAX_BYTES = 64 * 1024


def wants(entry: Entry) -> bool:
    """The two places of os-release."""
    return entry.kind == "file" and entry.path in PATHS


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """The system; nothing if it does not say its ID."""
    fields: dict[str, str] = {}
    for line in whole(content, MAX_BYTES).decode("utf-8", "replace").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name in ("ID", "VERSION_ID", "PRETTY_NAME"):
            fields[name] = _unquoted(value)
    if fields.get("ID"):
        yield FoundSystem(
            id=clean(fields["ID"], 64),
            version=clean(fields.get("VERSION_ID", ""), 64),
            name=clean(fields.get("PRETTY_NAME", ""), 200),
        )


def _unquoted(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:
        return value.strip("\"'")
    return words[0] if len(words) == 1 else ""


SYSTEM = Reader("system", 1, wants, read)
