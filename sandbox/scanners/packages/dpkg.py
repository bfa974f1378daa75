"""Packages of dpkg: Debian, Ubuntu and what is made from them, with the loose stanzas of distroless images.

Format: deb-control(5), dpkg-query's ``/var/lib/dpkg``. What is configured away or was never unpacked is no
package; what is half-way is, since its files are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry, FoundPackage, Owned
from sandbox.scanners.packages.reading import Fact, Reader, folder_and_name, lines

STATUS = "var/lib/dpkg/status"
LOOSE = "var/lib/dpkg/status.d"
INFO = "var/lib/dpkg/info"
ABSENT = frozenset({"not-installed", "config-files"})
FIELDS = frozenset({"Package", "Status", "Version", "Architecture", "Source"})

_sum = re.compile(r"([0-9a-f]{32})  (.+)")
_conffile = re.compile(r" (/.*) ([0-9a-f]{32})( obsolete| remove-on-upgrade)*")
_source = re.compile(r"(\S+)(?: \((\S+)\))?")


def wants(entry: Entry) -> bool:
    """The database, what distroless has in its place, and the lists of files that packages brought."""
    if entry.kind != "file":
        return False
    folder, name = folder_and_name(entry.path)
    return (
        entry.path == STATUS
        or folder == LOOSE
        or (folder == INFO and name.endswith((".list", ".md5sums")) and not name.startswith("."))
    )


def read(entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """What one of these files says."""
    _, name = folder_and_name(entry.path)
    package, _, ending = name.rpartition(".")
    if entry.path != STATUS and ending == "md5sums":
        return sums(content, package.partition(":")[0])
    if entry.path != STATUS and ending == "list":
        return listed(content, package.partition(":")[0])
    return stanzas(content)


def stanzas(content: BinaryIO) -> Iterator[Fact]:
    """Each installed package of a file of stanzas, and its configuration files."""
    fields: dict[str, str] = {}
    field = ""
    conffiles: list[Owned] = []
    for line in lines(content):
        if not line or line.isspace():
            yield from _installed(fields, conffiles)
            fields, conffiles, field = {}, [], ""
        elif line[0] in " \t":
            if field == "Conffiles" and (match := _conffile.fullmatch(line)):
                conffiles.append(Owned(match[1][1:], fields.get("Package", ""), match[2]))
        else:
            field, _, value = line.partition(":")
            if field in FIELDS:
                fields[field] = value.strip()
    yield from _installed(fields, conffiles)


def _installed(fields: dict[str, str], conffiles: list[Owned]) -> Iterator[Fact]:
    # Distroless has no Status: there is nothing that could be removed.
    words = fields.get("Status", "install ok installed").split()
    if "Package" not in fields or (words and words[-1] in ABSENT):
        return
    version = fields.get("Version", "")
    source = _source.fullmatch(fields.get("Source", ""))
    source_version = source[2] or "" if source else ""
    yield FoundPackage(
        kind="dpkg",
        name=fields["Package"],
        version=version,
        architecture=fields.get("Architecture", "")[:64],
        source=source[1] if source else "",
        source_version="" if source_version == version else source_version,
    )
    yield from conffiles


def sums(content: BinaryIO, package: str) -> Iterator[Fact]:
    """Which files a package brought, with the MD5 of each."""
    for line in lines(content):
        if match := _sum.fullmatch(line):
            yield Owned(match[2].removeprefix("./").removeprefix("/"), package, match[1])


def listed(content: BinaryIO, package: str) -> Iterator[Fact]:
    """Which files a package brought, links too. A folder stands before what is in it, and is left out."""
    before = ""
    for line in lines(content):
        if before and not line.startswith(before + "/"):
            yield Owned(before[1:], package)
        before = line if line.startswith("/") and line != "/." else ""
    if before:
        yield Owned(before[1:], package)


DPKG = Reader("dpkg", 1, wants, read)
