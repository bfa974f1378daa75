"""Packages of apk: Alpine, Wolfi, Chainguard.

Format: Alpine's "Apk spec", one paragraph for a package, one letter for a field; ``F`` opens a folder and
``R`` names a file in it, ``Z`` its checksum (``Q1`` and SHA-1, ``Q2`` and SHA-256, or MD5 in hex). Advisories
name the origin (``o``).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import STATED, Entry, FoundPackage, Owned
from sandbox.scanners.packages.reading import Fact, Reader, licences, lines

PATHS = frozenset({"lib/apk/db/installed", "usr/lib/apk/db/installed"})


def wants(entry: Entry) -> bool:
    """The database, where it was and where it is since usr is merged."""
    return entry.kind == "file" and entry.path in PATHS


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """Each package and its files."""
    fields: dict[str, str] = {}
    folder, file = "", ""
    for line in lines(content):
        letter, colon, value = line[:1], line[1:2], line[2:]
        if file and (letter in "FR" or not line.strip()):
            yield Owned(file, fields.get("P", ""))
            file = ""
        if not line.strip():
            yield from _installed(fields)
            fields, folder = {}, ""
        elif colon != ":":
            continue
        elif letter == "F":
            folder = value
        elif letter == "R":
            file = f"{folder}/{value}" if folder else value
        elif letter == "Z" and file:
            yield Owned(file, fields.get("P", ""), _digest(value))
            file = ""
        elif letter in "PVAoL":
            fields[letter] = value
    if file:
        yield Owned(file, fields.get("P", ""))
    yield from _installed(fields)


def _digest(checksum: str) -> str:
    """What it states of a file's content, as all packages' do; empty where that is no checksum."""
    if checksum[:2] not in ("Q1", "Q2"):
        return checksum if re.fullmatch("[0-9a-f]{32}", checksum) else ""
    try:
        return base64.b64decode(checksum[2:46], validate=True).hex()[:STATED]
    except ValueError:
        return ""


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


APK = Reader("apk", 2, wants, read)
