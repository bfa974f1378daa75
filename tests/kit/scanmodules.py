"""Scanner modules for tests: simple ones, and ones that do what no module should."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import (
    Entry,
    Facts,
    FoundPackage,
    FoundSystem,
    FoundThing,
    IncompleteError,
    Module,
    Owned,
)


@dataclass(frozen=True, slots=True)
class Words:
    """Tells of each line of a ``.txt``: ``secret WORD``, ``package NAME VERSION``,
    ``owned PATH PACKAGE DIGEST``, ``system ID VERSION``, ``gap REASON``."""

    name: str = "words"
    version: int = 1

    def wants(self, entry: Entry) -> bool:
        return entry.kind == "file" and entry.path.endswith(".txt")

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        raw = content.read()
        packages, things, owned, gaps = [], [], [], []
        system = None
        for line in raw.decode("utf-8", "replace").splitlines():
            match line.split():
                case ["secret", word]:
                    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
                    things.append(FoundThing("secret", "word", "high", f"the word {word}", digests=(md5,)))
                case ["package", name, version]:
                    packages.append(FoundPackage("python", name, version))
                case ["owned", path, package, digest]:
                    owned.append(Owned(path, package, digest))
                case ["system", kind, version]:
                    system = FoundSystem(kind, version, kind)
                case ["gap", reason]:
                    gaps.append(reason)
        return Facts(tuple(packages), system, tuple(owned), tuple(things), tuple(gaps))


@dataclass(frozen=True, slots=True)
class Modes:
    """Tells of set-id files, file capabilities and device nodes."""

    name: str = "modes"
    version: int = 1

    def wants(self, entry: Entry) -> bool:
        return bool(entry.mode & 0o6000) or entry.capabilities or entry.kind == "other"

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        title = (
            f"{entry.kind} {entry.mode:o} {entry.uid}:{entry.gid} {entry.capabilities} {len(content.read(1))}"
        )
        return Facts(things=(FoundThing("misconfiguration", "mode", "low", title),))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Tells what is in ``main.db`` and in the file that belongs to it."""

    name: str = "pairs"
    version: int = 1

    def wants(self, entry: Entry) -> bool:
        return entry.kind == "file" and entry.path.endswith("main.db")

    def partner(self, entry: Entry) -> str:
        return f"{entry.path.rpartition('/')[2]}-wal"

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        raise AssertionError

    def look_at_both(self, entry: Entry, content: BinaryIO, partner: BinaryIO | None) -> Facts:
        other = "none" if partner is None else partner.read().decode()
        title = f"{content.read().decode()} {other}"
        return Facts(things=(FoundThing("misconfiguration", "pair", "low", title),))


@dataclass(frozen=True, slots=True)
class Unruly:
    """Files that are named for what becomes of whoever looks at them."""

    name: str = "unruly"
    version: int = 1

    def wants(self, entry: Entry) -> bool:
        return entry.path.startswith("unruly/") and entry.kind == "file"

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        match entry.path.removeprefix("unruly/"):
            case "stuck":
                while True:
                    pass
            case "hungry":
                return Facts(incomplete=tuple("x" * 1000 * n for n in range(1_000_000)))
            case "broken":
                return Facts(incomplete=(str(1 // len(content.read(0))),))
            case "refused":
                raise IncompleteError("it would not")
            case "host":
                with open("/etc/passwd", encoding="utf-8") as file:
                    return Facts(incomplete=(file.read(),))
        return Facts(things=(FoundThing("misconfiguration", "unruly", "low", content.read().decode()),))


MODULES: tuple[Module, ...] = (Words(), Modes(), Pairs(), Unruly())
