"""Packages of apk: Alpine, Wolfi, Chainguard.

Format: Alpine's "Apk spec", one paragraph for a package, one letter for a field; ``F`` opens a folder and
``R`` names a file in it. Advisories name the origin (``o``). The checksums of files are SHA-1, so none is
handed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundPackage, Owned
from sandbox.scanners.packages.reading import Fact, Reader, licences, lines

PATHS = frozenset({"lib/apk/db/installed", "usr/lib/apk/db/installed"})


def wants(entry: Entry) -> bool:
    """The database, where it was and where it is since usr is merged."""
    return entry.kind == "file" and entry.path in PATHS


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """Each package and its files."""
    fields: dict[str, str] = {}
    folder = ""
    for line in lines(content):
        letter, colon, value = line[:1], line[1:2], line[2:]
        if not line.strip():
            yield from _installed(fields)
            fields, folder = {}, ""
        elif colon != ":":
            continue
        elif letter == "F":
            folder = value
        elif letter == "R":
            yield Owned(f"{folder}/{value}" if folder else value, fields.get("P", ""))
        elif letter in "PVAoL":
            fields[letter] = value
    yield from _installed(fields)


def _installed(fields: dict[str, str]) -> Iterator[Fact]:
    if "P" not in fields:
        return
    origin = fields.get("o", "")
    yield FoundPackage(
        kind="apk",
        name=fields["P"],
        version=fields.get("V", ""),
        architecture=fields.get("A", "")[:64],
        source="" if origin == fields["P"] else origin,
        licences=licences(fields.get("L", "")),
    )


APK = Reader("apk", 1, wants, read)
