"""Which files of an image lie behind symbolic links of it where modules look for them by name. Pure.

A layer is read without those around it, and a link may lead to anywhere, from any layer. So where links lead
is asked when all layers are put together; what lies there is read afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from sandbox.scanners.facts import NAMED, Alias, Entry, Module
from sandbox.scanners.names import Names

ALIASES_MAX = 100
PATHS_BYTES = 64 * 1024
"""Of all aliases together: the child that reads a layer is told them in one argument."""
PAIRED = "rpm-sqlite"
"""A database whose log lies beside what a link to it leads to, under a name that is not known here."""
PLACES = (
    ("var/lib/dpkg", "status"),
    ("var/lib/dpkg/status.d", "a"),
    ("var/lib/dpkg/info", "a.list"),
    ("lib/apk/db", "installed"),
    ("usr/lib/apk/db", "installed"),
    *(
        (folder, name)
        for folder in ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
        for name in ("rpmdb.sqlite", "Packages.db", "Packages")
    ),
    ("var/lib/rpmmanifest", "container-manifest-2"),
    ("etc", "os-release"),
    ("usr/lib", "os-release"),
)
"""Folders of what modules look for by name, each with a name in it."""


def aliases_of(
    names: Names, asked: Mapping[str, Sequence[str]], modules: Sequence[Module]
) -> Iterator[tuple[str, Alias, tuple[str, ...]]]:
    """What is behind links: the name of a file that a module looks for, where that or its folder really is,
    and the modules that look for it. ``asked`` are the places of links, with the modules that want them."""
    looking = [module for module in modules if module.name in NAMED]
    for folder, name in PLACES:
        end = names.followed(folder)
        if end is None or end == folder:
            continue
        there = f"{end}/{name}" if end else name
        missed = tuple(
            module.name
            for module in looking
            if is_wanted(module, f"{folder}/{name}") and not is_wanted(module, there)
        )
        if missed:
            yield f"{folder}/{name}", Alias(end, folder), missed
    for place, wanted in asked.items():
        end = names.followed(place)
        missed = tuple(
            module.name
            for module in looking
            if module.name in wanted
            and module.name != PAIRED
            and end is not None
            and is_wanted(module, place)
            and not is_wanted(module, end)
        )
        if missed and end is not None:
            yield place, Alias(end, place), missed


def is_wanted(module: Module, path: str) -> bool:
    """Whether a module looks at a file of that name."""
    return module.wants(Entry(path, "file", 4096, 0o644, 0, 0))


def by_all_names(names: Names, aliases: Sequence[Alias]) -> tuple[Alias, ...]:
    """Aliases as layers may have them: what lies behind a link may be in a layer under another name, that
    leads to the same place."""
    return tuple(
        dict.fromkeys(Alias(path.rstrip("/"), one.name) for one in aliases for path in names.names(one.path))
    )


def fit(aliases: Sequence[Alias]) -> bool:
    """Whether they are so few that layers can be read for them."""
    if len(aliases) > ALIASES_MAX:
        return False
    return len(json.dumps([(one.path, one.name) for one in aliases])) <= PATHS_BYTES
