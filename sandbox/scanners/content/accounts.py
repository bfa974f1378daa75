"""What is wrong with the accounts of an image: passwd(5), shadow(5) and sudoers(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.content.catalogue import mark, misconfigured
from sandbox.scanners.facts import Entry, Facts, FoundThing, IncompleteError

MAX_BYTES = 1024 * 1024
_MAX_THINGS = 20
_PATHS = re.compile(r"etc/(passwd|shadow|sudoers|sudoers\.d/[^/]+)")
# A method, its parameters and salt; or the thirteen characters of the oldest one.
_HASH = re.compile(r"\$[0-9a-z]{1,8}\$.+|_?[./0-9A-Za-z]{13,20}")


class Accounts:
    """A :class:`~sandbox.scanners.facts.Module`."""

    name = "accounts"
    version = 1

    def wants(self, entry: Entry) -> bool:
        return entry.kind == "file" and _PATHS.fullmatch(entry.path) is not None

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        """What is wrong with them; hashes are not shown."""
        if entry.size_bytes > MAX_BYTES:
            raise IncompleteError(f"it is larger than {MAX_BYTES} bytes")
        lines = content.read(MAX_BYTES).decode("utf-8", "replace").splitlines()
        if entry.path == "etc/passwd":
            things = list(_passwd(lines))
        elif entry.path == "etc/shadow":
            things = list(_passwords(lines))
        else:
            things = list(_sudoers(lines))
        if len(things) > _MAX_THINGS:
            return Facts(
                things=tuple(things[:_MAX_THINGS]), incomplete=("more is wrong with it than is told",)
            )
        return Facts(things=tuple(things))


def _passwd(lines: list[str]) -> Iterator[FoundThing]:
    names: list[str] = []
    for line in lines:
        fields = line.split(":")
        if len(fields) < 4 or line.startswith(("#", "+", "-")):
            continue
        names.append(fields[0])
        if fields[2].isdecimal() and int(fields[2]) == 0 and fields[0] != "root":
            yield misconfigured("ST-SECOND-ROOT", fields[0])
    yield mark("users", ",".join(names))
    yield from _passwords(lines)


def _passwords(lines: list[str]) -> Iterator[FoundThing]:
    for number, line in enumerate(lines, 1):
        fields = line.split(":")
        if len(fields) < 4 or line.startswith(("#", "+", "-")):
            continue
        if not fields[1]:
            yield misconfigured("ST-EMPTY-PASSWORD", fields[0], line=number)
        elif _HASH.fullmatch(fields[1]):
            yield misconfigured("ST-PASSWORD-SET", fields[0], line=number)


def _sudoers(lines: list[str]) -> Iterator[FoundThing]:
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*[^#\s].*\bNOPASSWD\s*:", line):
            yield misconfigured("ST-SUDO-WITHOUT-PASSWORD", line.split()[0], line=number)
