"""Packages of rpm: Red Hat's and SUSE's relatives, Azure Linux, Photon.

One of three kinds of files holds the headers, at one of three places; distroless images of Azure Linux have a
plain list instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import Entry, Facts, FoundPackage, IncompleteError
from sandbox.scanners.packages.reading import Fact, Reader, folder_and_name, gather, lines
from sandbox.scanners.packages.rpmfiles import bdb_headers, ndb_headers
from sandbox.scanners.packages.rpmheader import MAX_BYTES, package_of
from sandbox.scanners.packages.sqlitepages import Database

FOLDERS = frozenset({"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"})
SQLITE, LOG = "rpmdb.sqlite", "rpmdb.sqlite-wal"
LIST = "var/lib/rpmmanifest/container-manifest-2"

_kinds: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {
    "Packages": bdb_headers,
    "Packages.db": ndb_headers,
}


def wants(entry: Entry) -> bool:
    """The older databases, and the list of a distroless image."""
    folder, name = folder_and_name(entry.path)
    return entry.kind == "file" and (entry.path == LIST or (folder in FOLDERS and name in _kinds))


def read(entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """Each package and its files."""
    if entry.path == LIST:
        return listed(content)
    return headers(_kinds[folder_and_name(entry.path)[1]](content))


def headers(blobs: Iterator[bytes]) -> Iterator[Fact]:
    """The packages of these headers; one that cannot be is named, and does not hide the others."""
    faults = []
    for blob in blobs:
        try:
            yield from package_of(blob)
        except IncompleteError as error:
            faults.append(error.reason)
    if faults:
        raise IncompleteError(f"{faults[0]} ({len(faults)} of its packages)")


def listed(content: BinaryIO) -> Iterator[Fact]:
    """Packages of a list with tabs: name, version and release, ..., architecture, epoch, source."""
    for line in lines(content):
        fields = line.split("\t")
        if len(fields) < 10:
            raise IncompleteError("a line of the list of packages is none")
        name, release, architecture, epoch = fields[0], fields[1], fields[7], fields[8]
        source = fields[9].removesuffix(".src.rpm").rsplit("-", 2)
        yield FoundPackage(
            kind="rpm",
            name=name,
            version=f"{epoch}:{release}" if epoch.isdecimal() and int(epoch) else release,
            architecture=architecture[:64],
            source=source[0] if len(source) == 3 else "",
        )


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    """The database of today's rpm, which is only whole with its write-ahead log."""

    name: str = "rpm-sqlite"
    version: int = 2

    def wants(self, entry: Entry) -> bool:
        folder, name = folder_and_name(entry.path)
        return entry.kind == "file" and folder in FOLDERS and name in (SQLITE, LOG)

    def partner(self, entry: Entry) -> str:
        return SQLITE if entry.path.endswith(LOG) else LOG

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        return self.look_at_both(entry, content, None)

    def look_at_both(self, entry: Entry, content: BinaryIO, partner: BinaryIO | None) -> Facts:
        if not entry.path.endswith(LOG):
            return gather(headers(self._blobs(content, partner)))
        if partner is None and content.read(1):
            raise IncompleteError("its database lies in another layer, and was read without it")
        return Facts()

    @staticmethod
    def _blobs(content: BinaryIO, log: BinaryIO | None) -> Iterator[bytes]:
        for row in Database(content, log).rows("Packages"):
            blob = row[1] if len(row) > 1 else None
            if not isinstance(blob, bytes) or len(blob) > MAX_BYTES:
                raise IncompleteError("a row of the rpm database holds no header")
            yield blob


RPM = Reader("rpm", 2, wants, read)
RPM_SQLITE = SqliteDatabase()
