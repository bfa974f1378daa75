"""Licences of Debian's packages, from their copyright files where a machine can read them.

Format: "Machine-readable debian/copyright file", version 1.0. A file of another form says nothing here: what
licence a package has is then unknown. What is said of ``debian/*`` alone is of the packaging, and not of what
is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import Entry, Facts, FoundThing, IncompleteError
from sandbox.scanners.packages.reading import licences, lines

MAX_BYTES = 4 * 1024 * 1024
RULE = "copyright"
_path = re.compile(r"usr/share/doc/([^/]+)/copyright")
_FORMAT = "copyright-format"


def package_of(path: str) -> str | None:
    """Whose copyright file this is."""
    match = _path.fullmatch(path)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Copyrights:
    """Tells of each copyright file the short names of its licences, as things of the kind ``licence``."""

    name: str = "copyright"
    version: int = 1

    def wants(self, entry: Entry) -> bool:
        return entry.kind == "file" and entry.size_bytes <= MAX_BYTES and package_of(entry.path) is not None

    def look(self, _entry: Entry, content: BinaryIO) -> Facts:
        try:
            words = licences(*dict.fromkeys(_names(content)))
        except IncompleteError:
            # Of its licences nothing is known then, which is said where they are counted.
            return Facts()
        return Facts(things=tuple(FoundThing("licence", RULE, "info", word) for word in words))


def _names(content: BinaryIO) -> Iterator[str]:
    for number, paragraph in enumerate(_paragraphs(content)):
        if number == 0 and _FORMAT not in paragraph.get("format", ""):
            return
        files = paragraph.get("files", "").split()
        is_packaging = bool(files) and all(name.startswith("debian/") for name in files)
        # A paragraph of its own for a licence has its text, and is named by others.
        if (number == 0 or files) and not is_packaging and "license" in paragraph:
            yield paragraph["license"].partition("\n")[0]


def _paragraphs(content: BinaryIO) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    field = ""
    for line in lines(content):
        if not line or line.isspace():
            if fields:
                yield fields
            fields, field = {}, ""
        elif line[0] in " \t":
            if field == "files":
                fields[field] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            field = name.lower()
            if field in ("format", "files", "license"):
                fields[field] = value.strip()
    if fields:
        yield fields


COPYRIGHTS = Copyrights()
