"""What is wrong with the content of files: secrets, malware, misconfiguration."""

from __future__ import annotations

from pathlib import Path

from sandbox.scanners.content.engine import Engine, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Module


def modules(rules: Path | None = None) -> tuple[Module, ...]:
    """All modules of this room, for one layer: they count what they have told. ``rules`` is a folder of an
    operator's own rules.

    This reads files, and so belongs before a process is confined; see :mod:`sandbox.scanners.content.engine`
    for what it may not do afterwards.

    Raises:
        RulesError: the operator's rules cannot be used.
    """
    compiled = compile_rules(rules)
    return (ContentSearch(Engine(compiled), compiled.digest),)


def __getattr__(name: str) -> tuple[Module, ...]:
    # Compiled when it is asked for: what imports a part of this room mostly needs none of it.
    if name == "MODULES":
        return modules()
    raise AttributeError(name)
