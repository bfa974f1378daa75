"""Which modules look at an image, and what the results of a layer are kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import import_module

from sandbox.scanners.facts import Module
from sandbox.scanners.lines import FORMAT

PACKAGES: tuple[str, ...] = ("sandbox.scanners.packages", "sandbox.scanners.content")
"""Each has a tuple ``MODULES``."""


def load_modules(packages: Sequence[str] = PACKAGES) -> tuple[Module, ...]:
    """The modules of these packages, in their order."""
    return tuple(module for name in packages for module in import_module(name).MODULES)


def version_line(modules: Sequence[Module]) -> str:
    """Names and versions, for a person."""
    return ", ".join(f"{module.name} {module.version}" for module in modules)


def fingerprint(modules: Sequence[Module]) -> str:
    """What is another where the same layer could give another result."""
    told = [FORMAT, *sorted((module.name, module.version) for module in modules)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
