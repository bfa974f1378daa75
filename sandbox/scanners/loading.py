"""Which modules look at an image, and what the results of a layer are kept under.

A worker compiles the rules of the content search once, and only asks its modules for names and versions. The
child that reads a layer loads what was compiled: the engine's objects belong to the thread that made them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import import_module

from sandbox.scanners.content.engine import Engine, Rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Alias, Module
from sandbox.scanners.lines import FORMAT

PACKAGES: tuple[str, ...] = ("sandbox.scanners.packages", "sandbox.scanners.content")
"""Each has a tuple ``MODULES``."""


def load_modules(packages: Sequence[str], rules: Rules | None) -> tuple[Module, ...]:
    """The modules of these packages, in their order, and the search by ``rules`` for one layer."""
    found: list[Module] = [module for name in packages for module in import_module(name).MODULES]
    if rules is not None:
        found.append(ContentSearch(Engine(rules), rules.digest))
    return tuple(found)


def named_modules(packages: Sequence[str], rules: Rules | None) -> tuple[Module, ...]:
    """As :func:`load_modules`, for who only asks for names and versions, and what they want."""
    return load_modules(packages, None if rules is None else Rules(b"", rules.digest))


def version_line(modules: Sequence[Module]) -> str:
    """Names and versions, for a person."""
    return ", ".join(f"{module.name} {module.version}" for module in modules)


def fingerprint(modules: Sequence[Module], aliases: Sequence[Alias] = ()) -> str:
    """What is another where the same layer could give another result."""
    told: list[object] = [FORMAT, *sorted((module.name, module.version) for module in modules)]
    told += [(one.path, one.name) for one in aliases]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
