"""Hands a file to the readers of packages as the walk over a layer does."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

from sandbox.scanners.facts import Entry, Facts, IncompleteError, Module, PairedModule
from sandbox.scanners.packages import MODULES


def entry(path: str, size_bytes: int = 0, *, mode: int = 0o644) -> Entry:
    """A regular file of root's."""
    return Entry(path, "file", size_bytes, mode, 0, 0)


def wanting(path: str, *, size_bytes: int = 100, mode: int = 0o644) -> list[str]:
    """The names of the modules that look at such a file."""
    return [module.name for module in MODULES if module.wants(entry(path, size_bytes, mode=mode))]


def look(path: str, data: bytes, *, mode: int = 0o644, partner: bytes | None = None) -> Facts:
    """What the one module says that wants this file; none is too small to be a program."""
    seen = entry(path, max(len(data), 1024), mode=mode)
    (module,) = (module for module in MODULES if module.wants(seen))
    return told(module, seen, data, partner)


def told(module: Module, seen: Entry, data: bytes, partner: bytes | None = None) -> Facts:
    """What the module says; where it gives up, that it is incomplete."""
    try:
        if isinstance(module, PairedModule):
            beside = None if partner is None else io.BytesIO(partner)
            return module.look_at_both(seen, io.BytesIO(data), beside)
        return module.look(seen, io.BytesIO(data))
    except IncompleteError as error:
        return Facts(incomplete=(error.reason,))


def named(facts: Facts) -> list[tuple[str, str]]:
    """Name and version of each package, in the order of the file."""
    return [(package.name, package.version) for package in facts.packages]


def walked(root: Path | str) -> Iterator[tuple[str, Facts]]:
    """What the modules say of all files below a folder, as the walk over a layer asks them."""
    paired = {module.name for module in MODULES if isinstance(module, PairedModule)}
    waiting = [str(root)]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
                elif each.is_file(follow_symlinks=False):
                    known = each.stat(follow_symlinks=False)
                    path = each.path[len(str(root)) + 1 :]
                    seen = entry(path, known.st_size, mode=known.st_mode & 0o7777)
                    for module in MODULES:
                        if module.wants(seen):
                            assert module.name not in paired, "a database with its log is not read here"
                            with open(each.path, "rb") as content:
                                yield path, module.look(seen, content)
