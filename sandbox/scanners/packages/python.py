"""Installed Python packages: the metadata beside their code, vendored copies too.

Format: "Core metadata specifications" and "Recording installed projects" of packaging.python.org. A wheel
leaves ``NAME.dist-info/METADATA``; what setuptools installed left ``NAME.egg-info``, a folder or a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundPackage, IncompleteError
from sandbox.scanners.packages.reading import Fact, Reader, folder_and_name, licences

MAX_HEADER_BYTES = 1024 * 1024
ONCE = frozenset({"name", "version", "license", "license-expression"})


def wants(entry: Entry) -> bool:
    """METADATA, PKG-INFO, or an egg-info that is a file itself."""
    if entry.kind != "file":
        return False
    folder, name = folder_and_name(entry.path)
    match name:
        case "METADATA":
            return folder.endswith(".dist-info")
        case "PKG-INFO":
            return folder.endswith((".egg-info", "/EGG-INFO"))
        case _:
            return name.endswith(".egg-info")


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """The package."""
    fields: dict[str, str] = {}
    classifiers: list[str] = []
    for name, value in _headers(content):
        if name in ONCE and name not in fields:
            fields[name] = value
        elif name == "classifier" and value.startswith("License ::") and len(classifiers) < 50:
            classifiers.append(value.rpartition("::")[2].strip())
    if not fields.get("name") or not fields.get("version"):
        raise IncompleteError("its metadata has no name or no version")
    expression = fields.get("license-expression", "")
    # Some have the whole text of a licence there: only the first line is a word.
    word = fields.get("license", "")
    yield FoundPackage(
        kind="python",
        name=fields["name"],
        version=fields["version"],
        licences=licences(expression) or licences(word, *classifiers),
    )


def _headers(content: BinaryIO) -> Iterator[tuple[str, str]]:
    size = 0
    while line := content.readline(MAX_HEADER_BYTES + 1):
        size += len(line)
        if size > MAX_HEADER_BYTES:
            raise IncompleteError(f"its headers are longer than {MAX_HEADER_BYTES // 1024} KiB")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return
        name, colon, value = text.partition(":")
        if colon and text[0] not in " \t":
            yield name.lower(), value.strip()


PYTHON = Reader("python", 1, wants, read)
