"""What a scanner module is, and what it tells of one file of one layer.

Modules run in the confined child that reads a layer: only the standard library (and a content engine that is
loaded before), no network, nothing to open but what they are handed. All that they tell is told of a *file*:
an image's view is the union over the files that its upper layers have left visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, runtime_checkable

STATED = 32
"""So many hex digits are kept of what a package states of a file."""
NAMED = ("dpkg", "apk", "rpm", "rpm-sqlite", "system")
"""Modules that look for few files, by their names: what an image keeps there behind a link is read."""
EntryKind = Literal["file", "folder", "link", "other"]
PackageKind = Literal["dpkg", "apk", "rpm", "python", "npm", "go", "rust", "java"]
ThingKind = Literal["secret", "malware", "misconfiguration", "licence"]
Severity = Literal["unknown", "info", "low", "medium", "high", "critical"]


class IncompleteError(Exception):
    """A file could not be looked at, or not to its end; ``reason`` is for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer: ``path`` from the root without ``/`` in front, undecodable bytes as surrogates;
    ``links`` is where a symbolic link leads, as it is written."""

    path: str
    kind: EntryKind
    size_bytes: int
    mode: int
    uid: int
    gid: int
    links: str = ""
    capabilities: bool = False
    """whether it has file capabilities"""


@dataclass(frozen=True, slots=True)
class Alias:
    """Where files lie that a module looks for under another name, since that is a symbolic link, or its
    folder is one: what is at ``path`` in a layer, or below it, is as if it were at ``name``."""

    path: str
    name: str

    def renamed(self, path: str) -> str | None:
        """The name of the file at ``path``; ``None``: it does not lie there."""
        if path == self.path:
            return self.name
        folder = f"{self.path}/" if self.path else ""
        return f"{self.name}/{path[len(folder) :]}" if path.startswith(folder) else None


@dataclass(frozen=True, slots=True)
class FoundPackage:
    """A package as one file of metadata names it. Fields as in ``registry.contract.scan.Package``; the
    ecosystem of a distribution's package follows later, from the system of the whole image."""

    kind: PackageKind
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    source_version: str = ""
    licences: tuple[str, ...] = ()
    path: str = ""
    """inside the file, for what an archive holds"""


@dataclass(frozen=True, slots=True)
class FoundSystem:
    """The operating system as os-release names it."""

    id: str
    version: str
    name: str


@dataclass(frozen=True, slots=True)
class Owned:
    """A file that a distribution's package brought; ``digest`` is what the package states of it, or empty:
    the first ``STATED`` hex digits of its MD5, SHA-1 or SHA-256."""

    path: str
    package: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class FoundThing:
    """Something that is wrong with a file. Fields as in ``registry.contract.scan.Found``.

    Secrets are redacted here already: none leaves the child in full. ``digests`` of the whole file
    are there, each as a package may state it (:attr:`Owned.digest`), where what is in a distribution's own,
    unchanged file does not count.
    """

    kind: ThingKind
    rule: str
    severity: Severity
    title: str
    remedy: str = ""
    line: int | None = None
    evidence: str = ""
    path: str = ""
    """inside the file, for what an archive holds"""
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file says. ``incomplete`` holds reasons; what was found before is kept."""

    packages: tuple[FoundPackage, ...] = ()
    system: FoundSystem | None = None
    owned: tuple[Owned, ...] = ()
    things: tuple[FoundThing, ...] = ()
    incomplete: tuple[str, ...] = ()


class Module(Protocol):
    """One kind of examination. ``version`` goes up when it would tell something else of the same file: each
    layer is then looked at anew."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    def wants(self, entry: Entry) -> bool:
        """Whether it looks at this entry; by name, mode and size alone, since it is asked for each."""
        ...

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        """What the entry says. ``content`` is seekable, at its start, and empty for what is no file.

        Raises:
            IncompleteError: nothing could be told of it, and why.
        """
        ...


@runtime_checkable
class PairedModule(Module, Protocol):
    """A module whose files have a part of what they say in another file of the same folder and layer, as a
    database has in its write-ahead log. ``look`` is then not called for them."""

    def partner(self, entry: Entry) -> str:
        """The name (without folder) of the file that belongs to this one."""
        ...

    def look_at_both(self, entry: Entry, content: BinaryIO, partner: BinaryIO | None) -> Facts:
        """As ``look``; ``partner`` is seekable too, None only where the layer has no such regular file."""
        ...
