"""Packages of npm, yarn and pnpm: each folder of node_modules says itself what it holds.

Format: package.json of docs.npmjs.com. Only what lies directly in a node_modules (or in a scope of it) was
installed: other package.json are of an application's own or of a package's tests.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundPackage, IncompleteError
from sandbox.scanners.packages.reading import Fact, Reader, licences, whole

MAX_BYTES = 2 * 1024 * 1024


def wants(entry: Entry) -> bool:
    """``node_modules/NAME/package.json`` or ``node_modules/@SCOPE/NAME/package.json``."""
    if entry.kind != "file" or not entry.path.endswith("/package.json"):
        return False
    parts = entry.path.split("/")[-4:-1]
    return parts[-2:-1] == ["node_modules"] or (
        len(parts) == 3 and parts[0] == "node_modules" and parts[1].startswith("@")
    )


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """The package; nothing where it has no name and version, as a nested file for a module's format has."""
    try:
        # Given bytes it would guess at their encoding, and load what that needs.
        said = json.loads(whole(content, MAX_BYTES).removeprefix(BOM_UTF8).decode())
    except RecursionError as error:
        raise IncompleteError("it is nested too deep") from error
    except ValueError as error:
        raise IncompleteError("it is no JSON") from error
    if not isinstance(said, dict):
        raise IncompleteError("it is no JSON object")
    name, version = said.get("name"), said.get("version")
    if isinstance(name, str) and isinstance(version, str) and name and version:
        # Of an old list one may choose.
        choice = " OR ".join(licences(*map(_word, _listed(said.get("licenses")))))
        words = licences(_word(said.get("license")), f"({choice})" if " OR " in choice else choice)
        yield FoundPackage(kind="npm", name=name, version=version, licences=words)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _word(licence: object) -> str:
    if isinstance(licence, dict):
        licence = licence.get("type")
    return licence if isinstance(licence, str) else ""


NPM = Reader("npm", 2, wants, read)
