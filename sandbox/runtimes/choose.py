"""Which runtime carries out the runs of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from sandbox.errors import SandboxError
from sandbox.runtimes.base import Runtime, RuntimeFailure, RuntimeInfo
from sandbox.runtimes.crun import CRUN
from sandbox.runtimes.look import why_not_here
from sandbox.runtimes.oci import SEARCH, Dialect, OciRuntime, inspect_program
from sandbox.runtimes.runc import RUNC
from sandbox.runtimes.runsc import RUNSC

_DIALECTS: Mapping[str, Dialect] = MappingProxyType({one.name: one for one in (CRUN, RUNC, RUNSC)})
RUNTIMES = tuple(_DIALECTS)
"""Names of those that there is a driver for."""


def find_runtime(state: Path, *, name: str = "auto") -> Runtime:
    """The runtime to carry out runs with: ``auto``, the strongest of those that are there and work here, or
    one by name. Programs are found on PATH, or where systems keep those for root.

    ``state`` is the worker's own folder for runtime state, absolute.

    Raises:
        SandboxError: ``isolation-missing``: it is not there, does not work, or there is no driver for it.
    """
    if name == "auto":
        return _strongest(state)
    if name not in _DIALECTS:
        raise SandboxError(
            "isolation-missing",
            f"there is no driver for the runtime {name[:40]!r}; use auto, {', '.join(RUNTIMES)}",
        )
    found = _find(_DIALECTS[name])
    if isinstance(found, str):
        raise SandboxError("isolation-missing", found)
    return open_runtime(found, state)


def open_runtime(info: RuntimeInfo, state: Path) -> Runtime:
    """The runtime that was found before, with the state folder ``state``."""
    return OciRuntime(info, _DIALECTS[info.name], state)


def _strongest(state: Path) -> Runtime:
    candidates = [(dialect, _find(dialect)) for dialect in _DIALECTS.values()]
    there = [(dialect, info) for dialect, info in candidates if isinstance(info, RuntimeInfo)]
    there.sort(key=lambda one: one[0].strength(one[1].version), reverse=True)
    passed_over = [(d.strength(None), f"{d.name}: {why}") for d, why in candidates if isinstance(why, str)]
    for dialect, info in there:
        strength = dialect.strength(info.version)
        # Where there is no other left, its own errors tell more than a look.
        why = None if info is there[-1][1] else why_not_here(open_runtime(info, state))
        if why is not None:
            passed_over.append((strength, f"{info}: does not work here: {why}"))
            continue
        rather = (text for rank, text in sorted(passed_over, reverse=True) if rank > strength)
        return open_runtime(replace(info, passed_over=tuple(rather)), state)
    said = "; ".join(text for _, text in sorted(passed_over, reverse=True))
    raise SandboxError("isolation-missing", f"there is no container runtime: {said}")


def _find(dialect: Dialect) -> RuntimeInfo | str:
    """What is known of it, or why there is nothing to know."""
    found = shutil.which(dialect.name) or shutil.which(dialect.name, path=SEARCH)
    if found is None:
        return f"{dialect.name} is not on PATH"
    try:
        return inspect_program(dialect, Path(found))
    except RuntimeFailure as failure:
        return failure.text
